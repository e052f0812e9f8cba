"""How often something may be tried: a bucket of tokens for each address, user or API token, refilled with time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_BUCKETS = 50_000
"""So many are kept; the one used longest ago goes first."""


class Rate:
    """`burst` tries at once, then one in each `seconds`. For many threads."""

    def __init__(self, burst: float, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.burst = burst
        self.seconds = seconds
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tries that are left, and when that was true."""
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Use up one try: 0 where there was one, else how many seconds until there is."""
        with self._lock:
            left = self._left(key)
            if left < 1:
                return (1 - left) * self.seconds
            self._put(key, left - 1)
            return 0.0

    def wait(self, key: str) -> float:
        """How many seconds until there is a try; 0 where there is one. Uses none up."""
        with self._lock:
            return max(0.0, (1 - self._left(key)) * self.seconds)

    def forget(self, key: str) -> None:
        """All tries are there again."""
        with self._lock:
            self._buckets.pop(key, None)

    def _left(self, key: str) -> float:
        left, since = self._buckets.get(key, (self.burst, self._clock()))
        return min(self.burst, left + (self._clock() - since) / self.seconds)

    def _put(self, key: str, left: float) -> None:
        self._buckets[key] = (left, self._clock())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)


class Gathered:
    """What is written down one by one while it is seldom, and gathered where it is not: of each key the first
    `burst`, then one in each `seconds`, which stands for all since; `limit` bounds those of all keys together.

    For many threads."""

    def __init__(self, each: Rate, limit: Rate) -> None:
        self._each = each
        self._limit = limit
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, key: str) -> int:
        """Count one more. How many are to be written down as one now; 0 where this one waits."""
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            if not self._each.wait(key) and not self._limit.take("") and not self._each.take(key):
                return count
            self._counts[key] = count
            if len(self._counts) > MOST_BUCKETS:
                self._counts.popitem(last=False)
        return 0


class Rates:
    """The limits of a console; `api_per_minute` is the configuration's."""

    def __init__(self, api_per_minute: float = 600) -> None:
        self.login = Rate(10, 12)
        """Failed logins of one user from one address, or in one browser that the user has logged in with before."""
        self.login_address = Rate(100, 2)
        """Failed logins from one address, whoever's, in browsers not known: many desks may stand behind it."""
        self.self_service = Rate(20, 3)
        """Links for users, opened or sent from one address."""
        self.login_user = Rate(100, 6)
        """Failed logins of one user from wherever, in browsers not known: many addresses guess together."""
        self.failed_logins = Gathered(Rate(3, 600), Rate(200, 30))
        """Rows of the audit trail about failed logins, by user and address: who guesses must not fill the disk."""
        self.bad_token = Rate(20, 3)
        """Requests with a token that opens nothing, from one address."""
        self.bad_link = Rate(20, 3)
        """Links of notices that nobody signed, from one address."""
        self.api = Rate(max(1.0, api_per_minute), 60 / api_per_minute)
        """Requests of one token, and of one address."""
        self.contact_test = Rate(5, 10)
        """Test notices, by user."""
        self.evidence = Rate(10, 6)
        """Reports, by user."""
        self.upload = Rate(10, 6)
        """Plan images and files of rows, by user."""
