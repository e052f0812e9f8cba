"""A provider that had taken the call and is gone, or may be: its connection ended, or its probe is silent.

Proved here, in virtual time: the same INVITE goes there once more; a provider that repeats its 180 keeps the call to
itself; one that says nothing gets the next route beside it and is not cancelled for it; the first to ring or answer
is the call; the last provider is asked for a while before the caller is refused; what CANCEL does meanwhile.
"""

from pathlib import Path
from typing import Any

import pytest

from e911.record import CallEnded, CallOutcome, RouteEvent, RouteOutcome
from router.emergency.leg_doubt import PATIENCE_SECONDS
from tests.router.network.test_probes import ProbedWorld
from tests.support.call_world import (
    CONFIG,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)

TCP_PROVIDER = {"target": "sip:203.0.113.31:5060;transport=tcp", "probe": "off"}
ONLY_ROUTE = {**CONFIG["emergency"], "routes": CONFIG["emergency"]["routes"][:1], "basic": []}


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    """The first provider is reached by TCP."""
    return CallWorld(tmp_path, trunks={**CONFIG["trunks"], "ers-a": TCP_PROVIDER})


@pytest.fixture
def lonely(tmp_path: Path) -> CallWorld:
    """There is no other."""
    return CallWorld(tmp_path, trunks={**CONFIG["trunks"], "ers-a": TCP_PROVIDER}, emergency=ONLY_ROUTE)


def answer(world: CallWorld, sent: Sent, status: int, *, tag: str = "psap") -> list[Sent]:
    return world.receive(response(sent.message, status, tag=tag), sent.to, sent.transport)


def ringing(world: CallWorld, status: int = 180) -> tuple[bytes, Sent]:
    """A call that rings (or is at 100) at the first provider, and the INVITE it got."""
    raw = invite()
    sent = one(world.receive(raw), "INVITE", PROVIDER_A)
    answer(world, sent, status)
    return raw, sent


def cut_off(world: CallWorld, sent: Sent) -> list[Sent]:
    """The connection by which this INVITE went has ended, or a new one is refused."""
    branch = sent.message.branch.encode()
    world.router.stack.transport_failed(world.router.stack.clients[branch], world.now)
    return world.sent()


def outcomes(world: CallWorld) -> list[tuple[str, RouteOutcome, str]]:
    wanted = (RouteOutcome.IN_DOUBT, RouteOutcome.CONFIRMED, RouteOutcome.TIMEOUT)
    return [
        (event.route, event.outcome, event.reason) for event in world.events(RouteEvent) if event.outcome in wanted
    ]


def test_the_same_invite_goes_again_and_a_provider_that_has_the_call_keeps_it(
    world: CallWorld, caplog: pytest.LogCaptureFixture
) -> None:
    _, first = ringing(world)
    again = one(cut_off(world, first), "INVITE")
    assert again.to == PROVIDER_A
    assert again.message.raw == first.message.raw, "a retransmission to whoever still has the call"
    assert "connection-lost" in caplog.text
    answer(world, again, 180)
    assert not of(world.advance(60), "INVITE"), "nobody else is rung"
    assert one(answer(world, again, 200), 200)
    assert outcomes(world) == [
        ("primary", RouteOutcome.IN_DOUBT, "connection-lost"),
        ("primary", RouteOutcome.CONFIRMED, ""),
    ]
    assert world.router.counts["legs_in_doubt"] == 1


def test_a_provider_that_takes_no_connection_any_more_gets_the_next_route_beside_it_at_once(world: CallWorld) -> None:
    _, first = ringing(world)
    cut_off(world, first)
    out = cut_off(world, first)
    second = one(out, "INVITE", PROVIDER_B)
    assert not of(out, "CANCEL"), "it may have the call all the same"
    assert one(answer(world, second, 180, tag="b"), 180), "the caller hears the second ring"
    assert one(answer(world, second, 200, tag="b"), 200)
    assert ("primary", RouteOutcome.TIMEOUT, "connection-lost") in outcomes(world)


