"""What a child of the supervisor does for it: show that it is alive, and take no signal before it can treat it."""

import contextlib
import os
import signal

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that wait while a process starts. The supervisor starts its children with these blocked already."""


class Heartbeat:
    """One byte now and then on the pipe that the supervisor gave us; nothing where it gave none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def beat(self) -> None:
        """Never raises and never waits: a full pipe or a supervisor that is gone are not our business."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, b".")


def hold_signals() -> None:
    """Let HELD wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """The handlers stand: take those that came meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
