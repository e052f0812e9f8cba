"""The devices as last read from the database, in a file of this node: what calls use when there is no database.

One JSON document a line: first which database they came from, then devices, and `{"removed": NAME}` for those
that went away later. Changes are appended; the file is written anew when it has grown to twice what it holds.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import orjson

from e911.location import Device
from router.store.devices import columns_of, from_columns, state_of

FILE_NAME: Final = "devices.jsonl"
_FORMAT: Final = 1
_SLACK: Final = 1000
"""Lines that may be appended before growth counts."""
_LINES_BETWEEN_PAUSES: Final = 25


def _no_pause() -> None:
    """What a writer without other work does now and then."""


class LastKnownGood:
    """The file in `directory`, for the devices of `database` (its name without password).

    Used by one thread at a time. Writing raises OSError; reading never raises.
    """

    def __init__(self, directory: Path, database: str) -> None:
        self.path = directory / FILE_NAME
        self._database = database
        self._lines = 0

    def read(self) -> list[Device]:
        """The devices kept; none where there is no file, or it is another database's or not ours.

        A line that cannot be read (the last one, where a power cut came between) is left out.
        """
        last: dict[str, bytes] = {}
        """The last line of each device: one that changed often is made once."""
        lines = 1
        try:
            with open(self.path, "rb") as file:
                if _parsed(file.readline()) != self._header:
                    return []
                for line in file:
                    lines += 1
                    document = _parsed(line)
                    if document is None:
                        continue
                    if isinstance(gone := document.get("removed"), str):
                        last.pop(gone, None)
                    elif isinstance(name := document.get("device"), str) and name:
                        last[name] = line
        except OSError:
            return []
        self._lines = lines
        return [device for line in last.values() if (device := _device(_parsed(line) or {})) is not None]

    def replace(self, devices: Iterable[Device], *, pause: Callable[[], None] = _no_pause) -> None:
        """Write the file anew; a crash leaves the old one or the new one, never half of either."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        with open(written, "wb", opener=_private) as file:
            file.write(orjson.dumps(self._header) + b"\n")
            count = 1
            for count, device in enumerate(devices, start=2):
                file.write(_line(device))
                if count % _LINES_BETWEEN_PAUSES == 0:
                    pause()
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.path)
        self._lines = count

    def append(
        self, changed: Iterable[Device], removed: Iterable[str], *, pause: Callable[[], None] = _no_pause
    ) -> None:
        """Add changes to the file that replace() has written."""
        with open(self.path, "r+b") as file:
            file.seek(0, os.SEEK_END)
            for count, device in enumerate(changed, start=1):
                file.write(_line(device))
                self._lines += 1
                if count % _LINES_BETWEEN_PAUSES == 0:
                    pause()
            for name in removed:
                file.write(orjson.dumps({"removed": name}) + b"\n")
                self._lines += 1

    def has_outgrown(self, devices: int) -> bool:
        """True where the file should be written anew, as there are only that many devices."""
        return self._lines > 2 * devices + _SLACK

    @property
    def _header(self) -> dict[str, object]:
        return {"edge911-devices": _FORMAT, "database": self._database}


def _line(device: Device) -> bytes:
    values = columns_of(device) | state_of(device)
    return orjson.dumps({name: value for name, value in values.items() if value not in ("", None)}) + b"\n"


def _parsed(line: bytes) -> Mapping[str, object] | None:
    try:
        document = orjson.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _device(document: Mapping[str, object]) -> Device | None:
    values = {name: value for name, value in document.items() if isinstance(value, (str, float, int))}
    if not values.get("device"):
        return None
    try:
        return from_columns(values)
    except ValueError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)  # where people are is nobody else's business
