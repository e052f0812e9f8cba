"""Captures: what is written reads back as it was; files are private, turned over, and never in the way."""

import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from router.trace import pcap
from router.trace.messages import Endpoint, Traced
from router.trace.pcap import PcapEncoder, PcapFiles, file_header
from router.trace.pcap_reader import PcapError, read_pcap
from tests.router.traces import EDGE, PHONE, answer, invite, received, sent

V6_PHONE: Endpoint = ("2001:db8::3", 40_000)
V6_EDGE: Endpoint = ("2001:db8::5", 5061)


def capture(folder: Path, *records: bytes, header: bytes = b"") -> Path:
    path = folder / "test.pcap"
    path.write_bytes((header or file_header()) + b"".join(records))
    return path


def record(packet: bytes) -> bytes:
    return struct.pack("!IIII", 1_000_000_000, 250_000, len(packet), len(packet)) + packet


def only_packet(records: bytes) -> bytes:
    size = struct.unpack_from("!I", records, 8)[0]
    assert len(records) == 16 + size
    return records[16:]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize(("phone", "edge"), [(PHONE, EDGE), (V6_PHONE, V6_EDGE)])
def test_what_is_written_reads_back(tmp_path: Path, transport: str, phone: Endpoint, edge: Endpoint) -> None:
    messages = [
        Traced(at=1e9 + 0.25, sent=False, transport=transport, source=phone, destination=edge, data=invite()),
        Traced(at=1e9 + 0.5, sent=True, transport=transport, source=edge, destination=phone, data=answer()),
        Traced(at=1e9 + 0.75, sent=False, transport=transport, source=phone, destination=edge, data=invite(body=b"")),
    ]
    encoder = PcapEncoder()
    found = list(read_pcap(capture(tmp_path, *(encoder.records(one) for one in messages))))
    read_as = "udp" if transport == "udp" else "tcp"
    assert found == [replace(one, sent=None, transport=read_as) for one in messages]


def test_a_message_larger_than_a_packet_is_several_segments_of_one_stream(tmp_path: Path) -> None:
    large = received(invite(body=b"z" * 200_000), transport="tcp")
    encoder = PcapEncoder()
    records = encoder.records(large) + encoder.records(received(invite(), transport="tcp"))
    found = list(read_pcap(capture(tmp_path, records)))
    assert [one.data for one in found] == [large.data, invite()]


@pytest.mark.parametrize(("phone", "edge"), [(PHONE, EDGE), (V6_PHONE, V6_EDGE)])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("body", [b"", b"x", b"xy"])
def test_checksums_are_right(transport: str, phone: Endpoint, edge: Endpoint, body: bytes) -> None:
    """A receiver adds up everything, checksum included, and gets all ones (RFC 1071)."""
    traced = Traced(at=1e9, sent=False, transport=transport, source=phone, destination=edge, data=invite(body=body))
    packet = only_packet(PcapEncoder().records(traced))

    def total(data: bytes) -> int:
        data += b"\0" * (len(data) % 2)
        added = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while added > 0xFFFF:
            added = (added & 0xFFFF) + (added >> 16)
        return added

    if packet[0] >> 4 == 4:
        assert total(packet[:20]) == 0xFFFF
        addresses, segment, protocol = packet[12:20], packet[20:], packet[9]
    else:
        addresses, segment, protocol = packet[8:40], packet[40:], packet[6]
    assert protocol == (17 if transport == "udp" else 6)
    assert total(addresses + struct.pack("!II", len(segment), protocol) + segment) == 0xFFFF


def test_ends_without_addresses_of_one_family_are_left_out() -> None:
    assert PcapEncoder().records(replace(received(invite()), source=V6_PHONE)) == b""
    assert PcapEncoder().records(replace(received(invite()), source=("phone.example", 5060))) == b""


