"""Redaction: nothing of people and places is left, everything else is, and every byte is in its place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e911.numbers import EmergencyNumbers
from router.trace.redaction import Redaction
from sip.parsing import parse_message
from tests.router.traces import PIDF, SDP, answer, invite, request

NUMBERS = EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset({"933"}))
REDACTION = Redaction(NUMBERS)

FIELDS = [
    # as it comes, as it is shown
    (b'From: "Ana Silva 4012" <sip:4012@pbx.example.com>;tag=1234567', b'From: "xxx xxxxx xxxx" <sip:xxxx@pbx.exa'
     b"mple.com>;tag=1234567"),
    (b"f: Ana Silva <sip:+12125550112@10.0.0.1:5060>;tag=99887766", b"f: xxx xxxxx <sip:+xxxxxxxxxxx@10.0.0.1:5060>"
     b";tag=99887766"),
    (b"To: <sip:911@pbx.example.com>", b"To: <sip:911@pbx.example.com>"),
    (b"To: <sip:+911@pbx.example.com;user=phone>", b"To: <sip:+911@pbx.example.com;user=phone>"),
    (b"To: <sip:%39%31%31@pbx.example.com>", b"To: <sip:%39%31%31@pbx.example.com>"),
    (b"To: sip:4012;phone-context=+1@pbx.example.com", b"To: sip:xxxxxxxxxxxxxxxxxxxxx@pbx.example.com"),
    (b"To: <tel:+1-212-555-0199;phone-context=+1>", b"To: <tel:+xxxxxxxxxxxxxx;phone-context=+1>"),
    (b"To: <urn:service:sos.fire>", b"To: <urn:service:sos.fire>"),
    (b"To: sip:[2001:db8::1]:5060", b"To: sip:[2001:db8::1]:5060"),
    (b"P-Asserted-Identity: \"N Q\" <sip:4012@a.example>,\r\n <tel:2125550112>", b"P-Asserted-Identity: \"x x\" <sip:"
     b"xxxx@a.example>,\r\n <tel:xxxxxxxxxx>"),
    (b"Contact: <sip:4012@10.1.2.3:5060;ob>;expires=3600;q=0.5", b"Contact: <sip:xxxx@10.1.2.3:5060;ob>;expires=3600"
     b";q=0.5"),
    (b"Record-Route: <sip:10.0.0.5:5060;lr;t=123456789012;call=12345678901234567890>", None),
    (b"Route: <sips:edge.example.com;lr>", None),
    (b"Via: SIP/2.0/UDP 10.1.2.3:5060;branch=z9hG4bK123456789;rport=40000;received=10.1.2.3", None),
    (b"Call-ID: 4012-81@10.1.2.3", None),
    (b"CSeq: 1234567 INVITE", None),
    (b"Geolocation: <cid:12345678@edge.example.com>", None),
    (b"Geolocation: <https://lis.example.com/loc/abc>", b"Geolocation: <https://lis.example.com/xxx/xxx>"),
    (b"Call-Info: <urn:emergency:uid:callid:8199931012345678:e.example.com>;purpose=emergency-CallId", None),
    (b"Resource-Priority: esnet.1", None),
    (b'Reason: Q.850;cause=16;text="Terminated"', None),
    (b"X-Extension: 4012", b"X-Extension: xxxx"),
    (b"X-Dialled: 911", None),
    (b"Subject: from Ana", b"Subject: xxxx xxx"),
    (b'Authorization: Digest username="4012", realm="pbx", uri="sip:1@x"',
     b'Authorization: Digest username="xxxx", realm="xxx", uri="xxx:x@x"'),
    (b"Identity: eyJhbGciOi.J9.x;info=<https://c.example/1>", b"Identity: xxxxxxxxxx.xx.x;xxxx=<xxxxx://x.xxxxxxx/x>"),
    (b"P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=00112233", b"P-Access-Network-Info: xxxx-xxx.xx;x-xxxx-xxxx"
     b"-xx=xxxxxxxx"),
    (b"a line that is no field 4012", b"x xxxx xxxx xx xx xxxxx xxxx"),
    (b"To: sip:Ana,Silva@pbx.example.com", b"To: sip:xxxxxxxxx@pbx.example.com"),
    (b"X-Extension: office:4012", b"X-Extension: xxxxxx:xxxx"),
    (b'Reason: SIP;cause=480;text="Ana, B-12, is out"', b'Reason: SIP;cause=480;text="xxx, x-xx, xx xxx"'),
    (b'Reason: SIP;cause=200;text="Call completed elsewhere"', None),
    (b'Warning: 399 pbx.example.com "Ana is out"', b'Warning: 399 pbx.example.com "xxx xx xxx"'),
    (b"Retry-After: 60 (Ana is at lunch)", b"Retry-After: 60 (xxx xx xx xxxxx)"),
    (b'Content-Type: text/plain; name="Ana Silva.txt"', b'Content-Type: text/plain; name="xxx xxxxx.xxx"'),
    (b'Contact: <sip:10.1.2.3>;+sip.instance="<urn:uuid:0001-0a95a0e128>"',
     b'Contact: <sip:10.1.2.3>;+sip.instance="<xxx:xxxx:xxxx-xxxxxxxxxx>"'),
    (b"History-Info: <sip:4012@10.1.2.3?Reason=text%3DAna>;index=1", b"History-Info: <sip:xxxx@10.1.2.3?xxxxxx=xxxx%x"
     b"xxxx>;index=1"),
    (b"User-Agent: Ana Silva's iPhone 4012", b"User-Agent: xxx xxxxx'x xxxxxx xxxx"),
    (b"User-Agent: Yealink SIP-T46S 66.85.0.5 805ec0123456", b"User-Agent: Yealink SIP-T46S 66.85.0.5 xxxxxxxxxxxx"),
    (b"User-Agent: PolycomVVX-VVX_410-UA/5.9.3.2857", b"User-Agent: PolycomVVX-VVX_410-xx/x.x.x.xxxx"),
    (b"User-Agent: Cisco-CP7841/11.0.1 Ana-4012", b"User-Agent: Cisco-CP7841/11.0.1 xxx-xxxx"),
    (b"Server: Asterisk PBX 20.5.0", None),
    (b"Server: kamailio (5.6.3 (x86_64/linux)) at Ana", b"Server: kamailio (x.x.x (xxx_xx/xxxxx)) xx xxx"),
]  # fmt: skip


@pytest.mark.parametrize(("came", "shown"), FIELDS)
def test_a_field(came: bytes, shown: bytes | None) -> None:
    message = b"OPTIONS sip:e.example.com SIP/2.0\r\n%b\r\nMax-Forwards: 70\r\n\r\n"
    assert REDACTION.message(message % came) == message % (came if shown is None else shown)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"INVITE sip:911@10.0.0.5 SIP/2.0", None),
        (b"INVITE urn:service:sos SIP/2.0", None),
        (b"INVITE 911 SIP/2.0", None),
        (b"INVITE sip:933@10.0.0.5;transport=tcp SIP/2.0", None),
        (b"INVITE sip:+12125550199@10.0.0.5 SIP/2.0", b"INVITE sip:+xxxxxxxxxxx@10.0.0.5 SIP/2.0"),
        (b"INVITE tel:4012 SIP/2.0", b"INVITE tel:xxxx SIP/2.0"),
        (b"INVITE 4012 SIP/2.0", b"INVITE xxxx SIP/2.0"),
        (b"SIP/2.0 404 Not Found", None),
        (b"SIP/2.0 486 Ana is at lunch", b"SIP/2.0 486 xxx xx xx xxxxx"),
        (b"SIP/2.0 486 busy here", None),
        (b"SIP/2.0 404 User 4012 unknown", b"SIP/2.0 404 xxxx xxxx xxxxxxx"),
    ],
)
def test_a_start_line(line: bytes, shown: bytes | None) -> None:
    assert REDACTION.message(line + b"\r\n\r\n") == (shown or line) + b"\r\n\r\n"


def test_sdp_keeps_what_media_need_and_loses_user_session_name_and_key() -> None:
    shown = REDACTION.message(invite())
    _, _, body = shown.partition(b"\r\n\r\n")
    assert body == SDP.replace(b"o=4012", b"o=xxxx").replace(b"s=Ana", b"s=xxx").replace(
        b"d0RmdmcmVCspeEc3QGZiNWpV", b"x" * 24
    )
    assert len(shown) == len(invite())


def test_a_location_keeps_its_structure_alone() -> None:
    body = (
        b"preamble 350\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n%b\r\n--b1\r\n"
        b"Content-Type: application/pidf+xml\r\nContent-ID: <1@e>\r\n\r\n%b\r\n--b1--\r\nepilogue 350"
    ) % (SDP, PIDF)
    came = invite(content_type=b'multipart/mixed; boundary="b1"', body=body)
    shown = REDACTION.message(came)
    assert len(shown) == len(came)
    for private in (b"350", b"Washington", b"3-17", b"40.7484", b"Ana", b"4012"):
        assert private in came
        assert private not in shown
    assert b"<ca:HNO>xxx</ca:HNO><ca:RD>xxxxxxxxxx</ca:RD>" in shown
    assert b'srsName="urn:ogc:def:crs:EPSG::4326">xx.xxxx -xx.xxxx<' in shown
    assert b'entity="xxxx:xxxx@xxxxxxx.xxx"' in shown
    assert b"Content-Type: application/pidf+xml\r\nContent-ID: <1@e>" in shown
    assert shown.count(b"--b1") == 3
    assert b'boundary="b1"' in shown, "as in the body: without it no tool finds the parts"
    assert b"m=audio 40000 RTP/AVP 0" in shown


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain",
        b"application/dtmf-relay",
        b"application/isup",
        b"multipart/mixed",
        b"application/pidf+xml;charset=utf-8",
        b"application/EmergencyCallData.Comment+xml",
        b"multipart/mixed;boundary=never-used",
    ],
)
def test_a_body_nobody_vouches_for_is_hidden(content_type: bytes) -> None:
    came = invite(content_type=content_type, body=b"Signal=5 at 350 Washington AVE")
    assert REDACTION.message(came).endswith(b"\r\n\r\nxxxxxx=x xx xxx xxxxxxxxxx xxx")


def test_what_is_shown_is_still_the_same_message_to_a_parser() -> None:
    for came in (invite(), answer(), request("BYE")):
        before, after = parse_message(came), parse_message(REDACTION.message(came))
        assert after.call_id == before.call_id
        assert after.cseq == before.cseq
        assert after.from_tag == before.from_tag
        assert len(after.body) == len(before.body)
        assert [name for name, _ in after.fields] == [name for name, _ in before.fields]


FREE_FIELDS = """\
From To Contact P-Asserted-Identity P-Preferred-Identity Remote-Party-ID Diversion History-Info Refer-To \
Referred-By Reply-To Call-Info Alert-Info Error-Info Route Path P-Called-Party-ID P-Associated-URI User-Agent \
Server Organization Subject Warning Reason Retry-After Content-Type Content-Disposition Content-Description \
User-to-User P-Charge-Info P-Access-Network-Info Geolocation Subscription-State Identity-Info X-Name \
Authorization Accept-Contact"""


@pytest.mark.parametrize("field", FREE_FIELDS.split())
@pytest.mark.parametrize(
    "written",
    [
        '"Zoe Ortega" <sip:x@pbx.example>',
        "Zoe Ortega <sip:Zoe.Ortega@pbx.example;isub=Ortega>;x-name=Ortega",
        '<sip:pbx.example>;text="Zoe \\"Ortega"',
        "Zoe Ortega 7777",
        "SIP ;cause=200 ;text=Ortega",
        '399 pbx.example "Ortega 7777 called',
        "product (Zoe Ortega 7777)",
    ],
)
def test_a_name_in_any_field_is_hidden(field: str, written: str) -> None:
    shown = REDACTION.message(f"OPTIONS sip:e.example.com SIP/2.0\r\n{field}: {written}\r\n\r\n".encode())
    for private in (b"Ortega", b"Zoe", b"7777"):
        assert private not in shown


@settings(deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"INVITE sip:4@a SIP/2.0\r\nContent-Type: multipart/x;boundary=b\r\n"]),
)
def test_whatever_comes_the_length_stays(data: bytes, before: bytes) -> None:
    assert len(REDACTION.message(before + data)) == len(before + data)


@settings(deadline=None)
@given(st.from_regex(r"\+?[2-8][0-9]{2,14}", fullmatch=True), st.from_regex(r"[A-Z][a-z]{3,10}", fullmatch=True))
def test_no_number_and_no_name_gets_through(number: str, name: str) -> None:
    digits = number.strip("+")
    more = f'Remote-Party-ID: "{name}" <sip:{number}@a.example>\r\nX-Caller: {name} <tel:{number}>\r\n'.encode()
    came = (
        b"INVITE sip:%b@a.example SIP/2.0\r\nFrom: %b <sip:%b@a.example>;tag=a\r\nTo: <tel:%b>\r\n"
        b"%bSubject: %b\r\n\r\n%b"
    ) % (number.encode(), name.encode(), number.encode(), number.encode(), more, name.encode(), number.encode())
    shown = REDACTION.message(came).decode()
    assert digits not in shown
    assert name not in shown.replace("Remote-Party-ID", "").replace("Subject", "").replace("From", "")
