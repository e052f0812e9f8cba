"""Peers that are there but never answer: a bound UDP socket, a TCP socket that accepts and says nothing, and one
whose connections never come about, as behind a firewall that drops what it does not like.
"""

import socket
from types import TracebackType

from tests.support.ports import Endpoint


class Blackhole:
    """Silent on both transports of one endpoint. No ICMP error, no reset, no answer."""

    def __init__(self, at: Endpoint, *, udp: bool = True, tcp: bool = True) -> None:
        self._udp: socket.socket | None = None
        self._tcp: socket.socket | None = None
        if udp:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind(at.pair)
            self._udp.setblocking(False)
        if tcp:
            self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._tcp.bind(at.pair)
            self._tcp.listen(64)
            self._tcp.setblocking(False)

    def datagrams(self) -> list[bytes]:
        """What has come over UDP since the last call."""
        found: list[bytes] = []
        while self._udp:
            try:
                found.append(self._udp.recv(65535))
            except BlockingIOError:
                break
        return found

    def connections(self) -> int:
        """How many TCP connections have come since the last call (each is closed by this)."""
        count = 0
        while self._tcp:
            try:
                connection, _ = self._tcp.accept()
            except BlockingIOError:
                break
            connection.close()
            count += 1
        return count

    def close(self) -> None:
        """Give the endpoint back."""
        for one in (self._udp, self._tcp):
            if one:
                one.close()

    def __enter__(self) -> "Blackhole":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SynBlackhole:
    """A TCP endpoint that answers no SYN: its queue of connections is full, and nobody accepts them."""

    def __init__(self, at: Endpoint) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(at.pair)
        self._listener.listen(0)
        self._filling: list[socket.socket] = []
        for _ in range(4):
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            one.setblocking(False)
            one.connect_ex(at.pair)
            self._filling.append(one)
        # Proof that it is one: a connection begun now stays without an answer.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.3)
            try:
                probe.connect(at.pair)
            except TimeoutError:
                return
        raise AssertionError(f"{at} still takes connections")

    def close(self) -> None:
        """Give the endpoint back."""
        for one in (*self._filling, self._listener):
            one.close()

    def __enter__(self) -> "SynBlackhole":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
