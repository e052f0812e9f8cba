"""One HTTP request to a location server over a connection of its own: bounds on what is sent, taken and waited for.

Redirects are not followed; the address given is the one connected to, so that a name that changes meanwhile leads
nowhere else.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11

from e911.held_server import HELD_TYPE

LARGEST_ANSWER = 32_768
"""Bytes: it goes along in an INVITE."""
MOST_INTERIM_ANSWERS = 8
"""1xx answers before the real one."""


class TooLargeError(Exception):
    """The answer is larger than any location."""


class Origin(NamedTuple):
    """Where a location is asked for: what is needed to connect."""

    is_secure: bool
    host: str
    port: int
    target: bytes
    """Path and query."""


def read_url(url: str) -> Origin:
    """Where an http(s) URL points. Raises ValueError where it is no plain one, as with a password in it."""
    parts: SplitResult = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in ("http", "https"):
        raise ValueError("neither http nor https")
    if not host or parts.username is not None or parts.password is not None or port == 0 or len(url) > 2000:
        raise ValueError("no plain URL")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if any(not "!" <= char <= "~" for char in host + target):
        raise ValueError("characters that no URL has")
    return Origin(parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80), target.encode())


async def exchange(
    origin: Origin,
    address: str,
    body: bytes,
    *,
    context: ssl.SSLContext | None,
    method: bytes = b"POST",
    fields: Sequence[tuple[str, str]] = (),
) -> tuple[int, bytes]:
    """One request and its answer: status and body. A body is sent as HELD.

    Raises OSError, ssl.SSLError, EOFError or h11.ProtocolError where there is no answer, TooLargeError.
    """
    reader, writer = await asyncio.open_connection(
        address,
        origin.port,
        ssl=context if origin.is_secure else None,
        server_hostname=origin.host if origin.is_secure else None,
        limit=LARGEST_ANSWER,
    )
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_ANSWER)
        writer.write(_request_bytes(connection, origin, method, body, fields))
        return await _read_answer(connection, reader)
    finally:
        writer.transport.abort()


def _request_bytes(
    connection: h11.Connection, origin: Origin, method: bytes, body: bytes, fields: Sequence[tuple[str, str]]
) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    headers = [
        ("Host", f"{host}:{origin.port}"),
        ("Accept", "application/held+xml, application/pidf+xml"),
        ("User-Agent", "edge911"),
        ("Connection", "close"),
        *fields,
    ]
    if body:
        headers += [("Content-Type", HELD_TYPE), ("Content-Length", str(len(body)))]
    data = connection.send(h11.Request(method=method, target=origin.target, headers=headers)) or b""
    if body:
        data += connection.send(h11.Data(data=body)) or b""
    return data + (connection.send(h11.EndOfMessage()) or b"")


async def _read_answer(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes]:
    status = interim = 0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(16_384))
        elif isinstance(event, h11.InformationalResponse):
            interim += 1
            if interim > MOST_INTERIM_ANSWERS:
                raise EOFError
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LARGEST_ANSWER:
                raise TooLargeError
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            if not status:
                raise EOFError
            return status, bytes(body)
