"""The journal: what happened to emergency calls, one JSON line each, written by the call process only.

Records and notices are made from it by another process, so a call never waits for them. An append is one
write(2) without fsync: it survives kill -9 of the process, not a power cut. Segments are files named by a
number that only grows (the microsecond they were begun, or one more than the last: `1790000000000000.jsonl`);
one process at a time writes a directory, any number may read it.
"""

import logging
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import orjson

from e911.location import CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.record import (
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallOutcome,
    CallRefused,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
    SourceAnswer,
    SourceOutcome,
)

SEGMENT_BYTES = 16 * 1024 * 1024
REOPEN_SECONDS = 1.0
SLOW_SECONDS = 0.005
_CHUNK = 256 * 1024
_SEGMENT_NAME = re.compile(r"(\d{8,})\.jsonl")

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the journal: everything before `offset` (bytes) of `segment` has been read."""

    segment: int = 0
    offset: int = 0


START = Cursor()


class LineWriter:
    """Appends lines to numbered segments of a directory; never raises, and goes on trying when it cannot.

    `failures` counts lines that were not written and `last_error` says why; `slow` counts appends that took
    longer than SLOW_SECONDS.
    """

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.directory = directory
        self.failures = 0
        self.appended = 0
        self.slow = 0
        self.last_error = ""
        self.segment = 0
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._size = 0
        self._check_at = 0.0
        self._open()

    def append_line(self, line: bytes) -> bool:
        """Write one line, newline included. False where it was not written (`last_error` says why)."""
        started = time.monotonic()
        if started >= self._check_at:
            self._check_at = started + REOPEN_SECONDS
            if self._fd < 0 or self._is_gone():
                self.roll()
        if self._fd < 0:
            self.failures += 1
            return False
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self.failures += 1
            self.last_error = f"{self.directory}: {error.strerror}"
            return False
        self._size += written
        if written != len(line):
            # A torn line: readers pass over it once a newer segment exists.
            self.failures += 1
            self.last_error = f"{self.directory}: only {written} of {len(line)} bytes written (disk full?)"
            self.roll()
            return False
        self.appended += 1
        if self._size >= self._segment_bytes:
            self.roll()
        if time.monotonic() - started > SLOW_SECONDS:
            self.slow += 1
        return True

    def roll(self) -> None:
        """Go on in a new segment."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the segment; a later append opens a new one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_gone(self) -> bool:
        """True where somebody removed the file we are writing to: nobody would ever read it."""
        try:
            return os.fstat(self._fd).st_nlink == 0
        except OSError:
            return True

    def _open(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for _ in range(8):
                # Never a number used before, not even after the directory was emptied: cursors are stored.
                number = max([self.segment, *segments(self.directory), time.time_ns() // 1000]) + 1
                try:
                    self._fd = os.open(
                        segment_path(self.directory, number),
                        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC,
                        0o640,
                    )
                except FileExistsError:
                    continue
                self.segment, self._size = number, 0
                return
            self.last_error = f"{self.directory}: another process is writing segments here"
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror}"


class JournalWriter(LineWriter):
    """The call process's end of the journal in `directory`, for the node named `node`."""

    def __init__(self, directory: Path, node: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.node = node
        super().__init__(directory, segment_bytes=segment_bytes)

    def append(self, event: JournalEvent) -> bool:
        """Append one event with one write. False where it could not be written: counted, the call goes on."""
        try:
            line = encode_event(event)
        except (TypeError, ValueError) as error:
            self.failures += 1
            self.last_error = f"event not encodable: {error}"
            return False
        return self.append_line(line)

    def append_all(self, events: Iterable[JournalEvent]) -> bool:
        """Append several events with one write; False where any could not be written."""
        lines = []
        whole = True
        for event in events:
            try:
                lines.append(encode_event(event))
            except (TypeError, ValueError) as error:
                self.failures += 1
                self.last_error = f"event not encodable: {error}"
                whole = False
        return self.append_line(b"".join(lines)) and whole


class LineReader:
    """Reads whole lines of a directory of segments from a cursor on; never raises on what it finds there.

    `torn` counts last lines that a crash cut off, `last_error` names the last failure to read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.torn = 0
        self.last_error = ""
        self._fd = -1
        self._fd_segment = 0

    def read_lines(self, cursor: Cursor, limit: int) -> tuple[list[bytes], Cursor]:
        """Up to `limit` whole lines after `cursor`, without their newlines, and the cursor behind them."""
        lines: list[bytes] = []
        while len(lines) < limit:
            # Listed before reading: once a newer segment exists, this one's end is final.
            present = segments(self.directory)
            if not present:
                break
            cursor = self._existing(cursor, present)
            is_final = cursor.segment != present[-1]
            chunk = self._read_chunk(cursor)
            if chunk is None:
                break
            end = chunk.rfind(b"\n") + 1
            if end:
                found = chunk[: end - 1].split(b"\n", limit - len(lines))[: limit - len(lines)]
                lines += found
                size = sum(map(len, found)) + len(found)
                cursor = Cursor(cursor.segment, cursor.offset + size)
                continue
            if not is_final:
                break
            if chunk:
                self.torn += 1
                log.warning(
                    "journal-line-torn %s: %d bytes", segment_path(self.directory, cursor.segment), len(chunk)
                )
            cursor = Cursor(min(number for number in present if number > cursor.segment), 0)
        return lines, cursor

    def end(self) -> Cursor:
        """The end of the newest segment."""
        present = segments(self.directory)
        if not present:
            return START
        try:
            return Cursor(present[-1], segment_path(self.directory, present[-1]).stat().st_size)
        except OSError:
            return Cursor(present[-1], 0)

    def bytes_after(self, cursor: Cursor) -> int:
        """How many bytes are written behind `cursor` and not yet read."""
        total = 0
        for number in segments(self.directory):
            if number >= cursor.segment:
                try:
                    total += segment_path(self.directory, number).stat().st_size
                except OSError:
                    continue
                if number == cursor.segment:
                    total -= cursor.offset
        return max(total, 0)

    def discard_before(self, cursor: Cursor) -> int:
        """Delete the segments that lie wholly before `cursor`, never the newest; how many were deleted."""
        deleted = 0
        for number in segments(self.directory)[:-1]:
            if number < cursor.segment:
                try:
                    segment_path(self.directory, number).unlink(missing_ok=True)
                    deleted += 1
                except OSError as error:
                    self.last_error = f"{self.directory}: {error.strerror}"
        return deleted

    def close(self) -> None:
        """Close the open segment, if any."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _existing(self, cursor: Cursor, present: list[int]) -> Cursor:
        if cursor.segment in present:
            return cursor
        later = [number for number in present if number > cursor.segment]
        # A cursor past everything belongs to a journal that was removed: what is here was never read.
        return Cursor(min(later) if later else present[0], 0)

    def _read_chunk(self, cursor: Cursor) -> bytes | None:
        """Bytes from the cursor on, one whole line at least where there is one; None where unreadable."""
        try:
            if self._fd < 0 or self._fd_segment != cursor.segment:
                self.close()
                self._fd = os.open(segment_path(self.directory, cursor.segment), os.O_RDONLY | os.O_CLOEXEC)
                self._fd_segment = cursor.segment
            size = _CHUNK
            while True:
                chunk = os.pread(self._fd, size, cursor.offset)
                if len(chunk) < size or b"\n" in chunk:
                    return chunk
                size *= 4
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror}"
            self.close()
            return None


class JournalReader(LineReader):
    """The readers' end of the journal in `directory`. `corrupt` counts skipped lines, each logged."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.corrupt = 0

    def read(self, cursor: Cursor = START, limit: int = 1000) -> tuple[list[JournalEvent], Cursor]:
        """Up to `limit` events after `cursor`, in the order written, and the cursor behind them.

        A last line without its newline waits for the rest. A line that cannot be read is skipped, counted in
        `corrupt` and logged as `journal-line-corrupt`.
        """
        lines, after = self.read_lines(cursor, limit)
        events: list[JournalEvent] = []
        for line in lines:
            try:
                events.append(decode_event(line))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.corrupt += 1
                log.error("journal-line-corrupt %s, %d bytes: %s", self.directory, len(line), type(error).__name__)
        return events, after


def segments(directory: Path) -> list[int]:
    """Numbers of the segments in a directory, oldest first; none where it cannot be listed."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := _SEGMENT_NAME.fullmatch(name)))


def segment_path(directory: Path, number: int) -> Path:
    """The file of one segment."""
    return directory / f"{number:08d}.jsonl"


def encode_event(event: JournalEvent) -> bytes:
    """One JSON line, newline included."""
    try:
        return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # bytes from the wire that are no UTF-8 came along as surrogates
        return orjson.dumps(_encodable(asdict(event)), option=orjson.OPT_APPEND_NEWLINE)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _encodable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value


def decode_event(line: bytes | str) -> JournalEvent:
    """The event in one JSON line; unknown keys are ignored. ValueError, KeyError, TypeError otherwise."""
    data: dict[str, Any] = orjson.loads(line)
    match data["type"]:
        case "intent":
            data["caller"] = _known(Caller, data["caller"])
            data["location"] = _location(data["location"])
            data["sources"] = tuple(_source(answer) for answer in data["sources"])
            data["contacts"] = tuple(data["contacts"])
            return _known(CallIntent, data)
        case "route":
            data["outcome"] = RouteOutcome(data["outcome"])
            return _known(RouteEvent, data)
        case "ended":
            data["outcome"] = CallOutcome(data["outcome"])
            return _known(CallEnded, data)
        case "finished":
            return _known(CallFinished, data)
        case "refused":
            data["caller"] = _known(Caller, data["caller"])
            data["contacts"] = tuple(data["contacts"])
            return _known(CallRefused, data)
        case unknown:
            raise ValueError(f"unknown event type {unknown!r}")


def _location(data: dict[str, Any] | None) -> DispatchableLocation | None:
    if data is None:
        return None
    data["civic"] = _known(CivicAddress, data["civic"])
    data["point"] = _known(GeoPoint, data["point"]) if data["point"] else None
    data["source"] = LocationSource(data["source"])
    return _known(DispatchableLocation, data)


def _source(data: dict[str, Any]) -> SourceAnswer:
    data["outcome"] = SourceOutcome(data["outcome"])
    return _known(SourceAnswer, data)


_FIELDS: dict[type, frozenset[str]] = {
    kind: frozenset(field.name for field in fields(kind))
    for kind in (
        CallIntent, RouteEvent, CallEnded, CallFinished, CallRefused,
        Caller, DispatchableLocation, CivicAddress, GeoPoint, SourceAnswer,
    )
}  # fmt: skip


def _known(kind: type[_T], data: dict[str, Any]) -> _T:
    """The dataclass from those keys it knows: a journal written by a newer version stays readable."""
    known = _FIELDS[kind]
    if data.keys() <= known:
        return kind(**data)
    return kind(**{name: value for name, value in data.items() if name in known})
