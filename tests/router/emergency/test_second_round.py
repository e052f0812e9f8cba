"""All routes refuse a 911 call at once, or cannot be reached: they are tried once more, a second later."""

from pathlib import Path
from typing import Any

import pytest

from e911.record import CallEnded, CallOutcome, RouteEvent
from tests.support.call_world import (
    CONFIG,
    PHONE,
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


def answer(world: CallWorld, sent: Sent, status: int) -> list[Sent]:
    return world.receive(response(sent.message, status), sent.to)


def refused_by_all(world: CallWorld, *statuses: int, raw: bytes = b"") -> tuple[Sent, list[Sent]]:
    """The first INVITE of a call that routes refuse with these statuses, and what goes out after the last of them."""
    out = world.receive(raw or invite())
    first = one(out, "INVITE")
    sent = first
    for status in statuses:
        sent = one(out, "INVITE")
        out = answer(world, sent, status)
    return first, out


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_provider_that_is_back_after_a_second_has_the_call(tmp_path: Path, status: int) -> None:
    world = CallWorld(tmp_path)
    first, out = refused_by_all(world, status, status, status)
    assert not of(out, 503), "the caller waits"
    assert not world.advance(0.99)
    again = one(world.advance(0.02), "INVITE")
    assert again.to == PROVIDER_A
    assert again.message.branch != first.message.branch
    assert again.message.get("geolocation")
    assert one(answer(world, again, 180), 180).to == PHONE
    assert one(answer(world, again, 200), 200).to == PHONE
    started = [(e.route, e.attempt, e.reason) for e in world.events(RouteEvent) if e.outcome == "started"]
    assert started == [("primary", 0, ""), ("backup", 0, ""), ("relay", 0, ""), ("primary", 1, "second-round")]
    assert world.router.counts["second_rounds"] == 1


def test_closed_ports_are_asked_once_more_too(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(invite())
    for _ in range(3):
        out = world.unreachable(one(out, "INVITE"))
    assert not out
    assert one(world.advance(1.01), "INVITE").to == PROVIDER_A


def test_there_is_no_third_round(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    refused_by_all(world, 503, 503, 503)
    out = world.advance(1.01)
    for _ in range(3):
        assert not of(out, 503)
        out = answer(world, one(out, "INVITE"), 503)
    assert one(out, 503).to == PHONE
    assert not of(world.advance(60), "INVITE")
    (ended,) = world.events(CallEnded)
    assert ended.outcome is CallOutcome.FAILED


def test_only_what_a_repetition_may_cure_is_repeated(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    refused_by_all(world, 603, 503, 404)
    again = one(world.advance(1.01), "INVITE")
    assert again.to == PROVIDER_B
    assert one(answer(world, again, 503), 503).to == PHONE


@pytest.mark.parametrize("statuses", [(603, 486, 404), (501, 505, 513), (408, 480, 302)])
def test_refusals_for_good_are_told_at_once(tmp_path: Path, statuses: tuple[int, ...]) -> None:
    world = CallWorld(tmp_path)
    _, out = refused_by_all(world, *statuses)
    assert one(out, 503).to == PHONE


def test_who_has_waited_for_silence_waits_no_longer(tmp_path: Path) -> None:
    """So that a PBX tries its next trunk."""
    world = CallWorld(tmp_path)
    world.receive(invite())
    backup = one(world.advance(2.01), "INVITE", PROVIDER_B)
    relay = one(answer(world, backup, 503), "INVITE", RELAY)
    assert one(answer(world, relay, 503), 503).to == PHONE


def test_a_caller_who_cancels_meanwhile_is_done(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    refused_by_all(world, 503, 503, 503, raw=raw)
    out = world.receive(cancel_of(raw))
    assert one(out, 200)
    assert one(out, 487).to == PHONE
    assert not of(world.advance(60), "INVITE")


def test_the_invite_sent_once_more_meanwhile_begins_no_second_call(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    refused_by_all(world, 503, 503, 503, raw=raw)
    assert one(world.receive(raw), 100)
    assert one(world.advance(1.01), "INVITE").to == PROVIDER_A


def test_a_test_call_is_told_the_truth_at_once(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    _, out = refused_by_all(world, 503, 503, raw=invite("sip:933@10.0.0.5"))
    assert one(out, 503).to == PHONE


def test_who_is_silent_in_the_second_round_costs_a_second(tmp_path: Path) -> None:
    emergency: dict[str, Any] = {**CONFIG["emergency"], "basic": []}
    world = CallWorld(tmp_path, emergency=emergency)
    refused_by_all(world, 503, 503)
    out = world.advance(1 + 1 + 1 - 0.01)
    assert not of(out, 503)
    assert {sent.to for sent in of(out, "INVITE")} == {PROVIDER_A, PROVIDER_B}
    assert of(world.advance(0.02), 503)


def test_who_says_100_in_the_second_round_has_its_time_to_ring(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    refused_by_all(world, 503, 503, 503)
    again = one(world.advance(1.01), "INVITE", PROVIDER_A)
    answer(world, again, 100)
    assert not of(world.advance(5.9), "INVITE")
    assert one(answer(world, again, 180), 180).to == PHONE
