"""The ladder of an emergency call: routes in order, each with its hops and the ways to them, and its times.

A route given up stays alive; what its answers, and those of the others, mean is for router.emergency.emergency_call
to say.
"""

from collections.abc import Sequence
from dataclasses import replace

from e911.numbers import CallKind
from e911.record import RouteEvent, RouteOutcome
from router.calls.surroundings import Surroundings
from router.emergency import leg_doubt, second_round
from router.emergency.call_routes import RouteStep
from router.emergency.decision import CallPlan
from router.emergency.provider_invite import Outgoing, Reference, request_for
from router.emergency.route_names import PROBE_SECONDS, NamedRoutes
from router.emergency.route_target import RouteTarget, sent_to
from router.emergency.route_try import RouteTry
from router.network.approach import BROKEN, NO_ANSWER, REFUSED, Approach, Step, approach_to, ways_to
from router.network.trunks import MESSAGE_LIMIT, Hop, Way
from router.references.issuing import NOT_KEPT
from sip.branch import Branch, BranchState, Failure
from sip.machines import ServerTransaction
from sip.message import Edits, Request
from sip.timers import cancel_timer

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_STARTED = RouteOutcome.STARTED

WITHOUT = b"w"
WITHOUT_DATA = b"d"
"""In a target's mark: the INVITE once more, without what we added to its body."""

_HAS_ANSWERED = frozenset({BranchState.TRYING, BranchState.RINGING})

_COUNTED = {outcome: f"route_{outcome}" for outcome in RouteOutcome}


