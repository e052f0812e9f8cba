"""Going on with an emergency call whose process has ended: the provider's answers and the caller's CANCEL find it.

What an earlier process had under way is known from the journal (router.emergency.earlier). The INVITE itself is
gone, so no further route is tried; but those that were tried are what they would have been: the first to ring or
answer is the call, a refusal of one does not end it while another may still answer, a CANCEL reaches all of them,
and where all failed the caller gets a 503 of ours and the contacts are told.
"""

import re

from e911.record import CallEnded, CallOutcome, RouteEvent, RouteOutcome
from router.calls.surroundings import Surroundings
from router.dialogs.hangup import end_answer
from router.emergency.earlier import EarlierCall, EarlierRoute
from router.emergency.route_target import sent_to
from sip.branch import Branch, BranchState, Target
from sip.errors import Reason, RemoteError
from sip.fields import value_of
from sip.flow import Flow
from sip.forwarding import derive_branch, forward_bytes
from sip.machines import ServerTransaction
from sip.message import Request, Response
from sip.proxy import TIMER_C, ResponseContext

SILENT_SECONDS = 32.0
"""So long (64*T1) a route that had not rung may stay silent after the restart before nothing is expected of it."""
_TO_TAG = re.compile(rb";\s*tag\s*=[^;]*", re.IGNORECASE)
_OUTCOMES = {
    "ringing": RouteOutcome.RINGING,
    "answered": RouteOutcome.ANSWERED,
    "refused": RouteOutcome.REFUSED,
    "unreachable": RouteOutcome.UNREACHABLE,
    "timeout": RouteOutcome.TIMEOUT,
    "progress-timeout": RouteOutcome.PROGRESS_TIMEOUT,
    "cancelled": RouteOutcome.CANCELLED,
}


def invite_of_cancel(cancel: Request) -> Request:
    """The INVITE that a CANCEL is for, as far as it says (section 9.1)."""
    fields = [(key, line) for key, line in cancel.fields if key in ("via", "from", "to", "call-id")]
    fields.append(("cseq", b"CSeq: %d INVITE" % cancel.cseq))
    return Request(b"INVITE", cancel.uri, fields, b"", cancel.cseq)


def invite_of_response(response: Response) -> Request:
    """The caller's INVITE that a response to ours answers, as far as it says; our own Via must be on top."""
    below = response.without_top_via()
    fields = [(key, line) for key, line in below.fields if key in ("via", "from", "call-id", "cseq")]
    to = value_of(below.fields[below._first["to"]][1])
    address, bracket, parameters = to.rpartition(b">")
    fields.append(("to", b"To: " + address + bracket + _TO_TAG.sub(b"", parameters)))
    return Request(b"INVITE", b"sip:unknown", fields, b"", response.cseq)


class ResumedCall(ResponseContext):
    """The response context of a call of before a restart."""

    __slots__ = ("call", "router")

    first_to_ring_wins = True
    ends_on_6xx = False
    keeps_ringing = True
    watches_answers = True

    def __init__(self, router: Surroundings, server: ServerTransaction, request: Request, call: EarlierCall) -> None:
        super().__init__(router.stack, server, request, router.key)
        self.router = router
        self.call = call
        self.routes_ended = True

    def take_up(self, route: EarlierRoute, flow: Flow, now: float) -> None:
        """Expect answers of a route again; flow: where its INVITE went."""
        request = Request(b"INVITE", route.uri, list(self.request.fields), b"", self.request.cseq)
        branch = Branch(self, Target(name=route.name, label=route.label, flow=flow, request=request))
        identifier = derive_branch(self.key, self.request, route.label)
        branch.client = self.stack.adopt_client(identifier, forward_bytes(request, flow, identifier), flow, branch)
        branch.client.forgives = True
        branch.state = BranchState.RINGING if route.is_ringing else BranchState.TRYING
        branch.was_ringing = route.is_ringing
        branch.given_up = route.is_given_up
        branch.cancel_wanted = branch.cancel_sent = route.is_cancelled
        self.branches.append(branch)
        if route.is_cancelled:
            branch.set_timer("cancel-wait", SILENT_SECONDS, now)
        elif route.is_ringing:
            self.winner = self.winner or branch
            branch.set_timer("c", TIMER_C, now)
        else:
            branch.set_timer("progress", SILENT_SECONDS, now)

    def select_target(self, now: float) -> Target | None:
        """The INVITE is gone: there is nothing to send to another."""
        return None

    def tries_next(self, status: int) -> bool:
        return True

    def send_failure(self, now: float) -> None:
        """Deviation (e)."""
        self.fail(RemoteError(Reason.EVERY_ROUTE_FAILED, 503, "of those that were tried before a restart"), None, now)

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        outcome = _OUTCOMES.get(event)
        route = self.call.routes.get(branch.target.label)
        if outcome is None or route is None:
            return
        self.router.counts[f"route_{outcome.value}"] += 1
        self.router.write_later(
            RouteEvent(
                id=self.call.id,
                at=self.router.clock(),
                route=route.name,
                kind=route.kind,
                attempt=route.attempt,
                outcome=outcome,
                status=status,
                reason=branch.final.reason.decode("utf-8", "replace")[:120] if branch.final else "",
                with_location=route.with_location,
                label=route.label.decode("latin-1"),
            )
        )

    def on_branch_response(self, branch: Branch, response: Response, now: float) -> None:
        """The first 2xx makes the dialog that is followed."""
        response = self.router.from_rewriting.restored(response)
        if 200 <= response.status < 300 and not self.final_status:
            try:
                self.router.follow(
                    self.call.id,
                    self.request,
                    response,
                    branch.target.request.uri,
                    self.server.flow.host,
                    sent_to(branch.target.flow),
                )
            except Exception:
                self.router.on_fault("remembering the dialog of an emergency call")
        super().on_branch_response(branch, response, now)

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        if status < 300:
            outcome = CallOutcome.ANSWERED
            self.router.await_ack(self.request.call_id, self.answer_tag)
        else:
            outcome = CallOutcome.CANCELLED if self.cancelled else CallOutcome.FAILED
        route = branch.target.name if branch is not None else ""
        self.router.counts[f"{self.call.kind}_calls_{outcome.value}"] += 1
        write = self.router.write if outcome is CallOutcome.FAILED else self.router.write_later
        write(CallEnded(id=self.call.id, at=self.router.clock(), outcome=outcome, status=status, route=route))
        self.router.log_call_end(self.call.kind, self.call.id, outcome, status, route)

    def on_second_success(self, branch: Branch, response: Response, now: float) -> None:
        """Deviation (c)."""
        is_shared = response.to_tag == self.answer_tag
        self.router.watch_ack(response, branch.target.flow, branch.target.request.uri, now, is_shared=is_shared)

    def on_orphan_success(self, branch: Branch, response: Response, now: float) -> None:
        """An answer after the call had ended otherwise: nobody is left waiting."""
        target = branch.target
        self.router.counts["answers_ended_by_us"] += 1
        end_answer(self.stack, self.key, response, target.flow, target.request.uri, self.router.is_own_uri, now)
