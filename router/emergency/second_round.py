"""A second round: the routes that refused a 911 call at once, or could not be reached, once more after a second.

A provider that is being started again refuses every connection, or answers 503, for a moment. Where all routes do so
within moments, the caller would hear that the call failed before a second has passed. So the ladder is begun once
more, while the caller waits under 100 Trying. See docs/decisions/0057-second-round.md.
"""

from typing import TYPE_CHECKING

from e911.numbers import CallKind
from e911.record import RouteOutcome
from router.emergency.call_routes import RouteStep

if TYPE_CHECKING:
    from router.emergency.route_ladder import RouteLadder

SECOND_ROUND = "second-round"
"""Beside `started`: the reason in records."""
PAUSE_SECONDS = 1.0
"""Between the end of the first round and the second."""
WITHIN_SECONDS = 2.0
"""Only where the first round took no longer: whoever waited longer gets 503, so that a PBX tries its next trunk."""
ANSWER_SECONDS = 1.0
"""To a first answer of any kind in the second round: who was there a moment ago says 100 at once, or is gone."""
PASSING_STATUSES = (500, 502, 503, 504)
"""Refusals that may be over in a second (RFC 3261 section 21.5); no other 5xx, and never 3xx, 4xx or 6xx."""
MARK = b"r"
"""In a target's label: of the second round."""


def is_due(ladder: "RouteLadder", now: float) -> bool:
    """All routes have been tried: True where some may take the call in a second; then it is set going."""
    if ladder.is_second_round or ladder.plan.kind is not CallKind.EMERGENCY or now >= ladder.second_round_until:
        return False
    ladder.is_second_round = True
    again = [rung for rung in ladder.ladder if _may_take_it(ladder, rung[1])]
    if not again:
        return False
    ladder.ladder, ladder.position, ladder.route = again, 0, None
    ladder.is_pausing = True
    ladder.wait = ladder.stack.set_timer(ladder, SECOND_ROUND, PAUSE_SECONDS, now)
    ladder.router.counts["second_rounds"] += 1
    return True


def begin(ladder: "RouteLadder", now: float) -> None:
    """The pause is over."""
    ladder.is_pausing = False
    if ladder.cancelled or ladder.final_status or ladder.winner is not None:
        return  # a route given up rings meanwhile: these are tried only if it fails
    if not ladder.next_route(now):
        ladder.finish_if_exhausted(now)


def _may_take_it(ladder: "RouteLadder", step: RouteStep) -> bool:
    outcome, status = ladder.ends.get(step.name, (RouteOutcome.TIMEOUT, 0))
    if outcome is RouteOutcome.REFUSED:
        return status in PASSING_STATUSES
    # Names that lead nowhere have had their second chance with DNS.
    return outcome is RouteOutcome.UNREACHABLE and bool(ladder.hops_of(step))
