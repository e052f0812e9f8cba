"""The thread that keeps the database up to date: call records from the journal, and what became of the notices.

Nothing waits for it. While the database is missing, locked or corrupt it goes on trying, and catches up later.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from router.journal import Cursor, LineReader
from router.outbox import Entry, Key
from router.store.engine import StoreError, open_store, sqlite_path, writing
from router.store.outbox import queued_entries, store_entries
from router.store.records import CallCache, apply_lines, read_cursor, store_cursor

PAUSE_SECONDS = 0.1
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
LINES_AT_ONCE = 2000

log = logging.getLogger(__name__)


class Recorder(threading.Thread):
    """Reads the journal into the records of the store at `url`, and writes the outbox rows handed to it.

    `stored` gives the rows that were committed, `recovered` what the database says was still to be delivered.
    """

    def __init__(self, url: str, node: str, journal: Path) -> None:
        super().__init__(daemon=True, name="recorder")
        self.stored: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        self.recovered: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()
        self.cursor: Cursor | None = None
        """Up to where the journal is in the records; None until the database told."""
        self.is_ok = False
        self.error = "database-not-open"
        """The reason name of what is wrong, or empty."""
        self.unstorable = 0
        self._url = url
        self._node = node
        self._reader = LineReader(journal)
        self._cache = CallCache()
        self._lock = threading.Lock()
        self._rows: dict[Key, dict[str, Any]] = {}
        self._stopping = threading.Event()
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._recovered_once = False
        self._failures = 0
        self._limit = LINES_AT_ONCE

    def submit(self, rows: Iterable[dict[str, Any]]) -> None:
        """Have these outbox rows written; a later row of the same notice takes the place of an earlier one."""
        with self._lock:
            for row in rows:
                self._rows[(row["call"], row["kind"], row["contact"], row["channel"])] = row

    def forget(self, keys: Iterable[Key]) -> None:
        """Do not write these after all."""
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)

    def stop(self, timeout: float) -> None:
        """Write what there is, then end; waits at most `timeout` seconds."""
        self._stopping.set()
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
            if stopping and not (self.is_ok and more):
                break
            pause = PAUSE_SECONDS
            if not self.is_ok:
                pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
            if not more:
                self._stopping.wait(pause)
        self._close()

    def _failed(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, StoreError) else type(error).__name__
        if self.is_ok or reason != self.error:
            log.error(
                "database-failed",
                extra={"event_fields": {"reason": reason, "detail": str(error), "notices": "go out"}},
            )
        self.is_ok, self.error = False, reason
        self._failures += 1
        self._cache.clear()
        # One line that no database takes must not hold up the others: it is looked for alone.
        self._limit = 1 if reason == "database-error" else LINES_AT_ONCE
        if self._failures > 2 or reason != "database-locked":
            self._close()

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _open(self) -> Engine:
        if self._engine is not None and self._file is not None and self._file != self._file_now():
            log.error("database-file-replaced")
            self._cache.clear()
            self.cursor = None
            self._close()
        if self._engine is None:
            self._engine = open_store(self._url)
            self._file = self._file_now()
            self.cursor = None
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
        if self.cursor is None or not self._recovered_once:
            with writing(engine) as conn:
                cursor = read_cursor(conn, self._node)
                if not self._recovered_once:
                    self.recovered.put(queued_entries(conn, self._node))
                    self._recovered_once = True
            self.cursor = cursor
        lines, after = self._reader.read_lines(self.cursor, self._limit)
        with self._lock:
            rows = list(self._rows.values())[:LINES_AT_ONCE]
        if not lines and not rows:
            if after != self.cursor:
                self.cursor = after
            return False
        try:
            self._write(engine, lines, rows, after)
        except StoreError as error:
            if error.reason != "database-error" or len(lines) > 1:
                raise
            self._write_piecemeal(engine, lines, rows, after)
        self.cursor = after
        self._limit = LINES_AT_ONCE
        self._settle_rows(rows)
        return len(lines) == LINES_AT_ONCE or len(rows) == LINES_AT_ONCE

    def _write(self, engine: Engine, lines: Sequence[bytes], rows: list[dict[str, Any]], after: Cursor) -> None:
        with writing(engine) as conn:
            apply_lines(conn, lines, self._cache)
            store_entries(conn, self._node, rows)
            store_cursor(conn, self._node, after)

    def _write_piecemeal(
        self, engine: Engine, lines: Sequence[bytes], rows: list[dict[str, Any]], after: Cursor
    ) -> None:
        """Each thing by itself: what the database refuses is said and passed over, and the rest goes on."""
        for some_lines, some_rows in ((lines, []), *(([], [row]) for row in rows)):
            try:
                self._write(engine, some_lines, some_rows, after)
            except StoreError as error:
                if error.reason != "database-error":
                    raise
                self.unstorable += 1
                self._cache.clear()
                log.error("record-not-stored", extra={"event_fields": {"detail": error.detail}})

    def _settle_rows(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        with self._lock:
            for row in rows:
                key = (row["call"], row["kind"], row["contact"], row["channel"])
                if self._rows.get(key) is row:
                    del self._rows[key]
        self.stored.put(rows)
