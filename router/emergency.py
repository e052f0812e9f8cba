"""EmergencyCall: the response context of a 911 or test call, and its declared deviations from RFC 3261.

The ladder: routes in order, each with its time for a first answer and for progress. A route given up stays alive;
the first to ring or answer is the call. See docs/decisions/0001-proxy-with-deviations.md for (a) to (e).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from e911.numbers import CallKind
from e911.provider import adds_location
from e911.record import CallEnded, CallIntent, CallOutcome, RouteEvent, RouteOutcome
from router.approach import BROKEN, NO_ANSWER, REFUSED, Approach, Step, approach_to
from router.copies import CopiesRelay, Copy
from router.credentials import CHALLENGES, with_credentials
from router.decision import CallPlan, Outgoing, RouteStep, request_for
from router.from_uri import relay_restoring, with_line
from router.hangup import end_answer
from router.media import PRIVATE_MEDIA, warns_of_media
from router.route_try import RouteTry
from router.surroundings import Surroundings
from router.trunks import MESSAGE_LIMIT, Hop, Way
from sip.branch import Branch, Failure, Target
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Edits, Request, Response
from sip.proxy import ResponseContext
from sip.timers import Entry, cancel_timer

PROBE_SECONDS = 0.5
"""T1 (RFC 3261 section 17.1.1.1): the time to a first answer of a place that has not shown what it speaks."""
ABOUT_OUR_PART = (424, 415, 413, 513)
"""Deviation (d): refusals of the location part that we added (RFC 6442, RFC 3261)."""
SERVICE_UNAVAILABLE = 503
"""The one refusal after which another server of the same trunk is tried (RFC 3263 section 4.3)."""
MENDABLE = (401, 407, 420, 422, 488)
"""Deviation (e): statuses that the caller can mend, passed on where every route gave the same one."""

_OUTCOMES = {
    "started": RouteOutcome.STARTED,
    "ringing": RouteOutcome.RINGING,
    "answered": RouteOutcome.ANSWERED,
    "refused": RouteOutcome.REFUSED,
    "unreachable": RouteOutcome.UNREACHABLE,
    "timeout": RouteOutcome.TIMEOUT,
    "progress-timeout": RouteOutcome.PROGRESS_TIMEOUT,
    "cancelled": RouteOutcome.CANCELLED,
    "retried": RouteOutcome.RETRIED_WITHOUT_LOCATION,
}


_COUNTED = {outcome: f"route_{outcome}" for outcome in RouteOutcome}


@dataclass(slots=True, kw_only=True)
class RouteTarget(Target):
    """A target that knows its rung of the ladder."""

    route: RouteTry
    hop: Hop
    attempt: int
    """0 for the route's first INVITE, then counted."""
    with_location: bool
    approach: Approach | None = None
    """Where there are several ways to the hop: which one it goes."""
    is_probe: bool = False
    """True where it is sent to something that has answered nothing in TLS: given up soon, the next way follows."""
    challenged: int = 0
    """How many challenges of the trunk were answered for it (`auth`)."""
    was_asked_again: bool = False
    """True where the answer made us ask once more, otherwise."""
    mark: bytes = b""
    """What tells it from the first INVITE to this hop, in the derived branch."""
    shortfalls: tuple[str, ...] = ()
    """Why something in it is not as the profile would have it."""
    retried: bool = False
    """True once a connection that broke was replaced by a new one."""

    @property
    def step(self) -> RouteStep:
        """The route."""
        return self.route.step

    @property
    def shows_another_from(self) -> bool:
        """True where the provider may see another URI in From (decision 0044)."""
        profile = self.route.step.profile
        return profile is not None and bool(profile.from_uri)


