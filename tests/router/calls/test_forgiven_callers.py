"""911 calls of phones that write SIP wrongly: served with what was meant, and answered as they wrote it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from e911.record import CallIntent, CallRefused
from tests.support.call_world import PHONE, PROVIDER_A, SDP, CallWorld, cancel_of, invite, of, one, response

Spoil = Callable[[bytes], bytes]
ORDINARY = "sip:2125550177@10.0.0.5"


def swapped(before: bytes, after: bytes) -> Spoil:
    def spoil(raw: bytes) -> bytes:
        assert before in raw
        return raw.replace(before, after, 1)

    return spoil


def twice(name: bytes) -> Spoil:
    def spoil(raw: bytes) -> bytes:
        (line,) = [line for line in raw.split(b"\r\n") if line.startswith(name + b":")]
        return raw.replace(line, line + b"\r\n" + line)

    return spoil


def small_method(raw: bytes) -> bytes:
    method, _, rest = raw.partition(b" ")
    return method.lower() + b" " + rest


def small_cseq(raw: bytes) -> bytes:
    line = next(line for line in raw.split(b"\r\n") if line.startswith(b"CSeq"))
    return raw.replace(line, line[:4] + line[4:].lower())


def both_small(raw: bytes) -> bytes:
    return small_cseq(small_method(raw))


def number_of_a_clock(raw: bytes) -> bytes:
    line = next(line for line in raw.split(b"\r\n") if line.startswith(b"CSeq"))
    number, method = line.split()[1:]
    return raw.replace(line, b"CSeq: %d %b" % (1_795_000_000_000 + int(number), method))


MISTAKES: dict[str, Spoil] = {
    "method in small letters": small_method,
    "CSeq in small letters": small_cseq,
    "both in small letters": both_small,
    "CSeq by a clock": number_of_a_clock,
    "From twice": twice(b"From"),
    "To twice": twice(b"To"),
    "Call-ID twice": twice(b"Call-ID"),
    "CSeq twice": twice(b"CSeq"),
    "Via with port 0": swapped(b"10.1.3.7:5060;", b"10.1.3.7:0;"),
    "Via with port 70000": swapped(b"10.1.3.7:5060;", b"10.1.3.7:70000;"),
    "Via with an IPv6 address without brackets": swapped(b"10.1.3.7:5060;", b"2001:db8::7;"),
    "Via with nothing but a branch": swapped(b"SIP/2.0/UDP 10.1.3.7:5060;", b"SIP/2.0/UDP;"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_911_call_with_a_mistake_is_served_from_its_invite_to_its_bye(tmp_path: Path, mistake: str) -> None:
    world, spoil = CallWorld(tmp_path), MISTAKES[mistake]
    raw = spoil(invite(number=1))
    out = world.receive(raw)
    assert one(out, 100).to == PHONE
    assert one(out, 100).message.branch == "z9hG4bKt1"
    sent = one(out, "INVITE")
    assert sent.to == PROVIDER_A
    assert [len(sent.message.all(name)) for name in ("from", "to", "call-id", "cseq", "via")] == [1, 1, 1, 1, 2]
    number, method = sent.message.get("cseq").split()
    assert (method, int(number) < 2**31) == ("INVITE", True)
    assert not of(world.receive(raw), "INVITE"), "a retransmission"
    answered = one(world.receive(response(sent.message, 200), PROVIDER_A), 200)
    assert answered.to == PHONE
    for name in (b"Via", b"CSeq"):
        (written, *_) = [line for line in raw.split(b"\r\n") if line.startswith(name)]
        assert b"\r\n" + written in answered.message.raw, "as the phone wrote it"
    routes = sent.message.all("record-route")
    for method in ("ACK", "BYE"):
        request = world.in_dialog(sent.message, method, "sip:psap@203.0.113.31:5060", routes)
        assert one(world.receive(spoil(request)), method).to == PROVIDER_A
    assert len(world.events(CallIntent)) == 1
    assert not world.events(CallRefused)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_such_a_call_is_cancelled_as_any_other(tmp_path: Path, mistake: str) -> None:
    world, spoil = CallWorld(tmp_path), MISTAKES[mistake]
    raw = invite(number=1)
    sent = one(world.receive(spoil(raw)), "INVITE")
    world.receive(response(sent.message, 180), PROVIDER_A)
    out = world.receive(spoil(cancel_of(raw)))
    assert one(out, 200).to == PHONE
    assert one(out, "CANCEL").to == PROVIDER_A


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_ordinary_call_with_it_is_not_passed_on(tmp_path: Path, mistake: str) -> None:
    world = CallWorld(tmp_path)
    assert not of(world.receive(MISTAKES[mistake](invite(ORDINARY))), "INVITE")


def test_a_refusal_of_ours_is_acknowledged_by_such_a_phone(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={"routes": [{"name": "a", "trunk": "ers-a"}], "default": {"site": "hq"}})
    raw = both_small(invite(number=1))
    sent = one(world.receive(raw), "INVITE")
    failed = one(world.receive(response(sent.message, 404), PROVIDER_A), 503)
    assert failed.message.get("cseq") == "1 invite"
    ack = cancel_of(invite(number=1)).replace(b"CANCEL", b"ACK")
    to = failed.message.get("to").encode()
    world.receive(both_small(ack.replace(b"To: <sip:911@pbx.example.com>", b"To: " + to)))
    assert not of(world.advance(40.0), 503), "acknowledged: not sent again"


LENGTHS: dict[str, Spoil] = {
    "longer than what came": swapped(b"Content-Length: %d" % len(SDP), b"Content-Length: 999"),
    "no number": swapped(b"Content-Length: %d" % len(SDP), b"Content-Length: x"),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("status", [183, 200])
def test_a_provider_whose_body_has_another_length_is_heard(tmp_path: Path, status: int, length: str) -> None:
    """RFC 3261 section 18.3 discards such a datagram: the PSAP would have answered, and the caller hear ringing."""
    world = CallWorld(tmp_path)
    sent = one(world.receive(invite()), "INVITE")
    answer = LENGTHS[length](response(sent.message, status, body=SDP))
    heard = one(world.receive(answer, PROVIDER_A), status)
    assert heard.to == PHONE
    assert heard.message.get("content-length") == str(len(SDP))
    assert heard.message.body == SDP
    assert not world.router.stack.drops


def test_that_of_an_ordinary_call_is_discarded(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = one(world.receive(invite(ORDINARY)), "INVITE")
    answer = LENGTHS["longer than what came"](response(sent.message, 200, body=SDP))
    assert not of(world.receive(answer, sent.to), 200)
    assert world.router.stack.drops == {"body-incomplete": 1}