class RouteLadder(NamedRoutes):
    """The routes of one 911 or test call, and how far it has come down them."""

    __slots__ = (
        "awaiting",
        "began_at",
        "ends",
        "is_pausing",
        "is_second_round",
        "ladder",
        "plan",
        "position",
        "rules",
        "second_round_until",
        "tries",
    )

    def __init__(self, router: Surroundings, server: ServerTransaction, request: Request, plan: CallPlan) -> None:
        super().__init__(router, server, request)
        # That of the decision, as are the trunks: a reload in the middle of the call changes nothing for it.
        self.rules = router.rules
        self.plan = plan
        self.ladder = self._in_order()
        self.position = 0
        """How many routes of the ladder were begun."""
        self.awaiting: RouteTarget | None = None
        """The target whose connection is awaited."""
        self.began_at = 0.0
        """When the call came in first, seconds since 1970; what it carries is dated so."""
        self.ends: dict[str, tuple[RouteOutcome, int]] = {}
        """By route: what became of it last, and the status of its refusal."""
        self.tries: list[RouteTry] = []
        """The routes begun, for a second round."""
        self.is_second_round = False
        self.is_pausing = False
        """True while the second round is awaited."""
        self.second_round_until = 0.0

    def start(self, now: float) -> None:
        self.second_round_until = now + second_round.WITHIN_SECONDS
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
        if self._is_waiting():
            return True
        while not (self.cancelled or self.final_status or self.routes_ended):
            target = self._next_target(now)
            if target is None:
                if self._is_waiting() or second_round.is_due(self, now):
                    return True
                self.routes_ended = True
                break
            self._approach(target, now)
            return True
        return False

    def _is_waiting(self) -> bool:
        """True while a connection, a name or the second round is awaited."""
        return self.awaiting is not None or self.name_wait is not None or self.is_pausing

    def _next_target(self, now: float) -> RouteTarget | None:
        while True:
            target = self._next_hop(self.route, now) if self.route is not None else None
            if target is not None:
                return target
            if self.route is not None and self._waits_for_names(self.route, now):
                return None
            if self.position >= len(self.ladder):
                if self.put_off:
                    self._ask_again(now)
                return None
            index, step = self.ladder[self.position]
            self.position += 1
            hops = self.hops_of(step)
            if self.is_second_round:
                step = self._within(step, hops, second_round.ANSWER_SECONDS)
            if self.trunks.health.down:
                step = self._hurried(step, hops)
            self.route = self._try(step, index, hops, now)
            if not hops and self._ask_names(
                (self.route,), self.trunks.names_never_asked(step.trunk), now, step.timeout
            ):
                return None
            if not hops:
                self._pass_over(self.route)

    def _try(self, step: RouteStep, index: int, hops: Sequence[Hop], now: float) -> RouteTry:
        route = RouteTry(step, index, hops, now)
        if self.is_second_round:
            route.mark = second_round.MARK
            route.attempts = sum(tried.attempts for tried in self.tries if tried.index == index)
        self.tries.append(route)
        return route

    def _hurried(self, step: RouteStep, hops: Sequence[Hop]) -> RouteStep:
        """A route known to be down, while one comes after it that is not: T1 to show that it lives after all, and
        what the line to it takes (TCP and TLS: T1 is meant for a near one)."""
        if step.timeout <= PROBE_SECONDS or not self.trunks.is_down(step.trunk):
            return step
        if all(self.trunks.is_down(later.trunk) for _, later in self.ladder[self.position :]):
            return step
        return self._within(step, hops, PROBE_SECONDS)

    def _within(self, step: RouteStep, hops: Sequence[Hop], seconds: float) -> RouteStep:
        """A route with no more time to a first answer than these seconds and what the line to it takes."""
        seconds += max((self._line_seconds(step.trunk, hop) for hop in hops), default=0.0)
        return replace(step, timeout=min(step.timeout, round(seconds, 2)))

    def _line_seconds(self, trunk: str, hop: Hop) -> float:
        ways = ways_to(self.trunks, self.trunks.states[trunk], hop, self.server.flow.point)
        return self.router.line_seconds(ways[0].flow if ways else hop.flow)

    def _next_hop(self, route: RouteTry, now: float) -> RouteTarget | None:
        taken = route.take(now)
        if taken is None:
            return None
        hop, timeout, progress_timeout = taken
        return self.target(route, hop, timeout, progress_timeout, with_location=route.step.with_location)

    def target(
        self,
        route: RouteTry,
        hop: Hop,
        timeout: float,
        progress_timeout: float,
        *,
        with_location: bool,
        mark: bytes = b"",
    ) -> RouteTarget:
        """A target for this hop, as the route asks for it."""
        outgoing = self.request_for(route.step, hop, with_location=with_location, mark=mark)
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
        self.record_route(target)
        return target

    def request_for(self, step: RouteStep, hop: Hop, *, with_location: bool, mark: bytes) -> Outgoing:
        """The INVITE as it goes there, without Via and Record-Route; as it came, where making it fails."""
        with_data = WITHOUT not in mark and WITHOUT_DATA not in mark
        if hop.peer.hostport != step.host:
            step = replace(step, host=hop.peer.hostport)  # another of the trunk's targets
        try:
            references = self.router.references
            reference = references.to(self.plan.id, step, with_location=with_location)
            outgoing = self._made(step, reference, with_location=with_location, with_data=with_data)
            if outgoing.documents and not references.hand_over(self.plan.id, outgoing.documents, self.began_at):
                outgoing = self._made(step, NOT_KEPT, with_location=with_location, with_data=with_data)
            return outgoing
        except Exception:
            # A fault of ours stops no emergency call: it goes as it came, to where this route leads.
            self.router.on_fault("making the INVITE for a route")
            user = step.number or (
                step.profile.test_number if self.plan.kind is CallKind.TEST and step.profile else "911"
            )
            plain = Edits(uri=f"sip:{user}@{step.host}".encode(), replace={"route": (), "proxy-require": ()})
            return Outgoing(self.request.edited(plain))

    def _made(self, step: RouteStep, reference: Reference, *, with_location: bool, with_data: bool) -> Outgoing:
        return request_for(
            *(self.rules, self.plan, step, self.request, self.began_at),
            with_location=with_location,
            with_data=with_data,
            reference=reference,
        )

    def record_route(self, target: RouteTarget) -> None:
        """Have the target say by our Record-Route lines how it is left."""
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
            seconds = approach.take_pending(now)
            if seconds:
                self.awaiting = target
                self.wait = self.stack.set_timer(self, "connection-wait", seconds, now)
                return
            self._write_steps(target, approach)
            self.write_route(target.step, target.attempt, RouteOutcome.UNREACHABLE, 0, approach.last_failure)
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
            if approach.pending is step:
                approach.pending = None
            if step.way is Way.TLS and not failure:
                self._go_after_all(target, approach, step, now)
            return
        self._on_way(target, approach, step, failure, now)

    def _go_after_all(self, target: RouteTarget, approach: Approach, step: Step, now: float) -> None:
        """TLS stands later than it was waited for: the peer is far away, and may speak nothing else. Where it has
        answered nothing by another way, it gets the INVITE by this one."""
        if self.cancelled or self.final_status or self.winner is not None:
            return
        if self.awaiting is target:  # for another way, which is not needed any more
            approach.current = step
            self._on_way(target, approach, step, "", now)
            return
        earlier = [branch for branch in self.branches if _is_same_place(branch, target)]
        if any(branch.final is not None or branch.state in _HAS_ANSWERED for branch in earlier):
            return
        is_current = any(not branch.given_up for branch in earlier)
        late = self.target(
            target.route, target.hop, *target.route.again(now), with_location=target.with_location, mark=b"l"
        )
        if any(branch.target.label == late.label for branch in self.branches):
            return
        late.flow = step.flow
        approach.state.way = step.way
        self.record_route(late)
        for branch in earlier:
            branch.stop_timers()
            branch.given_up = True
        if not is_current:
            late.timeout = late.progress_timeout = None
        branch = self.start_branch(late, now)
        # Where the next route has begun meanwhile this one is as any that was given up: it may still ring first.
        branch.given_up = not is_current

    def on_timer(self, name: str, now: float) -> None:
        """A connection, or DNS, was waited for long enough; it goes on being opened, or asked, for the next call.
        Or the pause before the second round is over."""
        if self.is_pausing:
            second_round.begin(self, now)
            return
        if self.name_wait is not None:
            super().on_timer(name, now)
            return
        target = self.awaiting
        if target is not None and target.approach is not None and target.approach.current is not None:
            self._on_way(target, target.approach, target.approach.current, NO_ANSWER, now, in_time=False)

    def _on_way(
        self,
        target: RouteTarget,
        approach: Approach,
        step: Step,
        failure: str,
        now: float,
        *,
        in_time: bool = True,
    ) -> None:
        self.awaiting = None
        cancel_timer(self.wait)
        if in_time:
            approach.ended(failure, now)
        else:
            approach.ran_out(now)
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
        self.record_route(target)
        self.start_branch(target, now)

    def on_branch_cut_off(self, branch: Branch, now: float) -> None:
        leg_doubt.cut_off(self, branch, now)

    def give_up_winner(self) -> None:
        """The leg that rang first is not waited for alone any more."""
        self.winner = None
        self._readopt_silent()

    def awaits_cancelled(self, branch: Branch) -> bool:
        """Not for the word of a provider that may be gone; its late answer is hung up."""
        return not leg_doubt.is_in_doubt(branch)

    def on_branch_timer(self, branch: Branch, name: str, now: float) -> None:
        """What spoke no TLS does not answer in TCP either: the next way, while this one may still answer."""
        target = branch.target
        if isinstance(target, RouteTarget) and leg_doubt.is_ours(branch, name):
            leg_doubt.on_timer(self, branch, target, name, now)
            return
        approach = target.approach if isinstance(target, RouteTarget) and target.is_probe else None
        if (
            isinstance(target, RouteTarget)
            and approach is not None
            and name == "timeout"
            and branch.is_live
            and (approach.has_more or approach.pending is not None)
            and not (self.cancelled or self.final_status or self.winner is not None)
        ):
            branch.given_up = True
            self.router.distrust(target.flow)
            approach.ended(NO_ANSWER, now)
            again = self.target(
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
            self.write_route(target.step, target.attempt, RouteOutcome.STEPPED_DOWN, 0, failure)

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
            if again or (approach is not None and (approach.has_more or approach.pending is not None)):
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

    def finish_if_exhausted(self, now: float) -> None:
        """A route whose connection, or whose name, is awaited is not exhausted, unless the caller has cancelled; nor
        is one of which it is not known whether its provider still has the call."""
        if self._is_waiting() and not self.cancelled:
            return
        if not self.cancelled and not self.final_status and leg_doubt.is_awaited(self):
            live = [branch for branch in self.branches if branch.is_live and not branch.cancel_wanted]
            if all(branch.given_up for branch in live):
                self.next_route(now)
            return
        super().finish_if_exhausted(now)

    # ---- records ----

    def write_route(
        self,
        step: RouteStep,
        attempt: int,
        outcome: RouteOutcome,
        status: int,
        reason: str,
        target: RouteTarget | None = None,
        label: bytes = b"",
    ) -> None:
        """Journal what became of a route, or of one INVITE to it, and count it."""
        is_started = target is not None and outcome is _STARTED
        self.ends[step.name] = (outcome, status)
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
                sent_to=sent_to(target.flow) if target is not None and is_started else "",
                request_uri=target.request.uri.decode("latin-1") if target is not None and is_started else "",
            )
        )


def _is_same_place(branch: Branch, target: RouteTarget) -> bool:
    """True where a branch goes to the place of a target, by whatever way."""
    other = branch.target
    return isinstance(other, RouteTarget) and other.route.index == target.route.index and other.hop == target.hop
