"""The peers we send calls to: where they are now, over which listening point, and what was learnt about them."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from config.schema import Config, Trunk
from config.values import PeerAddress
from router.lookups import Resolver
from sip.stack import Flow, ListeningPoint

MESSAGE_LIMIT = 1300
"""RFC 3261 section 18.1.1: a request above this goes by a congestion-controlled transport; bytes."""
TCP_REFUSED_SECONDS = 600.0
"""So long a trunk that could not be had by TCP is not asked again."""
ADDRESS_SECONDS = 10.0
"""So long the system's word on our own addresses is believed: addresses and routes change while we run."""
_ANSWERS_KEPT = 10_000


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


class _LocalAddresses:
    """What the system says of our own addresses, each answer kept for ADDRESS_SECONDS; a failure is not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._towards: dict[str, tuple[float, str]] = {}
        self._local: dict[str, float] = {}

    def towards(self, peer: str) -> str:
        """The address that a peer sees of us; an empty string where it cannot be reached at the moment."""
        now = self._clock()
        kept = self._towards.get(peer)
        if kept is not None and now - kept[0] < ADDRESS_SECONDS:
            return kept[1]
        found = local_address_towards(peer)
        if found:
            if len(self._towards) >= _ANSWERS_KEPT:
                self._towards.clear()
            self._towards[peer] = (now, found)
        else:
            self._towards.pop(peer, None)
        return found

    def is_ours(self, host: str) -> bool:
        """True where an address is one of this machine's."""
        now = self._clock()
        at = self._local.get(host)
        if at is not None and now - at < ADDRESS_SECONDS:
            return True
        if not is_local_address(host):
            self._local.pop(host, None)
            return False
        if len(self._local) >= _ANSWERS_KEPT:
            self._local.clear()
        self._local[host] = now
        return True


class ListeningPoints:
    """Our transport addresses, and which of them to send from.

    A wildcard (0.0.0.0, ::) is only where a socket is bound; in messages stands the address that the peer reaches
    (`localise`), found by asking the system which source address it would use. clock: monotonic seconds.
    """

    def __init__(self, points: list[ListeningPoint], clock: Callable[[], float] = time.monotonic) -> None:
        self.points = points
        self._own = {(point.host, point.port) for point in points}
        self._wildcard_ports = {point.port for point in points if is_wildcard(point.host)}
        self._addresses = _LocalAddresses(clock)
        self._made: dict[tuple[ListeningPoint, str], ListeningPoint] = {}

    def is_own(self, host: str, port: int) -> bool:
        """True where an address and port are ours."""
        if (host, port) in self._own:
            return True
        return port in self._wildcard_ports and self._addresses.is_ours(host)

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
        """For a wildcard point: the point with the address that this peer sees; any other point is itself.

        While the peer cannot be reached, as after a network went down, it is the wildcard point for this once.
        """
        if not is_wildcard(point.host):
            return point
        address = self._addresses.towards(peer)
        return self._at(point, address) if address else point

    def choose(self, transport: str, host: str, near: ListeningPoint | None = None) -> ListeningPoint | None:
        """The point to send from to a host: of its transport and address family; if possible the one whose address
        a message just came in by. None where there is none."""
        family = [point for point in self.points if (":" in point.host) is (":" in host)]
        fitting = [point for point in family if point.transport == transport]
        if fitting:
            wanted = near.host if near else ""
            return self.localise(next((point for point in fitting if point.host == wanted), fitting[0]), host)
        if transport == "tcp" and family:
            # No TCP listener: a connection we open is enough for the call; later requests come by the Record-Route,
            # which names a point where we do listen.
            return self._opened(self.localise(family[0], host))
        return None

    def _at(self, point: ListeningPoint, host: str) -> ListeningPoint:
        """The point of a wildcard's socket with an address of ours, the same object each time."""
        made = self._made.get((point, host))
        if made is None:
            made = self._keep((point, host), ListeningPoint(point.transport, host, point.port, point))
        return made

    def _opened(self, listening: ListeningPoint) -> ListeningPoint:
        """The end of TCP connections that we open from the address of a UDP point."""
        made = self._made.get((listening, ""))
        if made is None:
            made = ListeningPoint("tcp", listening.host, listening.port)
            made.record_route_uri = listening.record_route_uri
            self._keep((listening, ""), made)
        return made

    def _keep(self, key: tuple[ListeningPoint, str], made: ListeningPoint) -> ListeningPoint:
        if len(self._made) >= 1_000:
            self._made.clear()
        self._made[key] = made
        return made


def is_wildcard(host: str) -> bool:
    """True for 0.0.0.0 and ::."""
    return host in ("0.0.0.0", "::")


def local_address_towards(peer: str) -> str:
    """The address of ours that the system would use to reach a peer; an empty string where it cannot be reached."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))  # a UDP connect sends nothing
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
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


class Hop(NamedTuple):
    """One place where a trunk may be reached: transport, address and port, and how it was found."""

    flow: Flow
    peer: PeerAddress
    """The target in the configuration it comes from: its host is the name that a certificate must bear (RFC 5922),
    its host and port stand in Request-URIs."""
    position: int
    """Its place in the order of configuration and DNS, whatever is known to be down: derived branches carry it."""


class Trunks:
    """All trunks of a configuration."""

    def __init__(
        self, config: Config, points: ListeningPoints, resolver: Resolver, before: "Trunks | None" = None
    ) -> None:
        """before: those in use until now; what was learnt of a trunk that is configured as it was stays."""
        known = before.states if before is not None else {}
        self.states: dict[str, TrunkState] = {
            name: known[name] if name in known and known[name].config == trunk else TrunkState(name, trunk)
            for name, trunk in config.trunks.items()
        }
        self.points = points
        self.resolver = resolver

    def hops(self, name: str, near: ListeningPoint | None = None) -> list[Hop]:
        """Where a trunk is reached now, in the order in which to try; empty where none of its names has an address
        yet or we have no fitting socket. near: the listening point a request came in by, preferred to leave by."""
        state = self.states.get(name)
        found: list[Hop] = []
        for peer in state.config.addresses if state is not None else ():
            for address in self.resolver.known(peer.host):
                point = self.points.choose(peer.transport or "udp", address, near)
                if point is not None:
                    found.append(Hop(Flow(point, address, peer.default_port), peer, len(found)))
        return found

    def by_tcp(self, hop: Hop, near: ListeningPoint | None = None) -> Hop | None:
        """The same place over TCP, for a large request (RFC 3261 section 18.1.1); None where we have no socket."""
        point = self.points.choose("tcp", hop.flow.host, near)
        return None if point is None else hop._replace(flow=Flow(point, hop.flow.host, hop.flow.port))

    def addresses(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Trunk name → its IP addresses and ports, as far as they are known."""
        return known_addresses({name: state.config for name, state in self.states.items()}, self.resolver.known)


def known_addresses(
    trunks: Mapping[str, Trunk], known: Callable[[str], Sequence[str]]
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Trunk name → IP addresses and ports; known gives the addresses of a host name or address."""
    return {
        name: tuple((address, peer.default_port) for peer in trunk.addresses for address in known(peer.host))
        for name, trunk in trunks.items()
    }
