"""Forking PBXs in front of us: one call to the PSAP, whatever becomes of the ways by which it came."""

from pathlib import Path

from e911.record import CallEnded, CallIntent, CallOutcome
from tests.support.call_world import (
    CARRIER,
    PBX,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    SDP,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)

SECOND = ("10.0.0.10", 5080)


def fork(number: int = 7, uri: str = "sip:911@10.0.0.5") -> tuple[bytes, bytes]:
    """The same INVITE by two ways: another branch, another Via."""
    first = invite(uri, number=number, source=PBX).replace(b"<sip:4102@10.0.0.10:5060>", b"<sip:4102@10.1.3.7:5060>")
    second = first.replace(b"10.0.0.10:5060;branch=z9hG4bKt7", b"10.0.0.10:5080;branch=z9hG4bKother")
    assert first != second
    return first, second


def two(world: CallWorld) -> Sent:
    """A call that came by both ways; the INVITE at the provider."""
    first, second = fork()
    sent = one(world.receive(first, PBX), "INVITE")
    out = world.receive(second, SECOND)
    assert [one.message.start for one in out] == ["SIP/2.0 100 Trying"]
    return sent


def vias(sent: Sent) -> list[str]:
    return [value.partition(";rport")[0] for value in sent.message.all("via")]


def test_it_is_one_call_and_both_ways_hear_of_it(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = two(world)
    for status in (180, 200):
        out = world.receive(response(sent.message, status), PROVIDER_A)
        told = {answer.to: answer for answer in of(out, status)}
        assert set(told) == {PBX, SECOND}
        assert vias(told[PBX]) == ["SIP/2.0/UDP 10.0.0.10:5060;branch=z9hG4bKt7"]
        assert vias(told[SECOND]) == ["SIP/2.0/UDP 10.0.0.10:5080;branch=z9hG4bKother"]
        one_way, other = told.values()
        assert one_way.message.without("via") == other.message.without("via"), "the same answer, the same To tag"
    again = world.receive(response(sent.message, 200), PROVIDER_A)
    assert {answer.to for answer in of(again, 200)} == {PBX, SECOND}, "a 200 that was lost comes again by both"
    assert len(world.events(CallIntent)) == 1
    assert world.router.counts["copies_of_calls"] == 1
    assert not world.router.emergency.being_set_up


def test_a_way_that_opens_while_the_call_rings_hears_so(tmp_path: Path) -> None:
    """A PBX turns to its second way where the answers of the first do not reach it."""
    world = CallWorld(tmp_path)
    first, second = fork()
    sent = one(world.receive(first, PBX), "INVITE")
    world.receive(response(sent.message, 183, body=SDP, extra=("Content-Type: application/sdp",)), PROVIDER_A)
    ringing = one(world.receive(second, SECOND), 183)
    assert ringing.to == SECOND
    assert vias(ringing) == ["SIP/2.0/UDP 10.0.0.10:5080;branch=z9hG4bKother"]
    assert ringing.message.body == SDP
    out = world.receive(response(sent.message, 200), PROVIDER_A)
    assert {answer.to for answer in of(out, 200)} == {PBX, SECOND}


def test_a_way_that_is_given_up_ends_nothing(tmp_path: Path) -> None:
    """A PBX that turned to its second way cancels the first."""
    world = CallWorld(tmp_path)
    first, _ = fork()
    sent = two(world)
    world.receive(response(sent.message, 180), PROVIDER_A)
    out = world.receive(cancel_of(first), PBX)
    assert one(out, 487).to == PBX
    assert not of(out, "CANCEL")
    answered = of(world.receive(response(sent.message, 200), PROVIDER_A), 200)
    assert [answer.to for answer in answered] == [SECOND]
    assert world.events(CallEnded)[0].outcome is CallOutcome.ANSWERED


def test_the_other_way_round(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    _, second = fork()
    sent = two(world)
    world.receive(response(sent.message, 180), PROVIDER_A)
    out = world.receive(cancel_of(second), SECOND)
    assert one(out, 487).to == SECOND
    assert not of(out, "CANCEL")
    assert [answer.to for answer in of(world.receive(response(sent.message, 200), PROVIDER_A), 200)] == [PBX]


def test_both_given_up_cancel_the_call(tmp_path: Path) -> None:
    for order in ((0, 1), (1, 0)):
        world = CallWorld(tmp_path)
        copies, sources = fork(), (PBX, SECOND)
        sent = two(world)
        world.receive(response(sent.message, 180), PROVIDER_A)
        world.receive(cancel_of(copies[order[0]]), sources[order[0]])
        out = world.receive(cancel_of(copies[order[1]]), sources[order[1]])
        assert one(out, "CANCEL").to == PROVIDER_A
        world.receive(response(sent.message, 487), PROVIDER_A)
        assert world.events(CallEnded)[-1].outcome is CallOutcome.CANCELLED


def test_every_route_failed(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    first = two(world)
    second = one(world.receive(response(first.message, 603), PROVIDER_A), "INVITE", PROVIDER_B)
    third = one(world.receive(response(second.message, 486), PROVIDER_B), "INVITE", RELAY)
    failed = world.receive(response(third.message, 404), RELAY)
    assert {answer.to for answer in of(failed, 503)} == {PBX, SECOND}


def test_what_the_caller_can_mend_goes_back_by_both(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = two(world)
    for provider in (PROVIDER_A, PROVIDER_B, RELAY):
        out = world.receive(response(sent.message, 422, extra=("Min-SE: 90",)), provider)
        found = of(out, "INVITE")
        if found:
            sent = found[0]
    assert {answer.to: answer.message.get("min-se") for answer in of(out, 422)} == {PBX: "90", SECOND: "90"}


def test_another_callers_call_is_no_copy(tmp_path: Path) -> None:
    """Phones of one kind have been seen to begin with the same Call-ID and tag."""
    world = CallWorld(tmp_path)
    first, second = fork()
    world.receive(first, PBX)
    other = second.replace(b"m=audio 4000", b"m=audio 4002")
    assert one(world.receive(other, SECOND), "INVITE").to == PROVIDER_A
    assert len(world.events(CallIntent)) == 2


def test_after_the_answer_it_is_a_call_again(tmp_path: Path) -> None:
    """A PBX whose first way lost the answer must not be refused."""
    world = CallWorld(tmp_path)
    first, second = fork()
    sent = one(world.receive(first, PBX), "INVITE")
    world.receive(response(sent.message, 200), PROVIDER_A)
    assert one(world.receive(second, SECOND), "INVITE").to == PROVIDER_A


def test_ordinary_calls_fork_as_they_like(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    first, second = fork(uri="sip:+12125550199@10.0.0.5")
    one_way = one(world.receive(first, PBX), "INVITE", CARRIER)
    other = one(world.receive(second, SECOND), "INVITE", CARRIER)
    assert one_way.message.branch != other.message.branch
    assert of(world.receive(response(other.message, 482), CARRIER), 482)[0].to == SECOND
    assert one(world.receive(response(one_way.message, 200), CARRIER), 200).to == PBX
