"""Leases in the call process beside the calls: restored at a start, kept on disk, whatever the disk says."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from e911.elin import Lease, LeaseKind, lease_data, released
from router.callback import lease_keeper
from router.callback.kept_leases import FILE, read_leases, write_leases
from router.callback.lease_keeper import LeaseKeeper, _News
from router.journal.event_lines import encode_event
from router.journal.writer import JournalWriter
from router.store.engine import open_store, writing
from router.store.leases import leases_in, store_leases
from tests.router.notice_events import intent
from tests.support.call_world import CLOCK, CallWorld

NUMBER = "+12125550191"


def lease(number: str = NUMBER) -> Lease:
    return Lease(number=number, caller="4102", call="c1", kind=LeaseKind.ELIN, since=CLOCK, until=CLOCK + 9000)


def keeper(world: CallWorld, folder: Path) -> LeaseKeeper:
    journal = JournalWriter(folder / "journal", "hq-1")
    return LeaseKeeper(world.router.callbacks, journal, f"sqlite:///{folder}/none.db", folder, "hq-1")


def test_what_was_kept_is_restored_before_calls_are_served(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    write_leases(tmp_path, [lease()], 1)
    asyncio.run(keeper(world, tmp_path).restore())
    assert world.router.callbacks.leases.find(NUMBER, CLOCK + 1) is not None


def test_a_slow_disk_delays_no_start_and_its_leases_are_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = CallWorld(tmp_path)
    go_on = threading.Event()

    def slowly(_: Path) -> list[Lease]:
        assert go_on.wait(60)
        return [lease()]

    monkeypatch.setattr(lease_keeper, "read_leases", slowly)
    monkeypatch.setattr(lease_keeper, "RESTORE_SECONDS", 0.01)
    leases = world.router.callbacks.leases

    async def test() -> None:
        await keeper(world, tmp_path).restore()
        assert not leases, "calls are served without them"
        go_on.set()
        async with asyncio.timeout(60):
            while not leases:
                await asyncio.sleep(0.005)

    asyncio.run(test())
    assert leases.find(NUMBER, CLOCK + 1) is not None


@pytest.mark.parametrize(
    "content", [b"", b"\0\0", b"{}\n", b'{"segment":1}\n{"number":1}\n', b'{"segment":1}\n5', b"[1]\n[2]\n"]
)
def test_a_damaged_snapshot_keeps_nobody_from_starting(tmp_path: Path, content: bytes) -> None:
    world = CallWorld(tmp_path)
    (tmp_path / FILE).write_bytes(content)
    asyncio.run(keeper(world, tmp_path).restore())
    assert not world.router.callbacks.leases


def test_what_changes_is_kept_and_nothing_is_written_twice(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    kept = keeper(world, tmp_path)

    async def keep() -> None:
        kept.keep()
        if kept._writing is not None:
            await kept._writing

    asyncio.run(keep())
    assert not (tmp_path / FILE).exists(), "there is nothing"
    world.router.callbacks.merge([lease(), lease("+12125550192")])
    asyncio.run(keep())
    assert [one.number for one in read_leases(tmp_path)] == [NUMBER, "+12125550192"]
    (tmp_path / FILE).unlink()
    asyncio.run(keep())
    assert not (tmp_path / FILE).exists(), "nothing has changed"
    world.router.callbacks.merge([lease("+12125550193")])
    kept.stop()
    assert len(read_leases(tmp_path)) == 3


def test_a_node_with_a_new_disk_has_its_own_leases_from_the_database(tmp_path: Path, store_url: str) -> None:
    """A container without its volume, a machine that was replaced: who dialled 911 before is called back all the
    same, and the number is lent to nobody else."""
    engine = open_store(store_url)
    with writing(engine) as conn:
        store_leases(conn, [lease_data(replace(lease(), node="hq-1"))])
    engine.dispose()
    world = CallWorld(tmp_path)
    journal = JournalWriter(tmp_path / "journal", "hq-1")
    kept = LeaseKeeper(world.router.callbacks, journal, store_url, tmp_path, "hq-1")

    async def test() -> None:
        await kept.restore()
        kept.start()
        async with asyncio.timeout(30):
            while world.router.callbacks.leases.find(NUMBER, CLOCK + 1) is None:
                await asyncio.sleep(0.02)
        kept.stop()

    asyncio.run(test())
    assert [one.number for one in read_leases(tmp_path)] == [NUMBER]


def test_many_leases_of_others_are_taken_while_calls_are_served(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    kept = keeper(world, tmp_path)
    leases = world.router.callbacks.leases
    many = [lease(f"+1212555{number:04d}") for number in range(1000)]

    async def test() -> None:
        kept._is_serving = True
        kept._take(many[:600])
        kept._take(many[600:])
        assert len(leases) <= lease_keeper.MERGED_AT_ONCE
        turns = 0
        while len(leases) < len(many) and turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert len(leases) == len(many)
        kept._take(many[:200])
        kept.stop()

    asyncio.run(test())
    assert len(read_leases(tmp_path)) == len(many)


def test_a_table_read_again_gives_only_what_is_new_in_it(tmp_path: Path) -> None:
    made = _News()
    first, second = lease(), lease("+12125550192")
    over = replace(lease("+12125550193"), is_test=True, since=1.0, until=2.0)
    rows = [lease_data(one) for one in (first, over)]
    assert made(rows) == [first], "a test call's that is over is nobody's business"
    assert made(rows) == []
    ended = released(first, CLOCK + 60)
    assert made([lease_data(ended), lease_data(second)]) == [ended, second]


@pytest.mark.parametrize("display_name", ["Zoé", '","lease":{"number":"1"}}', "}}"])
def test_a_lease_is_read_without_the_rest_of_its_line(display_name: str) -> None:
    caller = replace(intent().caller, display_name=display_name)
    given = replace(lease(), who='"lease":{', contacts=("desk",))
    line = encode_event(intent(caller=caller, lease=given)).rstrip(b"\n")
    whole = orjson.loads(line)["lease"]
    further_key = line[:-1] + b',"later":{"a":1}}'
    damaged = line[:-1]
    assert leases_in([line, further_key, damaged, b"", line]) == [whole] * 3
