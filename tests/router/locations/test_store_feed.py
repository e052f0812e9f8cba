"""The device feed on real databases: what a running call process sees of changes, and of broken databases."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from e911.location import Device
from router.locations.device_feed import EMPTIED, HEALTHY, NOT_READ_YET, SILENT_AFTER, DeviceFeed
from router.locations.device_source import Source
from router.locations.last_known_good import LastKnownGood
from router.store.devices import Value, remove_devices, take_turn, trim_changes, upsert_devices
from router.store.engine import create_store_engine, open_store, writing

PATIENCE = 30.0
"""Seconds after which a test gives up; nothing is asserted about how fast the machine is."""


class Calls:
    """Stands for the call process: the table as callbacks make it, and all that was said."""

    def __init__(self, url: str, directory: Path | None = None) -> None:
        self.table: dict[str, Device] = {}
        self.replaced = 0
        self.largest = 0
        self.said: list[str] = []
        self.feed = DeviceFeed(url, self._replace, self._change, self.said.append, directory=directory, interval=0.02)

    def _replace(self, devices: list[Device]) -> None:
        self.replaced += 1
        self.table = {device.device: device for device in devices}

    def _change(self, changed: list[Device], removed: list[str]) -> None:
        self.largest = max(self.largest, len(changed), len(removed))
        self.table.update((device.device, device) for device in changed)
        for name in removed:
            del self.table[name]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.feed.start()
        try:
            yield
        finally:
            self.feed.stop()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    @property
    def names(self) -> dict[str, str]:
        return {device.device: device.name for device in self.table.values()}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def look_once(url: str, directory: Path | None = None) -> Calls:
    """What a call process would start with."""
    calls = Calls(url, directory)
    calls.feed.load_now()
    calls.feed.stop()
    return calls


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """An open, empty store, on both kinds of database."""
    opened = open_store(store_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An SQLite store with two devices."""
    url = f"sqlite:///{tmp_path}/edge911.db"
    fill(url, [{"device": "4001", "name": "Lobby"}, {"device": "4002", "name": "Desk"}])
    return url


def fill(url: str, rows: list[dict[str, Value]]) -> None:
    opened = open_store(url)
    try:
        put(opened, *rows)
    finally:
        opened.dispose()


def put(engine: Engine, *rows: dict[str, Value]) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, rows)


def test_everything_at_start_then_every_change(store_url: str, engine: Engine) -> None:
    put(engine, {"device": "4001", "name": "Lobby"}, {"device": "4002", "name": "Desk"})
    calls = Calls(store_url)
    calls.feed.load_now()
    assert calls.names == {"4001": "Lobby", "4002": "Desk"}
    assert calls.said == [HEALTHY]

    async def test() -> None:
        async with calls.running():
            put(engine, {"device": "4003", "name": "Lab"}, {"device": "4001", "name": "Front"})
            await calls.until(lambda: calls.names.get("4001") == "Front")
            assert calls.names == {"4001": "Front", "4002": "Desk", "4003": "Lab"}
            with writing(engine) as conn:
                remove_devices(conn, ["4002"])
            await calls.until(lambda: "4002" not in calls.table)
            assert calls.names == {"4001": "Front", "4003": "Lab"}

    run(test())
    assert calls.said == [HEALTHY]
    assert calls.replaced == 1


def test_a_change_is_seen_within_a_second_at_the_usual_interval(sqlite_url: str) -> None:
    seen = asyncio.Event()
    feed = DeviceFeed(sqlite_url, lambda _: None, lambda *_: seen.set(), lambda _: None)
    feed.load_now()
    assert feed._interval <= 0.5  # twice that, and a slow machine's share, make the second

    async def test() -> None:
        feed.start()
        try:
            fill(sqlite_url, [{"device": "4009"}])
            async with asyncio.timeout(PATIENCE):
                await seen.wait()
        finally:
            feed.stop()

    run(test())


@pytest.mark.long
def test_ten_thousand_changes_come_in_slices_with_turns_of_the_loop_between(store_url: str, engine: Engine) -> None:
    calls = Calls(store_url)
    calls.feed.load_now()
    sizes: list[int] = []

    async def test() -> None:
        async with calls.running():
            put(engine, *({"device": f"{n:05}"} for n in range(10_000)))
            while len(calls.table) < 10_000:
                sizes.append(len(calls.table))
                await asyncio.sleep(0)

    run(test())
    assert calls.largest <= 500
    assert len(set(sizes)) >= 20  # the loop came round while the table grew
    assert calls.said == [HEALTHY]


