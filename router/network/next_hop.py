"""The next hop: which address and listening point a URI leads to, and which URIs are ours."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from router.network.listening import ListeningPoints
from router.network.sources import Sources, parse_address
from sip.flow import Flow, ListeningPoint
from sip.locating import Located, Server, Where, in_order
from sip.routing import RouteDecision
from sip.uri import SipUri, parse_sip_uri, scheme_of

Resolve = Callable[[Where, Callable[[Located], None]], None]
"""Finds the servers of a name, and tells them to the second argument, at once where they are known."""

MOST_OWN_NAMES = 256


class Around(Protocol):
    """What finding a next hop needs of the process."""

    def on_fault(self, doing: str) -> None:
        """A fault of edge911 itself was caught."""

    def flush(self) -> None:
        """Send what the stack has ready."""


class NextHops:
    """Finds where a request goes, from the listening points and sources of one configuration."""

    def __init__(self, points: ListeningPoints, sources: Sources, resolve: Resolve | None, around: Around) -> None:
        self.points = points
        self.sources = sources
        self.resolve = resolve
        self.around = around
        self._own_names: set[tuple[str, int | None]] = set()
        """Names, and ports as written, by which phones call this router; as DNS has said."""

    def towards(
        self,
        uri: bytes,
        leaving: ListeningPoint | None,
        arrived: ListeningPoint,
        then: Callable[[list[Flow]], None],
        seed: bytes,
    ) -> None:
        """Find the flows to a URI, in the order in which to try them, then go on; at once where its host is an
        address or its servers are known (RFC 3263).

        seed: of the request; it decides among equal servers. Raises RemoteError where the URI cannot be read.
        """
        target = parse_sip_uri(uri)
        host = target.destination
        if parse_address(host) is not None:
            server = Server(target.transport, host, target.effective_port)
            then(self._flows([server], leaving, arrived))
            return
        if self.resolve is None:
            then([])
            return
        is_waiting = False

        def resolved(located: Located) -> None:
            if not is_waiting:
                then(self._flows(in_order(located, seed), leaving, arrived))
                return
            try:
                then(self._flows(in_order(located, seed), leaving, arrived))
            except Exception:
                self.around.on_fault("going on after a look-up")
            self.around.flush()

        self.resolve(where_of(target), resolved)
        is_waiting = True

    def _flows(
        self, servers: Iterable[Server], leaving: ListeningPoint | None, arrived: ListeningPoint
    ) -> list[Flow]:
        found: list[Flow] = []
        for transport, host, port in servers:
            if leaving is not None and leaving.transport == transport and (":" in leaving.host) is (":" in host):
                point: ListeningPoint | None = leaving
            else:
                point = self.points.choose(transport, host, leaving or arrived, self.sources.interface_of(host))
            if point is not None:
                found.append(Flow(point, host, port))
        return found

    def leaving_point(self, decision: RouteDecision) -> ListeningPoint | None:
        """The listening point that our last Route value names: the side this dialog's other end is on."""
        if not decision.own:
            return None
        uri = decision.own[-1]
        return self.points.find(uri.transport, uri.destination, uri.effective_port)

    def is_own(self, uri: SipUri) -> bool:
        """True where a URI names this router: by an address, or by a name of which DNS has said so."""
        host = uri.destination
        if self._own_names and (host, uri.port) in self._own_names:
            return True
        return self.points.is_own(host, uri.effective_port)

    def is_found_own(self, uri: bytes, found: Sequence[Flow]) -> bool:
        """True where a name was looked up and leads to this router: from now on it is known as ours.

        Phones put the name of their outbound proxy into Route, and nobody has to tell us how they call us. Forgotten
        with the configuration; a name that has moved on meanwhile is still no place that we would be asked to go to.
        """
        if not found or not self.points.is_own(found[0].host, found[0].port):
            return False
        named = parse_sip_uri(uri)
        if parse_address(named.destination) is not None:
            return False
        if len(self._own_names) >= MOST_OWN_NAMES:
            self._own_names.clear()
        self._own_names.add((named.destination, named.port))
        return True

    def is_own_text(self, uri: bytes) -> bool:
        """The same for a URI not read yet. Raises RemoteError where it is a SIP URI that cannot be read."""
        if scheme_of(uri) not in ("sip", "sips"):
            return False
        return self.is_own(parse_sip_uri(uri))

    def inside_uri(self, uri: bytes) -> SipUri | None:
        """A Request-URI whose host is an inside address that is not ours, else None."""
        if scheme_of(uri) not in ("sip", "sips"):
            return None
        parsed = parse_sip_uri(uri)
        if self.is_own(parsed) or not self.sources.reaches_inside(parsed.destination):
            return None
        return parsed

    def outside_may_reach(self, uri: bytes) -> bool:
        """True where a request from outside may go to this URI, in a dialog of ours or not."""
        if scheme_of(uri) not in ("sip", "sips"):
            return False
        host = parse_sip_uri(uri).destination
        return self.sources.reaches_inside(host) or self.sources.is_trunk(host)

    def is_listed(self, uri: bytes) -> bool:
        """True where a URI's host is an address that the configuration lists."""
        return scheme_of(uri) in ("sip", "sips") and self.sources.is_listed(parse_sip_uri(uri).destination)


def where_of(uri: SipUri) -> Where:
    """What a URI with a host name says of where to send."""
    transport = uri.parameters.get("transport", b"").decode("latin-1").lower()
    named = transport if transport in ("udp", "tcp", "tls") else ""
    return Where(uri.destination, uri.port, named, uri.scheme == "sips")
