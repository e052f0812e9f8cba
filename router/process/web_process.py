"""What the processes that serve HTTP by uvicorn have in common: signals and the socket."""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from router.process.loop_faults import LoopFaults
from router.process.signs_of_life import release_signals

CHANGED = 3
"""Exit code where what a process was started with was changed: a new one begins with that."""


class WebServer(uvicorn.Server):
    """Signals are ours to treat."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield

    def stop(self) -> None:
        """Give the last answers and end."""
        self.should_exit = True

    def take_signals(self, reload: Callable[["WebServer"], None]) -> None:
        """SIGTERM and SIGINT stop, SIGHUP calls `reload`; from now on they come, and what the loop says of faults
        fills no disk."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(LoopFaults(Counter(), loop.time))
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, reload, self)
        release_signals()


def listening_socket(host: str, port: int, backlog: int, *, v6_only: bool = False) -> socket.socket:
    """v6_only: `::` takes no IPv4. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and v6_only:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind((host, port))
        found.listen(backlog)
        found.set_inheritable(False)
    except OSError:
        found.close()
        raise
    return found
