"""The outbox: which notice goes to whom, when it is tried again, and when a storm is folded into one.

Pure: time is a number. `now` is monotonic seconds and decides what is due; `at` is seconds since 1970 and is
what people read. Nothing here sends, stores or reads a clock; router.notices does.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Generic, TypeVar

BACK_OFF = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds from a failed attempt to the next; after the last, every RETRY_SECONDS."""
RETRY_SECONDS = 60.0
PERMANENT_RETRY_SECONDS = 300.0
"""Between attempts where the receiver said no for good: somebody may mend the address meanwhile."""
GIVE_UP_SECONDS = 24 * 3600.0
GIVE_UP_ATTEMPTS = 200
"""Given up only after this many attempts too, so that a clock set wrong gives up nothing."""
STORM_LIMIT = 20
STORM_SECONDS = 10.0
SEEN_LIMIT = 50_000
"""Who was told what is remembered of the last so many, half of them at the least."""
FOLDED_CALLS_LIMIT = 200_000
"""Calls of folds kept in memory while the database cannot be written; the oldest folds are dropped beyond it."""

Key = tuple[str, str, str, int]
"""Call record id, notice kind, contact, index of the channel among the contact's `send`."""
Told = tuple[str, str, str]
"""Call record id, notice kind, contact: who is told what."""
Group = tuple[str, str, str]
"""Contact, site and notice kind: what is folded together."""
_Item = TypeVar("_Item")


class NoticeState(StrEnum):
    """Where a notice stands."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """Given up, or a channel that cannot be used at all; `reason` says which."""
    SKIPPED = "skipped"
    """Not told, because the contact does not want it; `reason` says why."""
    FOLDED = "folded"
    """Told in the notice of another call (`folded_into`), with the count."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One notice to one channel of one contact."""

    call: str
    kind: str
    contact: str
    channel: int
    site: str = ""
    state: NoticeState = NoticeState.QUEUED
    attempts: int = 0
    queued_at: float = 0.0
    next_attempt_at: float | None = None
    first_attempt_at: float | None = None
    last_attempt_at: float | None = None
    reason: str = ""
    words: str = ""
    """What the receiver said, as far as it is known."""
    folded_into: str = ""
    subject: str = ""
    body: str = ""
    target: str = ""
    """Id of the channel (router.notices.channel_identity), wherever it stands in the list later; empty: unknown."""

    @property
    def key(self) -> Key:
        """What makes it this notice and no other."""
        return self.call, self.kind, self.contact, self.channel

    def as_row(self) -> dict[str, Any]:
        """Every field by name: a row of the store, a line of the notice log."""
        row = {name: getattr(self, name) for name in _ENTRY_FIELDS}
        row["state"] = self.state.value
        return row

    @property
    def is_settled(self) -> bool:
        """True where nothing more will be tried."""
        return self.state is not NoticeState.QUEUED


_ENTRY_FIELDS = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The calls that one contact was told of in one notice: that of `call`, of the kind `folded-` and `kind`."""

    call: str
    kind: str
    contact: str
    site: str
    at: float
    """When they were folded, seconds since 1970."""
    calls: tuple[str, ...]
    """Record ids of all of them, the first one's too."""

    @property
    def key(self) -> Told:
        """What makes it this fold and no other."""
        return self.call, self.kind, self.contact


