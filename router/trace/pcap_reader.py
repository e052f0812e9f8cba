"""The SIP in a pcap file, as tcpdump, Wireshark or we ourselves wrote it: classic pcap, UDP and TCP, IPv4 and IPv6.

What is not SIP is passed over. Datagrams that came in fragments are put together; a TCP stream is read in the order
of the file, segments that come again are not read again.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from router.trace.messages import Endpoint, Traced
from sip.framing import StreamFramer

_MAGICS = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}
"""Magic number → what one unit of a stamp's fraction is, in seconds."""
_LINK_HEADERS = {1: 14, 101: 0, 12: 0, 113: 16, 276: 20, 0: 4, 228: 0, 229: 0}
"""Link type → bytes before the IP header: Ethernet, raw IP (two numbers), Linux cooked (two forms), loopback."""
_VLAN = (0x8100, 0x88A8)
_LONGEST_RECORD = 1 << 20
_MOST_STREAMS = 10_000
_MOST_FRAGMENTED = 1_000


class PcapError(ValueError):
    """Not a file that can be read; the text says why."""


@dataclass(slots=True)
class _Stream:
    next_sequence: int
    framer: StreamFramer = field(default_factory=StreamFramer)


def read_pcap(path: Path) -> Iterator[Traced]:
    """The SIP messages of a file, in its order. Raises OSError, and PcapError where it is no pcap file."""
    streams: dict[tuple[Endpoint, Endpoint], _Stream] = {}
    fragments: dict[tuple[bytes, int], dict[int, bytes]] = {}
    with path.open("rb") as file:
        head = file.read(24)
        order, unit, link = _file_header(head)
        skip = _LINK_HEADERS[link]
        while len(record := file.read(16)) == 16:
            seconds, fraction, size, _ = struct.unpack(f"{order}IIII", record)
            if size > _LONGEST_RECORD:
                raise PcapError("it is damaged")
            packet = file.read(size)
            if len(packet) < size:
                return  # still being written
            while link == 1 and len(packet) > 18 and struct.unpack_from("!H", packet, 12)[0] in _VLAN:
                packet = packet[:12] + packet[16:]
            segment = _ip_payload(packet[skip:], fragments)
            if segment is not None:
                yield from _messages(seconds + fraction * unit, *segment, streams)


def _file_header(head: bytes) -> tuple[str, float, int]:
    for order in ("<", ">"):
        if len(head) == 24 and (magic := struct.unpack_from(f"{order}I", head)[0]) in _MAGICS:
            link = struct.unpack_from(f"{order}I", head, 20)[0] & 0x0FFFFFFF
            if link not in _LINK_HEADERS:
                raise PcapError(f"packets of link type {link} are not read; capture on one interface, not on any")
            return order, _MAGICS[magic], link
    if head[:4] == b"\x0a\x0d\x0d\x0a":
        raise PcapError("it is a pcapng file; make a pcap file of it: tshark -F pcap -r FILE -w NEW")
    raise PcapError("it is not a pcap file")


def _ip_payload(
    packet: bytes, fragments: dict[tuple[bytes, int], dict[int, bytes]]
) -> tuple[int, str, str, bytes] | None:
    """Protocol, source, destination and payload of a whole IP packet; None for anything else so far."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        length = (packet[0] & 0x0F) * 4
        total, identification, place = struct.unpack_from("!HHH", packet, 2)
        payload: bytes | None = packet[length : total or len(packet)]
        protocol, addresses, half = packet[9], packet[12:20], 4
        if place & 0x3FFF:
            key = packet[12:20] + packet[9:10], identification
            payload = _joined(fragments, key, (place & 0x1FFF) * 8, payload or b"", more=bool(place & 0x2000))
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        protocol, addresses, half = packet[6], packet[8:40], 16
        payload = packet[40 : 40 + struct.unpack_from("!H", packet, 4)[0]]
        if protocol == 44 and len(payload) >= 8:  # a fragment
            protocol, _, place, identification = struct.unpack_from("!BBHI", payload)
            more = bool(place & 1)
            payload = _joined(fragments, (addresses, identification), place & ~7, payload[8:], more=more)
    else:
        return None
    if payload is None:
        return None
    return protocol, str(ip_address(addresses[:half])), str(ip_address(addresses[half:])), payload


def _joined(
    fragments: dict[tuple[bytes, int], dict[int, bytes]], key: tuple[bytes, int], at: int, part: bytes, *, more: bool
) -> bytes | None:
    if len(fragments) > _MOST_FRAGMENTED:
        fragments.clear()
    parts = fragments.setdefault(key, {})
    parts[at] = part
    if not more:
        parts[at + len(part)] = b""  # where it ends
    whole = b""
    for place in sorted(parts):
        if place != len(whole):
            return None
        if not parts[place] and place:
            del fragments[key]
            return whole
        whole += parts[place]
    return None


def _messages(
    at: float,
    protocol: int,
    source: str,
    destination: str,
    segment: bytes,
    streams: dict[tuple[Endpoint, Endpoint], _Stream],
) -> Iterator[Traced]:
    if protocol not in (6, 17) or len(segment) < (8 if protocol == 17 else 20):
        return
    ports = struct.unpack_from("!HH", segment)
    ends = (source, ports[0]), (destination, ports[1])
    found: list[bytes] = []
    if protocol == 17:
        found = [segment[8:]]
    else:
        payload = segment[(segment[12] >> 4) * 4 :]
        sequence = struct.unpack_from("!I", segment, 4)[0]
        if segment[13] & 0x06:  # SYN or RST: what was half read is over
            streams.pop(ends, None)
            return
        if payload:
            found = _stream(streams, ends, sequence, payload)
    for data in found:
        if b"SIP/2.0" in data[:8] or b" SIP/2.0" in data.partition(b"\n")[0]:
            yield Traced(
                at=at,
                sent=None,
                transport="udp" if protocol == 17 else "tcp",
                source=ends[0],
                destination=ends[1],
                data=data,
            )


def _stream(
    streams: dict[tuple[Endpoint, Endpoint], _Stream],
    ends: tuple[Endpoint, Endpoint],
    sequence: int,
    payload: bytes,
) -> list[bytes]:
    stream = streams.get(ends)
    if stream is None or stream.framer.error is not None:
        if len(streams) > _MOST_STREAMS:
            streams.clear()
        stream = streams[ends] = _Stream(sequence)
    behind = (stream.next_sequence - sequence) & 0xFFFFFFFF
    if 0 < behind < 1 << 31:
        payload = payload[behind:]  # sent again, wholly or in part
    elif behind:
        stream.framer = StreamFramer()  # something was not captured: begin anew
        stream.next_sequence = sequence
    stream.next_sequence = (stream.next_sequence + len(payload)) & 0xFFFFFFFF
    return stream.framer.feed(payload)
