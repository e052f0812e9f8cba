"""with_source: received and rport in the top Via (RFC 3261 18.2.1, RFC 3581), and nothing else changed."""

import pytest

from sip.received import with_source


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
