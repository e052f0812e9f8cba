"""Small tables for the call process, on both databases: at once from this node's file, then as they change."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from e911.elin import Lease, LeaseKind, lease_data, lease_from
from router.locations.table_feed import Followed, Rows, TableFeed
from router.store.engine import open_store, reading, writing
from router.store.leases import all_leases, forget_leases, leases_for_node, release, store_leases

PATIENCE = 30.0
T = 1_900_000_000.0


def lease(number: str = "+12125550191", *, node: str = "hq-2", until: float = T + 100, **keys: Any) -> Lease:
    kind = LeaseKind.ELIN
    return Lease(number=number, caller="4102", call="c1", kind=kind, node=node, since=T, until=until, **keys)


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    opened = open_store(store_url)
    yield opened
    opened.dispose()


def put(engine: Engine, *leases: Lease) -> None:
    with writing(engine) as conn:
        store_leases(conn, [lease_data(one) for one in leases])


def names(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return [one.number for one in all_leases(conn)]


class Used:
    """Stands for the call process."""

    def __init__(self, url: str, directory: Path, *, make: Callable[[Rows], Any] | None = None) -> None:
        self.leases: list[Lease] = []
        self.times = 0
        followed = Followed(
            table="leases",
            read=lambda conn: leases_for_node(conn, "hq-1", T),
            make=make or (lambda rows: [lease_from(row) for row in rows]),
            use=self.take,
        )
        self.feed = TableFeed(url, [followed], directory=directory, interval=0.02)

    def take(self, leases: list[Lease]) -> None:
        self.leases = leases
        self.times += 1

    @property
    def numbers(self) -> list[str]:
        return sorted(one.number for one in self.leases)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_what_there_is_and_then_every_change(store_url: str, engine: Engine, tmp_path: Path) -> None:
    put(engine, lease(), lease("+12125550192", node="hq-1"))
    used = Used(store_url, tmp_path)

    async def test() -> None:
        used.feed.start()
        try:
            await used.until(lambda: used.numbers == ["+12125550191"])
            put(engine, lease("+12125550193"))
            await used.until(lambda: used.numbers == ["+12125550191", "+12125550193"])
            with writing(engine) as conn:
                release(conn, "+12125550192", T + 50)
            await used.until(lambda: "+12125550192" in used.numbers)
        finally:
            used.feed.stop()

    run(test())
    again = Used("sqlite:////nowhere/edge911.db", tmp_path)
    again.feed.load_kept()
    assert again.numbers == [], "another database's rows are not this one's"
    again = Used(store_url, tmp_path)
    again.feed.load_kept()
    assert set(again.numbers) == {"+12125550191", "+12125550192", "+12125550193"}


def test_a_damaged_file_keeps_nobody_from_starting(tmp_path: Path) -> None:
    used = Used("sqlite:////nowhere/edge911.db", tmp_path)
    header = b'{"edge911-leases":1,"database":"sqlite+pysqlite:////nowhere/edge911.db"}'
    for content in (b"", b"{", header + b'\n{"number":1}\n', header + b"\n{torn", b"\0"):
        (tmp_path / "leases.jsonl").write_bytes(content)
        used.feed.load_kept()
        assert used.leases == []


def test_rows_that_cannot_be_used_leave_what_was(store_url: str, engine: Engine, tmp_path: Path) -> None:
    put(engine, lease())
    is_good = [True]

    def make(rows: Rows) -> list[Lease]:
        if not is_good[0]:
            raise ValueError("no good")
        return [lease_from(row) for row in rows]

    used = Used(store_url, tmp_path, make=make)

    async def test() -> None:
        used.feed.start()
        try:
            await used.until(lambda: used.times == 1)
            is_good[0] = False
            put(engine, lease("+12125550192"))
            await used.until(lambda: bool(used.feed.problem))
            assert used.numbers == ["+12125550191"]
            is_good[0] = True
            await used.until(lambda: len(used.numbers) == 2)
            await used.until(lambda: not used.feed.problem)
        finally:
            used.feed.stop()

    run(test())


def test_a_stored_lease_gives_way_to_a_newer_one_only(engine: Engine) -> None:
    put(engine, lease(until=T + 100))
    put(engine, lease(until=T + 50))
    with writing(engine) as conn:
        assert all_leases(conn)[0].until == T + 100
        (ended,) = release(conn, "+12125550191", T + 60)
        assert ended.until == ended.released_at == T + 60
        assert release(conn, "+12125550191", T + 61) == []
    put(engine, lease(until=T + 100))
    with reading(engine) as conn:
        assert all_leases(conn, now=T + 61) == [], "the journal is read again after a restart"
    later = Lease(
        number="+12125550191", caller="4102", call="c2", kind=LeaseKind.ELIN, node="hq-2", since=T + 70, until=T + 170
    )
    put(engine, later)
    with writing(engine) as conn:
        assert all_leases(conn, now=T + 71) == [later]
        forget_leases(conn, T + 8 * 86_400)
    assert names(engine) == []


def test_a_lease_that_is_not_stored_yet_is_ended_too(engine: Engine) -> None:
    with writing(engine) as conn:
        (ended,) = release(conn, "+12125550191", T + 10, [lease()])
    assert ended.released_at == T + 10
    put(engine, lease())
    with reading(engine) as conn:
        assert all_leases(conn, now=T + 11) == []
