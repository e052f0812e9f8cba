"""What happens to 911 calls, for those who watch: from this node's journal at once, from the database for the rest.

A thread reads while somebody watches, and rests otherwise. For each watcher the newest state of the calls that it was
not told yet is kept: one who reads slowly misses steps between, never how a call stands. What is told is written once
for all watchers.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter

import orjson
from sqlalchemy import Connection

from router.calls.call_state import read_state
from router.console.settings import Console
from router.journal.event_lines import decode_event
from router.journal.segments import Cursor, LineReader
from router.records.live_calls import MOST_CALLS, MOST_OF_SITE, LiveCall, LiveCalls
from router.store.confirmations import confirmations_of
from router.store.errors import StoreError
from router.store.records import call_events, latest_of_each_site, list_calls, read_cursor
from router.store.users import sites_of_sessions

JOURNAL_SECONDS = 0.05
DATABASE_SECONDS = 0.5
LOGINS_SECONDS = 1.0
"""So often it is looked whether the logins of those who watch still count."""
ROUTER_SECONDS = 1.0
"""So often it is looked whether the call process says that it lives."""
ROUTER_SILENT_SECONDS = 10.0
"""It says so every two seconds, and may have much to do."""
DATABASE_AGAIN_SECONDS = 5.0
"""How soon a database that failed is asked again."""
SHOWN_SECONDS = 12 * 3600.0
"""Calls of the last so many seconds are shown."""
FIRST_CALLS = 100
"""So many of the latest the database is asked for each time; in a storm more."""
LINES_AT_ONCE = 5000
MOST_WATCHERS = 1000
"""Pages that watch at the same time; further ones are told to come again later."""
MOST_WAITING = 2 * MOST_CALLS
"""Calls whose state waits for one watcher; with more than are shown anywhere, it begins anew."""

log = logging.getLogger("router.console")


@dataclass(frozen=True, slots=True)
class Change:
    """Something to tell watchers, as an event of the stream."""

    call: str
    """Record id; empty: all calls, which makes what was not told before of no use."""
    event: bytes


class TooManyWatchersError(Exception):
    """Nobody else can watch now."""


@dataclass(eq=False, slots=True)
class Watcher:
    """One open page. `put` and `take` are for its loop alone."""

    loop: asyncio.AbstractEventLoop
    sites: tuple[str, ...] | None
    """Whose calls it sees; None: everybody's."""
    token: str = ""
    """Of the login with which it watches."""
    _waiting: dict[str, bytes] = field(default_factory=dict)
    _bell: asyncio.Event = field(default_factory=asyncio.Event)
    _is_behind: bool = False

    def sees(self, call: LiveCall) -> bool:
        """True where the call is of a site of theirs."""
        return self.sites is None or call.site in self.sites

    def put(self, changes: Sequence[Change]) -> None:
        """What to tell the page."""
        for change in changes:
            if not change.call:
                self._waiting.clear()
            self._waiting[change.call] = change.event
        if len(self._waiting) > MOST_WAITING:
            self._waiting.clear()
            self._is_behind = True
        self._bell.set()

    def begin_anew(self) -> None:
        """Have it look at its login, and come again."""
        self._is_behind = True
        self._bell.set()

    async def take(self) -> bytes | None:
        """The events since the last time, as soon as there is one; None where it must begin anew."""
        await self._bell.wait()
        if self._is_behind:
            return None
        events = b"".join(self._waiting.values())
        self._waiting.clear()
        self._bell.clear()
        return events


