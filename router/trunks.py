"""The peers we send calls to: where they are now, over which listening point, and what was learnt about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from config.schema import Config, Trunk
from config.values import PeerAddress
from router.listening import ListeningPoints
from router.lookups import Resolver
from router.sources import parse_address
from sip.locating import Located, Server, Where, in_order
from sip.stack import Flow, ListeningPoint, TlsPeer

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


class Hop(NamedTuple):
    """One place where a trunk may be reached: transport, address and port, and how it was found."""

    flow: Flow
    peer: PeerAddress
    """The target in the configuration it comes from: its host is the name that a certificate must bear (RFC 5922),
    its host and port stand in Request-URIs."""
    position: int
    """Its place in the order of configuration and DNS, whatever is known to be down: derived branches carry it."""
    reason: str = ""
    """Why DNS does not vouch for it at the moment (`dns-stale`, `dns-gone`), or an empty string."""


class Trunks:
    """All trunks of a configuration."""

    def __init__(
        self, config: Config, points: ListeningPoints, resolver: Resolver, before: "Trunks | None" = None
    ) -> None:
        """before: those in use until now; what was learnt of a trunk that is configured as it was stays.

        Names are looked up by the resolver as soon as they are asked for, which the call process does once a second.
        """
        known = before.states if before is not None else {}
        self.states: dict[str, TrunkState] = {
            name: known[name] if name in known and known[name].config == trunk else TrunkState(name, trunk)
            for name, trunk in config.trunks.items()
        }
        self.points = points
        self.resolver = resolver
        self.authorities = (config.tls.ca if config.tls is not None else None) or ""

    def hops(self, name: str, near: ListeningPoint | None = None, seed: bytes = b"") -> list[Hop]:
        """Where a trunk is reached now, in the order in which to try; empty where none of its names has an address
        yet or we have no fitting socket.

        near: the listening point a request came in by, preferred to leave by. seed: of the request, such as its
        Call-ID; it decides among equal servers.
        """
        state = self.states.get(name)
        found: list[Hop] = []
        if state is None:
            return found
        interface = state.config.listen or ""
        for peer in state.config.addresses:
            where = where_of(peer)
            reason = self.resolver.reason(where) if where is not None else ""
            for server in servers_of(peer, self.resolver.known, seed):
                point = self.points.choose(server.transport, server.address, near, interface)
                if point is not None:
                    proof = self.tls_peer(name, peer.host) if point.transport == "tls" else None
                    flow = Flow(point, server.address, server.port, peer=proof)
                    found.append(Hop(flow, peer, len(found), reason))
        return found

    def tls_peer(self, name: str, host: str) -> TlsPeer:
        """What the certificate of a trunk must prove, where this is the host of its target (RFC 5922)."""
        tls = self.states[name].config.tls
        return TlsPeer(tls.name or host, verified=True, authorities=tls.ca or self.authorities)

    def tls_peer_at(self, address: str, port: int) -> TlsPeer:
        """The same for an address that a request in a dialog goes to: a trunk's, else nobody's in particular."""
        found: TlsPeer | None = None
        for name, state in self.states.items():
            for hop in self.hops(name) if state.config.uses_tls else ():
                if hop.flow.host == address and hop.flow.peer is not None:
                    if hop.flow.port == port:
                        return hop.flow.peer
                    found = found or hop.flow.peer
        return found or TlsPeer(address, verified=False)

    def by_tcp(self, hop: Hop, near: ListeningPoint | None = None) -> Hop | None:
        """The same place over TCP, for a large request (RFC 3261 section 18.1.1); None where we have no socket."""
        point = self.points.choose("tcp", hop.flow.host, near, hop.flow.point.name)
        return None if point is None else hop._replace(flow=Flow(point, hop.flow.host, hop.flow.port))

    def addresses(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Trunk name → its IP addresses and ports, as far as they are known."""
        return known_addresses({name: state.config for name, state in self.states.items()}, self.resolver.known)


def servers_of(peer: PeerAddress, known: Callable[[Where], Located], seed: bytes = b"") -> list[Server]:
    """The servers of a trunk's target: itself where it is an address, else what DNS says of its name."""
    where = where_of(peer)
    if where is None:
        return [Server(peer.transport or "udp", str(parse_address(peer.host)), peer.default_port)]
    return in_order(known(where), seed)


@lru_cache(maxsize=4096)
def where_of(peer: PeerAddress) -> Where | None:
    """What a target with a host name says of where to send; None for one with an address."""
    if parse_address(peer.host) is not None:
        return None
    is_secure = peer.uri.lower().startswith("sips:")
    return Where(peer.host.lower(), peer.port, peer.transport, is_secure)


def names_of(trunks: Mapping[str, Trunk]) -> list[Where]:
    """All names of these trunks."""
    return [where for trunk in trunks.values() for peer in trunk.addresses if (where := where_of(peer)) is not None]


def known_addresses(
    trunks: Mapping[str, Trunk], known: Callable[[Where], Located]
) -> dict[str, tuple[tuple[str, int], ...]]:
    """Trunk name → IP addresses and ports, in no particular order; known tells the servers of a name."""
    return {
        name: tuple(
            dict.fromkeys(
                (server.address, server.port) for peer in trunk.addresses for server in servers_of(peer, known)
            )
        )
        for name, trunk in trunks.items()
    }
