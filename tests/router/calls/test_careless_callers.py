"""Emergency callers as they are: odd spellings are served, and passed on as written."""

from pathlib import Path

import pytest

from e911.record import CallIntent
from tests.support.call_world import PHONE, PROVIDER_A, SDP, CallWorld, cancel_of, invite, of, one, response
from tests.support.sip_text import Message

ODD = [
    "INVITE 911 SIP/2.0",
    "vIa: SIP / 2.0 / UDP 10.1.3.7:5060",
    "MAX-FORWARDS: 70",
    "from: sip:4102@pbx.example.com;tag=f1",
    "tO :  sip:911@pbx.example.com",
    "call-id: odd-1",
    "cSEQ:  1   INVITE",
    "CONTACT: sip:4102@10.1.3.7:5060",
    "x-own:   as   written",
    "content-TYPE: application/sdp",
    f"content-length: {len(SDP)}",
]


def raw(lines: list[str], body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode() + body


def changed(method: str, *replaced: tuple[str, str]) -> bytes:
    """Another request of the same phone in the same style."""
    lines = [line for line in ODD if not line.lower().startswith(("content", "x-own"))]
    lines = [line.replace("INVITE", method) for line in lines]
    for before, after in replaced:
        lines = [line.replace(before, after) for line in lines]
    return raw([*lines, "content-length: 0"])


def answer_call(world: CallWorld) -> tuple[Message, Message]:
    sent = one(world.receive(raw(ODD, SDP)), "INVITE").message
    return sent, one(world.receive(response(sent, 200), PROVIDER_A), 200).message


def test_it_is_served_and_passed_on_as_written(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(raw(ODD, SDP))
    assert one(out, 100).to == PHONE
    sent = one(out, "INVITE")
    assert sent.to == PROVIDER_A
    assert sent.message.start == "INVITE sip:911@203.0.113.31:5060 SIP/2.0"
    for line in (*ODD[3:8], ODD[8]):
        assert f"\r\n{line}\r\n".encode() in sent.message.raw, line
    assert b"10.1.3.7:5060" in sent.message.raw
    assert sent.message.get("geolocation")
    intent = world.events(CallIntent)[0]
    assert (intent.caller.number, intent.dialled) == ("4102", "911")
    (answered,) = of(world.receive(response(sent.message, 200), PROVIDER_A), 200)
    assert answered.to == PHONE
    assert b"\r\nVia: SIP" in answered.message.raw or b"\r\nvIa: SIP" in answered.message.raw


def test_a_retransmission_is_one(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    world.receive(raw(ODD, SDP))
    assert not of(world.receive(raw(ODD, SDP)), "INVITE")
    assert len(world.events(CallIntent)) == 1


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = one(world.receive(raw(ODD, SDP)), "INVITE").message
    world.receive(response(sent, 180), PROVIDER_A)
    out = world.receive(changed("CANCEL"))
    assert one(out, 200).to == PHONE
    assert one(out, "CANCEL").to == PROVIDER_A


@pytest.mark.parametrize("branch", ["z9hG4bKof-its-own", "IdOfItsOwn"])
def test_a_cancel_with_a_branch_of_its_own_ends_the_callers_call_and_nobody_elses(
    tmp_path: Path, branch: str
) -> None:
    world = CallWorld(tmp_path)
    call = invite(number=1)
    sent = one(world.receive(call), "INVITE").message
    world.receive(response(sent, 180), PROVIDER_A)
    cancel = cancel_of(call).replace(b"z9hG4bKt1", branch.encode())
    assert of(world.receive(cancel, ("10.1.3.8", 5060)), 481), "another address"
    assert of(world.receive(cancel.replace(b"tag=f1", b"tag=f2").replace(b"branch=", b"branch=x")), 481)
    out = world.receive(cancel.replace(b"branch=", b"branch=y"))
    assert of(out, 200)
    assert one(out, "CANCEL").to == PROVIDER_A
    out = world.receive(response(sent, 487), PROVIDER_A)
    assert one(out, 487).message.branch == "z9hG4bKt1", "it answers the INVITE"


def test_a_cancel_with_a_branch_of_its_own_ends_no_call_that_came_by_several_ways(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    call = invite(number=1)
    sent = one(world.receive(call), "INVITE").message
    world.receive(response(sent, 180), PROVIDER_A)
    world.receive(call.replace(b"z9hG4bKt1", b"z9hG4bKsecond"))
    assert of(world.receive(cancel_of(call).replace(b"z9hG4bKt1", b"z9hG4bKthird")), 481)
    assert of(world.receive(response(sent, 200), PROVIDER_A), 200)


@pytest.mark.parametrize("tag", ["", ";tag=psap", ";tag=invented"])
def test_what_follows_reaches_the_psap(tmp_path: Path, tag: str) -> None:
    world = CallWorld(tmp_path)
    answer_call(world)
    to = ("tO :  sip:911@pbx.example.com", f"tO :  sip:911@pbx.example.com{tag}")
    ack = one(world.receive(changed("ACK", to)), "ACK")
    assert ack.message.start == "ACK sip:psap@203.0.113.31:5060 SIP/2.0"
    bye = one(world.receive(changed("BYE", to, ("1   BYE", "2   BYE"))), "BYE")
    assert bye.message.start == "BYE sip:psap@203.0.113.31:5060 SIP/2.0"
    assert "tag=psap" in bye.message.get("to")
    assert len(world.events(CallIntent)) == 1


@pytest.mark.parametrize(
    "uri", ["911", "sip:911", "SIP:911@10.0.0.5", "<sip:911@10.0.0.5>", "tel:911", "URN:SERVICE:SOS"]
)
def test_request_uris(tmp_path: Path, uri: str) -> None:
    world = CallWorld(tmp_path)
    lines = [f"INVITE {uri} SIP/2.0", *ODD[1:]]
    assert one(world.receive(raw(lines, SDP)), "INVITE").to == PROVIDER_A


def test_every_route_failed(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={"routes": [{"name": "a", "trunk": "ers-a"}], "default": {"site": "hq"}})
    sent = one(world.receive(raw(ODD, SDP)), "INVITE").message
    failed = one(world.receive(response(sent, 404), PROVIDER_A), 503)
    assert failed.to == PHONE
    tag = failed.message.get("to").partition("tag=")[2]
    assert not world.receive(
        changed("ACK", ("tO :  sip:911@pbx.example.com", f"tO: sip:911@pbx.example.com;tag={tag}"))
    )
    assert not of(world.advance(40.0), 503), "acknowledged: not sent again"


ONE_BRANCH = b"z9hG4bKfixed"


def with_one_branch(number: int, *replaced: tuple[bytes, bytes]) -> bytes:
    raw = invite(number=number).replace(b"z9hG4bKt%d" % number, ONE_BRANCH)
    for before, after in replaced:
        raw = raw.replace(before, after)
    return raw


@pytest.mark.parametrize("status", [0, 180, 200, 503])
def test_a_phone_whose_branch_is_always_the_same_dials_911_again(tmp_path: Path, status: int) -> None:
    world = CallWorld(tmp_path, emergency={"routes": [{"name": "a", "trunk": "ers-a"}], "default": {"site": "hq"}})
    sent = one(world.receive(with_one_branch(1)), "INVITE").message
    if status:
        world.receive(response(sent, status), PROVIDER_A)
    again = one(world.receive(with_one_branch(2)), "INVITE").message
    assert again.call_id == "call-2"
    assert one(world.receive(response(again, 200), PROVIDER_A), 200).message.call_id == "call-2"
    assert not of(world.receive(with_one_branch(2)), "INVITE"), "a retransmission is one still"


@pytest.mark.parametrize("status", [200, 404])
def test_and_again_in_the_same_call(tmp_path: Path, status: int) -> None:
    world = CallWorld(tmp_path, emergency={"routes": [{"name": "a", "trunk": "ers-a"}], "default": {"site": "hq"}})
    sent = one(world.receive(with_one_branch(1)), "INVITE").message
    world.receive(response(sent, status), PROVIDER_A)
    to = ((b"sip:911@pbx.example.com>", b"sip:911@pbx.example.com>;tag=psap"),) if status == 200 else ()
    again = one(world.receive(with_one_branch(1, (b"1 INVITE", b"2 INVITE"), *to)), "INVITE").message
    assert again.get("cseq") == "2 INVITE"
    answered = world.receive(response(again, 200), PROVIDER_A)
    assert one(answered, 200).message.get("cseq") == "2 INVITE"