class LiveFeed:
    """One per console process."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._watchers: set[Watcher] = set()
        self._calls = LiveCalls()
        self._thread: threading.Thread | None = None
        self._is_loaded = False
        """The thread has the calls of the last hours; who begins to watch before is told when it has."""
        self._known: dict[str, tuple[object, ...]] = {}
        """What the database said last of a call, by its id; the thread's."""
        self._written: dict[str, bytes] = {}
        """Each call as it stands, in JSON."""
        self._whole: dict[tuple[str, ...] | None, Change] = {}
        """All calls of some sites, where somebody asked since the last change."""
        self._database_at = 0.0
        self._logins_at = 0.0
        self._router_at = 0.0
        self.is_router_heard = True
        """False where the call process does not say that it lives: an empty page then means nothing."""

    def has_room(self, token: str) -> bool:
        """True where one more page of this login can watch now."""
        with self._lock:
            return len(self._watchers) < MOST_WATCHERS or self._one_too_many(token) is not None

    def _one_too_many(self, token: str) -> Watcher | None:
        """Of the login that watches with most pages, where it has more than this one would have: one of them."""
        pages = Counter(watcher.token for watcher in self._watchers)
        most, count = max(pages.items(), key=itemgetter(1))
        if count <= pages[token] + 1:
            return None
        return next(watcher for watcher in self._watchers if watcher.token == most)

    def watch(self, loop: asyncio.AbstractEventLoop, sites: tuple[str, ...] | None, token: str = "") -> Watcher:
        """Begin to watch. Waits for nothing: it is told the calls as they are. Raises TooManyWatchersError."""
        watcher = Watcher(loop, sites, token)
        with self._lock:
            if len(self._watchers) >= MOST_WATCHERS:
                other = self._one_too_many(token)
                if other is None:
                    raise TooManyWatchersError
                self._watchers.discard(other)
                with suppress(RuntimeError):  # the loop is closed: the console ends
                    other.loop.call_soon_threadsafe(other.begin_anew)
            self._watchers.add(watcher)
            if self._thread is None:
                self._is_loaded = False
                self._thread = threading.Thread(target=self._run, daemon=True, name="live")
                self._thread.start()
            elif self._is_loaded:
                self._tell_all([watcher])
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Watch no more."""
        with self._lock:
            self._watchers.discard(watcher)

    def get(self, call: str) -> LiveCall | None:
        """A call that is watched."""
        with self._lock:
            return self._calls.get(call)

    def acknowledged(self, calls: Sequence[str], by: str, at: float) -> None:
        """Somebody here has said so of these: shown at once."""
        with self._lock:
            changed = (self._calls.acknowledge(call, by, at) for call in calls)
            self._tell([call for call in changed if call is not None])

    def _load(self, reader: LineReader) -> Cursor:
        """Take up the calls of the last hours; from where on the journal tells more."""
        self._known = {}
        events: list[object] = []
        end = reader.end()
        cursor = Cursor(end.segment, 0)
        try:
            with self._console.store.reading() as conn:
                events = self._look(conn, MOST_CALLS, of_each_site=MOST_OF_SITE)
                stored = read_cursor(conn, self._console.config.node)
            # Never from the very beginning of a long journal that no database has: only what is new is shown then.
            if end.segment - stored.segment <= 1:
                cursor = stored
        except StoreError as error:
            self._do_without(error)
        calls = LiveCalls()
        calls.apply_all(events)
        with self._lock:
            for before in self._calls.all():
                if before.acknowledged_at is not None:
                    calls.acknowledge(before.id, before.acknowledged_by, before.acknowledged_at)
            self._calls = calls
            self._is_loaded = True
            self._written.clear()
            self._whole.clear()
            self._tell_all(list(self._watchers))
        return cursor

    def _run(self) -> None:
        """The thread."""
        reader = LineReader(self._console.state_directory / "journal")
        cursor: Cursor | None = None
        while True:
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    break
            lines: list[bytes] = []
            try:
                if cursor is None:
                    cursor = self._load(reader)
                lines, cursor = reader.read_lines(cursor, LINES_AT_ONCE)
                self._apply(_events(lines))
                self._look_at_router()
                now = time.monotonic()
                self._forget_lost()
                if now >= self._database_at:
                    self._database_at = now + DATABASE_SECONDS
                    self._ask_database()
            except Exception:
                log.exception("live-fault")
                time.sleep(1.0)
            if len(lines) < LINES_AT_ONCE:
                time.sleep(JOURNAL_SECONDS)
        reader.close()

    def _forget_lost(self) -> None:
        with self._lock:
            if self._calls.forget_lost(time.time()):
                self._whole.clear()
                self._tell_all(list(self._watchers))

    def _look_at_router(self) -> None:
        if time.monotonic() < self._router_at:
            return
        self._router_at = time.monotonic() + ROUTER_SECONDS
        state = read_state(self._console.state_directory)
        self.is_router_heard = not state.is_stale(time.time(), ROUTER_SILENT_SECONDS)

    def _ask_database(self) -> None:
        """What other nodes saw, and what this one's journal does not hold any more."""
        try:
            with self._console.store.reading() as conn:
                events = self._look(conn, FIRST_CALLS)
                self._look_at_logins(conn)
        except StoreError as error:
            self._do_without(error)
        else:
            self._apply(events)

    def _look_at_logins(self, conn: Connection) -> None:
        """Those who have logged out, were taken away or see other sites now watch no longer."""
        if time.monotonic() < self._logins_at:
            return
        self._logins_at = time.monotonic() + LOGINS_SECONDS
        with self._lock:
            watchers = [watcher for watcher in self._watchers if watcher.token]
        known = sites_of_sessions(conn, {watcher.token for watcher in watchers}, time.time())
        for watcher in watchers:
            if watcher.token not in known:
                self._console.logins.note(watcher.token, None)
            if watcher.token not in known or known[watcher.token] != watcher.sites:
                with suppress(RuntimeError):  # the loop is closed: the console ends
                    watcher.loop.call_soon_threadsafe(watcher.begin_anew)

    def _do_without(self, error: StoreError) -> None:
        self._database_at = time.monotonic() + DATABASE_AGAIN_SECONDS
        log.warning("live-without-database", extra={"event_fields": {"reason": error.reason}})

    def _look(self, conn: Connection, limit: int, of_each_site: int = 0) -> list[object]:
        """The events of calls of which the database says something new; without the lock, for it may take long."""
        events: list[object] = []
        news: dict[str, tuple[object, ...]] = {}
        since = time.time() - SHOWN_SECONDS
        summaries = list_calls(conn, limit=limit, since=since)
        if len(summaries) == limit and summaries[-1].id not in self._known:
            # A storm: before the first of those that are looked at there may be more that nobody has seen yet.
            summaries = list_calls(conn, limit=MOST_CALLS, since=since)
        if of_each_site and len(summaries) == limit:
            seen = {summary.id for summary in summaries}
            older = latest_of_each_site(conn, limit=of_each_site, since=since)
            summaries += [summary for summary in older if summary.id not in seen]
        for summary in reversed(summaries):
            said = (summary.outcome, summary.status, summary.route, summary.ended_at)
            is_new = self._known.get(summary.id) != said
            is_elsewhere = summary.node != self._console.config.node and summary.ended_at is None
            if is_new or is_elsewhere:
                news[summary.id] = said
                events += call_events(conn, summary.id)
        # By a link, a key, a command or another node's console.
        events += confirmations_of(conn, [summary.id for summary in summaries])
        self._known |= news
        while len(self._known) > 10 * MOST_CALLS:
            del self._known[next(iter(self._known))]
        return events

    def _apply(self, events: Sequence[object]) -> None:
        with self._lock:
            self._tell(self._calls.apply_all(events))

    def _tell_all(self, watchers: Sequence[Watcher]) -> None:
        _send([(watcher, [self._all_for(watcher)]) for watcher in watchers])

    def _all_for(self, watcher: Watcher) -> Change:
        found = self._whole.get(watcher.sites)
        if found is None:
            seen = b",".join(self._json(call) for call in self._calls.all() if watcher.sees(call))
            found = self._whole[watcher.sites] = Change("", b"event: calls\ndata: [%b]\n\n" % seen)
        return found

    def _json(self, call: LiveCall) -> bytes:
        found = self._written.get(call.id)
        if found is None:
            found = self._written[call.id] = orjson.dumps(call.as_document())
        return found

    def _tell(self, changed: Sequence[LiveCall]) -> None:
        if not changed:
            return
        self._whole.clear()
        for call in changed:
            self._written.pop(call.id, None)
        while len(self._written) > 2 * MOST_CALLS:
            del self._written[next(iter(self._written))]
        if not self._is_loaded:
            return  # they are told all of them soon
        said = [(call, Change(call.id, b"event: call\ndata: %b\n\n" % self._json(call))) for call in changed]
        told: dict[tuple[str, ...] | None, list[Change]] = {}
        for watcher in self._watchers:
            if watcher.sites not in told:
                told[watcher.sites] = [change for call, change in said if watcher.sees(call)]
        _send([(watcher, told[watcher.sites]) for watcher in self._watchers if told[watcher.sites]])


def _send(changes: Sequence[tuple[Watcher, Sequence[Change]]]) -> None:
    """Each its own, with one word to each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Watcher, Sequence[Change]]]] = {}
    for watcher, wanted in changes:
        by_loop.setdefault(watcher.loop, []).append((watcher, wanted))
    for loop, found in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: the console ends
            loop.call_soon_threadsafe(_put, found)


def _put(changes: Sequence[tuple[Watcher, Sequence[Change]]]) -> None:
    for watcher, wanted in changes:
        watcher.put(wanted)


def _events(lines: Sequence[bytes]) -> list[object]:
    found: list[object] = []
    for line in lines:
        try:
            found.append(decode_event(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # the notices process says so
    return found