def test_other_captures_are_read_too(tmp_path: Path) -> None:
    """As tcpdump writes them: little-endian, Ethernet, a VLAN tag, fragments, noise."""
    whole = only_packet(PcapEncoder().records(received(invite())))
    payload = whole[20:]
    halves = (0x2000, payload[:200]), (200 // 8, payload[200:])
    fragments = []
    for place, part in halves:
        head = bytearray(whole[:20])
        struct.pack_into("!HHH", head, 2, 20 + len(part), 77, place)
        fragments.append(bytes(head) + part)
    ethernet = b"\1" * 12 + b"\x08\x00"
    vlan = b"\1" * 12 + b"\x81\x00\0\7\x08\x00"
    packets = [
        vlan + whole + b"\0" * 6,
        ethernet + fragments[1],
        b"\1" * 12 + b"\x08\x06" + b"\0" * 28,
        ethernet + fragments[0],
        ethernet + only_packet(PcapEncoder().records(received(b"\r\n\r\n"))),
    ]
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 1)
    records = [struct.pack("<IIII", 7, 500_000_000, len(packet), len(packet)) + packet for packet in packets]
    found = list(read_pcap(capture(tmp_path, *records, header=header)))
    assert [one.data for one in found] == [invite(), invite()]
    assert found[0].at == pytest.approx(7.5)


def test_a_stream_with_repeats_and_a_gap(tmp_path: Path) -> None:
    encoder = PcapEncoder()
    first, second, third = (
        encoder.records(received(invite(call_id=name), transport="tcp")) for name in ("one", "two", "three")
    )
    found = [one.call_id for one in read_pcap(capture(tmp_path, first, first, third, second))]
    assert found == ["one", "three"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a pcap file"),
        (b"#!/bin/sh\n" * 10, "not a pcap file"),
        (b"\x0a\x0d\x0d\x0a" + b"\0" * 40, "pcapng"),
        (struct.pack("!IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 147), "link type 147"),
        (file_header() + b"\xff" * 16, "damaged"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.pcap").write_bytes(content)
    with pytest.raises(PcapError, match=words):
        list(read_pcap(tmp_path / "bad.pcap"))


def test_a_file_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    records = PcapEncoder().records(received(invite()))
    assert len(list(read_pcap(capture(tmp_path, records, records[:-100])))) == 1


def test_files_are_private_and_turned_over(tmp_path: Path) -> None:
    other = tmp_path / "captures" / "edge911-hq-1-20000101T000000.000000Z.pcap"
    other.parent.mkdir()
    other.write_bytes(b"of another node")
    files = PcapFiles(tmp_path / "captures", "hq", file_size=2_000, files=3)
    for number in range(40):
        files.write(received(invite(call_id=f"call-{number}")))
    files.close()
    assert files.written == 40
    assert files.lost == 0
    assert other.exists()
    kept = sorted(path for path in other.parent.iterdir() if path != other)
    assert len(kept) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    read = [one.call_id for path in kept for one in read_pcap(path)]
    assert read == [f"call-{number}" for number in range(40 - len(read), 40)]
    assert 4 <= len(read) < 40


def test_what_is_flushed_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    files = PcapFiles(tmp_path, "hq", file_size=1_000_000, files=3)
    files.write(received(invite()))
    files.flush()
    (path,) = tmp_path.iterdir()
    assert [one.data for one in read_pcap(path)] == [invite()]
    files.close()


def test_a_disk_that_takes_nothing_loses_messages_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(pcap.time, "monotonic", lambda: now)
    blocked = tmp_path / "captures"
    blocked.write_text("a file where the directory should be")
    files = PcapFiles(blocked, "hq", file_size=1_000_000, files=3)
    for _ in range(5):
        files.write(received(invite()))
    assert files.lost == 5
    assert "exists" in files.problem or "Not a directory" in files.problem
    blocked.unlink()
    files.write(received(invite()))
    assert files.lost == 6  # not every message tries the disk
    now += 2.0
    files.write(received(invite()))
    assert (files.written, files.lost) == (1, 6)
    files.close()


def test_room_is_left_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "_KEEP_FREE", 1 << 62)
    files = PcapFiles(tmp_path, "hq", file_size=1_000_000, files=3)
    files.write(sent(answer()))
    assert files.lost == 1
    assert "free on the disk" in files.problem
    assert not list(tmp_path.iterdir())
