"""Trunks and peers by name, against a real DNS server: RFC 3263 as seen at the far side."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.dns_server import ZoneServer
from tests.support.ports import Endpoint, street
from tests.support.raw_sip import Peer, answers
from tests.support.world import Place, Plan, World, world

SLOW = 40


class Town:
    """A world whose provider A is a name: two servers, at the addresses of `first` and `second`."""

    def __init__(self, running: World, dns: ZoneServer, first: Endpoint, second: Endpoint) -> None:
        self.world, self.dns, self.first, self.second = running, dns, first, second

    @property
    def place(self) -> Place:
        return self.world["named"]

    def zone(self, *preferred: Endpoint, ttl: int = 1, transport: str = "udp") -> None:
        """Serve NAPTR, SRV of falling priority and A records for these servers."""
        self.dns.zone(zone_of(*preferred, ttl=ttl, transport=transport))


def zone_of(*preferred: Endpoint, ttl: int = 1, transport: str = "udp") -> str:
    service = {"udp": "SIP+D2U", "tcp": "SIP+D2T"}[transport]
    lines = [f'ers.example.com. {ttl} IN NAPTR 10 10 "s" "{service}" "" _sip._{transport}.ers.example.com.']
    for number, server in enumerate(preferred):
        host = f"s{server.port}.example.com."
        lines += [
            f"_sip._{transport}.ers.example.com. {ttl} IN SRV {number} 10 {server.port} {host}",
            f"{host} {ttl} IN A {server.address}",
        ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with ExitStack() as stack:
        home = street()
        first, second = home["provider_a"], home["provider_b"]
        dns = stack.enter_context(ZoneServer(zone_of(first, second)))
        plan = Plan(
            timeout="3s",
            trunk_keys={"provider_a": {"target": "sip:ers.example.com"}},
            routes=("provider_a",),
        )
        running = stack.enter_context(
            world(tmp_path_factory.mktemp("dns"), {"named": plan}, dns={"servers": [str(dns.endpoint)]})
        )
        yield Town(running, dns, first, second)


@pytest.fixture
def phone(town: Town) -> Iterator[Peer]:
    with town.place.peer("phone") as peer:
        yield peer


def test_a_name_leads_by_naptr_and_srv_to_the_preferred_server(town: Town, phone: Peer) -> None:
    with Peer(town.first, rule=answers(180, 200)) as first:
        call = town.place.call(phone)
        call.dial()
        call.answered()
        invite = first.take("INVITE", call_id=call.call_id).message
        assert invite.start == "INVITE sip:911@ers.example.com SIP/2.0"
        call.hang_up()
    assert town.dns.asked["ers.example.com", "NAPTR"]
    shown = json.loads(town.world.router.asked("explain", town.place.device, "911", "--json"))
    assert set(shown["routes"][0]["servers"]) == {str(town.first), str(town.second)}
    assert town.dns.asked["_sip._udp.ers.example.com", "SRV"]


def test_a_closed_server_gives_way_to_the_next_within_the_route(town: Town, phone: Peer) -> None:
    with Peer(town.second, rule=answers(180, 200)) as second:
        call = town.place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        assert second.messages("INVITE", call_id=call.call_id)
    (record,) = town.world.router.records(call.call_id)
    steps = [(step["route"], step["outcome"]) for step in record["routes"]]
    assert steps[:2] == [("provider-a", "started"), ("provider-a", "unreachable")]
    assert steps[-1] == ("provider-a", "answered")


def test_a_silent_server_gives_way_after_its_share(town: Town, phone: Peer) -> None:
    with Peer(town.first, rule=lambda *_: True) as first, Peer(town.second, rule=answers(180, 200)) as second:
        call = town.place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        asked = first.messages("INVITE", call_id=call.call_id)
        assert len(asked) > 1, "sent again before it was given up"
        began = next(one.at for one in first.everything if one.message.call_id == call.call_id)
        went_on = next(one.at for one in second.everything if one.message.call_id == call.call_id)
        assert went_on - began > 1.4, "half of 3 s"
    (record,) = town.world.router.records(call.call_id)
    assert {step["route"] for step in record["routes"]} == {"provider-a"}, "within the route"


@pytest.fixture(autouse=True)
def dns_answers(town: Town) -> Iterator[None]:
    """A test that fails while DNS is down leaves it up for the next."""
    yield
    town.dns.manner = "answers"


def test_a_move_is_followed_when_its_time_is_over_and_without_dns_the_last_known_servers_serve(
    town: Town, phone: Peer
) -> None:
    router = town.world.router
    with Peer(town.first, rule=answers(180, 200)) as first, Peer(town.second, rule=answers(180, 200)) as second:
        town.zone(town.second)
        deadline = time.monotonic() + SLOW
        while time.monotonic() < deadline:
            time.sleep(0.1)
            call = town.place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            if second.messages("INVITE", call_id=call.call_id):
                break
        else:
            raise AssertionError("it never moved")
        assert not first.messages("INVITE", call_id=call.call_id)
        town.dns.manner = "servfail"
        router.wait_for_log("dns-stale", SLOW)
        call = town.place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        assert second.messages("INVITE", call_id=call.call_id)
        deadline = time.monotonic() + SLOW
        while router.metric("edge911_names_stale") < 1:
            assert time.monotonic() < deadline, "it says that it lives on what it knew"
            time.sleep(0.05)
    assert router.metric("edge911_dns_events_total", event="failed") > 0
    (record,) = router.records(call.call_id)
    assert record["routes"][0]["reason"] == "dns-stale"
    town.dns.manner = "answers"
    router.wait_for_log("DNS answers again", SLOW)
    town.zone(town.first, town.second)


def test_in_dialog_requests_find_a_contact_that_is_a_name(town: Town, phone: Peer) -> None:
    psap = town.place.street["provider_c"]
    town.dns.zone(
        zone_of(town.first, town.second)
        + f"\n_sip._udp.psap.example.com. 60 IN SRV 1 1 {psap.port} psap1.example.com."
        + f"\npsap1.example.com. 60 IN A {psap.address}"
    )
    rule = answers(180, 200, contact="sip:911@psap.example.com")
    with Peer(town.first, rule=rule), Peer(town.second, rule=rule), Peer(psap, rule=answers(200)) as named:
        call = town.place.call(phone)
        call.dial()
        call.answered()
        named.take("ACK", call_id=call.call_id)
        call.hang_up()
        assert named.messages("BYE", call_id=call.call_id)[0].start == "BYE sip:911@psap.example.com SIP/2.0"


def test_a_restart_sends_a_retransmission_to_the_same_of_two_equal_servers(town: Town, phone: Peer) -> None:
    town.dns.zone(
        "\n".join(
            [
                f"_sip._udp.ers.example.com. 1 IN SRV 1 50 {town.first.port} a.example.com.",
                f"_sip._udp.ers.example.com. 1 IN SRV 1 50 {town.second.port} b.example.com.",
                f"a.example.com. 1 IN A {town.first.address}",
                f"b.example.com. 1 IN A {town.second.address}",
            ]
        )
    )
    router = town.world.router
    router.restart()
    with Peer(town.first, rule=answers(180)) as first, Peer(town.second, rule=answers(180)) as second:
        calls = [town.place.call(phone) for _ in range(8)]
        for call in calls:
            call.dial()
            phone.take(180, call_id=call.call_id)
        router.restart()
        for call in calls:
            call.dial()
            phone.take(180, call_id=call.call_id)
        for call in calls:
            reached = [
                {one.branch for one in server.messages("INVITE", call_id=call.call_id)} for server in (first, second)
            ]
            assert sorted(map(len, reached)) == [0, 1], "one server, one transaction"
            call.send(call.cancel())


def kept_ports(file: Path) -> list[int]:
    """Ports of the servers that the answers kept name; addresses of earlier ones may stay beside them."""
    answers = json.loads(file.read_text())["answers"]
    return [port for _, kind, records in answers if kind == "SRV" for _, _, port, _ in records]


def test_a_start_while_dns_is_down_finds_the_last_known_servers(town: Town, phone: Peer) -> None:
    router = town.world.router
    town.zone(town.second)
    deadline = time.monotonic() + SLOW
    # Kept a while after it was asked, and by whichever test asks first.
    while [kept_ports(kept) for kept in router.folder.rglob("names.json")] != [[town.second.port]]:
        assert time.monotonic() < deadline, [kept.read_text() for kept in router.folder.rglob("names.json")]
        time.sleep(0.1)
    town.dns.manner = "servfail"
    router.restart()
    try:
        with Peer(town.second, rule=answers(180, 200)) as second:
            call = town.place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            assert second.messages("INVITE", call_id=call.call_id)
    finally:
        town.dns.manner = "answers"
