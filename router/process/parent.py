"""Ending with the process that started us."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill us when the thread that started us ends (prctl(2) PR_SET_PDEATHSIG; Linux only).

    With parent, the process id that started us: ends at once where that process is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        sys.exit(f"edge911: the process {parent} that started this one is gone")
