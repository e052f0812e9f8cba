"""PRACK, early media, session timers, Replaces and REFER on a 911 call, through the router on the wire, both ways."""

from tests.interop.wire import HOP_BY_HOP, assert_unchanged
from tests.support.raw_sip import Arrived, Call, Peer, sdp
from tests.support.sip_text import Message, parse
from tests.support.world import Place, Plan, World

PLANS = {
    name: Plan()
    for name in ("prack", "update", "timers", "timer-too-short", "replaces", "refer-by-psap", "refer-by-caller")
}


def dial(place: Place, phone: Peer, psap: Peer, *extra: str) -> tuple[Call, Arrived]:
    """A 911 call on its way; the caller's side, and the INVITE at the PSAP."""
    call = place.call(phone)
    call.dial(*extra)
    invite = psap.take("INVITE", call_id=call.call_id)
    for line in extra:
        assert line.encode() in invite.message.raw, "as it was sent"
    return call, invite


def assert_came_back(arrived: Message, sent: bytes) -> None:
    """A response as the PSAP sent it, but for the router's own Via."""
    assert arrived.without("via") == parse(sent).without("via")
    assert arrived.body == parse(sent).body


def by_psap(
    psap: Peer, invite: Message, answer: bytes, method: str, *extra: str, cseq: int = 1, body: bytes = b""
) -> bytes:
    """A request of the PSAP in the dialog of a call (RFC 3261 section 12.2.1.1), as bytes."""
    routes = [value.strip() for line in invite.all("record-route") for value in line.split(",")]
    lines = [
        f"{method} {invite.get('contact').partition('<')[2].partition('>')[0]} SIP/2.0",
        f"Via: SIP/2.0/UDP {psap.at};branch=z9hG4bKpsap-{method}-{cseq}-{invite.call_id}",
        "Max-Forwards: 70",
        *(f"Route: {route}" for route in routes),
        f"From: {parse(answer).get('to')}",
        f"To: {invite.get('from')}",
        f"Call-ID: {invite.call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <sip:911@{psap.at}>",
        *extra,
        *(("Content-Type: application/sdp",) if body else ()),
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def assert_delivered(arrived: Message, sent: bytes, place: Place) -> None:
    """A request in the dialog as it was sent, the router's Via on top and its Route taken off."""
    assert_unchanged(arrived, parse(sent), place)
    assert not [route for route in arrived.all("route") if str(place.router.port) in route]


def test_reliable_provisional_responses_and_early_media(the_world: World) -> None:
    """RFC 3262: 183 with SDP, its PRACK, 180, its PRACK; each end sees what the other sent."""
    place = the_world["prack"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap, "Supported: 100rel", "P-Early-Media: supported")
        for number, status in ((1, 183), (2, 180)):
            body = sdp(psap.at.address, 41000) if status == 183 else b""
            extra = ("Require: 100rel", f"RSeq: {number}")
            sent = psap.respond(invite, status, extra=extra, body=body)
            early = phone.take(status, call_id=call.call_id).message
            assert_came_back(early, sent)
            call.remote = early
            prack = call.in_dialog("PRACK", f"RAck: {number} 1 INVITE")
            call.send(prack)
            arrived = psap.take("PRACK", call_id=call.call_id)
            assert_delivered(arrived.message, prack, place)
            sent = psap.respond(arrived, 200)
            assert_came_back(phone.take(200, call_id=call.call_id, method="PRACK").message, sent)
        psap.respond(invite, 200)
        call.answered()
        psap.take("ACK", call_id=call.call_id)
        call.send(call.in_dialog("BYE"))
        psap.respond(psap.take("BYE", call_id=call.call_id), 200)
        phone.take(200, call_id=call.call_id, method="BYE")


def test_an_early_update_by_either_side(the_world: World) -> None:
    """RFC 3311 before the answer."""
    place = the_world["update"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap, "Supported: 100rel, timer", "Allow: INVITE, ACK, UPDATE, PRACK, BYE")
        early = psap.respond(invite, 183, body=sdp(psap.at.address))
        call.remote = phone.take(183, call_id=call.call_id).message
        update = call.in_dialog("UPDATE", body=sdp(phone.at.address, 40002))
        call.send(update)
        arrived = psap.take("UPDATE", call_id=call.call_id)
        assert_delivered(arrived.message, update, place)
        psap.respond(arrived, 200, body=sdp(psap.at.address))
        phone.take(200, call_id=call.call_id, method="UPDATE")
        back = by_psap(psap, invite.message, early, "UPDATE", body=sdp(psap.at.address, 41004))
        psap.send(back, place.router)
        assert_delivered(phone.take("UPDATE", call_id=call.call_id).message, back, place)


def test_session_timers(the_world: World) -> None:
    """RFC 4028: the timer is agreed end to end, and refreshed by re-INVITE and UPDATE; no refresh is a new call."""
    place = the_world["timers"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap, "Supported: timer", "Session-Expires: 1800", "Min-SE: 90")
        agreed = ("Require: timer", "Session-Expires: 1800;refresher=uac")
        sent = psap.respond(invite, 200, extra=agreed, body=sdp(psap.at.address))
        assert_came_back(call.answered(), sent)
        psap.take("ACK", call_id=call.call_id)
        for method in ("INVITE", "UPDATE"):
            refresh = call.in_dialog(method, "Session-Expires: 1800;refresher=uac", "Supported: timer")
            call.send(refresh)
            arrived = psap.take(method, call_id=call.call_id)
            assert_delivered(arrived.message, refresh, place)
            sent = psap.respond(arrived, 200, extra=agreed)
            assert_came_back(phone.take(200, call_id=call.call_id, method=method).message, sent)
            if method == "INVITE":
                call.send(call.in_dialog("ACK", cseq=2))
                psap.take("ACK", call_id=call.call_id)
        call.send(call.in_dialog("BYE"))
        psap.respond(psap.take("BYE", call_id=call.call_id), 200)
    (record,) = the_world.router.records(call.call_id)
    assert record["intents"] == 1


def test_a_session_interval_that_is_too_small_is_the_callers_to_mend(the_world: World) -> None:
    """422 of every route goes back with its Min-SE; the phone's second try goes through."""
    place = the_world["timer-too-short"]
    with (
        place.peer("phone") as phone,
        place.peer("provider_a") as first,
        place.peer("provider_b") as second,
        place.peer("relay") as relay,
    ):
        call, invite = dial(place, phone, first, "Supported: timer", "Session-Expires: 60", "Min-SE: 60")
        first.respond(invite, 422, extra=("Min-SE: 90",))
        second.respond(second.take("INVITE", call_id=call.call_id), 422, extra=("Min-SE: 90",))
        relay.respond(relay.take("INVITE", call_id=call.call_id), 422, extra=("Min-SE: 90",))
        assert call.refused(422).get("min-se") == "90"
        call.cseq = 2
        call.dial("Supported: timer", "Session-Expires: 90", "Min-SE: 90")
        again = first.take("INVITE", call_id=call.call_id)
        assert again.message.get("cseq") == "2 INVITE"
        first.respond(again, 200)
        call.answered()
        first.take("ACK", call_id=call.call_id)


def test_an_invite_that_replaces_a_call(the_world: World) -> None:
    """RFC 3891: the PSAP's transfer target calls the phone with Replaces; Require: replaces is not the proxy's."""
    place = the_world["replaces"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap)
        answer = psap.respond(invite, 200, body=sdp(psap.at.address))
        call.answered()
        psap.take("ACK", call_id=call.call_id)
        tag = parse(answer).get("to").rpartition("tag=")[2]
        body = sdp(psap.at.address, 41008)
        replacing = (
            "\r\n".join(
                [
                    f"INVITE sip:{call.user}@{phone.at} SIP/2.0",
                    f"Via: SIP/2.0/UDP {psap.at};branch=z9hG4bKreplaces",
                    "Max-Forwards: 70",
                    f"From: <sip:dispatcher@{psap.at}>;tag=d1",
                    f"To: <sip:{call.user}@{phone.at}>",
                    f"Call-ID: replacing-{call.call_id}",
                    "CSeq: 1 INVITE",
                    f"Contact: <sip:dispatcher@{psap.at}>",
                    "Require: replaces",
                    f"Replaces: {call.call_id};to-tag={call.tag};from-tag={tag}",
                    "Content-Type: application/sdp",
                    f"Content-Length: {len(body)}",
                    "",
                    "",
                ]
            ).encode()
            + body
        )
        psap.send(replacing, place.router)
        arrived = phone.take("INVITE", call_id=f"replacing-{call.call_id}")
        assert_unchanged(arrived.message, parse(replacing), place)
        sent = phone.respond(arrived, 200, body=sdp(phone.at.address), contact=f"sip:{call.user}@{phone.at}")
        assert_came_back(psap.take(200, call_id=f"replacing-{call.call_id}").message, sent)
        call.send(call.in_dialog("BYE"))
        psap.respond(psap.take("BYE", call_id=call.call_id), 200)


def test_a_refer_by_the_psap(the_world: World) -> None:
    """RFC 3515 in the dialog of the call: REFER to the phone, its NOTIFYs back; the new call is not ours to judge."""
    place = the_world["refer-by-psap"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap)
        answer = psap.respond(invite, 200, body=sdp(psap.at.address))
        call.answered()
        psap.take("ACK", call_id=call.call_id)
        refer = by_psap(psap, invite.message, answer, "REFER", f"Refer-To: <sip:fire@{psap.at}>")
        psap.send(refer, place.router)
        arrived = phone.take("REFER", call_id=call.call_id)
        assert_delivered(arrived.message, refer, place)
        sent = phone.respond(arrived, 202, extra=(f"Contact: <sip:{call.user}@{phone.at}>",))
        assert_came_back(psap.take(202, call_id=call.call_id, method="REFER").message, sent)
        notify = call.in_dialog(
            "NOTIFY",
            "Event: refer",
            "Subscription-State: active;expires=60",
            body=b"SIP/2.0 100 Trying\r\n",
            content_type="message/sipfrag",
        )
        call.send(notify)
        notified = psap.take("NOTIFY", call_id=call.call_id)
        assert_delivered(notified.message, notify, place)
        psap.respond(notified, 200)
        phone.take(200, call_id=call.call_id, method="NOTIFY")


def test_a_refer_by_the_caller(the_world: World) -> None:
    """The same the other way round."""
    place = the_world["refer-by-caller"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        call, invite = dial(place, phone, psap)
        answer = psap.respond(invite, 200, body=sdp(psap.at.address))
        call.answered()
        psap.take("ACK", call_id=call.call_id)
        refer = call.in_dialog(
            "REFER", "Refer-To: <sip:nurse@pbx.example.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>"
        )
        call.send(refer)
        arrived = psap.take("REFER", call_id=call.call_id)
        assert_delivered(arrived.message, refer, place)
        psap.respond(arrived, 202, extra=(f"Contact: <sip:911@{psap.at}>",))
        phone.take(202, call_id=call.call_id, method="REFER")
        notify = by_psap(psap, invite.message, answer, "NOTIFY", "Event: refer", "Subscription-State: terminated")
        psap.send(notify, place.router)
        notified = phone.take("NOTIFY", call_id=call.call_id).message
        assert_delivered(notified, notify, place)
        assert notified.without(*HOP_BY_HOP) == parse(notify).without(*HOP_BY_HOP)
