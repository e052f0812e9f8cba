"""Limits: how fast one source may send, and how much there may be of anything. What nears its limit is said before.

None of them ever stops an emergency call from inside: asked for new ordinary requests only (router.calls.admission).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

MOST_TRANSACTIONS = 500_000
"""Server transactions beyond which new ordinary requests are refused: 32 s of 8,000 calls a second; some 500 MB."""
NEAR = 0.8
"""Of a limit: from here on it is an alarm."""
SAID_AGAIN = 60.0
SOURCES_KEPT = 20_000
BURST_SECONDS = 2.0
"""A source that was quiet may send so many seconds' worth at once."""
STRANGERS_ANSWERED = 20
"""Refusals a second that one address in no listed network hears; beyond, its requests are dropped unanswered."""
STRANGERS_IN_ALL = 200
"""The same for all of them together: answers that go to forged addresses hit somebody."""


class Rates:
    """How many requests a second each source may send. Token buckets; the time is a parameter, seconds."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._buckets: dict[str, list[float]] = {}

    def allows(self, source: str, now: float) -> bool:
        """True where one more is within the rate; counts it."""
        full = max(1.0, self.per_second * BURST_SECONDS)
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= SOURCES_KEPT:
                self._buckets.clear()  # whoever floods is found again within a second
            bucket = self._buckets[source] = [full, now]
        bucket[0] = min(full, bucket[0] + (now - bucket[1]) * self.per_second)
        bucket[1] = now
        if bucket[0] < 1.0:
            return False
        bucket[0] -= 1.0
        return True


class Strangers:
    """Which refusals of strangers are answered."""

    def __init__(self) -> None:
        self._each = Rates(STRANGERS_ANSWERED)
        self._all = Rates(STRANGERS_IN_ALL)

    def hears(self, host: str, now: float) -> bool:
        """True where this refusal is to be answered."""
        return self._each.allows(host, now) and self._all.allows("", now)


@dataclass(slots=True)
class Limit:
    """Something that may not grow above `most`; used reads what there is now."""

    name: str
    most: int
    used: Callable[[], int]
    said_at: float = field(default=-SAID_AGAIN)

    @property
    def share(self) -> float:
        """How much of it is used, 0 to 1 (and above)."""
        return self.used() / self.most


def warn_of_sizes(near: Mapping[str, int], said: dict[str, int]) -> None:
    """Say which sizes of messages came near their limit since the last time; called once a minute.

    said: what was told before, by name.
    """
    for name, count in near.items():
        if count > said.get(name, 0):
            log.warning("limit-near: %s: %d messages so far", name, count)
            said[name] = count


def warn(limits: Sequence[Limit], now: float) -> None:
    """Say which limits are near; called each second."""
    for limit in limits:
        if limit.share >= NEAR and now - limit.said_at >= SAID_AGAIN:
            limit.said_at = now
            log.warning("limit-near: %s: %d of %d", limit.name, limit.used(), limit.most)
