"""The call process from within: what starts when, what a fault leaves standing, and what a reload changes."""

import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.load import load_config
from e911.location import CivicAddress, Device
from e911.lost import Validated
from router import app as app_module
from router.app import App
from router.journal.segments import segments
from router.locations.device_feed import NOT_READ_YET
from router.locations.device_source import Source as DeviceSource
from router.locations.last_known_good import LastKnownGood
from router.network import dns_client, lookups
from router.network.trunks import Way
from router.notices.confirmations import Requests
from router.process import garbage
from router.process.signs_of_life import hold_signals
from router.process.state_directory import claim
from router.process.telemetry import DeferredLog
from router.store.devices import upsert_devices
from router.store.engine import create_store_engine, open_store, writing
from router.store.validated_addresses import keep_addresses
from sip.flow import Flow, ListeningPoint
from tests.support.call_world import CONFIG
from tests.support.router_process import EDGE911

PATIENCE = 30.0
FLOW = Flow(ListeningPoint("tcp", "127.0.0.1", 5060), "203.0.113.31", 5060)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
def logs() -> DeferredLog:
    """A log that nobody is made to write to."""
    return DeferredLog(logging.Formatter("%(message)s"), {}, None, redacts=False)


class Site:
    """A configuration of this test's own, on ports that are free."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.file = folder / "edge911.yaml"
        self.database = f"sqlite:///{folder}/edge911.db"
        self.write(**sections)

    def write(self, **sections: Any) -> None:
        base = {**CONFIG, "listen": [f"udp://127.0.0.1:{self.port}"], "state_directory": "state"}
        base["locations"] = {**base["locations"], "database": "sqlite:///edge911.db"}
        self.file.write_text(yaml.safe_dump({**base, **sections}))

    def fill(self, *names: str) -> None:
        engine = open_store(self.database)
        try:
            with writing(engine) as conn:
                upsert_devices(conn, [{"device": name} for name in names])
        finally:
            engine.dispose()

    def keep(self, *names: str) -> None:
        engine = create_store_engine(self.database)
        name = engine.url.render_as_string(hide_password=True)
        engine.dispose()
        LastKnownGood(self.folder / "state", name).replace([Device(device=name) for name in names])

    def app(self, logs: DeferredLog) -> App:
        return App(self.file, load_config(self.file), logs)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(PATIENCE):
            await test

    asyncio.run(within())


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def names(app: App) -> set[str]:
    return {device.device for device in app.devices}


def test_a_quick_database_has_given_its_devices_before_the_first_call(site: Site, logs: DeferredLog) -> None:
    site.fill("4001", "4002")
    site.keep("4001", "4009")

    async def test() -> None:
        app = site.app(logs)
        seen: set[str] = set()
        real_listen = app.edge.listen_udp
        app.edge.listen_udp = lambda *given: (seen.update(names(app)), real_listen(*given))[1]  # type: ignore[method-assign, func-returns-value]  # looks at the moment of listening
        await app.start()
        assert seen == {"4001", "4002"}
        assert app.database_health == "ok"
        await app.drain()

    run(test())


def test_what_the_lvf_said_of_a_site_reaches_calls_also_after_a_start_without_the_database(
    site: Site, logs: DeferredLog
) -> None:
    site.fill("4001")
    albany = CivicAddress(country="US", state="NY", city="Albany", street="Lake", house_number="1")
    engine = create_store_engine(site.database)

    async def kept(said: str) -> None:
        with writing(engine) as conn:
            keep_addresses(conn, {albany: said}, 1000.0)

    async def test() -> None:
        app = site.app(logs)
        await app.start()
        await kept("valid")
        await until(lambda: app.router.validated == {albany: Validated("valid", 1000.0)})
        await kept("invalid: HNO")
        await until(lambda: app.router.validated == {albany: Validated("invalid: HNO", 1000.0)})
        await app.drain()

    async def without_database() -> None:
        app = site.app(logs)
        await app.start()
        assert app.router.validated == {albany: Validated("invalid: HNO", 1000.0)}
        await app.drain()

    run(test())
    engine.dispose()
    Path(site.database.removeprefix("sqlite:///")).write_bytes(b"no database any more" * 1000)
    run(without_database())


def test_calls_are_served_while_the_database_says_nothing(
    site: Site, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Devices are the last known good ones until it answers, and health says so."""
    site.fill("4001", "4002")
    site.keep("4001", "4009")
    answers = threading.Event()
    real_poll = DeviceSource._poll

    def poll(source: DeviceSource) -> Any:
        assert answers.wait(PATIENCE)
        return real_poll(source)

    monkeypatch.setattr(DeviceSource, "_poll", poll)
    monkeypatch.setattr(app_module, "FIRST_LOOK_SECONDS", 0.05)

    async def test() -> None:
        app = site.app(logs)
        try:
            await app.start()
            assert app.edge.udp
            assert names(app) == {"4001", "4009"}
            assert app.database_health == f"{NOT_READ_YET}-using-last-known-good"
            assert "registered devices not from the database" in caplog.text
        finally:
            answers.set()
        await until(lambda: app.database_health == "ok")
        assert names(app) == {"4001", "4002"}
        await app.drain()

    run(test())


