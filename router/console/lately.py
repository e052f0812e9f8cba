"""Logins and tokens that the database knew a short while ago, so that a call can be acknowledged while it is away."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

KEPT_SECONDS = 600.0
"""How long one counts that cannot be looked up. An open live page is looked up every minute."""
MOST_KEPT = 5_000

Known = TypeVar("Known")


class Lately(Generic[Known]):
    """What the database said last of a secret, by its hash. For many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Known]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, secret: str, known: Known | None) -> None:
        """The database has just said so; None: it opens nothing (any more)."""
        with self._lock:
            self._known.pop(_hash(secret), None)
            if known is not None:
                self._known[_hash(secret)] = (self._clock(), known)
                while len(self._known) > MOST_KEPT:
                    self._known.popitem(last=False)

    def find(self, secret: str) -> Known | None:
        """What the database said within KEPT_SECONDS."""
        with self._lock:
            at, known = self._known.get(_hash(secret), (0.0, None))
            return known if known is not None and self._clock() - at < KEPT_SECONDS else None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
