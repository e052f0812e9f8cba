"""Lines that the call process writes beside its calls: queued, and written by a thread of their own.

Whoever has a line never waits for the disk. The queue has an end, and so have the files: where nobody reads them
for long, the oldest are deleted.
"""

import queue
import threading
from pathlib import Path
from typing import Final

from router.journal.segments import LineWriter, segment_path, segments

MOST_WAITING: Final = 1000
"""Lines in the queue."""
LINES_AT_ONCE: Final = 100
SEGMENT_BYTES: Final = 1024 * 1024
MOST_SEGMENTS: Final = 16
"""Files of SEGMENT_BYTES that are kept."""


class QueuedLines:
    """Writes lines to the segments of a directory, in their order. Nothing here raises.

    `not_written` counts lines that the disk did not take, `outgrown` those deleted with the oldest files.
    """

    def __init__(
        self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES, most_segments: int = MOST_SEGMENTS
    ) -> None:
        self.not_written = 0
        self.outgrown = 0
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._most_segments = most_segments
        self._waiting: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> bool:
        """Have a line written, newline included; False where too many wait."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queued-lines", daemon=True)
            self._thread.start()
        return True

    def settle(self, timeout: float) -> bool:
        """Wait until nothing waits any more, `timeout` seconds at the most; True where that is so."""
        with self._waiting.all_tasks_done:
            return self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, timeout)

    def _run(self) -> None:
        writer = LineWriter(self._directory, segment_bytes=self._segment_bytes)
        segment = 0
        while True:
            lines = [self._waiting.get()]
            while len(lines) < LINES_AT_ONCE and not self._waiting.empty():
                lines.append(self._waiting.get())
            if not writer.append_line(b"".join(lines)):
                self.not_written += len(lines)
            if writer.segment != segment:
                segment = writer.segment
                self._delete_oldest()
            for _ in lines:
                self._waiting.task_done()

    def _delete_oldest(self) -> None:
        """Who reads deletes what is read: what is left is unread."""
        for number in segments(self._directory)[: -self._most_segments]:
            path = segment_path(self._directory, number)
            try:
                lines = path.read_bytes().count(b"\n")
                path.unlink()
            except OSError:  # the reader was quicker, or it is tried again with the next segment
                continue
            self.outgrown += lines
