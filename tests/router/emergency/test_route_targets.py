"""Several places of one trunk: tried in order within one route, whose times stay what they are."""

from pathlib import Path
from typing import Any

import pytest

from config.values import peer_address
from e911.record import RouteEvent, RouteOutcome
from router.emergency.call_routes import RouteStep
from router.emergency.explain import explain
from router.emergency.route_try import LEAST_SHARE, RouteTry
from router.network.trunks import Hop
from sip.flow import Flow, ListeningPoint
from tests.support.call_world import CONFIG, PROVIDER_B, RELAY, CallWorld, Sent, invite, of, one, response

FIRST, SECOND, THIRD = (("203.0.113.31", 5060), ("203.0.113.33", 5070), ("203.0.113.34", 5060))


def trunks(*targets: str, name: str = "ers-a") -> dict[str, Any]:
    trunk = {"targets": list(targets), "probe": "off", "large_messages": "udp"}
    return {**CONFIG["trunks"], name: trunk}


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(
        tmp_path, trunks=trunks("sip:203.0.113.31:5060", "sip:203.0.113.33:5070", "sip:203.0.113.34:5060")
    )


def dial(world: CallWorld) -> Sent:
    return one(world.receive(invite()), "INVITE", FIRST)


def answer(world: CallWorld, sent: Sent, status: int) -> list[Sent]:
    return world.receive(response(sent.message, status), sent.to, sent.transport)


def test_a_closed_port_costs_nothing_and_the_next_target_is_named(world: CallWorld) -> None:
    second = one(world.unreachable(dial(world)), "INVITE")
    assert second.to == SECOND
    assert second.message.start == "INVITE sip:911@203.0.113.33:5070 SIP/2.0"
    assert one(world.unreachable(second), "INVITE").to == THIRD


def test_503_is_for_the_next_target_and_any_other_refusal_for_the_next_route(world: CallWorld) -> None:
    second = one(answer(world, dial(world), 503), "INVITE")
    assert second.to == SECOND
    assert one(answer(world, second, 486), "INVITE").to == PROVIDER_B


def test_silent_targets_share_the_routes_timeout(world: CallWorld) -> None:
    dial(world)
    assert not of(world.advance(0.65), "INVITE", SECOND)
    one(world.advance(0.05), "INVITE", SECOND)
    one(world.advance(0.67), "INVITE", THIRD)
    assert not of(world.advance(0.61), "INVITE", PROVIDER_B)
    one(world.advance(0.1), "INVITE", PROVIDER_B)


def test_what_a_closed_port_leaves_is_for_the_others(world: CallWorld) -> None:
    one(world.unreachable(dial(world)), "INVITE", SECOND)
    assert not of(world.advance(0.99), "INVITE", THIRD)
    one(world.advance(0.02), "INVITE", THIRD)
    assert not of(world.advance(0.95), "INVITE", PROVIDER_B)
    one(world.advance(0.1), "INVITE", PROVIDER_B)


def test_a_target_that_was_given_up_may_still_win(world: CallWorld) -> None:
    first = dial(world)
    second = one(world.advance(0.7), "INVITE", SECOND)
    assert of(answer(world, first, 180), 180)
    assert one(answer(world, second, 100), "CANCEL").to == SECOND


def test_one_that_said_100_has_the_call_for_the_whole_progress_timeout(world: CallWorld) -> None:
    answer(world, dial(world), 100)
    assert not of(world.advance(5.9), "INVITE")
    assert one(world.advance(0.2), "INVITE").to == PROVIDER_B


def test_the_end_of_the_ladder_comes_no_later_than_explain_says(world: CallWorld) -> None:
    """Each place says 100 at the last moment, then 503 at the last moment."""
    now = world.now
    sent = dial(world)
    for _ in range(20):
        share = 0.6 if sent.to[0] in ("203.0.113.31", "203.0.113.33", "203.0.113.34") else 1.9
        world.advance(share)
        answer(world, sent, 100)
        assert world.now <= now + 8.0 * 2, "two routes of 2 s and 6 s"
        more = of(world.advance(5.9) + answer(world, sent, 503), "INVITE")
        if not more:
            more = of(world.advance(0.5), "INVITE")
        sent = more[-1]
        if sent.to == RELAY:
            return
    raise AssertionError("the relay was never reached")


def test_the_branch_is_the_same_after_a_restart(world: CallWorld) -> None:
    raw = invite()
    first = one(world.receive(raw), "INVITE")
    second = one(world.unreachable(first), "INVITE")
    world.start(trunks=trunks("sip:203.0.113.31:5060", "sip:203.0.113.33:5070", "sip:203.0.113.34:5060"))
    again = one(world.receive(raw), "INVITE")
    assert again.message.raw == first.message.raw
    assert one(world.unreachable(again), "INVITE").message.raw == second.message.raw
    assert world.receive(response(second.message, 183), SECOND), "ours, and forwarded"


