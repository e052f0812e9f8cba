"""Answers of DNS that outlive the process."""

import asyncio
import stat
from pathlib import Path

import pytest

from router.network.known_names import FILE_NAME, read_answers, write_answers
from router.network.lookups import STALE, Resolver
from sip.locating import Located, Naptr, Question, Record, Srv, Where
from tests.support.dns_server import ZoneServer

ANSWERS: dict[Question, tuple[Record, ...]] = {
    Question("ers.example.com", "NAPTR"): (Naptr(10, 20, "s", "SIP+D2U", "_sip._udp.ers.example.com"),),
    Question("_sip._udp.ers.example.com", "SRV"): (
        Srv(1, 2, 5070, "a.example.com"),
        Srv(2, 2, 5070, "b.example.com"),
    ),
    Question("a.example.com", "A"): ("192.0.2.1", "192.0.2.2"),
    Question("a.example.com", "AAAA"): ("2001:db8::1",),
}


def test_what_is_written_is_read_and_nobody_elses_business(tmp_path: Path) -> None:
    write_answers(tmp_path, ANSWERS)
    assert read_answers(tmp_path) == ANSWERS
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"edge911 names": 2, "answers": []}',
        '{"edge911 names": 1, "answers": [["a", "SRV", [[1, 2]]]]}',
        '{"edge911 names": 1, "answers": [["a", "A", [7]]]}',
        '{"edge911 names": 1, "answers": 7}',
        "\udcff",
    ],
)
def test_what_is_not_ours_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    assert read_answers(tmp_path) == {}
    (tmp_path / FILE_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_answers(tmp_path) == {}


def test_a_start_without_dns_finds_what_was_known(tmp_path: Path) -> None:
    where = Where("ers.example.com")
    zone = "_sip._udp.ers.example.com. 60 IN SRV 1 1 5070 a.example.com.\na.example.com. 60 IN A 192.0.2.1"

    async def look_up(resolver: Resolver) -> Located:
        answer: asyncio.Future[Located] = asyncio.get_running_loop().create_future()
        resolver.ask(where, answer.set_result)
        return await answer

    async def test() -> None:
        with ZoneServer(zone) as dns:
            first = Resolver([dns.endpoint.pair])
            found = await look_up(first)
            assert first.changes
            write_answers(tmp_path, first.answers())
        second = Resolver([dns.endpoint.pair])
        second.preload(read_answers(tmp_path))
        assert second.known(where) == found, "at once, before anybody was asked"
        assert await look_up(second) == found
        assert second.reason(where) == STALE
        assert second.answers() == first.answers()
        third = Resolver()
        third.preload(ANSWERS)
        assert third.answers() == {}, "not kept for ever"
        for resolver in (first, second, third):
            resolver.close()

    asyncio.run(test())
