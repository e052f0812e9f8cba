"""CallbackCall: a call back to somebody who dialled 911, on its way to the phone and then to the site's desk.

The phone's PBX may not send it elsewhere: a 3xx is not followed. What the phone does not take, within its time, the
desk gets.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from e911.record import CallbackOutcome
from router.calls.surroundings import Surroundings
from router.emergency.identity import KEY as ASSERTED
from router.emergency.identity import asserted_onward
from sip.branch import Branch, Target
from sip.flow import Flow
from sip.machines import ServerTransaction
from sip.message import Request
from sip.proxy import ResponseContext
from sip.timers import Entry, cancel_timer

FIRST_ANSWER_SECONDS = 4.0
"""So long a place may say nothing before the next is tried."""
NOT_KNOWN_THERE = (403, 404, 484, 604)
"""What a PBX says that does not know whom the Request-URI is for; it may know the phone by its number."""
PHONE, DESK = "phone", "desk"

Note = Callable[[CallbackOutcome, str, str, int, str], None]
"""Told what became of it: outcome, phone or desk, place, status, reason."""


class Place(NamedTuple):
    """One place that a callback may be sent to."""

    to: str
    """`phone` or `desk`."""
    name: str
    """The trunk's, or empty."""
    flow: Flow
    uri: bytes
    """Request-URI to send with."""
    token: bytes = b""
    """Of the phone's flow, for Record-Route."""

    @property
    def where(self) -> str:
        """For people: the trunk's name, else the address."""
        return self.name or f"{self.flow.host}:{self.flow.port}"


@dataclass(slots=True, kw_only=True)
class CallbackTarget(Target):
    """A target that knows its place."""

    place: Place


class CallbackCall(ResponseContext):
    """One callback. make: the request for a place. seconds: so long the phone may ring where there is a desk."""

    __slots__ = ("desk_called", "make", "note", "number", "places", "router", "seconds", "timer")

    ends_on_6xx = False

    def __init__(
        self,
        router: Surroundings,
        server: ServerTransaction,
        request: Request,
        places: Iterable[Place],
        make: Callable[[Place], Request],
        seconds: float,
        note: Note,
    ) -> None:
        super().__init__(router.stack, server, request, router.key)
        self.router = router
        self.places = deque(places)
        self.make = make
        self.seconds = seconds
        self.note = note
        self.number = 0
        self.desk_called = False
        self.timer: Entry | None = None

    def start(self, now: float) -> None:
        """The phone's time begins, where somebody else may be asked after it."""
        if self.places and self.places[0].to == PHONE and self.places[-1].to == DESK:
            self.timer = self.stack.set_timer(self, "no-answer", self.seconds, now)
        super().start(now)

    def select_target(self, now: float) -> Target | None:
        if not self.places:
            return None
        place = self.places.popleft()
        if place.to == DESK and not self.desk_called:
            self.desk_called = True
            cancel_timer(self.timer)
        request = self.make(place)
        if request.has(ASSERTED):
            trust = self.router.identity_trust
            request = asserted_onward(request, source=trust(self.server.flow), target=trust(place.flow))
        self.number += 1
        return CallbackTarget(
            name=place.where,
            label=b"c%d" % (self.number - 1),
            flow=place.flow,
            request=request,
            record_routes=self.router.record_routes(
                place.flow.point, self.server.flow, self.request, out_flow=place.token
            ),
            timeout=FIRST_ANSWER_SECONDS if self.places else None,
            place=place,
        )

    def on_timer(self, name: str, now: float) -> None:
        """The phone did not answer in its time: the desk's turn."""
        if self.final_status or self.cancelled or self.desk_called:
            return
        self._skip_phone()
        waiting = [branch for branch in self.branches if branch.is_live]
        for branch in waiting:
            branch.given_up = True
            self._say(CallbackOutcome.NO_ANSWER, branch, 0, "")
        self.next_route(now)
        for branch in waiting:
            if branch.is_live:
                self.cancel_branch(branch, now)

    def _skip_phone(self, uri: bytes = b"") -> None:
        """Do not try the phone again; or only not by this Request-URI."""
        self.places = deque(place for place in self.places if place.to == DESK or (uri and place.uri != uri))

    def tries_next(self, status: int) -> bool:
        """Whatever the phone says but yes, the desk is called; what the desk says is the answer."""
        return not self.desk_called or super().tries_next(status)

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        health = self.router.trunks.health
        if event == "timeout" or event == "unreachable":
            health.call_failed(branch.target.flow)
            self._say(CallbackOutcome.UNREACHABLE, branch, 0, "")
        elif event == "started":
            self._say(CallbackOutcome.SENT, branch, 0, "")
        else:
            health.call_answered(branch.target.flow)
        if event == "ringing":
            self._say(CallbackOutcome.RINGING, branch, status, "")
        elif event == "answered":
            self._say(CallbackOutcome.ANSWERED, branch, status, "")
        elif event == "refused":
            outcome = CallbackOutcome.REDIRECTED if 300 <= status < 400 else CallbackOutcome.REFUSED
            phrase = branch.final.reason.decode("utf-8", "replace")[:120] if branch.final is not None else ""
            if not branch.cancel_wanted:
                self._say(outcome, branch, status, phrase)
            if status != 503 and not self.desk_called:
                uri = branch.target.request.uri
                self._skip_phone(uri if status in NOT_KNOWN_THERE else b"")

    def _say(self, outcome: CallbackOutcome, branch: Branch, status: int, reason: str) -> None:
        target = branch.target
        if isinstance(target, CallbackTarget):
            self.note(outcome, target.place.to, target.place.where, status, reason)

    def send_failure(self, now: float) -> None:
        """A 3xx is not passed on either: whoever called back would follow it, away from the phone and the desk."""
        for branch in self.branches:
            if 300 <= branch.status < 400:
                branch.final, branch.status = None, 480
        super().send_failure(now)

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        cancel_timer(self.timer)
        self.timer = None
        if status >= 300:
            outcome = CallbackOutcome.CANCELLED if self.cancelled else CallbackOutcome.FAILED
            self.note(outcome, "", "", status, "")
