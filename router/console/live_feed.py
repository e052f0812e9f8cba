"""What happens to 911 calls, for those who watch: from this node's journal at once, from the database for the rest.

A thread reads while somebody watches, and rests otherwise. Each watcher has a queue of changed calls; one who does
not take them is hung up on, and starts anew with all of them.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from router.console.settings import Console
from router.event_lines import decode_event
from router.live_calls import LiveCall, LiveCalls
from router.segments import Cursor, LineReader
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

log = logging.getLogger("router.console")


@dataclass(eq=False, slots=True)
class Watcher:
    """One open page."""

    loop: asyncio.AbstractEventLoop
    sites: tuple[str, ...] | None
    """Whose calls it sees; None: everybody's."""
    queue: asyncio.Queue[dict[str, Any] | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    """Changed calls; None: hung up."""

    def sees(self, call: LiveCall) -> bool:
        """True where the call is of a site of theirs."""
        return self.sites is None or call.site in self.sites

    def put(self, changes: Sequence[dict[str, Any]]) -> None:
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
        self._known: dict[str, tuple[object, ...]] = {}
        """What the database said last of a call, by its id."""
        self._database_at = 0.0

    def watch(
        self, loop: asyncio.AbstractEventLoop, sites: tuple[str, ...] | None
    ) -> tuple[Watcher, list[dict[str, Any]]]:
        """Begin to watch: the watcher, and the calls as they are now. May take as long as the database does."""
        watcher = Watcher(loop, sites)
        with self._lock:
            if self._thread is None:
                self._calls = LiveCalls()
                self._known = {}
                cursor = self._load()
                self._thread = threading.Thread(target=self._run, args=(cursor,), daemon=True, name="live")
                self._thread.start()
            self._watchers.add(watcher)
            return watcher, [call.as_document() for call in self._calls.all() if watcher.sees(call)]

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

    def _load(self) -> Cursor:
        """The calls of the last hours, and from where on the journal tells more."""
        reader = LineReader(self._console.state_directory / "journal")
        end = reader.end()
        try:
            with self._console.store.reading() as conn:
                cursor = read_cursor(conn, self._console.config.node)
                self._look(conn, FIRST_CALLS)
        except StoreError as error:
            log.warning("live-without-database", extra={"event_fields": {"reason": error.reason}})
            self._database_at = time.monotonic() + DATABASE_AGAIN_SECONDS
            return Cursor(end.segment, 0)
        # Never from the very beginning of a long journal that no database has: only what is new is shown then.
        return cursor if end.segment - cursor.segment <= 1 else Cursor(end.segment, 0)

    def _run(self, cursor: Cursor) -> None:
        """The thread."""
        reader = LineReader(self._console.state_directory / "journal")
        lines: list[bytes] = []
        while True:
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    break
            try:
                lines, cursor = reader.read_lines(cursor, LINES_AT_ONCE)
                with self._lock:
                    self._tell(self._calls.apply_all(_events(lines)))
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
            with self._console.store.reading() as conn, self._lock:
                self._tell(self._look(conn, FIRST_CALLS))
        except StoreError as error:
            self._database_at = time.monotonic() + DATABASE_AGAIN_SECONDS
            log.warning("live-without-database", extra={"event_fields": {"reason": error.reason}})

    def _look(self, conn: Any, limit: int) -> list[LiveCall]:
        changed: dict[str, LiveCall] = {}
        since = time.time() - SHOWN_SECONDS
        for summary in reversed(list_calls(conn, limit=limit, since=since)):
            said = (summary.outcome, summary.status, summary.route, summary.ended_at)
            is_new = self._known.get(summary.id) != said
            is_elsewhere = summary.node != self._console.config.node and summary.ended_at is None
            if not is_new and not is_elsewhere:
                continue
            self._known[summary.id] = said
            for call in self._calls.apply_all(call_events(conn, summary.id)):
                changed[call.id] = call
        while len(self._known) > 10 * limit:
            del self._known[next(iter(self._known))]
        return list(changed.values())

    def _tell(self, changed: Sequence[LiveCall]) -> None:
        for watcher in self._watchers if changed else ():
            seen = [call.as_document() for call in changed if watcher.sees(call)]
            if seen and not watcher.loop.is_closed():
                watcher.loop.call_soon_threadsafe(watcher.put, seen)


def _events(lines: Sequence[bytes]) -> list[object]:
    found: list[object] = []
    for line in lines:
        try:
            found.append(decode_event(line))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # the notices process says so
    return found
