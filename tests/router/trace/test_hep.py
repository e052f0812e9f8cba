"""HEPv3: the packet chunk by chunk, and a sender that never stops for a collector."""

import socket
import struct
from dataclasses import replace

import pytest

from router.trace.hep import HepSender, encode
from tests.router.traces import EDGE, PHONE, invite, received
from tests.support.ports import street


def chunks(packet: bytes) -> dict[int, bytes]:
    """Type → value, read as the specification says."""
    assert packet[:4] == b"HEP3"
    assert struct.unpack_from("!H", packet, 4)[0] == len(packet)
    found = {}
    at = 6
    while at < len(packet):
        vendor, kind, length = struct.unpack_from("!HHH", packet, at)
        assert vendor == 0
        found[kind] = packet[at + 6 : at + length]
        at += length
    assert at == len(packet)
    return found


def test_each_chunk_over_ipv4_and_udp() -> None:
    traced = received(invite(call_id="abc@x"), at=1_000_000_000.25)
    found = chunks(encode(traced, capture_id=2001, password="secret", node="hq-1"))
    assert found == {
        1: b"\x02",
        2: b"\x11",
        3: socket.inet_aton(PHONE[0]),
        4: socket.inet_aton(EDGE[0]),
        7: struct.pack("!H", PHONE[1]),
        8: struct.pack("!H", EDGE[1]),
        9: struct.pack("!I", 1_000_000_000),
        10: struct.pack("!I", 250_000),
        11: b"\x01",
        12: struct.pack("!I", 2001),
        14: b"secret",
        15: traced.data,
        17: b"abc@x",
        19: b"hq-1",
    }


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_ipv6_and_streams(transport: str) -> None:
    traced = received(invite(), ("2001:db8::3", 40_000), transport=transport)
    found = chunks(encode(replace(traced, destination=("2001:db8::5", 5060)), capture_id=1))
    assert found[1] == b"\x0a"
    assert found[2] == b"\x06"
    assert found[5] == socket.inet_pton(socket.AF_INET6, "2001:db8::3")
    assert found[6] == socket.inet_pton(socket.AF_INET6, "2001:db8::5")
    assert not {3, 4, 14, 19} & set(found)


def test_what_no_datagram_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        encode(received(invite(body=b"x" * 70_000), transport="tcp"), capture_id=1)
    with pytest.raises(ValueError, match="too large"):
        encode(received(invite(body=b"x" * 64_900), transport="tcp"), capture_id=1, password="p" * 300)
    with pytest.raises(ValueError, match="family"):
        encode(received(invite(), ("2001:db8::3", 40_000)), capture_id=1)


def test_a_collector_that_is_away_costs_messages_and_nothing_else() -> None:
    place = street()["desk"]
    sender = HepSender(place.address, place.port, capture_id=1, password="", node="hq")
    for _ in range(4):
        sender.send(received(invite()))
    assert sender.lost >= 1  # ICMP says so after the first
    assert "refused" in sender.problem
    lost = sender.lost
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(place.pair)
        collector.settimeout(10)
        sender.send(received(invite()))
        sender.send(received(invite()))
        assert chunks(collector.recv(65_535))[15] == invite()
    assert sender.lost <= lost + 1
    sender.close()


def test_a_name_that_cannot_be_resolved_is_not_asked_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def no_name(*arguments: object, **_: object) -> list[object]:
        asked.append(arguments)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    sender = HepSender("homer.example.com", 9060, capture_id=1, password="", node="hq")
    for _ in range(10):
        sender.send(received(invite()))
    assert sender.lost == 10
    assert len(asked) == 1
