"""SIP URIs. Proved: RFC 3261 section 19.1 as far as a proxy reads it, leniently; 25.1 (user); bounded cost."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip.errors import Reason, RemoteError
from sip.uri import MAX_URI_BYTES, _parse_head, bracketed, parse_parameters, parse_sip_uri, scheme_of


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "transport", "effective"),
    [
        (b"sip:911@192.0.2.1", b"911", "192.0.2.1", None, "udp", 5060),
        (b"SIP:911@192.0.2.1:5080;Transport=TCP", b"911", "192.0.2.1", 5080, "tcp", 5080),
        (b"sips:a@example.com", b"a", "example.com", None, "tls", 5061),
        (b"sip:example.com.", b"", "example.com", None, "udp", 5060),
        (b"sip:EXAMPLE.com;lr", b"", "example.com", None, "udp", 5060),
        (b"sip:[2001:DB8::1]:5062;lr", b"", "2001:db8::1", 5062, "udp", 5062),
        (b"sip:[2001:db8::10:5070]", b"", "2001:db8::10:5070", None, "udp", 5060),
        (b"sip:user;par=u%40example.net@example.com", b"user;par=u%40example.net", "example.com", None, "udp", 5060),
        (b"sip:a:pass@example.com", b"a:pass", "example.com", None, "udp", 5060),
        (b"sip:a?b@example.com", b"a?b", "example.com", None, "udp", 5060),
        (b"sip:first@middle@example.com", b"first@middle", "example.com", None, "udp", 5060),
        (b"sip:host_name-1.example.com", b"", "host_name-1.example.com", None, "udp", 5060),
        (b"sip:%00@example.com", b"%00", "example.com", None, "udp", 5060),
    ],
)
def test_what_is_read(text: bytes, user: bytes, host: str, port: int | None, transport: str, effective: int) -> None:
    uri = parse_sip_uri(text)
    assert (uri.user, uri.host, uri.port, uri.transport, uri.effective_port) == (
        user,
        host,
        port,
        transport,
        effective,
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"sip:",
        b"sip:@",
        b"sip:a@",
        b"sip:2001:db8::10",
        b"sip:a@host:0",
        b"sip:a@host:65536",
        b"sip:a@host:x",
        b"sip:a b@host",
        b"sip:a@ho st",
        b"sip:a@host>",
        b"<sip:a@host>",
        b"sip:-a-",
        b"sip:[::1",
        b"911",
        b"//example.com",
    ],
)
def test_what_is_not_a_uri(text: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_sip_uri(text)
    assert (caught.value.reason, caught.value.status) == (Reason.BAD_REQUEST_URI, 400)


@pytest.mark.parametrize("text", [b"tel:911", b"urn:service:sos", b"http://a/", b"soap.beep://x", b"nobodyKnows:x"])
def test_other_schemes_are_416(text: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_sip_uri(text)
    assert (caught.value.reason, caught.value.status) == (Reason.UNSUPPORTED_SCHEME, 416)


def test_headers_of_a_uri_are_noticed_and_no_parameters() -> None:
    uri = parse_sip_uri(b"sip:user@example.com;a=b?Route=%3Csip:example.com%3E;lr")
    assert uri.has_headers
    assert uri.parameters == {"a": b"b"}


def test_parameters() -> None:
    assert parse_parameters(b";LR; a = 1 ;;b=x=y;a=2") == {"lr": b"", "a": b"1", "b": b"x=y"}
    assert parse_parameters(b"") == {}


@pytest.mark.parametrize(
    ("maddr", "destination"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"Proxy.Example.com.", "proxy.example.com"),
        (b"", "example.com"),
        (b"224.0.1.75", "example.com"),
        (b"255.255.255.255", "example.com"),
        (b"0.0.0.0", "example.com"),
        (b"1.2.3", "example.com"),
        (b"a,b", "example.com"),
    ],
)
def test_a_maddr_that_names_one_host_is_where_to_send(maddr: bytes, destination: str) -> None:
    uri = parse_sip_uri(b"sip:user@example.com;maddr=" + maddr)
    assert (uri.host, uri.destination) == ("example.com", destination)


def test_too_long_is_414_and_not_kept() -> None:
    before = _parse_head.cache_info().currsize
    with pytest.raises(RemoteError) as caught:
        parse_sip_uri(b"sip:a@b;" + b"x" * MAX_URI_BYTES)
    assert caught.value.status == 414
    assert _parse_head.cache_info().currsize == before


@pytest.mark.parametrize(
    "text",
    [
        b"sip:" + b"a@h;" * 1000 + b"<",
        b"sip:a@" + b"a." * 2000 + b"!",
        b"sip:" + b"@" * 4000,
        b"sip:a@h" + b";" * 4000,
    ],
)
def test_no_uri_takes_long(text: bytes) -> None:
    started = time.process_time()
    for number in range(10):
        try:
            parse_sip_uri(text + b"%d" % number)
        except RemoteError:
            continue
    assert time.process_time() - started < 0.5, "quadratic matching took seconds"


@pytest.mark.parametrize(("uri", "scheme"), [(b"SIP:a", "sip"), (b"a+b-c.d:x", "a+b-c.d"), (b"911", ""), (b":x", "")])
def test_schemes(uri: bytes, scheme: str) -> None:
    assert scheme_of(uri) == scheme


def test_brackets() -> None:
    assert (bracketed("::1"), bracketed("192.0.2.1")) == ("[::1]", "192.0.2.1")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_only_remote_errors(junk: bytes) -> None:
    for text in (junk, b"sip:" + junk, b"sip:a@" + junk):
        with contextlib.suppress(RemoteError):
            assert parse_sip_uri(text).host
