"""Followed tables: numbers that grow with each change, and a signal of changes (LISTEN on PostgreSQL).

A migration has a table followed with `router.store.migrations.followed.follow`; who reads it
(`router.locations.table_feed`) reads it again when its number has grown.
"""

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Connection, Table, Text, select

from router.store.engine import CONNECT_TIMEOUT, parse_url
from router.store.metadata import metadata

if TYPE_CHECKING:
    import psycopg

CHANNEL: Final = "edge911_changes"
"""Of PostgreSQL's NOTIFY: the name of the table that changed."""

table_revisions = Table(
    "table_revisions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

CONNECT_AGAIN: Final = 5.0
"""Seconds between two tries to listen."""
_SLICE: Final = 0.25
"""Seconds after which a listener looks whether it is to stop."""


def revisions_of(conn: Connection) -> dict[str, int]:
    """The number of changes of each followed table."""
    return {row.name: row.revision for row in conn.execute(select(table_revisions))}


class ChangeSignal:
    """Waits until something may have changed; for one thread.

    On PostgreSQL a connection of its own listens: `wait` returns within milliseconds of a change. On SQLite, and
    where that connection cannot be had, it returns when the time given is over, and the caller looks for itself.
    Nothing here raises: whoever waits for changes must never be without them.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._target = (
            parsed.set(drivername="postgresql").render_as_string(hide_password=False)
            if parsed.get_backend_name() == "postgresql"
            else ""
        )
        self._conn: psycopg.Connection[Any] | None = None
        self._connect_at = 0.0

    @property
    def is_listening(self) -> bool:
        """True where changes are told, and need not be looked for often."""
        return self._conn is not None

    def listen(self) -> bool:
        """Listen from now on, where that can be; True where it is new: what came before is then to be looked for."""
        now = time.monotonic()
        if not self._target or self._conn is not None or now < self._connect_at:
            return False
        self._connect_at = now + CONNECT_AGAIN
        try:
            import psycopg  # takes longer than all else, and SQLite needs none of it

            self._conn = psycopg.connect(
                self._target,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT,
                application_name="edge911 listener",
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=5000,
            )
            self._conn.execute(f"LISTEN {CHANNEL}")
        except Exception:  # not only psycopg's errors: no descriptor may be left
            self.close()
            return False
        return True

    def wait(self, seconds: float, stopping: threading.Event) -> bool:
        """Until something changed, the time is over or `stopping` is set; True where something changed."""
        if self._conn is None:
            stopping.wait(seconds)
            return False
        end = time.monotonic() + seconds
        try:
            while not stopping.is_set():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                for _ in self._conn.notifies(timeout=min(left, _SLICE), stop_after=1):
                    return True
        except Exception:  # whatever it is, the caller goes on looking by itself
            self.close()
            stopping.wait(min(seconds, _SLICE))
        return False

    def close(self) -> None:
        """Let go of the connection."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(Exception):  # it is of no use any more, whatever it says
                conn.close()
