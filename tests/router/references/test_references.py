"""Location references: handed over before the INVITE, answered over HTTP, whatever else is down."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from config.load import load_config
from e911.record import RouteEvent
from router.references import spool as reference_spool
from router.references.answers import LARGEST_REQUEST, MISSES_A_MINUTE, ReferenceApp
from router.references.spool import ALIVE, LOCATION, ReferenceSpool, Referred, key_of, reference_of
from router.references.table import ReferenceTable, SharedReferences
from router.store.engine import open_store, reading, writing
from router.store.references import find_reference, keep_references
from tests.support.call_world import CONFIG, KEY, CallWorld, invite, one, response

DOCUMENT = b'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:a@b"/>'
URL = "https://e911.example.com:8443/held"
SERVER = {"listen": "http://127.0.0.1:8443", "url": URL}
LOCATIONS = {"sources": ["registered", "network", "site"], "reference_server": SERVER}
HELD = {"content-type": "application/held+xml"}


def world_of(folder: Path, locations: Mapping[str, Any] = LOCATIONS, *, answered: bool = True) -> CallWorld:
    (folder / "profiles").mkdir()
    (folder / "profiles" / "by-reference.yaml").write_text("location: reference\n")
    routes = [{**route, "profile": "by-reference"} for route in CONFIG["emergency"]["routes"]]
    world = CallWorld(folder, emergency={**CONFIG["emergency"], "routes": routes}, locations=locations)
    state = folder / "state"
    state.mkdir()
    if answered:
        (state / ALIVE).touch()
    world.router.references.use(world.router.rules.config.locations.reference_server, state, KEY)
    return world


def reasons(world: CallWorld) -> list[str]:
    return [event.reason for event in world.events(RouteEvent) if event.outcome == "started"]


def test_the_invite_refers_and_the_document_is_there_before_it(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.router.references.look(time.time())
    raw = invite(number=1)
    sent = one(world.receive(raw), "INVITE").message
    value = sent.get("geolocation")
    assert value.startswith(f"<{URL}/")
    reference = value.removeprefix(f"<{URL}/").removesuffix(">")
    assert sent.body == raw.split(b"\r\n\r\n", 1)[1], "the body is the caller's own"
    assert sent.get("content-type") == "application/sdp"
    assert sent.get("geolocation-routing") == "yes"
    found = ReferenceTable(tmp_path / "state", lambda: world.router.clock()).find(key_of(reference))
    assert found is not None
    assert "<ca:ROOM>312</ca:ROOM>" in found.documents[LOCATION]
    assert reference not in (tmp_path / "state" / "references").glob("*.jsonl").__next__().read_text()
    assert reasons(world) == [""]
    again = one(world.receive(response(sent, 424), ("203.0.113.31", 5060)), "INVITE").message
    assert again.all("geolocation") == [], "refused: once more without"


def test_where_references_are_not_answered_the_location_goes_by_value(tmp_path: Path) -> None:
    world = world_of(tmp_path, answered=False)
    world.router.references.look(time.time())
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert sent.get("geolocation").startswith("<cid:")
    assert reasons(world) == ["reference-server-down"]


def test_where_references_were_answered_a_minute_ago_the_location_goes_by_value(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.router.references.look(time.time() + 60)
    one(world.receive(invite(number=2)), "INVITE")
    assert reasons(world) == ["reference-server-down"]


def test_a_call_writes_and_does_nothing_else_with_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a file is full and the next is begun; and all is there after kill -9, which closes nothing."""
    monkeypatch.setattr(reference_spool, "_SEGMENT_BYTES", 2000)
    spool = ReferenceSpool(tmp_path, KEY)
    table = ReferenceTable(tmp_path, lambda: 1000.0)
    told: list[str] = []

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            if is_call and threading.current_thread() is threading.main_thread():
                told.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    for name in ("open", "close", "mkdir", "listdir", "scandir", "stat", "fstat", "unlink", "rename", "replace"):
        watch(os, name)
    calls, deadline = 0, time.monotonic() + 30
    while True:
        is_call = True
        for number in range(calls, calls + 10):
            assert spool.hand_over(f"c{number}", {LOCATION: DOCUMENT}, 2000.0)
        is_call = False
        calls += 10
        assert all(table.find(key_of(spool.reference_of(f"c{number}"))) for number in range(calls))
        files = [path for path in (tmp_path / "references").iterdir() if path.stat().st_size]
        if len(files) >= 6:
            break
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert told == []
    again = ReferenceTable(tmp_path, lambda: 1000.0)
    assert all(again.find(key_of(spool.reference_of(f"c{number}"))) for number in range(calls))
    spool.close()


