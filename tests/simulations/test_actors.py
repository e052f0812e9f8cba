"""The simulated peers: what one sends is what the other gets, and what did not happen is not shown as if it had."""

import asyncio
import smtplib
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

import simulations.demo
from router.records.psap_view import ali_lines, read_ali
from router.trace.ladder_view import Step, draw
from simulations.actor import Actor
from simulations.callee import Callee, Script, sdp
from simulations.calls import Call
from simulations.demo import SCENES, CallReport, Stage, play
from simulations.demo_world import World
from simulations.front_desk import FrontDesk
from simulations.ladder import ladder
from simulations.pbx import Pbx
from simulations.phone import Phone
from simulations.psap import Psap
from sip.message import Request
from sip.parsing import parse_message

QUICK = Script(ring_after=0.0, answer_after=0.01)
SECONDS = 20.0


def in_a_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await work()

    asyncio.run(bounded())


async def started(*actors: Actor) -> None:
    for actor in actors:
        await actor.start()


async def stopped(*actors: Actor) -> None:
    for actor in actors:
        await actor.stop()
        assert actor.faults == []


def lines_of(actor: Actor, *, sent: bool) -> list[bytes]:
    return [seen.data.partition(b"\r\n")[0].split(b" sip:")[0] for seen in actor.log if seen.sent is sent]


def test_a_call_from_invite_to_bye_is_recorded_alike_at_both_ends() -> None:
    async def work() -> None:
        phone, callee = Phone("phone", user="4012", display_name="Nora"), Callee("callee", script=QUICK)
        await started(phone, callee)
        call = phone.dial("911", callee.address)
        await call.answered.wait()
        assert call.ringing.is_set()
        await callee.offered[0].acknowledged.wait()
        assert await call.hang_up()
        assert callee.offered[0].ended.is_set()
        to_callee = [b"INVITE", b"ACK", b"BYE"]
        to_phone = [b"SIP/2.0 100 Trying", b"SIP/2.0 180 Ringing", b"SIP/2.0 200 OK", b"SIP/2.0 200 OK"]
        assert lines_of(phone, sent=True) == lines_of(callee, sent=False) == to_callee
        assert lines_of(callee, sent=True) == lines_of(phone, sent=False) == to_phone
        assert [s.data for s in phone.log if s.sent] == [s.data for s in callee.log if not s.sent]
        await stopped(phone, callee)

    in_a_loop(work)


def test_a_pbx_passes_ringing_answer_and_either_side_hanging_up() -> None:
    async def work(hanging_up: str) -> None:
        callee = Callee("callee", script=QUICK)
        await started(callee)
        pbx = Pbx("pbx", trunk=callee.address)
        await started(pbx)
        phone = Phone("phone", user="4012", display_name="Nora")
        await started(phone)
        call = phone.dial("911", pbx.address)
        await call.answered.wait()
        offered = callee.offered[0]
        await offered.acknowledged.wait()
        trunk_call = pbx.trunk_call_of(call)
        assert trunk_call is not None
        invite = callee.invites[0]
        assert invite.uri == f"sip:911@{callee.hostport}".encode()
        assert call.dialog is not None
        assert invite.call_id != call.dialog.call_id
        assert invite.body == sdp(phone.host)
        assert invite.first("p-asserted-identity") == f'"Nora" <sip:4012@{pbx.hostport}>'.encode()
        ends: dict[str, Call] = {"phone": call, "callee": offered}
        assert await ends.pop(hanging_up).hang_up()
        for other in (*ends.values(), trunk_call):
            await other.ended.wait()
        await stopped(phone, pbx, callee)

    for side in ("phone", "callee"):
        in_a_loop(lambda side=side: work(side))  # type: ignore[misc]  # a default binds the loop variable


