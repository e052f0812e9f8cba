"""Where the journal goes on while its own disk takes nothing: memory (/dev/shm), in a directory of its own.

Without it, a disk that fills up or turns read-only while the router runs would let every 911 call out and tell nobody
on site. What is there survives the end of every process, not of the machine. Writer and readers find it by the
directory it stands in for, with nothing to agree on.
"""

import functools
import hashlib
import os
import stat
from pathlib import Path

MEMORY = Path("/dev/shm")


def spare_of(directory: Path) -> Path:
    """The directory that stands in for `directory`; whether it exists is another matter."""
    return MEMORY / _name(directory)


def make_spare(directory: Path) -> Path | None:
    """The same, made where missing; None where it cannot be had, or is somebody else's."""
    spare = spare_of(directory)
    try:
        spare.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return spare if _owner(spare) == os.geteuid() else None


def spare_to_read(directory: Path) -> Path | None:
    """The same, for who reads; None where there is none, or it does not belong to whom `directory` belongs to."""
    spare = spare_of(directory)
    owner = _owner(spare)
    if owner is None:
        return None
    try:
        return spare if owner in (os.geteuid(), directory.stat().st_uid) else None
    except OSError:
        return None


def _owner(spare: Path) -> int | None:
    """The user id of a real directory; None of anything else."""
    try:
        found = spare.lstat()
    except OSError:
        return None
    return found.st_uid if stat.S_ISDIR(found.st_mode) else None


@functools.cache
def _name(directory: Path) -> str:
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(directory)), digest_size=10)
    return f"edge911-{digest.hexdigest()}"
