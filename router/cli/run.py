"""`edge911 run`: serve calls."""

import os
import sys

import typer

from router.cli.common import ConfigOption, load_or_exit, print_problems


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def run(config: ConfigOption = None) -> None:
        """Serve: the call process and the notices process, supervised.

        SIGTERM stops: no new ordinary calls (503), 911 is served until its transactions end, 30 s at the most.
        SIGHUP reloads the configuration; a bad one is refused, with its errors in the log, and the old one stays.
        """
        from router.cli.common import config_path

        # Not resolved: a symbolic link may be swapped for a new file (that is how some systems reload).
        path = os.path.abspath(config_path(config))
        loaded = load_or_exit(config)
        print_problems(loaded.warnings, label="warning: ")
        sys.stdout.flush()
        sys.stderr.flush()
        # A process of its own kind: small, with nothing in it that could fail. It keeps our process id.
        arguments = ["--config", path, "--state", str(loaded.state_directory)]
        os.execv(sys.executable, [sys.executable, "-m", "router.supervisor", *arguments])
