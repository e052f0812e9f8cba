"""Ordinary requests: where they go, and that they leave as they came but for what a proxy must edit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sip.locating import NOWHERE, Located, Server, Weighted, Where
from tests.support.call_world import (
    CARRIER,
    CONFIG,
    PBX,
    PHONE,
    PROVIDER_A,
    SDP,
    CallWorld,
    Sent,
    invite,
    of,
    one,
    response,
)

OWN_ROUTE = "Route: <sip:10.0.0.5:5060;lr>"


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def request(method: str, uri: str, *extra: str, to_tag: str = "", number: int = 1, cseq: int = 2) -> bytes:
    to = "<sip:x@example.com>" + (f";tag={to_tag}" if to_tag else "")
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {PHONE[0]}:{PHONE[1]};branch=z9hG4bKd{number}{method};rport",
        "Max-Forwards: 70",
        "From: <sip:4102@pbx.example.com>;tag=f",
        f"To: {to}",
        f"Call-ID: dispatch-{number}",
        f"CSeq: {cseq} {method}",
        *extra,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def test_calls_from_inside_go_out_and_calls_from_outside_come_in(world: CallWorld) -> None:
    assert one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE").to == CARRIER
    raw = invite("sip:+12125550142@10.0.0.5", source=CARRIER)
    assert one(world.receive(raw, CARRIER), "INVITE").to == PBX


def test_nothing_else_is_edited(world: CallWorld) -> None:
    raw = invite(
        "sip:2125550177@10.0.0.5", extra=("subject:   Two   spaces", "X: a\r\n\tfolded", "P-Charge-Info: <x>")
    )
    sent = one(world.receive(raw), "INVITE").message
    kept = [line for line in sent.lines if not line.startswith((b"Via", b"Record-Route", b"Max-Forwards"))]
    came = raw.split(b"\r\n\r\n")[0].replace(b"\r\n\t", b"\x00").split(b"\r\n")[1:]
    came = [line.replace(b"\x00", b"\r\n\t") for line in came if not line.startswith((b"Via", b"Max-Forwards"))]
    assert kept == came
    assert sent.get("max-forwards") == "69"
    assert sent.start == "INVITE sip:2125550177@10.0.0.5 SIP/2.0"


def test_a_request_uri_inside_that_is_not_ours_is_sent_there(world: CallWorld) -> None:
    raw = invite("sip:4103@10.1.3.9:5070", source=CARRIER)
    assert one(world.receive(raw, CARRIER), "INVITE").to == ("10.1.3.9", 5070)


def test_a_route_left_after_ours_wins(world: CallWorld) -> None:
    raw = request("INVITE", "sip:2125550177@example.com", OWN_ROUTE, "Route: <sip:203.0.113.77:5090;lr>")
    sent = one(world.receive(raw), "INVITE")
    assert sent.to == ("203.0.113.77", 5090)
    assert sent.message.all("route") == ["<sip:203.0.113.77:5090;lr>"]


def test_requests_in_a_dialog_go_to_their_request_uri(world: CallWorld) -> None:
    for number, method in enumerate(("BYE", "INVITE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY"), 10):
        raw = request(method, "sip:far@203.0.113.50:5080", OWN_ROUTE, to_tag="t", number=number)
        sent = one(world.receive(raw), method)
        assert sent.to == ("203.0.113.50", 5080)
        assert not sent.message.all("route")


def test_the_ack_of_a_2xx_follows_the_route(world: CallWorld) -> None:
    sent = one(world.receive(request("ACK", "sip:far@203.0.113.50:5080", OWN_ROUTE, to_tag="t")), "ACK")
    assert sent.to == ("203.0.113.50", 5080)
    assert not world.router.stack.servers


def test_strict_routers_are_repaired(world: CallWorld) -> None:
    before = request("BYE", "sip:10.0.0.5:5060;lr", "Route: <sip:far@203.0.113.50:5080>", to_tag="t", number=21)
    sent = one(world.receive(before), "BYE")
    assert (sent.to, sent.message.start) == (("203.0.113.50", 5080), "BYE sip:far@203.0.113.50:5080 SIP/2.0")
    after = request("BYE", "sip:far@192.0.2.8", OWN_ROUTE, "Route: <sip:203.0.113.60:5062>", to_tag="t", number=22)
    sent = one(world.receive(after), "BYE")
    assert (sent.to, sent.message.start) == (("203.0.113.60", 5062), "BYE sip:203.0.113.60:5062 SIP/2.0")
    assert sent.message.all("route") == ["<sip:far@192.0.2.8>"]


def test_crossing_transports_is_recorded_twice(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:x@10.1.3.9:5070;transport=tcp")), "INVITE")
    assert sent.transport == "tcp"
    recorded = [value.partition(";t=")[0] for value in sent.message.all("record-route")]
    assert recorded == ["<sip:10.0.0.5:5060;transport=tcp;lr", "<sip:10.0.0.5:5060;lr"]
    back = request(
        "BYE", "sip:4102@10.1.3.7:5060", "Route: <sip:10.0.0.5:5060;transport=tcp;lr>", OWN_ROUTE, to_tag="t"
    )
    assert one(world.receive(back, ("10.1.3.9", 5070), "tcp"), "BYE").transport == "udp"


def test_the_next_trunk_is_tried_where_the_first_does_not_serve_the_call(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, routes={"outbound": ["carrier", "ers-b"], "inbound": ["pbx"]})
    first = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE", CARRIER)
    second = one(world.receive(response(first.message, 503), CARRIER), "INVITE")
    assert second.to == ("203.0.113.32", 5060)
    out = world.receive(response(second.message, 486), second.to)
    assert one(out, 486).to == PHONE, "busy is an answer"


def test_a_lone_503_of_a_trunk_holds_nothing_back(world: CallWorld) -> None:
    first = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    out = world.receive(response(first.message, 503, extra=("Retry-After: 3600",)), CARRIER)
    final = one(of(out, 500) + of(out, 503), 500)
    assert not final.message.all("retry-after")


def test_register_passes(world: CallWorld) -> None:
    raw = request("REGISTER", "sip:platform.example.com", "Contact: <sip:4102@10.1.3.7>", "Expires: 60")
    sent = one(world.receive(raw), "REGISTER")
    assert sent.to == CARRIER
    assert not sent.message.all("record-route")
    assert one(world.receive(response(sent.message, 200), CARRIER), 200).to == PHONE


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request("INVITE", "sip:x@10.1.3.9", "Proxy-Require: sec-agree"), 420),
        (request("INVITE", "unknown:x"), 416),
        (request("INVITE", "sip:x@10.1.3.9").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), 483),
        (request("INVITE", "sip:x@10.1.3.9").replace(b"Max-Forwards: 70", b"Max-Forwards: x"), 400),
        (request("BYE", "sip:x@10.0.0.5", to_tag="t"), 481),
        (request("INVITE", "sip:x@10.1.3.9").replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1), 505),
    ],
)
def test_refusals(world: CallWorld, raw: bytes, status: int) -> None:
    out = world.receive(raw)
    final = one(out, status)
    assert final.message.get("warning"), "it says why"
    assert sum(world.router.stack.drops.values()) == 1
    if status == 420:
        assert final.message.get("unsupported") == "sec-agree"


def test_options_to_the_router_itself_is_answered(world: CallWorld) -> None:
    assert one(world.receive(request("OPTIONS", "sip:10.0.0.5:5060")), 200).to == PHONE


def test_sources_in_no_network_are_refused_and_counted(world: CallWorld) -> None:
    stranger = ("192.0.2.66", 5060)
    out = world.receive(request("OPTIONS", "sip:10.0.0.5:5060").replace(b"10.1.3.7", b"192.0.2.66"), stranger)
    assert one(out, 403).to == stranger
    assert not world.receive(request("ACK", "sip:far@203.0.113.50", OWN_ROUTE, to_tag="t"), stranger)
    assert world.router.stack.drops["source-not-listed"] == 2


def test_outside_reaches_inside_and_trunks_only(world: CallWorld) -> None:
    raw = request("INVITE", "sip:x@198.51.100.9", "Route: <sip:198.51.100.9;lr>")
    assert one(world.receive(raw, CARRIER), 403)


def test_a_number_that_contains_911_is_ordinary(world: CallWorld) -> None:
    for number in ("19115550100", "2125559110", "9110", "+4991112345"):
        sent: Sent = one(world.receive(invite(f"sip:{number}@10.0.0.5")), "INVITE")
        assert sent.to == CARRIER


def test_a_number_that_looks_like_911_is_ordinary_and_said_once(
    world: CallWorld, caplog: pytest.LogCaptureFixture
) -> None:
    for number in ("1911", "+1911", "911%23", "911%23"):
        assert one(world.receive(invite(f"sip:{number}@10.0.0.5")), "INVITE").to == CARRIER
    assert [record.getMessage().split(" went")[0] for record in caplog.records] == [
        "a call to 1911",
        "a call to 911#",
    ]
    assert "add it to emergency.numbers" in caplog.text
    assert world.router.counts["looks_like_911"] == 4


def test_empty_routes_are_a_clear_refusal(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, routes={"outbound": [], "inbound": []}, sites=CONFIG["sites"])
    assert one(world.receive(invite("sip:2125550177@10.0.0.5")), 404)


def test_a_token_lets_the_rest_of_a_call_through_from_anywhere(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    (recorded,) = sent.message.all("record-route")
    elsewhere = ("198.51.100.77", 5060)
    tag = sent.message.get("from").partition("tag=")[2]

    def bye(route: str, number: int) -> bytes:
        raw = request("BYE", "sip:4102@10.1.3.7:5060", f"Route: {route}", to_tag="t", number=number)
        raw = raw.replace(b";tag=f\r\n", b";tag=far\r\n").replace(b";tag=t\r\n", f";tag={tag}\r\n".encode())
        return raw.replace(f"dispatch-{number}".encode(), sent.message.call_id.encode())

    assert one(world.receive(bye(recorded, 41), elsewhere), "BYE").to == PHONE
    forged = recorded.replace(";t=", ";t=0")
    assert one(world.receive(bye(forged, 42), elsewhere), 403)
    other_call = request("BYE", "sip:4102@10.1.3.7:5060", f"Route: {recorded}", to_tag="t", number=43)
    assert one(world.receive(other_call, elsewhere), 403)


def test_an_ack_that_names_only_us_is_dropped(world: CallWorld) -> None:
    assert not world.receive(request("ACK", "sip:2125550177@10.0.0.5:5060", to_tag="somebody"))
    assert world.router.stack.drops["stray-ack"] == 1


def test_a_broken_line_in_a_dialog_is_no_reason_to_lose_the_request(world: CallWorld) -> None:
    raw = request("ACK", "sip:far@203.0.113.50:5080", OWN_ROUTE, "no colon here", to_tag="t")
    assert one(world.receive(raw), "ACK").to == ("203.0.113.50", 5080)


def at(*addresses: str, port: int = 5080) -> Located:
    """Servers of descending priority."""
    return Located(tuple((Weighted(0, (Server("udp", address, port),)),) for address in addresses))


def test_what_follows_a_look_up_is_sent_at_once(world: CallWorld) -> None:
    asked = []
    world.router.next_hops.resolve = lambda where, told: asked.append((where, told))
    raw = request("BYE", "sip:far@psap.example.com:5080", OWN_ROUTE, to_tag="t")
    assert not world.receive(raw)
    ((where, told),) = asked
    assert where == Where("psap.example.com", 5080)
    told(at("203.0.113.80"))
    assert world.edge.flushed == 1, "no message of a peer's is being treated: nobody else would send it"
    assert one(world.sent(), "BYE").to == ("203.0.113.80", 5080)


def test_a_name_that_cannot_be_resolved_is_answered(world: CallWorld) -> None:
    world.router.next_hops.resolve = lambda where, told: told(NOWHERE)
    assert one(world.receive(request("BYE", "sip:far@psap.example.com", OWN_ROUTE, to_tag="t")), 480)


OWN_NAME = "edge.example.net"


def names(world: CallWorld) -> list[Where]:
    """DNS that knows this router's name, and answers at once; what it is asked."""
    asked: list[Where] = []

    def resolve(where: Where, told: Callable[[Located], None]) -> None:
        asked.append(where)
        told(at("10.0.0.5" if where.host == OWN_NAME else "203.0.113.80", port=5060))

    world.router.resolve = world.router.next_hops.resolve = resolve
    return asked


