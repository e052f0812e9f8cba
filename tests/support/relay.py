"""A reverse proxy of TCP between a browser and the console, which can fail as networks and proxies do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from tests.support.ports import Endpoint

_AWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\n502"


class Line(Enum):
    """What becomes of bytes."""

    GOOD = auto()
    SILENT = auto()
    """Nothing comes through and nothing is closed, as with a pulled plug."""
    AWAY = auto()
    """Connections are cut, and each new request is answered 502, as by a proxy whose server is away."""


class Relay:
    """Listens at one endpoint and hands on to another."""

    def __init__(self, listen: Endpoint, to: Endpoint) -> None:
        self.url = f"http://{listen}"
        self._listen, self._to = listen, to
        self._line = Line.GOOD
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def become(self, line: Line) -> None:
        """From now on."""
        self._loop.call_soon_threadsafe(self._become, line)

    def _become(self, line: Line) -> None:
        was, self._line = self._line, line
        if line is Line.AWAY or was is Line.SILENT:
            for writer in self._writers:
                writer.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._take, *self._listen.pair)
        self._ready.set()
        await self._end.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        while any(not writer.transport.is_closing() for writer in self._writers):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # closed in the loop's next round

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(OSError, asyncio.CancelledError):
            if self._line is Line.AWAY:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_AWAY)
                await writer.drain()
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._to.pair)
                self._writers.append(far_writer)
                await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._line is not Line.SILENT:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextmanager
def relay(listen: Endpoint, to: Endpoint) -> Iterator[Relay]:
    """A running one."""
    made = Relay(listen, to)
    made._thread.start()
    assert made._ready.wait(30)
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._end.set)
        made._thread.join(30)
