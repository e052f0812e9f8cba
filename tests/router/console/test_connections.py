"""Connections that ask nothing keep nobody out who does."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from router.console import connections, guard
from router.console.connections import AskingConnection
from tests.support.console import ConsoleWorld, console_world
from tests.support.ports import Endpoint, endpoint, loopback

MOST = 8


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A console that serves MOST connections at once."""
    at = endpoint(f"{loopback().next_network()}.1")
    with console_world(tmp_path_factory.mktemp("console")) as world:
        server = uvicorn.Server(settings(world, at))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield at
        finally:
            server.should_exit = server.force_exit = True
            thread.join(60)


def settings(world: ConsoleWorld, at: Endpoint) -> uvicorn.Config:
    return uvicorn.Config(
        world.app,
        host=at.address,
        port=at.port,
        http=AskingConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        limit_concurrency=MOST,
    )


def asked(at: Endpoint, connection: socket.socket | None = None) -> bytes:
    """The status line of a request for a page."""
    with connection or socket.create_connection(at.pair, timeout=60) as opened:
        opened.sendall(f"GET /status HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while b"\r\n" not in found and (data := opened.recv(4096)):
            found += data
        return found.partition(b"\r\n")[0]


def is_closed(connection: socket.socket) -> bool:
    """Wait until the far end closes it."""
    connection.settimeout(60)
    try:
        return connection.recv(4096) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("said", [b"", b"GET /status HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["silent", "half"])
def test_silent_connections_make_room_for_one_that_asks(served: Endpoint, said: bytes) -> None:
    held = [socket.create_connection(served.pair, timeout=60) for _ in range(3 * MOST)]
    try:
        for connection in held[-MOST:]:
            connection.sendall(said)
        assert asked(served) == b"HTTP/1.1 200 OK"
        assert is_closed(held[0]), "the one that was silent longest"
    finally:
        for connection in held:
            connection.close()


def test_a_connection_whose_request_never_comes_is_closed(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    with socket.create_connection(served.pair, timeout=60) as connection:
        connection.sendall(b"GET /status HTTP/1.1\r\n")
        assert is_closed(connection)
    assert asked(served) == b"HTTP/1.1 200 OK"


def test_a_body_that_never_comes_whole_is_refused(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", -2.4)
    with socket.create_connection(served.pair, timeout=60) as connection:
        head = f"POST /login HTTP/1.1\r\nHost: {served}\r\nContent-Length: 100\r\n"
        connection.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf=".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
