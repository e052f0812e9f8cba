"""/metrics, /healthz and /readyz, from the call process itself: a small HTTP/1.1 server on h11."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import h11

REQUEST_SECONDS = 5.0
MAX_CLIENTS = 64

Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class HealthServer:
    """Answers GET and HEAD for a few paths; anything else gets 404 or 405."""

    def __init__(self, pages: dict[str, Callable[[], Answer]]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        self._server = await asyncio.start_server(self._serve, host, port, backlog=MAX_CLIENTS // 4)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= MAX_CLIENTS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._exchange(reader.read, writer)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass  # a client that is slow or speaks no HTTP is let go
        finally:
            self._clients -= 1
            writer.close()

    async def _exchange(self, read: Callable[[int], Awaitable[bytes]], writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await read(16_384))
            elif isinstance(event, h11.Request):
                break
            else:
                return
        status, content_type, body = self._answer(event)
        headers = [
            ("content-type", content_type),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
        if event.method != b"HEAD":
            writer.write(connection.send(h11.Data(data=body)) or b"")
        await writer.drain()

    def _answer(self, request: h11.Request) -> Answer:
        page = self._pages.get(request.target.partition(b"?")[0].decode("latin-1"))
        if page is None:
            return 404, "text/plain", f"try {', '.join(self._pages)}\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return 405, "text/plain", b"GET only\n"
        return page()


def json_answer(status: int, content: dict[str, object]) -> Answer:
    """A JSON page."""
    return status, "application/json", json.dumps(content).encode() + b"\n"
