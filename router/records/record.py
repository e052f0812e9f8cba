"""The record of one emergency call, put together from its journal events and its notices."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from e911.elin import Lease
from e911.location import DispatchableLocation
from e911.record import (
    CallbackEvent,
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallRefused,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
    SourceAnswer,
)
from router.journal.event_lines import decode_event
from router.notices.confirmations import Confirmation
from router.notices.outbox import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """One line of the list of calls. Times are seconds since 1970; `outcome` is empty while it is set up."""

    id: str
    node: str
    kind: str
    """`emergency` or `test`; empty where the call's intent is not known."""
    call_id: str
    started_at: float
    site: str
    zone: str
    dialled: str
    number: str
    device: str
    callback: str
    outcome: str
    status: int
    route: str
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMoment:
    """One thing that happened to one try of one route; `after` is seconds since the call came in."""

    route: str
    kind: str
    attempt: int
    outcome: str
    status: int
    reason: str
    with_location: bool
    at: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """Everything that is known of one call."""

    id: str
    node: str
    kind: str
    call_id: str
    dialled: str
    started_at: float
    caller: Caller
    site: str
    zone: str
    location: DispatchableLocation | None
    location_sent: bool
    sources: tuple[SourceAnswer, ...]
    contacts: tuple[str, ...]
    routes: tuple[RouteMoment, ...]
    outcome: str
    """As in CallOutcome; empty where the journal does not say (yet)."""
    status: int
    route: str
    """The route that answered, or empty."""
    refused_because: str
    text: str
    """What was written, of a text to 911."""
    setup_ended_at: float | None
    finished_at: float | None
    finished_by: str
    notices: tuple[Entry, ...]
    confirmations: tuple[Confirmation, ...]
    """Who has seen and who has acknowledged a notice, oldest first."""
    lease: Lease | None
    """The number that was lent to the caller or kept for callbacks."""
    callbacks: tuple[CallbackEvent, ...]
    """What happened to calls back to the caller, in order."""
    intents: int
    """More than one where the same INVITE came again after a restart."""

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def record_from_lines(
    lines: Iterable[bytes], notices: Sequence[Entry], confirmations: Sequence[Confirmation] = ()
) -> CallRecord:
    """The record that journal lines of one call make; lines that are no event are passed over."""
    events: list[JournalEvent] = []
    for line in lines:
        try:
            events.append(decode_event(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return call_record(events, notices, confirmations)


def _location_sent(events: Sequence[JournalEvent], intent: CallIntent | None) -> bool:
    """True where the route that took the call carried the location; while none has, the first route counts."""
    answered = [event for event in events if isinstance(event, RouteEvent) and event.outcome is RouteOutcome.ANSWERED]
    if answered:
        return answered[-1].with_location
    return intent.location_sent if intent else False


def call_record(
    events: Sequence[JournalEvent], notices: Sequence[Entry], confirmations: Sequence[Confirmation] = ()
) -> CallRecord:
    """The record that events of one call make. Raises ValueError where there are none."""
    if not events:
        raise ValueError("no readable event of this call")
    intents = [event for event in events if isinstance(event, CallIntent)]
    intent = intents[0] if intents else None
    refused = next((event for event in events if isinstance(event, CallRefused)), None)
    ended = next((event for event in reversed(events) if isinstance(event, CallEnded)), None)
    finished = next((event for event in events if isinstance(event, CallFinished)), None)
    first = intent or refused
    started_at = first.at if first else min(event.at for event in events)
    if ended:
        outcome, status, route = ended.outcome.value, ended.status, ended.route
    else:
        outcome, status, route = ("refused", refused.status, "") if refused else ("", 0, "")
    return CallRecord(
        id=events[0].id,
        node=first.node if first else "",
        kind=first.kind if first else "",
        call_id=first.call_id if first else "",
        dialled=first.dialled if first else "",
        started_at=started_at,
        caller=first.caller if first else Caller(),
        site=first.site if first else "",
        zone=intent.zone if intent else "",
        location=intent.location if intent else None,
        location_sent=_location_sent(events, intent),
        sources=intent.sources if intent else (),
        contacts=first.contacts if first else (),
        routes=tuple(_step(event, started_at) for event in events if isinstance(event, RouteEvent)),
        outcome=outcome,
        status=status,
        route=route,
        refused_because=refused.reason if refused else "",
        text=refused.text if refused else "",
        setup_ended_at=ended.at if ended else (refused.at if refused else None),
        finished_at=finished.at if finished else None,
        finished_by=finished.by if finished else "",
        notices=tuple(notices),
        confirmations=tuple(confirmations),
        lease=intent.lease if intent else None,
        callbacks=tuple(event for event in events if isinstance(event, CallbackEvent)),
        intents=len(intents),
    )


def _step(event: RouteEvent, started_at: float) -> RouteMoment:
    return RouteMoment(
        route=event.route,
        kind=event.kind,
        attempt=event.attempt,
        outcome=event.outcome.value,
        status=event.status,
        reason=event.reason,
        with_location=event.with_location,
        at=event.at,
        after=round(event.at - started_at, 6),
    )
