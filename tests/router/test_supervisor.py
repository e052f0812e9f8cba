"""The supervisor when the system has no process to give, and what it says then."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router import supervisor
from router.supervisor import BACKOFF, Child, supervise

LIVES = [sys.executable, "-c", "import time, router.process.signs_of_life as s; s.release_signals(); time.sleep(60)"]


@pytest.fixture
def signals() -> Iterator[None]:
    """Signal dispositions and the wake-up descriptor as they were."""
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in wanted}
    yield
    signal.set_wakeup_fd(-1)
    for number, action in before.items():
        signal.signal(number, action)


class Scarce:
    """subprocess.Popen on a machine that has no memory for so many starts."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.started: list[subprocess.Popen[bytes]] = []
        self.are_enough = threading.Event()

    def __call__(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        if self.refusals:
            self.refusals -= 1
            raise OSError(12, "Cannot allocate memory")
        process = REAL(command, **options)
        self.started.append(process)
        if len(self.started) == 2:
            self.are_enough.set()
        return process


REAL = subprocess.Popen


def test_a_start_the_system_refuses_is_said_counted_and_put_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    monkeypatch.setattr(supervisor.subprocess, "Popen", Scarce(10))
    child = Child("call", LIVES)
    for failures in range(1, 9):
        assert not child.start()
        assert child.failures == failures
        assert child.start_at == now + BACKOFF[min(failures - 1, len(BACKOFF) - 1)]
        assert child.check() is None
    child.signal(signal.SIGHUP)
    child.wait(1.0)
    assert capsys.readouterr().err.count("the call process cannot be started") == 8


def test_the_call_process_is_never_put_off_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may be dialling 911, and what killed it five times may be gone."""
    now = 1000.0
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    monkeypatch.setattr(supervisor.subprocess, "Popen", Scarce(10))
    calls = Child("call", LIVES, longest_pause=supervisor.CALLS_PAUSE_SECONDS)
    for _ in range(8):
        assert not calls.start()
    assert calls.start_at == now + supervisor.CALLS_PAUSE_SECONDS < now + 1


@pytest.mark.parametrize("refusals", [1, 2, 4])
def test_no_refusal_of_a_start_ends_the_supervisor(
    refusals: int, monkeypatch: pytest.MonkeyPatch, signals: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also at the very first start, of either process."""
    popen = Scarce(refusals)
    monkeypatch.setattr(supervisor.subprocess, "Popen", popen)
    monkeypatch.setattr(supervisor, "BACKOFF", (0.01,))

    def stop() -> None:
        assert popen.are_enough.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        assert supervise(Child("call", LIVES), Child("notices", LIVES)) == 0
    finally:
        stopper.join()
        for process in popen.started:
            process.kill()
            process.wait()
    assert capsys.readouterr().err.count("cannot be started") == refusals
    assert all(process.returncode is not None for process in popen.started)


def test_what_the_children_write_is_private(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from router import supervisor\n"
        "supervisor.supervise = lambda *_: print(oct(os.umask(0))) or 0\n"
        "os.umask(0o022)\n"
        "sys.argv = ['supervisor', '--config', 'x', '--state', 'y']\n"
        "supervisor.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0o77"


BEATS = (
    "import faulthandler, os, signal, sys, time\n"
    "from router.process.signs_of_life import Heartbeat, release_signals\n"
    "release_signals()\n"
    "faulthandler.register(signal.SIGUSR1)\n"
    "beat = Heartbeat(int(sys.argv[-1])).beat\n"
    "for _ in range({}):\n"
    "    beat()\n"
    "    time.sleep(0.05)\n"
    "def stuck_here():\n"
    "    while True: pass\n"
    "stuck_here()\n"
)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_hangs_says_where_and_is_killed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LAST_WORDS_SECONDS", 2.0)  # on a busy machine its words take a while
    child = Child("call", [sys.executable, "-c", BEATS.format(1)], silent_seconds=0.5)
    assert child.start()
    until(lambda: child.is_hung(time.monotonic()))
    assert child.has_shown_life
    child.end_hung()
    until(lambda: child.check() == -signal.SIGKILL)
    said = capfd.readouterr().err
    assert "the call process gives no sign of life" in said
    assert "stuck_here" in said, "where it stood"
    assert child.start(), "and it is started again"
    assert not child.is_hung(time.monotonic())
    child.end_hung()
    child.wait(5)


def test_a_process_that_lives_is_left_alone() -> None:
    child = Child("call", [sys.executable, "-c", BEATS.format(10_000)], silent_seconds=5.0)
    assert child.start()
    until(lambda: not child.is_hung(time.monotonic()) and child.has_shown_life)
    assert not child.is_hung(child.last_sign + 4.9)
    first = child.last_sign
    until(lambda: not child.is_hung(time.monotonic()) and child.last_sign > first)
    child.end_hung()
    child.wait(5)


def test_a_slow_start_is_no_hang() -> None:
    child = Child("call", LIVES, silent_seconds=1.0)
    assert child.start()
    assert not child.is_hung(child.started + supervisor.START_SILENT_SECONDS - 1)
    assert child.is_hung(child.started + supervisor.START_SILENT_SECONDS + 1)
    child.end_hung()
    child.wait(5)


class Watched(Child):
    """A process that gave its last sign of life at the start."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [], silent_seconds=10.0)
        self.ended_at: list[float] = []
        self.has_shown_life = True

    def start(self) -> bool:
        self.process = subprocess.Popen.__new__(subprocess.Popen)
        self.last_sign = supervisor.time.monotonic()
        return True

    def is_hung(self, now: float) -> bool:
        return now - self.last_sign > 10.0

    def end_hung(self) -> None:
        self.ended_at.append(supervisor.time.monotonic())
        self.last_sign = supervisor.time.monotonic()

    def check(self) -> int | None:
        return None


def test_a_machine_that_stood_still_makes_no_child_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended, or its virtual machine moved: the supervisor's own turn took as long."""
    now = 1000.0
    caught: list[int] = []

    def select(*_: object) -> None:
        nonlocal now
        now += 60.0 if now == 1002.0 else 0.5
        if now > 1080.0:
            caught.append(signal.SIGTERM)

    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    monkeypatch.setattr(supervisor.select, "select", select)
    monkeypatch.setattr(supervisor, "stop_all", lambda *_: 0)
    calls, notices = Watched("call"), Watched("notices")
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        supervisor._keep_running((calls, notices), reading, caught)
    assert calls.ended_at == notices.ended_at == [1072.5], "ten seconds after the machine went on, not at once"


def test_signals_wait_in_a_child_until_it_can_treat_them() -> None:
    child = Child("call", [sys.executable, "-c", "import time; time.sleep(60)"], silent_seconds=1.0)
    assert child.start()
    assert child.process is not None
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    assert all(blocked >> (number - 1) & 1 for number in supervisor.HELD)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(supervisor.HELD), "only there"
    child.end_hung()
    child.wait(5)


def test_a_process_with_nothing_to_do_is_started_by_a_reload_alone(signals: None, tmp_path: Path) -> None:
    """The trace process: not wanted at first, wanted by SIGHUP, gone again with exit code 0, and never said."""
    marks = tmp_path / "marks"
    code = f"import pathlib; pathlib.Path({str(marks)!r}).open('a').write('x')"
    trace = Child("trace", [sys.executable, "-c", code], wanted=False)

    def play() -> None:
        for starts in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            while trace.starts < starts or trace.process is not None:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    player = threading.Thread(target=play)
    # Children that a hang-up does not end.
    lives = [LIVES[0], "-c", f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {LIVES[2]}"]
    children = Child("call", lives), Child("notices", lives)
    starter = threading.Timer(0.5, player.start)
    starter.start()
    assert supervise(*children, trace) == 0
    player.join()
    assert marks.read_text() == "xx"
    assert trace.starts == 2


def test_its_lines_are_json_where_the_log_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LOG", supervisor._Log())
    supervisor.log_as_json("hq-1")
    supervisor.say('the notices process ended ("é")')
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": 'the notices process ended ("é")',
        "level": "warning",
        "process": "supervisor",
        "node": "hq-1",
    }