@pytest.mark.parametrize("number", [1, 2])
def test_a_route_that_names_us_by_our_name_is_ours(world: CallWorld, number: int) -> None:
    """So phones write their outbound proxy; taken for another's, the request would come back to us, a loop."""
    asked = names(world)
    by_name = f"Route: <sip:{OWN_NAME};lr>"
    for method in ("REGISTER", "INVITE", "MESSAGE"):
        sent = one(world.receive(request(method, "sip:x@platform.example.com", by_name, number=number)), method)
        assert (sent.to, sent.message.all("route")) == (CARRIER, [])
    assert asked == [Where(OWN_NAME)], "asked once"
    raw = request("INVITE", "sip:x@platform.example.com", by_name, "Route: <sip:proxy.example.net;lr>", number=9)
    sent = one(world.receive(raw), "INVITE")
    assert (sent.to, sent.message.all("route")) == (("203.0.113.80", 5060), ["<sip:proxy.example.net;lr>"])


@pytest.mark.parametrize("method", ["ACK", "BYE"])
def test_within_a_call_too(world: CallWorld, method: str) -> None:
    names(world)
    by_name = f"Route: <sip:{OWN_NAME};lr>"
    sent = one(world.receive(request(method, "sip:far@203.0.113.50:5080", by_name, to_tag="t")), method)
    assert (sent.to, sent.message.all("route")) == (("203.0.113.50", 5080), [])
    last = world.receive(request(method, f"sip:x@{OWN_NAME}", to_tag="t", number=2))
    assert [message.message.status for message in last] == ([] if method == "ACK" else [481])


