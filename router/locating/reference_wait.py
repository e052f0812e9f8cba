"""A 911 call whose caller only refers to their location: the answers, or the deadline, are one event.

The call is decided once: when every reference has been answered, or when the time for it is over. Until then the
caller has heard 100 Trying; nothing else of the call waits for anything.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from e911.conveyed import Conveyed, ReferenceAnswer
from sip.stack import Stack
from sip.timers import Entry, cancel_timer


class AskReference(Protocol):
    """Asks the one who knows: `told` is called once, at once or later, with the document or why there is none."""

    def __call__(self, uri: str, caller_address: str, told: Callable[[ReferenceAnswer], None]) -> None:
        """uri: http or https; caller_address: where the call came from, which bounds what is asked for it."""


class Around(Protocol):
    """What the wait needs of the process."""

    @property
    def now(self) -> Callable[[], float]:
        """The loop's clock."""

    def flush(self) -> None:
        """Send what the stack has ready."""

    def on_fault(self, doing: str) -> None:
        """A fault of edge911 itself was caught; the call goes on."""


class ReferenceWait:
    """One call that waits. then: told what the caller sent, references answered as far as they were in time."""

    def __init__(self, stack: Stack, around: Around, conveyed: Conveyed, then: Callable[[Conveyed], None]) -> None:
        self.stack = stack
        self.around = around
        self.conveyed = conveyed
        self.references = conveyed.references
        self.then: Callable[[Conveyed], None] | None = then
        self.answers: dict[str, ReferenceAnswer] = {}
        self._deadline: Entry | None = None

    def start(self, ask: AskReference, caller_address: str, seconds: float) -> None:
        """Ask for every reference; go on after so many seconds at the latest."""
        self._deadline = self.stack.set_timer(self, "location-deadline", seconds, self.around.now())
        for uri in self.references:
            try:
                ask(uri, caller_address, partial(self._told, uri))
            except Exception:
                self.around.on_fault("asking for a caller's location")
                self._told(uri, ReferenceAnswer(reason="reference-unreachable"))

    def _told(self, uri: str, answer: ReferenceAnswer) -> None:
        self.answers.setdefault(uri, answer)
        if len(self.answers) == len(self.references):
            self._go_on()
            self.around.flush()

    def on_timer(self, name: str, now: float) -> None:
        """The time is over: what has not been answered counts as not given."""
        self._go_on()

    def _go_on(self) -> None:
        then, self.then = self.then, None
        if then is None:
            return
        cancel_timer(self._deadline)
        late = ReferenceAnswer(reason="reference-late")
        then(self.conveyed.answered({uri: self.answers.get(uri, late) for uri in self.references}))
