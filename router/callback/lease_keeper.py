"""Leases in the call process beside the calls: read at the start, kept on this node's disk, and shared with others.

Other nodes' leases, and leases ended by hand, come from the database by a table feed; those of this node go there by
the journal (router.records.recorder).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from e911.elin import Lease, lease_from
from router.callback.callbacks import Callbacks
from router.callback.kept_leases import read_leases, write_leases
from router.journal.writer import JournalWriter
from router.locations.table_feed import Followed, Rows, TableFeed
from router.store.leases import leases_for_node
from router.store.nodes import sharing_nodes

RESTORE_SECONDS = 1.0
LEASES_A_SECOND = 1000.0
"""Many leases are written seldom: the journal has what is new."""
PRUNE_SECONDS = 3600.0
MERGED_AT_ONCE = 100
"""Leases of elsewhere that are taken in one turn of the loop (2 or 3 ms); calls are served in between."""

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Keeps the leases of `callbacks`. url: of the store; directory: this node's state."""

    def __init__(self, callbacks: Callbacks, journal: JournalWriter, url: str, directory: Path, node: str) -> None:
        self.callbacks = callbacks
        self.journal = journal
        self.directory = directory
        self.node = node
        self.feed = TableFeed(
            url,
            [
                Followed(table="leases", read=self._read, make=_News(), use=self._take),
                Followed(table="nodes", read=self._read_nodes, make=_names, use=callbacks.share_with, every=2.0),
            ],
            directory=directory,
        )
        self._waiting: deque[Lease] = deque()
        """Read and not taken yet."""
        self._has_read = False
        """From the database: the first time all that it has, for this node's disk may be a new one."""
        self._is_serving = False
        self._written = 0
        self._write_at = 0.0
        self._prune_at = 0.0
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[list[Lease]] | None = None

    async def restore(self) -> None:
        """What this node's disk says; waits RESTORE_SECONDS at the most. Never raises."""
        self.feed.load_kept()
        reading = asyncio.get_running_loop().create_task(asyncio.to_thread(read_leases, self.directory))
        self._reading = reading
        reading.add_done_callback(self._restored)
        # What takes longer is taken as soon as it is read: calls are served meanwhile.
        await asyncio.wait([reading], timeout=RESTORE_SECONDS)

    def _restored(self, reading: "asyncio.Task[list[Lease]]") -> None:
        self._reading = None
        try:
            self._take(reading.result())
        except Exception as error:  # a file that somebody edited: calls go on without it
            log.warning("leases-not-read: %s", error)

    def start(self) -> None:
        """Follow the database from now on; calls are served."""
        self._is_serving = True
        self.feed.start()

    def stop(self) -> None:
        """Keep what there is, and end."""
        self.feed.stop()
        self._is_serving = False
        self._take(())
        if self.callbacks.changes != self._written:
            self._write(self.callbacks.leases.all(), self.journal.segment)

    def _take(self, found: Sequence[Lease]) -> None:
        """Leases of elsewhere, in slices where calls are served."""
        is_begun = bool(self._waiting)
        self._waiting.extend(found)
        if not self._is_serving:
            self.callbacks.merge(self._waiting)
            self._waiting.clear()
        elif not is_begun:
            self._take_some()

    def _take_some(self) -> None:
        count = min(MERGED_AT_ONCE, len(self._waiting))
        some = [self._waiting.popleft() for _ in range(count)]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._take_some)
        self.callbacks.merge(some)

    def keep(self) -> None:
        """Now and then: what has changed goes to this node's disk, beside the calls."""
        now = time.monotonic()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_SECONDS
            self.callbacks.leases.prune(time.time())
        if self.callbacks.changes == self._written or (self._writing is not None and not self._writing.done()):
            return
        if now < self._write_at:
            return
        self._write_at = now + len(self.callbacks.leases) / LEASES_A_SECOND
        self._written = self.callbacks.changes
        leases, segment = self.callbacks.leases.all(), self.journal.segment
        self._writing = asyncio.get_running_loop().create_task(asyncio.to_thread(self._write, leases, segment))

    def _write(self, leases: Sequence[Lease], segment: int) -> None:
        try:
            write_leases(self.directory, leases, segment)
        except (OSError, TypeError) as error:
            self._written = -1
            log.warning("leases-not-kept %s; the journal has them", error)

    def _read(self, conn: Connection) -> list[dict[str, Any]]:
        found = leases_for_node(conn, self.node, time.time(), own=not self._has_read)
        self._has_read = True
        return found

    def _read_nodes(self, conn: Connection) -> list[dict[str, Any]]:
        return [{"name": name} for name in sharing_nodes(conn, self.node)]


class _News:
    """Makes leases of those rows that are not as they were at the last look; in the thread that reads."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, float, float | None]] = {}

    def __call__(self, rows: Rows) -> list[Lease]:
        now = time.time()
        seen: dict[tuple[str, str], tuple[float, float, float | None]] = {}
        found = []
        for row in rows:
            key = row["number"], row["caller"]
            times = row["since"], row["until"], row.get("released_at")
            seen[key] = times
            if self._seen.get(key) != times and not (row.get("is_test") and times[1] < now):
                found.append(lease_from(row))
        self._seen = seen
        return found


def _names(rows: Rows) -> tuple[str, ...]:
    return tuple(str(row["name"]) for row in rows)
