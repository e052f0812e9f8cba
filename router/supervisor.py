"""`edge911 run`: starts the call process, the notices process and, where they are configured, the trace process and
the server of location references and the console; and starts again what dies or hangs.

Deliberately small: it imports nothing of the product, so there is next to nothing in it that can fail. The children
die with it (the kernel sees to that), so that after a kill -9 the addresses are free for the next start.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

STARTED_SECONDS = 3.0
"""A call process that ends within so long of the very first start cannot serve: its reason is ours."""
BACKOFF = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
CALLS_PAUSE_SECONDS = 0.5
"""The call process is never put off longer, however often it ended: somebody may be dialling 911, and what killed it
five times may be gone."""
START_SILENT_SECONDS = 120.0
"""So long a process may take to its first sign of life: many sites and devices take a while to read."""
CALLS_SILENT_SECONDS = 10.0
"""So long the call process may give no sign of life (it gives one a second) before it counts as hung. A phone goes on
sending its INVITE for 32 s: time enough for a new process to take it."""
NOTICES_SILENT_SECONDS = 30.0
"""Nobody is told of a call meanwhile. A new process finds what is owed in the journal and in the notice log."""
EXPORT_SILENT_SECONDS = 60.0
REFERENCES_SILENT_SECONDS = 30.0
SELF_TEST_SILENT_SECONDS = 240.0
"""A test call may take so long that shows no sign of life."""
CONSOLE_SILENT_SECONDS = 60.0
PAUSED_SECONDS = 5.0
"""A turn of the supervisor that took longer says that the whole machine stood still, not a child."""
LAST_WORDS_SECONDS = 0.3
HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that wait in a child until it can treat them."""
CALLS_STOP_SECONDS = 35.0
NOTICES_STOP_SECONDS = 10.0


class Child:
    """One supervised process.

    silent_seconds: so long it may give no sign of life on the pipe that `--heartbeat` names; None watches nothing.
    wanted: False where it is started at SIGHUP only, which may give it something to do. may_end: it ends with exit
    code 0 where it has nothing to do (trace, references, console), and is not wanted from then on. longest_pause:
    seconds that a next start is put off at the most.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        silent_seconds: float | None = None,
        *,
        wanted: bool = True,
        may_end: bool = False,
        longest_pause: float = BACKOFF[-1],
    ) -> None:
        self.name = name
        self.command = command
        self.wanted = wanted
        self.may_end = may_end
        self.silent_seconds = silent_seconds
        self.longest_pause = longest_pause
        self.last_sign = 0.0
        self.has_shown_life = False
        self._pipe = -1
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.started = 0.0
        self.start_at = 0.0
        self.starts = 0

    def start(self) -> bool:
        """Start it. False where the system has no process for us now: said, and tried again after a pause."""
        self.started = self.last_sign = time.monotonic()
        self.has_shown_life = False
        try:
            self.process = self._spawn()
        except (OSError, MemoryError) as error:  # no memory, too many processes: that passes
            self._pause()
            say(f"the {self.name} process cannot be started: {error}; it is tried again")
            return False
        self.starts += 1
        return True

    def _spawn(self) -> "subprocess.Popen[bytes]":
        """Start the process; signals wait in it until its handlers stand."""
        self._close_pipe()
        command, pipe = self.command, -1
        if self.silent_seconds is not None:
            self._pipe, pipe = os.pipe()
            os.set_blocking(self._pipe, False)
            command = [*command, "--heartbeat", str(pipe)]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which ends calls first, then notices.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=() if pipe < 0 else (pipe,),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if pipe >= 0:
                os.close(pipe)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def is_hung(self, now: float) -> bool:
        """True where it runs and has given no sign of life for too long."""
        if self.process is None or self.silent_seconds is None:
            return False
        try:
            while self._pipe >= 0 and (signs := os.read(self._pipe, 4096)):
                self.last_sign, self.has_shown_life = now, True
                if len(signs) < 4096:
                    break
        except BlockingIOError:
            pass
        except OSError:
            return False
        limit = self.silent_seconds if self.has_shown_life else START_SILENT_SECONDS
        return now - self.last_sign > limit

    def end_hung(self) -> None:
        """Have it write where it stands (SIGUSR1), then kill it; `check` finds that it has ended."""
        if self.process is None:
            return
        say(f"the {self.name} process gives no sign of life; it is killed")
        if self.has_shown_life:  # before that it may not know SIGUSR1
            self.signal(signal.SIGUSR1)
            time.sleep(LAST_WORDS_SECONDS)
        self.process.kill()
        # One that waits for a disk cannot even die: it is looked at again after as long.
        self.last_sign = time.monotonic()

    def _pause(self) -> None:
        """Count a failure and put the next start off."""
        pause = BACKOFF[min(self.failures, len(BACKOFF) - 1)]
        self.start_at = time.monotonic() + min(pause, self.longest_pause)
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


@dataclass(slots=True)
class _Log:
    """How lines are written: for people, or as JSON like those of the processes."""

    node: str | None = None


_LOG = _Log()


def log_as_json(node: str) -> None:
    """Write lines as `log.format: json` has them from now on."""
    _LOG.node = node


def say(text: str) -> None:
    """One line on standard error, where anybody takes it."""
    line = f"edge911: {text}"
    if _LOG.node is not None:
        at = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1e6):06d}Z"
        fields = {"event": text, "level": "warning", "timestamp": stamp, "process": "supervisor", "node": _LOG.node}
        line = json.dumps(fields)
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def supervise(calls: Child, notices: Child, *others: Child) -> int:
    """Keep them running until SIGTERM or SIGINT; SIGHUP goes to all. Returns the exit code."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        reading.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        caught: list[int] = []
        for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(wanted, lambda received, _frame: caught.append(received))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)  # those that came while we were being started count too
        try:
            return _keep_running((calls, notices, *others), reading, caught)
        finally:
            signal.set_wakeup_fd(-1)


