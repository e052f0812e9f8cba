"""Loopback addresses and free ports for tests, so that tests beside each other never meet.

Each test process claims a 127.X.0.0/16 of its own for as long as it lives. Within it every place of a test gets
a 127.X.N.0/24, in which phones, PBX, providers and carrier have addresses of their own, as they would in the field.
"""

import atexit
import os
import re
import socket
import threading
from dataclasses import dataclass

CLAIM_PORT = 59117
PHONES_PREFIX = 26
"""Host numbers below 64 are phones; trunks and strangers lie above, outside the phones' network."""

HOSTS = {
    "router": 1,
    "phone": 2,
    "second_phone": 3,
    "desk": 9,
    "dns": 53,
    "pbx": 71,
    "provider_a": 101,
    "provider_b": 102,
    "provider_c": 103,
    "relay": 121,
    "carrier": 131,
    "stranger": 200,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address and a port number that were free for both UDP and TCP when they were picked."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @property
    def pair(self) -> tuple[str, int]:
        """As the socket module wants it."""
        return self.address, self.port


def free_port(address: str) -> int:
    """A port number that nobody holds on `address`, neither for UDP nor for TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(200):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as udp,
            socket.socket(family, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((address, 0))
            port: int = udp.getsockname()[1]
            try:
                tcp.bind((address, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port on {address} is free for both UDP and TCP")


def endpoint(address: str) -> Endpoint:
    """A free port on `address`."""
    return Endpoint(address=address, port=free_port(address))


class Loopback:
    """The loopback addresses of this test process: 127.X.0.0/16, one /24 after the other."""

    def __init__(self) -> None:
        worker = re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or "0"
        self._lock = threading.Lock()
        self._next = 0
        # The claim is a bound socket: it ends with the process, however that ends.
        self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        atexit.register(self._claim.close)
        for step in range(200):
            self.second_octet = 30 + (int(worker) + step) % 200
            try:
                self._claim.bind((f"127.{self.second_octet}.255.254", CLAIM_PORT))
            except OSError:
                continue
            return
        raise OSError("every 127.X.0.0/16 is taken by another test process")

    def next_network(self) -> str:
        """The first three octets of a /24 not handed out yet, such as `127.31.4`; starts over after 250."""
        with self._lock:
            self._next = self._next % 250 + 1
            return f"127.{self.second_octet}.{self._next}"


_loopback: Loopback | None = None
_pid = 0


def loopback() -> Loopback:
    """This process's loopback range; claimed at first use."""
    global _loopback, _pid
    if _loopback is None or _pid != os.getpid():
        _loopback, _pid = Loopback(), os.getpid()
    return _loopback


@dataclass(frozen=True, slots=True)
class Street:
    """One /24: an endpoint for each of HOSTS, picked when it is first asked for."""

    network: str
    _picked: dict[str, Endpoint]

    def __getitem__(self, host: str) -> Endpoint:
        if host not in self._picked:
            self._picked[host] = endpoint(f"{self.network}.{HOSTS[host]}")
        return self._picked[host]

    @property
    def phones(self) -> str:
        """The network of the phones, in CIDR form; no trunk lies in it."""
        return f"{self.network}.0/{PHONES_PREFIX}"


def street() -> Street:
    """A fresh /24."""
    return Street(loopback().next_network(), {})


def is_bound(point: Endpoint, transport: str = "udp") -> bool:
    """True where a socket of any process is bound (UDP) or listening (TCP) on `point` (from /proc/net)."""
    octets = "".join(f"{int(octet):02X}" for octet in reversed(point.address.split(".")))
    wanted = {f"{octets}:{point.port:04X}", f"00000000:{point.port:04X}"}
    with open(f"/proc/thread-self/net/{transport}") as table:
        for line in table:
            columns = line.split()
            if columns[1] in wanted and (transport == "udp" or columns[3] == "0A"):
                return True
    return False
