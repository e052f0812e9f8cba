"""Test calls that are under way: several at a time, so that a thousand sites are done in a night, and few by one
trunk, so that the provider's channels are there for real calls."""

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

AT_ONCE = 8
"""Test calls at the same time, by whatever trunks: each listens to a stream of packets."""


class Several:
    """Each in a thread of its own; those who begin them are one thread."""

    def __init__(self, ended: Callable[[], None] = lambda: None) -> None:
        """ended: called in its thread each time that one has ended."""
        self._ended = ended
        self._changed = threading.Condition()
        self._by_trunk: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are under way."""
        with self._changed:
            return self._by_trunk.total()

    def has_room(self, trunk: str, limit: int) -> bool:
        """True where one more may begin by this trunk; limit: how many at a time it may carry."""
        with self._changed:
            return self._by_trunk.total() < AT_ONCE and self._by_trunk[trunk] < limit

    def begin(self, trunk: str, place: Callable[[], object]) -> None:
        """Begin one; `place` returns when it has ended, and raises nothing."""
        with self._changed:
            self._by_trunk[trunk] += 1
        threading.Thread(target=partial(self._run, trunk, place), name="self-test", daemon=True).start()

    def wait(self, is_enough: Callable[[], bool]) -> None:
        """Until something holds that the end of a test may bring about."""
        with self._changed:
            self._changed.wait_for(is_enough)

    def _run(self, trunk: str, place: Callable[[], object]) -> None:
        try:
            place()
        finally:
            with self._changed:
                self._by_trunk[trunk] -= 1
                self._changed.notify_all()
            self._ended()
