"""The thread that keeps the SIP messages of emergency calls: follows them as `edge911 trace` does, and stores them.

It runs in the console process: only who has a console looks at them. Whatever fails, it goes on trying; what could
not be kept is counted.
"""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection

from router.store.call_messages import forget_messages, store_messages
from router.trace.messages import FrameReader, Traced, connect
from router.trace.view import PeerNames

CONNECT_AGAIN_SECONDS = 0.3
GATHER_SECONDS = 0.2
"""So long messages are gathered into one transaction."""
FORGET_EVERY_SECONDS = 3600.0
MOST_WAITING = 5000
"""Messages that wait for a database which cannot be written."""
_CHUNK = 1024 * 1024

log = logging.getLogger("router.console")


class MessageKeeper(threading.Thread):
    """Follows the emergency calls of the call process in this state directory.

    writing: opens a transaction; keep_seconds: how long messages are kept.
    """

    def __init__(
        self,
        state_directory: Path,
        node: str,
        writing: Callable[[], AbstractContextManager[Connection]],
        keep_seconds: float,
    ) -> None:
        super().__init__(daemon=True, name="messages")
        self.lost = 0
        """Messages that were not kept."""
        self.problem = ""
        """Why the last of them was not."""
        self._directory = state_directory
        self._node = node
        self._writing = writing
        self._keep_seconds = keep_seconds
        self._waiting: list[tuple[Traced, str]] = []
        self._forgot_at = 0.0
        self._stopping = threading.Event()

    def stop(self, timeout: float = 2.0) -> None:
        """Store what there is, and end."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                listener = connect(self._directory, emergency=True)
            except OSError:
                self._stopping.wait(CONNECT_AGAIN_SECONDS)  # the call process is not there (yet)
                continue
            try:
                with listener:
                    self._follow(listener)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._failed(error)
                self._stopping.wait(CONNECT_AGAIN_SECONDS)
        self._store()

    def _follow(self, listener: socket.socket) -> None:
        """Until the call process hangs up."""
        reader = FrameReader()
        names: PeerNames | None = None
        due = 0.0
        while not self._stopping.is_set():
            ready, _, _ = select.select([listener], [], [], GATHER_SECONDS)
            if ready:
                data = listener.recv(_CHUNK)
                if not data:
                    return
                for traced in reader.feed(data):
                    if names is None:
                        names = PeerNames(reader.hello.trunks if reader.hello else {})
                    self._waiting.append((traced, names.trunk(traced.peer, traced.transport)))
                self.lost += reader.lost
                reader.lost = 0
            now = time.monotonic()
            if self._waiting and due == 0.0:
                due = now + GATHER_SECONDS
            if due and now >= due:
                self._store()
                due = 0.0
            self._forget(now)

    def _store(self) -> None:
        waiting = self._waiting
        if not waiting:
            return
        try:
            with self._writing() as conn:
                store_messages(conn, self._node, waiting)
        except Exception as error:  # a database that is ill: later messages are tried again
            self._failed(error)
            if len(waiting) > MOST_WAITING:
                self.lost += len(waiting)
                self._waiting = []
            return
        self.problem = ""
        self._waiting = []

    def _forget(self, now: float) -> None:
        if self._forgot_at and now - self._forgot_at < FORGET_EVERY_SECONDS:
            return
        self._forgot_at = now
        try:
            with self._writing() as conn:
                forget_messages(conn, time.time() - self._keep_seconds)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        if problem != self.problem:
            log.warning("call-messages-not-kept", extra={"event_fields": {"problem": problem}})
        self.problem = problem