def entry_from(data: dict[str, Any]) -> Entry:
    """The Entry that `as_row` gave. Raises TypeError or ValueError where it is none."""
    return Entry(**{**data, "state": NoticeState(data["state"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one attempt to deliver."""

    delivered: bool
    permanent: bool = False
    """The receiver said no for good (an SMTP 5xx, an HTTP 4xx); tried again all the same, but slower."""
    unusable: bool = False
    """No attempt can ever help: there is no such channel."""
    partly: bool = False
    """Some of the receivers behind the URL have it; only the others are tried again."""
    reason: str = ""
    words: str = ""


def delay_after(attempts: int, *, permanent: bool = False) -> float:
    """Seconds to wait after the `attempts`th attempt failed."""
    delay = BACK_OFF[attempts - 1] if 0 < attempts <= len(BACK_OFF) else RETRY_SECONDS
    if permanent and attempts > len(BACK_OFF):
        return PERMANENT_RETRY_SECONDS
    return delay


class Outbox:
    """All notices that are not yet both settled and stored, in memory.

    `unstored` holds the keys of entries changed since they were last taken for storing, `folds` what was folded
    and is not stored yet.
    """

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.unstored: set[Key] = set()
        self.in_flight: set[Key] = set()
        self.queued = 0
        self.folds: dict[Told, Fold] = {}
        self._due: list[tuple[float, int, Key]] = []
        self._turn = 0
        self._elsewhere: set[Key] = set()
        # The older half is forgotten at once: cheaper than the oldest one at each turn.
        self._seen: dict[Told, None] = {}
        self._seen_before: dict[Told, None] = {}

    def is_new(self, call: str, kind: str, contact: str) -> bool:
        """False where this contact was already told this of this call; remembers that it is being told."""
        subject = (call, kind, contact)
        if subject in self._seen or subject in self._seen_before:
            return False
        self._seen[subject] = None
        if len(self._seen) >= SEEN_LIMIT // 2:
            self._seen_before, self._seen = self._seen, {}
        return True

    def was_told(self, call: str, kind: str, contact: str) -> bool:
        """True where this contact was told this of this call already."""
        subject = (call, kind, contact)
        return subject in self._seen or subject in self._seen_before

    def seen(self) -> list[Told]:
        """Who was told what of which call, oldest first."""
        return [*self._seen_before, *self._seen]

    def add(self, entry: Entry, now: float) -> None:
        """Take an entry in; a queued one is due at once. One that is there already stays as it is."""
        if entry.key in self.entries or entry.key in self._elsewhere:
            return
        self.entries[entry.key] = entry
        self.unstored.add(entry.key)
        if not entry.is_settled:
            self.queued += 1
            self._schedule(entry.key, now)

    def forget(self, key: Key) -> None:
        """Somebody else tells this one; it is not taken in again."""
        self._elsewhere.add(key)
        entry = self.entries.pop(key, None)
        self.unstored.discard(key)
        if entry is not None and not entry.is_settled:
            self.queued -= 1

    def take_back(self, key: Key) -> bool:
        """Whoever told this one in our place tells it no more. False where nobody did."""
        if key not in self._elsewhere:
            return False
        self._elsewhere.discard(key)
        return True

    def due(self, now: float) -> list[Entry]:
        """Entries to be tried now; they are in flight until `settle`."""
        found: list[Entry] = []
        while self._due and self._due[0][0] <= now:
            _, _, key = heapq.heappop(self._due)
            entry = self.entries.get(key)
            if entry is not None and not entry.is_settled and key not in self.in_flight:
                self.in_flight.add(key)
                found.append(entry)
        return found

    def next_due(self) -> float | None:
        """When the next entry is due; None where none is scheduled."""
        return self._due[0][0] if self._due else None

    def settle(
        self,
        key: Key,
        attempt: Attempt,
        *,
        now: float,
        at: float,
        started_at: float,
        not_before: float = 0.0,
    ) -> Entry | None:
        """Write down what came of an attempt and schedule the next, at `not_before` (as `now`) or later.

        None where it was settled already.
        """
        self.in_flight.discard(key)
        entry = self.entries.get(key)
        if entry is None or entry.is_settled:
            return None
        entry.attempts += 1
        if entry.first_attempt_at is None:
            entry.first_attempt_at = started_at
        entry.last_attempt_at = started_at
        entry.reason, entry.words = attempt.reason, attempt.words
        entry.next_attempt_at = None
        if attempt.delivered:
            entry.state = NoticeState.DELIVERED
        elif attempt.unusable or _is_time_to_give_up(entry, at):
            entry.state = NoticeState.REFUSED
            entry.reason = attempt.reason or "given-up"
        else:
            delay = delay_after(entry.attempts, permanent=attempt.permanent)
            delay = max(delay, not_before - now)
            entry.next_attempt_at = at + delay
            self._schedule(key, now + delay)
        if entry.next_attempt_at is None:
            self.queued -= 1
        self.unstored.add(key)
        return entry

    def mark_stored(self, stored: Iterable[dict[str, Any]]) -> None:
        """Those rows of `take_rows` are stored; settled entries that have not changed since are forgotten."""
        for row in stored:
            key = (row["call"], row["kind"], row["contact"], row["channel"])
            entry = self.entries.get(key)
            if entry is None or not entry.is_settled:
                continue
            if entry.attempts == row["attempts"] and entry.state == row["state"]:
                del self.entries[key]
                self.unstored.discard(key)

    def take_rows(self) -> list[dict[str, Any]]:
        """The entries changed since the last time, as rows for the store."""
        rows = [self.entries[key].as_row() for key in self.unstored if key in self.entries]
        self.unstored.clear()
        return rows

    def drop_settled(self, keep: int) -> list[Key]:
        """Forget settled entries beyond the newest `keep` although they are not stored; gives their keys."""
        settled = [key for key, entry in self.entries.items() if entry.is_settled]
        dropped = settled[: max(len(settled) - keep, 0)]
        for key in dropped:
            del self.entries[key]
            self.unstored.discard(key)
        return dropped

    def mark_folds_stored(self, stored: Iterable[Fold]) -> None:
        """Those folds are stored, and are forgotten."""
        for fold in stored:
            self.folds.pop(fold.key, None)

    def drop_folds(self, keep: int = FOLDED_CALLS_LIMIT) -> list[Fold]:
        """Forget the oldest folds, although they are not stored, until those left are of `keep` calls at the most."""
        left = sum(len(fold.calls) for fold in self.folds.values())
        dropped: list[Fold] = []
        for fold in list(self.folds.values()):
            if left <= keep:
                break
            left -= len(fold.calls)
            dropped.append(self.folds.pop(fold.key))
        return dropped

    def oldest_queued_at(self) -> float | None:
        """When the oldest notice that still waits was queued (seconds since 1970)."""
        return min((entry.queued_at for entry in self.entries.values() if not entry.is_settled), default=None)

    def retry_now(self, now: float) -> int:
        """Make everything queued and not in flight due at once; how many that are."""
        waiting = [key for key, entry in self.entries.items() if not entry.is_settled and key not in self.in_flight]
        self._due.clear()
        for key in waiting:
            self._schedule(key, now)
        return len(waiting)

    def _schedule(self, key: Key, when: float) -> None:
        self._turn += 1
        heapq.heappush(self._due, (when, self._turn, key))


def _is_time_to_give_up(entry: Entry, at: float) -> bool:
    first = entry.first_attempt_at
    return first is not None and at - first >= GIVE_UP_SECONDS and entry.attempts >= GIVE_UP_ATTEMPTS


@dataclass(slots=True)
class _Flow(Generic[_Item]):
    """What one group was sent lately, and what is being gathered for it."""

    sent: deque[float] = field(default_factory=lambda: deque(maxlen=STORM_LIMIT))
    gathered: list[_Item] = field(default_factory=list)
    ends: float | None = None
    """When what is gathered goes out; None where nothing is being gathered."""
    latest: float = 0.0


class StormGate(Generic[_Item]):
    """Decides which notices go out by themselves and which are gathered into one.

    After STORM_LIMIT notices of a group within STORM_SECONDS, further ones are gathered until those seconds
    are over. If more than STORM_LIMIT were gathered and they were still coming, the storm lasts: the next
    STORM_SECONDS are gathered from their beginning.
    """

    def __init__(self) -> None:
        self._flows: dict[Group, _Flow[_Item]] = {}

    def count(self, group: Group) -> int:
        """How many of a group are being gathered."""
        flow = self._flows.get(group)
        return len(flow.gathered) if flow is not None else 0

    def offer(self, group: Group, item: _Item, now: float) -> bool:
        """True where it goes out by itself; False where it was gathered."""
        flow = self._flows.get(group)
        if flow is None:
            flow = self._flows[group] = _Flow()
        flow.latest = now
        if flow.ends is not None:
            flow.gathered.append(item)
            return False
        if len(flow.sent) == STORM_LIMIT and flow.sent[0] > now - STORM_SECONDS:
            flow.ends = flow.sent[0] + STORM_SECONDS
            flow.gathered.append(item)
            return False
        flow.sent.append(now)
        return True

    def ended(self, now: float) -> list[tuple[Group, list[_Item]]]:
        """What was gathered in windows that are over, by group."""
        over: list[tuple[Group, list[_Item]]] = []
        for group, flow in list(self._flows.items()):
            if flow.ends is None:
                if flow.latest <= now - STORM_SECONDS:
                    del self._flows[group]
                continue
            if flow.ends > now:
                continue
            gathered, ended = flow.gathered, flow.ends
            lasts = len(gathered) > STORM_LIMIT and flow.latest > ended - STORM_SECONDS / 4
            flow.gathered, flow.ends = [], (ended + STORM_SECONDS if lasts else None)
            flow.sent.clear()
            if flow.ends is None:
                # The folded notice counts as one sent.
                flow.sent.append(now)
            if gathered:
                over.append((group, gathered))
        return over

    def next_end(self) -> float | None:
        """When the next window is over; None where nothing is gathered."""
        return min((flow.ends for flow in self._flows.values() if flow.ends is not None), default=None)

    def gathered(self) -> list[tuple[Group, list[_Item]]]:
        """What is being gathered and has not been told yet."""
        return [(group, flow.gathered) for group, flow in self._flows.items() if flow.gathered]

    def release(self) -> list[tuple[Group, list[_Item]]]:
        """Everything gathered, now: the process is about to end."""
        found = self.gathered()
        self._flows.clear()
        return found
