"""Ways back to phones: Path on REGISTER (RFC 3327) with a flow token (RFC 5626), or the Contact rewritten.

A registrar that knows Path sends its calls with our Path as Route; one that does not, to a Contact that leads to us
and holds the phone's own. Either way the token says by which flow the phone is reached: behind its NAT, and also
after a restart of ours. In calls the same token stands in Record-Route for phones whose Contact is not where they
are.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from router.dialogs.flow_tokens import FlowToken, FlowTokens
from router.dialogs.record_route import with_user
from router.network.listening import ListeningPoints
from sip.errors import RemoteError
from sip.flow import Flow, ListeningPoint
from sip.headers import NameAddr, parse_name_addr
from sip.message import Request, Response
from sip.routing import RouteDecision
from sip.uri import bracketed, parse_sip_uri, scheme_of

PARAMETER = b"e9"
"""URI parameter of a Contact that leads to us."""
_CONTACT_OF_OURS = re.compile(rb"<sips?:[^<>]*;e9=([A-Za-z0-9_-]+)[^<>]*>")
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{28,}")
"""What a token looks like: other user parts in a Route of ours are names that somebody gave us."""
LATEST_LIMIT = 50_000


class ToPhone(NamedTuple):
    """A request is for a phone behind a flow."""

    flow: Flow | None
    """Where it is; None where its connection has ended."""
    token: bytes
    """What stands for the flow in Record-Route; empty where it has ended."""
    uri: bytes
    """Request-URI to send with."""
    transport: str
    outbound: bool
    """True where the registrar knows another flow of the phone to try (RFC 5626)."""


class Paths:
    """Makes and follows the ways back to phones.

    latest is what is remembered of connections: token of a rewritten Contact → the connection it came by last.
    is_connected says whether a connection of this number lives.
    """

    def __init__(
        self,
        tokens: FlowTokens,
        points: ListeningPoints,
        latest: dict[bytes, Flow],
        is_connected: Callable[[int], bool],
    ) -> None:
        self.tokens = tokens
        self.points = points
        self.latest = latest
        self.is_connected = is_connected

    # ---- to the registrar ----

    def path_line(self, request: Request, flow: Flow, out: ListeningPoint) -> bytes:
        """The Path that we add to a REGISTER from `flow`, for a registrar that reaches us at `out`."""
        outbound = is_outbound(request)
        token = self.tokens.make(flow, outbound=outbound)
        uri = out.secure_record_route_uri if request.uri[:5].lower() == b"sips:" else out.record_route_uri
        return b"Path: <%b%b>" % (with_user(uri, token), b";ob" if outbound else b"")

    def rewritten_contacts(self, request: Request, flow: Flow, out: ListeningPoint) -> list[bytes]:
        """The Contact lines of a REGISTER with every SIP URI made to lead to us; all else in them as it is."""
        lines = []
        for value in request.values("contact"):
            try:
                address = parse_name_addr(value)
                own = self._contact_of_ours(address, flow, out)
            except RemoteError:
                own = b""
            lines.append(b"Contact: " + (_with_uri(value, address.uri, own) if own else value))
        return lines

    def _contact_of_ours(self, address: NameAddr, flow: Flow, out: ListeningPoint) -> bytes:
        if scheme_of(address.uri) not in ("sip", "sips"):
            return b""
        uri = address.sip_uri()
        token = self.tokens.make_contact(flow, address.uri)
        if flow.connection:
            self._remember(token, flow)
        base = out.secure_record_route_uri if uri.scheme == "sips" else out.record_route_uri
        scheme, _, rest = base.removesuffix(b";lr").partition(b":")
        user = uri.user + b"@" if uri.user else b""
        return b"%b:%b%b;%b=%b" % (scheme, user, rest, PARAMETER, token)

    def _remember(self, token: bytes, flow: Flow) -> None:
        self.latest.pop(token, None)
        while len(self.latest) >= LATEST_LIMIT:
            del self.latest[next(iter(self.latest))]
        self.latest[token] = flow

    def restored_contacts(self, response: Response) -> list[bytes]:
        """The Contact lines of a registrar's answer with the phones' own URIs back in place of ours."""

        def restore(match: re.Match[bytes]) -> bytes:
            found = self.tokens.read_contact(match[1])
            return match[0] if found is None else b"<" + found[1] + b">"

        return [_CONTACT_OF_OURS.sub(restore, line) for line in response.lines("contact")]

    # ---- from the registrar ----

    def find(self, decision: RouteDecision, came_by: Flow) -> ToPhone | None:
        """The phone that a request is for, by our last Route value or a Contact of ours as Request-URI; else None.

        Not where the request comes from that very phone: it only shows the way it is registered by.
        """
        if decision.own and decision.own[-1].user:
            token = decision.own[-1].user
            flow_token = self.tokens.read(token)
            if flow_token is None or _is_of(flow_token, came_by):
                return None
            flow = self.flow_of(flow_token)
            return ToPhone(flow, token if flow else b"", decision.uri, flow_token.transport, flow_token.outbound)
        if b";e9=" in decision.uri:
            return self._by_contact(decision, came_by)
        return None

    def is_forged(self, decision: RouteDecision) -> bool:
        """True where our last Route value, or a Contact of ours as Request-URI, holds a token that is none of ours:
        tampered with, or made with a key that is gone (RFC 5626 section 5.3.1). To be asked where `find` is None."""
        if decision.own and _TOKEN.fullmatch(decision.own[-1].user):
            return self.tokens.read(decision.own[-1].user) is None
        if b";e9=" not in decision.uri:
            return False
        uri = parse_sip_uri(decision.uri)
        given = uri.parameters.get("e9", b"")
        return self.points.is_own(uri.host, uri.effective_port) and self.tokens.read_contact(given) is None

    def _by_contact(self, decision: RouteDecision, came_by: Flow) -> ToPhone | None:
        try:
            uri = parse_sip_uri(decision.uri)
        except RemoteError:
            return None
        given = uri.parameters.get("e9", b"")
        found = self.tokens.read_contact(given)
        if found is None:
            return None
        flow_token, contact = found
        if _is_of(flow_token, came_by):
            return None
        flow: Flow | None
        if flow_token.transport == "udp":
            flow = self.flow_of(flow_token)
        else:
            flow = self.latest.get(given)
            if flow is not None and not self.is_connected(flow.connection):
                flow = None
        token = self.tokens.make(flow) if flow is not None else b""
        return ToPhone(flow, token, contact, flow_token.transport, outbound=False)

    def flow_of(self, token: FlowToken) -> Flow | None:
        """The flow itself; None where its connection has ended."""
        point = self.points.find_bound(token.transport, token.point_host, token.point_port, token.host)
        if point is None:
            return None
        if token.transport == "udp":
            return Flow(point, token.host, token.port)
        if not self.tokens.is_alive(token) or not self.is_connected(token.connection):
            return None
        return Flow(point, token.host, token.port, token.connection)

    # ---- in calls ----

    def token_of_caller(self, request: Request, flow: Flow) -> bytes:
        """The token for Record-Route where a phone's Contact is not where it is; else b"".

        It is where the Contact names the address the request came from: for datagrams with its port, for connections
        with any (the phone listens there, or the connection is known by that port) and its transport: many phones on
        TCP or TLS leave that out, and hear nothing that comes by UDP.
        """
        line = request.first("contact")
        if line is None:
            return b""
        is_stream = flow.point.reliable
        if not is_stream and b"@%b:%d" % (bracketed(flow.host).encode(), flow.port) in line and b";ob" not in line:
            return b""
        try:
            uri = parse_name_addr(line).sip_uri()
        except RemoteError:
            return b""
        is_reached = uri.transport == flow.point.transport if is_stream else uri.effective_port == flow.port
        is_there = uri.host == flow.host and is_reached
        if is_there and "ob" not in uri.parameters:
            return b""
        return self.tokens.make(flow)


def is_outbound(request: Request) -> bool:
    """True where a phone registers as RFC 5626 says, and we are its first hop (section 5.1)."""
    return (
        len(request.values("via")) == 1
        and any(b"reg-id" in line.lower() for line in request.lines("contact"))
        and b"outbound" in [value.lower() for value in request.values("supported")]
    )


def _is_of(token: FlowToken, flow: Flow) -> bool:
    """True where a token stands for the very flow."""
    same_peer = token.host == flow.host and token.port in (0, flow.port)
    return same_peer and token.transport == flow.point.transport


def _with_uri(value: bytes, uri: bytes, new: bytes) -> bytes:
    """A name-addr or addr-spec with another URI; all else as it is."""
    if b"<" + uri + b">" in value:
        return value.replace(b"<" + uri + b">", b"<" + new + b">", 1)
    after = value.rfind(b">") + 1 if b"<" in value else len(uri)
    return b"<%b>%b" % (new, value[after:])
