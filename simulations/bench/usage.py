"""What a process and its descendants use, from /proc (Linux)."""

import os
import re
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.M)


def tree(root: int) -> list[int]:
    """The process ids of `root` and of all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (columns := _stat(int(entry))):
            children.setdefault(int(columns[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])  # the loop goes on over what it adds
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes so far, all threads; one that has ended counts nothing."""
    ticks = 0
    for pid in pids:
        if columns := _stat(pid):
            ticks += int(columns[11]) + int(columns[12])
    return ticks / TICKS_PER_SECOND


def pss_mib(pids: list[int]) -> float:
    """Memory of the processes, each shared page divided by those who share it (PSS), in MiB."""
    kib = 0
    for pid in pids:
        try:
            match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
        except OSError:
            continue
        kib += int(match[1]) if match else 0
    return kib / 1024


def runs_module(pid: int, module: str) -> bool:
    """True for a process started as `python -m module`."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes, by everybody on this machine."""
    return list(os.getloadavg())


def _stat(pid: int) -> list[bytes]:
    """The columns of /proc/PID/stat after the command; [0] is the state, [1] the parent, [11] and [12] the ticks."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
