"""Our listening points: which transport addresses are ours, and which of them to send from."""

import socket
import time
from collections.abc import Callable
from functools import lru_cache

from config.addresses import is_private
from config.schema import Config
from router.network.sources import parse_address
from sip.flow import ListeningPoint

ADDRESS_SECONDS = 10.0
"""So long the system's word on our own addresses is believed: addresses and routes change while we run."""
_ANSWERS_KEPT = 10_000


class _LocalAddresses:
    """What the system says of our own addresses, each answer kept for ADDRESS_SECONDS; a failure is not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._towards: dict[str, tuple[float, str]] = {}
        self._local: dict[str, float] = {}
        self._scoped: dict[str, str] = {}
        """Link-local peers with the interface they were last heard at, by their address alone."""

    def towards(self, peer: str) -> str:
        """The address that a peer sees of us; an empty string where it cannot be reached at the moment.

        A link-local peer (RFC 4007) with its interface, `fe80::20%2`, where it is heard; later without."""
        if peer[:4].lower() == "fe80":
            peer = self._with_scope(peer)
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

    def _with_scope(self, peer: str) -> str:
        host, _, scope = peer.partition("%")
        if not scope:
            return self._scoped.get(host, peer)
        if len(self._scoped) >= _ANSWERS_KEPT:
            self._scoped.clear()
        self._scoped[host] = peer
        return peer

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
    (`localise`), found by asking the system which source address it would use. Where a point advertises another
    address, that one stands there. clock: monotonic seconds.
    """

    def __init__(self, points: list[ListeningPoint], clock: Callable[[], float] = time.monotonic) -> None:
        self.points = points
        self._own = {(point.host, point.port) for point in points}
        self._own |= {point.advertised for point in points if point.advertised is not None}
        self._wildcard_ports = {point.port for point in points if is_wildcard(point.host)}
        self.are_fixed = not self._wildcard_ports
        """True where no point is a wildcard, so that which one is chosen depends on nothing but the peer."""
        self._addresses = _LocalAddresses(clock)
        self._made: dict[tuple[ListeningPoint, str], ListeningPoint] = {}
        self._fitting: dict[tuple[str, bool, str], tuple[ListeningPoint, ...]] = {}

    def is_own(self, host: str, port: int) -> bool:
        """True where an address and port are ours."""
        if (host, port) in self._own:
            return True
        return port in self._wildcard_ports and self._addresses.is_ours(host)

    def is_local(self, host: str) -> bool:
        """True where an address is one of this machine's."""
        return self._addresses.is_ours(host)

    def find(self, transport: str, host: str, port: int) -> ListeningPoint | None:
        """The point with this very address, as bound or as advertised; a wildcard's where it covers it."""
        for point in self.points:
            if point.transport != transport:
                continue
            if point.advertised == (host, port) or (point.host == host and point.port == port):
                return point
        for point in self.points:
            covers = point.port == port and is_wildcard(point.host) and (":" in point.host) is (":" in host)
            if covers and point.transport == transport:
                return point if point.advertised is not None else self._at(point, host)
        return None

    def find_bound(self, transport: str, host: str, port: int, peer: str) -> ListeningPoint | None:
        """The point whose socket is bound to this address, as a peer sees it; where the configuration has changed
        since, another one that fits the peer."""
        for point in self.points:
            if point.transport == transport and point.host == host and point.port == port:
                return self.localise(point, peer)
        return self.choose(transport, peer)

    def localise(self, point: ListeningPoint, peer: str) -> ListeningPoint:
        """For a wildcard point: the point with the address that this peer sees; any other point is itself.

        While the peer cannot be reached, as after a network went down, it is the wildcard point for this once.
        """
        if point.advertised is not None or not is_wildcard(point.host):
            return point
        address = self._addresses.towards(peer)
        return self._at(point, address) if address else point

    def choose(
        self, transport: str, host: str, near: ListeningPoint | None = None, name: str = ""
    ) -> ListeningPoint | None:
        """The point to send from to a host, or None: of its transport and address family; of the interface `name`,
        where it has one. near: where a message just came in. Where several fit, `_best` decides."""
        six = ":" in host
        fitting = self._fitting.get((transport, six, name))
        if fitting is None:
            fitting = self._fitting[transport, six, name] = self._find_fitting(transport, six, name)
        if fitting:
            return self.localise(fitting[0] if len(fitting) == 1 else self._best(fitting, host, near), host)
        if transport in ("tcp", "tls"):
            # No listener of this transport: a connection we open is enough for the call; later requests come by the
            # Record-Route, which names a point where we do listen.
            family = self._of_family(six, name) or self._of_family(six, "")
            if family:
                return self._opened(transport, self.localise(family[0], host))
        return None

    def _of_family(self, six: bool, name: str) -> list[ListeningPoint]:
        return [point for point in self.points if (":" in point.host) is six and (not name or point.name == name)]

    def _find_fitting(self, transport: str, six: bool, name: str) -> tuple[ListeningPoint, ...]:
        every = [point for point in self._of_family(six, "") if point.transport == transport]
        named = self._of_family(six, name)
        if not name or not named:
            return tuple(every)
        fitting = [point for point in every if point.name == name]
        if not fitting:
            # The interface has no item of this transport: another one at its address, else (streams) a connection
            # from there; a datagram must leave somehow.
            hosts = {point.host for point in named}
            fitting = [point for point in every if point.host in hosts]
            if not fitting and transport == "udp":
                fitting = every
        return tuple(fitting)

    def _best(self, fitting: tuple[ListeningPoint, ...], host: str, near: ListeningPoint | None) -> ListeningPoint:
        """Of several: those with the address the system would send from; of these those that advertise an address
        for public peers, and those that do not for private ones; of these where the message came in, or the first."""
        address = self._addresses.towards(host)
        pool = [point for point in fitting if point.host == address] or list(fitting)
        public = is_public(host)
        pool = [point for point in pool if (point.advertised is not None) is public] or pool
        if near is not None:
            for point in pool:
                if point is near.base or point.host == near.host:
                    return point
        return pool[0]

    def _at(self, point: ListeningPoint, host: str) -> ListeningPoint:
        """The point of a wildcard's socket with an address of ours, the same object each time."""
        made = self._made.get((point, host))
        if made is None:
            made = self._keep(
                (point, host), ListeningPoint(point.transport, host, point.port, point, name=point.name)
            )
        return made

    def _opened(self, transport: str, listening: ListeningPoint) -> ListeningPoint:
        """The end of connections that we open from the address of a point of another transport."""
        made = self._made.get((listening, transport))
        if made is None:
            made = ListeningPoint(
                transport, listening.host, listening.port, name=listening.name, advertised=listening.advertised
            )
            made.record_route_uri = listening.record_route_uri
            made.secure_record_route_uri = listening.secure_record_route_uri
            made.secure_record_route_uri = listening.secure_record_route_uri
            self._keep((listening, transport), made)
        return made

    def _keep(self, key: tuple[ListeningPoint, str], made: ListeningPoint) -> ListeningPoint:
        if len(self._made) >= 1_000:
            self._made.clear()
        self._made[key] = made
        return made


