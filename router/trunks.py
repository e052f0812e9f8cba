"""The peers we send calls to: where they are now, over which listening point, and what was learnt about them."""

import socket
from dataclasses import dataclass, field
from functools import lru_cache

from config.schema import Config, Trunk
from router.lookups import Resolver
from sip.stack import Flow, ListeningPoint

MESSAGE_LIMIT = 1300
"""RFC 3261 section 18.1.1: a request above this goes by a congestion-controlled transport; bytes."""
TCP_REFUSED_SECONDS = 600.0
"""So long a trunk that could not be had by TCP is not asked again."""


@dataclass(slots=True)
class TrunkState:
    """One trunk, and whether it takes large requests by TCP (None: not known yet)."""

    name: str
    config: Trunk
    takes_tcp: bool | None = None
    refused_at: float = field(default=0.0)

    def knows_tcp(self, now: float) -> bool | None:
        """What is remembered of TCP; a refusal is forgotten after TCP_REFUSED_SECONDS."""
        if self.takes_tcp is False and now - self.refused_at > TCP_REFUSED_SECONDS:
            self.takes_tcp = None
        return self.takes_tcp

    def note_tcp(self, reachable: bool, now: float) -> None:
        """Remember whether TCP could be had."""
        self.takes_tcp = reachable
        self.refused_at = now


class ListeningPoints:
    """Our transport addresses, and which of them to send from.

    A wildcard (0.0.0.0, ::) is only where a socket is bound; in messages stands the address that the peer reaches
    (`localise`), found by asking the system which source address it would use.
    """

    def __init__(self, points: list[ListeningPoint]) -> None:
        self.points = points
        self._own = {(point.host, point.port) for point in points}
        self._wildcard_ports = {point.port for point in points if is_wildcard(point.host)}
        self._chosen: dict[tuple[str, str, str], ListeningPoint | None] = {}
        self._local: dict[tuple[ListeningPoint, str], ListeningPoint] = {}
        self._is_local: dict[str, bool] = {}

    def is_own(self, host: str, port: int) -> bool:
        """True where an address and port are ours."""
        if (host, port) in self._own:
            return True
        if port not in self._wildcard_ports:
            return False
        if host not in self._is_local:
            if len(self._is_local) > 10_000:
                self._is_local.clear()
            self._is_local[host] = is_local_address(host)
        return self._is_local[host]

    def find(self, transport: str, host: str, port: int) -> ListeningPoint | None:
        """The point with this very address; a wildcard's where it covers it."""
        for point in self.points:
            if point.transport == transport and point.port == port:
                if point.host == host:
                    return point
                if is_wildcard(point.host) and (":" in point.host) is (":" in host):
                    return self._at(point, host)
        return None

    def localise(self, point: ListeningPoint, peer: str) -> ListeningPoint:
        """For a wildcard point: the point with the address that this peer sees; any other point is itself."""
        if not is_wildcard(point.host):
            return point
        return self._at(point, local_address_towards(peer) or point.host)

    def choose(self, transport: str, host: str, near: ListeningPoint | None = None) -> ListeningPoint | None:
        """The point to send from to a host: of its transport and address family; if possible the one whose address
        a message just came in by. None where there is none."""
        key = (transport, host, near.host if near else "")
        if key not in self._chosen:
            if len(self._chosen) > 20_000:
                self._chosen.clear()
            self._chosen[key] = self._choose(*key)
        return self._chosen[key]

    def _choose(self, transport: str, host: str, near: str) -> ListeningPoint | None:
        family = [point for point in self.points if (":" in point.host) is (":" in host)]
        fitting = [point for point in family if point.transport == transport]
        if fitting:
            return self.localise(next((point for point in fitting if point.host == near), fitting[0]), host)
        if transport == "tcp" and family:
            # No TCP listener: a connection we open is enough for the call; later requests come by the Record-Route,
            # which names a point where we do listen.
            listening = self.localise(family[0], host)
            opened = ListeningPoint("tcp", listening.host, listening.port)
            opened.record_route_uri = listening.record_route_uri
            return opened
        return None

    def _at(self, point: ListeningPoint, host: str) -> ListeningPoint:
        if (point, host) not in self._local:
            if len(self._local) > 1_000:
                self._local.clear()
            self._local[point, host] = ListeningPoint(point.transport, host, point.port, point)
        return self._local[point, host]


def is_wildcard(host: str) -> bool:
    """True for 0.0.0.0 and ::."""
    return host in ("0.0.0.0", "::")


@lru_cache(maxsize=4096)
def local_address_towards(peer: str) -> str:
    """The address of ours that the system would use to reach a peer; an empty string where it cannot be reached."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))  # a UDP connect sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def is_local_address(host: str) -> bool:
    """True where an address is one of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except (OSError, UnicodeError):
        return False
    return True


class Trunks:
    """All trunks of a configuration."""

    def __init__(self, config: Config, points: ListeningPoints, resolver: Resolver) -> None:
        self.states = {name: TrunkState(name, trunk) for name, trunk in config.trunks.items()}
        self.points = points
        self.resolver = resolver

    def flow(self, name: str, near: ListeningPoint | None = None, transport: str | None = None) -> Flow | None:
        """Where a trunk is reached now; None where its name has no address yet or we have no fitting socket."""
        state = self.states.get(name)
        if state is None:
            return None
        trunk = state.config
        transport = transport or trunk.transport
        for address in self.resolver.known(trunk.host):
            point = self.points.choose(transport, address, near)
            if point is not None:
                return Flow(point, address, trunk.port or (5061 if transport == "tls" else 5060))
        return None

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Trunk name → its IP addresses, as far as they are known."""
        return {name: self.resolver.known(state.config.host) for name, state in self.states.items()}
