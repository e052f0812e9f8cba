"""Typed header values. Proved: RFC 3261 7.3.1 (lists), 20.10, 20.16, 20.42, 25.1; RFC 3581 rport; bounded cost."""

import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip.errors import Reason, RemoteError
from sip.headers import (
    parse_cseq,
    parse_name_addr,
    parse_usual_via,
    parse_via,
    quotes_balanced,
    split_top,
    split_values,
    tag_of,
)


@pytest.mark.parametrize(
    ("value", "values"),
    [
        (b"a", [b"a"]),
        (b" a , b ", [b"a", b"b"]),
        (b"", []),
        (b" ,, , a,", [b"a"]),
        (b'"a,b" <sip:x>, <sip:y,z>;p', [b'"a,b" <sip:x>', b"<sip:y,z>;p"]),
        (b'"a\\",b" <sip:x>,c', [b'"a\\",b" <sip:x>', b"c"]),
        (b'"never ends, <a>, b', [b'"never ends, <a>, b']),
        (b"<never ends, b", [b"<never ends, b"]),
        (b'a, "x\\', [b"a", b'"x\\']),
        (b"a > b, c", [b"a > b", b"c"]),
    ],
)
def test_lists(value: bytes, values: list[bytes]) -> None:
    assert split_values(value) == values


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b",", b'"', b"\\", b"<", b">", b"a", b" ", b";", b"\xff"]), max_size=25).map(b"".join)
)
def test_top_and_rest_are_the_list(value: bytes) -> None:
    found, rest = [], value
    while rest:
        top, rest = split_top(rest)
        if top:
            found.append(top)
    assert found == split_values(value)
    kept = value.replace(b",", b"").replace(b" ", b"")
    assert b"".join(split_values(value)).replace(b",", b"").replace(b" ", b"") == kept


@pytest.mark.parametrize(
    ("value", "host", "port", "branch", "rport", "received"),
    [
        (b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", b"192.0.2.1", None, b"z9hG4bK1", None, ""),
        (b"sip / 2.0 / tcp\r\n host : 5061 ; Branch = z1 ;RPORT", b"host", 5061, b"z1", 0, ""),
        (b"SIP/2.0/UDP [2001:db8::1]:5060;rport=99;branch=z1", b"[2001:db8::1]", 5060, b"z1", 99, ""),
        (b"SIP/2.0/UDP h;received=[2001:db8::2];x", b"h", None, b"", None, "2001:db8::2"),
        (b"SIP/2.0/UNKNOWN h;rport=;received=192.0.2.3", b"h", None, b"", 0, "192.0.2.3"),
        (b"SIP/2.0/UDP h;rport=70000;branch=z", b"h", None, b"z", 0, ""),
        (b"SIP/2.0/UDP h;rport=" + b"1" * 5000 + b";branch=z", b"h", None, b"z", 0, ""),
        (b"SIP/2.0/UDP h;xbranch=no;branch=yes", b"h", None, b"yes", None, ""),
    ],
)
def test_via(value: bytes, host: bytes, port: int | None, branch: bytes, rport: int | None, received: str) -> None:
    via = parse_via(value)
    assert (via.host, via.port, via.branch, via.rport, via.received) == (host, port, branch, rport, received)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SIP/2.0/UDP",
        b"SIP/3.0/UDP h",
        b"SIP/2.0/UDP h:0",
        b"SIP/2.0/UDP h:65536",
        b"SIP/2.0/UDP h:x",
        b"SIP/2.0/UDP h i",
        b"SIP/2.0/UDP 2001:db8::1",
        b"SIP/2.0/UDP h, SIP/2.0/UDP i",
    ],
)
def test_bad_via(value: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_via(value)
    assert (caught.value.reason, caught.value.status) == (Reason.BAD_VIA, 400)


@pytest.mark.parametrize(
    ("value", "parsed"), [(b"1 INVITE", (1, b"INVITE")), (b" 4294967295\t x-A.b ", (4294967295, b"x-A.b"))]
)
def test_cseq(value: bytes, parsed: tuple[int, bytes]) -> None:
    assert parse_cseq(value) == parsed


@pytest.mark.parametrize(
    "value", [b"", b"1", b"INVITE 1", b"-1 INVITE", b"4294967296 INVITE", b"9" * 5000 + b" X", b"1 IN VITE", b"1 A,B"]
)
def test_bad_cseq(value: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_cseq(value)
    assert caught.value.reason is Reason.BAD_CSEQ


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=x", b"x"),
        (b"<sip:a@b;tag=uri>", b""),
        (b"<sip:a@b;tag=uri> ; TAG = y ;z", b"y"),
        (b"sip:a@b;tag=x", b"x"),
        (b'"a;tag=no" <sip:a@b>;x=1', b""),
        (b'"a>b;tag=no" <sip:a@b>', b""),
        (b'"a" <sip:a@b>;tag=x;note=">"', b"x"),
        (b'<sip:a@b>;note="z;tag=no";tag=x', b"x"),
        (b'<sip:a@b>;note="z;tag=no"', b""),
        (b"<sip:a@b>;xtag=no", b""),
        (b"", b""),
    ],
)
def test_tags(value: bytes, tag: bytes) -> None:
    """A tag decides whether an INVITE is a new call: one that is there must be seen, one that is not must not."""
    assert tag_of(value) == tag


