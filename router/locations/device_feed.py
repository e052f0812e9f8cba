"""The registered devices for the call process: the last known good ones at once, the database's as soon as it
answers, then every change within a second, the newest first.

A thread of its own asks the database for the revision of the devices and reads what is new; the event loop only
gets finished Device objects, a few at a time. Whatever is wrong with the database, calls keep the table they
have, the health reason says so, and the thread keeps trying.
"""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from e911.location import Device
from router.locations.device_source import BATCH, Changes, Source, StoppedError, Whole
from router.locations.last_known_good import LastKnownGood
from router.process.structured_log import structlog
from router.store.engine import parse_url
from router.store.errors import StoreError, database_name
from router.store.followed import ChangeSignal

HEALTHY: Final = "ok"
EMPTIED: Final = "database-new-and-empty"
"""The database never held a device, though this node knows some: it was probably lost and made anew. Calls go on with
the devices that this node knows."""
NOT_READ_YET: Final = "database-not-read-yet"
"""Since the process started the database has not answered, neither with devices nor with an error."""
SILENT: Final = "database-silent"
"""A question to the database has had no answer for SILENT_AFTER: its server hangs, or the network swallows it."""
FAULT: Final = "device-feed-fault"
"""A fault of this program."""
_USING_LAST_KNOWN_GOOD: Final = "-using-last-known-good"

