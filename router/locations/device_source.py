"""The database as the call process reads its devices: first whole, then what is new, the newest first.

For one thread, which lets go of the interpreter after each few devices (`pause`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from e911.location import Device
from router.store.devices import (
    StaleRevisionError,
    changed_names,
    current_revision,
    device_batches,
    devices_now,
    newest_of,
)
from router.store.engine import open_store, reading, sqlite_path
from router.store.errors import StoreError

_WAIT_FOR_LOCK: Final = 1.0
BATCH: Final = 25
"""Devices parsed by the thread before it lets go of the interpreter lock: half a millisecond of work. A call needs
the lock anew after each thing it sends or writes."""
_STEP: Final = 8 * BATCH
"""Changed devices read before it is looked whether there are newer ones."""
_NAMES: Final = 20 * BATCH
"""Names of changed devices read before it lets go of the lock: these are nothing but texts."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The table was read whole; it goes in the place of what was known."""

    devices: dict[str, Device]
    ever_held_a_device: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """Devices changed or new as they are now, and names gone."""

    changed: list[Device]
    removed: list[str]


class StoppedError(Exception):
    """The feed was stopped in the middle of reading."""


class Source:
    """The database as the feed reads it: first whole, then what is new; whole again after any trouble."""

    def __init__(self, url: str, pause: Callable[[], None]) -> None:
        self._url = url
        self._pause = pause
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self.revision: int | None = None
        """The last change whose name was read; None where the whole table must be read."""
        self._names: list[str] = []
        """Changed devices that are still to be read; those that changed last at the end."""

    @property
    def has_more(self) -> bool:
        """True where the next poll has something to give at once."""
        return bool(self._names)

    def poll(self) -> Whole | Changes | None:
        """What is new, of much a part (`has_more`), the newest first; None where nothing is. Raises StoreError; the
        next poll then begins anew."""
        try:
            return self._poll()
        except StoreError:
            self.close()
            raise
        except StoppedError:
            raise
        except Exception as error:  # whatever it is, calls go on without it
            self.close()
            raise StoreError("database-error", detail=f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of the database."""
        self._forget()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _forget(self) -> None:
        self.revision = None
        while self._names:
            newest_of(self._names, _NAMES)

    def _poll(self) -> Whole | Changes | None:
        self._notice_another_file()
        if self._engine is None:
            self._engine = open_store(self._url, create=False, wait=_WAIT_FOR_LOCK)
            self._file = self._identity()
        with reading(self._engine) as conn:
            if self.revision is not None:
                try:
                    self.revision, names = changed_names(conn, self.revision, batch=_NAMES, pause=self._pause)
                except StaleRevisionError:
                    self._forget()
                else:
                    self._names += names
                    if not self._names:
                        return None
                    some = newest_of(self._names, _STEP)
                    return Changes(*devices_now(conn, some, batch=BATCH, pause=self._pause))
            revision = current_revision(conn)  # before the devices: what changes between is read again
            devices: dict[str, Device] = {}
            for batch in device_batches(conn, BATCH):
                devices.update((device.device, device) for device in batch)
                self._pause()
        self.revision = revision
        return Whole(devices, revision > 0)

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
