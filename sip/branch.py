"""Branches of a response context: each is one forwarded copy of the request (RFC 3261 section 16.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from sip.flow import Flow
from sip.forwarding import backward_bytes
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Edits, Request, Response
from sip.stack import Stack
from sip.timers import Entry
from sip.transaction import State

if TYPE_CHECKING:
    from sip.proxy import ResponseContext


@dataclass(slots=True, kw_only=True)
class Target:
    """One place to send the request to.

    request is the request with all edits but Via, Record-Route and Max-Forwards. label names route and attempt in
    the derived branch. timeout: seconds to the first response of any kind; progress_timeout: seconds from 100 to
    the first 18x or 2xx; None waits for the timers of the RFC.
    """

    name: str
    label: bytes
    flow: Flow
    request: Request
    record_routes: Sequence[bytes] = ()
    timeout: float | None = None
    progress_timeout: float | None = None


class BranchState(IntEnum):
    """How far a branch is."""

    CALLING = 1
    TRYING = 2
    """100 was received."""
    RINGING = 3
    """Another provisional response was received."""
    DONE = 4


# Members of an enumeration are looked up slowly (0.16 µs); these once.
_DONE = BranchState.DONE
_CALLING = BranchState.CALLING
_PROCEEDING = State.PROCEEDING


class Failure(IntEnum):
    """Why a branch failed without a response, and the status that counts in its stead (section 16.9, 16.7 step 2)."""

    TIMEOUT = 408
    TRANSPORT_ERROR = 503


class Branch:
    """One forwarded copy of the request."""

    __slots__ = (
        "cancel_sent",
        "cancel_wanted",
        "client",
        "context",
        "final",
        "given_up",
        "label",
        "silence",
        "state",
        "status",
        "target",
        "timers",
        "was_ringing",
    )

    def __init__(self, context: "ResponseContext", target: Target) -> None:
        self.context = context
        self.target = target
        self.label = target.label
        """As it stands at the end of the derived branch."""
        self.client: ClientTransaction | None = None
        self.state = _CALLING
        self.given_up = False
        self.cancel_wanted = False
        self.cancel_sent = False
        self.was_ringing = False
        self.silence = 0.0
        """How long it rang since the last provisional response when timer C fired last, seconds."""
        self.status = 0
        self.final: Response | None = None
        self.timers: dict[str, Entry] = {}

    @property
    def is_live(self) -> bool:
        """True until a final response, a time-out or a transport error."""
        return self.state is not _DONE

    def set_timer(self, name: str, seconds: float, now: float) -> None:
        """Start (again) a timer of this branch."""
        timers = self.timers
        entry = timers.get(name)
        if entry is not None:
            entry[1] = None
        timers[name] = self.context.stack.queue.set(self, name, seconds, now)

    def stop_timer(self, name: str) -> None:
        """Stop a timer of this branch."""
        entry = self.timers.pop(name, None)
        if entry is not None:
            entry[1] = None

    def stop_timers(self) -> None:
        """Stop all of them."""
        timers = self.timers
        for entry in timers.values():
            entry[1] = None
        timers.clear()

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if client is self.client:  # not the one for our CANCEL
            self.context.on_branch_response(self, response, now)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        if client is self.client:
            self.context.on_branch_failure(self, Failure.TIMEOUT, now)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        if client is self.client:
            if client.state is _PROCEEDING:
                self.context.on_branch_cut_off(self, now)
            else:
                self.context.on_branch_failure(self, Failure.TRANSPORT_ERROR, now)

    def on_timer(self, name: str, now: float) -> None:
        self.timers.pop(name, None)
        self.context.on_branch_timer(self, name, now)


class SuccessRelay:
    """Forwards further copies of a 2xx, when nothing else of the response context is needed any more.

    to_tag, where given, is that of the answer taken: a 2xx with another one (the far end forked) is forwarded too,
    and the TU is told.
    """

    __slots__ = ("server", "stack", "to_tag")

    def __init__(self, stack: Stack, server: ServerTransaction, to_tag: bytes | None) -> None:
        self.stack = stack
        self.server = server
        self.to_tag = to_tag

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if 200 <= response.status < 300:
            self.stack.respond(self.server, response.status, backward_bytes(response, self.server.flow), now)
            if self.to_tag is not None and response.to_tag != self.to_tag:
                self.stack.user.on_forked_success(response, client.flow, now)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        """Nothing waits for it."""

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        """Nothing waits for it."""


def best_response(branches: Sequence[Branch]) -> Branch | None:
    """Section 16.7 step 6: a 6xx if there is one, else the lowest class; within 4xx those that help the caller.

    A branch that brought no response counts as its time-out (408) or transport error (503), after those that did.
    """
    mendable = (401, 407, 415, 420, 484)

    def rank(branch: Branch) -> tuple[int, bool, bool, int]:
        status = branch.status
        return (0 if status >= 600 else status // 100, status not in mendable, branch.final is None, status)

    return min((branch for branch in branches if branch.status), key=rank, default=None)


def with_all_challenges(chosen: Response, branches: Sequence[Branch]) -> Response:
    """Section 16.7 step 7: the chosen 401 or 407 with the other challenges of the branches' 401 and 407 added."""
    added: list[bytes] = []
    for branch in branches:
        other = branch.final
        if other is not None and other is not chosen and other.status in (401, 407):
            added += other.lines("www-authenticate") + other.lines("proxy-authenticate")
    known = chosen.lines("www-authenticate") + chosen.lines("proxy-authenticate")
    added = [line for line in dict.fromkeys(added) if line not in known]
    return chosen.edited(Edits(append=added)) if added else chosen
