"""Several interfaces: which listening point sends, what others see of it, and that we know it again."""

from pathlib import Path

import pytest

from config.addresses import parse_advertised
from config.schema import Config
from router.network import listening
from router.network.listening import ListeningPoints, listening_points
from tests.support.call_world import CallWorld, invite, of, one, response

INSIDE, CARRIER = ("10.1.3.7", 5060), ("203.0.113.50", 5060)
TWO_SIDES = {
    "listen": [
        {"url": "udp://10.0.0.5:5060", "name": "lan"},
        {"url": "tcp://10.0.0.5:5060", "name": "lan"},
        {"url": "udp://192.0.2.5:5060", "name": "wan", "advertise": "203.0.113.10:5080"},
        {"url": "udp://[2001:db8::5]:5060", "name": "six"},
    ],
    "trunks": {
        "pbx": {"target": "sip:10.0.0.10:5060", "side": "inside", "trust_identity": "true", "listen": "lan"},
        "carrier": {"target": "sip:203.0.113.50:5060", "listen": "wan"},
        "ers-a": {"target": "sip:203.0.113.31:5060", "listen": "wan", "large_messages": "udp"},
        "ers-b": {"target": "sip:[2001:db8::32]:5060", "listen": "six", "large_messages": "udp"},
        "relay": {"target": "sip:203.0.113.40:5060", "listen": "wan"},
    },
}


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, **TWO_SIDES)


def recorded(value: str) -> str:
    return value.partition(";t=")[0]