_INTERVAL: Final = 0.3
_WHILE_TOLD: Final = 1.0
"""Between two looks where the database tells of changes (LISTEN): a pooler before it may keep that to itself."""
_RETRY_AFTER: Final = 1.0
SILENT_AFTER: Final = 15.0
_SLICE: Final = 40
"""Devices handed over in one turn of the loop: a millisecond of work."""
_PAUSE: Final = 0.001
_MANY: Final = 1000
"""Devices that would be felt in a garbage collection."""


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
        self._source = Source(url, self._pause)
        self._signal: ChangeSignal | None = None
        """The thread's own."""
        self._url = url
        self._kept = LastKnownGood(directory, _name(url)) if directory is not None else None
        self._keep_whole = True
        """The file must be written anew, not appended to."""
        self._unkept: list[Changes] = []
        """What calls have, and the file has not yet; the thread's own, as what follows."""
        self._look_at = 0.0
        """When new changes are looked for while the file is written (monotonic)."""
        self._handed = 0
        """Devices handed over since nothing was left to be read."""
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
        self._asked_at = 0.0
        """Since when the thread waits for an answer (monotonic); 0 while it does not."""
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

    def watch(self, now: float) -> None:
        """In the loop, now and then: say that the database is silent. now: monotonic seconds."""
        asked_at = self._asked_at
        if asked_at and now - asked_at > SILENT_AFTER and not self._health.startswith((SILENT, NOT_READ_YET)):
            self._say(_unread(SILENT, self._known))

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
        assert isinstance(found, Whole)  # the first look at a database is always at all of it
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
            self._keep_whole_file()
            while not self._stopping.is_set():
                healthy = self._look()
                if healthy and self._source.has_more:
                    continue
                if healthy:
                    self._keep()
                    self._await_change()
                else:
                    self._stopping.wait(max(self._interval, _RETRY_AFTER))
        except StoppedError:
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
            self._asked_at = time.monotonic()
            found = self._source.poll()
            self._asked_at = 0.0
            if self._health.startswith(SILENT):
                self._say_on_loop(EMPTIED + _USING_LAST_KNOWN_GOOD if self._is_emptied else HEALTHY)
            if isinstance(found, Whole) and self._is_lost(found):
                self._is_emptied = True
                self._say_on_loop(EMPTIED + _USING_LAST_KNOWN_GOOD)
                self._first_look_is_over()
                return True
            if self._is_emptied and found is not None:
                self._is_emptied = False
                if not isinstance(found, Whole):
                    self._source.close()  # it holds devices again: the next look is at all of it
                    return True
            changes = self._difference(found.devices) if isinstance(found, Whole) else found
            if changes is not None:
                self._hand_over(changes)
                self._say_on_loop(self._health_of(found) if isinstance(found, Whole) else HEALTHY)
            self._first_look_is_over()
            if changes is not None and (changes.changed or changes.removed):
                self._unkept.append(changes)
        except StoppedError:
            raise
        except Exception as error:  # whatever it is, calls go on and the next look begins anew
            self._asked_at = 0.0
            self._source.close()
            reason = error.reason if isinstance(error, StoreError) else FAULT
            if self._say_on_loop(_unread(reason, self._known)):
                self._log.error("devices-not-read", reason=reason, detail=str(error))
            self._first_look_is_over()
            return False
        return True

    def _is_lost(self, found: Whole) -> bool:
        """True for a database that was lost and made anew (a volume that was not mounted in time, a deleted file): it
        never held a device, and we know some. They stay until it holds devices again."""
        return self._knew_some and not found.ever_held_a_device

    def _first_look_is_over(self) -> None:
        if not self._has_looked:
            self._has_looked = True
            self._enqueue(self._looked.set)

    def _difference(self, devices: dict[str, Device]) -> Changes:
        changed = []
        for number, (name, device) in enumerate(devices.items(), start=1):
            if self._known.get(name) != device:
                changed.append(device)
            if number % (40 * BATCH) == 0:
                self._pause()
        return Changes(changed, [name for name in self._known if name not in devices])

    def _hand_over(self, changes: Changes) -> None:
        self._knew_some = self._knew_some or bool(changes.changed)
        for device in changes.changed:
            self._known[device.device] = device
        gone = [name for name in changes.removed if self._known.pop(name, None) is not None]
        for removed in _slices(gone):
            self._enqueue(partial(self._on_change, [], removed))
        for changed in _slices(changes.changed):
            self._enqueue(partial(self._on_change, changed, []))
        self._handed += len(changes.changed)
        if not self._source.has_more:
            if self._handed >= _MANY:
                # Many devices are in no cycle and go by their count: later collections need not look at them. Done
                # by the loop, for what the collector does in the call process is the loop's business alone.
                self._enqueue(gc.freeze)
            self._handed = 0

    def _keep(self) -> None:
        """Bring the last known good file up to date with what was handed over, unless it is not the database's."""
        while self._unkept and self._may_keep:
            unkept, self._unkept = self._unkept, []
            assert self._kept is not None
            try:
                if self._keep_whole or self._kept.has_outgrown(len(self._known)):
                    self._replace_kept()
                else:
                    for changes in unkept:
                        self._kept.append(changes.changed, changes.removed, pause=self._pause_and_look)
            except StoppedError:
                raise
            except Exception as error:  # a full disk, text that no file takes: calls go on without the file
                self._not_kept(error)

    def _keep_whole_file(self) -> None:
        """Write the file anew, where what is known is the database's."""
        if self._may_keep:
            try:
                self._replace_kept()
            except StoppedError:
                raise
            except Exception as error:
                self._not_kept(error)

    def _replace_kept(self) -> None:
        assert self._kept is not None
        self._look_at = time.monotonic() + self._interval
        # A copy, for what is looked for meanwhile changes it.
        self._kept.replace(list(self._known.values()), pause=self._pause_and_look)
        self._keep_whole = False

    @property
    def _may_keep(self) -> bool:
        return self._kept is not None and self._source.revision not in (None, 0)

    def _not_kept(self, error: Exception) -> None:
        assert self._kept is not None
        self._keep_whole = True
        self._log.warning("last-known-good-not-written", file=str(self._kept.path), detail=str(error))

    def _pause_and_look(self) -> None:
        """While the file is written: let the loop have the interpreter, and see what is new when it is time."""
        self._pause()
        if time.monotonic() < self._look_at:
            return
        while self._look() and self._source.has_more:
            pass
        self._look_at = time.monotonic() + self._interval

    def _pause(self) -> None:
        """Let the loop have the interpreter; no pause where there is no loop yet."""
        if self._asked_at:
            self._asked_at = time.monotonic()  # it is answering
        if self._loop is None:
            return
        if self._stopping.is_set():
            raise StoppedError
        if not self._hurry:
            time.sleep(_PAUSE)

    # Between the thread and the loop.

    def _enqueue(self, turn: Callable[[], None]) -> None:
        assert self._loop is not None
        self._queue.append(turn)
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: the process ends
            raise StoppedError from None

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

    def _health_of(self, found: Whole) -> str:
        self._knew_some = self._knew_some or bool(found.devices)
        return HEALTHY


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
