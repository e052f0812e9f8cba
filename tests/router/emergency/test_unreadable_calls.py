"""911 calls that are refused because they cannot be read: somebody is told, whatever it is that cannot be read."""

from pathlib import Path

import pytest

from e911.record import CallIntent, CallRefused
from tests.support.call_world import CARRIER, CallWorld, invite, of, one

STRANGER = ("192.0.2.9", 5060)


def without(raw: bytes, name: bytes) -> bytes:
    return b"\r\n".join(line for line in raw.split(b"\r\n") if not line.startswith(name + b":"))


def replaced(raw: bytes, name: bytes, value: bytes) -> bytes:
    lines = [name + b": " + value if line.startswith(name + b":") else line for line in raw.split(b"\r\n")]
    return b"\r\n".join(lines)


MALFORMED = {
    "no To": (lambda raw: without(raw, b"To"), "missing-field"),
    "no From": (lambda raw: without(raw, b"From"), "missing-field"),
    "no CSeq": (lambda raw: without(raw, b"CSeq"), "missing-field"),
    "no Call-ID": (lambda raw: without(raw, b"Call-ID"), "missing-field"),
    "CSeq of another method": (lambda raw: replaced(raw, b"CSeq", b"1 BYE"), "cseq-method-mismatch"),
    "CSeq that is none": (lambda raw: replaced(raw, b"CSeq", b"x INVITE"), "bad-cseq"),
    "From twice": (lambda raw: raw.replace(b"\r\nTo:", b"\r\nFrom: <sip:b@c>;tag=2\r\nTo:"), "repeated-field"),
    "another version": (lambda raw: raw.replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n", 1), "bad-version"),
    "too many fields": (lambda raw: raw.replace(b"\r\nTo:", b"\r\nX: 1" * 600 + b"\r\nTo:"), "header-too-large"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_911_call_that_cannot_be_read_is_refused_recorded_and_told(tmp_path: Path, what: str) -> None:
    spoil, reason = MALFORMED[what]
    world = CallWorld(tmp_path)
    out = world.receive(spoil(invite()))
    assert not of(out, "INVITE")
    answered = out[0].message
    assert f'"{reason}: ' in answered.get("warning")
    assert world.router.stack.drops == {reason: 1}
    (refused,) = world.events(CallRefused)
    assert (refused.reason, refused.contacts, refused.site) == ("malformed", ("desk",), "hq")
    assert refused.status == answered.status
    assert refused.dialled == "911"
    if what not in ("no From", "From twice"):
        assert refused.caller.number == "4102"
    assert world.router.counts["emergency_refused_malformed"] == 1
    assert not world.router.counts["faults"]


def test_one_without_a_via_is_told_though_nobody_can_be_answered(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    assert not world.receive(without(invite(), b"Via"))
    assert [event.reason for event in world.events(CallRefused)] == ["malformed"]


def test_nobody_is_told_of_strangers_and_of_what_is_no_911_call(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    for source in (CARRIER, STRANGER):
        world.receive(without(invite(source=source), b"CSeq"), source)
    world.receive(without(invite("sip:5551212@example.com"), b"CSeq"))
    world.receive(without(invite("sip:933@10.0.0.5"), b"CSeq"))
    in_dialog = without(invite(), b"CSeq").replace(b"\r\nCall-ID:", b";tag=there\r\nCall-ID:")
    assert b"tag=there" in in_dialog
    world.receive(in_dialog)
    assert not world.events(CallRefused)


def test_a_911_call_that_is_forgiven_is_no_refused_one(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(invite(extra=("no field at all",)))
    assert one(out, "INVITE")
    assert world.events(CallIntent)
    assert not world.events(CallRefused)
