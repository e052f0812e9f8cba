"""EmergencyCall: the response context of a 911 or test call, and its declared deviations from RFC 3261.

The ladder: routes in order, each with its time for a first answer and for progress. A route given up stays alive;
the first to ring or answer is the call. See docs/decisions/0001-proxy-with-deviations.md for (a) to (e).
"""

from collections.abc import Sequence

from e911.numbers import CallKind
from e911.provider import (
    adds_location,
)
from e911.provider_profile import DataConveyance
from e911.record import CallEnded, CallFinished, CallIntent, CallOutcome, RouteOutcome
from router.calls.surroundings import Surroundings
from router.dialogs.hangup import end_answer
from router.emergency.copies import CopiesRelay, Copy
from router.emergency.decision import CallPlan
from router.emergency.from_uri import relay_restoring, with_line
from router.emergency.leg_doubt import confirmed
from router.emergency.route_ladder import WITHOUT, WITHOUT_DATA, RouteLadder
from router.emergency.route_target import (
    RouteTarget,
    as_far_end_knows,
    reason_of,
    refused_credentials,
    sent_to,
    was_asked_again,
)
from router.emergency.second_round import SECOND_ROUND
from router.network.credentials import CHALLENGES, with_credentials
from router.network.media import PRIVATE_MEDIA, warns_of_media
from sip.branch import Branch, Target
from sip.errors import Reason, RemoteError
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.timers import cancel_timer

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_STARTED = RouteOutcome.STARTED
_ANSWERED = CallOutcome.ANSWERED
_FAILED = CallOutcome.FAILED
_CANCELLED = CallOutcome.CANCELLED
_TEST = CallKind.TEST

ABOUT_LOCATION = 424
"""Bad Location Information (RFC 6442)."""
ABOUT_OUR_PART = (ABOUT_LOCATION, 415, 413, 513)
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


