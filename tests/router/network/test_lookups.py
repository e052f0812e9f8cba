"""Names: kept for their time, asked for again before it ends, used on while DNS says nothing."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest

from router.network import lookups
from router.network.dns_client import Answer, LookupFailedError
from router.network.lookups import GONE, STALE, Resolver
from sip.locating import NOWHERE, Located, Question, Record, Srv, Where, in_order

NAME = Where("ers.example.com", None, "udp")
HOST = Where("ers.example.com", 5060, "udp")


class Dns:
    """What DNS says; `now` is the clock. Kinds in `failing` are not answered, those in `hanging` not in time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.zone: dict[tuple[str, str], tuple[Record, ...]] = {}
        self.ttl = 100.0
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self.system: dict[str, str] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.closed = False

    async def ask(self, question: Question) -> Answer:
        self.asked[question] += 1
        if question.kind in self.hanging:
            await asyncio.sleep(60)
        if question.kind in self.failing:
            raise LookupFailedError("no answer in time")
        return Answer(self.zone.get((question.name, question.kind), ()), self.ttl)

    async def ask_system(self, question: Question) -> Answer:
        address = self.system.get(question.name)
        return Answer((address,) if address and question.kind == "A" else (), 60.0)

    def close(self) -> None:
        self.closed = True

    def resolver(self, *, servers: bool = True) -> Resolver:
        return Resolver([("192.0.2.53", 53)] if servers else [], clock=lambda: self.now, asker=self)


@pytest.fixture
def dns() -> Dns:
    found = Dns()
    found.zone = {
        ("_sip._udp.ers.example.com", "SRV"): (Srv(1, 0, 5070, "a.example.com"), Srv(2, 0, 5070, "b.example.com")),
        ("a.example.com", "A"): ("192.0.2.1",),
        ("b.example.com", "A"): ("192.0.2.2",),
        ("ers.example.com", "A"): ("192.0.2.9",),
    }
    return found


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await test

    asyncio.run(within())


async def ask(resolver: Resolver, where: Where = NAME, *, again: bool = False) -> list[str]:
    answer: asyncio.Future[Located] = asyncio.get_running_loop().create_future()
    resolver.ask(where, answer.set_result, again=again)
    return addresses(await answer)


def addresses(located: Located) -> list[str]:
    return [server.address for server in in_order(located, b"call-1")]


def test_answers_are_kept_and_asked_for_again_before_they_run_out(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()
        assert resolver.known(NAME) == NOWHERE
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]
        asked = dns.asked.total()
        dns.now += 79.0
        assert addresses(resolver.known(NAME)) == ["192.0.2.1", "192.0.2.2"]
        await asyncio.sleep(0)
        assert dns.asked.total() == asked
        dns.zone["a.example.com", "A"] = ("192.0.2.7",)
        dns.now += 2.0
        assert addresses(resolver.known(NAME)) == ["192.0.2.1", "192.0.2.2"], "nobody waits for the new ones"
        assert await ask(resolver) == ["192.0.2.7", "192.0.2.2"]

    run(test())


@pytest.mark.parametrize(("ttl", "again"), [(0.0, 0.8), (1e9, 2880.0)])
def test_times_to_live_are_kept_within_bounds(dns: Dns, ttl: float, again: float) -> None:
    dns.ttl = ttl

    async def test() -> None:
        resolver = dns.resolver()
        await ask(resolver, HOST)
        asked = dns.asked.total()
        dns.now += again - 0.1
        await ask(resolver, HOST)
        assert dns.asked.total() == asked
        dns.now += 0.2
        await ask(resolver, HOST)
        assert dns.asked.total() > asked

    run(test())


def test_while_dns_is_down_the_last_known_servers_are_used_and_it_is_said(
    dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        resolver = dns.resolver()
        await ask(resolver)
        dns.failing = {"SRV", "A", "AAAA", "NAPTR"}
        for _ in range(5):
            dns.now += 3600
            assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]
        assert resolver.reason(NAME) == STALE
        assert resolver.stale == 1
        assert resolver.counts["failed"]
        assert caplog.text.count(STALE) == 1
        dns.failing = set()
        dns.now += 31
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]
        assert resolver.reason(NAME) == ""
        assert resolver.stale == 0
        assert "DNS answers again" in caplog.text

    run(test())


def test_a_name_that_dns_knows_nothing_of_any_more_keeps_its_servers(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()
        await ask(resolver)
        dns.zone.clear()
        dns.now += 3600
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]
        assert resolver.reason(NAME) == GONE

    run(test())


def test_a_question_that_fails_is_asked_again_soon_and_then_less_often(dns: Dns) -> None:
    dns.failing = {"A", "AAAA"}

    async def test() -> None:
        resolver = dns.resolver()
        times = []
        for _ in range(120):
            before = dns.asked["ers.example.com", "A"]
            resolver.known(HOST)
            await ask(resolver, HOST)
            if dns.asked["ers.example.com", "A"] > before:
                times.append(dns.now)
            dns.now += 1.0
        pauses = [after - before for before, after in pairwise(times)]
        assert pauses[:4] == [1.0, 2.0, 5.0, 10.0]
        assert set(pauses[4:]) == {30.0}

    run(test())


