"""HEPv3, the protocol by which SIP messages are sent to a Homer server (or sngrep, or any other collector).

Source: HEP3 network protocol specification, revision 36 (sipcapture.org): chunks of vendor 0, each with its type
and its length, header included.
"""

import socket
import struct
import time

from router.network.sources import parse_address
from router.trace.messages import Traced

_UDP, _TCP = 17, 6
_SIP = 1
_MOST = 65_507
RESOLVE_SECONDS = 60.0


def encode(traced: Traced, *, capture_id: int, password: str = "", node: str = "") -> bytes:
    """One message as a HEPv3 packet. ValueError where it is too large for one, or its ends have no addresses."""
    source, destination = parse_address(traced.source[0]), parse_address(traced.destination[0])
    if source is None or destination is None or source.version != destination.version:
        raise ValueError("no addresses of one family")
    is_ipv4 = source.version == 4
    seconds, fraction = divmod(traced.at, 1)
    chunks = [
        _chunk(1, struct.pack("!B", socket.AF_INET if is_ipv4 else socket.AF_INET6)),
        _chunk(2, struct.pack("!B", _UDP if traced.transport == "udp" else _TCP)),
        _chunk(3 if is_ipv4 else 5, source.packed),
        _chunk(4 if is_ipv4 else 6, destination.packed),
        _chunk(7, struct.pack("!H", traced.source[1])),
        _chunk(8, struct.pack("!H", traced.destination[1])),
        _chunk(9, struct.pack("!I", int(seconds))),
        _chunk(10, struct.pack("!I", int(fraction * 1_000_000))),
        _chunk(11, struct.pack("!B", _SIP)),
        _chunk(12, struct.pack("!I", capture_id)),
    ]
    if password:
        chunks.append(_chunk(14, password.encode()))
    chunks.append(_chunk(15, traced.data))
    if traced.call_id:
        chunks.append(_chunk(17, traced.call_id.encode()[:1024]))
    if node:
        chunks.append(_chunk(19, node.encode()))
    packet = b"".join(chunks)
    if len(packet) + 6 > _MOST:
        raise ValueError("too large for a datagram")
    return b"HEP3" + struct.pack("!H", len(packet) + 6) + packet


def _chunk(kind: int, value: bytes) -> bytes:
    if len(value) > 0xFFFF - 6:
        raise ValueError("too large for a datagram")
    return struct.pack("!HHH", 0, kind, 6 + len(value)) + value


class HepSender:
    """Sends messages to a collector over UDP."""

    def __init__(self, host: str, port: int, *, capture_id: int, password: str, node: str) -> None:
        self.host, self.port = host, port
        self.capture_id, self.password, self.node = capture_id, password, node
        self.sent = 0
        self.lost = 0
        """Messages that were not sent."""
        self.problem = ""
        """Why the last of them was not."""
        self._socket: socket.socket | None = None
        self._resolve_at = 0.0

    def send(self, traced: Traced) -> None:
        """Send one message. Never raises, never waits (a name is looked up once a minute)."""
        try:
            packet = encode(traced, capture_id=self.capture_id, password=self.password, node=self.node)
            self._connected().send(packet)
        except (OSError, ValueError) as error:
            # A closed port: the collector is away, and that message with it; ICMP tells of it at the next one.
            self.problem = str(getattr(error, "strerror", None) or error)
            self.lost += 1
        else:
            self.sent += 1

    def close(self) -> None:
        """Done."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        now = time.monotonic()
        if self._socket is not None and now < self._resolve_at:
            return self._socket
        if self._socket is None and now < self._resolve_at:
            raise OSError(f"no address of {self.host}")
        self._resolve_at = now + (RESOLVE_SECONDS if parse_address(self.host) is None else float("inf"))
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except OSError:
            if self._socket is not None:
                return self._socket  # its last address is better than none
            self._resolve_at = now + 5.0
            raise
        self.close()
        family, kind, protocol, _, address = found[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.connect(address)
        return self._socket
