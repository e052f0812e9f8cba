"""The call process's side of a trace: the tap's keeper, and the Unix socket where others listen.

On the way of a call a message is only put into a queue. Twenty times a second, while anybody listens, what waits is
written to the sockets without waiting for their readers. A reader who is too slow, and a queue that is full, lose
messages: counted, told to the reader, and never at the cost of a call.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import orjson

from router.trace import SOCKET, Hello, frame, lost_frame, short_address
from sip.flow import Flow
from sip.transport import SipEdge

log = logging.getLogger("edge911.trace")

SHIP_SECONDS = 0.05
MESSAGES_AT_ONCE = 500
"""After so many the loop gets a turn."""
WAITING_MESSAGES = 20_000
WAITING_BYTES = 32 * 1024 * 1024
UNREAD_BYTES = 16 * 1024 * 1024
"""What a listener may leave unread; beyond it, it loses messages."""
MAX_LISTENERS = 16
ASKING_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0


class _Listener:
    """One connection to the socket."""

    def __init__(self, writer: asyncio.StreamWriter, contains: bytes) -> None:
        self.writer = writer
        self.contains = contains
        self.lost = 0
        """Not told of yet."""

    @property
    def is_behind(self) -> bool:
        """True where it does not read what it gets."""
        return self.writer.transport.get_write_buffer_size() > UNREAD_BYTES


class TraceServer:
    """Keeps the tap of an edge: open while somebody listens, else closed."""

    def __init__(
        self, edge: SipEdge, directory: Path, hello: Callable[[], Hello], clock: Callable[[], float] = time.time
    ) -> None:
        self.edge = edge
        self.path = directory / SOCKET
        self.hello = hello
        self.clock = clock
        self.lost = 0
        """Messages that some listener was not told of, in all."""
        self._listeners: list[_Listener] = []
        self._waiting: deque[tuple[float, bytes, Flow, bool]] = deque()
        self._waiting_bytes = 0
        self._is_due = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def start(self) -> None:
        """Listen. Raises OSError where the socket cannot be made."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()  # of a process that was killed
            with short_address(self.path) as address:
                listening.bind(address)
            os.chmod(self.path, 0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listening)
        except BaseException:
            listening.close()
            raise

    async def close(self) -> None:
        """Tell what is left, then hang up; who does not read is not waited for longer than LAST_WORDS_SECONDS."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
        while self._waiting and self._listeners:
            self._ship()
        self.edge.tap = None
        writers = [listener.writer for listener in self._listeners]
        for writer in writers:
            writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()

    # ---- on the way of calls ----

    def seen(self, data: bytes, flow: Flow, sent: bool) -> None:
        """The tap: keep a message until it is shipped."""
        if len(self._waiting) >= WAITING_MESSAGES or self._waiting_bytes > WAITING_BYTES:
            self._lose(1)
            return
        self._waiting.append((self.clock(), data, flow, sent))
        self._waiting_bytes += len(data)
        if not self._is_due:
            self._is_due = True
            self.edge.loop.call_later(SHIP_SECONDS, self._ship)

    # ---- beside it ----

    def _lose(self, count: int) -> None:
        self.lost += count
        for listener in self._listeners:
            listener.lost += count

    def _ship(self) -> None:
        """Write what waits, in turns; one listener's trouble is not another's."""
        waiting = self._waiting
        frames: list[bytes] = []
        texts: list[bytes] = []
        while waiting and len(frames) < MESSAGES_AT_ONCE:
            at, data, flow, sent = waiting.popleft()
            self._waiting_bytes -= len(data)
            point = flow.point
            own, peer = (point.host, point.port), (flow.host, flow.port)
            frames.append(frame(at, sent, point.transport, own, peer, flow.connection, data))
            texts.append(data)
        for listener in self._listeners:
            wanted = frames
            if listener.contains:
                wanted = [made for made, data in zip(frames, texts, strict=True) if listener.contains in data]
            if listener.is_behind:
                listener.lost += len(wanted)
                self.lost += len(wanted)
                continue
            if listener.lost:
                wanted = [lost_frame(listener.lost), *wanted]
                listener.lost = 0
            listener.writer.write(b"".join(wanted))
        if waiting:
            self.edge.loop.call_soon(self._ship)
        else:
            self._is_due = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener: _Listener | None = None
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(ASKING_SECONDS):
                asked = orjson.loads(await reader.readline())
            contains = asked.get("contains", "").encode()
            if len(self._listeners) >= MAX_LISTENERS:
                return
            writer.write(self.hello().to_line())
            listener = _Listener(writer, contains)
            self._listeners.append(listener)
            self.edge.tap = self.seen
            while await reader.read(1024):
                pass  # nothing more is asked; the end is what is waited for
            while self._waiting:
                self._ship()  # what came before the end is still told
                await asyncio.sleep(0)
        except (OSError, TimeoutError, ValueError, AttributeError):
            pass  # gone, silent, or no trace that speaks our way
        finally:
            self._tasks.discard(task)
            if listener is not None:
                self._listeners.remove(listener)
            if not self._listeners:
                self.edge.tap = None
                self._waiting.clear()
                self._waiting_bytes = 0
            writer.close()
