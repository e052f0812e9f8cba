"""The answers to location references over HTTP (RFC 6753), as an ASGI application.

GET or POST to PREFIX/REFERENCE gives the location, GET to PREFIX/REFERENCE/BLOCK a block of additional data
(RFC 7852). Whatever else is asked for, and whatever is not known or has expired, is 404 with nothing that tells the
one from the other.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from e911.held_server import (
    ANYTHING,
    HELD_TYPE,
    PIDF_TYPE,
    HeldError,
    error_response,
    location_of,
    location_response,
    prefers_bare_document,
    read_request,
)
from router.references.spool import LOCATION, Referred, key_of
from router.references.table import ReferenceTable, SharedReferences

log = logging.getLogger("router.references")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST_REQUEST: Final = 16_384
"""Bytes; a locationRequest is some three hundred."""
BODY_SECONDS: Final = 5.0
MISSES_A_MINUTE: Final = 30
"""Wrong references of one address; beyond it further ones get 429, and are not looked for in the database."""
ADDRESSES_LIMIT: Final = 10_000
_REFERENCE = re.compile(r"/([A-Za-z0-9_-]{24})(?:/([A-Za-z]{1,40}))?")
_UNKNOWN = ("locationUnknown", "there is no such location reference, or it has expired")


class Misses:
    """Who asked for what is not there, and how often in the last minute."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._by_address: OrderedDict[str, list[float]] = OrderedDict()

    def is_too_many(self, address: str) -> bool:
        """True where an address has used up its misses."""
        found = self._by_address.get(address)
        if not found:
            return False
        oldest = self._now() - 60.0
        while found and found[0] < oldest:
            found.pop(0)
        return len(found) >= MISSES_A_MINUTE

    def note(self, address: str) -> None:
        """One more."""
        self._by_address.setdefault(address, []).append(self._now())
        self._by_address.move_to_end(address)
        while len(self._by_address) > ADDRESSES_LIMIT:
            self._by_address.popitem(last=False)


class ReferenceApp:
    """prefix: path below which references are. now: a clock, seconds."""

    def __init__(
        self, prefix: str, table: ReferenceTable, shared: SharedReferences | None, now: Callable[[], float]
    ) -> None:
        self._prefix = prefix.rstrip("/")
        self._table = table
        self._shared = shared
        self._misses = Misses(now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        status, kind, body, headers = await self._answer(scope, receive)
        if scope["method"] == "HEAD":
            body = b""
        lines = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *headers,
        ]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, str, bytes, list[tuple[bytes, bytes]]]:
        address = str((scope.get("client") or ("",))[0])
        path = str(scope["path"])
        match = _REFERENCE.fullmatch(path[len(self._prefix) :]) if path.startswith(self._prefix) else None
        found = await self._find(match[1], address) if match else None
        block = (match[2] or "") if match else ""
        document = found.documents.get(block or LOCATION) if found is not None else None
        if found is None or document is None:
            if self._misses.is_too_many(address):
                return 429, "text/plain", b"too many unknown references\n", [(b"retry-after", b"60")]
            self._misses.note(address)
            return 404, HELD_TYPE, error_response(*_UNKNOWN), []
        method = str(scope["method"])
        if method not in ("GET", "HEAD") and (method != "POST" or block):
            allowed = b"GET, HEAD" if block else b"GET, HEAD, POST"
            return 405, "text/plain", b"GET or POST\n", [(b"allow", allowed)]
        self._note(found, block, address)
        if block:
            return 200, f"application/EmergencyCallData.{block}+xml", document.encode(), []
        headers = {name.lower(): value for name, value in scope["headers"]}
        if method == "POST":
            return await self._held(document.encode(), headers, receive)
        if prefers_bare_document(headers.get(b"accept", b"").decode("latin-1")):
            return 200, PIDF_TYPE, document.encode(), [(b"vary", b"accept")]
        return 200, HELD_TYPE, location_response(location_of(document.encode(), ANYTHING)), [(b"vary", b"accept")]

    async def _held(
        self, document: bytes, headers: dict[bytes, bytes], receive: Receive
    ) -> tuple[int, str, bytes, list[tuple[bytes, bytes]]]:
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != HELD_TYPE.encode():
            return 415, "text/plain", f"send {HELD_TYPE}\n".encode(), [(b"accept", HELD_TYPE.encode())]
        try:
            async with asyncio.timeout(BODY_SECONDS):
                request = await _body(receive)
        except TimeoutError:
            return 408, "text/plain", b"the request did not end in time\n", [(b"connection", b"close")]
        if request is None:
            return 413, "text/plain", b"no locationRequest is so large\n", [(b"connection", b"close")]
        try:
            answer = location_response(location_of(document, read_request(request)))
        except HeldError as error:
            answer = error_response(error.code, str(error))  # HELD's errors travel in a 200 (RFC 5985 section 8.1)
        return 200, HELD_TYPE, answer, []

    async def _find(self, reference: str, address: str) -> Referred | None:
        """Ours are found whoever else guesses from that address (a proxy, perhaps); the database is spared that."""
        key = key_of(reference)
        found = self._table.find(key)
        is_asked = self._shared is not None and not self._table.has(key)
        if found is None and is_asked and self._shared is not None and not self._misses.is_too_many(address):
            found = await self._shared.find(key)
        return found

    def _note(self, found: Referred, block: str, address: str) -> None:
        fields = {"call": found.call, "what": block or LOCATION, "source_address": address}
        log.info("location-dereferenced", extra={"event_fields": fields})


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None where it is too large, or the client is gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > LARGEST_REQUEST:
            return None
        if not message.get("more_body"):
            return body
