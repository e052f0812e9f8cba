"""The journal: what happened to emergency calls, one JSON line each, written by the call process only.

Records and notices are made from it by another process, so a call never waits for them. An append is one
write(2) without fsync: it survives kill -9 of the process, not a power cut. That write is made in the event
loop: usually microseconds, for the kernel takes it into memory; a disk that hangs can hold it up.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from e911.record import (
    JournalEvent,
)
from router.journal.event_lines import decode_event, encode_event
from router.journal.segments import CHUNK_BYTES, SEGMENT_BYTES, START, Cursor, LineReader, LineWriter

WAITING_LIMIT = 10_000
"""Events kept in memory while the journal cannot be written; the oldest go first beyond it."""
RESERVE_BYTES = 2 * 1024 * 1024
"""Room on the disk kept for more lines, about a thousand calls: where a log fills the disk, people are told of 911
calls all the same, for those who tell them read the journal."""
TELL_SECONDS = 60.0
"""Between two log lines about a journal that cannot be written."""

log = logging.getLogger(__name__)


class JournalWriter(LineWriter):
    """The call process's end of the journal in `directory`, for the node named `node`.

    While the disk takes nothing, events go to memory (router.journal.spare), where the readers find them. Those
    that cannot be written even there are kept, WAITING_LIMIT of them, and written in their order before the next
    event, or when
    `retry` is called. `failures` counts events that were not written at once, late or lost; `lost` those lost for
    good. Nothing here raises.
    """

    def __init__(self, directory: Path, node: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.node = node
        self.lost = 0
        self._waiting: deque[bytes] = deque()
        self._tell_at = 0.0
        super().__init__(directory, segment_bytes=segment_bytes, reserve_bytes=RESERVE_BYTES, has_spare=True)

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
                self.note_not_encodable(error)
                whole = False
        return self.append_lines(lines) and whole

    def note_not_encodable(self, error: Exception) -> None:
        """An event is lost, for it could not be made a line."""
        self.failures += 1
        self.lost += 1
        self._tell(f"event not encodable: {type(error).__name__}: {error}")

    def append_lines(self, lines: list[bytes]) -> bool:
        """Append events that are lines already (router.journal.event_lines), with one write; False where any could
        not be written now: kept, and the calls go on."""
        if not lines:
            return True
        if not self.retry():
            self.failures += len(lines)
            self._keep(lines)
            return False
        if self._append(b"".join(lines)):
            return True
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
                if size >= CHUNK_BYTES:
                    break
            if not self._append(b"".join(chunk)):
                self.failures = failures  # these were counted when they came
                self._tell(self.last_error)
                return False
            for _ in chunk:
                self._waiting.popleft()
        log.warning("journal-written-again %s: the events that waited are in it now", self.directory)
        self._tell_at = 0.0
        if not self.is_spare:
            self.last_error = ""
        return True

    def append_line(self, line: bytes) -> bool:
        """As every LineWriter; said where it begins to write to memory, and where it is back on the disk."""
        was_spare = self.is_spare
        is_written = super().append_line(line)
        if is_written and self.is_spare != was_spare:
            self._tell_place()
        return is_written

    def _tell_place(self) -> None:
        if self.is_spare:
            log.error(
                "journal-in-memory %s; calls go on and notices go out, but a restart of the machine loses what is "
                "there. Make room on the disk, and the directory writable for edge911",
                self.last_error,
            )
        else:
            self.last_error = ""
            log.warning("journal-on-disk-again %s", self.directory)

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