def test_every_try_stands_in_the_record(world: CallWorld) -> None:
    second = one(world.unreachable(dial(world)), "INVITE")
    answer(world, second, 200)
    assert [(event.outcome, event.attempt) for event in world.events(RouteEvent)] == [
        (RouteOutcome.STARTED, 0),
        (RouteOutcome.UNREACHABLE, 0),
        (RouteOutcome.STARTED, 1),
        (RouteOutcome.ANSWERED, 1),
    ]


@pytest.fixture
def carrier(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, trunks=trunks("sip:203.0.113.50", "sip:203.0.113.51", name="carrier"))


def test_an_ordinary_call_tries_them_too(carrier: CallWorld) -> None:
    first = one(carrier.receive(invite("sip:+12125550123@10.0.0.5")), "INVITE", ("203.0.113.50", 5060))
    second = one(carrier.unreachable(first), "INVITE", ("203.0.113.51", 5060))
    assert second.message.start == first.message.start, "unchanged"


def test_silent_places_of_an_ordinary_trunk_share_the_time_too(carrier: CallWorld) -> None:
    carrier.receive(invite("sip:+12125550123@10.0.0.5"))
    assert not of(carrier.advance(1.9), "INVITE", ("203.0.113.51", 5060))
    assert of(carrier.advance(0.2), "INVITE", ("203.0.113.51", 5060))


def test_explain_shows_the_targets_and_a_worst_case_that_they_do_not_change(world: CallWorld) -> None:
    setup = world.router.setup
    found = explain(setup.rules, setup.sources, world.devices, "4102", "911", "10.1.3.7")
    assert found["routes"][0]["targets"] == [
        "sip:203.0.113.31:5060",
        "sip:203.0.113.33:5070",
        "sip:203.0.113.34:5060",
    ]
    assert found["worst_case_seconds"] == 8.0 + 8.0 + 12.0


def step(timeout: float, progress_timeout: float = 6.0) -> RouteStep:
    return RouteStep(
        name="r",
        kind="e911",
        trunk="t",
        host="h",
        profile=None,
        number="",
        timeout=timeout,
        progress_timeout=progress_timeout,
        with_location=False,
    )


def up(count: int) -> list[Hop]:
    flow = Flow(ListeningPoint("udp", "10.0.0.5", 5060), *FIRST)
    return [Hop(flow, peer_address("sip:203.0.113.31:5060"), position) for position in range(count)]


def test_a_place_that_is_known_to_be_down_takes_no_share() -> None:
    hops = up(3)
    trying = RouteTry(step(2.0), 0, [*hops[:1], *(hop._replace(is_down=True) for hop in hops[1:])], 100.0)
    taken = trying.take(100.0)
    assert taken is not None
    assert taken[1] == 2.0
    taken = trying.take(100.1)
    assert taken is not None
    assert taken[1] == 1.9, "the first refused at once"


@pytest.mark.parametrize(
    ("timeout", "hops", "shares"),
    [
        (2.0, 1, [2.0]),
        (2.0, 2, [1.0, 1.0]),
        (2.0, 3, [0.67, 0.66, 0.67]),
        (2.0, 8, [0.5, 0.5, 0.5, 0.5]),
        (0.3, 2, [0.3]),
        (0.8, 3, [0.5, 0.3]),
    ],
)
def test_silent_places_share_the_time_and_it_is_used_to_the_end(
    timeout: float, hops: int, shares: list[float]
) -> None:
    trying = RouteTry(step(timeout), 0, up(hops), 100.0)
    now, found = 100.0, []
    while now < 100.0 + timeout - 0.001 and (taken := trying.take(now)):
        found.append(taken[1])
        now += taken[1]
        assert taken[2] == 6.0
    assert found == shares
    assert now == pytest.approx(100.0 + timeout, abs=0.01)


def test_time_left_by_one_that_said_100_and_503_is_shared_and_never_exceeded() -> None:
    trying = RouteTry(step(2.0), 0, up(4), 100.0)
    trying.take(100.0)
    now = 105.0
    taken = trying.take(now)
    assert taken is not None
    assert now + taken[1] + taken[2] == pytest.approx(108.0, abs=0.02)
    assert taken[1] >= LEAST_SHARE
    assert trying.take(107.6) is None, "no time in which anybody could answer"


@pytest.mark.parametrize("timeout", [0.01, 0.05, 0.3, 0.5, 1.237, 2.0, 4.006, 30.0])
def test_one_place_has_all_of_the_time_of_its_route(timeout: float) -> None:
    hops = up(1)
    at_once, a_moment_later = (RouteTry(step(timeout), 0, hops, 100.0) for _ in range(2))
    assert at_once.take(100.0) == a_moment_later.take(100.0 + 2e-14)  # the latter found the long way
    assert at_once.taken == a_moment_later.taken == 1
    assert at_once.take(100.0) is None
