"""The next hop: which address and listening point a URI leads to, and which URIs are ours."""

from collections.abc import Callable
from typing import Protocol

from router.listening import ListeningPoints
from router.sources import Sources, parse_address
from sip.routing import RouteDecision
from sip.stack import Flow, ListeningPoint
from sip.uri import SipUri, parse_sip_uri, scheme_of

Resolve = Callable[[str, Callable[[tuple[str, ...]], None]], None]
"""Asks for a host's addresses, and tells them to the second argument when they are known."""


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

    def towards(
        self,
        uri: bytes,
        leaving: ListeningPoint | None,
        arrived: ListeningPoint,
        then: Callable[[Flow | None], None],
    ) -> None:
        """Find the flow to a URI, then go on; at once where its host is an address.

        Raises RemoteError where the URI cannot be read.
        """
        target = parse_sip_uri(uri)
        if parse_address(target.host) is not None:
            then(self._flow_to(target, target.host, leaving, arrived))
            return
        if self.resolve is None:
            then(None)
            return

        def resolved(addresses: tuple[str, ...]) -> None:
            try:
                then(self._flow_to(target, addresses[0], leaving, arrived) if addresses else None)
            except Exception:
                self.around.on_fault("going on after a look-up")
            self.around.flush()

        self.resolve(target.host, resolved)

    def _flow_to(
        self, target: SipUri, host: str, leaving: ListeningPoint | None, arrived: ListeningPoint
    ) -> Flow | None:
        transport = target.transport
        if leaving is not None and leaving.transport == transport and (":" in leaving.host) is (":" in host):
            point: ListeningPoint | None = leaving
        else:
            point = self.points.choose(transport, host, leaving or arrived, self.sources.interface_of(host))
        return None if point is None else Flow(point, host, target.effective_port)

    def leaving_point(self, decision: RouteDecision) -> ListeningPoint | None:
        """The listening point that our last Route value names: the side this dialog's other end is on."""
        if not decision.own:
            return None
        uri = decision.own[-1]
        return self.points.find(uri.transport, uri.host, uri.effective_port)

    def is_own(self, uri: SipUri) -> bool:
        """True where a URI names this router."""
        return self.points.is_own(uri.host, uri.effective_port)

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
        if self.is_own(parsed) or not self.sources.reaches_inside(parsed.host):
            return None
        return parsed

    def outside_may_reach(self, uri: bytes) -> bool:
        """True where a request from outside, not in a dialog of ours, may go to this URI."""
        if scheme_of(uri) not in ("sip", "sips"):
            return False
        host = parse_sip_uri(uri).host
        return self.sources.reaches_inside(host) or self.sources.is_trunk(host)
