"""Private addresses in SDP towards public trunks: said in check, explain, record and metrics; nothing is edited."""

from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from e911.record import RouteEvent
from router.emergency.explain import Interfaces, explain
from router.network.media import names_private_media
from router.network.trunks import known_addresses
from tests.support.call_world import CARRIER, CONFIG, SDP, CallWorld, invite, one, response


def trunks(**more: str) -> dict[str, Any]:
    return {name: {**trunk, **more} for name, trunk in CONFIG["trunks"].items()}


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, trunks=trunks(private_media="warn"))


@pytest.mark.parametrize(
    ("line", "private"),
    [
        ("c=IN IP4 10.1.3.7", True),
        ("c=IN IP4 172.16.0.1", True),
        ("c=IN IP4 172.32.0.1", False),
        ("c=IN IP4 192.168.1.20/127", True),
        ("c=IN IP4 100.64.0.9", True),
        ("c=IN IP4 100.128.0.9", False),
        ("c=IN IP4 169.254.1.1", True),
        ("c=IN IP4 127.0.0.1", True),
        ("c=IN IP4 203.0.113.9", False),
        ("c=IN IP4 0.0.0.0", False),
        ("c=IN IP4 110.1.1.1", False),
        ("c=IN IP6 fd12:3456::1", True),
        ("c=IN IP6 FE80::1", True),
        ("c=IN IP6 ::1", True),
        ("c=IN IP6 2001:db8::fd00", False),
    ],
)
def test_which_addresses_mean_nothing_elsewhere(line: str, private: bool) -> None:
    body = f"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\n{line}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n".encode()
    assert names_private_media(body) is private


def reasons(world: CallWorld) -> list[str]:
    return [event.reason for event in world.events(RouteEvent) if event.outcome == "started"]


def test_the_record_and_the_metrics_of_a_911_call_say_so(world: CallWorld) -> None:
    first = one(world.receive(invite()), "INVITE")
    one(world.receive(response(first.message, 503), first.to), "INVITE")
    assert reasons(world) == ["private-media-address", "private-media-address"]
    assert world.router.counts["private_media_address"] == 2
    assert SDP in first.message.raw, "it leaves as it came"


def test_ordinary_calls_are_counted_and_logged_once(world: CallWorld, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    assert world.router.counts["private_media_address"] == 3
    assert [one.getMessage().count("carrier") for one in caplog.records] == [1]


@pytest.mark.parametrize(("address", "said"), [("10.1.3.7", 1), ("198.51.100.7", 0)])
def test_a_phones_answer_to_a_call_from_a_public_trunk_is_looked_at_too(
    world: CallWorld, caplog: pytest.LogCaptureFixture, address: str, said: int
) -> None:
    public = SDP.replace(b"10.1.3.7", b"198.51.100.7")
    call = invite("sip:2125550177@10.0.0.5", source=CARRIER, body=public)
    for branch in (b"z9hG4bKa", b"z9hG4bKb"):
        sent = one(world.receive(call.replace(b"z9hG4bK", branch), CARRIER), "INVITE")
        answer = response(sent.message, 200).replace(
            b"Content-Length: 0\r\n\r\n",
            b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(SDP),
        ) + SDP.replace(b"10.1.3.7", address.encode())
        answered = one(world.receive(answer, sent.to), 200)
        assert address.encode() in answered.message.raw, "it goes on as it came"
    assert world.router.counts["private_media_address"] == 2 * said
    assert len(caplog.records) == said


def test_nothing_is_said_where_it_is_expected_or_not_so(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, trunks=trunks(private_media="expected"))
    one(world.receive(invite()), "INVITE")
    one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    assert reasons(world) == [""]
    world.start(trunks=trunks(private_media="warn"))
    one(world.receive(invite(body=SDP.replace(b"10.1.3.7", b"198.51.100.7"))), "INVITE")
    one(world.receive(invite("sip:2125550177@10.0.0.5", body=SDP.replace(b"10.1.3.7", b"198.51.100.7"))), "INVITE")
    assert not world.router.counts["private_media_address"]
    assert reasons(world) == ["", ""]


def explained(world: CallWorld, dialled: str, source: str = "10.1.3.7", **sections: Any) -> dict[str, Any]:
    setup = world.setup(**sections)
    config = setup.rules.config
    interfaces = Interfaces(config, world.points, known_addresses(config.trunks, lambda host: (host,)))
    return explain(setup.rules, setup.sources, world.devices, "4102", dialled, source, interfaces=interfaces)


def test_explain_says_so_and_names_the_interface(world: CallWorld) -> None:
    sections = {
        "listen": [
            {"url": "udp://10.0.0.5:5060", "name": "lan"},
            {"url": "udp://192.0.2.5:5060", "name": "wan", "advertise": "203.0.113.10:5080"},
        ],
        "trunks": trunks(listen="wan", private_media="warn") | {"pbx": {**CONFIG["trunks"]["pbx"], "listen": "lan"}},
    }
    found = explained(world, "911", **sections)
    wan = {"name": "wan", "socket": "udp:192.0.2.5:5060", "seen_as": "203.0.113.10:5080"}
    assert [route["leaves_by"] for route in found["routes"]] == [wan] * 3
    assert [route["warnings"] for route in found["routes"]] == [["private-media-address"]] * 3
    (trunk,) = explained(world, "2125550177", **sections)["trunks"]
    assert (trunk["leaves_by"], trunk["warnings"]) == (wan, ["private-media-address"])
    found = explained(world, "911", "", trunks=trunks(private_media="expected"))
    assert not any("warnings" in route for route in found["routes"])


def test_check_says_so_once(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, trunks=trunks(private_media="warn"))
    found = [one for one in load_config(tmp_path / "edge911.yaml").warnings if "private_media" in one.message]
    assert [one.path for one in found] == ["trunks.carrier.target"]
    for name in ("carrier", "ers-a", "ers-b", "relay"):
        assert name in found[0].message
    assert "pbx" not in found[0].message
    world.setup(trunks=trunks(private_media="expected"))
    assert not [one for one in load_config(tmp_path / "edge911.yaml").warnings if "private_media" in one.message]