def test_a_provider_that_says_nothing_to_it_gets_the_next_route_beside_it_after_its_timeout(world: CallWorld) -> None:
    _, first = ringing(world)
    cut_off(world, first)
    assert not of(world.advance(1.99), "INVITE", PROVIDER_B)
    out = world.advance(0.02)
    second = one(out, "INVITE", PROVIDER_B)
    assert not of(out, "CANCEL")
    out = answer(world, first, 200)
    assert one(out, 200), "the first to answer is the call, also the one given up"
    assert one(answer(world, second, 100), "CANCEL", PROVIDER_B)


def test_a_provider_started_again_is_rung_anew_and_its_answer_is_the_call(world: CallWorld) -> None:
    _, first = ringing(world)
    cut_off(world, first)
    second = one(cut_off(world, first), "INVITE", PROVIDER_B)
    again = one(world.advance(0.51), "INVITE", PROVIDER_A)
    answer(world, again, 100)
    assert one(answer(world, again, 180, tag="new"), 180)
    assert one(answer(world, second, 100), "CANCEL", PROVIDER_B)
    assert one(answer(world, again, 200, tag="new"), 200).message.get("to").endswith("tag=new")


def test_a_provider_started_again_that_gets_no_further_than_100_gets_the_next_route_beside_it(
    world: CallWorld,
) -> None:
    _, first = ringing(world)
    again = one(cut_off(world, first), "INVITE", PROVIDER_A)
    answer(world, again, 100)
    assert not of(world.advance(5.9), "INVITE", PROVIDER_B)
    second = one(world.advance(0.2), "INVITE", PROVIDER_B)
    assert one(answer(world, second, 180, tag="b"), 180), "the second rings, and the caller hears it"


def test_a_provider_started_again_that_rings_after_its_100_keeps_the_call(world: CallWorld) -> None:
    _, first = ringing(world)
    again = one(cut_off(world, first), "INVITE", PROVIDER_A)
    answer(world, again, 100)
    world.advance(3)
    assert one(answer(world, again, 180, tag="new"), 180)
    assert not of(world.advance(60), "INVITE")


def test_all_others_failing_the_one_in_doubt_is_waited_for(world: CallWorld) -> None:
    _, first = ringing(world)
    cut_off(world, first)
    second = one(cut_off(world, first), "INVITE", PROVIDER_B)
    third = one(answer(world, second, 486), "INVITE", RELAY)
    assert not of(answer(world, third, 486), 503)
    again = of(world.advance(2), "INVITE", PROVIDER_A)
    assert again
    answer(world, again[0], 180, tag="new")
    assert not of(world.advance(PATIENCE_SECONDS + 1), 503)
    assert one(answer(world, again[0], 200, tag="new"), 200)


def test_the_only_provider_is_asked_for_a_while_and_then_the_caller_is_told(lonely: CallWorld) -> None:
    _, first = ringing(lonely)
    cut_off(lonely, first)
    out = cut_off(lonely, first)
    assert not of(out, 503)
    asked = 0
    out = []
    for _ in range(40):
        some = lonely.advance(0.5)
        out += some
        for sent in of(some, "INVITE", PROVIDER_A):
            asked += 1
            out += cut_off(lonely, sent)
    assert asked > 5
    assert of(out, 503)
    assert [event.outcome for event in lonely.events(CallEnded)] == [CallOutcome.FAILED]
    assert not lonely.router.emergency.being_set_up


def test_the_only_provider_that_repeats_no_more_than_100_goes_on_ringing(lonely: CallWorld) -> None:
    _, first = ringing(lonely)
    again = one(cut_off(lonely, first), "INVITE", PROVIDER_A)
    answer(lonely, again, 100)
    assert not of(lonely.advance(60), 503)
    assert one(answer(lonely, again, 200), 200)


def test_a_provider_at_100_is_asked_again_too(world: CallWorld) -> None:
    _, first = ringing(world, 100)
    assert one(cut_off(world, first), "INVITE", PROVIDER_A)
    assert one(cut_off(world, first), "INVITE", PROVIDER_B)


