"""What the event loop of a process that serves says of faults that nobody else has caught."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

NO_DESCRIPTOR = "socket.accept() out of system resource"
"""What asyncio says, for each connection it cannot take, when no file descriptor or no memory is left."""
SAID_AGAIN = 60.0

log = logging.getLogger(__name__)


class LoopFaults:
    """The exception handler of a loop. counts: where it is counted; now: the loop's clock, seconds."""

    def __init__(self, counts: Counter[str], now: Callable[[], float]) -> None:
        self.counts = counts
        self.now = now
        self._said_at = -SAID_AGAIN

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Said as ever; but connections that cannot be taken once a minute: the log must not fill the disk, nor the
        writing of it hold up calls."""
        if context.get("message") != NO_DESCRIPTOR:
            loop.default_exception_handler(context)
            return
        self.counts["accept_failed"] += 1
        now = self.now()
        if now - self._said_at >= SAID_AGAIN:
            self._said_at = now
            log.error(
                "connections cannot be accepted: %s; what is connected is served, and so is UDP. "
                "Raise the limit of open files (LimitNOFILE)",
                context.get("exception"),
            )
