"""A 911 call that waits for its location server: the answer, or the deadline, is one event."""

from collections.abc import Callable

from e911.locate import HeldAnswer
from router.locating.reference_wait import Around
from sip.stack import Stack
from sip.timers import Entry, cancel_timer


class HeldWait:
    """One call's wait. late: what it goes on with when the time is over."""

    def __init__(self, stack: Stack, around: Around, late: Callable[[], HeldAnswer]) -> None:
        self.stack = stack
        self.around = around
        self.late = late
        self.answer: HeldAnswer | None = None
        self._then: Callable[[HeldAnswer], None] | None = None
        self._deadline: Entry | None = None

    def start(self, ask: Callable[[Callable[[HeldAnswer], None]], None], seconds: float) -> None:
        """Ask; the time begins now."""
        self._deadline = self.stack.set_timer(self, "held-deadline", seconds, self.around.now())
        try:
            ask(self.told)
        except Exception:
            self.around.on_fault("asking a location server")
            self._go_on(HeldAnswer(reason="held-unreachable"))

    def told(self, answer: HeldAnswer) -> None:
        """The server answered, or is known not to."""
        had_to_wait = self._then is not None and self.answer is None
        self._go_on(answer)
        if had_to_wait:
            self.around.flush()

    def on_timer(self, name: str, now: float) -> None:
        """The time is over."""
        try:
            answer = self.late()
        except Exception:
            self.around.on_fault("going on without a location server")
            answer = HeldAnswer(reason="held-late")
        self._go_on(answer)

    def when_known(self, then: Callable[[HeldAnswer], None]) -> None:
        """Call `then` with the answer, now or when it is there."""
        if self.answer is not None:
            then(self.answer)
        else:
            self._then = then

    def _go_on(self, answer: HeldAnswer) -> None:
        if self.answer is not None:
            return
        self.answer = answer
        cancel_timer(self._deadline)
        then, self._then = self._then, None
        if then is not None:
            then(answer)
