"""mended: what must not be passed on goes (RFC 4475 3.1.2.11, 3.1.2.15), all else stays as it came."""

import pytest

from sip.mending import mended
from sip.message import Request
from sip.parsing import parse_message
from tests.support.playbook import request_bytes


def request(uri: bytes = b"sip:a@example.com", to: bytes = b"<sip:b@example.com>") -> Request:
    made = parse_message(request_bytes(b"OPTIONS", uri=uri, to=to))
    assert isinstance(made, Request)
    return made


@pytest.mark.parametrize(
    ("uri", "becomes"),
    [
        (b"sip:user@example.com?Route=%3Csip:example.com%3E", b"sip:user@example.com"),
        (b"SIPS:example.com;x?a=b&c=d", b"SIPS:example.com;x"),
        (b"sip:what?me@example.com?a=b", b"sip:what?me@example.com"),
    ],
)
def test_a_header_part_goes(uri: bytes, becomes: bytes) -> None:
    assert mended(request(uri)).uri == becomes


@pytest.mark.parametrize("uri", [b"sip:what?me@example.com", b"tel:1?2", b"urn:service:sos?x"])
def test_a_question_mark_elsewhere_stays(uri: bytes) -> None:
    made = request(uri)
    assert mended(made) is made


@pytest.mark.parametrize(
    ("to", "becomes"),
    [
        (b"   Watson, Thomas <sip:t@x>;tag=1", b'To: "Watson, Thomas" <sip:t@x>;tag=1'),
        (b"a\\b, c <sip:t@x>", b'To: "a\\\\b, c" <sip:t@x>'),
    ],
)
def test_a_comma_in_a_display_name_gets_its_quotes(to: bytes, becomes: bytes) -> None:
    assert mended(request(to=to)).lines("to") == [becomes]


@pytest.mark.parametrize(
    "to", [b'"Watson, T" <sip:t@x>', b"sip:a,b@x", b"M\xc3\xbcller & Co <sip:t@x>", b"<sip:a,b@x>"]
)
def test_other_names_stay_as_they_are(to: bytes) -> None:
    made = request(to=to)
    assert mended(made) is made
