"""The node's state directory, and where its files go when it cannot be written.

Without a journal no contact would be told of a 911 call, so a directory that is read-only, full or a file is replaced
by a temporary one for this run: what is in it does not survive a restart of the machine, and that is said loudly.
"""

import fcntl
import os
import tempfile
import time
from pathlib import Path

PROBE_BYTES = 65_536
NOT_ALONE = (
    "another edge911 serves calls with the state directory {}; end it, or give this one a state_directory of its own"
)
CLAIM_FILE = "calls.lock"
CLAIM_SECONDS = 1.0
"""So long a process that has just been killed may take to be gone."""


def usable(directory: Path) -> str:
    """An empty string where the state directory can be written (it is made where missing), else what is wrong."""
    return not_writable(directory / "journal")


def not_writable(directory: Path) -> str:
    """What is wrong with a directory (it is made where missing); an empty string where PROBE_BYTES can be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".probe") as probe:
            probe.write(b"\0" * PROBE_BYTES)
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def substitute(node: str) -> Path | None:
    """A directory of our own for a node whose state directory cannot be written; None where there is none at all.

    The same one after a restart of the process. One that belongs to somebody else is not used.
    """
    for place in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        directory = place / f"edge911-{node}-{os.getuid()}"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.lstat().st_uid != os.getuid() or directory.is_symlink():
                continue
        except OSError:
            continue
        if not usable(directory):
            return directory
    return None


def claim(directory: Path) -> int | None:
    """Have the state directory to ourselves: two call processes that write one journal would hide each other's calls
    from those who tell people of them, for readers go on to the newest segment.

    Gives an open descriptor that holds it until this process ends, or -1 where this file system has no locks; None
    where another process has it, also after CLAIM_SECONDS.
    """
    deadline = time.monotonic() + CLAIM_SECONDS
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / CLAIM_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return -1
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.02)
        except OSError:
            os.close(lock)
            return -1
