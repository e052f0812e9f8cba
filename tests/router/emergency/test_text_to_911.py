"""MESSAGE to 911: the sender is told to call, people on site are told, and it is recorded."""

from pathlib import Path

import pytest

from e911.notice import NoticeKind, write_notice
from e911.record import CallIntent, CallRefused
from e911.text_to_911 import ENGLISH, FRENCH, bounce_back_text
from tests.support.call_world import CARRIER, CONFIG, PBX, PHONE, CallWorld, Sent, of, one, response


def message(
    uri: str = "sip:911@10.0.0.5",
    *,
    number: int = 1,
    sender: str = "<sip:4102@pbx.example.com>",
    extra: tuple[str, ...] = (),
    text: str = "Intruder, 3rd floor",
    source: tuple[str, int] = PHONE,
    transport: str = "UDP",
) -> bytes:
    body = text.encode()
    lines = [
        f"MESSAGE {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} {source[0]}:{source[1]};branch=z9hG4bKm{number};rport",
        "Max-Forwards: 70",
        f"From: {sender};tag=f{number}",
        "To: <sip:911@pbx.example.com>",
        f"Call-ID: text-{number}",
        "CSeq: 1 MESSAGE",
        *extra,
        "Content-Type: text/plain",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def bounce_of(out: list[Sent]) -> Sent:
    return one(out, "MESSAGE")


def test_the_sender_is_told_to_call(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(message())
    assert one(out, 202).to == PHONE
    bounce = bounce_of(out)
    assert bounce.to == PHONE
    assert bounce.message.start == "MESSAGE sip:4102@pbx.example.com SIP/2.0"
    assert bounce.message.get("to") == "<sip:4102@pbx.example.com>"
    assert bounce.message.get("from").startswith("<sip:911@pbx.example.com>;tag=")
    assert bounce.message.get("max-forwards") == "70"
    assert bounce.message.get("in-reply-to") == "text-1"
    assert bounce.message.content_type == "text/plain"
    text = bounce.message.body.decode()
    assert "Make a voice call to 911" in text
    assert "appel vocal au 911" in text
    world.receive(response(bounce.message, 200))
    assert not world.advance(40.0), "taken: not sent again"
    assert world.router.counts["bounce_backs_taken"] == 1


def test_it_is_recorded_and_told(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    world.receive(message())
    (refused,) = world.events(CallRefused)
    assert (refused.reason, refused.status, refused.dialled) == ("no-text-service", 202, "911")
    assert refused.contacts == ("desk",)
    assert refused.site == "hq"
    assert refused.caller.device == "4102"
    assert refused.text == "Intruder, 3rd floor"
    assert not world.events(CallIntent)
    notice = write_notice(NoticeKind.REFUSED, refused, language="en", site_name="Head office", timezone="UTC")
    assert notice.subject.startswith("TEXT TO 911 NOT DELIVERED")
    assert "Intruder, 3rd floor" in notice.body
    french = write_notice(NoticeKind.REFUSED, refused, language="fr", site_name="Siège", timezone="UTC")
    assert "NON TRANSMIS" in french.subject


def test_a_retransmission_gets_the_same_answer_and_no_second_text(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    first = world.receive(message())
    again = world.receive(message())
    assert one(again, 202).message.raw == one(first, 202).message.raw
    assert not of(again, "MESSAGE")
    assert len(world.events(CallRefused)) == 1
    world.start()
    restarted = world.receive(message())
    assert bounce_of(restarted).message.raw == bounce_of(first).message.raw, "after a restart it is the same text"
    assert len({event.id for event in world.events(CallRefused)}) == 1


def test_over_a_connection_it_goes_back_over_it(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(message(transport="TCP"), transport="tcp")
    assert (bounce_of(out).to, bounce_of(out).transport) == (PHONE, "tcp")


def test_through_a_pbx_it_goes_back_to_the_pbx(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    assert bounce_of(world.receive(message(source=PBX), PBX)).to == PBX


@pytest.mark.parametrize("uri", ["tel:911", "urn:service:sos", "911", "sip:9911@10.0.0.5", "sip:+911@10.0.0.5"])
def test_every_form_of_911(tmp_path: Path, uri: str) -> None:
    world = CallWorld(tmp_path)
    assert one(world.receive(message(uri)), 202)


def test_a_test_number_is_answered_as_a_test(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    assert bounce_of(world.receive(message("sip:933@10.0.0.5")))
    (refused,) = world.events(CallRefused)
    assert refused.kind == "test"
    assert write_notice(NoticeKind.REFUSED, refused, language="en", site_name="", timezone="UTC").subject.startswith(
        "TEST"
    )


def test_other_texts_pass(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = one(world.receive(message("sip:4103@10.0.0.5")), "MESSAGE")
    assert sent.to == CARRIER
    assert sent.message.body == b"Intruder, 3rd floor"


def test_every_text_from_a_source_of_emergencies(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "all_calls_from": ["10.1.0.0/16"]})
    assert one(world.receive(message("sip:4103@10.0.0.5")), 202)


def test_from_outside_it_is_refused(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(message(source=CARRIER), CARRIER)
    assert one(out, 403)
    assert not of(out, "MESSAGE")


@pytest.mark.parametrize("sender", ["<nonsense>", "<tel:+1 212>", '"open <sip:a@b>'])
def test_who_cannot_be_answered_is_refused(tmp_path: Path, sender: str) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(message(sender=sender))
    assert not of(out, "MESSAGE")
    assert of(out, 202) == []


def test_a_telephone_number_is_answered(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    out = world.receive(message(sender="<tel:+12125550142>"))
    assert bounce_of(out).message.start == "MESSAGE tel:+12125550142 SIP/2.0"


def test_two_automatic_answerers_end(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    answered = [world.receive(message(number=number)) for number in range(25)]
    assert [len(of(out, "MESSAGE")) for out in answered] == [1] * 20 + [0] * 5
    limited = one(answered[-1], 480)
    assert "make a voice call" in limited.message.get("warning")
    assert len(world.events(CallRefused)) == 20
    other = world.receive(message(number=99, sender="<sip:4103@pbx.example.com>"))
    assert bounce_of(other), "another sender behind the same address is told"
    world.now += 61
    assert bounce_of(world.receive(message(number=100)))


def test_each_text_of_a_conversation_is_answered_and_recorded(tmp_path: Path) -> None:
    """Some phones give all of them one Call-ID, and a CSeq each."""
    world = CallWorld(tmp_path)
    for cseq in (1, 2, 3):
        raw = message(number=1).replace(b"CSeq: 1 MESSAGE", b"CSeq: %d MESSAGE" % cseq)
        raw = raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bK%d" % cseq)
        assert bounce_of(world.receive(raw))
    assert len({event.id for event in world.events(CallRefused)}) == 3


def test_a_bounce_back_that_nobody_takes_is_counted(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    bounce = bounce_of(world.receive(message()))
    world.receive(response(bounce.message, 405))
    assert world.router.counts["bounce_backs_refused"] == 1
    world.receive(message(number=2))
    world.advance(40.0)
    assert world.router.counts["bounce_backs_unanswered"] == 1


def test_languages() -> None:
    assert bounce_back_text() == f"{ENGLISH}\n{FRENCH}"
    assert bounce_back_text("fr-CA, en;q=0.5").startswith(FRENCH)
    assert bounce_back_text("es, en").startswith(ENGLISH)
    assert bounce_back_text("", "QC").startswith(FRENCH)
    assert bounce_back_text("en", "QC").startswith(ENGLISH)
    assert len(bounce_back_text().encode()) < 400, "with its header it fits a datagram"
