"""What references stand for, in memory: from the spool of this node, and from the database for those of others.

The database is asked only for what is not known here, and written in a thread of its own; where it does not answer,
this node's references are answered all the same.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from router.references.spool import Referred, SpoolReader
from router.store.engine import open_store, reading, writing
from router.store.errors import StoreError
from router.store.references import find_reference, forget_references, keep_references

log = logging.getLogger("router.references")

ASK_SECONDS: Final = 2.0
"""So long a request waits for the database."""
LOOK_AGAIN: Final = (0.1, 0.2, 0.4, 0.8)
"""Pauses before the database is asked again for a reference that is not there: a provider that routes by a location
fetches it at once, and may reach another node before the one that has the call has written it down."""
LOOKING_LIMIT: Final = 50
"""So many requests look again at once; beyond, unknown references are told so at the first look."""
RETRY_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 600.0
UNKEPT_LIMIT: Final = 10_000
"""References that wait for the database; the oldest go beyond it. This node answers them in any case."""
WAIT_FOR_LOCK: Final = 2.0
LONGEST_LIFETIME: Final = 86_400.0
"""Seconds that a reference can be answered at the most (`lifetime`)."""


class ReferenceTable:
    """The references of this node by key, until they expire. clock: seconds since 1970."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._spool = SpoolReader(state)
        self._clock = clock
        self._known: dict[str, Referred] = {}

    def __len__(self) -> int:
        return len(self._known)

    def read(self) -> list[Referred]:
        """Take in what was handed over since the last time; what is new."""
        new = self._spool.read()
        for one in new:
            before = self._known.get(one.key)
            if before is not None:
                one = Referred(
                    key=one.key,
                    call=one.call,
                    expires=max(one.expires, before.expires),
                    documents={**before.documents, **one.documents},
                )
            self._known[one.key] = one
        return new

    def find(self, key: str) -> Referred | None:
        """What a reference stands for; None where it is not known or has expired."""
        found = self._known.get(key)
        if found is None:
            self.read()
            found = self._known.get(key)
        return found if found is not None and found.expires > self._clock() else None

    def has(self, key: str) -> bool:
        """True where it is known, expired or not."""
        return key in self._known

    def forget_expired(self) -> None:
        """Drop what has expired, and the files in which nothing else is left."""
        now = self._clock()
        for key in [key for key, one in self._known.items() if one.expires <= now]:
            del self._known[key]
        self._spool.discard_older(now - LONGEST_LIFETIME)


class SharedReferences:
    """The same in the database, for nodes that stand in for each other."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._clock = clock
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._waiting: dict[str, Referred] = {}
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._forget_at = 0.0
        self._looking = 0
        self.problem = ""
        """Reason name of what is wrong with the database, or empty."""
        self._thread = threading.Thread(target=self._keep, name="references", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is written where the database answers in time."""
        self._stopping.set()
        self._news.set()
        self._thread.join(2.0)

    def keep(self, found: list[Referred]) -> None:
        """Have these written soon."""
        if not found:
            return
        with self._lock:
            for one in found:
                self._waiting[one.key] = one
            while len(self._waiting) > UNKEPT_LIMIT:
                del self._waiting[next(iter(self._waiting))]
        self._news.set()

    async def find(self, key: str) -> Referred | None:
        """What a reference of another node stands for; None also where the database does not answer in time. One that
        is not there is looked for again for a moment, where there can be other nodes (PostgreSQL)."""
        try:
            found = await self._ask(key)
            if found is not None or not self._url.startswith("postgresql") or self._looking >= LOOKING_LIMIT:
                return found
            self._looking += 1
            try:
                for pause in LOOK_AGAIN:
                    await asyncio.sleep(pause)
                    found = await self._ask(key)
                    if found is not None:
                        break
            finally:
                self._looking -= 1
        except (TimeoutError, StoreError):
            return None
        return found

    async def _ask(self, key: str) -> Referred | None:
        async with asyncio.timeout(ASK_SECONDS):
            found = await asyncio.to_thread(self._find, key)
        return found if found is not None and found.expires > self._clock() else None

    def _find(self, key: str) -> Referred | None:
        with reading(self._open()) as conn:
            return find_reference(conn, key)

    def _open(self) -> Engine:
        with self._lock:
            engine = self._engine
        if engine is None:
            engine = open_store(self._url, wait=WAIT_FOR_LOCK)
            with self._lock:
                self._engine = engine
        return engine

    def _keep(self) -> None:
        while True:
            self._news.wait(FORGET_SECONDS)
            self._news.clear()
            while not self._write() and not self._stopping.wait(RETRY_SECONDS):
                pass
            if self._stopping.is_set():
                break
        if self._engine is not None:
            self._engine.dispose()

    def _write(self) -> bool:
        with self._lock:
            batch = dict(self._waiting)
        try:
            now = self._clock()
            with writing(self._open()) as conn:
                keep_references(conn, batch.values())
                if now >= self._forget_at:
                    forget_references(conn, now)
                    self._forget_at = now + FORGET_SECONDS
        except Exception as error:  # whatever it is, it is tried again, and this node answers without
            reason = error.reason if isinstance(error, StoreError) else type(error).__name__
            if reason != self.problem:
                log.error("references-not-shared", extra={"event_fields": {"reason": reason, "detail": str(error)}})
            self.problem = reason
            return False
        self.problem = ""
        with self._lock:
            for key, one in batch.items():
                if self._waiting.get(key) is one:
                    del self._waiting[key]
        return True
