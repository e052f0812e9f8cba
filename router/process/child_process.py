"""How every process that `edge911 run` keeps begins and ends: its options, signals, and whom it ends with."""

import argparse
import faulthandler
import gc
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from router.process.parent import die_with_parent
from router.process.signs_of_life import Heartbeat, hold_signals
from router.process.standard_streams import make_lossy


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """What a process was started with."""

    config: Path
    state: Path | None
    """The state directory in use; None where it was not said."""
    parent: int
    """Process id of whoever started it."""
    heartbeat: Heartbeat


def begin(
    module: str,
    about: str | None,
    arguments: list[str] | None = None,
    *,
    state: Literal["none", "may", "must"] = "none",
) -> ChildOptions:
    """Read the options of `python -m MODULE`.

    From here on signals wait (`release_signals`), the process ends with the one that started it, and its files are
    its user's alone: they say where people are.

    about: for --help. state: whether there is an option --state. Exits where an option is wrong.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    if state != "none":
        parser.add_argument(
            "--state", type=Path, required=state == "must", metavar="DIRECTORY", help="state directory in use"
        )
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="process to end with; default: whoever started this"
    )
    parser.add_argument("--heartbeat", type=int, metavar="FD", help="pipe on which to show that this process lives")
    make_lossy()
    hold_signals()
    options = parser.parse_args(arguments)
    faulthandler.register(signal.SIGUSR1)  # says where every thread stands, should one ever be stuck
    parent = options.parent or os.getppid()
    die_with_parent(options.parent)
    os.umask(0o077)
    gc.enable()  # the modules of processes turn it off while they import
    return ChildOptions(
        config=options.config,
        state=getattr(options, "state", None),
        parent=parent,
        heartbeat=Heartbeat(options.heartbeat),
    )


def end(code: int) -> NoReturn:
    """End at once: a thread may wait for a database, a name server or a channel that never answers, and all that
    matters is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
