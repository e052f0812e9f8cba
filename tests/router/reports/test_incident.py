"""The incident bundle: what is in it, and what a redacted one keeps to itself."""

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pypdf import PdfReader

from e911.elin import Lease, LeaseKind, WayBack
from e911.numbers import EmergencyNumbers
from e911.record import CallbackEvent, CallbackOutcome, SourceAnswer, SourceOutcome
from router.notices.confirmations import Confirmation, Step
from router.notices.outbox import Entry, NoticeState
from router.records.record import CallRecord, call_record
from router.reports.incident import bundle, psap_screen, redacted_record, sent_invites
from router.trace.messages import Traced
from router.trace.pcap_reader import read_pcap
from tests.router.notice_events import AT, whole_call

EDGE, PHONE, ERS = ("192.0.2.1", 5060), ("10.1.3.7", 5070), ("203.0.113.32", 5060)
NUMBERS = EmergencyNumbers(emergency=frozenset({"911"}), test=frozenset({"933"}))
NEW_YORK = ZoneInfo("America/New_York")
PIDF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" '
    'xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10" '
    'xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr" entity="pres:4102@example.com">\n'
    '<dm:device id="d"><gp:geopriv><gp:location-info><ca:civicAddress><ca:country>US</ca:country><ca:A1>NY</ca:A1>'
    "<ca:A3>New York</ca:A3><ca:RD>5th</ca:RD><ca:HNO>350</ca:HNO><ca:FLR>3</ca:FLR></ca:civicAddress>"
    "</gp:location-info><gp:usage-rules/><gp:method>Manual</gp:method></gp:geopriv>"
    "<dm:timestamp>2026-09-21T13:33:20Z</dm:timestamp></dm:device>\n</presence>\n"
)


