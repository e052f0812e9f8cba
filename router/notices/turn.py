"""One notices process at a time works on a state directory."""

import fcntl
import os
import time
from pathlib import Path

TURN_SECONDS = 10.0


def take_turn(state_directory: Path) -> int | None:
    """Wait until no other notices process works on this directory: two would tell everything twice.

    Gives the open lock file; None where it could not be had within TURN_SECONDS: told twice beats not told.
    """
    deadline = time.monotonic() + TURN_SECONDS
    try:
        state_directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_directory / "notices.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return None
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.05)
