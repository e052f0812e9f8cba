"""Legs in doubt: the provider had taken the call, and now its connection is gone or its trunk is silent.

Nothing on the wire says that the call is lost: answers may come by another connection (RFC 3261 section 18.2.2). So
the same INVITE, byte for byte, goes there once more. A provider that still has the call takes it for a retransmission
and repeats its last provisional response (section 17.2.1); one that was started again takes it for the call; one that
is gone says nothing, and the next route starts beside it. See docs/decisions/0056-legs-in-doubt.md.
"""

import logging
from typing import TYPE_CHECKING

from e911.record import RouteOutcome
from router.emergency.route_target import Doubt, RouteTarget
from router.network.trunk_health import Place, place_of, place_text
from sip.branch import Branch
from sip.machines import ClientTransaction
from sip.transaction import State

if TYPE_CHECKING:
    from router.emergency.route_ladder import RouteLadder

log = logging.getLogger(__name__)

CONNECTION_LOST = "connection-lost"
TRUNK_SILENT = "trunk-silent"
NO_PROGRESS = "no-progress"

AGAIN_SECONDS = 0.5
"""T1: so often the provider is asked again while nothing comes."""
PATIENCE_SECONDS = 10.0
"""So long a leg in doubt is waited for where nothing else is left: a standby takes over by then, or not soon."""

ANSWER_TIMER, ASK_TIMER, END_TIMER = "doubt answer", "doubt ask", "doubt end"
PROGRESS_TIMER = "progress"
"""The branch's own, which ringing stops."""
_TIMERS = frozenset({ANSWER_TIMER, ASK_TIMER, END_TIMER})


def cut_off(ladder: "RouteLadder", branch: Branch, now: float) -> None:
    """The connection by which the INVITE of a leg went has ended, or asking again failed at once."""
    target = branch.target
    if not isinstance(target, RouteTarget) or not branch.is_live or ladder.final_status:
        return
    if branch.cancel_wanted:
        if branch.cancel_sent:
            target.doubt = target.doubt or Doubt(CONNECTION_LOST, now)
            ladder.finish_if_exhausted(now)
    elif target.doubt is None:
        if not branch.given_up:
            _begin(ladder, branch, target, CONNECTION_LOST, now)
    else:
        branch.set_timer(ASK_TIMER, AGAIN_SECONDS, now)
        if ANSWER_TIMER in branch.timers:
            branch.stop_timer(ANSWER_TIMER)
            _go_on(ladder, branch, target, target.doubt.why, now)


def trunk_went_down(ladder: "RouteLadder", place: Place, now: float) -> None:
    """A place of a trunk has become silent: whatever leg of this call rings there is in doubt."""
    for branch in list(ladder.branches):
        target = branch.target
        if (
            isinstance(target, RouteTarget)
            and target.doubt is None
            and branch.is_live
            and not (branch.given_up or branch.cancel_wanted or ladder.final_status)
            and _client_of(branch) is not None
            and place_of(target.hop.flow) == place
        ):
            if target.flow.point.reliable:
                ladder.router.distrust(target.flow)
            _begin(ladder, branch, target, TRUNK_SILENT, now)


def confirmed(ladder: "RouteLadder", branch: Branch, target: RouteTarget, status: int, now: float) -> None:
    """Something came from the provider of a leg in doubt, before it is treated as any response."""
    for name in (ASK_TIMER, ANSWER_TIMER, END_TIMER):
        branch.stop_timer(name)
    if branch.given_up and status == 100:
        branch.set_timer(END_TIMER, target.step.progress_timeout, now)  # started again, perhaps: it is to ring
        return
    target.doubt = None
    if status >= 200 or branch.cancel_wanted:
        return
    ladder.router.counts["legs_confirmed"] += 1
    ladder.write_route(target.step, target.attempt, RouteOutcome.CONFIRMED, status, "", target, branch.label)
    if status == 100:
        branch.set_timer(PROGRESS_TIMER, target.step.progress_timeout, now)


