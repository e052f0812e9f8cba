"""Messages for tests of what is made of a trace."""

from router.trace.messages import Endpoint, Traced

PHONE: Endpoint = ("10.1.2.3", 5060)
EDGE: Endpoint = ("10.0.0.5", 5060)
PROVIDER: Endpoint = ("203.0.113.31", 5060)

SDP = (
    b"v=0\r\no=4012 12345 1 IN IP4 10.1.2.3\r\ns=Ana\r\nc=IN IP4 10.1.2.3\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpV\r\n"
)
PIDF = (
    b'<?xml version="1.0"?>\r\n<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:4012@example.com">'
    b"<ca:HNO>350</ca:HNO><ca:RD>Washington</ca:RD><!-- room 3-17 --><![CDATA[Ana]]>"
    b'<gml:pos srsName="urn:ogc:def:crs:EPSG::4326">40.7484 -73.9857</gml:pos></presence>\r\n'
)


def invite(
    *,
    user: str = "4012",
    dialled: str = "911",
    call_id: str = "call-1",
    more: bytes = b"",
    content_type: bytes = b"application/sdp",
    body: bytes = SDP,
) -> bytes:
    """An INVITE."""
    return (
        b"INVITE sip:%b@10.0.0.5:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.2.3:5060;branch=z9hG4bK1234567\r\n"
        b'Max-Forwards: 70\r\nFrom: "Ana Silva" <sip:%b@pbx.example.com>;tag=1234567\r\n'
        b"To: <sip:%b@pbx.example.com>\r\nCall-ID: %b\r\nCSeq: 101 INVITE\r\n%b"
        b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
    ) % (
        dialled.encode(),
        user.encode(),
        dialled.encode(),
        call_id.encode(),
        more,
        content_type,
        len(body),
        body,
    )


def answer(status: str = "200 OK", *, method: str = "INVITE", call_id: str = "call-1", user: str = "4012") -> bytes:
    """A response."""
    return (
        b"SIP/2.0 %b\r\nVia: SIP/2.0/UDP 10.1.2.3:5060;branch=z9hG4bK1234567\r\n"
        b"From: <sip:%b@pbx.example.com>;tag=1234567\r\nTo: <sip:x@pbx.example.com>;tag=2\r\nCall-ID: %b\r\n"
        b"CSeq: 101 %b\r\nContent-Length: 0\r\n\r\n"
    ) % (status.encode(), user.encode(), call_id.encode(), method.encode())


def request(method: str, *, call_id: str = "call-1", to_tag: bool = True) -> bytes:
    """A request without a body."""
    return (
        b"%b sip:x@203.0.113.31 SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.2.3:5060;branch=z9hG4bK99\r\n"
        b"From: <sip:4012@pbx.example.com>;tag=1234567\r\nTo: <sip:x@pbx.example.com>%b\r\nCall-ID: %b\r\n"
        b"CSeq: 102 %b\r\nContent-Length: 0\r\n\r\n"
    ) % (method.encode(), b";tag=2" if to_tag else b"", call_id.encode(), method.encode())


def received(data: bytes, peer: Endpoint = PHONE, *, at: float = 1_000_000_000.0, transport: str = "udp") -> Traced:
    """A message that came."""
    return Traced(at=at, sent=False, transport=transport, source=peer, destination=EDGE, data=data)


def sent(data: bytes, peer: Endpoint = PHONE, *, at: float = 1_000_000_000.0, transport: str = "udp") -> Traced:
    """A message that went."""
    return Traced(at=at, sent=True, transport=transport, source=EDGE, destination=peer, data=data)
