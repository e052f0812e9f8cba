"""Emergency calls that were being set up when an earlier process ended: what the journal says of them."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from e911.record import CallEnded, CallIntent, JournalEvent, RouteEvent, RouteOutcome
from router.journal.event_lines import decode_event
from router.journal.segments import segment_path, segments

KEPT_SECONDS = 600.0
"""An INVITE does not come again, nor ring, for longer."""
TAIL_BYTES = 4 * 1024 * 1024
"""So much of the journal's end is read at a start: some ten thousand calls, in some tens of milliseconds."""

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class EarlierRoute:
    """A route that was tried and had not failed, as far as the journal says."""

    name: str
    kind: str
    label: bytes
    """Of the derived branch."""
    uri: bytes
    """Request-URI of the INVITE that left."""
    transport: str
    host: str
    port: int
    attempt: int
    with_location: bool
    is_ringing: bool = False
    is_given_up: bool = False
    is_cancelled: bool = False


@dataclass(slots=True, kw_only=True)
class EarlierCall:
    """One call of before."""

    id: str
    at: float
    """When it came in first, seconds since 1970."""
    kind: str
    routes: dict[bytes, EarlierRoute] = field(default_factory=dict)
    """By label."""
    is_ended: bool = False


class EarlierCalls:
    """The calls of before, by record id."""

    def __init__(self, calls: dict[str, EarlierCall] | None = None) -> None:
        self._calls = calls or {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def first_seen(self, call: str) -> float | None:
        """When this call came in first, or None where it is not one of before."""
        found = self._calls.get(call)
        return found.at if found is not None else None

    def take(self, call: str, label: bytes | None = None) -> EarlierCall | None:
        """The call, once, if it was still being set up and has a route (of this label) that had not failed."""
        found = self._calls.get(call)
        if found is None or found.is_ended or not found.routes or (label is not None and label not in found.routes):
            return None
        found.is_ended = True
        return found

    def note_again(self, call: str) -> None:
        """Its INVITE came again, and it is set up anew."""
        found = self._calls.get(call)
        if found is not None:
            found.is_ended = True


def earlier_calls(events: Iterable[JournalEvent], since: float) -> EarlierCalls:
    """What the journal's events, in their order, say of calls that came in after `since` (seconds since 1970)."""
    calls: dict[str, EarlierCall] = {}
    for event in events:
        if isinstance(event, CallIntent):
            if event.at >= since and event.id not in calls:
                calls[event.id] = EarlierCall(id=event.id, at=event.at, kind=event.kind)
        elif isinstance(event, RouteEvent):
            if event.id in calls and event.label:
                _note_route(calls[event.id].routes, event)
        elif isinstance(event, CallEnded) and event.id in calls:
            calls[event.id].is_ended = True
    return EarlierCalls(calls)


def _note_route(routes: dict[bytes, EarlierRoute], event: RouteEvent) -> None:
    label = event.label.encode("latin-1", "replace")
    if event.outcome is RouteOutcome.STARTED:
        transport, _, address = event.sent_to.partition(" ")
        host, _, port = address.rpartition(" ")
        if port.isdigit():
            routes[label] = EarlierRoute(
                name=event.route,
                kind=event.kind,
                label=label,
                uri=event.request_uri.encode("latin-1", "replace"),
                transport=transport,
                host=host,
                port=int(port),
                attempt=event.attempt,
                with_location=event.with_location,
            )
        return
    route = routes.get(label)
    if route is None:
        return
    match event.outcome:
        case RouteOutcome.RINGING:
            route.is_ringing, route.is_given_up = True, False
        case RouteOutcome.TIMEOUT | RouteOutcome.PROGRESS_TIMEOUT:
            route.is_given_up = True
        case RouteOutcome.CANCELLED:
            route.is_cancelled = True
        case (
            RouteOutcome.REFUSED
            | RouteOutcome.UNREACHABLE
            | RouteOutcome.RETRIED_WITHOUT_LOCATION
            | RouteOutcome.RETRIED_WITHOUT_DATA
        ):
            del routes[label]
        case _:
            pass


def read_earlier_calls(directory: Path, now: float) -> EarlierCalls:
    """What the end of the journal in a directory says; `now` is seconds since 1970. Never raises."""
    try:
        return earlier_calls(_events(directory), now - KEPT_SECONDS)
    except Exception:  # calls are served without it
        log.exception("the end of the journal could not be read; calls of before the start are not known")
        return EarlierCalls()


def _events(directory: Path) -> Iterable[JournalEvent]:
    left = TAIL_BYTES
    tails: list[bytes] = []
    for number in reversed(segments(directory)):
        with segment_path(directory, number).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - left))
            tails.append(file.read())
        left -= size
        if left <= 0:
            break
    for tail in reversed(tails):
        for line in tail.split(b"\n"):
            try:
                yield decode_event(line)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # a line cut at the beginning of the tail, or by a crash
