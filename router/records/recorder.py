"""The thread that keeps the database up to date: call records from the journal, and what became of the notices.

Nothing waits for it. While the database is missing, locked or corrupt it goes on trying, and catches up later.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from router.journal.segments import Cursor, LineReader
from router.notices.confirmations import ChannelOutcome, Confirmation
from router.notices.outbox import Entry, Fold, Key, Told
from router.notices.watches import Watch
from router.store.confirmations import LINK_SECRET, confirmations_of, shared_secret, store_confirmations, store_proofs
from router.store.engine import StoreError, open_store, reading, sqlite_path, writing
from router.store.folds import store_folds
from router.store.leases import leases_in, store_leases
from router.store.nodes import SILENT_SECONDS
from router.store.outbox import queued_entries, store_entries, take_over, taken_over
from router.store.records import CallLines, apply_calls, gather, read_cursor, store_cursor
from router.store.watches import store_watches, take_watches, taken_watches, watches_of

PAUSE_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""How often the journal and the database file are looked at where nobody said that there is news."""
BUSY_LINES = 300
"""From so many lines in one transaction on, the next waits longer, and calls are held until they are over."""
BUSY_PAUSE_SECONDS = 1.0
HOLD_SECONDS = 0.5
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
LINES_AT_ONCE = 10_000
ROWS_AT_ONCE = 2000
CONFIRMATION_SECONDS = 1.0
"""How often the database is asked whether somebody acknowledged by another node's console."""
WATCHED_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """A call that waits for its end: its lines, where they begin (or before), and since when."""

    call: CallLines
    cursor: Cursor
    since: float