class EmergencyCall(ResponseContext):
    """One 911 or test call on its way through the ladder."""

    __slots__ = (
        "awaiting",
        "began_at",
        "copies",
        "ladder",
        "plan",
        "position",
        "route",
        "router",
        "rules",
        "setup_key",
        "trunks",
        "wait",
    )

    first_to_ring_wins = True
    ends_on_6xx = False  # deviation (b)
    keeps_ringing = True
    watches_answers = True

    def __init__(
        self,
        router: Surroundings,
        server: ServerTransaction,
        request: Request,
        plan: CallPlan,
        setup_key: tuple[bytes, bytes, int],
    ) -> None:
        super().__init__(router.stack, server, request, router.key)
        self.setup_key = setup_key
        """Call-ID, the caller's tag and CSeq."""
        self.router = router
        # Those of the decision: a reload in the middle of the call changes nothing for it.
        self.rules = router.rules
        self.trunks = router.trunks
        self.plan = plan
        self.copies: list[Copy] = []
        """Other ways by which the same INVITE came."""
        self.ladder = self._in_order()
        self.position = 0
        """How many routes of the ladder were begun."""
        self.route: RouteTry | None = None
        """The route begun last, while another of its hops may be tried."""
        self.awaiting: RouteTarget | None = None
        """The target whose connection is awaited."""
        self.wait: Entry | None = None
        self.began_at = 0.0
        """When the call came in first, seconds since 1970; what it carries is dated so."""

    def start(self, now: float) -> None:
        """Write the intent down, then let the INVITE go. A failed append is counted, never waited for."""
        plan = self.plan
        self.began_at = self.router.first_seen(plan.id)
        decision = plan.decision
        first = self.ladder[0][1] if self.ladder else None
        self.router.write(
            CallIntent(
                id=plan.id,
                at=self.began_at,
                node=self.router.node,
                kind=str(plan.kind),
                call_id=self.request.call_id.decode("latin-1"),
                from_tag=self.request.from_tag.decode("latin-1"),
                dialled=plan.dialled,
                caller=plan.caller,
                site=decision.site.id if decision.site else "",
                zone=decision.zone.id if decision.zone else "",
                location=decision.location,
                location_sent=bool(first and first.with_location),
                sources=decision.answers,
                first_route=first.name if first else "",
                contacts=decision.contacts,
            )
        )
        for step in plan.steps:
            if step.skipped:
                self._write_route(step, 0, RouteOutcome.SKIPPED, 0, step.skipped)
        for position, (index, step) in enumerate(self.ladder):
            if position > index:
                self._write_route(step, 0, RouteOutcome.POSTPONED, 0, "trunk-down")
        super().start(now)

    @property
    def first_route(self) -> str:
        """Name of the route tried first, or an empty string."""
        return self.ladder[0][1].name if self.ladder else ""

    def _in_order(self) -> list[tuple[int, RouteStep]]:
        """The routes in the order in which to try them, each with its place in the ladder as configured: those whose
        trunk is known to be down after the others of their kind (decision 0015)."""
        ladder = list(enumerate(self.plan.ladder))
        if self.trunks.health.down:
            try:
                ladder.sort(key=lambda item: (item[1].kind == "basic", self.trunks.is_down(item[1].trunk)))
            except Exception:
                self.router.on_fault("asking which trunks are down")
        return ladder

    # ---- the ladder ----

    def next_route(self, now: float) -> bool:
        """Start the next untried hop of this route, else of the next route; or ask for a connection to it first."""
        if self.awaiting is not None:
            return True
        while not (self.cancelled or self.final_status or self.routes_ended):
            target = self._next_target(now)
            if target is None:
                self.routes_ended = True
                break
            self._approach(target, now)
            return True
        return False

    def _next_target(self, now: float) -> RouteTarget | None:
        while True:
            target = self._next_hop(self.route, now) if self.route is not None else None
            if target is not None or self.position >= len(self.ladder):
                return target
            index, step = self.ladder[self.position]
            self.position += 1
            hops = self.trunks.hops(step.trunk, self.server.flow.point, self.request.call_id)
            if not hops:
                self._write_route(step, 0, RouteOutcome.UNREACHABLE, 0, "no-address")
            self.route = RouteTry(step, index, hops, now)

    def _next_hop(self, route: RouteTry, now: float) -> RouteTarget | None:
        taken = route.take(now)
        if taken is None:
            return None
        hop, timeout, progress_timeout = taken
        return self._target(route, hop, timeout, progress_timeout, with_location=route.step.with_location)

    def _target(
        self,
        route: RouteTry,
        hop: Hop,
        timeout: float,
        progress_timeout: float,
        *,
        with_location: bool,
        mark: bytes = b"",
    ) -> RouteTarget:
        outgoing = self._request_for(route.step, hop, with_location=with_location)
        target = RouteTarget(
            name=route.step.name,
            label=route.label(hop, mark),
            flow=hop.flow,
            request=outgoing.request,
            shortfalls=outgoing.shortfalls,
            timeout=timeout,
            progress_timeout=progress_timeout,
            route=route,
            hop=hop,
            attempt=route.attempts,
            with_location=with_location,
            mark=mark,
        )
        route.attempts += 1
        self._record_route(target)
        return target

    def _request_for(self, step: RouteStep, hop: Hop, *, with_location: bool) -> Outgoing:
        if hop.peer.hostport != step.host:
            step = replace(step, host=hop.peer.hostport)  # another of the trunk's targets
        try:
            return request_for(self.rules, self.plan, step, self.request, self.began_at, with_location=with_location)
        except Exception:
            # A fault of ours stops no emergency call: it goes as it came, to where this route leads.
            self.router.on_fault("making the INVITE for a route")
            user = step.number or (
                step.profile.test_number if self.plan.kind is CallKind.TEST and step.profile else "911"
            )
            plain = Edits(uri=f"sip:{user}@{step.host}".encode(), replace={"route": ()})
            return Outgoing(self.request.edited(plain))

    def _record_route(self, target: RouteTarget) -> None:
        target.record_routes = self.router.record_routes(
            target.flow.point,
            self.server.flow,
            self.request,
            b";call=" + self.plan.id.encode(),
            keeps_uri=False,
        )
        if target.shows_another_from:
            target.record_routes = self.router.from_rewriting.noted(
                target.record_routes, self.request, target.request
            )

    # ---- the ways to a hop ----

    def _approach(self, target: RouteTarget, now: float) -> None:
        """Start a target; where several ways lead to it, the first that can be had."""
        trunk, near = target.step.trunk, self.server.flow.point
        is_large = (
            not target.flow.point.reliable
            and self.trunks.states[trunk].config.large_messages == "tcp"
            and len(target.request.to_bytes()) + 200 > MESSAGE_LIMIT
        )
        target.approach = approach_to(
            self.trunks, trunk, target.hop, near, target.timeout or 0.0, now, is_large=is_large
        )
        if target.approach is None:
            self.start_branch(target, now)
        else:
            self._go(target, target.approach, target.approach.take(), now)

    def _go(self, target: RouteTarget, approach: Approach, step: Step | None, now: float) -> None:
        """Go this way, as soon as its connection stands; None: there is no way left."""
        if step is None:
            self._write_steps(target, approach)
            self._write_route(target.step, target.attempt, RouteOutcome.UNREACHABLE, 0, approach.last_failure)
            self.trunks.health.call_failed(target.hop.flow)
            if not self.next_route(now):
                self.finish_if_exhausted(now)
            return
        if step.way is Way.UDP:
            self._start_by(target, approach, step, now)
            return
        self.awaiting = target
        self.wait = self.stack.set_timer(self, "connection-wait", approach.wait(now), now)
        self.router.connect(step.flow, lambda failure: self._on_connected(target, approach, step, failure))

    def _on_connected(self, target: RouteTarget, approach: Approach, step: Step, failure: str) -> None:
        """A connection stands, or cannot be had; perhaps long after it was waited for."""
        now = self.router.now()
        if self.awaiting is not target or approach.current is not step:
            approach.state.note(step.way, step.flow, failure, now)
            return
        self._on_way(target, approach, step, failure, now)

    def on_timer(self, name: str, now: float) -> None:
        """A connection was waited for long enough; it goes on being opened, for the next call."""
        target = self.awaiting
        if target is not None and target.approach is not None and target.approach.current is not None:
            self._on_way(target, target.approach, target.approach.current, NO_ANSWER, now)

    def _on_way(self, target: RouteTarget, approach: Approach, step: Step, failure: str, now: float) -> None:
        self.awaiting = None
        cancel_timer(self.wait)
        approach.ended(failure, now)
        if self.cancelled or self.final_status:
            return
        if self.winner is not None:
            target.route.give_back()  # another route rings meanwhile: this one is tried only if that one fails
        elif failure:
            self._go(target, approach, approach.take(), now)
        else:
            self._start_by(target, approach, step, now)

    def _start_by(self, target: RouteTarget, approach: Approach, step: Step, now: float) -> None:
        target.flow = step.flow
        if target.timeout is not None:
            target.timeout = max(0.05, round(approach.timeout - (now - approach.began), 2))
        if approach.is_doubtful:
            target.is_probe = True
            target.timeout = min(target.timeout or PROBE_SECONDS, PROBE_SECONDS)
        if approach.sound_alarm(now):
            self.router.counts[f"stepped_down_to_{step.way}"] += 1
        self._write_steps(target, approach)
        self._record_route(target)
        self.start_branch(target, now)

    def on_branch_timer(self, branch: Branch, name: str, now: float) -> None:
        """What spoke no TLS does not answer in TCP either: the next way, while this one may still answer."""
        target = branch.target
        approach = target.approach if isinstance(target, RouteTarget) and target.is_probe else None
        if (
            isinstance(target, RouteTarget)
            and approach is not None
            and name == "timeout"
            and branch.is_live
            and approach.has_more
            and not (self.cancelled or self.final_status or self.winner is not None)
        ):
            branch.given_up = True
            self.router.distrust(target.flow)
            approach.ended(NO_ANSWER, now)
            again = self._target(
                target.route,
                target.hop,
                approach.timeout,
                target.step.progress_timeout,
                with_location=target.with_location,
                mark=b"n",
            )
            again.approach = approach
            self._go(again, approach, approach.take(), now)
            return
        super().on_branch_timer(branch, name, now)

    def _write_steps(self, target: RouteTarget, approach: Approach) -> None:
        for failure in approach.untold():
            self._write_route(target.step, target.attempt, RouteOutcome.STEPPED_DOWN, 0, failure)

    def on_branch_failure(self, branch: Branch, failure: Failure, now: float) -> None:
        """A connection that broke under the INVITE: once more over a new one, for it may have been dead since long.
        That again, or a closed port: the same hop by the next way."""
        target = branch.target
        if (
            isinstance(target, RouteTarget)
            and failure is Failure.TRANSPORT_ERROR
            and branch.is_live
            and not (self.cancelled or self.final_status or branch.given_up)
        ):
            approach, client = target.approach, branch.client
            again = target.flow.point.reliable and not target.retried and client is not None and not client.unsent
            if again or (approach is not None and approach.has_more):
                branch.stop_timers()
                self.branches.remove(branch)
                if client is not None:
                    self.stack.abandon_client(client)
                target.retried = target.retried or again
                if approach is None:
                    self.start_branch(target, now)
                elif again:
                    self._go(target, approach, approach.current, now)
                else:
                    approach.ended(BROKEN if target.flow.point.reliable else REFUSED, now)
                    self._go(target, approach, approach.take(), now)
                return
        super().on_branch_failure(branch, failure, now)

    # ---- answers ----

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        """The first 2xx makes the dialog that is followed; journalled together with the end of the setting-up."""
        copies, client = self.copies, branch.client
        target = branch.target
        is_restored = isinstance(target, RouteTarget) and target.shows_another_from and response.status > 100
        if is_restored:
            response = with_line(response, "from", self.request.lines("from")[0])
        if 200 <= response.status < 300 and not self.final_status:
            try:
                self.router.follow(
                    self.plan.id, self.request, response, branch.target.request.uri, self.server.flow.host
                )
            except Exception:
                self.router.on_fault("remembering the dialog of an emergency call")
        super().on_branch_response(branch, response, now)
        if copies:
            self._tell_copies(copies, branch, client, response, now)
        if is_restored:
            relay_restoring(client, branch, "from", self.request.lines("from")[0])

    # ---- copies of the INVITE ----

    def join(self, server: ServerTransaction, request: Request) -> None:
        """The same INVITE came by another way, too."""
        copy = Copy(self, server, request)
        server.owner = copy
        self.copies.append(copy)

    def _tell_copies(
        self,
        copies: Sequence[Copy],
        branch: Branch,
        client: ClientTransaction | None,
        response: Response,
        now: float,
    ) -> None:
        """What was sent by the first way goes by the others; failures are told in on_finished."""
        if 100 < response.status < 200:
            if not branch.is_live or self.final_status or self.cancelled or self.winner not in (None, branch):
                return
        elif not (200 <= response.status < 300 and 200 <= self.final_status < 300):
            return
        for copy in copies:
            copy.forward(response, now)
        if self.final_status and client is not None and client.owner is not None:
            client.owner = CopiesRelay(client.owner, copies)

    def on_cancel(self, request: Request, now: float) -> None:
        """A way is given up; the call is cancelled with its last one."""
        if any(not copy.server.is_answered for copy in self.copies):
            self.stack.answer(self.server, 487, now)
            return
        super().on_cancel(request, now)

    def on_copy_cancelled(self, request: Request, now: float) -> None:
        """The same, for a way that came later."""
        if self.server.is_answered and all(copy.server.is_answered for copy in self.copies):
            super().on_cancel(request, now)

    # ---- policy ----

    def tries_next(self, status: int) -> bool:
        """Deviation (b): whatever a route answers but 2xx, the next one is tried."""
        return True

    def retry_target(self, branch: Branch, response: Response, now: float) -> Target | None:
        """The same provider again: deviation (d), without the part we added; (g), with the trunk's credentials."""
        target = branch.target
        if not isinstance(target, RouteTarget):
            return None
        if response.status in CHALLENGES:
            return self._with_credentials(target, response)
        if not target.with_location or response.status not in ABOUT_OUR_PART:
            return None
        profile = target.step.profile
        if profile is None or not adds_location(profile, self.plan.decision, self.plan.conveyed):
            return None  # the part is the caller's own
        return self._again(target, b"w", with_location=False)

    def _with_credentials(self, target: RouteTarget, response: Response) -> RouteTarget | None:
        trunk = self.trunks.states[target.step.trunk].config
        if trunk.auth is None:
            return None
        plain = self._request_for(target.step, target.hop, with_location=target.with_location).request
        request = with_credentials(trunk, plain, response, target.challenged, self.key)
        if request is None:
            return None
        again = self._again(target, target.mark + b"a", with_location=target.with_location)
        again.request, again.challenged = request, target.challenged + 1
        return again

    def _again(self, target: RouteTarget, mark: bytes, *, with_location: bool) -> RouteTarget:
        """Another INVITE to the same place, with what is left of the route's time."""
        target.was_asked_again = True
        timeout, progress_timeout = target.route.again(self.router.now())
        again = self._target(
            target.route, target.hop, timeout, progress_timeout, with_location=with_location, mark=mark
        )
        if target.approach is not None:
            again.approach, again.flow = target.approach, target.flow
            self._record_route(again)
        return again

    def finish_if_exhausted(self, now: float) -> None:
        """A route whose connection is awaited is not exhausted, unless the caller has cancelled."""
        if self.awaiting is not None and not self.cancelled:
            return
        super().finish_if_exhausted(now)

    def send_failure(self, now: float) -> None:
        """Deviation (e): 503 without Retry-After, unless all routes gave one status that the caller can mend."""
        last = [branch for branch in self.branches if not _was_asked_again(branch)]
        finals = [branch for branch in last if branch.final is not None and not _refused_credentials(branch)]
        statuses = {branch.status for branch in last}
        if finals and len(finals) == len(last) and len(statuses) == 1 and statuses <= set(MENDABLE):
            self.forward_final(finals[-1], now)
            return
        tried = ", ".join(f"{branch.target.name} {branch.status or 'silent'}" for branch in self.branches)
        self.fail(RemoteError(Reason.EVERY_ROUTE_FAILED, 503, tried or "there is none"), None, now)

    # ---- records ----

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        outcome = _OUTCOMES.get(event)
        if event == "retried" and status in CHALLENGES:
            outcome = RouteOutcome.RETRIED_WITH_CREDENTIALS
        target = branch.target
        place = target.hop.flow if isinstance(target, RouteTarget) else target.flow  # by whatever way it went there
        if event == "timeout" or event == "unreachable":
            self.trunks.health.call_failed(place)
            if event == "timeout" and target.flow.point.reliable:
                self.router.distrust(target.flow)
        elif event != "started":
            self.trunks.health.call_answered(place)
        if outcome is None or not isinstance(target, RouteTarget):
            return
        if target.route is self.route and (
            event == "progress-timeout" or (event == "refused" and status != SERVICE_UNAVAILABLE)
        ):
            self.route = None  # the provider has seen the call: not another of its servers, but the next route
        reason = target.hop.reason if outcome is RouteOutcome.STARTED else _reason_of(branch)
        if target.shortfalls and outcome is RouteOutcome.STARTED:
            reason = ", ".join(filter(None, (reason, *target.shortfalls)))
            for shortfall in target.shortfalls:
                self.router.counts[f"profile_{shortfall.replace('-', '_')}"] += 1
        if outcome is RouteOutcome.STARTED and self._warns_of_media(target):
            reason = f"{reason}, {PRIVATE_MEDIA}" if reason else PRIVATE_MEDIA
            self.router.counts["private_media_address"] += 1
        self._write_route(target.step, target.attempt, outcome, status, reason, target, branch.label)

    def _warns_of_media(self, target: RouteTarget) -> bool:
        return warns_of_media(self.trunks.states[target.step.trunk].config, target.flow.host, self.request.body)

    def _write_route(
        self,
        step: RouteStep,
        attempt: int,
        outcome: RouteOutcome,
        status: int,
        reason: str,
        target: RouteTarget | None = None,
        label: bytes = b"",
    ) -> None:
        is_started = target is not None and outcome is RouteOutcome.STARTED
        self.router.counts[_COUNTED[outcome]] += 1
        self.router.write_later(
            RouteEvent(
                id=self.plan.id,
                at=self.router.clock(),
                route=step.name,
                kind=step.kind,
                attempt=attempt,
                outcome=outcome,
                status=status,
                reason=reason,
                with_location=target is not None and target.with_location,
                label=label.decode(),
                sent_to=_sent_to(target.flow) if target is not None and is_started else "",
                request_uri=target.request.uri.decode("latin-1") if target is not None and is_started else "",
            )
        )

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        if status < 300:
            outcome = CallOutcome.ANSWERED
            self.router.await_ack(self.request.call_id, self.answer_tag)
        elif self.cancelled:
            outcome = CallOutcome.CANCELLED
        else:
            outcome = CallOutcome.FAILED
        self.awaiting = None
        cancel_timer(self.wait)
        self.router.set_up(self.setup_key)
        copies, self.copies = self.copies, []
        for copy in copies:
            copy.server.owner = None
            if status >= 300 and branch is not None and branch.final is not None and branch.status == status:
                copy.forward(branch.final, now)
            elif status >= 300:
                copy.answer(status, now)
        kind = "test" if self.plan.kind is CallKind.TEST else "emergency"
        self.router.counts[f"{kind}_calls_{outcome}"] += 1
        route = branch.target.name if branch is not None else ""
        # Only of a call that failed are people told from this: it is written before the caller hears of it.
        write = self.router.write if outcome is CallOutcome.FAILED else self.router.write_later
        write(CallEnded(id=self.plan.id, at=self.router.clock(), outcome=outcome, status=status, route=route))
        self.router.log_call_end(str(self.plan.kind), self.plan.id, outcome, status, route)

    # ---- calls nobody is left to take ----

    def on_second_success(self, branch: Branch, response: Response, now: float) -> None:
        """Deviation (c): forwarded; ended by us where no ACK for it passes within ACK_WAIT."""
        response = _as_far_end_knows(branch, response)
        is_shared = response.to_tag == self.answer_tag
        self.router.watch_ack(response, branch.target.flow, branch.target.request.uri, now, is_shared=is_shared)

    def on_orphan_success(self, branch: Branch, response: Response, now: float) -> None:
        """An answer after the call had ended otherwise: acknowledge it and hang up; nobody is left waiting."""
        target = branch.target
        response = _as_far_end_knows(branch, response)
        self.router.counts["answers_ended_by_us"] += 1
        end_answer(self.stack, self.key, response, target.flow, target.request.uri, self.router.is_own_uri, now)


def _as_far_end_knows(branch: Branch, response: Response) -> Response:
    """A response with From as the provider was shown it: for requests of our own in its dialog."""
    target = branch.target
    if isinstance(target, RouteTarget) and target.shows_another_from:
        return with_line(response, "from", target.request.lines("from")[0])
    return response


def _sent_to(flow: Flow) -> str:
    return f"{flow.point.transport} {flow.host} {flow.port}"


def _was_asked_again(branch: Branch) -> bool:
    """True where another INVITE to the same place has taken this one's place."""
    return isinstance(branch.target, RouteTarget) and branch.target.was_asked_again


def _refused_credentials(branch: Branch) -> bool:
    """True where the trunk refused our credentials: the caller cannot mend that."""
    target = branch.target
    return isinstance(target, RouteTarget) and target.challenged > 0 and branch.status in CHALLENGES


def _reason_of(branch: Branch) -> str:
    if branch.final is None:
        return ""
    if _refused_credentials(branch):
        return "credentials-refused"
    phrase = branch.final.reason.decode("utf-8", "replace")[:120]
    extra = branch.final.first("reason") or branch.final.first("warning") or b""
    return f"{phrase} ({extra.decode('utf-8', 'replace')[:120]})" if extra else phrase
