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

from router.trace.followed_calls import FollowedCalls, Seen
from router.trace.messages import SOCKET, Hello, frame, lost_frame, short_address
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

    def __init__(self, writer: asyncio.StreamWriter, contains: bytes, emergency_only: bool) -> None:
        self.writer = writer
        self.contains = contains
        self.emergency_only = emergency_only
        """Wants the messages of emergency and test calls, no others."""
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
        self._waiting: deque[tuple[Seen, bool]] = deque()
        """Each with whether it is of an emergency call."""
        self._waiting_bytes = 0
        self._is_due = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: FollowedCalls | None = None
        """There while somebody wants emergency calls."""
        self._wants_all = False

    @property
    def not_followed(self) -> int:
        """Emergency calls whose messages were not kept for the console, for a storm."""
        return self._followed.not_followed if self._followed is not None else 0

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
        """The tap: keep a message that somebody wants until it is shipped."""
        message = (self.clock(), data, flow, sent)
        followed = self._followed
        is_emergency = followed is not None and followed.feed(message)
        if is_emergency or self._wants_all:
            self._keep(message, is_emergency)

    def call_began(self, call_id: str) -> None:
        """An emergency or test call begins. Never raises."""
        followed = self._followed
        if followed is not None:
            wanted = call_id.encode("latin-1", "replace")
            for message in followed.begin(wanted, self.clock()):
                if self._wants_all:
                    self._mark(message)
                else:
                    self._keep(message, True)

    def _mark(self, message: Seen) -> None:
        """What waits to be shipped is of an emergency call after all."""
        for index, (waiting, _) in enumerate(self._waiting):
            if waiting is message:
                self._waiting[index] = (message, True)
                return

    def _keep(self, message: Seen, is_emergency: bool) -> None:
        data = message[1]
        if len(self._waiting) >= WAITING_MESSAGES or self._waiting_bytes > WAITING_BYTES:
            self._lose(1)
            return
        self._waiting.append((message, is_emergency))
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
        of_emergencies: list[bool] = []
        while waiting and len(frames) < MESSAGES_AT_ONCE:
            (at, data, flow, sent), is_emergency = waiting.popleft()
            self._waiting_bytes -= len(data)
            point = flow.point
            own, peer = (point.host, point.port), (flow.host, flow.port)
            frames.append(frame(at, sent, point.transport, own, peer, flow.connection, data))
            texts.append(data)
            of_emergencies.append(is_emergency)
        for listener in self._listeners:
            wanted = frames
            if listener.emergency_only:
                wanted = [made for made, is_wanted in zip(frames, of_emergencies, strict=True) if is_wanted]
            elif listener.contains:
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
            emergency_only = bool(asked.get("emergency", False))
            if len(self._listeners) >= MAX_LISTENERS:
                return
            writer.write(self.hello().to_line())
            listener = _Listener(writer, contains, emergency_only)
            self._listeners.append(listener)
            self._look_who_listens()
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
                self._look_who_listens()
            writer.close()

    def _look_who_listens(self) -> None:
        """Open the tap as far as somebody wants what comes out."""
        listeners = self._listeners
        self._wants_all = any(not listener.emergency_only for listener in listeners)
        if not any(listener.emergency_only for listener in listeners):
            self._followed = None
        elif self._followed is None:
            self._followed = FollowedCalls()
        self.edge.tap = self.seen if listeners else None
        if not listeners:
            self._waiting.clear()
            self._waiting_bytes = 0
