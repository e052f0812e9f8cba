"""A provisioning interface: a real HTTP server that answers what the test tells it to, and keeps what came."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, bytes] | None
"""Status and body; None hangs until the server is closed."""


@dataclass
class ProvisioningServer:
    """answer: what is said to a request. Listens on loopback from `with` on."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    """More header fields of each answer."""
    drip: float = 0.0
    """Seconds between two bytes of a body."""

    def __enter__(self) -> "ProvisioningServer":
        outer = self
        self._closing = threading.Event()
        self._changed = threading.Condition()

        class Receiver(BaseHTTPRequestHandler):
            def _treat(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                one = Asked(self.command, self.path, headers, body)
                with outer._changed:
                    outer.asked.append(one)
                    outer._changed.notify_all()
                found = outer.answer(one)
                if found is None:
                    outer._closing.wait(30)
                    return
                status, content = found
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if not outer.drip:
                    self.wfile.write(content)
                    return
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    if outer._closing.wait(outer.drip):
                        return

            def do_POST(self) -> None:
                self._treat()

            def do_GET(self) -> None:
                self._treat()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """A client that gave up is what the test wanted."""

        self._server = Server(("127.0.0.1", 0), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait_for(self, count: int, timeout: float = 30) -> list[Asked]:
        """Everything asked, once there is so much."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while len(self.asked) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.asked)} of {count} requests came"
                self._changed.wait(left)
            return list(self.asked)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
