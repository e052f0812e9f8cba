"""The journal: what happened to emergency calls, one JSON line each, written by the call process only.

Records and notices are made from it by another process, so a call never waits for them. An append is one
write(2) without fsync: it survives kill -9 of the process, not a power cut. That write is made in the event
loop: usually microseconds, for the kernel takes it into memory; a disk that hangs can hold it up.

Segments are files named by a number that only grows (the microsecond they were begun, or one more than the last:
`1790000000000000.jsonl`); one process at a time writes a directory, any number may read it.
"""

import contextlib
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import orjson

from e911.location import CIVIC_FIELDS, CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.record import (
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallOutcome,
    CallRefused,
    DialogFormed,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
    SourceAnswer,
    SourceOutcome,
)

SEGMENT_BYTES = 16 * 1024 * 1024
REOPEN_SECONDS = 1.0
SLOW_SECONDS = 0.005
WAITING_LIMIT = 10_000
"""Events kept in memory while the journal cannot be written; the oldest go first beyond it."""
TELL_SECONDS = 60.0
"""Between two log lines about a journal that cannot be written."""
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
        self._is_torn = False
        """True where the segment ends within a line: nothing more may be written to it."""
        self._check_at = 0.0
        self._roll_over_at = 0.0
        self._open()

    def append_line(self, line: bytes) -> bool:
        """Write one line, newline included. False where it was not written (`last_error` says why)."""
        started = time.monotonic()
        if started >= self._check_at:
            self._check_at = started + REOPEN_SECONDS
            if self._fd < 0 or self._is_gone():
                self.roll()
        # A write that failed is tried once more in a new segment: the old file may be what is wrong.
        if not self._write(line) and not (self._roll_over(started) and self._write(line)):
            self.failures += 1
            return False
        self.appended += 1
        if self._size >= self._segment_bytes:
            self.roll()
        if time.monotonic() - started > SLOW_SECONDS:
            self.slow += 1
        return True

    def _roll_over(self, now: float) -> bool:
        """A new segment after a failed write: where the line was torn, else once a REOPEN_SECONDS at the most."""
        if self._fd < 0 or (not self._is_torn and now < self._roll_over_at):
            return False
        self._roll_over_at = now + REOPEN_SECONDS
        old, was_empty = self.segment, not self._size
        self.roll()
        if self._fd >= 0 and was_empty:
            with contextlib.suppress(OSError):  # a disk full for a day leaves no thousands of empty segments
                segment_path(self.directory, old).unlink()
        return self._fd >= 0

    def _write(self, line: bytes) -> bool:
        """One write(2). False where not the whole line was written: it is torn, and readers pass over it once a
        newer segment exists."""
        if self._is_torn:
            self.roll()
        if self._fd < 0:
            return False
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror or error}"
            return False
        self._size += written
        if written != len(line):
            self._is_torn = True
            self.last_error = f"{self.directory}: only {written} of {len(line)} bytes written (disk full?)"
            return False
        return True

    def roll(self) -> None:
        """Go on in a new segment."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the segment; a later append opens a new one. Never raises; the descriptor is gone in any case."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError as error:  # a network file system may say only now that it is full
                self.last_error = f"{self.directory}: {error.strerror or error}"

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
                self.segment, self._size, self._is_torn = number, 0, False
                return
            self.last_error = f"{self.directory}: another process is writing segments here"
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror}"


class JournalWriter(LineWriter):
    """The call process's end of the journal in `directory`, for the node named `node`.

    Events that cannot be written are kept, WAITING_LIMIT of them, and written in their order before the next
    event, or when `retry` is called. `failures` counts events that were not written at once, late or lost;
    `lost` those lost for good. Nothing here raises.
    """

    def __init__(self, directory: Path, node: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.node = node
        self.lost = 0
        self._waiting: deque[bytes] = deque()
        self._tell_at = 0.0
        super().__init__(directory, segment_bytes=segment_bytes)

    @property
    def waiting(self) -> int:
        """Events that could not be written yet."""
        return len(self._waiting)

    def append(self, event: JournalEvent) -> bool:
        """Append one event with one write. False where it could not be written now: kept, and the call goes on."""
        return self.append_all((event,))

    def append_all(self, events: Iterable[JournalEvent]) -> bool:
        """Append several events with one write; False where any could not be written now."""
        lines = []
        whole = True
        for event in events:
            try:
                lines.append(encode_event(event))
            except Exception as error:  # whatever it is, the others are written
                self.failures += 1
                self.lost += 1
                self._tell(f"event not encodable: {type(error).__name__}: {error}")
                whole = False
        if not lines:
            return whole
        if not self.retry():
            self.failures += len(lines)
            self._keep(lines)
            return False
        if self._append(b"".join(lines)):
            return whole
        self.failures += len(lines) - 1  # append_line has counted one
        self._keep(lines)
        return False

    def retry(self) -> bool:
        """Write what waits, in order. False where some still waits. Cheap where nothing does."""
        if not self._waiting:
            return True
        failures = self.failures
        while self._waiting:
            chunk, size = [], 0
            for line in self._waiting:
                chunk.append(line)
                size += len(line)
                if size >= _CHUNK:
                    break
            if not self._append(b"".join(chunk)):
                self.failures = failures  # these were counted when they came
                self._tell(self.last_error)
                return False
            for _ in chunk:
                self._waiting.popleft()
        log.warning("journal-written-again %s: the events that waited are in it now", self.directory)
        self._tell_at, self.last_error = 0.0, ""
        return True

    def _append(self, lines: bytes) -> bool:
        try:
            return self.append_line(lines)
        except Exception as error:  # a fault of ours stops no call
            self.failures += 1
            self.last_error = f"{self.directory}: {type(error).__name__}: {error}"
            return False

    def _keep(self, lines: list[bytes]) -> None:
        self._waiting.extend(lines)
        while len(self._waiting) > WAITING_LIMIT:
            self._waiting.popleft()
            self.lost += 1
        self._tell(self.last_error)

    def _tell(self, problem: str) -> None:
        """One line at the first failure, then one a minute."""
        self.last_error = problem
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + TELL_SECONDS
            log.error(
                "journal-not-written %s; %d events wait in memory, %d are lost; calls go on. Make room on the disk, "
                "and the directory writable for edge911",
                problem,
                len(self._waiting),
                self.lost,
            )


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
            # The segment that is open comes first: where it holds more, no directory need be listed.
            chunk = self._read_chunk(cursor) if self._fd >= 0 and self._fd_segment == cursor.segment else None
            is_final = False
            if chunk is None or b"\n" not in chunk:
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
                cursor = Cursor(cursor.segment, cursor.offset + sum(map(len, found)) + len(found))
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
    # Dictionaries made by hand for what every call writes: orjson is three times as slow with dataclasses.
    encoder = _ENCODERS.get(event.__class__)
    try:
        return orjson.dumps(event if encoder is None else encoder(event), option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # bytes from the wire that are no UTF-8 came along as surrogates
        return orjson.dumps(_encodable(asdict(event)), option=orjson.OPT_APPEND_NEWLINE)


def _intent_values(event: CallIntent) -> dict[str, Any]:
    caller = event.caller
    location = event.location
    return {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "node": event.node,
        "kind": event.kind,
        "call_id": event.call_id,
        "from_tag": event.from_tag,
        "dialled": event.dialled,
        "caller": {
            "number": caller.number,
            "display_name": caller.display_name,
            "device": caller.device,
            "device_name": caller.device_name,
            "callback": caller.callback,
            "callback_source": caller.callback_source,
            "identity_source": caller.identity_source,
            "source_address": caller.source_address,
            "privacy": caller.privacy,
            "reason": caller.reason,
        },
        "site": event.site,
        "zone": event.zone,
        "location": None if location is None else _location_values(location),
        "location_sent": event.location_sent,
        "sources": [_answer_json(answer) for answer in event.sources],
        "first_route": event.first_route,
        "contacts": event.contacts,
    }


def _location_values(location: DispatchableLocation) -> dict[str, Any]:
    civic = location.civic
    return {
        # Of an address only what is given: readers take the rest as empty.
        "civic": {name: value for name in CIVIC_FIELDS if (value := getattr(civic, name))},
        "point": location.point,
        "source": location.source,
        "method": location.method,
        "site": location.site,
        "zone": location.zone,
        "occupant": location.occupant,
        "updated_at": location.updated_at,
    }


@lru_cache(maxsize=1024)
def _answer_json(answer: SourceAnswer) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(answer))


def _route_values(event: RouteEvent) -> dict[str, Any]:
    values = {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "route": event.route,
        "kind": event.kind,
        "attempt": event.attempt,
        "outcome": event.outcome,
        "status": event.status,
        "reason": event.reason,
        "with_location": event.with_location,
        "label": event.label,
    }
    if event.sent_to:
        values["sent_to"], values["request_uri"] = event.sent_to, event.request_uri
    return values


def _ended_values(event: CallEnded) -> dict[str, Any]:
    return {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "outcome": event.outcome,
        "status": event.status,
        "route": event.route,
    }


def _finished_values(event: CallFinished) -> dict[str, Any]:
    return {"type": event.type, "id": event.id, "at": event.at, "by": event.by}


_ENCODERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    CallIntent: _intent_values,
    RouteEvent: _route_values,
    CallEnded: _ended_values,
    CallFinished: _finished_values,
}
"""The values of each event that calls write, every field of it (tested)."""


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
        case "dialog":
            data["routes"] = tuple(data["routes"])
            return _known(DialogFormed, data)
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
        CallIntent, RouteEvent, CallEnded, CallFinished, CallRefused, DialogFormed,
        Caller, DispatchableLocation, CivicAddress, GeoPoint, SourceAnswer,
    )
}  # fmt: skip


def _known(kind: type[_T], data: dict[str, Any]) -> _T:
    """The dataclass from those keys it knows: a journal written by a newer version stays readable."""
    known = _FIELDS[kind]
    if data.keys() <= known:
        return kind(**data)
    return kind(**{name: value for name, value in data.items() if name in known})