def test_who_has_nothing_else_left_asks_before_it_is_time(dns: Dns) -> None:
    dns.failing = {"SRV", "A"}

    async def test() -> None:
        resolver = dns.resolver()
        assert not resolver.was_asked(HOST)
        assert await ask(resolver, HOST) == []
        assert resolver.was_asked(HOST)
        dns.failing = set()
        assert await ask(resolver, HOST) == [], "the question failed, and it is not its time again"
        assert await ask(resolver, HOST, again=True) == ["192.0.2.9"]
        asked = dns.asked.total()
        assert await ask(resolver, HOST, again=True) == ["192.0.2.9"]
        assert dns.asked.total() == asked, "what was answered holds"

    run(test())


def test_a_firewall_that_swallows_naptr_costs_no_call(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "DEADLINE_SECONDS", 0.2)
    dns.hanging = {"NAPTR"}

    async def test() -> None:
        resolver = dns.resolver()
        found = await ask(resolver, Where("ers.example.com"))
        assert found == ["192.0.2.1", "192.0.2.2"], "with SRV and all"
        assert resolver.reason(Where("ers.example.com")) == ""

    run(test())


def test_what_is_known_early_can_be_used_early(dns: Dns) -> None:
    dns.hanging = {"NAPTR"}

    async def test() -> None:
        resolver = dns.resolver()
        where = Where("ers.example.com")
        resolver.ask(where, lambda _: None)
        async with asyncio.timeout(5):
            while addresses(resolver.known(where)) != ["192.0.2.1", "192.0.2.2"]:
                await asyncio.sleep(0.001)

    run(test())


@pytest.mark.parametrize("late", ["SRV", "NAPTR"])
def test_the_addresses_of_the_domain_itself_are_not_used_before_srv_has_had_its_say(dns: Dns, late: str) -> None:
    if late == "NAPTR":  # it leads to SRV records of another name
        dns.zone["_sip._udp.sbc.example.com", "SRV"] = dns.zone.pop(("_sip._udp.ers.example.com", "SRV"))
    dns.hanging = {late}

    async def test() -> None:
        resolver = dns.resolver()
        where = Where("ers.example.com")
        assert resolver.known(where) == NOWHERE
        async with asyncio.timeout(5):
            while not dns.asked["ers.example.com", "AAAA"]:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert resolver.known(where) == NOWHERE, "a web server's, perhaps"
        assert not resolver.was_asked(where)

    run(test())


def test_what_an_earlier_process_knew_is_used_until_the_look_up_has_ended(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()
        resolver.preload({Question("plain.example.com", "A"): ("192.0.2.7",)})
        dns.hanging = {"SRV", "NAPTR"}
        dns.zone["plain.example.com", "A"] = ("192.0.2.8",)
        where = Where("plain.example.com")
        resolver.ask(where, lambda _: None)
        async with asyncio.timeout(5):
            while not dns.asked["plain.example.com", "AAAA"]:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert addresses(resolver.known(where)) == ["192.0.2.7"]

    run(test())


@pytest.mark.parametrize("swallowed", ["NAPTR", "AAAA"])
def test_whoever_waits_goes_on_while_a_firewall_swallows_one_kind(
    dns: Dns, swallowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "DEADLINE_SECONDS", 25.0)
    dns.hanging = {swallowed}

    async def test() -> None:
        resolver = dns.resolver()
        where = Where("ers.example.com")
        assert (await ask(resolver, where))[0] == "192.0.2.1"
        assert not resolver.was_asked(where), "the rest is still awaited"
        found = asyncio.create_task(ask(resolver, where))
        await asyncio.sleep(0)
        assert not found.done(), "told once, and never before ask returns"
        assert (await found)[0] == "192.0.2.1"

    run(test())


def test_an_address_that_is_of_no_use_is_no_reason_to_go_on_early(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "DEADLINE_SECONDS", 0.6)
    dns.hanging = {"AAAA"}

    async def test() -> None:
        resolver = dns.resolver()
        resolver.is_of_use = lambda server: ":" in server.address
        await ask(resolver)
        assert resolver.was_asked(NAME), "to the end"

    run(test())


def test_the_system_is_not_asked_for_ipv6_of_a_name_that_dns_knows(dns: Dns) -> None:
    asked: list[Question] = []

    async def ask_system(question: Question) -> Answer:
        asked.append(question)
        return Answer((), 60.0)

    dns.ask_system = ask_system  # type: ignore[method-assign]

    async def test() -> None:
        assert await ask(dns.resolver(), Where("a.example.com", 5060)) == ["192.0.2.1"]

    run(test())
    assert not asked


def test_an_address_that_dns_does_not_know_comes_from_the_system(dns: Dns) -> None:
    dns.system = {"pbx.example.com": "192.0.2.80", "ers.example.com": "192.0.2.81"}

    async def test() -> None:
        resolver = dns.resolver()
        assert await ask(resolver, Where("pbx.example.com", 5060)) == ["192.0.2.80"]
        assert await ask(resolver, HOST) == ["192.0.2.9"], "not where DNS knows it"
        dns.failing = {"A", "AAAA"}
        assert await ask(resolver, Where("pbx", 5060)) == []
        dns.system["pbx2.example.com"] = "192.0.2.82"
        assert await ask(resolver, Where("pbx2.example.com", 5060)) == ["192.0.2.82"]
        dns.now += 3600
        assert await ask(resolver, HOST) == ["192.0.2.9"], "an old answer of DNS goes before the system's"

    run(test())


def test_whoever_waits_is_told_by_the_deadline(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "DEADLINE_SECONDS", 0.05)
    dns.hanging = {"A", "AAAA", "SRV", "NAPTR"}

    async def test() -> None:
        resolver = dns.resolver()
        assert await ask(resolver) == []
        dns.hanging = set()
        dns.now += 2.0
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]

    run(test())