def on_timer(ladder: "RouteLadder", branch: Branch, target: RouteTarget, name: str, now: float) -> None:
    """A timer of a leg in doubt."""
    doubt = target.doubt
    if not branch.is_live or branch.cancel_wanted or ladder.final_status:
        return
    if name == PROGRESS_TIMER:
        _go_on(ladder, branch, target, NO_PROGRESS, now)
    elif doubt is None:
        return
    elif name == ASK_TIMER:
        _ask(ladder, branch, target, now)
    elif name == ANSWER_TIMER:
        _go_on(ladder, branch, target, doubt.why, now)
    else:
        target.doubt = None
        branch.stop_timer(ASK_TIMER)
        if not branch.given_up:
            _give_up(ladder, branch, target, doubt.why, now)
        ladder.finish_if_exhausted(now)


def is_ours(branch: Branch, name: str) -> bool:
    """True for a timer of a leg that is, or was, in doubt: one that had rung has no time for progress but
    from here."""
    return name in _TIMERS or (name == PROGRESS_TIMER and branch.was_ringing)


def is_in_doubt(branch: Branch) -> bool:
    """True while it is not known whether the provider still has the call."""
    return isinstance(branch.target, RouteTarget) and branch.target.doubt is not None


def is_awaited(ladder: "RouteLadder") -> bool:
    """True while a leg in doubt may still turn out to have the call."""
    return any(is_in_doubt(branch) and branch.is_live and not branch.cancel_wanted for branch in ladder.branches)


def _begin(ladder: "RouteLadder", branch: Branch, target: RouteTarget, why: str, now: float) -> None:
    target.doubt = Doubt(why, now)
    branch.set_timer(END_TIMER, PATIENCE_SECONDS, now)
    ladder.router.counts["legs_in_doubt"] += 1
    ladder.write_route(target.step, target.attempt, RouteOutcome.IN_DOUBT, 0, why, target, branch.label)
    log.error(
        "call %s: %s at %s (%s) while the call rang there: the provider is asked again",
        *(ladder.plan.id, why, target.name, place_text(place_of(target.flow))),
    )
    branch.set_timer(ANSWER_TIMER, min(target.step.timeout, PATIENCE_SECONDS), now)
    _ask(ladder, branch, target, now)


def _ask(ladder: "RouteLadder", branch: Branch, target: RouteTarget, now: float) -> None:
    """The same INVITE again: over a new connection, or by UDP, where it may be lost, now and then."""
    client = _client_of(branch)
    if client is None:
        return
    ladder.stack.out.append((client.flow, client.data, client))
    if not target.flow.point.reliable:
        branch.set_timer(ASK_TIMER, AGAIN_SECONDS, now)


def _go_on(ladder: "RouteLadder", branch: Branch, target: RouteTarget, why: str, now: float) -> None:
    """The next route beside this leg, which stays alive; where there is none, the leg is asked on until its end."""
    was_winner = ladder.winner is branch
    if was_winner:
        ladder.give_up_winner()
    if ladder.next_route(now):
        _give_up(ladder, branch, target, why, now)
    elif was_winner and not ladder.final_status:
        ladder.winner = branch


def _give_up(ladder: "RouteLadder", branch: Branch, target: RouteTarget, why: str, now: float) -> None:
    branch.given_up = True
    for name in ("progress", "c"):
        branch.stop_timer(name)
    if ladder.winner is branch:
        ladder.give_up_winner()
    ladder.trunks.health.call_failed(target.hop.flow)
    ladder.write_route(target.step, target.attempt, RouteOutcome.TIMEOUT, 0, why, target, branch.label)


def _client_of(branch: Branch) -> ClientTransaction | None:
    """The INVITE's transaction where a provisional response has come, and no final one."""
    client = branch.client
    return client if client is not None and client.state is State.PROCEEDING else None
