"""`edge911 run`: serve calls."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from router.cli.common import ConfigOption, fail, load_or_exit, print_problems

if TYPE_CHECKING:
    from config.load import LoadedConfig


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def run(config: ConfigOption = None) -> None:
        """Serve: calls, notices and the console, supervised.

        It stays in the foreground, for systemd or a terminal; its log goes to standard error. Ctrl-C or SIGTERM
        stops it: no new ordinary calls (503), 911 is served until its transactions end, 30 s at the most.
        SIGHUP (`systemctl reload`) reloads the configuration; a bad one is refused, with its errors in the log,
        and the old one stays.
        """
        from router.cli.common import config_path
        from router.notices.contact_urls import unusable_contacts
        from router.process.signs_of_life import hold_signals
        from router.process.standard_streams import make_lossy
        from router.process.state_directory import NOT_ALONE, claim
        from router.supervisor import log_as_json

        make_lossy()
        # Not resolved: a symbolic link may be swapped for a new file (that is how some systems reload).
        path = os.path.abspath(config_path(config))
        loaded = load_or_exit(config)
        unusable = unusable_contacts(Path(path))
        if unusable:
            print_problems(unusable)
            fail("these contacts could never be told of a 911 call; mend the above, `edge911 check` tries it")
        # Warnings are said by the call process, in its log.
        if loaded.config.log.format == "json":
            log_as_json(loaded.config.node)
        state = _state_directory(loaded)
        if claim(state) is None:
            fail(NOT_ALONE.format(state))
        # Let go by what follows; the call process claims it for as long as it runs.
        sys.stdout.flush()
        sys.stderr.flush()
        hold_signals()  # until the supervisor can treat them
        # A process of its own kind: small, with nothing in it that could fail. It keeps our process id.
        arguments = ["--config", path, "--state", str(state)]
        if loaded.config.log.format == "json":
            arguments += ["--json-log", loaded.config.node]
        if loaded.config.trace.pcap is not None or loaded.config.trace.hep is not None:
            arguments.append("--trace")
        if loaded.config.locations.reference_server is not None:
            arguments.append("--references")
        if loaded.config.console is not None:
            arguments.append("--console")
        if loaded.config.self_test is not None:
            arguments.append("--self-test")
        os.execv(sys.executable, [sys.executable, "-m", "router.supervisor", *arguments])


def _state_directory(loaded: "LoadedConfig") -> Path:
    """Where the journal goes: the configured directory, else a temporary one that the children are told of."""
    from router.process.state_directory import substitute, usable
    from router.supervisor import say

    wrong = usable(loaded.state_directory)
    if not wrong:
        return loaded.state_directory
    instead = substitute(loaded.config.node)
    where = f"{instead} is used until the next start" if instead else "and no temporary one can be had: NO NOTICES"
    say(
        f"state_directory {loaded.state_directory}: {wrong}; {where}. 911 calls are served; "
        "make the directory writable and start again"
    )
    if instead is None:
        return loaded.state_directory
    os.environ["EDGE911_STATE_DIRECTORY"] = str(instead)
    return instead