def test_each_side_sees_its_own_interface(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    assert sent.to == CARRIER
    assert sent.point.host == "192.0.2.5", "it leaves by the socket of the interface that the trunk names"
    assert sent.message.all("via")[0].startswith("SIP/2.0/UDP 203.0.113.10:5080;branch=")
    assert list(map(recorded, sent.message.all("record-route"))) == [
        "<sip:203.0.113.10:5080;lr",
        "<sip:10.0.0.5:5060;lr",
    ]


def test_the_rest_of_the_call_crosses_back_by_the_advertised_address_also_after_a_restart(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5", number=901)), "INVITE")
    answer = one(world.receive(response(sent.message, 200), CARRIER, point="wan"), 200)
    outer, inner = answer.message.all("record-route")
    world.start(**TWO_SIDES)
    ack = world.in_dialog(sent.message, "ACK", "sip:psap@203.0.113.31:5060", [inner, outer])
    gone = one(world.receive(ack), "ACK")
    assert (gone.to, gone.point.host, gone.message.all("route")) == (("203.0.113.31", 5060), "192.0.2.5", [])
    bye = world.in_dialog(sent.message, "BYE", "sip:4102@10.1.3.7:5060", [outer, inner], from_far=True)
    back = one(world.receive(bye, CARRIER, point="wan"), "BYE")
    assert (back.to, back.point.host) == (INSIDE, "10.0.0.5")
    assert back.message.all("via")[0].startswith("SIP/2.0/UDP 10.0.0.5:5060;")


def test_an_emergency_call_fails_over_from_ipv4_to_ipv6(world: CallWorld) -> None:
    first = one(world.receive(invite()), "INVITE")
    assert first.message.all("via")[0].startswith("SIP/2.0/UDP 203.0.113.10:5080;")
    second = one(world.receive(response(first.message, 503), ("203.0.113.31", 5060), point="wan"), "INVITE")
    assert second.to == ("2001:db8::32", 5060)
    assert second.message.start == "INVITE sip:911@[2001:db8::32]:5060 SIP/2.0"
    assert second.message.all("via")[0].startswith("SIP/2.0/UDP [2001:db8::5]:5060;")
    outer, inner = second.message.all("record-route")
    assert (recorded(outer), recorded(inner)) == ("<sip:[2001:db8::5]:5060;lr", "<sip:10.0.0.5:5060;lr")
    ringing = one(world.receive(response(second.message, 180), second.to, point="six"), 180)
    assert ringing.to == INSIDE
    bye = world.in_dialog(second.message, "BYE", "sip:4102@10.1.3.7:5060", [outer, inner], from_far=True)
    assert one(world.receive(bye, second.to, point="six"), "BYE").to == INSIDE


def test_a_request_that_names_the_advertised_address_is_for_us(world: CallWorld) -> None:
    sent = world.receive(invite("sip:+12125550142@203.0.113.10:5080", source=CARRIER), CARRIER, point="wan")
    pbx = one(sent, "INVITE")
    assert (pbx.to, pbx.point.host) == (("10.0.0.10", 5060), "10.0.0.5")
    assert not of(sent, 403)


def points_of(*items: dict[str, str]) -> ListeningPoints:
    return ListeningPoints(listening_points(Config.model_validate({"listen": list(items)})))


LAN = {"url": "udp://10.0.0.5:5060", "name": "lan"}
WAN = {"url": "udp://192.0.2.5:5060", "name": "wan", "advertise": "203.0.113.10"}
SAME = {"url": "udp://10.0.0.5:5070", "name": "wan", "advertise": "203.0.113.10:5060"}


@pytest.mark.parametrize(
    ("items", "peer", "from_us", "near", "chosen"),
    [
        ((LAN, WAN), "10.9.9.9", "10.0.0.5", "wan", "lan"),
        ((LAN, WAN), "198.51.100.9", "192.0.2.5", "lan", "wan"),
        ((LAN, WAN), "10.9.9.9", "", "wan", "lan"),
        ((LAN, SAME), "10.9.9.9", "10.0.0.5", "wan", "lan"),
        ((LAN, SAME), "198.51.100.9", "10.0.0.5", "lan", "wan"),
    ],
)
def test_without_a_name_the_side_of_the_peer_decides(
    monkeypatch: pytest.MonkeyPatch, items: tuple[dict[str, str]], peer: str, from_us: str, near: str, chosen: str
) -> None:
    monkeypatch.setattr(listening, "local_address_towards", lambda _peer: from_us)
    points = points_of(*items)
    came_in = next(point for point in points.points if point.name == near)
    found = points.choose("udp", peer, came_in)
    assert found is not None
    assert found.name == chosen


def test_an_interface_serves_the_transports_it_has_no_item_for() -> None:
    points = points_of(LAN, WAN, {"url": "tcp://10.0.0.5:5060", "name": "lan"})
    opened = points.choose("tcp", "203.0.113.9", None, "wan")
    assert opened is not None
    assert (opened.host, opened.sent_by, opened.name) == ("192.0.2.5", b"203.0.113.10:5060", "wan")
    assert opened.record_route_uri == b"sip:203.0.113.10:5060;lr", "later requests come to where we do listen"
    datagrams = points_of(LAN, {"url": "tcp://192.0.2.5:5060", "name": "wan"}).choose(
        "udp", "203.0.113.9", None, "wan"
    )
    assert datagrams is not None, "a datagram leaves somehow"


def test_an_advertised_wildcard_is_known_by_what_it_advertises() -> None:
    points = points_of({"url": "udp://0.0.0.0:5060", "advertise": "203.0.113.10"})
    (point,) = points.points
    assert points.localise(point, "198.51.100.9") is point
    assert points.find("udp", "203.0.113.10", 5060) is point
    assert points.is_own("203.0.113.10", 5060)
    assert points.choose("udp", "198.51.100.9") is point


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("203.0.113.10", ("203.0.113.10", None)),
        ("203.0.113.10:5080", ("203.0.113.10", 5080)),
        ("2001:DB8::10", ("2001:db8::10", None)),
        ("[2001:db8::10]", ("2001:db8::10", None)),
        ("[2001:db8::10]:5080", ("2001:db8::10", 5080)),
        ("SBC.example.com:5061", ("sbc.example.com", 5061)),
    ],
)
def test_what_advertise_may_say(text: str, found: tuple[str, int | None]) -> None:
    assert parse_advertised(text) == found


@pytest.mark.parametrize("text", ["", "0.0.0.0", "203.0.113", "203.0.113.10:0", "203.0.113.10:70000", "[::1", "a b"])
def test_what_advertise_may_not_say(text: str) -> None:
    with pytest.raises(ValueError, match="write 203"):
        parse_advertised(text)