def test_a_pbx_passes_refusals_and_cancels() -> None:
    async def work() -> None:
        callee = Callee("callee", script=Script(refuse=503))
        await started(callee)
        pbx = Pbx("pbx", trunk=callee.address)
        phone = Phone("phone", user="4012")
        await started(pbx, phone)
        refused = phone.dial("911", pbx.address)
        await refused.ended.wait()
        assert refused.failure == "503 Service Unavailable"

        callee.script = Script(ring_after=0.0, answer_after=None)
        rung = phone.dial("911", pbx.address)
        await rung.ringing.wait()
        rung.cancel()
        await rung.ended.wait()
        assert rung.failure == "487 Request Terminated"
        await callee.offered[1].ended.wait()
        assert b"CANCEL" in lines_of(callee, sent=False)

        await stopped(callee)
        unreachable = phone.dial("911", pbx.address)
        await unreachable.ended.wait()
        assert unreachable.failure.startswith("503")
        await stopped(pbx, phone)

    in_a_loop(work)


def test_an_unanswered_200_is_sent_again_until_it_is_acknowledged() -> None:
    async def work() -> None:
        callee, phone = Callee("callee", script=QUICK), Phone("phone", user="4012")
        await started(callee, phone)
        acknowledging = asyncio.Event()
        send = phone.send_ack
        phone.send_ack = lambda flow, data: send(flow, data) if acknowledging.is_set() else None  # type: ignore[method-assign]  # an ACK that is lost
        call = phone.dial("911", callee.address)
        await call.answered.wait()
        acknowledging.set()
        await callee.offered[0].acknowledged.wait()
        assert lines_of(callee, sent=True).count(b"SIP/2.0 200 OK") == 2
        assert await call.hang_up()
        await stopped(callee, phone)

    in_a_loop(work)


LOCATION = """<?xml version="1.0" encoding="UTF-8"?><presence xmlns="urn:ietf:params:xml:ns:pidf"
 xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10"
 xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr" entity="pres:a@example.com"><dm:device id="a"><gp:geopriv>
 <gp:location-info><ca:civicAddress><ca:country>US</ca:country><ca:A1>NY</ca:A1><ca:A3>Albany</ca:A3><ca:RD>Lake</ca:RD>
 <ca:HNO>1</ca:HNO><ca:FLR>2</ca:FLR></ca:civicAddress></gp:location-info><gp:usage-rules/><gp:method>Manual</gp:method>
 </gp:geopriv><dm:deviceID>urn:uuid:5b0c1f0e-0000-4000-8000-000000004102</dm:deviceID>
 <dm:timestamp>2030-01-01T03:04:05Z</dm:timestamp></dm:device></presence>"""


def invite(geolocation: str, body: str) -> Request:
    head = (
        "INVITE sip:911@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
        'From: "Ext" <sip:4012@192.0.2.1>;tag=1\r\nTo: <sip:911@192.0.2.9>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n'
        'P-Asserted-Identity: "Nora" <sip:+12125550112@example.com>\r\nContent-Type: multipart/mixed;boundary=b\r\n'
    )
    found = parse_message(f"{head}{geolocation}\r\n{body}".encode())
    assert isinstance(found, Request)
    return found


def shown(request: Request) -> str:
    return "\n".join(ali_lines(read_ali(request, received_at=0.0, received_from="", provider="PSAP")))


def test_the_screen_shows_only_the_location_that_geolocation_names() -> None:
    body = (
        "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: application/pidf+xml\r\n"
        f"Content-ID: <here@example.com>\r\n\r\n{LOCATION}\r\n--b--\r\n"
    )
    named = shown(invite("Geolocation: <cid:here@example.com>\r\n", body))
    assert "(212) 555-0112" in named
    assert "1 LAKE" in named
    assert "FLOOR 2" in named
    assert "Located at 2030-01-01 03:04:05 UTC" in named
    for geolocation in ("", "Geolocation: <cid:other@example.com>\r\n", "Geolocation: <https://example.com/l>\r\n"):
        unnamed = shown(invite(geolocation, body))
        assert "NO LOCATION" in unnamed
        assert "LAKE" not in unnamed
    cut = shown(invite("Geolocation: <cid:here@example.com>\r\n", body.replace("</presence>", "")))
    assert "NO LOCATION" in cut


