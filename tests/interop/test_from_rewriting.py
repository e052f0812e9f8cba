"""Providers that want the callback number in From: on the wire, from both sides, and after a restart."""

import re

import pytest

from tests.support.raw_sip import sdp
from tests.support.sip_text import Message
from tests.support.sipp import running
from tests.support.world import Place, Plan, World

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("from-rewriting")]

FILES = {"by-from.yaml": 'from_uri: "sip:{callback}@{domain}"\n'}
PLANS = {
    "raw": Plan(profile="by-from.yaml"),
    "reinvite": Plan(profile="by-from.yaml"),
    "bye-by-psap": Plan(profile="by-from.yaml"),
}


def shown(place: Place) -> str:
    return f"sip:{place.callback}@test-node.edge911.internal"


def uri(value: str) -> str:
    found = re.search(r"<([^>]*)>", value)
    assert found, value
    return found[1]


def test_reinvites_and_byes_from_both_sides_across_a_restart(the_world: World) -> None:
    place = the_world["raw"]
    own = f"sip:{place.device}@pbx.example.com"
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call = place.call(phone)
        call.dial()
        invite = psap.take("INVITE")
        assert uri(invite.message.get("from")) == shown(place)
        assert invite.message.tag("from") == call.tag
        psap.respond(invite, 180)
        psap.respond(invite, 200, body=sdp(psap.at.address))
        assert uri(phone.take(180, call_id=call.call_id).message.get("from")) == own
        assert uri(call.answered().get("from")) == own
        assert uri(psap.take("ACK").message.get("from")) == shown(place)

        def caller_reinvites() -> None:
            raw = call.in_dialog(
                "INVITE", f"Contact: <sip:{call.user}@{phone.at}>", body=sdp(phone.at.address, 40002)
            )
            call.send(raw)
            again = psap.take("INVITE")
            assert uri(again.message.get("from")) == shown(place)
            psap.respond(again, 200, body=sdp(psap.at.address))
            answer = phone.take(200, call_id=call.call_id).message
            assert uri(answer.get("from")) == own
            call.send(call.in_dialog("ACK", cseq=int(answer.get("cseq").split()[0])))
            assert uri(psap.take("ACK").message.get("from")) == shown(place)

        def psap_asks(method: str, number: int) -> None:
            """A request of the PSAP's, by the Record-Route of the INVITE it got."""
            routes = [value.strip() for line in invite.message.all("record-route") for value in line.split(",")]
            lines = [
                f"{method} {uri(invite.message.get('contact'))} SIP/2.0",
                f"Via: SIP/2.0/UDP {psap.at};branch=z9hG4bKpsap{number}",
                *(f"Route: {route}" for route in routes),
                f"From: {invite.message.get('to')};tag=to-{psap.at.port}",
                f"To: {invite.message.get('from')}",
                f"Call-ID: {call.call_id}",
                f"CSeq: {number} {method}",
                f"Contact: <sip:911@{psap.at}>",
                "Max-Forwards: 70",
                "Content-Length: 0",
                "",
                "",
            ]
            psap.send("\r\n".join(lines).encode(), place.router)
            arrived = phone.take(method, call_id=call.call_id)
            assert uri(arrived.message.get("to")) == own, "the phone is called what it called itself"
            assert arrived.message.tag("to") == call.tag
            phone.respond(arrived, 200)
            answer = psap.take(200, call_id=call.call_id, method=method).message
            assert uri(answer.get("to")) == shown(place)

        caller_reinvites()
        psap_asks("INVITE", 11)
        the_world.router.restart()
        caller_reinvites()
        psap_asks("INVITE", 12)
        psap_asks("BYE", 13)


def test_sipp_as_caller_and_psap(the_world: World) -> None:
    """Two calls: one with a re-INVITE and BYE of the caller's, one that the PSAP ends."""
    reinvited, ended = the_world["reinvite"], the_world["bye-by-psap"]
    peers = (
        reinvited.sipp("psap_answers_reinvite", "provider_a"),
        ended.sipp("psap_hangs_up", "provider_a", pause_ms=200),
    )
    phones = (
        reinvited.caller("caller_reinvites", pause_ms=200, timeout=30),
        ended.caller("caller_is_hung_up_on", timeout=30),
    )
    with running(*peers, *phones):
        for one in (*phones, *peers):
            one.succeed()
    for place, psap, phone in zip((reinvited, ended), peers, phones, strict=True):
        own, seen = f"sip:{place.device}@pbx.example.com", shown(place)
        for method in ("INVITE", "ACK"):
            assert {uri(one.get("from")) for one in psap.requests(method)} == {seen}, method
        answers: list[Message] = [one for one in phone.responses() if one.status >= 180]
        assert answers
        assert {uri(one.get("from")) for one in answers} == {own}
    assert uri(peers[0].request("BYE").get("from")) == shown(reinvited)
    assert uri(phones[1].request("BYE").get("to")) == f"sip:{ended.device}@pbx.example.com"
