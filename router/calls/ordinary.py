"""Every other request: forwarded unedited but for Via, Record-Route, Route and Max-Forwards."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from router.calls.later_copies import edit_later_copies
from router.calls.surroundings import Surroundings
from router.emergency.identity import KEY as ASSERTED
from router.emergency.identity import asserted_back, asserted_onward
from router.network.credentials import CHALLENGES, with_credentials
from sip.branch import Branch, BranchState, Target
from sip.flow import Flow
from sip.loops import max_breadth, with_share_of_breadth
from sip.machines import ServerTransaction
from sip.message import Edits, Request, Response
from sip.proxy import ResponseContext
from sip.routing import RouteDecision
from sip.timers import Entry, cancel_timer

FIRST_ANSWER_SECONDS = 4.0
"""So long a trunk may say nothing to an INVITE before the next trunk, where there is one, is tried; several places
of one trunk share it."""

TRYING_AFTER = 7
"""In units of T1: the time that a client's timer E takes to reach T2 (RFC 4320 section 4.1)."""

_ONE: Counter[str] = Counter()

DIALOG_FORMING = frozenset({b"INVITE", b"SUBSCRIBE", b"REFER", b"NOTIFY"})
"""Requests that can make a dialog (RFC 3261, RFC 6665, RFC 3515): Record-Route is of use in these."""


TARGET_REFRESHES = frozenset({b"INVITE", b"UPDATE"})
"""Requests within a dialog whose 2xx may move either end of it (RFC 3261 section 12.2, RFC 3311)."""


