"""What happens to 911 calls, for those who watch: from this node's journal at once, from the database for the rest.

A thread reads while somebody watches, and rests otherwise. Each watcher has a queue of changed calls; one who does
not take them is hung up on, and starts anew with all of them.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import Connection

from router.console.settings import Console
from router.event_lines import decode_event
from router.live_calls import LiveCall, LiveCalls
from router.segments import Cursor, LineReader
from router.store.confirmations import confirmations_of
from router.store.errors import StoreError
from router.store.records import call_events, list_calls, read_cursor

JOURNAL_SECONDS = 0.1
DATABASE_SECONDS = 0.5
DATABASE_AGAIN_SECONDS = 5.0
"""How soon a database that failed is asked again."""
SHOWN_SECONDS = 12 * 3600.0
"""Calls of the last so many seconds are shown."""
FIRST_CALLS = 100
LINES_AT_ONCE = 5000
MOST_WAITING = 400
"""Changes that wait for one watcher."""

Change: TypeAlias = tuple[str, Any]
"""Name and data of an event of the stream."""

log = logging.getLogger("router.console")


@dataclass(eq=False, slots=True)
class Watcher:
    """One open page."""

    loop: asyncio.AbstractEventLoop
    sites: tuple[str, ...] | None
    """Whose calls it sees; None: everybody's."""
    queue: asyncio.Queue[Change | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    """What to tell the page: first `calls`, all of them, then `call` for each change; None: hung up."""

    def sees(self, call: LiveCall) -> bool:
        """True where the call is of a site of theirs."""
        return self.sites is None or call.site in self.sites

    def put(self, changes: Sequence[Change]) -> None:
        """In its loop."""
        try:
            for change in changes:
                self.queue.put_nowait(change)
        except asyncio.QueueFull:
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(None)


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
        self._database_at = 0.0

    def watch(self, loop: asyncio.AbstractEventLoop, sites: tuple[str, ...] | None) -> Watcher:
        """Begin to watch. Waits for nothing: the calls as they are come by the watcher's queue."""
        watcher = Watcher(loop, sites)
        with self._lock:
            self._watchers.add(watcher)
            if self._thread is None:
                self._is_loaded = False
                self._thread = threading.Thread(target=self._run, daemon=True, name="live")
                self._thread.start()
            elif self._is_loaded:
                self._tell_all(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Watch no more."""
        with self._lock:
            self._watchers.discard(watcher)

    def get(self, call: str) -> LiveCall | None:
        """A call that is watched."""
        with self._lock:
            return self._calls.get(call)

    def acknowledged(self, call: str, by: str, at: float) -> None:
        """Somebody here has said so: shown at once."""
        with self._lock:
            changed = self._calls.acknowledge(call, by, at)
            if changed is not None:
                self._tell([changed])

    def _load(self, reader: LineReader) -> Cursor:
        """Take up the calls of the last hours; from where on the journal tells more."""
        self._known = {}
        events: list[object] = []
        end = reader.end()
        cursor = Cursor(end.segment, 0)
        try:
            with self._console.store.reading() as conn:
                events = self._look(conn, FIRST_CALLS)
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
            for watcher in self._watchers:
                self._tell_all(watcher)
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
                now = time.monotonic()
                if now >= self._database_at:
                    self._database_at = now + DATABASE_SECONDS
                    self._ask_database()
            except Exception:
                log.exception("live-fault")
                time.sleep(1.0)
            if len(lines) < LINES_AT_ONCE:
                time.sleep(JOURNAL_SECONDS)
        reader.close()

    def _ask_database(self) -> None:
        """What other nodes saw, and what this one's journal does not hold any more."""
        try:
            with self._console.store.reading() as conn:
                events = self._look(conn, FIRST_CALLS)
        except StoreError as error:
            self._do_without(error)
        else:
            self._apply(events)

    def _do_without(self, error: StoreError) -> None:
        self._database_at = time.monotonic() + DATABASE_AGAIN_SECONDS
        log.warning("live-without-database", extra={"event_fields": {"reason": error.reason}})

    def _look(self, conn: Connection, limit: int) -> list[object]:
        """The events of calls of which the database says something new; without the lock, for it may take long."""
        events: list[object] = []
        news: dict[str, tuple[object, ...]] = {}
        since = time.time() - SHOWN_SECONDS
        summaries = list_calls(conn, limit=limit, since=since)
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
        while len(self._known) > 10 * limit:
            del self._known[next(iter(self._known))]
        return events

    def _apply(self, events: Sequence[object]) -> None:
        with self._lock:
            self._tell(self._calls.apply_all(events))

    def _tell_all(self, watcher: Watcher) -> None:
        _send(watcher, [("calls", [call.as_document() for call in self._calls.all() if watcher.sees(call)])])

    def _tell(self, changed: Sequence[LiveCall]) -> None:
        for watcher in self._watchers if changed else ():
            seen: list[Change] = [("call", call.as_document()) for call in changed if watcher.sees(call)]
            if seen and self._is_loaded:  # else it is told all of them soon
                _send(watcher, seen)


def _send(watcher: Watcher, changes: Sequence[Change]) -> None:
    with suppress(RuntimeError):  # its loop is closed: the console ends
        watcher.loop.call_soon_threadsafe(watcher.put, changes)


def _events(lines: Sequence[bytes]) -> list[object]:
    found: list[object] = []
    for line in lines:
        try:
            found.append(decode_event(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # the notices process says so
    return found
