"""The registered devices for the call process: the last known good ones at once, the database's as soon as it
answers, then every change within a second.

A thread of its own asks the database for the revision of the devices and reads what is new; the event loop only
gets finished Device objects, a few at a time. Whatever is wrong with the database, calls keep the table they
have, the health reason says so, and the thread keeps trying.
"""

import asyncio
import gc
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Engine

from e911.location import Device
from router.locations.last_known_good import LastKnownGood
from router.process.structured_log import structlog
from router.store.devices import (
    StaleRevisionError,
    changes_since,
    current_revision,
    device_batches,
)
from router.store.engine import open_store, parse_url, reading, sqlite_path
from router.store.errors import StoreError, database_name
from router.store.followed import ChangeSignal

HEALTHY: Final = "ok"
EMPTIED: Final = "database-new-and-empty"
"""The database never held a device, though this node knows some: it was probably lost and made anew. Calls go on with
the devices that this node knows."""
NOT_READ_YET: Final = "database-not-read-yet"
"""Since the process started the database has not answered, neither with devices nor with an error."""
FAULT: Final = "device-feed-fault"
"""A fault of this program."""
_USING_LAST_KNOWN_GOOD: Final = "-using-last-known-good"

_INTERVAL: Final = 0.3
_WHILE_TOLD: Final = 1.0
"""Between two looks where the database tells of changes (LISTEN): a pooler before it may keep that to itself."""
_RETRY_AFTER: Final = 1.0
_WAIT_FOR_LOCK: Final = 1.0
_SLICE: Final = 40
"""Devices handed over in one turn of the loop: a millisecond of work."""
_BATCH: Final = 25
"""Devices parsed by the thread before it lets go of the interpreter lock: half a millisecond of work. A call needs
the lock anew after each thing it sends or writes."""
_PAUSE: Final = 0.001
_MANY: Final = 1000
"""Devices that would be felt in a garbage collection."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """The table was read whole; it goes in the place of what was known."""

    devices: dict[str, Device]
    ever_held_a_device: bool


@dataclass(frozen=True, slots=True)
class _Changes:
    changed: list[Device]
    removed: list[str]


class _StoppedError(Exception):
    """The feed was stopped in the middle of reading."""


class DeviceFeed:
    """Keeps the call process's device table like the database's.

    url: of the store. on_replace(devices): the whole table, from load_kept and load_now only. on_change(changed,
    removed): devices changed or new and names gone, on the event loop, a few at a turn. on_health(reason): ok, or
    what is wrong (`database-locked`, `database-corrupt`, …), with `-using-last-known-good` at its end while
    calls use devices that the database did not confirm; called when it changes. directory: where the last
    known good table is kept; None keeps none. interval: seconds between two looks at the database; PostgreSQL tells
    of changes itself.
    """

    def __init__(
        self,
        url: str,
        on_replace: Callable[[list[Device]], None],
        on_change: Callable[[list[Device], list[str]], None],
        on_health: Callable[[str], None],
        *,
        directory: Path | None = None,
        interval: float = _INTERVAL,
    ) -> None:
        self._on_replace = on_replace
        self._on_change = on_change
        self._on_health = on_health
        self._interval = interval
        self._source = _Source(url, self._pause)
        self._signal: ChangeSignal | None = None
        """The thread's own."""
        self._url = url
        self._kept = LastKnownGood(directory, _name(url)) if directory is not None else None
        self._keep_whole = True
        """The file must be written anew, not appended to."""
        self._known: dict[str, Device] = {}
        """What calls have, or will have once the queue is empty; the thread's own."""
        self._knew_some = False
        self._is_emptied = False
        """True once a device was known, also from the last known good file."""
        self._health = ""
        self._log = structlog.get_logger("edge911.devices")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[Callable[[], None]] = deque()
        self._delivering = False
        self._hurry = False
        """True while no calls are served that pauses could spare."""
        self._looked = asyncio.Event()
        """Set in the loop once the first look at the database is over and its devices are handed over."""
        self._has_looked = False

    def load_kept(self) -> None:
        """Hand the last known good devices to on_replace; waits for no database. Never raises.

        Health is `database-not-read-yet` until the thread, which `start` begins, has looked.
        """
        kept = self._read_kept()
        self._knew_some = bool(kept)
        self._known = {device.device: device for device in kept}
        self._hurry = True
        self._on_replace(kept)
        self._say(_unread(NOT_READ_YET, kept))

    def _read_kept(self) -> list[Device]:
        if self._kept is None:
            return []
        try:
            return self._kept.read()
        except Exception as error:  # a file that somebody edited must not keep calls from being served
            self._log.error("last-known-good-not-read", file=str(self._kept.path), detail=type(error).__name__)
            return []

    async def first_look(self, seconds: float) -> bool:
        """Wait for the first look at the database, so long at the most. False where it is not over."""
        try:
            async with asyncio.timeout(seconds):
                await self._looked.wait()
        except TimeoutError:
            return False
        finally:
            self._hurry = False
        return True

    def load_now(self) -> None:
        """Read the whole table and hand it to on_replace, without a loop (for commands); blocks for seconds at most.

        Never raises: where the database cannot be read, the table is the last known good one, or empty.
        """
        self._source.close()
        try:
            with _collector_paused():
                found = self._source.poll()
        except StoreError as error:
            kept = self._read_kept()
            self._knew_some = bool(kept)
            self._known = {device.device: device for device in kept}
            self._on_replace(kept)
            self._say(_unread(error.reason, self._known))
            self._log.error("devices-not-read", reason=error.reason, detail=str(error), used=len(self._known))
            return
        assert isinstance(found, _Whole)  # the first look at a database is always at all of it
        # The file is needed only where the database knows nothing: it takes as long to read as the database.
        kept = [] if found.ever_held_a_device else self._read_kept()
        self._knew_some = found.ever_held_a_device or bool(kept)
        if self._is_lost(found):
            self._is_emptied = True
            self._known = {device.device: device for device in kept}
            self._on_replace(kept)
            self._say(EMPTIED + _USING_LAST_KNOWN_GOOD)
            return
        self._known = found.devices
        self._on_replace(list(found.devices.values()))
        self._say(self._health_of(found))

    def start(self) -> None:
        """Follow the database from now on; called in the running loop that the callbacks belong to."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._follow, name="device-feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; it is waited for no longer than 2 s, for a database may not answer."""
        self._stopping.set()
        if self._thread is None:
            self._source.close()
        else:
            self._thread.join(2.0)

    # In the thread.

    def _follow(self) -> None:
        try:
            self._keep()
            while not self._stopping.is_set():
                healthy = self._look()
                if healthy:
                    self._await_change()
                else:
                    self._stopping.wait(max(self._interval, _RETRY_AFTER))
        except _StoppedError:
            pass
        finally:
            self._source.close()
            if self._signal is not None:
                self._signal.close()

    def _await_change(self) -> None:
        """Until the database says that something changed, or it is time to look."""
        if self._signal is None:
            self._signal = ChangeSignal(self._url)
        if self._signal.listen():
            return  # what changed before we listened is looked for at once
        self._signal.wait(_WHILE_TOLD if self._signal.is_listening else self._interval, self._stopping)

    def _look(self) -> bool:
        """One look at the database; True where it could be read."""
        try:
            found = self._source.poll()
            if isinstance(found, _Whole) and self._is_lost(found):
                self._is_emptied = True
                self._say_on_loop(EMPTIED + _USING_LAST_KNOWN_GOOD)
                self._first_look_is_over()
                return True
            if self._is_emptied and found is not None:
                self._is_emptied = False
                if not isinstance(found, _Whole):
                    self._source.close()  # it holds devices again: the next look is at all of it
                    return True
            changes = self._difference(found.devices) if isinstance(found, _Whole) else found
            if changes is not None:
                self._hand_over(changes)
                self._say_on_loop(self._health_of(found) if isinstance(found, _Whole) else HEALTHY)
            self._first_look_is_over()
            if changes is not None and (changes.changed or changes.removed):
                self._keep(changes)
        except _StoppedError:
            raise
        except Exception as error:  # whatever it is, calls go on and the next look begins anew
            self._source.close()
            reason = error.reason if isinstance(error, StoreError) else FAULT
            if self._say_on_loop(_unread(reason, self._known)):
                self._log.error("devices-not-read", reason=reason, detail=str(error))
            self._first_look_is_over()
            return False
        return True

    def _is_lost(self, found: _Whole) -> bool:
        """True for a database that was lost and made anew (a volume that was not mounted in time, a deleted file): it
        never held a device, and we know some. They stay until it holds devices again."""
        return self._knew_some and not found.ever_held_a_device

    def _first_look_is_over(self) -> None:
        if not self._has_looked:
            self._has_looked = True
            self._enqueue(self._looked.set)

    def _difference(self, devices: dict[str, Device]) -> _Changes:
        changed = []
        for number, (name, device) in enumerate(devices.items(), start=1):
            if self._known.get(name) != device:
                changed.append(device)
            if number % (40 * _BATCH) == 0:
                self._pause()
        return _Changes(changed, [name for name in self._known if name not in devices])

    def _hand_over(self, changes: _Changes) -> None:
        self._knew_some = self._knew_some or bool(changes.changed)
        for device in changes.changed:
            self._known[device.device] = device
        for name in changes.removed:
            self._known.pop(name, None)
        for removed in _slices(changes.removed):
            self._enqueue(partial(self._on_change, [], removed))
        for changed in _slices(changes.changed):
            self._enqueue(partial(self._on_change, changed, []))
        if len(changes.changed) >= _MANY:
            # Many devices are in no cycle and go by their count: later collections need not look at them. Done by
            # the loop, for what the collector does in the call process is the loop's business alone.
            self._enqueue(gc.freeze)

    def _keep(self, changes: _Changes | None = None) -> None:
        """Bring the last known good file up to date, unless what is known is not the database's."""
        if self._kept is None or self._source.revision in (None, 0):
            return
        try:
            if self._keep_whole or changes is None or self._kept.has_outgrown(len(self._known)):
                self._kept.replace(self._known.values(), pause=self._pause)
                self._keep_whole = False
            else:
                self._kept.append(changes.changed, changes.removed, pause=self._pause)
        except _StoppedError:
            raise
        except Exception as error:  # a full disk, text that no file takes: calls go on without the file
            self._keep_whole = True
            self._log.warning("last-known-good-not-written", file=str(self._kept.path), detail=str(error))

    def _pause(self) -> None:
        """Let the loop have the interpreter; no pause where there is no loop yet."""
        if self._loop is None:
            return
        if self._stopping.is_set():
            raise _StoppedError
        if not self._hurry:
            time.sleep(_PAUSE)

    # Between the thread and the loop.

    def _enqueue(self, turn: Callable[[], None]) -> None:
        assert self._loop is not None
        self._queue.append(turn)
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: the process ends
            raise _StoppedError from None

    def _say_on_loop(self, reason: str) -> bool:
        """Tell the health where it changed; True where it did."""
        if reason == self._health:
            return False
        self._health = reason
        self._enqueue(partial(self._on_health, reason))
        return True

    # On the loop.

    def _deliver(self) -> None:
        """One item of the queue; the next in the loop's next turn, so that calls come in between."""
        if not self._delivering:
            self._delivering = True
            self._deliver_next()

    def _deliver_next(self) -> None:
        assert self._loop is not None
        try:
            turn = self._queue.popleft()
        except IndexError:
            self._delivering = False
            return
        self._loop.call_soon(self._deliver_next)
        turn()

    def _say(self, reason: str) -> None:
        self._health = reason
        self._on_health(reason)

    def _health_of(self, found: _Whole) -> str:
        self._knew_some = self._knew_some or bool(found.devices)
        return HEALTHY


