"""TLS in the call process: a certificate that cannot be used stops nothing else, and a new one needs no restart."""

import asyncio
import gc
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from router import app as app_module
from router.app import App, CannotStartError
from router.network.trust import verifying_context
from router.process.telemetry import DeferredLog
from tests.router.test_app import Site, run, until
from tests.support.call_world import CONFIG
from tests.support.certificates import Authority, Pair


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def logs() -> DeferredLog:
    return DeferredLog(logging.Formatter("%(message)s"), {}, None, redacts=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class TlsSite(Site):
    """A site that listens on UDP and TLS, at the same port number."""

    def __init__(self, folder: Path, pair: Pair | None, *, only_tls: bool = False) -> None:
        self.only_tls = only_tls
        if pair is not None:
            self.install(folder, pair)
        super().__init__(folder)

    @staticmethod
    def install(folder: Path, pair: Pair) -> None:
        shutil.copy(pair.certificate, folder / "edge.crt")
        shutil.copy(pair.key, folder / "edge.key")

    def write(self, **sections: Any) -> None:
        listen = [f"tls://127.0.0.1:{self.port}"]
        if self.only_tls:
            trunks = CONFIG["trunks"].items()
            sections["trunks"] = {
                name: {**keys, "target": f"{keys['target']};transport=tls"} for name, keys in trunks
            }
        else:
            listen.append(f"udp://127.0.0.1:{self.port}")
        super().write(listen=listen, tls={"certificate": "edge.crt", "private_key": "edge.key"}, **sections)

    async def common_name(self) -> str:
        """Of the certificate that a client is shown."""
        context = verifying_context(str(self.folder / "ca.pem"))
        context.check_hostname = False
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        certificate: Any = writer.get_extra_info("peercert")
        writer.transport.abort()
        return str(certificate["subject"][0][0][1])


def test_certificates_are_exchanged_by_sighup_and_when_their_files_change(
    tmp_path: Path, authority: Authority, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "HOUSEKEEPING_SECONDS", 0.005)
    first, second, third = (authority.issue(name) for name in ("first", "second", "third"))
    shutil.copy(authority.certificate, tmp_path / "ca.pem")
    site = TlsSite(tmp_path, first)

    async def test() -> None:
        app = site.app(logs)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.on_hangup)
        await app.start()
        assert await site.common_name() == "first"
        site.install(tmp_path, second)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: app.router.counts["reloads"])
        assert await site.common_name() == "second"
        site.install(tmp_path, third)
        while await site.common_name() != "third":
            await asyncio.sleep(0.01)
        # A bad one is refused loudly, and the good one goes on.
        (tmp_path / "edge.key").write_text("no key")
        await until(lambda: app.router.counts["certificates_refused"])
        assert await site.common_name() == "third"
        page = app.metrics.text().decode()
        assert 'edge911_certificate_expires_seconds{certificate="own"}' in page
        await app.drain()

    run(test())


def test_a_certificate_that_cannot_be_used_stops_no_other_listening_point(
    tmp_path: Path,
    authority: Authority,
    logs: DeferredLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(app_module, "HOUSEKEEPING_SECONDS", 0.005)
    shutil.copy(authority.certificate, tmp_path / "ca.pem")
    site = TlsSite(tmp_path, None)

    async def test() -> None:
        app = site.app(logs)
        await app.start()
        assert app.edge.udp
        assert not app.edge.streams.servers
        (said,) = [text for text in caplog.messages if text.startswith("not listening on tls://")]
        assert "edge.crt cannot be read: No such file or directory" in said
        assert "edge911 check" in said
        # As soon as there is one it is served.
        site.install(tmp_path, authority.issue("late"))
        await until(lambda: app.edge.streams.servers)
        assert await site.common_name() == "late"
        await app.drain()

    run(test())


def test_nothing_but_tls_and_no_certificate_is_nothing_to_listen_on(
    tmp_path: Path, authority: Authority, logs: DeferredLog
) -> None:
    site = TlsSite(tmp_path, None, only_tls=True)

    async def test() -> None:
        app = App(site.file, load_config(site.file), logs)
        with pytest.raises(CannotStartError, match="cannot be read"):
            await app.start()
        await app.drain()

    run(test())
