"""A 911 call while its caller's location is asked for: where the caller gives up, the waiting is over at once.

Nothing of the call has been written yet. It is decided with what is known, recorded as cancelled, and goes nowhere:
whoever dialled 911 and hung up may need somebody to look.
"""

from collections.abc import Callable
from typing import Protocol

from router.emergency.copies import is_copy
from sip.machines import ServerTransaction
from sip.message import Request
from sip.stack import Stack
from sip.timers import Entry, cancel_timer

SAID_AFTER = 0.1
"""A wait that lasts so many seconds is told to those who watch: most are over before."""


class Waiting(Protocol):
    """Something the call waits for."""

    def on_timer(self, name: str, now: float) -> None:
        """The time is over; what is known then is told."""


class LocationWait:
    """One call, the owner of its server transaction until it is decided. fault: told where ending it fails."""

    __slots__ = ("_due", "_tell", "cancelled", "fault", "request", "server", "stack", "waits")

    def __init__(
        self, stack: Stack, server: ServerTransaction, request: Request, fault: Callable[[str], None]
    ) -> None:
        self.stack = stack
        self.server = server
        self.request = request
        self.fault = fault
        self.waits: list[Waiting] = []
        """In the order in which they are to be ended."""
        self.cancelled = False
        self._tell: Callable[[], None] | None = None
        self._due: Entry | None = None
        server.owner = self

    def tell_after(self, seconds: float, tell: Callable[[], None], now: float) -> None:
        """Have `tell` called where the call waits still, so many seconds from now."""
        self._tell = tell
        self._due = self.stack.set_timer(self, "locating", seconds, now)

    def on_timer(self, name: str, now: float) -> None:
        """The call still waits."""
        tell, self._tell = self._tell, None
        if tell is None:
            return
        try:
            tell()
        except Exception:
            self.fault("telling of a call that waits for its location")

    def end(self) -> None:
        """The call waits no more."""
        self._tell = None
        cancel_timer(self._due)

    def on_cancel(self, request: Request, now: float) -> None:
        """The caller gives up."""
        self.cancelled = True
        self.end()
        waits, self.waits = self.waits, []
        for wait in waits:
            try:
                wait.on_timer("cancelled", now)
            except Exception:
                self.fault("recording a call that was cancelled")
        if not self.server.is_answered:
            self.stack.answer(self.server, 487, now)

    def has_another_way(self) -> bool:
        """True where the same INVITE came by another way, too, and waits there."""
        return any(
            isinstance(other.owner, LocationWait)
            and other.owner is not self
            and not other.is_answered
            and _identity(other.owner.request) == _identity(self.request)
            and is_copy(other.owner.request, self.request)
            for other in self.stack.servers.values()
        )


def _identity(request: Request) -> tuple[bytes, bytes, int]:
    return request.call_id, request.from_tag, request.cseq