class Recorder(threading.Thread):
    """Reads the journal into the records of the store at `url`, and writes the outbox rows and folds handed to it.

    `stored` and `stored_folds` give those that were committed, `recovered` what the database says was still to be
    delivered. When little happens, all is written at once. In a storm there is a transaction per BUSY_PAUSE_SECONDS,
    and calls wait HOLD_SECONDS for their end at the most, so that most are written once.
    """

    def __init__(self, url: str, node: str, journal: Path) -> None:
        super().__init__(daemon=True, name="recorder")
        self.stored: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        self.stored_folds: queue.SimpleQueue[list[Fold]] = queue.SimpleQueue()
        self.recovered: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()
        self.taken: queue.SimpleQueue[list[Key]] = queue.SimpleQueue()
        """What other nodes took over from this one while it was silent."""
        self.taken_watches: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        """Calls that other nodes watch now, which this one did before it was silent."""
        self.recovered_watches: queue.SimpleQueue[list[Watch]] = queue.SimpleQueue()
        """Calls to be watched: this node's from before, and those of nodes that died."""
        self.silent: tuple[str, ...] = ()
        """Nodes whose notices are to be taken over."""
        self.returns = 0
        """How often this node may have counted as silent: after each it is asked what others took over."""
        self.stored_confirmations: queue.SimpleQueue[list[Confirmation]] = queue.SimpleQueue()
        self.confirmed: queue.SimpleQueue[Confirmation] = queue.SimpleQueue()
        """What others (a console, another node's) wrote into the database about `watched` calls."""
        self.link_secret = b""
        """The secret of links in notices that all nodes of this database share; empty until the database told."""
        self.watched: list[str] = []
        """Calls whose acknowledgement is waited for, newest first."""
        self.cursor: Cursor | None = None
        """Up to where the journal is in the records; None until the database told."""
        self.is_ok = False
        self.error = "database-not-open"
        """The reason name of what is wrong, or empty."""
        self.unstorable = 0
        self._url = url
        self._node = node
        self._reader = LineReader(journal)
        self._read: Cursor | None = None
        """Up to where the journal has been read; what of it is not in the records waits in `_held`."""
        self._held: dict[str, _Held] = {}
        self._busy_until = 0.0
        self._lock = threading.Lock()
        self._rows: dict[Key, dict[str, Any]] = {}
        self._folds: dict[Told, Fold] = {}
        self._confirmations: dict[tuple[str, str, str, int, str], Confirmation] = {}
        self._look_for_confirmations_at = 0.0
        self._proofs: dict[tuple[str, str], ChannelOutcome] = {}
        self._watches: dict[str, Mapping[str, Any] | None] = {}
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._recovered_once = False
        self._returns = 0
        self._failures = 0
        self._limit = LINES_AT_ONCE

    def look(self) -> None:
        """There is more in the journal."""
        self._news.set()

    def submit(self, rows: Iterable[dict[str, Any]]) -> None:
        """Have these outbox rows written; a later row of the same notice takes the place of an earlier one."""
        with self._lock:
            for row in rows:
                self._rows[(row["call"], row["kind"], row["contact"], row["channel"])] = row
        self._news.set()

    def submit_folds(self, folds: Iterable[Fold]) -> None:
        """Have these folds written."""
        with self._lock:
            self._folds |= {fold.key: fold for fold in folds}
        self._news.set()

    def submit_confirmations(self, confirmations: Iterable[Confirmation]) -> None:
        """Have these written."""
        with self._lock:
            self._confirmations |= {found.key: found for found in confirmations}
        self._news.set()

    def submit_proofs(self, proofs: dict[tuple[str, str], ChannelOutcome]) -> None:
        """Have written what came of channels."""
        with self._lock:
            self._proofs |= proofs
        self._news.set()

    def submit_watches(self, found: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Have written which calls this node watches (`Watches.take_changed`)."""
        with self._lock:
            self._watches |= found
        self._news.set()

    def forget(self, keys: Iterable[Key], folds: Iterable[Told]) -> None:
        """Do not write these after all."""
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)
            for told in folds:
                self._folds.pop(told, None)

    def stop(self, timeout: float) -> None:
        """Write what there is, then end; waits at most `timeout` seconds."""
        self._stopping.set()
        self._news.set()
        self.join(timeout)

    def run(self) -> None:
        """The thread."""
        while True:
            stopping = self._stopping.is_set()
            more = False
            try:
                more = self._step()
                if not self.is_ok:
                    log.info("database-ok")
                self.is_ok, self.error, self._failures = True, "", 0
            except Exception as error:  # whatever it is, this thread must go on trying
                self._failed(error)
            if stopping and not (self.is_ok and (more or self._held)):
                break
            if not more:
                self._wait()
        self._close()

    def _wait(self) -> None:
        """Until it is worth while to go on, or told to end."""
        if not self.is_ok:
            self._stopping.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
        elif time.monotonic() < self._busy_until:
            self._stopping.wait(BUSY_PAUSE_SECONDS)
        else:
            self._news.wait(LOOK_SECONDS)
            self._stopping.wait(PAUSE_SECONDS)
        self._news.clear()

    def _failed(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, StoreError) else type(error).__name__
        if self.is_ok or reason != self.error:
            log.error(
                "database-failed",
                extra={"event_fields": {"reason": reason, "detail": str(error), "notices": "go out"}},
            )
        self.is_ok, self.error = False, reason
        self._failures += 1
        self._start_over(self.cursor)
        # One line that no database takes must not hold up the others: it is looked for until it is alone.
        self._limit = max(self._limit // 8, 1) if reason == "database-error" else LINES_AT_ONCE
        if self._failures > 2 or reason != "database-locked":
            self._close()

    def _start_over(self, cursor: Cursor | None) -> None:
        """Go on reading where the records end."""
        self.cursor = self._read = cursor
        self._held = {}

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _open(self) -> Engine:
        if self._engine is not None and self._file is not None and self._file != self._file_now():
            log.error("database-file-replaced")
            self._close()
        if self._engine is None:
            self._engine = open_store(self._url, longest_pause=SILENT_SECONDS)
            self._file = self._file_now()
            with writing(self._engine) as conn:
                self.link_secret = shared_secret(conn, LINK_SECRET)
            self._start_over(None)
        return self._engine

    def _file_now(self) -> tuple[int, int] | None:
        path = sqlite_path(self._url)
        if path is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return (0, 0)
        return status.st_dev, status.st_ino

    def _step(self) -> bool:
        """One transaction; True where there is more to do at once."""
        engine = self._open()
        if self._read is None or not self._recovered_once:
            with writing(engine) as conn:
                cursor = read_cursor(conn, self._node)
                if not self._recovered_once:
                    self.taken_watches.put(taken_watches(conn, self._node, time.time()))
                    self.taken.put(taken_over(conn, self._node, time.time()))
                    self.recovered.put(queued_entries(conn, self._node))
                    self.recovered_watches.put(watches_of(conn, self._node))
                    self._recovered_once = True
            self._start_over(cursor)
        assert self._read is not None
        self._leave(engine)
        self._take_over(engine)
        self._look_for_confirmations(engine)
        self._write_confirmations(engine)
        self._write_watches(engine)
        lines, after = self._reader.read_lines(self._read, self._limit)
        with self._lock:
            rows = list(self._rows.values())[:ROWS_AT_ONCE]
            folds = list(self._folds.values())
        if not lines and not rows and not folds and not self._held:
            self.cursor = self._read = after
            return False
        calls, held = self._sorted(lines, self._read)
        # A restart reads what is held again, and with it what is in the records already, which changes nothing.
        cursor = min((waiting.cursor for waiting in held.values()), default=after)
        try:
            self._write(engine, calls, rows, folds, cursor)
        except StoreError as error:
            if error.reason != "database-error" or len(lines) > 1:
                raise
            self._write_piecemeal(engine, calls, rows, folds, cursor)
        self.cursor, self._read, self._held = cursor, after, held
        is_all = len(lines) < self._limit and len(rows) < ROWS_AT_ONCE
        self._limit = min(self._limit * 2, LINES_AT_ONCE)
        self._settle(rows, folds)
        return not is_all

    def _leave(self, engine: Engine) -> None:
        """What others took over while this node lived, but could not say so: it is theirs to tell."""
        returns = self.returns
        if returns == self._returns:
            return
        with writing(engine) as conn:
            watched, taken = taken_watches(conn, self._node, time.time()), taken_over(conn, self._node, time.time())
        self._returns = returns
        if watched or taken:
            fields = {"notices": len(taken), "watches": len(watched)}
            log.warning("notices-left", extra={"event_fields": fields})
            self.taken_watches.put(watched)
            self.taken.put(taken)

    def _take_over(self, engine: Engine) -> None:
        """What silent nodes left to be delivered. What they had not yet written into the database they tell when they
        live again."""
        for name in self.silent:
            with writing(engine) as conn:
                found = take_over(conn, name, self._node)
                watched = take_watches(conn, name, self._node)
            if found:
                log.warning("notices-taken-over", extra={"event_fields": {"silent": name, "count": len(found)}})
                self.recovered.put(found)
            if watched:
                log.warning("watches-taken-over", extra={"event_fields": {"silent": name, "count": len(watched)}})
                self.recovered_watches.put(watched)

    def _write_watches(self, engine: Engine) -> None:
        with self._lock:
            found = dict(self._watches)
        if not found:
            return
        try:
            with writing(engine) as conn:
                store_watches(conn, self._node, found, time.time())
        except StoreError as error:
            if error.reason != "database-error":
                raise
            self.unstorable += len(found)  # what no database takes must not hold up the records
            log.error("record-not-stored", extra={"event_fields": {"detail": error.detail}})
        with self._lock:
            for call, data in found.items():
                if self._watches.get(call) is data:
                    del self._watches[call]

    def _write_confirmations(self, engine: Engine) -> None:
        with self._lock:
            found = list(self._confirmations.values())
            proofs = dict(self._proofs)
        if not found and not proofs:
            return
        try:
            with writing(engine) as conn:
                store_confirmations(conn, self._node, found)
                store_proofs(conn, self._node, list(proofs.values()))
        except StoreError as error:
            if error.reason != "database-error":
                raise
            self.unstorable += len(found)  # what no database takes must not hold up the records
            log.error("record-not-stored", extra={"event_fields": {"detail": error.detail}})
        with self._lock:
            for confirmation in found:
                self._confirmations.pop(confirmation.key, None)
            for key, proof in proofs.items():
                if self._proofs.get(key) is proof:
                    del self._proofs[key]
        self.stored_confirmations.put(found)

    def _look_for_confirmations(self, engine: Engine) -> None:
        now = time.monotonic()
        watched = self.watched
        if not watched or now < self._look_for_confirmations_at:
            return
        self._look_for_confirmations_at = now + CONFIRMATION_SECONDS
        with reading(engine) as conn:
            for confirmation in confirmations_of(conn, watched[:WATCHED_AT_ONCE]):
                self.confirmed.put(confirmation)

    def _sorted(self, lines: Sequence[bytes], cursor: Cursor) -> tuple[list[CallLines], dict[str, _Held]]:
        """The calls to write now, and those to hold. The lines begin at `cursor`."""
        found = {name: waiting.call for name, waiting in self._held.items()}
        gather(lines, found)
        now = time.monotonic()
        if len(lines) >= BUSY_LINES:
            self._busy_until = now + 2 * BUSY_PAUSE_SECONDS
        if now >= self._busy_until or self._stopping.is_set():
            return list(found.values()), {}
        held: dict[str, _Held] = {}
        for name, call in found.items():
            waiting = self._held.get(name) or _Held(call, cursor, now)
            if not call.is_over and now - waiting.since < HOLD_SECONDS:
                held[name] = waiting
        return [call for name, call in found.items() if name not in held], held

    def _write(
        self,
        engine: Engine,
        calls: Sequence[CallLines],
        rows: Sequence[dict[str, Any]],
        folds: Sequence[Fold],
        cursor: Cursor,
    ) -> None:
        with writing(engine) as conn:
            apply_calls(conn, calls)
            store_leases(conn, leases_in(line for call in calls for line in call.lines))
            store_entries(conn, self._node, rows)
            store_folds(conn, self._node, folds)
            store_cursor(conn, self._node, cursor)

    def _write_piecemeal(
        self,
        engine: Engine,
        calls: Sequence[CallLines],
        rows: Sequence[dict[str, Any]],
        folds: Sequence[Fold],
        cursor: Cursor,
    ) -> None:
        """Each thing by itself: what the database refuses is said and passed over, and the rest goes on."""
        pieces: list[tuple[Sequence[CallLines], Sequence[dict[str, Any]], Sequence[Fold]]] = [
            *(([call], [], []) for call in calls),
            *(([], [row], []) for row in rows),
            *(([], [], [fold]) for fold in folds),
        ]
        for some_calls, some_rows, some_folds in pieces:
            try:
                self._write(engine, some_calls, some_rows, some_folds, cursor)
            except StoreError as error:
                if error.reason != "database-error":
                    raise
                self.unstorable += 1
                log.error("record-not-stored", extra={"event_fields": {"detail": error.detail}})

    def _settle(self, rows: list[dict[str, Any]], folds: list[Fold]) -> None:
        with self._lock:
            for row in rows:
                key = (row["call"], row["kind"], row["contact"], row["channel"])
                if self._rows.get(key) is row:
                    del self._rows[key]
            for fold in folds:
                self._folds.pop(fold.key, None)
        if rows:
            self.stored.put(rows)
        if folds:
            self.stored_folds.put(folds)