class _Source:
    """The database as the feed reads it: first whole, then what is new; whole again after any trouble."""

    def __init__(self, url: str, pause: Callable[[], None]) -> None:
        self._url = url
        self._pause = pause
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self.revision: int | None = None
        """The last change read; None where the whole table must be read."""

    def poll(self) -> _Whole | _Changes | None:
        """What is new, None where nothing is. Raises StoreError; the next poll then begins anew."""
        try:
            return self._poll()
        except StoreError:
            self.close()
            raise
        except _StoppedError:
            raise
        except Exception as error:  # whatever it is, calls go on without it
            self.close()
            raise StoreError("database-error", detail=f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of the database."""
        self.revision = None
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _poll(self) -> _Whole | _Changes | None:
        self._notice_another_file()
        if self._engine is None:
            self._engine = open_store(self._url, create=False, wait=_WAIT_FOR_LOCK)
            self._file = self._identity()
        with reading(self._engine) as conn:
            if self.revision is not None:
                try:
                    revision, changed, removed = changes_since(conn, self.revision, batch=_BATCH, pause=self._pause)
                except StaleRevisionError:
                    self.revision = None
                else:
                    is_new = revision != self.revision
                    self.revision = revision
                    return _Changes(changed, removed) if is_new else None
            revision = current_revision(conn)  # before the devices: what changes between is read again
            devices: dict[str, Device] = {}
            for batch in device_batches(conn, _BATCH):
                devices.update((device.device, device) for device in batch)
                self._pause()
        self.revision = revision
        return _Whole(devices, revision > 0)

    def _notice_another_file(self) -> None:
        """An SQLite file that was replaced or deleted stays open, and silent, for those who had it open."""
        identity = self._identity()
        if self._engine is not None and identity != self._file:
            self.close()

    def _identity(self) -> tuple[int, int] | None:
        path = sqlite_path(self._url)
        if path is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None  # opening it says what is wrong
        return status.st_dev, status.st_ino


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without cyclic garbage collection, which a load of many devices would set off again and again.

    For load_now only: a thread must leave the collector of the process alone.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _name(url: str) -> str:
    try:
        return database_name(parse_url(url))
    except StoreError:
        return ""


def _unread(reason: str, used: Iterable[object]) -> str:
    return reason + (_USING_LAST_KNOWN_GOOD if used else "")


_Item = TypeVar("_Item")


def _slices(items: list[_Item]) -> Iterator[list[_Item]]:
    for start in range(0, len(items), _SLICE):
        yield items[start : start + _SLICE]