def test_options_to_the_routers_name_is_answered_and_to_others_goes_on(world: CallWorld) -> None:
    names(world)
    for number in (1, 2):
        answer = one(world.receive(request("OPTIONS", f"sip:{OWN_NAME}", number=number)), 200)
        assert "INVITE" in answer.message.get("allow")
    assert one(world.receive(request("OPTIONS", "sip:other.example.net", number=3)), "OPTIONS").to == CARRIER
    world.router.next_hops.resolve = lambda where, told: told(NOWHERE)
    assert one(world.receive(request("OPTIONS", "sip:third.example.net", number=4)), "OPTIONS").to == CARRIER


def test_of_two_content_lengths_neither_cuts_an_emergency_call(world: CallWorld) -> None:
    sent = one(world.receive(invite(extra=("Content-Length: 5",))), "INVITE", PROVIDER_A)
    assert SDP in sent.message.body
    assert len(sent.message.all("content-length")) == 1


@pytest.mark.parametrize("own", ["sip:10.0.0.5:5060;lr", "sip:10.0.0.5"])
def test_a_911_call_by_way_of_a_strict_route_is_a_911_call(world: CallWorld, own: str) -> None:
    raw = invite(own, extra=("Route: <sip:911@pbx.example.com>",))
    sent = one(world.receive(raw), "INVITE")
    assert (sent.to, sent.message.uri) == (PROVIDER_A, "sip:911@203.0.113.31:5060")
    assert not sent.message.all("route")
    ordinary = invite(own, extra=("Route: <sip:2125550177@192.0.2.8>",))
    assert not of(world.receive(ordinary), "INVITE", PROVIDER_A)


def test_a_server_of_a_name_that_does_not_serve_gives_way_to_the_next(world: CallWorld) -> None:
    world.router.next_hops.resolve = lambda where, told: told(at("203.0.113.80", "203.0.113.81", "203.0.113.82"))
    raw = request("INVITE", "sip:far@psap.example.com", OWN_ROUTE, to_tag="t")
    first = one(world.receive(raw), "INVITE", ("203.0.113.80", 5080))
    second = one(world.unreachable(first), "INVITE", ("203.0.113.81", 5080))
    third = one(world.receive(response(second.message, 503), second.to), "INVITE", ("203.0.113.82", 5080))
    assert third.message.start == "INVITE sip:far@psap.example.com SIP/2.0"
    assert not world.edge.flushed, "known at once: the message is still being treated"
