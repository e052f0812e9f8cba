"""The socket of the call process where traces are taken: off while nobody listens, and never waiting for who does."""

import asyncio
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from router.trace import server as trace_server
from router.trace.messages import SOCKET, FrameReader, Hello, Traced, connect
from router.trace.server import TraceServer
from sip.flow import Flow, ListeningPoint
from sip.stack import Stack
from sip.transport import SipEdge
from tests.router.traces import EDGE, PHONE, answer, invite
from tests.support.call_world import CallWorld

FLOW = Flow(ListeningPoint("udp", *EDGE), *PHONE)
HELLO = Hello(node="hq-1", trunks={"ers-a": [("203.0.113.31", 5060)]})


def in_a_loop(folder: Path, work: Callable[[SipEdge, TraceServer], Awaitable[None]]) -> None:
    async def run() -> None:
        edge = SipEdge(Stack(CallWorld(folder).router, key=b"k"), lambda _error, _data: None)
        server = TraceServer(edge, folder, lambda: HELLO, clock=lambda: 1e9)
        await server.start()
        try:
            async with asyncio.timeout(20):
                await work(edge, server)
        finally:
            await server.close()
            await edge.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def read(listener: socket.socket, count: int, reader: FrameReader | None = None) -> list[Traced]:
    """So many messages."""
    reader = reader or FrameReader()
    found: list[Traced] = []
    listener.setblocking(False)
    while len(found) < count:
        found += reader.feed(await asyncio.get_running_loop().sock_recv(listener, 65_536))
    return found


def test_the_tap_is_open_while_somebody_listens(tmp_path: Path) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
        assert edge.tap is None
        first, second = connect(tmp_path), connect(tmp_path)
        await until(lambda: server.listeners == 2)
        assert edge.tap is not None
        edge.tap(invite(), FLOW, False)
        edge.tap(answer(), FLOW, True)
        for listener in (first, second):
            reader = FrameReader()
            found = await read(listener, 2, reader)
            assert reader.hello == HELLO
            assert [(one.sent, one.source, one.destination, one.transport, one.at) for one in found] == [
                (False, PHONE, EDGE, "udp", 1e9),
                (True, EDGE, PHONE, "udp", 1e9),
            ]
            assert [one.data for one in found] == [invite(), answer()]
        first.close()
        await until(lambda: server.listeners == 1)
        assert edge.tap is not None
        second.close()
        await until(lambda: server.listeners == 0)
        assert edge.tap is None

    in_a_loop(tmp_path, work)


def test_messages_with_a_text_in_them_alone(tmp_path: Path) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(tmp_path, "call-2") as listener:
            await until(lambda: server.listeners == 1)
            assert edge.tap is not None
            for number in range(1, 4):
                edge.tap(invite(call_id=f"call-{number}"), FLOW, False)
            (found,) = await read(listener, 1)
            assert found.call_id == "call-2"

    in_a_loop(tmp_path, work)


def test_a_listener_that_does_not_read_loses_messages_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_server, "UNREAD_BYTES", 100_000)
    monkeypatch.setattr(trace_server, "SHIP_SECONDS", 0.001)

    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(tmp_path) as slow, connect(tmp_path) as quick:
            await until(lambda: server.listeners == 2)
            assert edge.tap is not None
            count = 0
            reader = FrameReader()
            while not server.lost:
                for _ in range(100):
                    edge.tap(invite(body=b"x" * 5_000), FLOW, False)
                count += 100
                await read(quick, 100, reader)
            assert reader.lost == 0
            lost = server.lost
            told = FrameReader()
            got = len(await read(slow, count - lost, told))
            edge.tap(invite(), FLOW, False)
            assert len(await read(slow, 1, told)) == 1
            assert told.lost == lost == server.lost
            assert got + lost == count

    in_a_loop(tmp_path, work)


def test_a_flood_fills_a_queue_that_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_server, "WAITING_MESSAGES", 50)

    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(tmp_path) as listener:
            await until(lambda: server.listeners == 1)
            assert edge.tap is not None
            for _ in range(80):
                edge.tap(invite(), FLOW, False)
            reader = FrameReader()
            await read(listener, 50, reader)
            assert reader.lost == server.lost == 30

    in_a_loop(tmp_path, work)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.0\r\n\r\n", b"[]\n", b'{"contains": 5}\n', b"x" * 100_000])
def test_who_does_not_speak_our_way_opens_no_tap(tmp_path: Path, said: bytes) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        asked, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(said)
        writer.write_eof()
        assert await asked.read() == b""  # hung up on
        assert edge.tap is None
        writer.close()

    in_a_loop(tmp_path, work)


def test_what_came_last_is_told_when_the_router_ends(tmp_path: Path) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(tmp_path) as listener:
            await until(lambda: server.listeners == 1)
            assert edge.tap is not None
            edge.tap(invite(), FLOW, False)
            await server.close()
            listener.settimeout(10)
            data = b""
            while chunk := listener.recv(65_536):
                data += chunk
            assert [one.data for one in FrameReader().feed(data)] == [invite()]
            assert not (tmp_path / SOCKET).exists()

    in_a_loop(tmp_path, work)


def test_a_socket_left_behind_and_a_path_longer_than_sockets_take(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 90) / ("b" * 60)
    folder.mkdir(parents=True)
    (folder / SOCKET).touch()

    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(folder) as listener:
            await until(lambda: server.listeners == 1)
            assert edge.tap is not None
            edge.tap(invite(), FLOW, False)
            assert len(await read(listener, 1)) == 1

    in_a_loop(folder, work)


def test_keep_alives_are_no_messages_and_frames_come_in_any_pieces(tmp_path: Path) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        with connect(tmp_path) as listener:
            await until(lambda: server.listeners == 1)
            assert edge.tap is not None
            for data in (b"\r\n\r\n", b"\0", invite(), b"GET /\n", b"", answer()):
                edge.tap(data, FLOW, False)
            await server.close()
            listener.settimeout(10)
            data = b"".join(iter(lambda: listener.recv(65_536), b""))
            for size in (1, 7, 1000):
                reader = FrameReader()
                pieces = [data[at : at + size] for at in range(0, len(data), size)]
                found = [one.data for piece in pieces for one in reader.feed(piece)]
                assert found == [invite(), b"GET /\n", answer()]

    in_a_loop(tmp_path, work)
