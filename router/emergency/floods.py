"""Floods of 911 calls: one device, or one address, that calls again and again. Seen and said, never stopped here."""

from collections import OrderedDict

WINDOW = 60.0
"""Seconds over which calls are counted."""
SAID_AGAIN = 600.0
"""Seconds after which a flood that goes on is said again."""
KEPT = 20_000
"""Callers that are remembered; those that called longest ago go first."""


class Floods:
    """Counts the 911 calls of each caller."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, list[float]] = OrderedDict()
        self._said: dict[str, float] = {}

    def is_news(self, who: str, most: int, now: float) -> bool:
        """Count one call of a caller; True where it is one too many in a minute, and that was not said lately.

        most: calls a minute that are no flood yet; 0 counts nothing. now: seconds.
        """
        if not most:
            return False
        calls = self._calls.pop(who, None)
        if calls is None:
            calls = []
            if len(self._calls) >= KEPT:
                self._calls.popitem(last=False)
        self._calls[who] = calls
        calls.append(now)
        if len(calls) <= most:
            return False
        first = calls.pop(0)
        if now - first > WINDOW or now - self._said.get(who, -SAID_AGAIN) < SAID_AGAIN:
            return False
        if len(self._said) >= KEPT:
            self._said.clear()
        self._said[who] = now
        return True