def test_the_collector_stays_off_whatever_the_feed_does(site: Site, logs: DeferredLog) -> None:
    site.fill("4001")

    async def test() -> None:
        app = site.app(logs)
        await app.start()
        for number in range(3):
            site.fill(*(f"5{number}{n:04}" for n in range(1500)))
            await until(lambda expected=1 + 1500 * (number + 1): len(app.devices) == expected)
            assert not gc.isenabled()
        await app.drain()
        assert not gc.isenabled()

    run(test())


def test_cycles_are_collected_although_it_is_never_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only the new ones: a full pass would hold up every call."""
    collected: list[int] = []
    monkeypatch.setattr(garbage.gc, "collect", collected.append)
    monkeypatch.setattr(garbage.gc, "get_count", lambda: (garbage.YOUNG_LIMIT, 9, 9))
    garbage.collect_young()
    assert not collected
    monkeypatch.setattr(garbage.gc, "get_count", lambda: (garbage.YOUNG_LIMIT + 1, 0, 0))
    garbage.collect_young()
    assert collected == [0]


def test_a_pass_over_new_objects_frees_their_cycles() -> None:
    gc.disable()
    gc.collect()

    class Knot:
        """Refers to itself."""

        def __init__(self) -> None:
            self.self = self

    knots = [weakref.ref(Knot()) for _ in range(garbage.YOUNG_LIMIT)]
    assert knots[0]() is not None
    garbage.collect_young()
    assert knots[0]() is None


def test_a_fault_in_housekeeping_stops_neither_it_nor_the_jobs_beside(
    site: Site, logs: DeferredLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "HOUSEKEEPING_SECONDS", 0.001)
    beside: list[int] = []

    def fault() -> None:
        raise RuntimeError("a fault")

    async def test() -> None:
        app = site.app(logs)
        app._jobs = ((1, "failing", fault), (1, "working", lambda: beside.append(1)))
        app._housekeeping(app.loop.time())
        await until(lambda: len(beside) >= 20)
        assert app.faults >= 20

    run(test())
    assert caplog.text.count("fault in edge911 itself, while failing") == 1


def test_a_fault_tells_nothing_of_the_message(
    site: Site, logs: DeferredLog, caplog: pytest.LogCaptureFixture
) -> None:
    message = b"INVITE sip:911@edge.example.com SIP/2.0\r\nFrom: <sip:jane.doe@pbx.example.com>\r\n\r\n"

    async def test() -> None:
        app = site.app(logs)
        try:
            int(message)
        except ValueError as error:
            app.on_fault(f"{type(error).__name__}: {error}", message)
        app.on_fault("KeyError: 'jane.doe'", b"\x00jane.doe\xff 1 2")
        assert app.faults == 2
        app.router.on_fault("deciding about a call")
        assert app.faults == 3, "one count of all faults: the metric that is watched"
        assert app.router.stack.drops["internal-error"] == 2

    run(test())
    first, second = (record.getMessage() for record in caplog.records if "the message: " in record.getMessage())
    assert f"INVITE, {len(message)} bytes, hash " in first
    assert "ValueError" in first
    assert "test_app.py" in first
    assert "no request" in second
    assert "jane" not in caplog.text


def test_a_reload_that_fails_keeps_everything_and_is_loud(
    site: Site, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        app = site.app(logs)
        loaded, setup = app.loaded, app.router.setup
        site.write(node="other")

        def fault(*_: object) -> None:
            raise RuntimeError("a fault of the rules")

        with monkeypatch.context() as patched:
            patched.setattr(app_module, "Rules", fault)
            await app.reloading.reload()
        assert (app.loaded, app.router.setup) == (loaded, setup)
        assert app.router.counts["reloads_refused"] == 1
        assert "the old one stays" in caplog.text
        site.file.write_text("node: [")
        await app.reloading.reload()
        assert (app.loaded, app.router.setup) == (loaded, setup)
        site.write(contacts={"desk": {"send": ["jsn://192.0.2.1/secret"]}})
        await app.reloading.reload()
        assert (app.loaded, app.router.setup) == (loaded, setup)
        assert app.router.counts["reloads_refused"] == 3
        alarms = Requests(app.loaded.state_directory).take()
        assert [(one["type"], one["name"], one["contacts"]) for one in alarms] == [
            ("alarm", "configuration-refused", None)
        ] * 3
        assert "fault in edge911" in alarms[0]["body"]
        assert f"{site.file}:1:" in alarms[1]["body"]
        assert "contacts.desk.send[0]" in alarms[2]["body"]
        assert "secret" not in alarms[2]["body"]
        assert "contacts.desk.send[0]" in caplog.text
        assert "secret" not in caplog.text
        site.write(node="other")
        await app.reloading.reload()
        assert app.loaded.config.node == app.router.node == "other"
        assert app.router.counts["reloads"] == 1

    run(test())


def test_a_reload_takes_new_token_keys_and_keeps_those_in_use_where_it_cannot(site: Site, logs: DeferredLog) -> None:
    async def test() -> None:
        app = site.app(logs)
        first = app.router.record_routing.keys
        file = site.folder / "state" / "token-keys"
        file.write_text(f"now {'ab' * 32}\nold {first.signing.hex()}\n")
        await app.reloading.reload()
        assert app.router.record_routing.keys.keys == (bytes.fromhex("ab" * 32), first.signing)
        file.write_text("torn")
        await app.reloading.reload()
        assert app.router.record_routing.keys.keys == (bytes.fromhex("ab" * 32), first.signing)
        assert app.router.counts["reloads"] == 2

    run(test())


def test_a_reload_makes_the_new_setup_in_a_thread_with_the_addresses_of_new_names(
    site: Site, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_client, "look_up", lambda host, _: ("203.0.113.77",) if host == "ers.example.com" else ())
    made_in: list[threading.Thread] = []
    real_rules = app_module.Rules

    def rules(*given: Any) -> Any:
        made_in.append(threading.current_thread())
        return real_rules(*given)

    async def test() -> None:
        app = site.app(logs)
        app.router.trunks.states["ers-b"].note(Way.TCP, FLOW, "refused", app.loop.time())
        monkeypatch.setattr(app_module, "Rules", rules)
        ers = {**CONFIG["trunks"]["ers-a"], "target": "sip:ers.example.com:5060"}
        site.write(trunks={**CONFIG["trunks"], "ers-a": ers})
        await app.reloading.reload()
        assert app.router.sources.is_trunk("203.0.113.77")
        assert not app.router.sources.is_trunk("203.0.113.31")
        assert app.router.trunks.states["ers-b"].failure(Way.TCP, FLOW, app.loop.time()) == "refused"
        assert made_in
        assert threading.main_thread() not in made_in

    run(test())


def test_another_order_of_the_same_addresses_changes_nothing_and_a_new_one_does(
    site: Site, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = ("203.0.113.71", "203.0.113.72")
    monkeypatch.setattr(dns_client, "look_up", lambda *_: answer)
    monkeypatch.setattr(lookups, "LEAST_TTL", 0.0)
    monkeypatch.setattr(dns_client, "SYSTEM_TTL", 0.0)
    site.write(trunks={**CONFIG["trunks"], "ers-a": {"target": "sip:ers.example.com:5060", "probe": "off"}})

    async def test() -> None:
        nonlocal answer
        app = site.app(logs)
        await app.start()
        setup = app.router.setup
        app.router.trunks.states["ers-a"].note(Way.TCP, FLOW, "refused", app.loop.time())
        assert app.router.sources.is_trunk("203.0.113.72")
        answer = ("203.0.113.72", "203.0.113.71")
        await app.trunk_names.resolve(app.loaded, 5.0)
        app.reloading.notice_addresses()
        assert not app.reloading.is_readdressing
        answer = ("203.0.113.72", "203.0.113.73")
        await app.trunk_names.resolve(app.loaded, 5.0)
        app.reloading.notice_addresses()
        await until(lambda: app.router.setup is not setup)
        assert app.router.sources.is_trunk("203.0.113.73")
        assert not app.router.sources.is_trunk("203.0.113.71")
        assert app.router.trunks.states["ers-a"].failure(Way.TCP, FLOW, app.loop.time()) == "refused"
        await app.drain()

    run(test())


def test_a_name_server_that_hangs_holds_up_no_start(
    site: Site, logs: DeferredLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(dns_client, "look_up", lambda *_: ("203.0.113.71",) if release.wait(PATIENCE) else ())
    monkeypatch.setattr(app_module, "START_RESOLVE_SECONDS", 0.05)
    site.write(trunks={**CONFIG["trunks"], "ers-a": {"target": "sip:ers.example.com:5060", "probe": "off"}})

    async def test() -> None:
        app = site.app(logs)
        try:
            await app.start()
            assert app.edge.udp
        finally:
            release.set()
        await app.drain()

    run(test())


@pytest.mark.parametrize("module", ["router.app", "router.notices"])
def test_what_a_process_writes_is_its_owners_alone(site: Site, module: str) -> None:
    """Journal, devices, key and notices say where people are, or let others pass for this router."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, runpy; os.umask(0o022); runpy.run_module('{module}', run_name='__main__')",
            "--config",
            str(site.file),
        ],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=hold_signals,  # as the supervisor starts it
    )
    try:
        status = Path(f"/proc/{process.pid}/status")
        deadline = time.monotonic() + PATIENCE
        expected = "journal" if module == "router.app" else "notices.json"
        while not (site.folder / "state" / expected).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "Umask:\t0077" in status.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    written = list((site.folder / "state").rglob("*"))
    assert written
    assert [path for path in [site.folder / "state", *written] if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("module", ["router.app", "router.notices"])
def test_a_process_told_to_end_while_it_starts_ends_well(site: Site, module: str) -> None:
    """SIGHUP, which would kill it too, comes first."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--config", str(site.file)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        preexec_fn=hold_signals,  # as the supervisor starts it
    )
    try:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, written = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert (b"stopped" if module == "router.app" else b"notices-ended") in written
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "command", [(sys.executable, "-m", "router.app", "--config"), (str(EDGE911), "run", "-c")], ids=["alone", "run"]
)
def test_a_second_router_on_the_same_state_directory_does_not_start_and_leaves_the_journal(
    site: Site, command: tuple[str, ...]
) -> None:
    """A newer segment would hide what the first one writes from those who tell people of 911 calls."""
    held = claim(site.folder / "state")
    assert held is not None
    try:
        done = subprocess.run([*command, str(site.file)], cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        os.close(held)
    assert done.returncode == 1
    assert "another edge911 serves calls with the state directory" in done.stderr.replace("\n", " ")
    assert not segments(site.folder / "state" / "journal")
    assert not (site.folder / "state" / "notices").exists()


def test_explain_makes_no_file(site: Site) -> None:
    done = subprocess.run(
        [str(EDGE911), "explain", "4102", "911", "--source", "10.1.3.7", "-c", str(site.file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hq" in done.stdout
    assert [path.name for path in site.folder.iterdir()] == ["edge911.yaml"]
