"""This node's signs of life in the database, by the process that tells its notices; and which other nodes are silent.

A thread of its own: nothing waits for it. Without the database nobody is called silent, for then nobody can tell.
"""

import logging
import threading
import time

from sqlalchemy import Engine

from router.store.engine import StoreError, open_store, writing
from router.store.leases import forget_leases
from router.store.nodes import BEAT_SECONDS, SILENT_SECONDS, beat, database_time, forget_nodes, silent_nodes

FORGET_EVERY = 3600.0

log = logging.getLogger(__name__)


class NodeBeat(threading.Thread):
    """Beats every BEAT_SECONDS until stopped; `silent` names the other nodes that did not live at the last beat."""

    def __init__(self, url: str, node: str) -> None:
        super().__init__(daemon=True, name="node-beat")
        self.silent: tuple[str, ...] = ()
        self.is_ok = False
        self.returns = 0
        """How often this node may have counted as silent and lives again: others may tell what it owes."""
        self._beaten_at = time.monotonic()
        self._url = url
        self._node = node
        self._started_at = time.time()
        self._stopping = threading.Event()
        self._engine: Engine | None = None
        self._forget_at = 0.0

    def stop(self, timeout: float = 1.0) -> None:
        """End; waits at most `timeout` seconds."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                self._beat()
                self.is_ok = True
            except Exception as error:  # whatever it is, it is tried again
                if self.is_ok:
                    reason = error.reason if isinstance(error, StoreError) else type(error).__name__
                    log.warning("node-not-seen", extra={"event_fields": {"reason": reason, "detail": str(error)}})
                self.is_ok, self.silent = False, ()
                self._close()
            self._stopping.wait(BEAT_SECONDS)
        self._close()

    def _beat(self) -> None:
        if self._engine is None:
            self._engine = open_store(self._url, create=False, wait=1.0, longest_pause=SILENT_SECONDS)
        now = time.monotonic()
        with writing(self._engine) as conn:
            beat(conn, self._node, self._started_at)
            if now >= self._forget_at:
                self._forget_at = now + FORGET_EVERY
                forget_nodes(conn)
                forget_leases(conn, database_time(conn))
            silent = tuple(silent_nodes(conn, self._node))
        before, self._beaten_at = self._beaten_at, time.monotonic()
        if self._beaten_at - before > SILENT_SECONDS - BEAT_SECONDS:
            self.returns += 1
        for name in silent:
            if name not in self.silent:
                log.warning("node-silent", extra={"event_fields": {"silent": name}})
        self.silent = silent

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()
