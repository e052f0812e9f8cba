"""with_source: received and rport in the top Via (RFC 3261 18.2.1, RFC 3581), and nothing else changed."""

import pytest

from sip.received import maddr_of, with_source
from tests.support.playbook import PHONE, Playbook, request_bytes


@pytest.mark.parametrize(
    ("line", "port", "becomes"),
    [
        (b"Via: SIP/2.0/UDP h;branch=b", None, b"Via: SIP/2.0/UDP h;branch=b;received=192.0.2.9"),
        (b"Via: SIP/2.0/UDP h;rport;branch=b", 7, b"Via: SIP/2.0/UDP h;rport=7;branch=b;received=192.0.2.9"),
        (b"v:SIP/2.0/UDP h;RPORT=9;branch=b", 7, b"v:SIP/2.0/UDP h;rport=7;branch=b;received=192.0.2.9"),
        (b"Via: SIP/2.0/UDP h;received=1.2.3.4;b=c", None, b"Via: SIP/2.0/UDP h;b=c;received=192.0.2.9"),
        (
            b"VIA  : SIP / 2.0\r\n /UDP\r\n h ; b=c ",
            None,
            b"VIA  : SIP / 2.0\r\n /UDP\r\n h ; b=c;received=192.0.2.9 ",
        ),
        (b"v: SIP/2.0/UDP h;b=c ,  SIP/2.0/TCP g", None, b"v: SIP/2.0/UDP h;b=c;received=192.0.2.9 ,  SIP/2.0/TCP g"),
        (b'Via: SIP/2.0/UDP h;x="a,b";y, z', None, b'Via: SIP/2.0/UDP h;x="a,b";y;received=192.0.2.9, z'),
        (b"Via: SIP/2.0/UDP h;;branch=b;", None, b"Via: SIP/2.0/UDP h;branch=b;received=192.0.2.9"),
    ],
)
def test_the_first_value_says_where_it_came_from(line: bytes, port: int | None, becomes: bytes) -> None:
    assert with_source(line, b"192.0.2.9", port) == becomes


@pytest.mark.parametrize(
    ("parameters", "maddr"),
    [
        (b";branch=b;maddr=192.0.2.7", "192.0.2.7"),
        (b"; MADDR = [2001:db8::7];x", "2001:db8::7"),
        (b";maddr=239.1.2.3", ""),
        (b";maddr=255.255.255.255", ""),
        (b";maddr=0.0.0.0", ""),
        (b";maddr=host.example.com", ""),
        (b";branch=maddr", ""),
        (b"", ""),
    ],
)
def test_maddr_names_one_host_or_nobody(parameters: bytes, maddr: str) -> None:
    assert maddr_of(parameters) == maddr


@pytest.mark.parametrize("rport", [b"", b";rport"])
def test_the_answer_goes_to_maddr_and_the_port_of_sent_by(rport: bytes) -> None:
    book = Playbook()
    via = b"Via: SIP/2.0/UDP 192.0.2.10:5070;maddr=192.0.2.77;branch=z9hG4bKm" + rport
    (trying,) = book.receive(request_bytes(via=via), PHONE._replace(port=9999))
    assert (trying.flow.host, trying.flow.port) == ("192.0.2.77", 5070)