class OrdinaryCall(ResponseContext):
    """A request on its way to one or several places, tried in order."""

    __slots__ = (
        "breadth",
        "is_asking",
        "last_resort",
        "out_flow",
        "places",
        "routed",
        "router",
        "shares",
        "started",
        "trying",
        "unnamed",
    )

    def __init__(
        self,
        router: Surroundings,
        server: ServerTransaction,
        request: Request,
        places: Sequence[tuple[str, Flow]],
        routed: Request,
        out_flow: bytes = b"",
    ) -> None:
        """out_flow: token of the flow that the place is reached by, for Record-Route; else empty."""
        super().__init__(router.stack, server, request, router.key)
        self.router = router
        self.places = list(enumerate(places))
        self.shares = _ONE
        if len(places) > 1:
            is_down = router.trunks.health.is_down
            self.places.sort(key=lambda place: is_down(place[1][1]))  # they go last, not away
            self.shares = Counter(name for name, flow in places if not is_down(flow))
        self.routed = routed
        self.out_flow = out_flow
        self.started = 0
        self.breadth = max_breadth(request)
        if self.breadth is not None:
            self.routed = with_share_of_breadth(routed, self.breadth, len(places))
        self.trying: Entry | None = None
        self.unnamed: Sequence[str] = ()
        """Trunks on the way that had no address yet: DNS is asked for them once, after all others."""
        self.is_asking = False
        self.last_resort: Callable[[], Sequence[Flow]] | None = None
        """In an emergency call: where it was answered from, after the place that its far end names has failed."""

    def start(self, now: float) -> None:
        """RFC 4320 section 4.1: whoever sent a non-INVITE hears 100 where it has heard nothing else for long."""
        if self.request.method != b"INVITE":
            self.trying = self.stack.set_timer(self, "trying", TRYING_AFTER * self.stack.timers.t1, now)
        super().start(now)

    def on_timer(self, name: str, now: float) -> None:
        """TRYING_AFTER is over."""
        if not self.final_status:
            self.stack.answer(self.server, 100, now)

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        cancel_timer(self.trying)
        self.trying = None

    def select_target(self, now: float) -> Target | None:
        if not self.places and self.last_resort is not None:
            resort, self.last_resort = self.last_resort, None
            tried = {branch.target.flow[:3] for branch in self.branches}
            self.places += enumerate([("", flow) for flow in resort() if flow[:3] not in tried], self.started)
        if not self.places:
            return None
        position, (name, flow) = self.places.pop(0)
        record_routes: Sequence[bytes] = ()
        if self.request.method in DIALOG_FORMING and not self.request.to_tag:
            record_routes = self.router.record_routes(
                flow.point, self.server.flow, self.request, out_flow=self.out_flow
            )
        if name and self.request.body and self.request.method == b"INVITE":
            self.router.trunks.note_media(name, flow.host, self.request.body, self.router.counts)
        request = self.routed
        if request.has(ASSERTED):
            trust = self.router.identity_trust
            request = asserted_onward(request, source=trust(self.server.flow), target=trust(flow))
        timeout = None
        self.started += 1
        # RFC 5393 section 5.3: no more branches at a time than Max-Breadth allows; one after another is no breadth.
        may_fork = self.breadth is None or self.started < self.breadth
        if (self.places or self.unnamed) and may_fork and self.request.method == b"INVITE":
            timeout = round(FIRST_ANSWER_SECONDS / max(1, self.shares[name]), 2)
        return Target(
            name=name,
            label=b"n%d" % position,
            flow=flow,
            request=request,
            record_routes=record_routes,
            timeout=timeout,
        )

    # ---- trunks of whose names nothing was known ----

    def next_route(self, now: float) -> bool:
        """The next place; after the last one those that DNS names late."""
        if self.is_asking:
            return True
        if self.cancelled or self.final_status or self.routes_ended:
            return False
        if super().next_route(now):
            return True
        if not self._ask_names():
            return False
        self.routes_ended = False
        return True

    def on_branch_timer(self, branch: Branch, name: str, now: float) -> None:
        """A silent place is given up where there is another one: of which DNS may still have to tell."""
        if name == "timeout" and not self.places and branch.is_live and not self.final_status:
            self._ask_names(branch)
        else:
            super().on_branch_timer(branch, name, now)

    def _ask_names(self, silent: Branch | None = None) -> bool:
        names, self.unnamed = self.unnamed, ()
        if names and self.router.trunks.await_names(names, lambda: self._on_names(names, silent)):
            self.is_asking = True
        return self.is_asking

    def _on_names(self, names: Sequence[str], silent: Branch | None) -> None:
        """DNS has named one of these trunks, or is given up."""
        self.is_asking = False
        if self.cancelled or self.final_status:
            return
        router, now = self.router, self.router.now()
        try:
            hops = [
                (name, hop.flow)
                for name in names
                for hop in router.trunks.hops(name, self.server.flow.point, self.request.call_id)
            ]
            self.places += enumerate(hops, self.started)
            self.shares = Counter(name for name, _ in hops)
            if hops and silent is not None and silent.state is BranchState.CALLING:
                super().on_branch_timer(silent, "timeout", now)
            elif any(branch.is_live and not branch.given_up for branch in self.branches):
                pass  # that one may serve the call; these places come after it
            elif not self.next_route(now):
                self.finish_if_exhausted(now)
        except Exception:
            router.on_fault("going on after a look-up")
        router.flush()

    def finish_if_exhausted(self, now: float) -> None:
        """Not while DNS may name another place."""
        if not self.is_asking or self.cancelled:
            super().finish_if_exhausted(now)

    # ---- what comes back ----

    def retry_target(self, branch: Branch, response: Response, now: float) -> Target | None:
        """Within an emergency call a trunk that has `auth` may ask again (decision 0016): the same request with our
        credentials. Whoever sent some of his own is not spoken for."""
        target, request = branch.target, self.request
        if (
            response.status not in CHALLENGES
            or not request.to_tag
            or b";call=" not in (request.first("route") or b"")
        ):
            return None
        trunk = self.router.sources.trunk_at(target.flow.host, target.flow.port)
        if trunk is None or trunk.auth is None or request.has("authorization") or request.has("proxy-authorization"):
            return None
        challenged = target.label.count(b"a")
        answered = with_credentials(trunk, self.routed, response, challenged, self.key)
        return None if answered is None else replace(target, request=answered, label=target.label + b"a")

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        """An answer, with the identity of who was reached or without it."""
        if not response.has(ASSERTED):
            super().on_branch_response(branch, response, now)
            return
        trust, client = self.router.identity_trust, branch.client
        source, target = trust(branch.target.flow), trust(self.server.flow)

        def shown(one: Response) -> Response:
            return asserted_back(one, source=source, target=target)

        super().on_branch_response(branch, shown(response), now)
        edit_later_copies(client, branch, shown)

    def on_success(self, branch: Branch, response: Response, now: float) -> None:
        """A 2xx. In a followed emergency dialog it may say where the PSAP's side is from now on; towards a public
        trunk its media may be at an address that means nothing there."""
        dialogs = self.router.dialogs
        if dialogs and self.request.method in TARGET_REFRESHES and self.request.to_tag:
            try:
                renewed = dialogs.refreshed(self.request, response)
                if renewed is not None:
                    self.router.write_later(renewed)
            except Exception:
                self.router.on_fault("following an emergency dialog")
        if response.body and self.request.method == b"INVITE":
            router, asked = self.router, self.server.flow
            name = router.sources.trunk_name_at(asked.host, asked.port)
            if name:
                router.trunks.note_media(name, asked.host, response.body, router.counts)
        super().on_success(branch, response, now)

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        if event == "timeout" or event == "unreachable":
            self.router.trunks.health.call_failed(branch.target.flow)
        elif event != "started":
            self.router.trunks.health.call_answered(branch.target.flow)


def routed_request(request: Request, decision: RouteDecision) -> Request:
    """The request with Route and Request-URI as Route processing left them; the same one where nothing changed."""
    if decision.routes is None and decision.uri == request.uri:
        return request
    if decision.routes is not None and not decision.routes:
        # The usual request in a dialog: our own Route was the last one.
        if len(request._first) == len(request.fields):  # no name stands twice
            fields = request.fields.copy()
            del fields[request._first["route"]]
        else:
            fields = [field for field in request.fields if field[0] != "route"]
        return Request(request.method, decision.uri, fields, request.body, request.cseq)
    edits = Edits(uri=decision.uri)
    if decision.routes is not None:
        edits.replace["route"] = [b"Route: " + value for value in decision.routes]
    return request.edited(edits)
