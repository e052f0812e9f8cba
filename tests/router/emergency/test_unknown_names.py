"""A 911 call by trunks that are names: what it does where DNS has said nothing of them yet."""

from pathlib import Path
from typing import Any

import pytest

from e911.record import RouteEvent
from router.network.lookups import Resolver, Told
from sip.locating import NOWHERE, Located, Server, Weighted, Where
from tests.support.call_world import (
    CARRIER,
    CONFIG,
    PBX,
    PHONE,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    CallWorld,
    cancel_of,
    invite,
    of,
    one,
    response,
)

A, B = Where("ers-a.example", 5060), Where("ers-b.example", 5060)
PBX_NAME = Where("pbx.example", 5060)


class Names(Resolver):
    """DNS as a test has it. A look-up ends with `end`, or when the waiting call's time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Where, Located] = {}
        self.ended: set[Where] = set()
        self.waiting: list[tuple[Where, Told, bool]] = []

    def known(self, where: Where) -> Located:
        return self.found.get(where, NOWHERE)

    @property
    def can_ask(self) -> bool:
        return True

    def was_asked(self, where: Where) -> bool:
        return where in self.ended

    def ask(self, where: Where, told: Told, *, again: bool = False) -> None:
        self.waiting.append((where, told, again))

    def end(self, where: Where, address: str = "") -> None:
        """DNS names this address, or nothing."""
        self.ended.add(where)
        if address:
            self.found[where] = Located(((Weighted(0, (Server("udp", address, 5060),)),),))
        ended = [one for one in self.waiting if one[0] == where]
        self.waiting = [one for one in self.waiting if one[0] != where]
        for _, told, _ in ended:
            told(self.known(where))


def trunk(target: str) -> dict[str, Any]:
    return {**CONFIG["trunks"]["ers-a"], "target": target}


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def world(tmp_path: Path, names: Names) -> CallWorld:
    return named(tmp_path, names)


def named(folder: Path, names: Names, **trunks: Any) -> CallWorld:
    by_name = {"ers-a": trunk("sip:ers-a.example:5060"), **trunks}
    world = CallWorld(folder, trunks={**CONFIG["trunks"], **by_name})
    world.router.trunks.resolver = names
    return world


def reasons(world: CallWorld) -> list[tuple[str, str, str]]:
    return [(event.route, str(event.outcome), event.reason) for event in world.events(RouteEvent)]


def test_the_first_answer_of_dns_is_waited_for(world: CallWorld, names: Names) -> None:
    sent = world.receive(invite())
    assert not of(sent, "INVITE")
    assert of(sent, 100)
    world.advance(0.3)
    names.end(A, PROVIDER_A[0])
    assert world.edge.flushed, "nothing else would send it now"
    assert one(world.sent(), "INVITE").to == PROVIDER_A
    assert not of(world.advance(1.6), "INVITE", PROVIDER_B), "what it waited is of the route's two seconds"
    one(world.advance(0.2), "INVITE", PROVIDER_B)


def test_no_longer_than_the_route_has_and_then_goes_by_the_next_one(world: CallWorld) -> None:
    world.receive(invite())
    assert not of(world.advance(1.9), "INVITE")
    assert one(world.advance(0.2), "INVITE").to == PROVIDER_B
    assert reasons(world)[0] == ("primary", "unreachable", "no-address")


def test_what_dns_says_late_leaves_time_for_an_answer(world: CallWorld, names: Names) -> None:
    world.receive(invite())
    world.advance(1.9)
    names.end(A, PROVIDER_A[0])
    one(world.sent(), "INVITE", PROVIDER_A)
    assert not of(world.advance(0.4), "INVITE", PROVIDER_B)
    one(world.advance(0.2), "INVITE", PROVIDER_B)


def test_a_name_that_dns_has_failed_on_costs_no_time(world: CallWorld, names: Names) -> None:
    names.end(A)
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_B


def test_after_all_others_it_is_asked_for_once_more(tmp_path: Path, names: Names) -> None:
    world = named(tmp_path, names, **{"ers-b": trunk("sip:ers-b.example:5060")})
    names.end(A)
    names.end(B)
    relay = one(world.receive(invite()), "INVITE")
    assert relay.to == RELAY
    assert not of(world.unreachable(relay), 503)
    assert [(where, again) for where, _, again in names.waiting] == [(A, True), (B, True)]
    names.end(A)
    assert not world.sent(), "there is another name"
    names.end(B, PROVIDER_B[0])
    backup = one(world.sent(), "INVITE")
    assert backup.to == PROVIDER_B
    assert not world.unreachable(backup)
    again = one(world.advance(1.0), "INVITE")
    assert not names.waiting, "DNS is not asked once more"
    backup = one(world.unreachable(again), "INVITE")
    assert [sent.to for sent in (again, backup)] == [PROVIDER_B, RELAY]
    assert of(world.unreachable(backup), 503)


RELAY_NAME = Where("relay.example", 5060)


def by_names_only(folder: Path, names: Names) -> CallWorld:
    """One E911 route and basic 911, both by names that DNS has failed on."""
    relay = {**CONFIG["trunks"]["relay"], "target": "sip:relay.example:5060"}
    world = named(folder, names, **{"ers-b": trunk("sip:ers-b.example:5060"), "relay": relay})
    for name in (A, B, RELAY_NAME):
        names.end(name)
    return world


def test_basic_911_that_dns_names_after_an_e911_route_has_its_turn_after_it(tmp_path: Path, names: Names) -> None:
    world = by_names_only(tmp_path, names)
    assert not of(world.receive(invite()), "INVITE")
    names.end(A, PROVIDER_A[0])
    primary = one(world.sent(), "INVITE", PROVIDER_A)
    assert not of(world.unreachable(primary), 503), "DNS may still name the others"
    world.advance(0.3)
    names.end(B)
    assert not world.sent()
    names.end(RELAY_NAME, RELAY[0])
    assert one(world.sent(), "INVITE").to == RELAY


def test_a_name_known_while_another_route_was_tried_has_its_turn(tmp_path: Path, names: Names) -> None:
    world = by_names_only(tmp_path, names)
    world.receive(invite())
    names.end(A, PROVIDER_A[0])
    primary = one(world.sent(), "INVITE", PROVIDER_A)
    names.end(RELAY_NAME, RELAY[0])
    world.receive(response(primary.message, 503), PROVIDER_A)
    names.end(B)
    names.end(RELAY_NAME, RELAY[0])
    assert one(world.sent(), "INVITE", RELAY).to == RELAY


def test_where_nothing_more_is_named_the_caller_hears_of_it(tmp_path: Path, names: Names) -> None:
    world = by_names_only(tmp_path, names)
    world.receive(invite())
    names.end(A, PROVIDER_A[0])
    assert not of(world.unreachable(one(world.sent(), "INVITE", PROVIDER_A)), 503)
    assert len(of(world.advance(2.1), 503)) == 1


def test_basic_911_gives_dns_half_a_second_to_name_an_e911_route(tmp_path: Path, names: Names) -> None:
    world = by_names_only(tmp_path, names)
    world.receive(invite())
    names.end(RELAY_NAME, RELAY[0])
    assert not of(world.sent() + world.advance(0.3), "INVITE")
    names.end(A, PROVIDER_A[0])
    assert one(world.sent(), "INVITE").to == PROVIDER_A


def test_and_no_longer(tmp_path: Path, names: Names) -> None:
    world = by_names_only(tmp_path, names)
    world.receive(invite())
    names.end(RELAY_NAME, RELAY[0])
    names.end(A)
    assert not of(world.sent() + world.advance(0.4), "INVITE")
    relay = one(world.advance(0.2), "INVITE")
    assert relay.to == RELAY
    names.end(B, PROVIDER_B[0])
    assert not of(world.sent(), "INVITE"), "it is in its turn"
    world.unreachable(relay)
    names.end(B, PROVIDER_B[0])
    assert one(world.sent(), "INVITE").to == PROVIDER_B


def test_where_dns_says_nothing_then_either_the_call_fails_in_its_time(world: CallWorld, names: Names) -> None:
    names.end(A)
    world.receive(invite())
    world.advance(6.1)  # the backup and the relay are silent
    assert len(names.waiting) == 1
    assert not of(world.advance(1.8), 503)
    assert len(of(world.advance(0.3), 503)) == 1


def test_an_answer_after_the_call_was_given_up_sends_nothing(world: CallWorld, names: Names) -> None:
    call = invite()
    world.receive(call)
    assert of(world.receive(cancel_of(call)), 487, PHONE)
    names.end(A, PROVIDER_A[0])
    assert not of(world.sent() + world.advance(5), "INVITE")


def test_a_route_that_rings_meanwhile_keeps_the_call(world: CallWorld, names: Names) -> None:
    names.end(A)
    backup = one(world.receive(invite()), "INVITE", PROVIDER_B)
    relay = one(world.advance(2.1), "INVITE", RELAY)
    assert not of(world.unreachable(relay), 503)
    assert of(world.receive(response(backup.message, 180), PROVIDER_B), 180)
    names.end(A, PROVIDER_A[0])
    assert not of(world.sent(), "INVITE")
    assert one(world.receive(response(backup.message, 486), PROVIDER_B), "INVITE").to == PROVIDER_A


BOTH = {"targets": ["sip:ers-a.example:5060", "sip:203.0.113.31:5060"], "probe": "off", "large_messages": "udp"}
BY_NAME = ("203.0.113.33", 5060)


def test_a_target_with_an_address_beside_the_name_waits_for_nothing(tmp_path: Path, names: Names) -> None:
    world = named(tmp_path, names, **{"ers-a": BOTH})
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A


def test_but_for_the_name_where_the_address_fails(tmp_path: Path, names: Names) -> None:
    world = named(tmp_path, names, **{"ers-a": BOTH})
    address = one(world.receive(invite()), "INVITE", PROVIDER_A)
    assert not of(world.unreachable(address), "INVITE"), "DNS may name another server of this route"
    names.end(A, BY_NAME[0])
    by_name = one(world.sent(), "INVITE")
    assert by_name.to == BY_NAME
    assert by_name.message.branch != address.message.branch
    assert one(world.unreachable(by_name), "INVITE").to == PROVIDER_B


def test_no_longer_than_its_time_and_then_after_all_others(tmp_path: Path, names: Names) -> None:
    world = named(tmp_path, names, **{"ers-a": BOTH})
    world.unreachable(one(world.receive(invite()), "INVITE", PROVIDER_A))
    assert not of(world.advance(1.9), "INVITE")
    backup = one(world.advance(0.2), "INVITE", PROVIDER_B)
    relay = one(world.unreachable(backup), "INVITE", RELAY)
    assert not of(world.unreachable(relay), 503)
    names.end(A, BY_NAME[0])
    last = one(world.sent(), "INVITE")
    assert last.to == BY_NAME
    assert of(world.unreachable(last), 503)


def test_a_name_that_dns_has_failed_on_comes_after_all_others_also_beside_an_address(
    tmp_path: Path, names: Names
) -> None:
    world = named(tmp_path, names, **{"ers-a": BOTH})
    names.end(A)
    address = one(world.receive(invite()), "INVITE", PROVIDER_A)
    backup = one(world.unreachable(address), "INVITE", PROVIDER_B)
    relay = one(world.unreachable(backup), "INVITE", RELAY)
    assert not of(world.unreachable(relay), 503)
    names.end(A, BY_NAME[0])
    assert one(world.sent(), "INVITE").to == BY_NAME


def test_where_it_leads_to_the_address_that_failed_the_call_goes_on_at_once(tmp_path: Path, names: Names) -> None:
    world = named(tmp_path, names, **{"ers-a": BOTH})
    world.unreachable(one(world.receive(invite()), "INVITE", PROVIDER_A))
    names.end(A, PROVIDER_A[0])
    backup = one(world.sent(), "INVITE", PROVIDER_B)
    relay = one(world.unreachable(backup), "INVITE", RELAY)
    world.unreachable(relay)
    names.end(A, PROVIDER_A[0])
    assert one(world.advance(1.0), "INVITE", PROVIDER_A), "all have been tried: the second round begins"


# ---- requests other than 911 ----


def with_named_pbx(folder: Path) -> tuple[CallWorld, Names]:
    pbx = {**CONFIG["trunks"]["pbx"], "target": "sip:pbx.example:5060"}
    site = {**CONFIG["sites"][0], "elins": ["+12125550191"]}
    routes = {"outbound": [], "inbound": ["pbx"]}
    world = CallWorld(folder, trunks={**CONFIG["trunks"], "pbx": pbx}, sites=[site], routes=routes)
    names = Names()
    names.ended.add(PBX_NAME)
    world.router.trunks.resolver = names
    return world, names


def test_a_call_from_outside_waits_for_the_first_name_of_the_pbx(tmp_path: Path) -> None:
    world, names = with_named_pbx(tmp_path)
    call = invite("sip:+12125550100@10.0.0.5", user="+12125550177")
    assert not of(world.receive(call, CARRIER), "INVITE")
    assert [(where, again) for where, _, again in names.waiting] == [(PBX_NAME, True)]
    names.end(PBX_NAME, PBX[0])
    assert world.edge.flushed
    assert one(world.sent(), "INVITE").to == PBX


def test_where_dns_says_nothing_the_caller_hears_of_it(tmp_path: Path) -> None:
    world, names = with_named_pbx(tmp_path)
    world.receive(invite("sip:+12125550100@10.0.0.5", user="+12125550177"), CARRIER)
    names.end(PBX_NAME)
    assert of(world.sent(), 503, CARRIER)


def test_a_callback_without_any_way_waits_for_the_first_name_of_the_pbx(tmp_path: Path) -> None:
    world, names = with_named_pbx(tmp_path)
    call = invite(user="4107").replace(b"<sip:4107@10.1.3.7:5060>", b"<sip:4107@198.51.100.9>")
    sent = one(world.receive(call, transport="tcp"), "INVITE")
    assert "+12125550191" in (sent.message.get("p-asserted-identity") or "")
    world.receive(response(sent.message, 486), sent.to, sent.transport)
    world.edge.connections.clear()
    callback = invite("sip:+12125550191@10.0.0.5", user="911")
    assert not of(world.receive(callback, CARRIER), "INVITE")
    names.end(PBX_NAME, PBX[0])
    assert one(world.sent(), "INVITE").to == PBX
    assert world.router.counts["callbacks"] == 1


CARRIER_NAME, OTHER = Where("carrier.example", 5060), PROVIDER_A


def with_named_carrier(folder: Path) -> tuple[CallWorld, Names]:
    """Ordinary calls go by a name that DNS has failed on, or by an address."""
    carrier = {**CONFIG["trunks"]["carrier"], "target": "sip:carrier.example:5060"}
    world = CallWorld(
        folder, trunks={**CONFIG["trunks"], "carrier": carrier}, routes={"outbound": ["carrier", "ers-a"]}
    )
    names = Names()
    names.ended.add(CARRIER_NAME)
    world.router.trunks.resolver = names
    return world, names


def ordinary_call() -> bytes:
    return invite("sip:+12125550177@10.0.0.5")


def test_a_call_that_the_other_trunk_refuses_waits_for_dns_to_name_the_first(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    other = one(world.receive(ordinary_call()), "INVITE")
    assert other.to == OTHER
    assert not names.waiting, "nobody waits while there is an address"
    assert not of(world.receive(response(other.message, 503), OTHER), 500)
    names.end(CARRIER_NAME, CARRIER[0])
    assert world.edge.flushed
    assert one(world.sent(), "INVITE").to == CARRIER


def test_where_dns_does_not_name_it_the_caller_hears_what_the_other_said(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    other = one(world.receive(ordinary_call()), "INVITE")
    world.receive(response(other.message, 503), OTHER)
    names.end(CARRIER_NAME)
    assert of(world.sent(), 500, PHONE)
    assert not names.waiting, "once is enough"


def test_a_busy_number_is_an_answer_whatever_dns_names(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    other = one(world.receive(ordinary_call()), "INVITE")
    assert of(world.receive(response(other.message, 486), OTHER), 486, PHONE)
    assert not names.waiting


def test_a_silent_trunk_is_given_up_only_for_one_that_has_a_name(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    world.receive(ordinary_call())
    world.advance(4.1)
    assert [where for where, _, _ in names.waiting] == [CARRIER_NAME]
    names.end(CARRIER_NAME, CARRIER[0])
    assert one(world.sent(), "INVITE").to == CARRIER


def test_a_silent_trunk_keeps_its_time_where_dns_names_no_other(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    other = one(world.receive(ordinary_call()), "INVITE")
    world.advance(4.1)
    names.end(CARRIER_NAME)
    assert not of(world.advance(10), 408)
    assert of(world.receive(response(other.message, 180), OTHER), 180, PHONE)


def test_a_trunk_that_answers_while_dns_is_asked_keeps_the_call(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    other = one(world.receive(ordinary_call()), "INVITE")
    world.advance(4.1)
    world.receive(response(other.message, 100), OTHER)
    names.end(CARRIER_NAME, CARRIER[0])
    assert not of(world.sent(), "INVITE")
    assert one(world.receive(response(other.message, 503), OTHER), "INVITE").to == CARRIER


def test_a_caller_who_hangs_up_meanwhile_is_let_go(tmp_path: Path) -> None:
    world, names = with_named_carrier(tmp_path)
    call = ordinary_call()
    other = one(world.receive(call), "INVITE")
    world.receive(response(other.message, 503), OTHER)
    assert of(world.receive(cancel_of(call)), 487, PHONE)
    names.end(CARRIER_NAME, CARRIER[0])
    assert not of(world.sent(), "INVITE")