@pytest.mark.long
def test_a_change_made_while_many_come_in_does_not_wait_for_them(store_url: str, engine: Engine) -> None:
    put(engine, {"device": "4001", "name": "before"})
    calls = Calls(store_url)
    calls.feed.load_now()
    order: list[str] = []
    changed = calls.feed._on_change

    def note(devices: list[Device], removed: list[str]) -> None:
        order.extend(device.device for device in devices)
        changed(devices, removed)

    pauses = 0
    pause = calls.feed._source._pause

    def correct_one() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 20:
            put(engine, {"device": "4001", "name": "corrected"})
        pause()

    calls.feed._on_change = note
    calls.feed._source._pause = correct_one

    async def test() -> None:
        async with calls.running():
            put(engine, *({"device": f"5{number:05d}", "name": "imported"} for number in range(8_000)))
            await calls.until(lambda: len(order) >= 8_001)

    run(test())
    assert calls.names["4001"] == "corrected"
    assert len(calls.table) == 8_001
    assert order.index("4001") < 4_000


def test_a_change_made_while_the_kept_file_is_written_does_not_wait_for_it(
    store_url: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine, {"device": "4001", "name": "before"})
    calls = Calls(store_url, tmp_path / "kept")
    replace = LastKnownGood.replace
    came_meanwhile: list[bool] = []

    def slow(kept: LastKnownGood, devices: Iterable[Device], *, pause: Callable[[], None]) -> None:
        if not came_meanwhile:
            put(engine, {"device": "4001", "name": "corrected"}, {"device": "4002", "name": "new"})
            end = time.monotonic() + PATIENCE
            while calls.names.get("4001") != "corrected" and time.monotonic() < end:
                pause()
            came_meanwhile.append(calls.names.get("4001") == "corrected")
        replace(kept, devices, pause=pause)

    monkeypatch.setattr(LastKnownGood, "replace", slow)

    def is_kept() -> bool:
        return kept_devices(store_url, tmp_path / "kept") == {"4001": "corrected", "4002": "new"}

    async def test() -> None:
        async with calls.running():
            await calls.until(lambda: bool(came_meanwhile))
            await calls.until(is_kept)

    run(test())
    assert came_meanwhile == [True]


def test_a_reader_left_behind_by_trimming_loads_everything(store_url: str, engine: Engine) -> None:
    put(engine, {"device": "1"}, {"device": "2"})
    calls = Calls(store_url)
    calls.feed.load_now()
    with writing(engine) as conn:
        for n in range(10):
            upsert_devices(conn, [{"device": "3", "name": str(n)}])
        remove_devices(conn, ["1"])
        trim_changes(conn, keep=1)

    async def test() -> None:
        async with calls.running():
            await calls.until(lambda: calls.names == {"2": "", "3": "9"})

    run(test())
    assert calls.said == [HEALTHY]


def test_a_new_empty_database_is_healthy(store_url: str, engine: Engine, tmp_path: Path) -> None:
    calls = look_once(store_url, tmp_path / "kept")
    assert calls.table == {}
    assert calls.said == [HEALTHY]


def test_a_missing_file_is_said_and_not_made_and_found_later(tmp_path: Path) -> None:
    path = tmp_path / "edge911.db"
    calls = Calls(f"sqlite:///{path}")
    calls.feed.load_now()
    assert calls.said == ["database-missing"]
    assert calls.replaced == 1
    assert not path.exists()

    async def test() -> None:
        async with calls.running():
            fill(f"sqlite:///{path}", [{"device": "4001"}])
            await calls.until(lambda: "4001" in calls.table and calls.said[-1] == HEALTHY)

    run(test())


def test_a_corrupt_file_starts_empty_and_recovers_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "edge911.db"
    path.write_bytes(b"no database\n" * 1000)
    calls = Calls(f"sqlite:///{path}")
    calls.feed.load_now()
    assert calls.table == {}
    assert calls.said == ["database-corrupt"]

    async def test() -> None:
        async with calls.running():
            fill(f"sqlite:///{tmp_path}/other.db", [{"device": "4001", "name": "restored"}])
            os.replace(tmp_path / "other.db", path)
            await calls.until(lambda: calls.said[-1] == HEALTHY)
            assert calls.names == {"4001": "restored"}

    run(test())


