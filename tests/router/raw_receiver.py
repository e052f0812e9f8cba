"""An HTTP/1.1 receiver on a plain socket that keeps connections, and can misbehave as real ones do."""

import json
import socket
import struct
import threading
from types import TracebackType
from typing import Any


def _document(body: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError:  # a form, or none
        return {}
    return found


class RawReceiver:
    """Listens on 127.0.0.1. `behaviours` are used up one per request, the last one stays.

    A behaviour is an HTTP status line with reason (`200 OK`, `503 Busy`), or `reset`, `close`, `garbage`,
    `redirect` (to /moved; so are `301 …` and `302 …`), `hang`,
    `silent-close-after` (200, then closes without saying so).
    """

    def __init__(self, *behaviours: str) -> None:
        self.behaviours = list(behaviours) or ["200 OK"]
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.text = b"words of the receiver"
        self.connections = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str = "911") -> str:
        """The Apprise URL."""
        return f"json://127.0.0.1:{self.port}/{path}"

    def release(self) -> None:
        """Let go of requests that hang: they are answered 200."""
        self._closing.set()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while self._answer(connection, stream):
                    pass
            except OSError:
                pass
        with self._lock:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, stream: Any) -> bool:
        start = stream.readline().decode()
        if not start:
            return False
        headers = {}
        while (line := stream.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = stream.read(length)
        if len(body) < length:
            return False  # the sender was ended, or gave up, in the middle of it
        with self._lock:
            self.requests.append((start.strip(), headers, _document(body)))
            behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        if behaviour == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
            return False
        if behaviour == "close":
            return False
        if behaviour == "garbage":
            connection.sendall(b"\x00\xffnonsense\r\n\r\n")
            return False
        if behaviour == "hang":
            self._closing.wait(60)
            behaviour = "200 OK"
        extra = ""
        if behaviour == "redirect" or behaviour.startswith(("301 ", "302 ")):
            behaviour = "307 Moved" if behaviour == "redirect" else behaviour
            extra = f"Location: http://127.0.0.1:{self.port}/moved\r\n"
        ends = behaviour == "silent-close-after"
        if ends:
            behaviour = "200 OK"
        head = f"HTTP/1.1 {behaviour}\r\n{extra}Content-Length: {len(self.text)}\r\n\r\n"
        connection.sendall(head.encode() + self.text)
        return not ends

    def __enter__(self) -> "RawReceiver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(5)
