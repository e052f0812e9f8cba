"""Timers as data: one queue of deadlines, no callbacks, no clock.

Nearly all SIP timers have one of a dozen lengths. Timers of equal length expire in the order in which they were set,
so a first-in-first-out queue per length is always sorted: setting costs an append, cancelling an assignment, and
100,000 waiting timers cost no more than ten.
"""

from collections import deque
from typing import Any

Entry = list[Any]
"""[deadline, owner, name]; a cancelled timer has lost its owner, so that nothing it held stays in memory."""

_QUEUES_KEPT = 64
"""More lengths than the RFC and a configuration have; above it, empty queues are let go."""


def cancel_timer(entry: Entry | None) -> None:
    """Stop a timer; nothing happens where it has fired or was stopped."""
    if entry is not None:
        entry[1] = None


class TimerQueue:
    """Deadlines in seconds on the caller's clock."""

    __slots__ = ("_earliest", "_queues")

    def __init__(self) -> None:
        self._queues: dict[float, deque[Entry]] = {}
        self._earliest = float("inf")

    def set(self, owner: Any, name: Any, seconds: float, now: float) -> Entry:
        """Start a timer; returns its entry, by which it can be cancelled."""
        entry = [now + seconds, owner, name]
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = deque()
        queue.append(entry)
        if entry[0] < self._earliest:
            self._earliest = entry[0]
        return entry

    @property
    def earliest(self) -> float:
        """The next deadline, or infinity. A cancelled timer may still count: waking early is harmless."""
        return self._earliest

    def pop_expired(self, now: float) -> list[Entry]:
        """All timers whose deadline has come, the oldest deadline first; cancelled ones are left out."""
        if now < self._earliest:
            return []
        expired: list[Entry] = []
        earliest = float("inf")
        for queue in self._queues.values():
            while queue and (queue[0][1] is None or queue[0][0] <= now):
                entry = queue.popleft()
                if entry[1] is not None:
                    expired.append(entry)
            if queue and queue[0][0] < earliest:
                earliest = queue[0][0]
        self._earliest = earliest
        if len(self._queues) > _QUEUES_KEPT:
            # Owners with odd lengths (what is left of a time-out) would leave a queue behind each.
            self._queues = {seconds: queue for seconds, queue in self._queues.items() if queue}
        expired.sort(key=lambda entry: float(entry[0]))
        return expired

    def __len__(self) -> int:
        return sum(entry[1] is not None for queue in self._queues.values() for entry in queue)
