"""Captures: classic pcap files of SIP messages, as Wireshark, tshark and sngrep open them, and the reading of such
files.

A message is written as a packet that never was: an IP header, a UDP or TCP header with the ports of its two ends,
and the message itself. What came over TLS is written as TCP, as it was inside. Link type 101 (raw IP), so there is no
Ethernet to make up. Source: draft-ietf-opsawg-pcap.
"""

import os
import re
import struct
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import BinaryIO

from router.network.sources import parse_address
from router.trace.messages import Endpoint, Traced

_MAGIC = 0xA1B2C3D4
_SNAP_LENGTH = 262_144
LINKTYPE_RAW = 101
_UDP, _TCP = 17, 6
_SEGMENT = 60_000
_CONNECTIONS = 20_000
_KEEP_FREE = 256 * 1024 * 1024
"""So much of the disk is left to the journal, which may be on the same one."""


def file_header() -> bytes:
    """How every file begins."""
    return struct.pack("!IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAP_LENGTH, LINKTYPE_RAW)


class PcapEncoder:
    """Makes packets of messages; it counts the bytes of each TCP connection, so one per file."""

    def __init__(self) -> None:
        self._sent: dict[tuple[Endpoint, Endpoint], int] = {}

    def records(self, traced: Traced) -> bytes:
        """The message as one or more records of a pcap file; empty where its ends have no IP addresses."""
        source, destination = parse_address(traced.source[0]), parse_address(traced.destination[0])
        if source is None or destination is None or source.version != destination.version:
            return b""
        seconds, fraction = divmod(traced.at, 1)
        stamp = struct.pack("!II", int(seconds), int(fraction * 1_000_000))
        made = []
        for protocol, segment in self._segments(traced):
            packet = _ip_packet(source, destination, protocol, segment)
            made.append(stamp + struct.pack("!II", len(packet), len(packet)) + packet)
        return b"".join(made)

    def _segments(self, traced: Traced) -> Iterable[tuple[int, bytes]]:
        ports = struct.pack("!HH", traced.source[1], traced.destination[1])
        data = traced.data
        if traced.transport == "udp":
            yield _UDP, ports + struct.pack("!HH", 8 + len(data), 0) + data
            return
        way = traced.source, traced.destination
        if len(self._sent) > _CONNECTIONS:
            self._sent.clear()
        for start in range(0, len(data), _SEGMENT):
            part = data[start : start + _SEGMENT]
            sequence, acknowledged = self._sent.get(way, 1), self._sent.get(way[::-1], 1)
            self._sent[way] = (sequence + len(part)) & 0xFFFFFFFF
            push_ack = 0x5018  # header of five words; PSH and ACK
            yield (
                _TCP,
                ports + struct.pack("!IIHHHH", sequence, acknowledged, push_ack, 65_535, 0, 0) + part,
            )


def _ip_packet(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, segment: bytes
) -> bytes:
    addresses = source.packed + destination.packed
    pseudo = addresses + struct.pack("!II", len(segment), protocol)
    checksum = struct.pack("!H", _checksum(pseudo + segment))
    at = 6 if protocol == _UDP else 16
    segment = segment[:at] + checksum + segment[at + 2 :]
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64) + addresses + segment
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, protocol, 0) + addresses
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + segment


def _checksum(data: bytes) -> int:
    """RFC 1071: the ones' complement sum of 16-bit words is the whole number's remainder by 65,535."""
    if len(data) % 2:
        data += b"\0"
    # A remainder of 0 stands for 65,535 here, whose complement 0 would mean "no checksum" to UDP: sent as 65,535.
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


class PcapFiles:
    """Captures in a directory: a new file when one is full, the oldest deleted when there are too many."""

    def __init__(self, directory: Path, node: str, *, file_size: int, files: int) -> None:
        self.directory = directory
        self.node = node
        self.file_size = file_size
        self.files = files
        self.lost = 0
        """Messages that were not written."""
        self.written = 0
        self.problem = ""
        """Why the last of them was not."""
        self._file: BinaryIO | None = None
        self._encoder = PcapEncoder()
        self._size = 0
        self._retry_at = 0.0

    def write(self, traced: Traced) -> None:
        """Write a message. Never raises: what cannot be written is counted, and tried again with a later one."""
        if self._file is None and time.monotonic() < self._retry_at:
            self.lost += 1
            return
        try:
            if self._file is None or self._size >= self.file_size:
                self._open()
            records = self._encoder.records(traced)
            assert self._file is not None
            self._file.write(records)
        except OSError as error:
            self._fail(error)
            self.lost += 1
            return
        self._size += len(records)
        self.written += 1

    def flush(self) -> None:
        """To the disk's cache, so that the file can be opened while it is written."""
        if self._file is not None:
            try:
                self._file.flush()
                self._leave_room()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Finish the file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self.problem = error.strerror or str(error)

    def _fail(self, error: OSError) -> None:
        self.close()
        self.problem = error.strerror or str(error)
        self._retry_at = time.monotonic() + 1.0

    def _open(self) -> None:
        self.close()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._leave_room()
        name = f"edge911-{self.node}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.pcap"
        descriptor = os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(file_header())
        self._encoder, self._size = PcapEncoder(), len(file_header())
        ours = re.compile(rf"edge911-{re.escape(self.node)}-\d{{8}}T\d{{6}}\.\d{{6}}Z\.pcap")
        kept = sorted(file for file in self.directory.iterdir() if ours.fullmatch(file.name))
        for old in kept[: -self.files]:
            old.unlink(missing_ok=True)

    def _leave_room(self) -> None:
        room = os.statvfs(self.directory)
        if room.f_bavail * room.f_frsize < _KEEP_FREE:
            raise OSError(f"less than {_KEEP_FREE // 2**20} MiB free on the disk of {self.directory}")