def test_a_file_replaced_under_a_running_feed_is_noticed(sqlite_url: str, tmp_path: Path) -> None:
    calls = Calls(sqlite_url)
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            other = tmp_path / "other.db"
            fill(f"sqlite:///{other}", [{"device": "5001"}, {"device": "4002", "name": "Desk"}])
            for suffix in ("-wal", "-shm"):
                Path(f"{tmp_path}/edge911.db{suffix}").unlink(missing_ok=True)
            os.replace(other, tmp_path / "edge911.db")
            await calls.until(lambda: calls.names == {"5001": "", "4002": "Desk"})

    run(test())


def test_a_database_locked_by_another_program_keeps_the_table_and_recovers(sqlite_url: str) -> None:
    """An exclusive lock in the way only old programs take it: readers too are shut out."""
    path = sqlite_url.removeprefix("sqlite:///")
    calls = Calls(sqlite_url)
    calls.feed.load_now()

    def lock() -> sqlite3.Connection:
        other = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE, check_same_thread=False)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("UPDATE devices SET name = name")
        return other

    # Locked before the feed opens it anew, as in a WAL database nobody is kept from reading what is open.
    calls.feed._source.close()
    other = lock()

    async def test() -> None:
        async with calls.running():
            await calls.until(lambda: calls.said[-1] == "database-locked-using-last-known-good")
            assert calls.names == {"4001": "Lobby", "4002": "Desk"}
            other.execute("UPDATE devices SET name = 'Lab' WHERE device = '4001'")
            other.execute("INSERT INTO device_changes (device) VALUES ('4001')")
            other.close()
            await calls.until(lambda: calls.said[-1] == HEALTHY)
            assert calls.names == {"4001": "Lab", "4002": "Desk"}

    run(test())


def test_a_long_import_shuts_no_reader_out(store_url: str, engine: Engine) -> None:
    put(engine, {"device": "4001"})
    with writing(engine) as conn:
        take_turn(conn)
        upsert_devices(conn, [{"device": "4002"}])
        calls = look_once(store_url)
    assert calls.names == {"4001": ""}
    assert calls.said == [HEALTHY]


def test_a_table_locked_on_the_server_keeps_the_table_and_recovers(postgresql_database: str) -> None:
    fill(postgresql_database, [{"device": "4001"}])
    calls = Calls(postgresql_database)
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            with psycopg.connect(postgresql_database) as other:
                other.execute("LOCK TABLE device_changes IN ACCESS EXCLUSIVE MODE")
                await calls.until(lambda: calls.said[-1] == "database-locked-using-last-known-good")
            await calls.until(lambda: calls.said[-1] == HEALTHY)
            assert calls.names == {"4001": ""}

    run(test())


def test_a_server_that_drops_everyone_is_found_again(postgresql_server: str, postgresql_database: str) -> None:
    fill(postgresql_database, [{"device": "4001"}])
    calls = Calls(postgresql_database)
    calls.feed.load_now()

    async def test() -> None:
        with psycopg.connect(postgresql_server, autocommit=True) as admin:
            name = sql.Identifier(postgresql_database.partition("?")[0].rpartition("/")[2])
            async with calls.running():
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [name._obj[0]],
                )
                await calls.until(lambda: calls.said[-1].endswith("-using-last-known-good"))
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
                fill(postgresql_database, [{"device": "4002"}])
                await calls.until(lambda: calls.said[-1] == HEALTHY)
                assert calls.names == {"4001": "", "4002": ""}

    run(test())


def kept_devices(url: str, directory: Path) -> dict[str, str]:
    engine = create_store_engine(url)
    name = engine.url.render_as_string(hide_password=True)
    engine.dispose()
    return {device.device: device.name for device in LastKnownGood(directory, name).read()}


