"""The peers we send calls to: where they are now, over which listening point, and what was learnt about them."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache, partial
from typing import NamedTuple

from config.schema import Config, Trunk
from config.values import PeerAddress
from router.network.listening import ListeningPoints
from router.network.lookups import Resolver
from router.network.media import warns_of_media
from router.network.sources import parse_address
from router.network.trunk_health import TrunkHealth
from sip.flow import Flow, ListeningPoint, TlsPeer
from sip.locating import Located, Server, Where, in_order

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1300
"""RFC 3261 section 18.1.1: a request above this goes by a congestion-controlled transport; bytes."""
TCP_REFUSED_SECONDS = 600.0
"""So long a trunk that could not be had by TCP for a large message is not asked again."""
TLS_FAILED_SECONDS = 60.0
"""So long what stopped TLS, and would cost time again, is remembered; it is tried again beside the calls."""
KNOWN_DOWN = "known-down"
ALARM_SECONDS = 60.0
"""So often the same alarm about a trunk is in the log."""
_QUICK = frozenset({"refused", "unreachable", "handshake-failed", "broken"})
"""What is known after a round trip or two: nothing is gained by not trying again."""


class Way(StrEnum):
    """How a trunk is reached."""

    TLS = "tls"
    """With its certificate verified."""
    TLS_UNVERIFIED = "tls-unverified"
    TCP = "tcp"
    UDP = "udp"


@dataclass(slots=True)
class TrunkState:
    """One trunk, and what was learnt about it."""

    name: str
    config: Trunk
    way: Way | None = None
    """Of a trunk by TLS: how the last 911 call, or the connection held for the next one, went there."""
    failures: dict[tuple[Way, str, int], tuple[float, str]] = field(default_factory=dict)
    """By way, address and port: when it failed, and the name of the failure."""
    alarms: dict[str, float] = field(default_factory=dict)
    media_noted: bool = False
    path_needs_supported: bool = False
    """True where it refused a Path that came without `Supported: path` (RFC 3327 section 5.3)."""

    def note(self, way: Way, flow: Flow, failure: str, now: float) -> None:
        """Remember what stopped a way; an empty failure: it could be had."""
        key = (way, flow.host, flow.port)
        if not failure:
            self.failures.pop(key, None)
        elif not (self._by_tls(way) and failure in _QUICK):
            if len(self.failures) >= 1_000:  # a name whose addresses change all the time
                self.failures.clear()
            self.failures[key] = (now, failure)

    def failure(self, way: Way, flow: Flow, now: float) -> str:
        """What is remembered to stop a way, or an empty string."""
        at, failure = self.failures.get((way, flow.host, flow.port), (0.0, ""))
        if failure and now - at > (TLS_FAILED_SECONDS if self._by_tls(way) else TCP_REFUSED_SECONDS):
            del self.failures[way, flow.host, flow.port]
            return ""
        return failure

    def _by_tls(self, way: Way) -> bool:
        return way in (Way.TLS, Way.TLS_UNVERIFIED) or self.config.uses_tls

    def is_news(self, alarm: str, now: float) -> bool:
        """True where this was not said within ALARM_SECONDS."""
        if now - self.alarms.get(alarm, -ALARM_SECONDS) < ALARM_SECONDS:
            return False
        if len(self.alarms) >= 1_000:
            self.alarms.clear()
        self.alarms[alarm] = now
        return True


class Hop(NamedTuple):
    """One place where a trunk may be reached: transport, address and port, and how it was found."""

    flow: Flow
    peer: PeerAddress
    """The target in the configuration it comes from: its host is the name that a certificate must bear (RFC 5922),
    its host and port stand in Request-URIs."""
    position: int
    """Its place in the order of configuration and DNS, whatever is known to be down: derived branches carry it."""
    reason: str = ""
    """Why DNS does not vouch for it at the moment (`dns-stale`, `dns-gone`), `known-down`, or an empty string."""
    is_down: bool = False
    """True where it is known to be down: it then comes after those that are not."""


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
        self.health: TrunkHealth = before.health if before is not None else TrunkHealth()
        self.authorities = (config.tls.ca if config.tls is not None else None) or ""
        self._hops: dict[tuple[str, ListeningPoint | None], list[Hop]] = {}
        """Of trunks given by address, where our own addresses are given too: they never change."""

    def hops(self, name: str, near: ListeningPoint | None = None, seed: bytes = b"") -> list[Hop]:
        """Where a trunk is reached now, in the order in which to try; empty where none of its names has an address
        yet or we have no fitting socket.

        near: the listening point a request came in by, preferred to leave by. seed: of the request, such as its
        Call-ID; it decides among equal servers.
        """
        kept = self._hops.get((name, near))
        if kept is not None and not self.health.down:
            return kept.copy()
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
        if self.points.are_fixed and all(where_of(peer) is None for peer in state.config.addresses):
            self._hops[name, near] = found.copy()
        if self.health.down:
            found = [
                hop._replace(is_down=True, reason=hop.reason or KNOWN_DOWN) if self.health.is_down(hop.flow) else hop
                for hop in found
            ]
            found.sort(key=lambda hop: hop.is_down)
        return found

    def names(self, name: str) -> list[Where]:
        """The host names among a trunk's targets."""
        state = self.states.get(name)
        return names_of({name: state.config}) if state is not None else []

    def unnamed(self, name: str) -> list[Where]:
        """Those that DNS gives no address for at the moment."""
        return [where for where in self.names(name) if not self.resolver.known(where).groups]

    def names_never_asked(self, name: str) -> list[Where]:
        """Those that no look-up has ended for yet: the first is under way, or begins."""
        return [where for where in self.names(name) if not self.resolver.was_asked(where)]

    def await_names(self, trunks: Sequence[str], then: Callable[[], None]) -> bool:
        """Where none of these trunks has an address yet: ask for their names once more, and call then (later) as soon
        as one has, or DNS has said nothing of any of them. False where there is no name to ask for."""
        names = tuple(dict.fromkeys(where for trunk in trunks for where in self.names(trunk)))
        if not names or not self.resolver.can_ask:
            return False
        left = set(names)

        def told(where: Where) -> None:
            if not left:
                return
            left.discard(where)
            if not left or any(self.hops(trunk) for trunk in trunks):
                left.clear()
                then()

        for where in names:
            self.resolver.ask(where, partial(_ended, told, where), again=True)
        return True

    def is_down(self, name: str) -> bool:
        """True where every place of a trunk is known to be down."""
        if not self.health.down:
            return False
        hops = self.hops(name)
        return bool(hops) and all(hop.is_down for hop in hops)

    def tls_peer(self, name: str, host: str) -> TlsPeer:
        """What the certificate of a trunk must prove, where this is the host of its target (RFC 5922)."""
        tls = self.states[name].config.tls
        return TlsPeer(tls.name or host, verified=True, authorities=tls.ca or self.authorities)

    def tls_peer_at(self, address: str, port: int) -> TlsPeer:
        """The same for an address that a request in a dialog goes to: a trunk's, else nobody's in particular."""
        found: TlsPeer | None = None
        for name, state in self.states.items():
            for hop in self.hops(name) if state.config.may_use_tls else ():
                peer = hop.flow.peer
                if hop.flow.host == address and peer is not None:
                    if state.way is Way.TLS_UNVERIFIED:
                        peer = peer._replace(verified=False)  # it took the call so; the rest is not to be lost
                    if hop.flow.port == port:
                        return peer
                    found = found or peer
        return found or TlsPeer(address, verified=False)

    def note_media(self, name: str, host: str, body: bytes, counts: Counter[str]) -> None:
        """Count an ordinary call that asks a public trunk for media at a private address; logged once for a trunk."""
        state = self.states.get(name)
        if state is None or not warns_of_media(state.config, host, body):
            return
        counts["private_media_address"] += 1
        if not state.media_noted:
            state.media_noted = True
            log.warning("a call to trunk %s names a private address for media: it may stay one-way", name)

    def addresses(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Trunk name → its IP addresses and ports, as far as they are known."""
        return known_addresses({name: state.config for name, state in self.states.items()}, self.resolver.known)


def _ended(told: Callable[[Where], None], where: Where, _: Located) -> None:
    told(where)


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