def test_a_folder_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    spool = ReferenceSpool(tmp_path, KEY)
    table = ReferenceTable(tmp_path, lambda: 1000.0)
    shutil.rmtree(tmp_path / "references")
    deadline = time.monotonic() + 30
    while not (spool.hand_over("c1", {LOCATION: DOCUMENT}, 2000.0) and table.find(key_of(spool.reference_of("c1")))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    spool.close()


def test_without_a_server_the_location_goes_by_value(tmp_path: Path) -> None:
    world = world_of(tmp_path, CONFIG["locations"])
    assert one(world.receive(invite(number=1)), "INVITE").message.get("geolocation").startswith("<cid:")
    assert reasons(world) == ["reference-server-not-configured"]


def test_where_it_cannot_be_handed_over_the_location_goes_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(tmp_path)
    world.router.references.look(time.time())
    monkeypatch.setattr(ReferenceSpool, "hand_over", lambda *_: False)
    assert one(world.receive(invite(number=1)), "INVITE").message.get("geolocation").startswith("<cid:")
    assert reasons(world) == ["reference-not-kept"]


def test_a_reference_is_derived_and_says_nothing() -> None:
    found = {reference_of(KEY, f"call{number}") for number in range(100)}
    assert len(found) == 100
    assert {len(one) for one in found} == {24}
    assert reference_of(KEY, "call1") == reference_of(KEY, "call1") != reference_of(b"x" * 32, "call1")


# ---- over HTTP ----


class Served:
    """The application, its clock and what it knows."""

    def __init__(self, folder: Path, shared: SharedReferences | None = None) -> None:
        self.now = 1000.0
        self.spool = ReferenceSpool(folder, KEY)
        self.table = ReferenceTable(folder, lambda: self.now)
        self.app = ReferenceApp("/held", self.table, shared, lambda: self.now)
        self.spool.hand_over("c1", {LOCATION: DOCUMENT, "Comment": b"<x/>"}, 2000.0)
        self.path = f"/held/{self.spool.reference_of('c1')}"

    def ask(self, method: str = "GET", path: str = "", **options: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=("198.51.100.7", 40000))
            async with httpx.AsyncClient(transport=transport, base_url="https://e911.example.com") as client:
                return await client.request(method, path or self.path, **options)

        return asyncio.run(go())


def test_get_and_post_give_the_location(tmp_path: Path) -> None:
    served = Served(tmp_path)
    got = served.ask()
    assert (got.status_code, got.headers["content-type"]) == (200, "application/held+xml")
    assert b"locationResponse" in got.content
    assert DOCUMENT in got.content
    assert got.headers["cache-control"] == "no-store"
    bare = served.ask(headers={"accept": "application/pidf+xml"})
    assert (bare.headers["content-type"], bare.content) == ("application/pidf+xml", DOCUMENT)
    request = b'<locationRequest xmlns="urn:ietf:params:xml:ns:geopriv:held" responseTime="emergencyDispatch"/>'
    posted = served.ask("POST", content=request, headers=HELD)
    assert (posted.status_code, posted.content) == (200, got.content)
    assert served.ask("HEAD").content == b""
    block = served.ask(path=f"{served.path}/Comment")
    assert (block.headers["content-type"], block.content) == ("application/EmergencyCallData.Comment+xml", b"<x/>")


WRONG_PATHS = (
    *("/", "/held/", "/held/AAAAAAAAAAAAAAAAAAAAAAAA", "/held/%00"),
    *("{}/", "{}/ProviderInfo", "{}x", "/other{}", "{}/../x"),
)


@pytest.mark.parametrize("path", WRONG_PATHS)
def test_anything_else_is_not_there(tmp_path: Path, path: str) -> None:
    served = Served(tmp_path)
    answer = served.ask(path=path.format(served.path))
    assert answer.status_code == 404
    assert b'code="locationUnknown"' in answer.content
    assert b"c1" not in answer.content


def test_an_expired_reference_is_gone_and_so_are_its_files(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert served.ask().status_code == 200
    served.now = 2000.5
    assert served.ask().status_code == 404
    served.table.forget_expired()
    assert len(served.table) == 0


def test_after_a_restart_the_same_reference_is_answered(tmp_path: Path) -> None:
    Served(tmp_path)
    again = Served.__new__(Served)
    again.now = 1000.0
    again.spool = ReferenceSpool(tmp_path, KEY)
    again.table = ReferenceTable(tmp_path, lambda: again.now)
    again.app = ReferenceApp("/held", again.table, None, lambda: again.now)
    again.path = f"/held/{again.spool.reference_of('c1')}"
    assert again.ask().status_code == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"method": "PUT"}, 405),
        ({"method": "POST", "content": b"<x/>"}, 415),
        ({"method": "POST", "content": b"<x" + b" " * LARGEST_REQUEST, "headers": HELD}, 413),
    ],
)
def test_what_no_dereference_looks_like(tmp_path: Path, options: dict[str, Any], status: int) -> None:
    assert Served(tmp_path).ask(**options).status_code == status


def test_errors_of_held_come_in_a_200(tmp_path: Path) -> None:
    answer = Served(tmp_path).ask("POST", content=b"<broken", headers=HELD)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/held+xml")
    assert b'code="xmlError"' in answer.content