def test_the_last_known_good_table_is_used_when_the_database_is_lost(
    store_url: str, engine: Engine, tmp_path: Path
) -> None:
    directory = tmp_path / "state" / "devices"
    put(engine, {"device": "4001", "name": "Lobby"}, {"device": "4002", "name": "Desk"})
    calls = Calls(store_url, directory)
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            put(engine, {"device": "4003", "name": "Lab"})
            with writing(engine) as conn:
                remove_devices(conn, ["4002"])
            await calls.until(lambda: calls.names == {"4001": "Lobby", "4003": "Lab"})
            await calls.until(lambda: kept_devices(store_url, directory) == calls.names)

    run(test())
    before = dict(calls.table)
    broken = break_database(store_url, engine)

    after = look_once(store_url, directory)
    assert after.table == before
    assert after.said == [f"{broken}-using-last-known-good"]


def break_database(url: str, engine: Engine) -> str:
    """Make the database unreadable; gives the reason that is to be named."""
    if url.startswith("sqlite"):
        engine.dispose()
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent)
        return "database-missing"
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    return "database-newer"


def test_kept_devices_of_another_database_are_not_used(sqlite_url: str, tmp_path: Path) -> None:
    directory = tmp_path / "state"
    calls = Calls(sqlite_url, directory)
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            await calls.until(lambda: len(kept_devices(sqlite_url, directory)) == 2)

    run(test())
    other = look_once(f"sqlite:///{tmp_path}/another.db", directory)
    assert other.table == {}
    assert other.said == ["database-missing"]


def test_a_database_lost_and_made_anew_costs_no_device_until_it_holds_some_again(
    sqlite_url: str, tmp_path: Path
) -> None:
    directory = tmp_path / "state"
    calls = Calls(sqlite_url, directory)
    calls.feed.load_now()

    async def keep() -> None:
        async with calls.running():
            await calls.until(lambda: len(kept_devices(sqlite_url, directory)) == 2)

    run(keep())
    for path in tmp_path.glob("edge911.db*"):
        path.unlink()
    open_store(sqlite_url).dispose()
    after = Calls(sqlite_url, directory)
    after.feed.load_now()
    assert len(after.table) == 2
    assert after.said == [f"{EMPTIED}-using-last-known-good"]

    async def test() -> None:
        async with after.running():
            assert len(kept_devices(sqlite_url, directory)) == 2
            fill(sqlite_url, [{"device": "7001"}])
            await after.until(lambda: set(after.table) == {"7001"})
            await after.until(lambda: after.said[-1] == HEALTHY)
            await after.until(lambda: kept_devices(sqlite_url, directory) == {"7001": ""})

    run(test())


def test_a_table_emptied_on_purpose_leaves_nothing_behind(sqlite_url: str, tmp_path: Path) -> None:
    directory = tmp_path / "state"
    calls = Calls(sqlite_url, directory)
    calls.feed.load_now()
    engine = open_store(sqlite_url)

    async def test() -> None:
        async with calls.running():
            with writing(engine) as conn:
                remove_devices(conn, ["4001", "4002"])
            await calls.until(lambda: not calls.table)
            await calls.until(lambda: kept_devices(sqlite_url, directory) == {})

    run(test())
    engine.dispose()
    assert calls.said == [HEALTHY]