class EmergencyCall(RouteLadder):
    """One 911 or test call on its way through the ladder."""

    __slots__ = ("copies", "hung_up", "setup_key")

    first_to_ring_wins = True
    ends_on_6xx = False  # deviation (b)
    keeps_ringing = True
    forgives_answers = True
    watches_answers = True

    def __init__(
        self,
        router: Surroundings,
        server: ServerTransaction,
        request: Request,
        plan: CallPlan,
        setup_key: tuple[bytes, bytes, int],
    ) -> None:
        super().__init__(router, server, request, plan)
        self.setup_key = setup_key
        """Call-ID, the caller's tag and CSeq."""
        self.hung_up: set[bytes] = set()
        """To tags of early dialogs that the caller has ended with BYE (RFC 3261 section 15)."""
        self.copies: list[Copy] = []
        """Other ways by which the same INVITE came."""

    def start(self, now: float) -> None:
        """Write the intent down, then let the INVITE go. A failed append is counted, never waited for."""
        plan = self.plan
        self.began_at = self.router.first_seen(plan.id)
        decision = plan.decision
        first = self.ladder[0][1] if self.ladder else None
        lease = None if plan.lease is None else self.router.callbacks.give(plan, self.request, self.server.flow)
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
                lease=lease,
            )
        )
        for step in plan.steps:
            if step.skipped:
                self.write_route(step, 0, RouteOutcome.SKIPPED, 0, step.skipped)
        for position, (index, step) in enumerate(self.ladder):
            if position > index:
                self.write_route(step, 0, RouteOutcome.POSTPONED, 0, "trunk-down")
        super().start(now)

    # ---- answers ----

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        """The first 2xx makes the dialog that is followed; journalled together with the end of the setting-up."""
        copies, client = self.copies, branch.client
        target = branch.target
        is_restored = False
        if isinstance(target, RouteTarget):
            is_restored = target.shows_another_from and response.status > 100
            if target.doubt is not None:
                confirmed(self, branch, target, response.status, now)
        if is_restored:
            response = with_line(response, "from", self.request.lines("from")[0])
        if 200 <= response.status < 300 and not self.final_status:
            try:
                self.router.follow(
                    self.plan.id,
                    self.request,
                    response,
                    branch.target.request.uri,
                    self.server.flow.host,
                    sent_to(branch.target.flow),
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
        """The same INVITE came by another way, too: what the first way has heard it hears at once."""
        copy = Copy(self, server, request)
        server.owner = copy
        self.copies.append(copy)
        if self.winner is not None and self.server.response:
            last = parse_message(self.server.response, own=True)
            if isinstance(last, Response) and 100 < last.status < 200:
                copy.forward(last, self.router.now())

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

    # ---- a caller who hangs up with BYE ----

    def _after_failure(self, branch: Branch, now: float) -> None:
        """The 487 of an early dialog that the caller ended is no refusal: nobody is there for another route to ring
        for."""
        ended = branch.final is not None and branch.status == 487 and branch.final.to_tag in self.hung_up
        if not ended or self.cancelled:
            super()._after_failure(branch, now)
            return
        self.cancelled = True
        self._cancel_others(branch, now)
        self.finish_if_exhausted(now)

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
        if response.status not in ABOUT_OUR_PART or WITHOUT in target.mark:
            return None
        profile = target.step.profile
        if profile is None:
            return None
        ours = target.with_location and adds_location(profile, self.plan.decision, self.plan.conveyed)
        if not ours and not (profile.additional_data and self.plan.kind is CallKind.EMERGENCY):
            return None  # the part is the caller's own
        if self._drops_data(target, response.status):
            return self._again(target, WITHOUT_DATA, with_location=True)
        return self._again(target, WITHOUT, with_location=False)

    def _drops_data(self, target: RouteTarget, status: int) -> bool:
        """True where parts of additional data may be what was refused: the location goes once more without them."""
        profile = target.step.profile
        return (
            profile is not None
            and bool(profile.additional_data)
            and profile.additional_data_by is DataConveyance.VALUE
            and self.plan.kind is CallKind.EMERGENCY
            and status != ABOUT_LOCATION
            and WITHOUT_DATA not in target.mark
            and target.with_location
            and adds_location(profile, self.plan.decision, self.plan.conveyed)
        )

    def _with_credentials(self, target: RouteTarget, response: Response) -> RouteTarget | None:
        trunk = self.trunks.states[target.step.trunk].config
        if trunk.auth is None:
            return None
        plain = self.request_for(
            target.step, target.hop, with_location=target.with_location, mark=target.mark
        ).request
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
        again = self.target(
            target.route, target.hop, timeout, progress_timeout, with_location=with_location, mark=mark
        )
        if target.approach is not None:
            again.approach, again.flow = target.approach, target.flow
            self.record_route(again)
        return again

    def send_failure(self, now: float) -> None:
        """Deviation (e): 503 without Retry-After, unless all routes gave one status that the caller can mend."""
        last = [branch for branch in self.branches if not was_asked_again(branch)]
        finals = [branch for branch in last if branch.final is not None and not refused_credentials(branch)]
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
        if event == "retried" and isinstance(target, RouteTarget) and self._drops_data(target, status):
            outcome = RouteOutcome.RETRIED_WITHOUT_DATA
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
        reason = target.hop.reason if outcome is _STARTED else reason_of(branch)
        if outcome is _STARTED and target.route.mark:
            reason = f"{reason}, {SECOND_ROUND}" if reason else SECOND_ROUND
        if target.shortfalls and outcome is _STARTED:
            reason = ", ".join(filter(None, (reason, *target.shortfalls)))
            for shortfall in target.shortfalls:
                self.router.counts[f"profile_{shortfall.replace('-', '_')}"] += 1
        if outcome is _STARTED and self._warns_of_media(target):
            reason = f"{reason}, {PRIVATE_MEDIA}" if reason else PRIVATE_MEDIA
            self.router.counts["private_media_address"] += 1
        self.write_route(target.step, target.attempt, outcome, status, reason, target, branch.label)

    def _warns_of_media(self, target: RouteTarget) -> bool:
        return warns_of_media(self.trunks.states[target.step.trunk].config, target.flow.host, self.request.body)

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        if status < 300:
            outcome = _ANSWERED
            self.router.await_ack(self.request.call_id, self.answer_tag)
        elif self.cancelled:
            outcome = _CANCELLED
        else:
            outcome = _FAILED
        self.awaiting = self.name_wait = None
        self.is_pausing = False
        cancel_timer(self.wait)
        self.router.set_up(self.setup_key)
        copies, self.copies = self.copies, []
        for copy in copies:
            copy.server.owner = None
            if status >= 300 and branch is not None and branch.final is not None and branch.status == status:
                copy.forward(branch.final, now)
            elif status >= 300:
                copy.answer(status, now)
        kind = "test" if self.plan.kind is _TEST else "emergency"
        self.router.counts[f"{kind}_calls_{outcome._value_}"] += 1
        route = branch.target.name if branch is not None else ""
        # Only of a call that failed are people told from this: it is written before the caller hears of it.
        write = self.router.write if outcome is _FAILED else self.router.write_later
        write(CallEnded(id=self.plan.id, at=self.router.clock(), outcome=outcome, status=status, route=route))
        if outcome is _ANSWERED and self.answer_tag in self.hung_up:
            # The BYE crossed the answer: the call is over as it begins.
            self.router.write_later(CallFinished(id=self.plan.id, at=self.router.clock(), by="caller"))
        self.router.log_call_end(str(self.plan.kind), self.plan.id, outcome, status, route)

    # ---- calls nobody is left to take ----

    def on_second_success(self, branch: Branch, response: Response, now: float) -> None:
        """Deviation (c): forwarded; ended by us where no ACK for it passes within ACK_WAIT."""
        response = as_far_end_knows(branch, response)
        is_shared = response.to_tag == self.answer_tag
        self.router.watch_ack(response, branch.target.flow, branch.target.request.uri, now, is_shared=is_shared)

    def on_orphan_success(self, branch: Branch, response: Response, now: float) -> None:
        """An answer after the call had ended otherwise: acknowledge it and hang up; nobody is left waiting."""
        target = branch.target
        response = as_far_end_knows(branch, response)
        self.router.counts["answers_ended_by_us"] += 1
        end_answer(self.stack, self.key, response, target.flow, target.request.uri, self.router.is_own_uri, now)