@pytest.mark.parametrize(
    ("value", "display", "uri", "parameters"),
    [
        (b'"A \\"B\\"" <sip:a@b>;tag=1', 'A "B"', b"sip:a@b", {"tag": b"1"}),
        (b"Bell, Alexander <sip:a@b>", "Bell, Alexander", b"sip:a@b", {}),
        (b"caller<sip:a@b>", "caller", b"sip:a@b", {}),
        (b"sip:a@b;user=phone", "", b"sip:a@b", {"user": b"phone"}),
        (b'"W" < sip:a@b > ;x', "W", b"sip:a@b", {"x": b""}),
        ('"Zoë" <tel:911>'.encode(), "Zoë", b"tel:911", {}),
        (b"<sip:a@b?Route=%3Csip:c%3E>", "", b"sip:a@b?Route=%3Csip:c%3E", {}),
    ],
)
def test_name_addr(value: bytes, display: str, uri: bytes, parameters: dict[str, bytes]) -> None:
    address = parse_name_addr(value)
    assert (address.display_name, address.uri, address.parameters) == (display, uri, parameters)


@pytest.mark.parametrize("value", [b'"never ends <sip:a@b>', b"<sip:a@b"])
def test_bad_name_addr(value: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_name_addr(value)
    assert caught.value.reason is Reason.BAD_ADDRESS


@pytest.mark.parametrize(
    ("value", "balanced"),
    [(b"", True), (b'"a"', True), (b'"a', False), (b'"\\""', True), (b'"\\"', False), (b"\\", True)],
)
def test_quotes(value: bytes, balanced: bool) -> None:
    assert quotes_balanced(value) is balanced


N = 60_000


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (parse_via, b"SIP/2.0/UDP h" + b" " * N + b"x"),
        (parse_via, b"SIP/2.0/UDP " + b"h" * N + b"]"),
        (lambda value: parse_via(value).rport, b"SIP/2.0/UDP h;rport" + b" " * N + b"x"),
        (lambda value: parse_via(value).rport, b"SIP/2.0/UDP h" + b";rport x" * (N // 8)),
        (lambda value: parse_via(value).branch, b"SIP/2.0/UDP h;branch" + b" " * N + b"x"),
        (split_values, b"," * N),
        (split_values, b"a," * (N // 2)),
        (split_values, b'"\\' * (N // 2)),
        (split_values, b"<" * N),
        (split_values, b'"' * (N - 1)),
        (parse_cseq, b"1" + b" " * N + b"!!,"),
        (parse_cseq, b"1" * N),
        (tag_of, b";tag" + b" " * N + b"x"),
        (tag_of, b'>"' * (N // 2)),
        (parse_name_addr, b'"' + b"\\a" * (N // 2)),
        (parse_name_addr, b"<" * N),
        (quotes_balanced, b'"\\' * (N // 2)),
    ],
)
def test_no_value_of_64_kilobytes_takes_long(read: Callable[[bytes], object], value: bytes) -> None:
    """One datagram of anybody, before we know who sent it, may not hold up 911 calls."""
    started = time.process_time()
    with contextlib.suppress(RemoteError):
        read(value)
    assert time.process_time() - started < 0.5, "what grows with the square of the length takes many seconds"


@pytest.mark.parametrize("value", [b"SIP/2.0/UDP h;;branch=z", b"SIP/2.0/UDP h; ;branch=z", b"SIP/2.0/UDP h;"])
def test_a_via_with_an_empty_parameter_can_be_read_but_is_not_well_formed(value: bytes) -> None:
    assert parse_via(value).has_empty_parameter
    assert not parse_via(b"SIP/2.0/UDP h;branch=z;rport").has_empty_parameter


@given(
    transport=st.sampled_from([b"UDP", b"TCP", b"tls", b"SCTP"]),
    host=st.sampled_from([b"10.0.0.1", b"pbx.example.com", b"[2001:db8::1]", b"a b", b"PBX"]),
    port=st.sampled_from([b"", b":5060", b":0", b":65536", b": 5060"]),
    parameters=st.lists(
        st.sampled_from(
            [b";branch=z9hG4bKx", b";rport", b";rport=5", b";received=10.0.0.2", b";", b"; rport", b";a=b"]
        ),
        max_size=3,
    ),
)
def test_a_usual_via_reads_as_any_other(transport: bytes, host: bytes, port: bytes, parameters: list[bytes]) -> None:
    value = b"SIP/2.0/" + transport + b" " + host + port + b"".join(parameters)
    usual = parse_usual_via(b"Via: " + value)
    if usual is not None:
        assert usual == parse_via(value)