def test_one_who_fails_with_the_answer_keeps_it_from_nobody(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()

        def fail(_: Located) -> None:
            raise RuntimeError("a fault")

        resolver.ask(NAME, fail)
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]

    run(test())


def test_a_fault_of_ours_in_a_look_up_is_told_as_what_is_known(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        resolver = dns.resolver()

        async def fault(_: Question) -> Answer:
            raise RuntimeError("a fault")

        with monkeypatch.context() as patch:
            patch.setattr(dns, "ask", fault)
            assert await ask(resolver) == []
        dns.now += 2.0
        assert await ask(resolver) == ["192.0.2.1", "192.0.2.2"]

    run(test())


def test_a_request_waits_for_a_name_only_the_first_time(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()
        told: list[Located] = []
        resolver.find(NAME, told.append)
        assert not told
        await ask(resolver)
        assert len(told) == 1
        dns.now += 1e6
        resolver.find(NAME, told.append)
        assert len(told) == 2, "at once, while the name is asked for again"

    run(test())


def test_hosts_of_other_protocols_are_found_by_their_addresses(dns: Dns) -> None:
    async def test() -> None:
        resolver = dns.resolver()
        for host, expected in (
            ("ers.example.com", ("192.0.2.9",)),
            ("2001:db8::1", ("2001:db8::1",)),
            ("no.example", ()),
        ):
            answer: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
            resolver.find_addresses(host, answer.set_result)
            assert await answer == expected
        assert {question[1] for question in dns.asked} == {"A", "AAAA"}

    run(test())


def test_names_are_kept_within_bounds_and_those_in_use_stay(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KNOWN_LIMIT", 3)

    async def test() -> None:
        resolver = dns.resolver()
        dns.zone["peer1.example.com", "A"] = ("192.0.2.1",)
        for number in range(10):
            await ask(resolver, Where(f"peer{number}.example.com", 5060))
            if number:
                assert addresses(resolver.known(Where("peer1.example.com", 5060))) == ["192.0.2.1"]
        assert len(resolver._places) == 3
        for number in range(100):
            await ask(resolver, Where(f"more{number}.example.com"))
        assert len(resolver._answers) == 30

    run(test())


def test_look_ups_at_the_same_time_are_bounded(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "AT_ONCE", 3)
    dns.hanging = {"A"}

    async def test() -> None:
        resolver = dns.resolver()
        told: list[Located] = []
        for number in range(5):
            resolver.ask(Where(f"peer{number}.example.com", 5060), told.append)
        assert told == [], "never before ask returns"
        await asyncio.sleep(0)
        assert told == [NOWHERE, NOWHERE]
        assert resolver.counts["refused"] == 2
        for task in resolver._tasks:
            task.cancel()

    run(test())


def test_without_a_loop_nothing_is_asked(dns: Dns) -> None:
    assert dns.resolver().known(NAME) == NOWHERE
    assert not dns.asked


def test_a_command_waits_for_all_servers_of_a_name(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call goes on with early is not all that `explain` is to show."""
    answer_at_once = dns.ask

    async def ask(question: Question) -> Answer:
        if question.name == "b.example.com":
            await asyncio.sleep(0.05)
        return await answer_at_once(question)

    monkeypatch.setattr(dns, "ask", ask)
    monkeypatch.setattr(lookups, "EARLY_SECONDS", 0.01)
    monkeypatch.setattr(lookups, "DnsClient", lambda *_, **__: dns)
    found = lookups.locate_now([("192.0.2.53", 53)], [NAME])
    assert {server.address for server in found[NAME].servers} == {"192.0.2.1", "192.0.2.2"}
