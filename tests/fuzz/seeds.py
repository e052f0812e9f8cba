"""What is mutated: the torture messages, traffic of every method, the INVITEs that leave to providers, locations."""

from pathlib import Path

from tests.sip.torture import EXPECTED, read
from tests.support.call_world import CARRIER, PROVIDER_A, cancel_of, invite, response
from tests.support.sip_text import parse

PROVIDERS = Path(__file__).parents[1] / "data" / "providers"
OWN_ROUTE = "Route: <sip:10.0.0.5:5060;lr>"


def of_method(method: str, *extra: str, number: int = 7, to_tag: str = "far") -> bytes:
    """A request of a phone, in a dialog unless to_tag is empty."""
    raw = invite(f"sip:2125550177@{CARRIER[0]}", extra=extra, body=b"", number=number)
    raw = raw.replace(b"INVITE", method.encode())
    return raw.replace(b"To: <sip:911@pbx.example.com>", b"To: <sip:x@example.com>;tag=" + to_tag.encode())


def locations() -> list[bytes]:
    """PIDF-LO documents, as our INVITEs hold them."""
    found = []
    for path in sorted(PROVIDERS.glob("*/*.sip")):
        body = path.read_bytes()
        start, end = body.find(b"<?xml"), body.rfind(b"presence>")
        if 0 <= start < end:
            found.append(body[start : end + 9])
    assert found
    return found


def conveying(document: bytes) -> bytes:
    """A 911 INVITE whose caller sends a location."""
    body = (
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b\r\nContent-Type: "
        + b"application/pidf+xml"
        + b"\r\nContent-ID: <loc@phone>\r\n\r\n"
        + document
        + b"\r\n--b--\r\n"
    )
    extra = ("Geolocation: <cid:loc@phone>", "Geolocation-Routing: yes", "Identity: e30.e30.c2ln;info=<https://x>")
    return invite(extra=extra, body=body, content_type="multipart/mixed;boundary=b")


def traffic() -> list[bytes]:
    """Requests that get far: each is a call, or belongs to one."""
    emergency = invite(number=1)
    ordinary = invite("sip:2125550177@10.0.0.5", number=2, extra=("Max-Breadth: 4", "P-Asserted-Identity: <tel:+1>"))
    return [
        emergency,
        ordinary,
        invite("urn:service:sos.fire", body=b"", extra=("Resource-Priority: wps.0", "Privacy: id")),
        invite("911", extra=("Supported: 100rel, timer", "Session-Expires: 1800")),
        invite("tel:933", extra=(OWN_ROUTE, "Max-Breadth: 1")),
        cancel_of(emergency),
        cancel_of(ordinary),
        *(of_method(method, OWN_ROUTE) for method in ("ACK", "BYE", "INVITE", "UPDATE", "PRACK", "REFER", "INFO")),
        *(of_method(method, to_tag="") for method in ("OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH")),
        *(conveying(document) for document in locations()),
    ]


def sent() -> list[bytes]:
    """The INVITEs that leave to providers, with our Via and without, and what providers answer."""
    found = []
    for path in sorted(PROVIDERS.glob("*/*.sip")):
        gone = path.read_bytes()
        found.append(gone)
        start, _, rest = gone.partition(b"\r\nVia: ")
        found.append(start + b"\r\n" + rest.partition(b"\r\n")[2])  # without our Via: a call, and no loop
        answered = parse(gone)
        found += [response(answered, status) for status in (100, 180, 200, 302, 424, 486, 503)]
        found.append(response(answered, 401, extra=('WWW-Authenticate: Digest realm="a", nonce="b"',)))
    return found


def torture() -> list[bytes]:
    """RFC 4475 and RFC 5118."""
    return [read(name) for name in EXPECTED]


SOURCES = (("10.1.3.7", 5060), CARRIER, PROVIDER_A, ("192.0.2.66", 5060), ("10.0.0.10", 5060))
"""Where a mutated message comes from: a phone, a carrier, a provider, a stranger, the PBX."""
