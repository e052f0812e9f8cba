"""The supervisor when the system has no process to give, and what it says then."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router import supervisor
from router.supervisor import BACKOFF, Child, supervise

LIVES = [sys.executable, "-c", "import time; time.sleep(60)"]


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

    def __call__(self, command: list[str], **options: int) -> "subprocess.Popen[bytes]":
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
