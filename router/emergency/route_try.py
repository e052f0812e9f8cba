"""One route of the ladder being tried: the places its trunk may be reached at, and how the route's time is shared.

A trunk with several targets or a name with several servers is one route, with one `timeout` and `progress_timeout`
for all of them together, so that the worst case stays what `edge911 explain` says:

- a place that refuses the connection, is unreachable or answers 503 (RFC 3263 section 4.3) gives way at once;
- a silent one gives way after its share: what is left of `timeout`, divided by the places left, but never less than
  LEAST_SHARE; with many places and a short timeout the last ones are tried only where earlier ones fail at once;
- one that is known to be down takes no share: it comes last, and gets what is left;
- one that says 100 has the call for the whole `progress_timeout`; the next route comes after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from router.emergency.call_routes import RouteStep
from router.network.trunks import Hop

LEAST_SHARE = 0.5
"""T1 (RFC 3261 section 17.1.1.1): an INVITE by UDP is sent once more within the least share; seconds."""
_NOTHING = 0.05
"""Less time than this is none; seconds."""


@dataclass(slots=True)
class RouteTry:
    """A route in progress. started: the loop's time at which its first INVITE left, or its TCP was asked for."""

    step: RouteStep
    index: int
    """Its place in the ladder as configured."""
    hops: Sequence[Hop]
    started: float
    taken: int = 0
    """How many of the hops were tried."""
    attempts: int = 0
    """How many INVITEs were made for it."""
    is_named: bool = False
    """True once DNS was asked for those of its names that had no address."""
    mark: bytes = b""
    """What tells it from an earlier try of the same route, in the derived branch."""

    def take(self, now: float) -> tuple[Hop, float, float] | None:
        """The next hop with its seconds to a first answer and to progress; None where none is left, or no time."""
        if self.taken >= len(self.hops):
            return None
        if len(self.hops) == 1:
            left = 1
            if now == self.started:  # nearly always: one place, which has all of the route's time
                self.taken = 1
                return self.hops[0], *_in_hundredths(self.step.timeout, self.step.progress_timeout)
        else:
            left = sum(not hop.is_down for hop in self.hops[self.taken :]) or 1
        until_answer = self.started + self.step.timeout - now
        progress = self.step.progress_timeout
        if until_answer < _NOTHING and self.taken:
            # An earlier hop said 100, and 503 afterwards: what it left of the route's time is for the others.
            until_answer = until_answer + progress
            if until_answer < LEAST_SHARE:
                return None
            share = max(until_answer / (left + 1), LEAST_SHARE)
            progress = max(until_answer - share, _NOTHING)
        else:
            share = min(max(until_answer / left, LEAST_SHARE), until_answer)
        hop = self.hops[self.taken]
        self.taken += 1
        return hop, *_in_hundredths(share, progress)

    def again(self, now: float) -> tuple[float, float]:
        """The seconds to a first answer and to progress of another INVITE to the hop that has just answered: what is
        left of the route's, but at least time for an answer."""
        left = self.started + self.step.timeout + self.step.progress_timeout - now
        share = max(self.started + self.step.timeout - now, LEAST_SHARE)
        return round(share, 2), round(max(min(left - share, self.step.progress_timeout), LEAST_SHARE), 2)

    def give_back(self) -> None:
        """The hop taken last was not tried after all."""
        self.taken -= 1

    def label(self, hop: Hop, mark: bytes = b"") -> bytes:
        """What names route, hop and kind of attempt in the derived branch."""
        place = b"h%d" % hop.position if hop.position else b""
        return b"%d%b%b%b" % (self.index, place, self.mark, mark)


@lru_cache(maxsize=256)
def _in_hundredths(answer: float, progress: float) -> tuple[float, float]:
    """Seconds to a first answer and to progress, in hundredths: timers of equal length share a queue."""
    return max(_NOTHING, round(answer, 2)), max(_NOTHING, round(progress, 2))
