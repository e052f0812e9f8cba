"""Lines in numbered segments of a directory: how the journal and the notice log lie on the disk.

Segments are files named by a number that only grows (the microsecond they were begun, or one more than the last:
`1790000000000000.jsonl`); one process at a time writes a directory, any number may read it. A segment may lie in
memory instead (router.journal.spare), where the disk took nothing when it was begun: for readers one of the
directory's.
"""

import contextlib
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from router.journal.reserve import give_back, reserve
from router.journal.spare import make_spare, spare_to_read
from router.process.state_directory import not_writable

SEGMENT_BYTES = 16 * 1024 * 1024
REOPEN_SECONDS = 1.0
RETURN_SECONDS = 10.0
"""How often a writer in memory looks whether the disk takes something again."""
SLOW_SECONDS = 0.005
CHUNK_BYTES = 256 * 1024
_SEGMENT_NAME = re.compile(r"(\d{8,})\.jsonl")

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
    longer than SLOW_SECONDS. Room for `reserve_bytes` more is kept on the disk, so that lines can be written on for a
    while when it is full. With `has_spare`, lines go to memory while the disk takes none.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = 0,
        has_spare: bool = False,
    ) -> None:
        self.directory = directory
        self.is_spare = False
        """True while lines go to memory."""
        self._has_spare = has_spare
        self._spare_at = 0.0
        self._return_at = 0.0
        self.failures = 0
        self.appended = 0
        self.slow = 0
        self.last_error = ""
        self.segment = 0
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._reserved = 0
        """Up to where in the segment there is room for sure."""
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
            if self._fd < 0 or self._is_gone() or self._may_return(started):
                self.roll()
            self._reserve()
        # A write that failed is tried once more in a new segment: the old file may be what is wrong. Then in memory.
        if not (
            self._write(line)
            or (self._roll_over(started) and self._write(line))
            or (self._go_to_spare(started) and self._write(line))
        ):
            if self.is_spare:
                self._leave_behind()
            self.failures += 1
            return False
        self.appended += 1
        if self._size >= self._segment_bytes:
            self.roll()
        if time.monotonic() - started > SLOW_SECONDS:
            self.slow += 1
        return True

    def _reserve(self) -> None:
        """Keep room for at least half of reserve_bytes; where there is none, it is tried again in a second."""
        is_little = self._size + self._reserve_bytes // 2 > self._reserved
        if (
            self._reserve_bytes
            and self._fd >= 0
            and not self.is_spare
            and is_little
            and reserve(self._fd, self._size, self._reserve_bytes)
        ):
            self._reserved = self._size + self._reserve_bytes

    def _roll_over(self, now: float) -> bool:
        """A new segment after a failed write: where the line was torn, else once a REOPEN_SECONDS at the most."""
        if self._fd < 0 or (not self._is_torn and now < self._roll_over_at):
            return False
        self._roll_over_at = now + REOPEN_SECONDS
        self._leave_behind()
        return self._fd >= 0

    def _leave_behind(self, place: Path | None = None) -> None:
        """Go on in a new segment, in `place` where given; an empty one is deleted."""
        old, was_empty = self.segment, self._fd >= 0 and not self._size
        self.close()
        self._open(place)
        if self._fd >= 0 and was_empty:
            with contextlib.suppress(OSError):  # a disk full for a day leaves no thousands of empty segments
                segment_path(self.directory, old).unlink()

    def _go_to_spare(self, now: float) -> bool:
        """A new segment in memory; once a REOPEN_SECONDS at the most."""
        if not self._has_spare or self.is_spare or now < self._spare_at:
            return False
        self._spare_at = now + REOPEN_SECONDS
        spare = make_spare(self.directory)
        if spare is None:
            return False
        wrong = self.last_error
        self._leave_behind(spare)
        if self._fd < 0:
            return False
        self._return_at = now + RETURN_SECONDS
        self.last_error = f"{wrong}; kept in memory, {spare}"
        return True

    def _may_return(self, now: float) -> bool:
        """True where lines go to memory and the disk takes something again."""
        if not self.is_spare or now < self._return_at:
            return False
        self._return_at = now + RETURN_SECONDS
        return not not_writable(self.directory)

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
            if self._reserved > self._size:
                give_back(descriptor, self._size)
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

    def _open(self, place: Path | None = None) -> None:
        folder = place or self.directory
        self.is_spare = place is not None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(8):
                # Never a number used before, not even after the directory was emptied: cursors are stored.
                number = max([self.segment, *segments(self.directory), time.time_ns() // 1000]) + 1
                try:
                    self._fd = os.open(
                        folder / _file_name(number),
                        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC,
                        0o640,
                    )
                except FileExistsError:
                    continue
                self.segment, self._size, self._is_torn = number, 0, False
                self._reserved = 0
                self._reserve()
                return
            self.last_error = f"{self.directory}: another process is writing segments here"
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror}"


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
            size = CHUNK_BYTES
            while True:
                chunk = os.pread(self._fd, size, cursor.offset)
                if len(chunk) < size or b"\n" in chunk:
                    return chunk
                size *= 4
        except OSError as error:
            self.last_error = f"{self.directory}: {error.strerror}"
            self.close()
            return None


def segments(directory: Path) -> list[int]:
    """Numbers of the segments of a directory, oldest first; none where it cannot be listed."""
    spare = spare_to_read(directory)
    return sorted({*_listed(directory), *(_listed(spare) if spare is not None else ())})


def segment_path(directory: Path, number: int) -> Path:
    """The file of one segment."""
    path = directory / _file_name(number)
    if not os.path.exists(path):  # unlike Path.exists it never raises, whatever the disk says
        spare = spare_to_read(directory)
        if spare is not None and os.path.exists(spare / path.name):
            return spare / path.name
    return path


def _listed(directory: Path) -> list[int]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [int(match[1]) for name in names if (match := _SEGMENT_NAME.fullmatch(name))]


def _file_name(number: int) -> str:
    return f"{number:08d}.jsonl"