def listening_points(config: Config) -> list[ListeningPoint]:
    """The points a configuration asks for, in its order."""
    return [
        ListeningPoint(
            listen.transport, listen.host, listen.port, name=listen.name or "", advertised=listen.advertised
        )
        for listen in config.listen
    ]


@lru_cache(maxsize=16_384)
def is_public(host: str) -> bool:
    """True where a host is an address that others than its neighbours can reach."""
    address = parse_address(host)
    return address is not None and not is_private(address)


def is_wildcard(host: str) -> bool:
    """True for 0.0.0.0 and ::."""
    return host in ("0.0.0.0", "::")


def local_address_towards(peer: str) -> str:
    """The address of ours that the system would use to reach a peer; an empty string where it cannot be reached."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_address(peer, 9))  # a UDP connect sends nothing
            return str(probe.getsockname()[0]).partition("%")[0]
    except (OSError, UnicodeError):
        return ""


def is_local_address(host: str) -> bool:
    """True where an address is one of this machine's."""
    if host[:4].lower() == "fe80" and "%" not in host:
        # Link-local (RFC 4007): of which interface is not said in a SIP URI.
        return any(is_local_address(f"{host}%{number}") for number, _ in socket.if_nameindex())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(_address(host, 0))
    except (OSError, UnicodeError):
        return False
    return True


def _address(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """As sockets take it: an interface by its number (`fe80::20%2`) is no part of the text there."""
    host, _, scope = host.partition("%")
    return (host, port, 0, int(scope)) if scope.isdecimal() else (host, port)