def test_a_caller_who_hangs_up_does_not_wait_for_it(world: CallWorld) -> None:
    raw, first = ringing(world)
    cut_off(world, first)
    out = world.receive(cancel_of(raw))
    assert one(out, "CANCEL", PROVIDER_A), "over the new connection, if there is one"
    assert one(out, 487)
    assert not of(out, "INVITE", PROVIDER_B)
    late = answer(world, first, 200)
    assert one(late, "ACK").to == PROVIDER_A, "nobody is left to take it"
    assert of(late, "BYE")
    assert not of(late, 200)
    assert not of(world.advance(40), "INVITE")


def test_a_connection_lost_after_the_cancel_does_not_keep_the_caller(world: CallWorld) -> None:
    raw, first = ringing(world)
    world.receive(cancel_of(raw))
    assert one(cut_off(world, first), 487)
    assert one(answer(world, first, 200), "ACK").to == PROVIDER_A


def test_a_lost_connection_of_an_answered_call_is_nobodys_business(world: CallWorld) -> None:
    _, first = ringing(world)
    answer(world, first, 200)
    assert not of(cut_off(world, first), "INVITE")
    assert not outcomes(world)


def test_a_route_given_up_before_is_not_asked_again(world: CallWorld) -> None:
    _, first = ringing(world, 100)
    one(world.advance(6.1), "INVITE", PROVIDER_B)
    assert not of(cut_off(world, first), "INVITE")


def test_a_response_needs_no_more_than_sent_by_where_its_connection_is_gone(world: CallWorld) -> None:
    """RFC 3261 section 18.2.2; rport (RFC 3581) would name a port at which nobody listens."""
    _, first = ringing(world)
    assert first.message.all("via")[0].startswith("SIP/2.0/TCP 10.0.0.5:5060;branch=")
    assert "rport" not in first.message.all("via")[0]
    second = one([*cut_off(world, first), *cut_off(world, first)], "INVITE", PROVIDER_B)
    assert second.message.all("via")[0].endswith(";rport"), "by UDP it is asked for"


# UDP: the probe turns silent while the call rings


def known_down(folder: Path, **changes: Any) -> tuple[ProbedWorld, Sent]:
    """A call rings at the first provider, which then falls silent until it is known to be down."""
    world = ProbedWorld(folder, ers_a={"probe": "10s"}, **changes)
    world.live(1)
    first = one(world.dial(), "INVITE", PROVIDER_A)
    answer(world, first, 180)
    return world, first


def test_a_provider_that_falls_silent_while_it_rings_is_asked_and_then_passed(tmp_path: Path) -> None:
    world, first = known_down(tmp_path)
    world.dead.add(PROVIDER_A)
    out: list[Sent] = []
    while not of(out, "INVITE", PROVIDER_B):
        out += world.live(0.25)
    again = of(out, "INVITE", PROVIDER_A)
    assert len(again) > 1, "by UDP an INVITE may be lost"
    assert {sent.message.raw for sent in again} == {first.message.raw}
    second = one(out, "INVITE", PROVIDER_B)
    assert not of(out, "CANCEL")
    assert one(answer(world, second, 180, tag="b"), 180)
    assert outcomes(world)[0] == ("primary", RouteOutcome.IN_DOUBT, "trunk-silent")


def test_a_provider_that_filters_probes_keeps_the_calls_that_ring_there(tmp_path: Path) -> None:
    world, _ = known_down(tmp_path)
    world.dead.add(PROVIDER_A)
    rung = False
    for _ in range(80):
        for sent in of(out := world.live(0.25), "INVITE"):
            assert sent.to == PROVIDER_A
            rung = True
            answer(world, sent, 180)
        assert not of(out, "INVITE", PROVIDER_B)
    assert rung


def test_a_provider_in_maintenance_keeps_the_calls_that_ring_there(tmp_path: Path) -> None:
    world, _ = known_down(tmp_path)
    world.statuses[PROVIDER_A] = 503
    assert not of(world.live(30), "INVITE")
