"""What is watched of a call that contacts were told of: has anybody been reached, has anybody acknowledged it.

Pure: `at` is seconds since 1970. A watch begins with the first notice of a call. It ends when somebody has
acknowledged, when there is nobody left to be told, or when newer calls need its place.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router.notices.outbox import Key

UNTOLD_SECONDS = 20.0
"""Where nobody was reached for so long after the notices were queued, the other contacts are told."""
WATCHED_CALLS = 2_000
WATCHED_BYTES = 4 * 1024 * 1024
"""Journal lines of watched calls kept; beyond it the oldest watches end."""


KEEP_SECONDS = 4 * 3600.0
"""A watch ends so long after its call, unless somebody is still to be told by it: 911 may call back for hours."""
CONFIRM_SECONDS = 3600.0
"""So long it is looked for in the database whether somebody acknowledged by another node."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """One call (or what was folded under its id), as it was told."""

    call: str
    kind: str
    """Of the notice it was told by: `call`, `failed`, `folded-call` …"""
    site: str
    line: bytes
    """The journal line its notices are written from."""
    status: int = 0
    at: float = 0.0
    """When it was told first."""
    told: list[str] = field(default_factory=list)
    """Contacts, in their order."""
    deadlines: dict[str, float] = field(default_factory=dict)
    """When whoever comes after a contact is told, unless somebody acknowledges before."""
    waiting: set[Key] = field(default_factory=set)
    """Notices that have not been tried yet, or are being tried for the first time."""
    is_reached: bool = False
    """Somebody took a notice of it."""
    is_sent: bool = False
    """It went out by a channel that has no answer (a trap, syslog), which proves nothing."""
    has_failed: bool = False
    """A channel that answers did not take it, when it was tried first."""
    is_alarmed: bool = False
    """That nobody could be reached was told."""
    acknowledged_by: str = ""
    acknowledged_at: float = 0.0
    follows: bool = True
    """True for a call told by itself: what becomes of it is told too."""
    more: int = 0
    """Calls folded with it."""

    @property
    def is_open(self) -> bool:
        """True where somebody may still have to be told by it."""
        return bool(self.deadlines and not self.acknowledged_by) or not (self.is_reached or self.is_alarmed)

    def as_data(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "call": self.call,
            "kind": self.kind,
            "site": self.site,
            "line": self.line.decode(),
            "status": self.status,
            "at": self.at,
            "told": list(self.told),
            "deadlines": dict(self.deadlines),
            "waiting": sorted(self.waiting),
            "is_reached": self.is_reached,
            "is_sent": self.is_sent,
            "has_failed": self.has_failed,
            "is_alarmed": self.is_alarmed,
            "acknowledged_by": self.acknowledged_by,
            "acknowledged_at": self.acknowledged_at,
            "follows": self.follows,
            "more": self.more,
        }


def watch_from(data: Mapping[str, Any]) -> Watch:
    """The Watch that `as_data` gave. Raises KeyError, TypeError or ValueError where it is none."""
    waiting = {(call, kind, contact, channel) for call, kind, contact, channel in data["waiting"]}
    return Watch(**{**data, "line": data["line"].encode(), "waiting": waiting})


@dataclass(frozen=True, slots=True)
class Due:
    """A contact whose time to acknowledge is over; None where nobody was reached at all."""

    watch: Watch
    contact: str | None


class Watches:
    """All of them, newest last."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Watch] = OrderedDict()
        self._bytes = 0
        self._next = float("inf")
        """Before this time nothing is due."""
        self.confirmed: OrderedDict[str, str] = OrderedDict()
        """Calls acknowledged, by whom; also those that are watched no more."""
        self._changed: set[str] = set()
        self._kept: set[str] = set()
        """Calls whose watch the database has, or is to have."""
        self._elsewhere: set[str] = set()
        """Calls that another node watches now."""

    def __len__(self) -> int:
        return len(self._found)

    def get(self, call: str) -> Watch | None:
        """The watch of a call."""
        return self._found.get(call)

    def all(self) -> list[Watch]:
        """All, oldest first."""
        return list(self._found.values())

    def unconfirmed(self, at: float) -> list[str]:
        """Calls of the last hour, and those that others are still to be told of, that nobody has acknowledged; newest
        first."""
        return [
            call
            for call, watch in reversed(self._found.items())
            if not watch.acknowledged_by and (watch.deadlines or watch.at > at - CONFIRM_SECONDS)
        ]

    def take_changed(self) -> dict[str, Mapping[str, Any] | None]:
        """What other nodes must know, were this one to die, and did not know yet: watches with somebody still to be
        told, as data; None where nobody is any more."""
        found: dict[str, Mapping[str, Any] | None] = {}
        for call in self._changed:
            watch = self._found.get(call)
            if watch is not None and call not in self._elsewhere and watch.is_open:
                self._kept.add(call)
                found[call] = watch.as_data()
            elif call in self._kept:
                self._kept.discard(call)
                found[call] = None
        self._changed.clear()
        return found

    def take_over(self, watch: Watch) -> bool:
        """Watch a call in place of a node that died, or as this one did before it died. False: known already."""
        known = self._found.get(watch.call)
        if known is not None and watch.call not in self._elsewhere:
            return False
        if known is not None:  # whoever took it from us died as well
            del self._found[watch.call]
            self._bytes -= len(known.line)
        self._elsewhere.discard(watch.call)
        self._kept.add(watch.call)
        self.begin(watch)
        return True

    def leave(self, call: str) -> None:
        """Another node watches it now."""
        self._elsewhere.add(call)
        self._kept.discard(call)
        watch = self._found.get(call)
        if watch is not None:
            watch.deadlines.clear()
            watch.is_alarmed = True

    def shift(self, seconds: float) -> None:
        """The clock was set by so much: what was to come in a minute still comes in a minute."""
        for watch in self._found.values():
            watch.at += seconds
            watch.deadlines = {contact: deadline + seconds for contact, deadline in watch.deadlines.items()}
            self._changed.add(watch.call)
        self._next = 0.0

    def expire(self, at: float) -> None:
        """End what is old."""
        for call, watch in list(self._found.items()):
            if watch.at > at - KEEP_SECONDS:
                return
            if watch.acknowledged_by or not watch.deadlines:
                del self._found[call]
                self._bytes -= len(watch.line)
                self._changed.add(call)

    def begin(self, watch: Watch) -> Watch:
        """Take a watch in; one that is there already stays, and is given back."""
        known = self._found.get(watch.call)
        if known is not None:
            return known
        by = self.confirmed.get(watch.call)
        if by is not None:
            watch.acknowledged_by = by
        if watch.call in self._elsewhere:
            watch.is_alarmed = True
        self._found[watch.call] = watch
        self._changed.add(watch.call)
        self._bytes += len(watch.line)
        self._next = 0.0
        while len(self._found) > WATCHED_CALLS or self._bytes > WATCHED_BYTES:
            call, old = self._found.popitem(last=False)
            self._bytes -= len(old.line)
            self._changed.add(call)
        return watch

    def tell(self, watch: Watch, contact: str, keys: Iterable[Key], deadline: float | None) -> None:
        """A contact is being told of it, by these notices."""
        if contact not in watch.told:
            watch.told.append(contact)
        if deadline is not None and watch.call not in self._elsewhere:
            watch.deadlines.setdefault(contact, deadline)
        if not watch.is_reached:
            watch.waiting.update(keys)
        self._changed.add(watch.call)
        self._next = 0.0

    def settled(self, key: Key, *, delivered: bool, is_answered: bool = True) -> None:
        """A notice was tried. is_answered: by a channel whose receiver says whether it took it."""
        watch = self._found.get(key[0])
        if watch is None or watch.is_reached:
            return
        self._changed.add(watch.call)
        if delivered and is_answered:
            watch.is_reached = True
            watch.waiting.clear()
        elif key in watch.waiting:
            watch.waiting.discard(key)
            watch.is_sent = watch.is_sent or delivered
            watch.has_failed = watch.has_failed or not delivered
            if watch.is_sent and not watch.has_failed and not watch.waiting:
                watch.is_reached = True  # as far as anybody can know: none of these channels answers
            elif not watch.waiting:
                self._next = 0.0

    def acknowledge(self, calls: Sequence[str], by: str, at: float) -> bool:
        """Somebody has acknowledged these. False where all of them were already."""
        is_new = False
        for call in calls:
            is_new = is_new or call not in self.confirmed
            self.confirmed.setdefault(call, by)
            while len(self.confirmed) > WATCHED_CALLS:
                self.confirmed.popitem(last=False)
            watch = self._found.get(call)
            if watch is not None and not watch.acknowledged_by:
                watch.acknowledged_by, watch.acknowledged_at = by or "somebody", at
                watch.deadlines.clear()
                self._changed.add(call)
        return is_new

    def due(self, at: float) -> list[Due]:
        """What has run out by now; each once."""
        if at < self._next:
            return []
        found: list[Due] = []
        self._next = float("inf")
        for watch in self._found.values():
            if not watch.is_reached and not watch.is_alarmed:
                late = watch.at + UNTOLD_SECONDS
                if not watch.waiting or at >= late:
                    watch.is_alarmed = True
                    self._changed.add(watch.call)
                    found.append(Due(watch, None))
                else:
                    self._next = min(self._next, late)
            if watch.acknowledged_by:
                continue
            for contact, deadline in list(watch.deadlines.items()):
                if at >= deadline:
                    del watch.deadlines[contact]
                    self._changed.add(watch.call)
                    found.append(Due(watch, contact))
                else:
                    self._next = min(self._next, deadline)
        return found


def next_contacts(
    contact: str, *, wanted: Sequence[str], order: Sequence[str], everybody: Iterable[str]
) -> list[str]:
    """Who is told when a contact has not acknowledged: those that it names, else the next in the site's order (round
    and round), else everybody else, else the same contact again."""
    if wanted:
        return list(wanted)
    if contact in order and len(order) > 1:
        return [order[(order.index(contact) + 1) % len(order)]]
    others = [name for name in order if name != contact] or [name for name in everybody if name != contact]
    return others or [contact]
