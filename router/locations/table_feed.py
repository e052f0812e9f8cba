"""Small tables of the database for the call process: the last known good rows at once, then every change.

For tables that are followed (router.store.followed), read whole when they changed. A thread of its own reads and
makes of the rows what calls use; the event loop only gets the finished thing. Whatever is wrong with the database,
calls keep what they have. The devices, of which there may be 100,000, have a feed of their own
(router.locations.device_feed).
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import orjson
from sqlalchemy import Connection, Engine

from router.process.structured_log import structlog
from router.store.engine import open_store, parse_url, reading, sqlite_path
from router.store.errors import StoreError, database_name
from router.store.followed import ChangeSignal, revisions_of

INTERVAL: Final = 0.3
WHILE_TOLD: Final = 1.0
"""Between two looks where the database tells of changes (LISTEN): a pooler before it may keep that to itself."""
RETRY_AFTER: Final = 1.0
_FORMAT: Final = 1

Made = TypeVar("Made")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed(Generic[Made]):
    """A table as the call process uses it."""

    table: str
    read: Callable[[Connection], list[dict[str, Any]]]
    """Its rows as plain data (JSON); in the thread."""
    make: Callable[[Rows], Made]
    """What calls use, of the rows; in the thread, ValueError, KeyError or TypeError where they are no good."""
    use: Callable[[Made], None]
    """Takes it; on the event loop, in one turn."""
    is_kept: bool = True
    """Kept in a file of this node, for a start without the database."""
    every: float = 0.0
    """Of a table that is not followed: read again after so many seconds."""


class TableFeed:
    """Keeps what the call process has of some tables like the database's.

    url: of the store. directory: where the last known good rows are kept. interval: seconds between two looks at a
    database that does not tell of changes.
    """

    def __init__(
        self, url: str, tables: Sequence[Followed[Any]], *, directory: Path, interval: float = INTERVAL
    ) -> None:
        self._url = url
        self._tables = tables
        self._directory = directory
        self._interval = interval
        self._wait = min([WHILE_TOLD, *(followed.every for followed in tables if followed.every)])
        self._read_at: dict[str, float] = {}
        self._seen: dict[str, int] = {}
        """By table: the number of changes that were read."""
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._signal: ChangeSignal | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.problem = ""
        """The name of what keeps the tables from being read, or empty."""
        self._log = structlog.get_logger("edge911.tables")

    def load_kept(self) -> None:
        """Use the last known good rows; waits for no database. Never raises."""
        for followed in self._tables:
            if followed.is_kept:
                try:
                    rows = self._read_kept(followed.table)
                    if rows is not None:
                        followed.use(followed.make(rows))
                except Exception as error:  # a file that somebody edited must not keep calls from being served
                    self._log.error("table-not-read", table=followed.table, detail=type(error).__name__)

    def start(self) -> None:
        """Follow the tables from now on; called in the running loop that `use` belongs to."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._follow, name="table-feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it is waited for no longer than 2 s, for a database may not answer."""
        self._stopping.set()
        if self._thread is None:
            self._close()
        else:
            self._thread.join(2.0)

    # In the thread.

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
                if self.problem:
                    self.problem = ""
                    self._log.info("tables-read-again")
            except Exception as error:  # whatever it is, calls go on and the next look begins anew
                self._close()
                reason = error.reason if isinstance(error, StoreError) else type(error).__name__
                if reason != self.problem:
                    self.problem = reason
                    self._log.error("tables-not-read", reason=reason, detail=str(error))
                self._stopping.wait(max(self._interval, RETRY_AFTER))
                continue
            self._await_change()
        self._close()
        if self._signal is not None:
            self._signal.close()

    def _await_change(self) -> None:
        if self._signal is None:
            self._signal = ChangeSignal(self._url)
        if not self._signal.listen():
            self._signal.wait(self._wait if self._signal.is_listening else self._interval, self._stopping)

    def look(self) -> None:
        """Read what changed. Raises StoreError, and what `make` does."""
        identity = self._identity()
        if self._engine is not None and identity != self._file:
            self._close()  # a file that was replaced stays open, and silent, for those who had it open
        if self._engine is None:
            self._engine = open_store(self._url, create=False, wait=1.0)
            self._file = self._identity()
        now = time.monotonic()
        with reading(self._engine) as conn:
            revisions = revisions_of(conn)  # before the rows: what changes between is read again
            changed = [
                (followed, followed.read(conn))
                for followed in self._tables
                if self._seen.get(followed.table) != revisions.get(followed.table, 0)
                or (followed.every and now - self._read_at.get(followed.table, 0.0) >= followed.every)
            ]
        for followed, rows in changed:
            self._read_at[followed.table] = now
            self._hand_over(followed, rows)
            self._seen[followed.table] = revisions.get(followed.table, 0)

    def _hand_over(self, followed: Followed[Any], rows: list[dict[str, Any]]) -> None:
        made = followed.make(rows)
        if self._loop is None:
            followed.use(made)
        else:
            try:
                self._loop.call_soon_threadsafe(partial(followed.use, made))
            except RuntimeError:  # the loop is closed: the process ends
                self._stopping.set()
                return
        if followed.is_kept:
            try:
                self._keep(followed.table, rows)
            except (OSError, TypeError) as error:  # a full disk: calls go on without the file
                self._log.warning("last-known-good-not-written", table=followed.table, detail=str(error))

    def _close(self) -> None:
        self._seen.clear()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _identity(self) -> tuple[int, int] | None:
        path = sqlite_path(self._url)
        if path is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    # The files.

    def _path(self, table: str) -> Path:
        return self._directory / f"{table}.jsonl"

    def _header(self, table: str) -> dict[str, Any]:
        try:
            name = database_name(parse_url(self._url))
        except StoreError:
            name = ""
        return {f"edge911-{table}": _FORMAT, "database": name}

    def _read_kept(self, table: str) -> list[dict[str, Any]] | None:
        try:
            lines = self._path(table).read_bytes().split(b"\n")
        except OSError:
            return None
        if orjson.loads(lines[0]) != self._header(table):
            return None
        return [orjson.loads(line) for line in lines[1:] if line]

    def _keep(self, table: str, rows: list[dict[str, Any]]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(table)
        written = path.with_suffix(".new")
        # Where people are is nobody else's business.
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"\n".join([orjson.dumps(self._header(table)), *map(orjson.dumps, rows)]) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)


def read_once(url: str, directory: Path, table: Followed[Made], nothing: Made) -> Made:
    """The table for a command: of the database's rows, else of the last known good ones, else `nothing`. Makes no
    file."""
    found = [nothing]
    kept = replace(table, use=found.append)
    TableFeed(url, [kept], directory=directory).load_kept()
    feed = TableFeed(url, [replace(kept, is_kept=False)], directory=directory)
    try:
        feed.look()
    except StoreError:
        pass  # said of the devices, which are in the same database
    finally:
        feed.stop()
    return found[-1]