def _keep_running(children: Sequence[Child], reading: socket.socket, caught: list[int]) -> int:
    calls = children[0]
    for child in children:
        if child.wanted:
            child.start()
    looked = time.monotonic()
    while True:
        due = [child.start_at - time.monotonic() for child in children if child.process is None and child.wanted]
        select.select([reading], [], [], max(0.0, min([0.5, *due])))
        with contextlib.suppress(BlockingIOError):
            reading.recv(4096)
        stop = False
        while caught:
            number = caught.pop(0)
            if number == signal.SIGHUP:
                for child in children:
                    child.signal(number)
                    child.wanted = True
            elif number in (signal.SIGTERM, signal.SIGINT):
                stop = True
        if stop:
            return stop_all(children)
        before, looked = looked, time.monotonic()
        for child in children:
            if looked - before > PAUSED_SECONDS:
                child.last_sign = looked
            elif child.is_hung(looked):
                child.end_hung()
            code = child.check()
            if code is not None:
                lived = time.monotonic() - child.started
                if child is calls and calls.starts == 1 and lived < STARTED_SECONDS and code == 1:
                    stop_all(children)
                    return code
                if child.may_end and code == 0:
                    child.wanted = False
                else:
                    say(f"the {child.name} process ended ({describe(code)}); it is started again")
            if child.process is None and child.wanted and time.monotonic() >= child.start_at:
                child.start()


def stop_all(children: Sequence[Child]) -> int:
    """One after the other: calls first, so that the notices of the last calls are made too, and messages written."""
    for child in children:
        child.signal(signal.SIGTERM)
        child.wait(CALLS_STOP_SECONDS if child is children[0] else NOTICES_STOP_SECONDS)
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
    parser.add_argument("--trace", action="store_true", help="start the process of captures and HEP, too")
    parser.add_argument("--references", action="store_true", help="start the server of location references, too")
    parser.add_argument("--console", action="store_true", help="start the web console, too")
    parser.add_argument("--self-test", action="store_true", help="start the process of test calls, too")
    parser.add_argument("--json-log", metavar="NODE", help="write lines as JSON, with this name of the node")
    options = parser.parse_args()
    if options.json_log is not None:
        log_as_json(options.json_log)
    os.umask(0o077)  # what the children write says where people are
    # No plugin of anybody's has a say in our configuration, and to look for some takes each child a while.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    python = [sys.executable, "-m"]
    parent = str(os.getpid())
    state = ("--state", options.state)
    return supervise(
        Child(
            "call",
            [*python, "router.app", "--config", options.config, "--parent", parent],
            silent_seconds=CALLS_SILENT_SECONDS,
            longest_pause=CALLS_PAUSE_SECONDS,
        ),
        Child(
            "notices",
            [*python, "router.notices", "--config", options.config, "--state", options.state, "--parent", parent],
            silent_seconds=NOTICES_SILENT_SECONDS,
        ),
        Child(
            "trace",
            [*python, "router.trace.export", "--config", options.config, "--parent", parent],
            silent_seconds=EXPORT_SILENT_SECONDS,
            wanted=options.trace,
            may_end=True,
        ),
        Child(
            "references",
            [*python, "router.references.server", "--config", options.config, *state, "--parent", parent],
            silent_seconds=REFERENCES_SILENT_SECONDS,
            wanted=options.references,
            may_end=True,
        ),
        Child(
            "console",
            [*python, "router.console", "--config", options.config, *state, "--parent", parent],
            silent_seconds=CONSOLE_SILENT_SECONDS,
            wanted=options.console,
            may_end=True,
        ),
        Child(
            "self-test",
            [*python, "router.self_test", "--config", options.config, *state, "--parent", parent],
            silent_seconds=SELF_TEST_SILENT_SECONDS,
            wanted=options.self_test,
            may_end=True,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
