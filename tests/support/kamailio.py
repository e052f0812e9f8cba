"""Kamailio as any host of a test: a routing script and modules in, a running process out. Roles: kamailio_hosts."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from tests.support.certificates import Authority, Pair
from tests.support.ports import Endpoint, is_bound

_MODULES = "/usr/lib/x86_64-linux-gnu/kamailio/modules/"
LOADED = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog")
"""What every script may use."""
_HEAD = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
tcp_source_ipv4={address}
{listen}
mpath="{modules}"
{load}
"""
_TLS_HEAD = """enable_tls=yes
loadmodule "tls.so"
modparam("tls", "config", "{folder}/tls.cfg")
"""
_TLS = """method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
private_key = {key}
certificate = {certificate}
ca_list = {ca}
"""


class Kamailio:
    """A Kamailio; a context manager. `log` is what it said (xlog at L_ALERT is shown).

    Started in a network namespace where its `with` stands in one (tests.support.netns).
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        *,
        udp: Endpoint | None = None,
        tcp: Endpoint | None = None,
        tls: Endpoint | None = None,
        modules: Iterable[str] = (),
        authority: Authority | None = None,
        pair: Pair | None = None,
    ) -> None:
        """script: modparams and routes, as they stand in kamailio.cfg. modules: beside LOADED.

        tls: where it speaks TLS with the certificate of `pair`, and asks for one of `authority`.
        """
        assert shutil.which("kamailio"), "no kamailio on the PATH (package kamailio)"
        self.folder = folder
        self.points = [(name, at) for name, at in (("udp", udp), ("tcp", tcp), ("tls", tls)) if at is not None]
        head = _HEAD.format(
            address=self.points[-1][1].address,
            listen="\n".join(f"listen={name}:{at}" for name, at in self.points),
            modules=_MODULES,
            load="\n".join(f'loadmodule "{name}.so"' for name in (*LOADED, *modules)),
        )
        folder.mkdir(parents=True, exist_ok=True)
        if tls is not None:
            assert authority is not None
            assert pair is not None
            head += _TLS_HEAD.format(folder=folder)
            keys = _TLS.format(key=pair.key, certificate=pair.certificate, ca=authority.certificate)
            (folder / "tls.cfg").write_text(f"[server:default]\n{keys}[client:default]\n{keys}")
        self._config = folder / "kamailio.cfg"
        self._config.write_text(head + script)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return (self.folder / "log").read_text(errors="replace")

    def said(self, *words: str) -> list[str]:
        """The lines of the log that hold every one of these words."""
        return [line for line in self.log.splitlines() if all(word in line for word in words)]

    def wait_for(self, *words: str, timeout: float = 60) -> str:
        """The first such line, as soon as there is one."""
        deadline = time.monotonic() + timeout
        while not (found := self.said(*words)):
            assert time.monotonic() < deadline, f"no line with {words} from Kamailio:\n{self.log[-4000:]}"
            time.sleep(0.02)
        return found[0]

    def _listens(self) -> bool:
        return all(is_bound(at, "udp" if name == "udp" else "tcp") for name, at in self.points)

    def __enter__(self) -> "Kamailio":
        # Its control socket has a path that must be short.
        self._run = Path(tempfile.mkdtemp(prefix="edge911-kamailio-"))
        run = str(self._run)
        command = ["kamailio", "-DD", "-E", "-f", str(self._config), "-m", "32", "-M", "8"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-P", f"{run}/pid", "-Y", run, "-w", run],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + 60
            while not self._listens():  # what arrives before its children read waits in the socket
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        # Its children too: those of a parent that hangs while it ends would keep the addresses.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
        deadline = time.monotonic() + 10
        while any(is_bound(at, "udp" if name == "udp" else "tcp") for name, at in self.points):
            assert time.monotonic() < deadline, f"somebody still holds one of {self.points}"
            time.sleep(0.02)
        shutil.rmtree(self._run, ignore_errors=True)
