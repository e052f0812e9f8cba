"""911 calls as they happen, for people who watch: made of journal events, kept in memory, newest last.

Pure: events in, changed calls out. Times are seconds since 1970.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from e911.location import DispatchableLocation
from e911.notice import address_lines
from e911.record import (
    CallbackEvent,
    CallbackOutcome,
    CallEnded,
    CallFinished,
    CallIntent,
    CallLocating,
    CallOutcome,
    CallRefused,
    RouteEvent,
    RouteOutcome,
)
from router.notices.confirmations import Confirmation, Step
from router.process.printable import visible

LONGEST_TEXT = 200
"""Characters of one text that a page shows; the record has all of it."""
MOST_CALLS = 500
"""Calls remembered; the oldest that is over goes first."""
LOCATING_SECONDS = 15.0
"""No call waits longer for its location: one that seems to went on under another name, or its router ended."""
MOST_OF_SITE = 20
"""So many of each site stay, whatever happens elsewhere: who watches one site only sees its calls all the same."""


class LiveState(StrEnum):
    """Where a call stands."""

    LOCATING = "locating"
    """Its location is being asked for, and the call waits for that."""
    CALLING = "calling"
    RINGING = "ringing"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    ENDED = "ended"

    @property
    def is_over(self) -> bool:
        """True where nothing more is expected to happen."""
        return self in (LiveState.FAILED, LiveState.CANCELLED, LiveState.REFUSED, LiveState.ENDED)


_ROUTE_STATES = {RouteOutcome.STARTED: LiveState.CALLING, RouteOutcome.RINGING: LiveState.RINGING}
_END_STATES = {
    CallOutcome.ANSWERED: LiveState.ANSWERED,
    CallOutcome.FAILED: LiveState.FAILED,
    CallOutcome.CANCELLED: LiveState.CANCELLED,
    CallOutcome.REFUSED: LiveState.REFUSED,
}


@dataclass(slots=True, kw_only=True)
class LiveCall:
    """One call as it is shown."""

    id: str
    node: str = ""
    kind: str = "emergency"
    """`emergency` or `test`."""
    started_at: float = 0.0
    changed_at: float = 0.0
    state: LiveState = LiveState.CALLING
    route: str = ""
    is_basic: bool = False
    """It goes, or went, by basic 911: the PSAP asks where the caller is."""
    answered_at: float | None = None
    ended_at: float | None = None
    site: str = ""
    zone: str = ""
    number: str = ""
    name: str = ""
    """Of the caller, as the device is registered, else as it calls itself."""
    device: str = ""
    callback: str = ""
    address: list[str] = field(default_factory=list)
    """Lines of the civic address, without floor and room."""
    building: str = ""
    floor: str = ""
    unit: str = ""
    room: str = ""
    landmark: str = ""
    latitude: float | None = None
    longitude: float | None = None
    location_source: str = ""
    location_sent: bool = False
    reason: str = ""
    """Of a refused call."""
    callback_at: float | None = None
    """When somebody last called back, most likely the PSAP."""
    callback_outcome: str = ""
    """What became of that: a CallbackOutcome."""
    acknowledged_by: str = ""
    acknowledged_at: float | None = None

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON, as people may see it: long texts of phones cut off, control characters visible."""
        return {name: _shown(value) for name, value in asdict(self).items()}


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if not isinstance(value, str):
        return value
    return visible(value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…")


class LiveCalls:
    """All calls that are watched."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, LiveCall] = OrderedDict()
        self._sites: Counter[str] = Counter()
        """How many of each site there are."""

    def __len__(self) -> int:
        return len(self._calls)

    def all(self) -> list[LiveCall]:
        """Oldest first."""
        return list(self._calls.values())

    def get(self, call: str) -> LiveCall | None:
        """One of them."""
        return self._calls.get(call)

    def apply(self, event: object) -> LiveCall | None:
        """What an event changed, None where it changed nothing that is shown. An event may come twice."""
        if isinstance(event, CallIntent):
            return self._begin(event)
        if isinstance(event, CallRefused):
            return self._refuse(event)
        if isinstance(event, CallLocating):
            return self._locate(event)
        if isinstance(event, Confirmation):
            if event.step is not Step.ACKNOWLEDGED:
                return None
            return self.acknowledge(event.call, event.by or event.contact or event.how, event.at)
        call = self._calls.get(str(getattr(event, "id", "")))
        if call is None:
            return None
        before = asdict(call)
        if isinstance(event, RouteEvent):
            self._route(call, event)
        elif isinstance(event, CallEnded):
            self._end(call, event)
        elif isinstance(event, CallFinished) and call.ended_at is None:
            call.state, call.ended_at = LiveState.ENDED, event.at
        elif isinstance(event, CallbackEvent) and event.at >= (call.callback_at or 0.0):
            if event.outcome is CallbackOutcome.RECEIVED:
                call.callback_at = event.at
            call.callback_outcome = str(event.outcome)
        if asdict(call) == before:
            return None
        call.changed_at = max(call.changed_at, float(getattr(event, "at", 0.0)))
        return call

    def apply_all(self, events: Iterable[object]) -> list[LiveCall]:
        """The calls that these events changed, each once."""
        changed: dict[str, LiveCall] = {}
        for event in events:
            call = self.apply(event)
            if call is not None:
                changed[call.id] = call
        return list(changed.values())

    def acknowledge(self, call: str, by: str, at: float) -> LiveCall | None:
        """Somebody says that they take care; the first of them is shown. None where nothing changed."""
        found = self._calls.get(call)
        if found is None or found.acknowledged_at is not None:
            return None
        found.acknowledged_by, found.acknowledged_at = by, at
        return found

    def forget(self, call: str) -> None:
        """It is not watched any more."""
        gone = self._calls.pop(call, None)
        if gone is not None:
            self._sites[gone.site] -= 1

    def forget_lost(self, now: float) -> bool:
        """Leave out calls that have been said to wait for their location for too long; True where there was one."""
        lost = [
            call.id
            for call in self._calls.values()
            if call.state is LiveState.LOCATING and abs(now - call.started_at) > LOCATING_SECONDS
        ]
        for one in lost:
            self.forget(one)
        return bool(lost)

    def _locate(self, event: CallLocating) -> LiveCall | None:
        if event.id in self._calls:
            return None
        call = _call_of(event)
        call.state = LiveState.LOCATING
        self._keep(call)
        return call

    def _begin(self, event: CallIntent) -> LiveCall | None:
        if self._is_known(event.id):
            return None  # the same INVITE, sent again after a restart
        call = _call_of(event)
        call.route, call.zone, call.location_sent = event.first_route, event.zone, event.location_sent
        if event.location is not None:
            _place(call, event.location)
        self._keep(call)
        return call

    def _refuse(self, event: CallRefused) -> LiveCall | None:
        if self._is_known(event.id):
            return None
        call = _call_of(event)
        call.state, call.ended_at, call.reason = LiveState.REFUSED, event.at, event.reason
        self._keep(call)
        return call

    def _is_known(self, call: str) -> bool:
        """True where its beginning is known."""
        found = self._calls.get(call)
        return found is not None and found.state is not LiveState.LOCATING

    def _keep(self, call: LiveCall) -> None:
        before = self._calls.get(call.id)
        if before is not None:  # it waited for its location; somebody may have seen it already
            call.acknowledged_by, call.acknowledged_at = before.acknowledged_by, before.acknowledged_at
            self._sites[before.site] -= 1
        self._calls[call.id] = call
        self._sites[call.site] += 1
        if len(self._calls) <= MOST_CALLS:
            return
        many = [one for one in self._calls.values() if self._sites[one.site] > MOST_OF_SITE]
        if many:
            self.forget(next((one.id for one in many if one.state.is_over), many[0].id))

    def _route(self, call: LiveCall, event: RouteEvent) -> None:
        state = _ROUTE_STATES.get(event.outcome)
        # What comes after the answer is of routes that were given up.
        if state is not None and call.answered_at is None and not call.state.is_over:
            call.state, call.route, call.is_basic = state, event.route, event.kind == "basic"
            call.location_sent = event.with_location
        elif event.outcome is RouteOutcome.ANSWERED:
            call.route, call.is_basic, call.location_sent = event.route, event.kind == "basic", event.with_location
            if call.answered_at is None and not call.state.is_over:
                call.state, call.answered_at = LiveState.ANSWERED, event.at

    def _end(self, call: LiveCall, event: CallEnded) -> None:
        if call.state is LiveState.ENDED:
            return
        call.state = _END_STATES[event.outcome]
        if event.route:
            call.route = event.route
        if event.outcome is CallOutcome.ANSWERED:
            call.answered_at = call.answered_at or event.at
        else:
            call.ended_at = call.ended_at or event.at


def _call_of(event: CallIntent | CallLocating | CallRefused) -> LiveCall:
    """A call as it begins, however that is."""
    caller = event.caller
    return LiveCall(
        id=event.id,
        node=event.node,
        kind=event.kind,
        started_at=event.at,
        changed_at=event.at,
        site=event.site,
        number=caller.number,
        name=caller.device_name or caller.display_name,
        device=caller.device,
        callback=caller.callback,
    )


def _place(call: LiveCall, location: DispatchableLocation) -> None:
    civic = location.civic
    finer = {"building", "floor", "unit", "room", "landmark"}
    for name in finer:
        setattr(call, name, getattr(civic, name))
    street = {name: getattr(civic, name) for name in civic.__dataclass_fields__ if name not in finer}
    call.address = address_lines(type(civic)(**street))
    call.location_source = str(location.source)
    if location.point is not None:
        call.latitude, call.longitude = location.point.latitude, location.point.longitude
