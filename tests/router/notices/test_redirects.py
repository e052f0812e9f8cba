"""A phone that is forwarded: where a notice goes on to, and where it never does."""

import pytest

from config.channel_urls import read_sip
from router.notices.receivers.redirects import redirected
from sip.message import Response
from sip.parsing import parse_message


def moved(uri: str) -> Response:
    found = parse_message(
        b"SIP/2.0 302 Moved Temporarily\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>;tag=2\r\nCall-ID: one\r\nCSeq: 1 INVITE\r\nContact: <%b>\r\nContent-Length: 0\r\n\r\n"
        % uri.encode()
    )
    assert isinstance(found, Response)
    return found


@pytest.mark.parametrize("user", ["911", "%39%31%31", "9-1-1", "9911", "+911", "911%23", "1911"])
def test_no_phone_sends_a_notice_on_to_911(user: str) -> None:
    desk = read_sip("sip-call:100@127.0.0.1")
    assert redirected(moved(f"sip:{user}@127.0.0.1"), desk, [], lambda _: True) is None
    other = redirected(moved("sip:200@127.0.0.1"), desk, [], lambda _: True)
    assert other is not None
    assert other.uri == b"sip:200@127.0.0.1"
