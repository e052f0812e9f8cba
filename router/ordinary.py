"""Every other request: forwarded unedited but for Via, Record-Route, Route and Max-Forwards."""

from collections import Counter
from collections.abc import Sequence

from router.surroundings import Surroundings
from sip.message import Edits, Request
from sip.proxy import ResponseContext, Target
from sip.routing import RouteDecision
from sip.stack import Flow, ServerTransaction

FIRST_ANSWER_SECONDS = 4.0
"""So long a trunk may say nothing to an INVITE before the next trunk, where there is one, is tried; several places
of one trunk share it."""

_ONE: Counter[str] = Counter()

DIALOG_FORMING = frozenset({b"INVITE", b"SUBSCRIBE", b"REFER", b"NOTIFY"})
"""Requests that can make a dialog (RFC 3261, RFC 6665, RFC 3515): Record-Route is of use in these."""


class OrdinaryCall(ResponseContext):
    """A request on its way to one or several places, tried in order."""

    __slots__ = ("places", "routed", "router", "shares")

    def __init__(
        self,
        router: Surroundings,
        server: ServerTransaction,
        request: Request,
        places: Sequence[tuple[str, Flow]],
        routed: Request,
    ) -> None:
        super().__init__(router.stack, server, request, router.key)
        self.router = router
        self.places = list(enumerate(places))
        self.shares = Counter(name for name, _ in places) if len(places) > 1 else _ONE
        self.routed = routed

    def select_target(self, now: float) -> Target | None:
        if not self.places:
            return None
        position, (name, flow) = self.places.pop(0)
        record_routes: Sequence[bytes] = ()
        if self.request.method in DIALOG_FORMING and not self.request.to_tag:
            record_routes = self.router.record_routes(flow.point, self.server.flow.point, self.request)
        timeout = None
        if self.places and self.request.method == b"INVITE":
            timeout = round(FIRST_ANSWER_SECONDS / self.shares[name], 2)
        return Target(
            name=name,
            label=b"n%d" % position,
            flow=flow,
            request=self.routed,
            record_routes=record_routes,
            timeout=timeout,
        )


def routed_request(request: Request, decision: RouteDecision) -> Request:
    """The request with Route and Request-URI as Route processing left them; the same one where nothing changed."""
    if decision.routes is None and decision.uri == request.uri:
        return request
    if decision.routes is not None and not decision.routes:
        # The usual request in a dialog: our own Route was the last one.
        fields = [field for field in request.fields if field[0] != "route"]
        return Request(request.method, decision.uri, fields, request.body, request.cseq)
    edits = Edits(uri=decision.uri)
    if decision.routes is not None:
        edits.replace["route"] = [b"Route: " + value for value in decision.routes]
    return request.edited(edits)
