"""The node's state directory, and where its files go when it cannot be written.

Without a journal no contact would be told of a 911 call, so a directory that is read-only, full or a file is replaced
by a temporary one for this run: what is in it does not survive a restart of the machine, and that is said loudly.
"""

import os
import tempfile
from pathlib import Path

PROBE_BYTES = 65_536


def usable(directory: Path) -> str:
    """An empty string where the directory can be written (it is made where missing), else what is wrong."""
    try:
        (directory / "journal").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory / "journal", prefix=".probe") as probe:
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
