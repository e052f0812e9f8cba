"""A webhook receiver: records every JSON document posted to it; can be told to refuse or to hang."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from tests.support.ports import Endpoint, endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One document posted."""

    path: str
    document: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        """Title and message of an Apprise JSON document, on lines of their own."""
        return f"{self.document.get('title', '')}\n{self.document.get('message', '')}"


class WebhookSink:
    """Listens on an address of its own from the start until closed."""

    def __init__(self, address: str) -> None:
        self.endpoint: Endpoint = endpoint(address)
        self.mode: Literal["accept", "refuse", "hang"] = "accept"
        self.attempts = 0
        self._posts: list[Post] = []
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        sink = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sink._receive(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that went away while we hung is what the test wanted."""

        self._server = Server(self.endpoint.pair, Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _receive(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._arrived:
            self.attempts += 1
            mode = self.mode
            if mode == "accept":
                self._posts.append(Post(path=request.path, document=json.loads(body), at=time.monotonic()))
            self._arrived.notify_all()
        if mode == "hang":
            self._closing.wait(60)
            return
        request.send_response(200 if mode == "accept" else 503)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def url(self, path: str) -> str:
        """The Apprise URL of a path here."""
        return f"json://{self.endpoint}/{path}"

    def posts(self, path: str | None = None) -> list[Post]:
        """What was accepted, of one path or of all."""
        with self._arrived:
            return [post for post in self._posts if path in (None, post.path.strip("/"))]

    def wait_for(
        self, path: str, count: int = 1, timeout: float = 40, *, wanted: Callable[[Post], bool] = lambda _: True
    ) -> list[Post]:
        """The posts to a path that are wanted, as soon as there are `count`."""

        def found_now() -> list[Post]:
            return [post for post in self.posts(path) if wanted(post)]

        self._wait(lambda: len(found_now()) >= count, timeout)
        found = found_now()
        assert len(found) >= count, f"{len(found)} of {count} posts to {path} within {timeout} s: {found}"
        return found

    def wait_for_attempts(self, count: int, timeout: float = 40) -> None:
        """Wait until `count` requests came, refused ones included."""
        self._wait(lambda: self.attempts >= count, timeout)
        assert self.attempts >= count, f"{self.attempts} of {count} attempts within {timeout} s"

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done() and (left := deadline - time.monotonic()) > 0:
            with self._arrived:
                self._arrived.wait(min(left, 0.05))

    def close(self) -> None:
        """Stop listening; hanging requests are let go."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> "WebhookSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