def test_who_guesses_is_slowed_down(tmp_path: Path) -> None:
    served = Served(tmp_path)
    for number in range(MISSES_A_MINUTE):
        assert served.ask(path=f"/held/{number:024d}").status_code == 404
    assert served.ask(path=f"/held/{'B' * 24}").status_code == 429
    assert served.ask().status_code == 200, "who knows one is answered, whoever guesses from there"
    served.now += 61
    assert served.ask(path=f"/held/{'B' * 24}").status_code == 404


def test_old_files_are_deleted_and_those_that_still_count_are_not(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.spool.close()
    for number in range(2, 6):  # as many restarts
        spool = ReferenceSpool(tmp_path, KEY)
        spool.hand_over(f"c{number}", {LOCATION: DOCUMENT}, 90_000.0)
        spool.close()
    served.table.read()
    paths = sorted((tmp_path / "references").glob("*.jsonl"))
    for path in paths:
        os.utime(path, (1000.0, 1000.0))
    served.table.forget_expired()
    assert paths[0].exists(), "within the longest lifetime"
    served.now = 1000.0 + 86_401
    served.table.forget_expired()
    assert [path.exists() for path in paths] == [False] * (len(paths) - 4) + [True] * 4, "may be written to"
    assert served.ask(path=f"/held/{served.spool.reference_of('c5')}").status_code == 200


def test_another_node_answers_from_the_database(tmp_path: Path, store_url: str) -> None:
    """On SQLite and PostgreSQL: what one node handed over, another one answers."""
    first, other = tmp_path / "one", tmp_path / "two"
    shared = SharedReferences(store_url, lambda: 1000.0)
    shared.start()
    served = Served(first)
    shared.keep(served.table.read())
    deadline = time.monotonic() + 20
    engine = open_store(store_url)
    while time.monotonic() < deadline:
        with reading(engine) as conn:
            if find_reference(conn, key_of(served.spool.reference_of("c1"))) is not None:
                break
        time.sleep(0.02)
    engine.dispose()
    there = Served.__new__(Served)
    there.now = 1000.0
    there.spool = ReferenceSpool(other, KEY)
    there.table = ReferenceTable(other, lambda: there.now)
    there.app = ReferenceApp("/held", there.table, shared, lambda: there.now)
    there.path = served.path
    assert there.ask().content == served.ask().content
    shared.stop()


def test_a_reference_that_another_node_is_about_to_write_down_is_waited_for(
    tmp_path: Path, postgresql_database: str
) -> None:
    """A provider that routes by the location fetches it at once, by whichever node the shared URL leads to."""
    first, other = tmp_path / "one", tmp_path / "two"
    shared = SharedReferences(postgresql_database, lambda: 1000.0)
    shared.start()
    served = Served(first)
    new = served.table.read()
    there = Served.__new__(Served)
    there.now = 1000.0
    there.spool = ReferenceSpool(other, KEY)
    there.table = ReferenceTable(other, lambda: there.now)
    there.app = ReferenceApp("/held", there.table, shared, lambda: there.now)
    there.path = served.path
    asks = shared._find

    def ask_and_be_told_late(key: str) -> Referred | None:
        found = asks(key)
        if found is None:  # only now the node that has the call writes it down
            with writing(shared._open()) as conn:
                keep_references(conn, new)
        return found

    shared._find = ask_and_be_told_late  # type: ignore[method-assign]
    assert there.ask().content == served.ask().content
    assert there.ask(path="/held/AAAAAAAAAAAAAAAAAAAAAAAA").status_code == 404
    shared.stop()


def test_without_the_database_this_nodes_references_are_answered(tmp_path: Path) -> None:
    shared = SharedReferences("postgresql://nobody@127.0.0.1:1/none", lambda: 1000.0)
    shared.start()
    served = Served(tmp_path, shared)
    shared.keep(served.table.read())
    assert served.ask().status_code == 200
    assert served.ask(path="/held/AAAAAAAAAAAAAAAAAAAAAAAA").status_code == 404
    shared.stop()


def test_the_path_of_the_url(tmp_path: Path) -> None:
    server = world_of(tmp_path).router.rules.config.locations.reference_server
    assert server is not None
    assert server.path == "/held"


def test_the_section_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "edge911.yaml"
    for wrong, words in (
        ({"listen": "https://127.0.0.1:1"}, "needs a certificate"),
        ({"url": "http://e911.example.com"}, "url"),
        ({"certificate": "a.pem"}, "private_key is missing"),
        ({"client_ca": "a.pem"}, "write https:// there"),
        ({"lifetime": "1s"}, "lifetime"),
    ):
        section = {**SERVER, **wrong}
        path.write_text(yaml.safe_dump({**CONFIG, "locations": {"reference_server": section}}))
        with pytest.raises(Exception, match=words):
            load_config(path)
