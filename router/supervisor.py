"""`edge911 run`: starts the call process and the notices process, and starts again what dies.

Deliberately small: it imports nothing of the product, so there is next to nothing in it that can fail. The children
die with it (the kernel sees to that), so that after a kill -9 the addresses are free for the next start.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time

STARTED_SECONDS = 3.0
"""A call process that ends within so long of the very first start cannot serve: its reason is ours."""
BACKOFF = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
CALLS_STOP_SECONDS = 35.0
NOTICES_STOP_SECONDS = 10.0


class Child:
    """One supervised process."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.started = 0.0
        self.start_at = 0.0
        self.starts = 0

    def start(self) -> bool:
        """Start it. False where the system has no process for us now: said, and tried again after a pause."""
        self.started = time.monotonic()
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends calls first, then notices.
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, start_new_session=True)
        except (OSError, MemoryError) as error:  # no memory, too many processes: that passes
            self._pause()
            say(f"the {self.name} process cannot be started: {error}; it is tried again")
            return False
        self.starts += 1
        return True

    def _pause(self) -> None:
        """Count a failure and put the next start off."""
        self.start_at = time.monotonic() + BACKOFF[min(self.failures, len(BACKOFF) - 1)]
        self.failures += 1

    def check(self) -> int | None:
        """Its exit code, once, where it has ended since the last look."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        if time.monotonic() - self.started > 60:
            self.failures = 0
        self._pause()
        return code

    def signal(self, number: int) -> None:
        """Send it a signal, where it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Wait for its end, then make an end of it."""
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def say(text: str) -> None:
    """One line on standard error, where anybody takes it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"edge911: {text}", file=sys.stderr, flush=True)


def supervise(calls: Child, notices: Child) -> int:
    """Keep both running until SIGTERM or SIGINT; SIGHUP goes to both. Returns the exit code."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        reading.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        caught: list[int] = []
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(wanted, lambda received, _frame: caught.append(received))
        try:
            return _keep_running(calls, notices, reading, caught)
        finally:
            signal.set_wakeup_fd(-1)


def _keep_running(calls: Child, notices: Child, reading: socket.socket, caught: list[int]) -> int:
    calls.start()
    notices.start()
    while True:
        due = [child.start_at - time.monotonic() for child in (calls, notices) if child.process is None]
        select.select([reading], [], [], max(0.0, min([0.5, *due])))
        with contextlib.suppress(BlockingIOError):
            reading.recv(4096)
        stop = False
        while caught:
            number = caught.pop(0)
            if number == signal.SIGHUP:
                calls.signal(number)
                notices.signal(number)
            elif number in (signal.SIGTERM, signal.SIGINT):
                stop = True
        if stop:
            return stop_both(calls, notices)
        for child in (calls, notices):
            code = child.check()
            if code is not None:
                lived = time.monotonic() - child.started
                if child is calls and calls.starts == 1 and lived < STARTED_SECONDS and code == 1:
                    notices.signal(signal.SIGTERM)
                    notices.wait(NOTICES_STOP_SECONDS)
                    return code
                say(f"the {child.name} process ended ({describe(code)}); it is started again")
            if child.process is None and time.monotonic() >= child.start_at:
                child.start()


def stop_both(calls: Child, notices: Child) -> int:
    """Calls first, so that the notices of the last calls are made too."""
    calls.signal(signal.SIGTERM)
    calls.wait(CALLS_STOP_SECONDS)
    notices.signal(signal.SIGTERM)
    notices.wait(NOTICES_STOP_SECONDS)
    return 0


def describe(code: int) -> str:
    """An exit code for people."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


def main() -> int:
    """Entry point: python -m router.supervisor --config FILE --state DIRECTORY."""
    parser = argparse.ArgumentParser(prog="python -m router.supervisor", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--state", required=True, metavar="DIRECTORY")
    options = parser.parse_args()
    os.umask(0o077)  # what the children write says where people are
    python = [sys.executable, "-m"]
    parent = str(os.getpid())
    return supervise(
        Child("call", [*python, "router.app", "--config", options.config, "--parent", parent]),
        Child(
            "notices",
            [*python, "router.notices", "--config", options.config, "--state", options.state, "--parent", parent],
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
