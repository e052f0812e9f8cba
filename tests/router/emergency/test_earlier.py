"""Calls that rang when the process was killed: CANCEL, refusals and answers find them after the restart."""

from pathlib import Path

import pytest

from e911.record import CallEnded, CallOutcome
from router.emergency.earlier import earlier_calls, read_earlier_calls
from router.journal.segments import segment_path, segments
from router.journal.writer import JournalWriter
from tests.support.call_world import (
    CLOCK,
    PHONE,
    PROVIDER_A,
    PROVIDER_B,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def dial(world: CallWorld) -> tuple[bytes, Sent]:
    raw = invite()
    return raw, one(world.receive(raw), "INVITE", PROVIDER_A)


def answer(world: CallWorld, sent: Sent, status: int, **options: object) -> list[Sent]:
    return world.receive(response(sent.message, status, **options), sent.to)  # type: ignore[arg-type]  # by name


def ended(world: CallWorld) -> list[tuple[CallOutcome, int, str]]:
    return [(event.outcome, event.status, event.route) for event in world.events(CallEnded)]


def test_a_cancel_reaches_the_provider_that_rings(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    world.restart()
    out = world.receive(cancel_of(raw))
    assert one(out, 200).to == PHONE
    sent = one(out, "CANCEL", PROVIDER_A)
    cancel = sent.message
    assert cancel.uri == first.message.uri
    assert cancel.all("via")[0] == first.message.all("via")[0], "the branch of before (RFC 3261 section 9.1)"
    assert cancel.get("to") == first.message.get("to")
    assert cancel.get("cseq") == "1 CANCEL"
    answer(world, sent, 200)
    out = answer(world, first, 487)
    assert one(out, "ACK", PROVIDER_A).message.branch == first.message.branch
    assert one(out, 487).to == PHONE
    assert ended(world) == [(CallOutcome.CANCELLED, 487, "primary")]


def test_a_cancel_reaches_every_route_that_may_still_answer(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 100)
    second = one(world.advance(6.1), "INVITE", PROVIDER_B)
    world.restart()
    out = world.receive(cancel_of(raw))
    assert {sent.to for sent in of(out, "CANCEL")} == {PROVIDER_A, PROVIDER_B}
    answer(world, first, 487)
    assert one(answer(world, second, 487), 487).to == PHONE


def test_a_cancel_crossed_by_the_answer_loses_no_call(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    world.restart()
    world.receive(cancel_of(raw))
    assert one(answer(world, first, 200), 200).to == PHONE
    assert ended(world) == [(CallOutcome.ANSWERED, 200, "primary")]


@pytest.mark.parametrize("state", ["answered", "refused", "cancelled", "unknown", "old"])
def test_a_cancel_of_nothing_that_is_under_way_is_481(world: CallWorld, state: str) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    if state == "answered":
        answer(world, first, 200)
    elif state == "refused":
        for step in range(3):
            first = (of(answer(world, first, 603), "INVITE") or [first])[0]
            assert step < 2 or ended(world)
    elif state == "cancelled":
        world.receive(cancel_of(raw))
        answer(world, first, 487)
    elif state == "unknown":
        raw = invite()
    else:
        world.router.write_waiting()
        world.now += 700.0
    world.restart()
    out = world.receive(cancel_of(raw))
    assert one(out, 481).to == PHONE
    assert not of(out, "CANCEL")


def test_an_answer_is_the_call_and_the_others_are_cancelled(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 100)
    second = one(world.advance(6.1), "INVITE", PROVIDER_B)
    world.restart()
    assert one(answer(world, second, 180), 180).to == PHONE
    assert one(world.sent() + answer(world, second, 200), 200).to == PHONE
    assert ended(world) == [(CallOutcome.ANSWERED, 200, "backup")]
    out = answer(world, first, 200, tag="late")
    assert one(out, 200).to == PHONE
    assert of(world.advance(2.1), "BYE", PROVIDER_A), "a second answer that nobody takes is hung up"


def test_a_refusal_is_not_the_end_while_another_may_answer(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    world.restart()
    out = answer(world, first, 486)
    assert one(out, "ACK", PROVIDER_A)
    assert not of(out, 486)
    assert one(answer(world, second, 200), 200).to == PHONE


def test_where_all_failed_the_caller_gets_503_of_ours_and_the_contacts_are_told(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    world.restart()
    final = one(answer(world, first, 503, extra=("Retry-After: 60",)), 503)
    assert final.to == PHONE
    assert not final.message.all("retry-after")
    assert ended(world) == [(CallOutcome.FAILED, 503, "")]
    assert one(world.receive(raw), 503), "the INVITE again: the same answer"


def test_silence_after_the_restart_ends_too(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 100)
    second = one(world.advance(6.1), "INVITE", PROVIDER_B)
    world.restart()
    answer(world, second, 503)
    assert of(world.advance(33), 503), "of the first nothing was heard any more"
    assert ended(world) == [(CallOutcome.FAILED, 503, "")]
    world.advance(200)
    assert not world.router.stack.servers
    assert not world.router.stack.clients


def test_ringing_has_no_limit_after_the_restart_either(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 180)
    world.restart()
    answer(world, first, 180)
    world.advance(400)
    assert one(answer(world, first, 200), 200).to == PHONE


def test_an_invite_that_comes_again_is_the_same_to_the_provider_to_the_byte(world: CallWorld) -> None:
    raw, first = dial(world)
    world.advance(1.3)
    world.restart()
    assert one(world.receive(raw), "INVITE", PROVIDER_A).message.raw == first.message.raw


def test_a_503_to_an_ordinary_call_of_before_carries_no_retry_after(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    world.restart()
    final = one(answer(world, sent, 503, extra=("Retry-After: 60",)), 503)
    assert not final.message.all("retry-after")


def test_the_end_of_the_journal_is_read_whatever_it_holds(world: CallWorld, tmp_path: Path) -> None:
    _, first = dial(world)
    answer(world, first, 180)
    world.router.write_waiting()
    folder = tmp_path / "journal"
    writer = JournalWriter(folder, "test")
    writer.append_all(world.journal.events[:1])
    writer.roll()
    writer.append_all(world.journal.events[1:])
    writer.close()
    call = world.journal.events[0].id
    now = CLOCK + world.now
    assert read_earlier_calls(folder, now).take(call) is not None
    assert read_earlier_calls(folder, now).take(call, b"9") is None
    assert not read_earlier_calls(folder, now + 601)
    assert not read_earlier_calls(tmp_path / "missing", now)
    with segment_path(folder, segments(folder)[-1]).open("ab") as file:
        file.write(b'{"type":"ended","id":"' + b"\xff\x00 torn")
    assert read_earlier_calls(folder, now).take(call) is not None


def test_a_journal_of_an_older_version_resumes_nothing(world: CallWorld) -> None:
    """Its events do not say where an INVITE went."""
    dial(world)
    world.router.write_waiting()
    for event in world.journal.events:
        if hasattr(event, "label"):
            object.__setattr__(event, "label", "")
    calls = earlier_calls(world.journal.events, 0.0)
    assert calls.take(world.journal.events[0].id) is None