def test_a_directory_that_cannot_be_written_stops_nothing(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calls = Calls(sqlite_url, tmp_path / "file" / "state")
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            fill(sqlite_url, [{"device": "4003"}])
            await calls.until(lambda: "4003" in calls.table)

    run(test())
    assert calls.said == [HEALTHY]


def test_a_callback_that_fails_does_not_end_the_feed(sqlite_url: str) -> None:
    seen: list[str] = []

    def change(changed: list[Device], _removed: list[str]) -> None:
        seen.extend(device.device for device in changed)
        if "bad" in seen[-1]:
            raise RuntimeError("a fault of the callback")

    feed = DeviceFeed(sqlite_url, lambda _: None, change, lambda _: None, interval=0.02)
    feed.load_now()

    async def test() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        feed.start()
        try:
            for name in ("bad", "good"):
                fill(sqlite_url, [{"device": name}])
                async with asyncio.timeout(PATIENCE):
                    while name not in seen:
                        await asyncio.sleep(0.005)
        finally:
            feed.stop()
        assert len(faults) == 1

    run(test())


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff", b"[]\n", b'{"edge911-devices": 99}\n{"device": "1"}\n', b"null\nnull\n", b"{" * 10000],
)
def test_a_strange_kept_file_is_no_devices(tmp_path: Path, content: bytes) -> None:
    kept = LastKnownGood(tmp_path, "x")
    kept.path.write_bytes(content)
    assert kept.read() == []


def test_a_line_cut_short_costs_that_device_only(tmp_path: Path) -> None:
    kept = LastKnownGood(tmp_path, "x")
    kept.replace([Device(device="1", updated_at=1.5), Device(device="2")])
    kept.append([Device(device="3")], ["1"])
    kept.append([Device(device="4")], [])
    kept.path.write_bytes(kept.path.read_bytes()[:-5])
    assert LastKnownGood(tmp_path, "x").read() == [Device(device="2"), Device(device="3")]
    assert kept.path.stat().st_mode & 0o077 == 0


def test_the_kept_file_says_when_it_has_outgrown_its_content(tmp_path: Path) -> None:
    kept = LastKnownGood(tmp_path, "x")
    kept.replace([Device(device="1")])
    assert not kept.has_outgrown(1)
    for n in range(1100):
        kept.append([Device(device="1", name=str(n))], [])
    assert kept.has_outgrown(1)
    assert [device.name for device in kept.read()] == ["1099"]


def test_what_was_kept_is_there_at_once_and_the_database_comes_in_when_it_answers(
    sqlite_url: str, tmp_path: Path
) -> None:
    directory = tmp_path / "state"
    earlier = Calls(sqlite_url, directory)
    earlier.feed.load_now()

    async def keep() -> None:
        async with earlier.running():
            await earlier.until(lambda: len(kept_devices(sqlite_url, directory)) == 2)

    run(keep())
    fill(sqlite_url, [{"device": "4003"}])
    calls = Calls(sqlite_url, directory)
    calls.feed.load_kept()
    assert calls.names == {"4001": "Lobby", "4002": "Desk"}
    assert calls.said == [f"{NOT_READ_YET}-using-last-known-good"]

    async def test() -> None:
        async with calls.running():
            assert await calls.feed.first_look(PATIENCE)
            assert calls.names == {"4001": "Lobby", "4002": "Desk", "4003": ""}
            await calls.until(lambda: kept_devices(sqlite_url, directory) == calls.names)

    run(test())
    assert calls.said[1:] == [HEALTHY]
    assert calls.replaced == 1


def test_the_first_look_is_over_too_where_there_is_no_database(tmp_path: Path) -> None:
    calls = Calls(f"sqlite:///{tmp_path}/edge911.db", tmp_path / "state")
    calls.feed.load_kept()
    assert calls.said == [NOT_READ_YET]

    async def test() -> None:
        async with calls.running():
            assert await calls.feed.first_look(PATIENCE)
            assert calls.said[1:] == ["database-missing"]

    run(test())


def test_a_database_that_does_not_answer_is_waited_for_no_longer_than_asked(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    real_poll = Source._poll

    def poll(source: Source) -> Any:
        assert answers.wait(PATIENCE)
        return real_poll(source)

    monkeypatch.setattr(Source, "_poll", poll)
    calls = Calls(sqlite_url)
    calls.feed.load_kept()

    async def test() -> None:
        async with calls.running():
            try:
                assert not await calls.feed.first_look(0.01)
                assert calls.said == [NOT_READ_YET]
            finally:
                answers.set()
            await calls.until(lambda: calls.said[-1] == HEALTHY)

    run(test())


def test_a_database_that_hangs_is_said_to_be_silent_until_it_answers(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, is_asked = threading.Event(), threading.Event()
    answers.set()
    real_poll = Source._poll

    def poll(source: Source) -> Any:
        if not answers.is_set():
            is_asked.set()
        assert answers.wait(PATIENCE)
        return real_poll(source)

    monkeypatch.setattr(Source, "_poll", poll)
    calls = Calls(sqlite_url)
    calls.feed.load_kept()

    async def test() -> None:
        async with calls.running():
            await calls.until(lambda: calls.said[-1] == HEALTHY)
            calls.feed.watch(time.monotonic() + SILENT_AFTER)
            answers.clear()
            try:
                await calls.until(is_asked.is_set)
                calls.feed.watch(time.monotonic())
                assert calls.said[-1] == HEALTHY
                calls.feed.watch(time.monotonic() + SILENT_AFTER + 1)
                assert calls.said[-1] == "database-silent-using-last-known-good"
            finally:
                answers.set()
            await calls.until(lambda: calls.said[-1] == HEALTHY)
            assert len(calls.table) == 2

    run(test())


def test_a_kept_file_that_cannot_be_written_for_any_reason_does_not_end_the_feed(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(LastKnownGood, "replace", fault)
    calls = Calls(sqlite_url, tmp_path / "state")
    calls.feed.load_now()

    async def test() -> None:
        async with calls.running():
            fill(sqlite_url, [{"device": "4003"}])
            await calls.until(lambda: "4003" in calls.table)

    run(test())
    assert calls.said == [HEALTHY]


def test_a_kept_file_that_cannot_be_read_for_any_reason_keeps_no_call_from_being_served(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(_: LastKnownGood) -> list[Device]:
        raise TypeError("a fault")

    monkeypatch.setattr(LastKnownGood, "read", fault)
    calls = Calls(sqlite_url, tmp_path / "state")
    calls.feed.load_kept()
    assert calls.said == [NOT_READ_YET]
    assert look_once(sqlite_url, tmp_path / "state").said == [HEALTHY]


def plainly(url: str) -> Any:
    """A connection as another program has it; each statement is committed by itself."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return psycopg.connect(url, autocommit=True)


def test_changes_that_other_programs_make_with_plain_sql_reach_calls(store_url: str, engine: Engine) -> None:
    put(engine, *({"device": f"400{n}", "name": f"Phone {n}"} for n in range(6)))
    calls = Calls(store_url)
    calls.feed.load_now()
    columns = "(device, name, updated_at) VALUES"

    async def test(other: Any) -> None:
        async with calls.running():
            other.execute("UPDATE devices SET name = 'Lobby' WHERE device = '4001'")
            await calls.until(lambda: calls.names["4001"] == "Lobby")
            other.execute(f"INSERT INTO devices {columns} ('4007', 'New', 0)")
            await calls.until(lambda: calls.names.get("4007") == "New")
            other.execute(
                f"INSERT INTO devices {columns} ('4007', 'Newer', 0), ('4008', 'Newest', 0) "
                "ON CONFLICT (device) DO UPDATE SET name = excluded.name"
            )
            await calls.until(lambda: (calls.names.get("4007"), calls.names.get("4008")) == ("Newer", "Newest"))
            other.execute("UPDATE devices SET device = '4009' WHERE device = '4002'")
            await calls.until(lambda: "4009" in calls.names and "4002" not in calls.names)
            other.execute("DELETE FROM devices WHERE device >= '4003'")
            await calls.until(lambda: set(calls.names) == {"4000", "4001"})
            other.execute("TRUNCATE devices" if store_url.startswith("postgresql") else "DELETE FROM devices")
            await calls.until(lambda: not calls.names)

    with contextlib.closing(plainly(store_url)) as other:
        run(test(other))
    assert calls.said == [HEALTHY]
    assert calls.replaced == 1


@pytest.mark.parametrize(
    "given",
    [
        "latitude = 'NaN', longitude = 0",
        "latitude = 999, longitude = 0",
        "latitude = 0, longitude = 0",
        "expires_at = 'Infinity', confirmed_at = '-Infinity'",
        "expires_at = 1e300",
        "kind = 'toaster'",
    ],
)
def test_a_row_with_values_that_are_none_keeps_no_other_change_from_calls(
    store_url: str, engine: Engine, given: str
) -> None:
    put(engine, *({"device": f"400{n}", "room": "7", "latitude": 45.5, "longitude": -73.5} for n in range(3)))
    calls = Calls(store_url)
    calls.feed.load_now()

    async def test(other: Any) -> None:
        async with calls.running():
            other.execute(f"UPDATE devices SET {given}, name = 'odd' WHERE device = '4001'")
            other.execute("UPDATE devices SET name = 'Lobby' WHERE device = '4002'")
            await calls.until(lambda: calls.names["4002"] == "Lobby" and calls.names["4001"] == "odd")

    with contextlib.closing(plainly(store_url)) as other:
        run(test(other))
    assert calls.said == [HEALTHY]
    odd = calls.table["4001"]
    assert odd.civic.room == "7"
    assert 0 <= odd.expires_at < 1e12
    assert "latitude" not in given or odd.point is None
    assert look_once(store_url).table["4001"] == odd


@pytest.mark.parametrize(
    "given",
    [
        "name = CAST(x'52656EE965' AS TEXT)",
        "name = x'52656EE965'",
        "name = 'R', latitude = 'north', longitude = 'west'",
        "name = 'R', confirmed_at = 'yesterday', updated_at = 'now'",
        "name = 'R', room = x'37FF'",
    ],
)
def test_text_that_is_none_keeps_no_other_change_from_calls(sqlite_url: str, given: str) -> None:
    """SQLite takes anything in any column: a terminal in Latin-1 is enough."""
    calls = Calls(sqlite_url)
    calls.feed.load_now()

    async def test(other: Any) -> None:
        async with calls.running():
            other.execute(f"UPDATE devices SET {given} WHERE device = '4001'")
            other.execute("UPDATE devices SET name = 'Reception' WHERE device = '4002'")
            await calls.until(lambda: calls.names["4002"] == "Reception" and calls.names["4001"].startswith("R"))

    with contextlib.closing(plainly(sqlite_url)) as other:
        run(test(other))
    assert calls.said == [HEALTHY]
    again = look_once(sqlite_url)
    assert again.table == calls.table
    assert isinstance(again.table["4001"].confirmed_at, float)


def test_replacing_a_row_reaches_calls(sqlite_url: str) -> None:
    """SQLite's REPLACE deletes without a delete trigger."""
    calls = Calls(sqlite_url)
    calls.feed.load_now()

    async def test(other: Any) -> None:
        async with calls.running():
            other.execute("INSERT OR REPLACE INTO devices (device, name, updated_at) VALUES ('4001', 'Other', 0)")
            await calls.until(lambda: calls.names["4001"] == "Other")

    with contextlib.closing(plainly(sqlite_url)) as other:
        run(test(other))


def test_a_transaction_that_commits_later_is_not_missed(postgresql_database: str) -> None:
    """The one that began first commits last: its change must not hide behind a higher number."""
    fill(postgresql_database, [{"device": "4001"}, {"device": "4002"}])
    calls = Calls(postgresql_database)
    calls.feed.load_now()
    waiting = threading.Event()

    def second() -> None:
        with contextlib.closing(plainly(postgresql_database)) as other:
            waiting.set()
            other.execute("UPDATE devices SET name = 'second' WHERE device = '4002'")

    async def test() -> None:
        async with calls.running():
            with psycopg.connect(postgresql_database) as first:
                first.execute("UPDATE devices SET name = 'first' WHERE device = '4001'")
                thread = threading.Thread(target=second)
                thread.start()
                assert waiting.wait(PATIENCE)
                await asyncio.sleep(0.2)  # time for the second to commit, if it could
            await calls.until(lambda: (calls.names["4001"], calls.names["4002"]) == ("first", "second"))
            thread.join()

    run(test())


def test_a_program_needs_no_right_but_that_on_the_devices(postgresql_database: str) -> None:
    fill(postgresql_database, [{"device": "4001", "name": "Lobby"}])
    role = f"sync_{os.getpid()}"
    with contextlib.closing(plainly(postgresql_database)) as owner:
        owner.execute(f"CREATE ROLE {role}")
        try:
            owner.execute(f"GRANT SELECT, UPDATE ON devices TO {role}")
            owner.execute(f"SET ROLE {role}")
            owner.execute("UPDATE devices SET name = 'Front'")
            owner.execute("RESET ROLE")
        finally:
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")
    assert look_once(postgresql_database).names == {"4001": "Front"}


def test_the_log_of_changes_does_not_grow_without_end(store_url: str, engine: Engine) -> None:
    put(engine, {"device": "4001"})
    with contextlib.closing(plainly(store_url)) as other:
        if store_url.startswith("sqlite"):
            other.execute("UPDATE sqlite_sequence SET seq = 300000 WHERE name = 'device_changes'")
        else:
            other.execute("ALTER TABLE device_changes ALTER COLUMN revision RESTART WITH 300000")
        other.execute("UPDATE devices SET name = 'Lobby'")
        assert other.execute("SELECT count(*) FROM device_changes").fetchone()[0] == 1
