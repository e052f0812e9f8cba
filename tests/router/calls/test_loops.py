"""Requests that come back: loops and spirals (RFC 3261 16.3 step 4, RFC 5393), Max-Breadth, Max-Forwards.

Proved: what comes back and would go the same way again gets 482, what was retargeted meanwhile goes on; a 911 call
whose route leads back to us goes on to the next route; a Via that somebody made up is not believed.
"""

from pathlib import Path

import pytest

from e911.record import CallIntent, CallRefused
from tests.support.call_world import (
    CARRIER,
    PBX,
    PHONE,
    PROVIDER_A,
    PROVIDER_B,
    CallWorld,
    Sent,
    invite,
    of,
    one,
    response,
)


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def back(sent: Sent, *, uri: str = "", via: str = "") -> bytes:
    """The INVITE as a proxy behind the trunk sends it to us again."""
    raw = sent.message.raw
    if uri:
        raw = raw.replace(sent.message.start.split(" ")[1].encode(), uri.encode(), 1)
    start, rest = raw.split(b"\r\n", 1)
    top = f"Via: SIP/2.0/UDP {sent.to[0]}:{sent.to[1]};branch=z9hG4bKpeer1".encode() if via == "" else b""
    return b"\r\n".join([start, *([top] if top else []), rest])


def test_an_ordinary_call_that_comes_back_is_a_loop(world: CallWorld) -> None:
    out = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    final = one(world.receive(back(out), CARRIER), 482)
    assert "loop-detected" in final.message.get("warning")
    assert world.router.stack.drops == {"loop-detected": 1}


def test_one_that_was_retargeted_goes_on(world: CallWorld) -> None:
    """A spiral: the carrier forwards the call to a phone of ours."""
    out = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    again = one(world.receive(back(out, uri="sip:2125550142@10.0.0.5"), CARRIER), "INVITE")
    assert again.to == PBX
    third = one(world.receive(back(again), PBX), 482)
    assert third.to == PBX, "the PBX sent it on as it came: now it loops"


def test_a_route_to_ourselves_is_a_loop(world: CallWorld) -> None:
    out = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    assert one(world.receive(back(out, via="none"), CARRIER), 482)


def test_a_route_field_decides_too(world: CallWorld) -> None:
    """The same Request-URI with another Route would go another way."""
    out = one(world.receive(invite("sip:bob@203.0.113.77")), "INVITE")
    raw = back(out).replace(b"Max-Forwards", b"Route: <sip:10.0.0.5:5060;lr>\r\nMax-Forwards", 1)
    assert not of(world.receive(raw, CARRIER), 482)


@pytest.mark.parametrize("branch", ["z9hG4bKe9" + "0" * 24 + ".n0-00000000", "z9hG4bKe9", "z9hG4bKe9.0-"])
def test_a_via_that_somebody_made_up_makes_no_loop(world: CallWorld, branch: str) -> None:
    forged = (f"Via: SIP/2.0/UDP 10.0.0.5:5060;branch={branch}", "Via: SIP/2.0/UDP 10.1.3.7;branch=z9hG4bKx")
    assert one(world.receive(invite("sip:2125550177@10.0.0.5", extra=forged)), "INVITE")
    assert of(world.receive(invite(extra=forged)), "INVITE"), "nor does it stop a 911 call"


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("sip:911@10.0.0.5", PROVIDER_A),
        ("", PROVIDER_A),
        ("sip:911@10.0.0.5", PBX),
        ("urn:service:sos", ("10.1.9.9", 5060)),
    ],
)
def test_a_911_call_that_comes_back_goes_by_the_next_route(
    world: CallWorld, uri: str, source: tuple[str, int]
) -> None:
    first = one(world.receive(invite()), "INVITE", PROVIDER_A)
    out = world.receive(back(first, uri=uri), source)
    assert not of(out, "INVITE"), "no second call"
    refused = one(out, 482)
    second = world.receive(response(first.message, refused.message.status), PROVIDER_A)
    assert one(second, "INVITE").to == PROVIDER_B
    assert len(world.events(CallIntent)) == 1
    assert not world.events(CallRefused), "nobody is told of a call that is being served"


def test_an_ordinary_call_that_comes_back_as_911_is_one(world: CallWorld) -> None:
    """A PBX rule that turns a speed dial into 911."""
    out = one(world.receive(invite("sip:4103@10.0.0.10")), "INVITE", PBX)
    assert one(world.receive(back(out, uri="sip:911@10.0.0.5"), PBX), "INVITE").to == PROVIDER_A


def test_max_breadth_of_0_is_refused_and_that_of_a_call_to_911_ignored(world: CallWorld) -> None:
    extra = ("Max-Breadth: 0",)
    assert one(world.receive(invite("sip:2125550177@10.0.0.5", extra=extra)), 440)
    assert one(world.receive(invite(extra=extra)), "INVITE").to == PROVIDER_A


def test_max_breadth_is_shared_out_and_none_is_added(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, routes={"outbound": ["carrier", "ers-b"], "inbound": ["pbx"]})
    uri = "sip:2125550177@10.0.0.5"
    plain = one(world.receive(invite(uri)), "INVITE").message
    assert not plain.all("max-breadth")
    world.receive(response(plain, 486), CARRIER)
    first = one(world.receive(invite(uri, extra=("Max-Breadth: 9",))), "INVITE", CARRIER)
    assert first.message.get("max-breadth") == "4"
    second = one(world.advance(4.1), "INVITE", PROVIDER_B)
    assert second.message.get("max-breadth") == "4"
    world.receive(response(second.message, 486), PROVIDER_B)
    alone = one(world.receive(invite(uri, extra=("Max-Breadth: 1",))), "INVITE", CARRIER)
    assert alone.message.get("max-breadth") == "1"
    assert not of(world.advance(10), "INVITE", PROVIDER_B), "no second branch beside a silent first one"
    after = one(world.receive(response(alone.message, 503), CARRIER), "INVITE", PROVIDER_B)
    assert after.message.get("max-breadth") == "1", "one after another is no breadth"


def test_a_phone_that_waits_for_the_answer_to_a_non_invite_hears_100(world: CallWorld) -> None:
    """RFC 4320 section 4.1: not before its timer E has reached T2, and then."""
    raw = invite("sip:2125550177@10.0.0.5").replace(b"INVITE", b"MESSAGE")
    sent = one(world.receive(raw), "MESSAGE")
    assert not of(world.advance(3.4), 100)
    assert one(world.advance(0.2), 100).to == PHONE
    assert one(world.receive(response(sent.message, 200), CARRIER), 200)
    assert not of(world.advance(60), 100)
