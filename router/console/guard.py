"""Before any page or endpoint: whose host name, how large, from which site; and the header fields of every answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from router.console.problems import RequestProblem
from router.console.settings import Console

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 30.0
"""How long a body may take, and so much longer as SLOWEST bytes a second need for the most that it may be."""
SLOWEST = 100 * 1024
MAX_BODY = 256 * 1024
MAX_UPLOAD = 6 * 1024 * 1024
MAX_BULK = 64 * 1024 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self' data:; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(self)"),
)
_BULK = frozenset({"/api/v1/devices", "/api/v1/wiremap", "/locations/import", "/wiremap/import"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_head = scope["method"] == "HEAD"
        if is_head:  # RFC 9110 section 9.3.2: as GET, without the content
            scope = {**scope, "method": "GET", "state": {**scope.get("state", {}), "is_head": True}}
        answer = _Answer(send, is_secure=self._console.is_secure, path=scope["path"], is_head=is_head)
        problem = self._refused(scope, headers)
        if problem is not None:
            await problem.as_response()(scope, receive, answer.send)
            return
        body = _Body(receive, limit_of(scope["method"], scope["path"]))
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > body.limit:
            await _too_large(body.limit).as_response()(scope, receive, answer.send)
            return
        try:
            await self._app(scope, body.receive, answer.send)
        except RequestProblem as error:  # the body turned out too large while it was read
            if answer.has_begun:
                raise
            await error.as_response()(scope, receive, answer.send)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> RequestProblem | None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            is_own = self._console.is_own_host(host)
        except ValueError:
            is_own = False
        if not is_own:
            detail = "this host name is not ours; use the address, or set console.public_url to this name"
            return RequestProblem(421, "host-not-ours", detail)
        if scope["method"] in _SAFE or scope["path"].startswith("/api/"):
            return None  # the API takes tokens, which no browser sends by itself
        origin = headers.get(b"origin", b"").decode("latin-1")
        site = headers.get(b"sec-fetch-site", b"")
        is_foreign = bool(origin) and origin != "null" and urlsplit(origin).netloc != host
        if site == b"cross-site" or is_foreign or (origin == "null" and site not in (b"same-origin", b"")):
            return RequestProblem(403, "cross-site", "this form was sent by another site; open the page here")
        return None


def limit_of(method: str, path: str) -> int:
    """How many bytes of body a request may have."""
    if path in _BULK and method in ("PUT", "POST"):
        return MAX_BULK
    if path.startswith("/sites/") and path.endswith("/plan"):
        return MAX_UPLOAD
    return MAX_BODY


def _too_large(limit: int) -> RequestProblem:
    detail = f"the body is larger than {limit:,} bytes; send less at once"
    return RequestProblem(413, "body-too-large", detail, headers={"Connection": "close"})


def _too_slow() -> RequestProblem:
    detail = "the body did not come in time; send it whole, or less at once"
    return RequestProblem(408, "body-too-slow", detail, headers={"Connection": "close"})


class _Body:
    """A request's body, counted as it is read."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.limit = limit
        self._receive = receive
        self._read = 0
        self._is_complete = False
        self._due = time.monotonic() + BODY_SECONDS + limit / SLOWEST

    async def receive(self) -> Message:
        left = None if self._is_complete else max(self._due - time.monotonic(), 0.001)
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.request":
            self._is_complete = not message.get("more_body", False)
            self._read += len(message.get("body", b""))
            if self._read > self.limit:
                raise _too_large(self.limit)
        return message


class _Answer:
    """An answer, with the header fields that each of ours has."""

    def __init__(self, send: Send, *, is_secure: bool, path: str, is_head: bool = False) -> None:
        self.has_begun = False
        self._is_head = is_head
        self._is_over = False
        self._send = send
        self._is_secure = is_secure
        self._path = path

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            given = {name for name, _ in message["headers"]}
            added = [field for field in HEADERS if field[0] not in given]
            if self._is_secure:
                added.append((b"strict-transport-security", b"max-age=31536000"))
            if b"cache-control" not in given:
                # What lies in a browser from before an update is asked for again: page and scripts belong together.
                is_static = self._path.startswith("/static/")
                added.append((b"cache-control", b"no-cache" if is_static else b"no-store"))
            message["headers"] = [*message["headers"], *added]
        elif self._is_head:  # over with the first piece: a stream would not end
            if self._is_over:
                return
            self._is_over = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)