def invite(uri: str, body: str = "", extra: str = "") -> bytes:
    data = body.replace("\n", "\r\n").encode()
    head = (
        f'INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: "Zoé" <sip:4102@example.com>;tag=a\r\n'
        f"To: <sip:911@example.com>\r\nCall-ID: c1@10.1.3.7\r\nCSeq: 1 INVITE\r\n"
        f"P-Asserted-Identity: <sip:+12125550123@example.com>\r\n{extra}Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def located() -> bytes:
    body = (
        "--b\nContent-Type: application/sdp\n\nv=0\n--b\nContent-Type: application/pidf+xml\n"
        f"Content-ID: <l@h>\n\n{PIDF}--b--\n"
    )
    extra = "Geolocation: <cid:l@h>\r\nGeolocation-Routing: yes\r\nContent-Type: multipart/mixed;boundary=b\r\n"
    return invite("sip:911@203.0.113.32", body, extra)


def traced(after: float, sent: bool, peer: tuple[str, int], data: bytes) -> Traced:
    ends = (EDGE, peer) if sent else (peer, EDGE)
    return Traced(at=AT + after, sent=sent, transport="udp", source=ends[0], destination=ends[1], data=data)


def messages() -> list[tuple[Traced, str]]:
    ok = located().replace(b"INVITE sip:911@203.0.113.32 SIP/2.0", b"SIP/2.0 200 OK", 1)
    return [
        (traced(0.0, False, PHONE, invite("sip:911@example.com")), ""),
        (traced(0.25, True, ERS, located()), "ers-b"),
        (traced(0.75, True, ERS, located()), "ers-b"),
        (traced(2.5, False, ERS, ok), "ers-b"),
    ]


def record() -> CallRecord:
    notice = Entry(
        call="c1",
        kind="call",
        contact="front-desk",
        channel=0,
        state=NoticeState.DELIVERED,
        queued_at=AT,
        first_attempt_at=AT + 0.02,
        words="250 thanks, Zoé",
        body="Zoé dialled 911",
    )
    return call_record(whole_call(), [notice])


def made(language: str = "en", of: CallRecord | None = None, *, redacted: bool = False) -> dict[str, bytes]:
    data = bundle(
        of or record(),
        messages(),
        numbers=NUMBERS,
        zone=NEW_YORK,
        language=language,
        redacted=redacted,
        now=AT + 3600,
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pdf_text(data: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)


def test_the_invite_as_sent_with_its_location_marked() -> None:
    (sent,) = sent_invites(messages())
    lines = sent.text.split("\n")
    marked = [lines[number] for number in sorted(sent.marked)]
    assert sent.trunk == "ers-b"
    assert marked[:2] == ["Geolocation: <cid:l@h>", "Geolocation-Routing: yes"]
    assert "\n".join(marked[2:]).rstrip("\n") == PIDF.rstrip("\n")


def test_what_the_psap_sees() -> None:
    screen = "\n".join(psap_screen(record(), messages(), NEW_YORK))
    assert "(212) 555-0123" in screen
    assert "350 5TH" in screen
    assert "FLOOR 3" in screen


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_bundle_holds_all(language: str, tmp_path: Path) -> None:
    files = made(language)
    assert set(files) == {"record.json", "messages.pcap", "messages.txt", "summary.pdf"}
    document = json.loads(files["record.json"])
    assert document["caller"]["callback"] == "+12125550123"
    assert document["notices"][0]["words"] == "250 thanks, Zoé"
    pcap = tmp_path / "messages.pcap"
    pcap.write_bytes(files["messages.pcap"])
    assert [one.data for one in read_pcap(pcap)] == [one.data for one, _ in messages()]
    text = pdf_text(files["summary.pdf"])
    for wanted in (
        "+12125550123",
        "350",
        "backup",
        "ers-b",
        "front-desk",
        "Geolocation: <cid:l@h>",
        "(212) 555-0123",
    ):
        assert wanted in text
    assert ("Avis" in text) is (language == "fr")


def test_a_redacted_bundle_tells_what_happened_and_not_to_whom() -> None:
    files = made(redacted=True)
    everything = b"".join(files[name] for name in ("record.json", "messages.pcap", "messages.txt"))
    everything += pdf_text(files["summary.pdf"]).encode()
    for private in ("5550123", "4102", "Zoé", "5th", "350", "40.7484", "New York", "555-0123"):
        assert private.encode() not in everything, private
    for kept in (b"backup", b"front-desk", b"200 OK", b"answered", b"Geolocation"):
        assert kept in everything


def test_a_redacted_bundle_does_not_say_that_the_psap_saw_no_number_and_no_place() -> None:
    told = pdf_text(made(redacted=True)["summary.pdf"])
    assert "As the PSAP sees it" in told
    assert "(xxx) xxx-xxxx" in told
    assert "xxx xxx" in told.partition("As the PSAP sees it")[2]
    assert "NO LOCATION" not in told
    assert "NO CALLBACK" not in told
    data = bundle(
        record(), messages(), numbers=NUMBERS, zone=NEW_YORK, redacted=True, now=AT, site_name="Maple House"
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        summary = archive.read(next(name for name in archive.namelist() if name.endswith("summary.pdf")))
    assert "Maple House" not in pdf_text(summary), "what a place is called is a place"


@pytest.mark.parametrize(
    ("language", "validation", "told"),
    [
        ("en", "", "The address was not validated."),
        ("fr", "", "L’adresse n’a pas été validée."),
        ("en", "invalid: HNO", "Address validation: invalid: HNO (2026-09-11)."),
        ("fr", "valid", "Validation de l’adresse : valide (2026-09-11)."),
    ],
)
def test_the_summary_says_whether_the_place_was_validated(language: str, validation: str, told: str) -> None:
    place = record().location
    assert place is not None
    changed = replace(record(), location=replace(place, validation=validation, validated_at=1_789_135_000.0))
    assert told in " ".join(pdf_text(made(language, changed)["summary.pdf"]).split())


def test_a_call_without_messages_says_so() -> None:
    data = bundle(record(), [], numbers=NUMBERS, zone=NEW_YORK, now=AT)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert "No SIP messages" in pdf_text(archive.read(f"call-{record().id}/summary.pdf"))


def test_redaction_of_a_record_keeps_its_shape() -> None:
    document = record().as_document()
    hidden = redacted_record(document)
    assert hidden.keys() == document.keys()
    assert hidden["caller"]["number"] == "xxxx"
    assert hidden["routes"] == json.loads(json.dumps(document["routes"]))


def test_a_redacted_record_names_nobody_in_its_lease_and_callbacks() -> None:
    back = WayBack(trunk="pbx", user="4102", aor='"Zoé" <sip:4102@example.com>', contact="<sip:4102@10.1.3.7:5070>")
    lease = Lease(
        number="+12125550123",
        caller="4102",
        call="c1",
        kind=LeaseKind.OWN,
        who="Zoé 4102",
        site="hq",
        since=AT,
        until=AT + 60,
        way_back=back,
    )
    callback = CallbackEvent(
        id="c1",
        at=AT + 90,
        node="hq-1",
        callback="cb1",
        number="+12125550123",
        caller="+12125550177",
        trunk="ers-b",
        outcome=CallbackOutcome.RECEIVED,
        who="Zoé 4102",
    )
    asked = SourceAnswer(source="wiremap", outcome=SourceOutcome.MISSED, reason="unknown", detail="00:1b:2c:3d:4e:50")
    sources = (asked,)
    whole = call_record([*whole_call(lease=lease, sources=sources), callback], [])
    shown = json.dumps(redacted_record(whole.as_document()), ensure_ascii=False)
    for private in ("4102", "Zoé", "5550123", "5550177", "1b:2c"):
        assert private not in shown, private
    for kept in ("ers-b", "pbx", "hq", "own"):
        assert kept in shown


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_bundle_proves_who_took_care_and_who_called_back(language: str) -> None:
    taken = Confirmation(call="x", step=Step.ACKNOWLEDGED, contact="front-desk", by="Zoé", how="console", at=AT + 9)
    back = CallbackEvent(
        id="x",
        at=AT + 90,
        node="hq-1",
        callback="b1",
        number="+12125550123",
        caller="+12125550911",
        trunk="carrier",
        outcome=CallbackOutcome.NO_ANSWER,
    )
    happened = replace(record(), confirmations=(taken,), callbacks=(back,), text="smoke on the stairs")
    text = " ".join(pdf_text(made(language, happened)["summary.pdf"]).split())
    for wanted in ("Zoé (console)", "+12125550911", "no-answer", "smoke on the stairs"):
        assert wanted in text
    assert ("acknowledged" if language == "en" else "pris en charge") in text
    files = made(language, happened, redacted=True)
    everything = pdf_text(files["summary.pdf"]).encode() + files["record.json"]
    for private in ("Zoé", "5550911", "smoke"):
        assert private.encode() not in everything, private
