"""process_routes. Proved: RFC 3261 16.4 (a strict router before us), 16.6 step 6 (after us), 16.12; RFC 5658 (two
Record-Routes of ours); values that stay keep their bytes; 16.4 last paragraph (maddr)."""

import pytest

from sip.errors import Reason, RemoteError
from sip.message import Request
from sip.parsing import parse_message
from sip.routing import RouteDecision, process_routes
from sip.uri import SipUri
from tests.support.playbook import request_bytes


def decide(*routes: bytes, uri: bytes = b"sip:bob@198.51.100.20") -> RouteDecision:
    request = parse_message(request_bytes(b"BYE", uri=uri, extra=[b"Route: " + value for value in routes]))
    assert isinstance(request, Request)

    def is_own(candidate: SipUri) -> bool:
        return (candidate.host, candidate.effective_port) == ("192.0.2.1", 5060)

    return process_routes(request, is_own)


def test_no_route() -> None:
    assert decide() == RouteDecision(b"sip:bob@198.51.100.20", None, [], None)


def test_ours_alone_comes_off() -> None:
    decision = decide(b"<sip:192.0.2.1:5060;lr;e911=abc>")
    assert (decision.uri, decision.routes, decision.next_hop) == (b"sip:bob@198.51.100.20", [], None)
    assert [uri.parameters["e911"] for uri in decision.own] == [b"abc"]


def test_two_of_ours_and_what_follows_as_it_was_written() -> None:
    decision = decide(
        b'<sip:192.0.2.1;transport=tcp;lr>,  <sip:192.0.2.1:5060;lr> , "P, one" <sip:P1.example;lr;x="a,b">;y',
        b"<sip:p2.example;lr>",
    )
    assert [uri.transport for uri in decision.own] == ["tcp", "udp"]
    assert decision.routes == [b'"P, one" <sip:P1.example;lr;x="a,b">;y', b"<sip:p2.example;lr>"]
    assert decision.uri == b"sip:bob@198.51.100.20"


def test_another_proxy_first_is_the_next_hop() -> None:
    decision = decide(b"<sip:p1.example;lr>", b"<sip:192.0.2.1;lr>")
    assert (decision.own, decision.next_hop) == ([], b"sip:p1.example;lr")
    assert decision.routes is None, "nothing is taken off: the lines stay as they are"


def test_a_strict_router_before_us() -> None:
    decision = decide(b"<sip:p2.example;lr>", b"<sip:bob@198.51.100.20>", uri=b"sip:192.0.2.1:5060;lr")
    assert decision.uri == b"sip:bob@198.51.100.20"
    assert decision.routes == [b"<sip:p2.example;lr>"]
    assert decision.next_hop == b"sip:p2.example;lr"
    assert len(decision.own) == 1


def test_a_strict_router_before_us_and_nobody_after() -> None:
    decision = decide(b"<sip:bob@198.51.100.20>", uri=b"sip:192.0.2.1:5060;lr")
    assert (decision.uri, decision.routes, decision.next_hop) == (b"sip:bob@198.51.100.20", [], None)


def test_a_strict_router_after_us() -> None:
    decision = decide(b"<sip:192.0.2.1;lr>", b"<sip:strict.example>", b"<sip:p2.example;lr>")
    assert decision.uri == b"sip:strict.example"
    assert decision.routes == [b"<sip:p2.example;lr>", b"<sip:bob@198.51.100.20>"]
    assert decision.next_hop == b"sip:strict.example"


def test_our_address_in_the_request_uri_without_lr_is_a_user_of_ours() -> None:
    decision = decide(b"<sip:p1.example;lr>", uri=b"sip:bob@192.0.2.1")
    assert decision.uri == b"sip:bob@192.0.2.1"


@pytest.mark.parametrize(
    ("uri", "leaves_as"),
    [
        (b"sip:bob@example.com:5060;maddr=192.0.2.1;user=phone", b"sip:bob@example.com;user=phone"),
        (b"sip:bob@example.com;transport=udp;MADDR=192.0.2.1", b"sip:bob@example.com"),
        (b"sips:example.com:5060;maddr=192.0.2.1;x", b"sips:example.com;x"),
        (b"sip:bob@example.com;maddr=192.0.2.9", b"sip:bob@example.com;maddr=192.0.2.9"),
        (b"sip:bob@example.com:5070;maddr=192.0.2.1", b"sip:bob@example.com:5070;maddr=192.0.2.1"),
        (b"sip:bob@[2001:db8::1];maddr=192.0.2.1;y=1", b"sip:bob@[2001:db8::1];y=1"),
        (b"sip:maddr=192.0.2.1@example.com", b"sip:maddr=192.0.2.1@example.com"),
        (b"tel:1;maddr=192.0.2.1", b"tel:1;maddr=192.0.2.1"),
    ],
)
def test_a_maddr_that_names_us_goes(uri: bytes, leaves_as: bytes) -> None:
    assert decide(uri=uri).uri == leaves_as


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (b"<sip:p1.example;lr", Reason.BAD_ADDRESS),
        (b'"x <sip:p1>', Reason.BAD_ADDRESS),
        (b"<sip:>", Reason.BAD_REQUEST_URI),
        (b"<tel:911>", Reason.UNSUPPORTED_SCHEME),
    ],
)
def test_a_route_that_cannot_be_read(route: bytes, reason: Reason) -> None:
    with pytest.raises(RemoteError) as caught:
        decide(route)
    assert caught.value.reason is reason
