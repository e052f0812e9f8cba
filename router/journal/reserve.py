"""Room on the disk for what is still to be appended to a file: taken ahead, so that a disk that fills up does not
stop it (Linux, fallocate(2)). The file's size stays what was written."""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


def _found() -> Callable[..., int] | None:
    """The C library's function, for offsets of 64 bits."""
    library = ctypes.CDLL(None)
    for name in ("fallocate64", "fallocate"):
        with suppress(AttributeError):  # another C library
            function: Callable[..., int] = getattr(library, name)
            return function
    return None


_fallocate = _found()


def reserve(descriptor: int, offset: int, size: int) -> bool:
    """Take `size` bytes of room from `offset` on. False where there is no room, or the file system cannot."""
    if _fallocate is None:
        return False
    return _fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(size)) == 0


def give_back(descriptor: int, size: int) -> None:
    """Give back what was taken and not used by a file of this size. Never raises."""
    with suppress(OSError):
        os.ftruncate(descriptor, size)