def test_the_ladder_fits_and_points_the_right_way() -> None:
    steps = [
        Step(ms=0.0, sender="a", to="b", label="INVITE"),
        Step(ms=1.5, sender="b", to="c", label="INVITE with a label far too long for its arrow"),
        Step(ms=2.0, sender="", to="", label="a remark"),
        Step(ms=1234.5, sender="c", to="a", label="200 OK", again=True),
    ]
    drawn = draw(steps, ["a", "b", "c"], {"a": "phone", "b": "router", "c": "provider"})
    assert len(drawn) == 5
    assert all(len(line) <= 78 for line in drawn)
    assert drawn[1].index("INVITE") < drawn[1].index("▶") < drawn[1].rindex("│")
    assert drawn[2].index("│") < drawn[2].index("INVITE") < drawn[2].index("▶")
    assert drawn[3] == "  2.0  * a remark"
    assert drawn[4].startswith("1234.5")
    assert drawn[4].index("◀") < drawn[4].index("200 OK again")
    assert draw([], ["a"], {"a": "a"}) == []


def test_the_ladder_shows_a_message_between_two_actors_once_and_marks_retransmissions() -> None:
    async def work() -> None:
        phone, callee = Phone("phone", user="4012"), Callee("callee", script=QUICK)
        await started(phone, callee)
        call = phone.dial("911", callee.address)
        await call.answered.wait()
        await call.hang_up()
        assert call.dialog is not None
        call_ids = {call.dialog.call_id}
        steps = ladder([phone, callee], call_ids, phone.log[0].at, "router")
        labels = [step.label for step in steps]
        assert labels == ["INVITE", "100 Trying", "180 Ringing", "200 OK", "ACK", "BYE", "200 OK (BYE)"]
        assert [step.ms for step in steps] == sorted(step.ms for step in steps)
        assert not any(step.again for step in steps)
        phone.log.append(phone.log[0])
        assert [step.again for step in ladder([phone, callee], call_ids, 0.0, "router")].count(True) == 1
        assert ladder([phone, callee], {b"another"}, 0.0, "router") == []
        await stopped(phone, callee)

    in_a_loop(work)


def test_the_front_desk_takes_and_refuses_mail() -> None:
    def send(port: int) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "edge911@example.com", "desk@example.com", "Étage 3"
        mail.set_content("Réception\nligne 2\n")
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.send_message(mail)

    async def work() -> None:
        desk = FrontDesk()
        await desk.start()
        await asyncio.to_thread(send, desk.port)
        assert [(mail.subject, mail.text) for mail in desk.mails] == [("Étage 3", "Réception\nligne 2")]
        assert desk.mails[0].envelope_to == ("desk@example.com",)
        desk.refuses = True
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            await asyncio.to_thread(send, desk.port)
        assert (len(desk.mails), desk.refused) == (1, 1)
        await desk.stop()

    in_a_loop(work)


def test_without_a_router_the_demo_finds_everything_wrong_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PBX's trunk leads straight to the provider: the call works, and all that the router does is missing."""
    monkeypatch.setattr(simulations.demo, "MAIL_SECONDS", 0.1)
    monkeypatch.setattr(simulations.demo, "END_SECONDS", 0.5)
    reports: list[CallReport] = []

    async def work() -> None:
        world = World(tmp_path)
        await world.start_actors()
        try:
            world.pbx.trunk = world.ers_a.address
            reports.append(await play(world, SCENES[0], Stage()))
            world.pbx.trunk = world.relay.address
            reports.append(await play(world, SCENES[1], Stage()))
            world.pbx.trunk = world.ers_b.address
            reports.append(await play(world, SCENES[1], Stage()))
        finally:
            await world.stop()

    in_a_loop(work)
    failed = [{check.name for check in report.checks if not check.ok} for report in reports]
    assert failed[0] == {"Location", "Callback", "Notice"}
    assert failed[1] == {"Basic 911", "Callback", "Notice"}
    assert "Call" in failed[2]
    assert "ERS B was called too" in [problem for check in reports[2].checks for problem in check.problems]
    assert not any(report.ok for report in reports)


def test_a_psap_keeps_a_screen_for_each_call() -> None:
    async def work() -> None:
        psap, phone = Psap("psap", script=QUICK), Phone("phone", user="+12125550112", display_name="Nora")
        await started(psap, phone)
        for _ in range(2):
            call = phone.dial("911", psap.address)
            await call.answered.wait()
            await call.hang_up()
        assert [(screen.callback, screen.name) for screen in psap.screens] == [("+12125550112", "Nora")] * 2
        assert psap.screens[0].civic is None
        await stopped(psap, phone)

    in_a_loop(work)
