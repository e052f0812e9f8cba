"""Lines appended to numbered segments by one write(2) each; all else that touches the disk is done by a thread.

As `router.journal.segments.LineWriter`, for a directory whose reader looks at the newest few segments (a segment
opened ahead is newer than the one that is written to). What write(2) has taken survives the end of the process.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from router.journal.segments import segment_path, segments

_LOOK_SECONDS: Final = 0.5
_TRIES: Final = 8


class ReadyLineWriter:
    """Appends lines; never raises. `append_line` is for one thread, `start` and `close` for the same.

    segment_bytes: after so many another segment is begun, as soon as one is ready. beside: what the thread does
    besides, twice a second (small looks at the disk). The first segment is opened at once: where that cannot be, the
    thread tries again.
    """

    def __init__(self, directory: Path, *, segment_bytes: int, beside: Callable[[], None] = lambda: None) -> None:
        self.directory = directory
        self.failures = 0
        self._segment_bytes = segment_bytes
        self._beside = beside
        self._ready: deque[int] = deque()
        """Descriptors of segments opened ahead: one at the most."""
        self._done: deque[int] = deque()
        """Descriptors to be closed."""
        self._number = 0
        self._size = 0
        self._is_gone = False
        """True where the thread found that somebody removed the file."""
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._fd = self._opened()

    def start(self) -> None:
        """Begin to keep a segment ready."""
        self._thread = threading.Thread(target=self._tend, name="segments ahead", daemon=True)
        self._thread.start()

    def append_line(self, line: bytes) -> bool:
        """Write one line, newline included. False where it was not written."""
        if self._fd < 0 or self._is_gone or self._size >= self._segment_bytes:
            self._take_next()
        # A write that failed is tried once more in the next segment: the old file may be what is wrong.
        if self._write(line) or (self._take_next() and self._write(line)):
            return True
        self.failures += 1
        return False

    def close(self) -> None:
        """End the thread, which may be waiting for the disk, and close the segment."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(1.0)
        if self._fd >= 0:
            self._done.append(self._fd)
            self._fd = -1
        self._close_done()

    def _take_next(self) -> bool:
        """Go on in the segment that was opened ahead; False where there is none yet."""
        self._wake.set()
        try:
            ready = self._ready.popleft()
        except IndexError:
            return False
        if self._fd >= 0:
            self._done.append(self._fd)
        self._fd, self._size, self._is_gone = ready, 0, False
        return True

    def _write(self, line: bytes) -> bool:
        if self._fd < 0:
            return False
        try:
            written = os.write(self._fd, line)
        except OSError:
            return False
        self._size += written
        if written == len(line):
            return True
        # Half a line: an end of line keeps the next one from growing out of it, where there is room for that.
        with contextlib.suppress(OSError):
            self._size += os.write(self._fd, b"\n")
        return False

    # In the thread.

    def _tend(self) -> None:
        while not self._is_closing:
            self._wake.clear()
            self._close_done()
            self._look()
            if not self._ready and (ahead := self._opened()) >= 0:
                self._ready.append(ahead)
            self._beside()
            self._wake.wait(_LOOK_SECONDS)
        self._done.extend(self._ready)
        self._ready.clear()

    def _look(self) -> None:
        """See whether somebody removed the segment: nobody would ever read it. The same for the one ahead."""
        for fd in (self._fd, *self._ready):
            with contextlib.suppress(OSError):  # closed meanwhile
                if fd >= 0 and os.fstat(fd).st_nlink == 0:
                    if fd == self._fd:
                        self._is_gone = True
                    else:
                        with contextlib.suppress(ValueError):
                            self._ready.remove(fd)
                            self._done.append(fd)

    def _close_done(self) -> None:
        while self._done:
            with contextlib.suppress(OSError):
                os.close(self._done.popleft())

    def _opened(self) -> int:
        """The descriptor of a new segment; -1 where there cannot be one."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for _ in range(_TRIES):
                number = max([self._number, *segments(self.directory), time.time_ns() // 1000]) + 1
                try:
                    fd = os.open(
                        segment_path(self.directory, number),
                        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC,
                        0o640,
                    )
                except FileExistsError:
                    continue
                self._number = number
                return fd
        except OSError:
            pass
        return -1
