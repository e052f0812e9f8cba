"""Where the notices of the bench go: takes every POST, and says on GET how many there were and when each came.

A process of its own, so that its work is counted neither as the router's nor within anybody's latency.
"""

import argparse
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import ClassVar

from simulations.standalone import host_and_port

_DEVICE = re.compile(rb"\bDesk (\d+)\b")
"""The name of the device that called, as the bench registers them."""


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posts = count()
    taken = 0
    arrived: ClassVar[dict[int, int]] = {}
    """By the number in the device's name: when its first notice came, nanoseconds since 1970."""

    def do_POST(self) -> None:
        at = time.time_ns()
        found = _DEVICE.search(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if found:
            self.arrived.setdefault(int(found[1]), at)
        _Sink.taken = next(self.posts) + 1
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(json.dumps({"posts": self.taken, "arrived": dict(self.arrived)}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def main() -> int:
    """Entry point; the line `ready` on standard output says that it listens."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.webhook_sink", description=__doc__)
    parser.add_argument("--listen", type=host_and_port, required=True, metavar="HOST:PORT")
    with ThreadingHTTPServer(parser.parse_args().listen, _Sink) as server:
        print("ready", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
