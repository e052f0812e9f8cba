"""Phones that register through us: Path or a Contact of ours on the way out, the phone's own flow on the way back."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from router.dialogs.token_keys import TokenKeys, derived_key
from tests.support.call_world import CARRIER, CONFIG, KEY, PHONE, PROVIDER_A, CallWorld, Sent, invite, one, response
from tests.support.sip_text import Message

NATTED = ("10.9.0.1", 34567)
"""Where the phone is seen: its NAT's address. It says of itself that it is at LIE."""
LIE = "192.168.1.20:5060"
AOR = "sip:4102@platform.example.com"
WANT_PATH = ("Supported: path",)


def trunks(**carrier: str) -> dict[str, object]:
    return {**CONFIG["trunks"], "carrier": {**CONFIG["trunks"]["carrier"], **carrier}}


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


@pytest.fixture
def by_contact(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, trunks=trunks(registrar="contact"))


def register(
    *extra: str, contact: str = f"<sip:4102@{LIE}>;expires=60", transport: str = "UDP", number: int = 1
) -> bytes:
    lines = [
        "REGISTER sip:platform.example.com SIP/2.0",
        f"Via: SIP/2.0/{transport} {LIE};branch=z9hG4bKreg{number};rport",
        "Max-Forwards: 70",
        f"From: <{AOR}>;tag=r",
        f"To: <{AOR}>",
        "Call-ID: registration",
        f"CSeq: {number} REGISTER",
        f"Contact: {contact}",
        *extra,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def accepted(request: Message, *extra: str, contact: str = "") -> bytes:
    raw = response(request, 200, extra=(f"Contact: {contact or request.get('contact')}", *extra))
    return raw.replace(b"Contact: <sip:psap@203.0.113.31:5060>\r\n", b"")


def uri_of(value: str) -> str:
    return value.partition("<")[2].partition(">")[0]


def call_from_platform(uri: str, *extra: str, user: str = "2125550177") -> bytes:
    return invite(uri, user=user, source=CARRIER, extra=extra)


def phone_answers(world: CallWorld, ring: Sent, source: tuple[str, int] = NATTED, transport: str = "udp") -> Message:
    """The phone's 200, with a Contact that lies; what the platform gets."""
    raw = response(ring.message, 200, tag="phone").replace(b"psap@203.0.113.31:5060", f"4102@{LIE}".encode())
    return one(world.receive(raw, source, transport), 200, CARRIER).message


def from_platform(answer: Message, method: str, number: int = 1) -> bytes:
    """A request of the platform in the dialog: its Route is the answer's Record-Route, the last first."""
    lines = [
        f"{method} {uri_of(answer.get('contact'))} SIP/2.0",
        f"Via: SIP/2.0/UDP {CARRIER[0]}:5060;branch=z9hG4bKp{method}{number};rport",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in reversed(answer.all("record-route"))),
        f"From: {answer.get('from')}",
        f"To: {answer.get('to')}",
        f"Call-ID: {answer.call_id}",
        f"CSeq: {1 if method == 'ACK' else 2} {method}",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def from_phone(ring: Message, method: str) -> bytes:
    """A request of the phone in the dialog: its Route is the INVITE's Record-Route as it came."""
    lines = [
        f"{method} sip:2125550177@203.0.113.50:5060 SIP/2.0",
        f"Via: SIP/2.0/UDP {LIE};branch=z9hG4bKq{method};rport",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in ring.all("record-route")),
        f"From: {ring.get('to')};tag=phone",
        f"To: {ring.get('from')}",
        f"Call-ID: {ring.call_id}",
        f"CSeq: 7 {method}",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


# --- Path ---


def test_a_register_gets_a_path_and_is_otherwise_left_alone(world: CallWorld) -> None:
    raw = register("Path: <sip:inner.example.com;lr>", "X-Odd:   two  spaces")
    sent = one(world.receive(raw, NATTED), "REGISTER")
    ours, inner = sent.message.all("path")
    assert re.fullmatch(r"<sip:[A-Za-z0-9_-]+@10\.0\.0\.5:5060;lr>", ours), "above the others (RFC 3327 section 5.2)"
    assert inner == "<sip:inner.example.com;lr>"
    ours_too = (b"Via: SIP/2.0/UDP 10.0.0.5", b"Path: <sip:" + uri_of(ours)[4:20].encode(), b"Max-Forwards", b"Via: ")
    kept = [line for line in sent.message.lines if not line.startswith(ours_too)]
    came = raw.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    assert kept == [line for line in came if not line.startswith((b"Via", b"Max-Forwards"))]
    assert one(world.receive(accepted(sent.message), CARRIER), 200).to == NATTED


@pytest.mark.parametrize("restart", [False, True])
def test_a_call_by_our_path_goes_through_the_phones_nat(world: CallWorld, restart: bool) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    world.receive(accepted(sent.message), CARRIER)
    if restart:
        world.start()
    ring = one(
        world.receive(call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}"), CARRIER), "INVITE"
    )
    assert (ring.to, ring.message.start, ring.message.all("route")) == (NATTED, f"INVITE sip:4102@{LIE} SIP/2.0", [])
    answer = phone_answers(world, ring)
    if restart:
        world.start()
    assert one(world.receive(from_platform(answer, "ACK"), CARRIER), "ACK").to == NATTED
    assert one(world.receive(from_platform(answer, "INFO"), CARRIER), "INFO").to == NATTED
    assert one(world.receive(from_phone(ring.message, "BYE"), NATTED), "BYE").to == CARRIER
    moved = (NATTED[0], 40001)
    raw = from_phone(ring.message, "INFO")
    assert one(world.receive(raw, moved), "INFO").to == CARRIER, "its NAT has given it another port"
    assert one(world.receive(from_platform(answer, "BYE"), CARRIER), "BYE").to == NATTED


def test_the_phones_own_request_by_its_path_goes_out(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    raw = invite("sip:2125550177@platform.example.com", extra=(f"Route: {sent.message.get('path')}",))
    assert one(world.receive(raw, NATTED), "INVITE").to == CARRIER


def test_a_forged_path_leads_nowhere(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    path = sent.message.get("path")
    for bad in (path.replace("<sip:E", "<sip:F"), path.replace("@", "AAAA@"), f"<sip:{'x' * 32}@10.0.0.5:5060;lr>"):
        assert bad != path
        raw = call_from_platform(f"sip:4102@{LIE}", f"Route: {bad}")
        assert one(world.receive(raw, CARRIER), 403), "RFC 5626 section 5.3.1"
    assert world.router.stack.drops["bad-flow-token"] == 3


def test_a_name_that_somebody_gave_us_in_a_route_is_no_token(world: CallWorld) -> None:
    raw = call_from_platform("sip:+12125550142@10.0.0.5", "Route: <sip:edge-trunk-1@10.0.0.5:5060;lr>")
    assert one(world.receive(raw, CARRIER), "INVITE").to == ("10.0.0.10", 5060)


@pytest.mark.parametrize("contact", ["< sip:4102@192.168.1.20:5060 >;q=1", "sip:4102@192.168.1.20:5060;q=1", "m"])
def test_odd_ways_to_write_a_contact(by_contact: CallWorld, contact: str) -> None:
    raw = register(contact=contact)
    if contact == "m":
        raw = register(contact="<sip:4102@192.168.1.20:5060>;q=1").replace(b"Contact:", b"m:")
    sent = one(by_contact.receive(raw, NATTED), "REGISTER").message.get("contact")
    assert re.fullmatch(r"<sip:4102@10\.0\.0\.5:5060;e9=[\w-]+>;q=1", sent)


def test_strangers_may_not_use_a_path(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    raw = call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}")
    assert one(world.receive(raw, ("198.51.100.7", 5060)), 403)


def test_a_phone_whose_user_part_is_911_can_be_called(world: CallWorld) -> None:
    sent = one(world.receive(register(contact=f"<sip:911@{LIE}>"), NATTED), "REGISTER")
    raw = call_from_platform(f"sip:911@{LIE}", f"Route: {sent.message.get('path')}")
    assert one(world.receive(raw, CARRIER), "INVITE").to == NATTED
    assert one(world.receive(call_from_platform(f"sip:911@{LIE}"), CARRIER), 403)


def test_911_dialled_with_the_phones_own_path_is_911(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    other = ("10.9.0.1", 34999)
    for source in (NATTED, other):
        raw = invite("sip:911@platform.example.com", extra=(f"Route: {sent.message.get('path')}",))
        assert one(world.receive(raw, source), "INVITE").to == ("203.0.113.31", 5060)


def test_a_registrar_that_asks_for_support_is_told_of_it(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    again = one(world.receive(response(sent.message, 420, extra=("Unsupported: path",)), CARRIER), "REGISTER")
    assert again.message.get("supported") == "path"
    assert again.message.get("path") == sent.message.get("path")
    assert again.message.all("via")[0] != sent.message.all("via")[0]
    assert one(world.receive(accepted(again.message), CARRIER), 200).to == NATTED
    later = one(world.receive(register(number=2), NATTED), "REGISTER")
    assert later.message.get("supported") == "path", "it is remembered"
    refused = world.receive(response(later.message, 420, extra=("Unsupported: path",)), CARRIER)
    assert one(refused, 420).to == NATTED, "asked once"


def test_a_phone_that_says_so_itself_gets_its_refusal(world: CallWorld) -> None:
    sent = one(world.receive(register(*WANT_PATH), NATTED), "REGISTER")
    assert sent.message.all("supported") == ["path"]
    assert one(world.receive(response(sent.message, 421, extra=("Require: path",)), CARRIER), 421).to == NATTED


def test_outbound_is_said_for_phones_that_do_outbound(world: CallWorld) -> None:
    contact = f'<sip:4102@{LIE};ob>;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'
    sent = one(world.receive(register("Supported: path, outbound", contact=contact), NATTED), "REGISTER")
    assert sent.message.get("path").endswith(";lr;ob>")


def test_nothing_is_edited_where_the_engineer_says_so(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, trunks=trunks(registrar="none"))
    sent = one(world.receive(register(), NATTED), "REGISTER")
    assert not sent.message.all("path")
    assert sent.message.get("contact") == f"<sip:4102@{LIE}>;expires=60"


def test_a_change_of_keys_loses_no_registration(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    raw = call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}")
    world.router.use(replace(world.router.setup, token_keys=TokenKeys((bytes(32), derived_key(KEY)))))
    assert one(world.receive(raw, CARRIER), "INVITE").to == NATTED


# --- connections ---


def test_a_phone_on_a_connection_is_called_over_it(world: CallWorld) -> None:
    sent = one(world.receive(register(transport="TCP"), NATTED, "tcp"), "REGISTER")
    world.receive(accepted(sent.message, contact=f"<sip:4102@{LIE}>;expires=1800"), CARRIER)
    ((flow, seconds),) = world.edge.held
    assert (flow.connection, seconds) == (7, 1860), "it is not closed for being idle while the phone is registered"
    ring = one(
        world.receive(call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}"), CARRIER), "INVITE"
    )
    assert (ring.to, ring.transport, ring.connection) == (NATTED, "tcp", 7)
    answer = phone_answers(world, ring, NATTED, "tcp")
    bye = one(world.receive(from_platform(answer, "BYE"), CARRIER), "BYE")
    assert (bye.to, bye.connection) == (NATTED, 7)


@pytest.mark.parametrize("after", ["closed", "restart"])
def test_a_flow_that_has_ended_is_told_to_the_registrar(world: CallWorld, after: str) -> None:
    sent = one(world.receive(register(transport="TCP"), NATTED, "tcp"), "REGISTER")
    if after == "closed":
        world.edge.connections.clear()
    else:
        world.start()
    raw = call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}")
    answer = one(world.receive(raw, CARRIER), 430).message
    assert answer.start == "SIP/2.0 430 Flow Failed"
    assert "flow-failed" in answer.get("warning")
    assert world.router.stack.drops["flow-failed"] == 1


def test_a_phone_that_listens_where_its_contact_says_is_connected_to_after_a_restart(world: CallWorld) -> None:
    contact = "sip:4102@10.9.0.1:5060;transport=tcp"
    sent = one(world.receive(register(transport="TCP", contact=f"<{contact}>"), NATTED, "tcp"), "REGISTER")
    world.start()
    raw = call_from_platform(contact, f"Route: {sent.message.get('path')}")
    ring = one(world.receive(raw, CARRIER), "INVITE")
    assert (ring.to, ring.transport) == (("10.9.0.1", 5060), "tcp")
    (client,) = world.router.stack.clients.values()
    world.router.stack.transport_failed(client, world.now)
    assert one(world.sent(), 430).to == CARRIER


def test_a_closed_port_is_a_failed_flow(world: CallWorld) -> None:
    sent = one(world.receive(register(), NATTED), "REGISTER")
    raw = call_from_platform(f"sip:4102@{LIE}", f"Route: {sent.message.get('path')}")
    ring = one(world.receive(raw, CARRIER), "INVITE")
    answer = one(world.unreachable(ring), 430)
    assert (answer.to, world.router.stack.drops["flow-failed"]) == (CARRIER, 1)
    assert "flow-failed" in answer.message.get("warning")


# --- Contact ---


def test_a_registrar_without_path_gets_a_contact_that_leads_to_us(by_contact: CallWorld) -> None:
    world = by_contact
    raw = register(contact=f'"Desk" <sip:4102@{LIE};line=abc>;expires=60;q=0.5')
    sent = one(world.receive(raw, NATTED), "REGISTER")
    assert not sent.message.all("path")
    contact = sent.message.get("contact")
    assert re.fullmatch(r'"Desk" <sip:4102@10\.0\.0\.5:5060;e9=[A-Za-z0-9_-]+>;expires=60;q=0\.5', contact)
    other = "<sip:4102@192.0.2.77:5060>;expires=30"
    raw = accepted(sent.message, contact=f"{other}, <{uri_of(contact)}>;expires=55;q=0.5")
    answer = one(world.receive(raw, CARRIER), 200)
    assert answer.to == NATTED
    assert answer.message.get("contact") == f"{other}, <sip:4102@{LIE};line=abc>;expires=55;q=0.5"


@pytest.mark.parametrize("restart", [False, True])
def test_a_call_to_that_contact_goes_through_the_phones_nat(by_contact: CallWorld, restart: bool) -> None:
    world = by_contact
    sent = one(world.receive(register(contact=f"sip:4102@{LIE};expires=60"), NATTED), "REGISTER")
    contact = uri_of(sent.message.get("contact"))
    assert sent.message.get("contact").endswith(">;expires=60")
    if restart:
        world.start(trunks=trunks(registrar="contact"))
    ring = one(world.receive(call_from_platform(contact), CARRIER), "INVITE")
    assert (ring.to, ring.message.start) == (NATTED, f"INVITE sip:4102@{LIE} SIP/2.0")
    answer = phone_answers(world, ring)
    assert one(world.receive(from_platform(answer, "ACK"), CARRIER), "ACK").to == NATTED
    assert one(world.receive(from_platform(answer, "BYE"), CARRIER), "BYE").to == NATTED


def test_the_same_phone_is_the_same_contact_whatever_connection_it_has(by_contact: CallWorld) -> None:
    world = by_contact
    contact = f"<sip:4102@{LIE};transport=tcp>"
    first = one(world.receive(register(transport="TCP", contact=contact), NATTED, "tcp"), "REGISTER")
    world.edge.connections = {8}
    again = (NATTED[0], 34999)
    raw = register(transport="TCP", contact=contact, number=2)
    second = one(world.receive(raw, again, "tcp", connection=8), "REGISTER")
    assert second.message.get("contact") == first.message.get("contact")
    ring = one(world.receive(call_from_platform(uri_of(first.message.get("contact"))), CARRIER), "INVITE")
    assert (ring.to, ring.connection) == (again, 8), "by the one it has now"
    world.edge.connections.clear()
    raw = call_from_platform(uri_of(first.message.get("contact")))
    assert one(world.receive(raw, CARRIER), 430)


def test_what_is_no_sip_contact_stays(by_contact: CallWorld) -> None:
    for contact in ("*", "<tel:+12125550142>"):
        sent = one(by_contact.receive(register(contact=contact, number=len(contact)), NATTED), "REGISTER")
        assert sent.message.get("contact") == contact


def test_a_contact_of_ours_that_was_tampered_with_is_nobody(by_contact: CallWorld) -> None:
    sent = one(by_contact.receive(register(), NATTED), "REGISTER")
    contact = uri_of(sent.message.get("contact"))
    raw = call_from_platform(contact[:-3] + "AAA")
    assert one(by_contact.receive(raw, CARRIER), 403)


# --- calls of phones whose Contact lies ---


@pytest.mark.parametrize(
    ("uri", "provider"), [("sip:911@10.0.0.5", ("203.0.113.31", 5060)), ("sip:2125550177@10.0.0.5", CARRIER)]
)
def test_the_far_end_reaches_a_caller_behind_nat(world: CallWorld, uri: str, provider: tuple[str, int]) -> None:
    raw = invite(uri, source=NATTED).replace(b"<sip:4102@10.9.0.1:34567>", f"<sip:4102@{LIE}>".encode())
    sent = one(world.receive(raw, NATTED), "INVITE")
    assert sent.to == provider
    world.receive(response(sent.message, 200), provider)
    far, near = sent.message.all("record-route")
    bye = world.in_dialog(sent.message, "BYE", f"sip:4102@{LIE}", [far, near], from_far=True)
    assert one(world.receive(bye, provider), "BYE").to == NATTED
    ack = world.in_dialog(sent.message, "ACK", "sip:psap@203.0.113.31:5060", [near, far])
    assert one(world.receive(ack, NATTED), "ACK").to == ("203.0.113.31", 5060)


def test_a_phone_that_is_where_it_says_needs_one_line(world: CallWorld) -> None:
    assert len(one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE").message.all("record-route")) == 1


def test_a_via_whose_maddr_is_of_another_family_stops_no_registration(world: CallWorld) -> None:
    """Found by fuzzing: answers cannot go there from this socket, and no token can be made of it."""
    raw = register().replace(b";branch=", b";maddr=2001:db8::9;branch=", 1)
    assert one(world.receive(raw, PHONE), "REGISTER").message.get("path")
    assert not world.router.counts["faults"]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_phone_on_a_stream_whose_contact_does_not_say_so_is_reached_by_its_connection(
    tmp_path: Path, transport: str
) -> None:
    """Many leave `transport=` out. By UDP the PSAP's BYE would reach nobody."""
    listen = [*CONFIG["listen"], "tls://10.0.0.5:5061"]
    world = CallWorld(tmp_path, listen=listen, tls={"certificate": "edge.crt", "private_key": "edge.key"})
    phone = (PHONE[0], 51234)
    for contact in (f"{PHONE[0]}:5060", f"{PHONE[0]}:{phone[1]}"):
        raw = invite(transport=transport.upper(), source=phone)
        raw = raw.replace(b"@%b:%d>" % (phone[0].encode(), phone[1]), b"@%b>" % contact.encode())
        sent = one(world.receive(raw, phone, transport), "INVITE").message
        world.receive(response(sent, 200), PROVIDER_A)
        routes = sent.all("record-route")

        def bye(there: str = contact, sent: Message = sent, routes: list[str] = routes) -> Sent:
            made = world.in_dialog(sent, "BYE", f"sip:4102@{there}", routes, from_far=True)
            return one(world.receive(made, PROVIDER_A), "BYE")

        assert (bye().transport, bye().to, bye().connection) == (transport, phone, 7)
        world.edge.connections.clear()
        host, _, port = contact.partition(":")
        assert (bye().transport, bye().to) == ("udp", (host, int(port))), "the connection has ended"
        world.edge.connections.add(7)


def test_a_phone_on_tcp_that_says_so_is_reached_as_it_says(world: CallWorld) -> None:
    raw = invite(transport="TCP").replace(b"@10.1.3.7:5060>", b"@10.1.3.7:5060;transport=tcp>")
    sent = one(world.receive(raw, (PHONE[0], 51234), "tcp"), "INVITE").message
    assert all("@" not in value for value in sent.all("record-route"))
