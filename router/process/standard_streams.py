"""Standard output and error where nobody takes them: a log file on a full disk, a terminal that is gone.

What is written is then lost. To end because of it would be worse: 911 is served without its log.
"""

import io
import sys


class _Lossy(io.FileIO):
    """A file that takes everything, and keeps what the system takes."""

    def write(self, data: object, /) -> int:
        content = bytes(data)  # type: ignore[call-overload]
        try:
            written = super().write(content)
        except OSError:
            return len(content)
        return len(content) if written is None else written


def make_lossy() -> None:
    """From now on `sys.stdout` and `sys.stderr` raise nothing where they cannot be written.

    One that somebody has put in their place (a test) stays.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is not getattr(sys, f"__{name}__"):
            continue
        try:
            raw = _Lossy(descriptor, "wb", closefd=False)
        except OSError:  # closed: Python has no stream there either
            continue
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        setattr(sys, name, stream)
