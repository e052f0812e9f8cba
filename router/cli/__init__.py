"""The edge911 command: one module per subcommand, each with `register(app)`.

Imports of weight stay inside the functions that need them, so that `edge911 --help` answers at once.
"""

import gc
import importlib
import importlib.util
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from router.cli.common import EXIT_FAULT, OPTION_BEFORE_COMMAND, ConfigOption

COMMANDS = (
    *("check", "doctor", "explain", "run", "locations", "wiremap", "calls", "contacts", "elins", "ali", "block"),
    *("self-test", "sheet", "evidence", "users", "tokens", "trace", "key", "schema", "demo"),
)
"""Modules of this package that hold a subcommand, in the order `--help` shows them."""

_HELP = """Gets 911 calls to an E911 provider with the caller's location.

edge911 is a SIP router that stands between the phones or PBX of an organisation and its carriers. Ordinary
calls pass unchanged. A call to 911 leaves with the caller's location, by the first provider that takes it,
else by basic 911; and the people on site are told.

\b
The usual order:
  edge911 check                  is the configuration right? every error at once
  edge911 locations import FILE  where the phones are
  edge911 explain 4012 911       what would happen to this call? sends nothing
  edge911 run                    take calls

`edge911 demo` shows three 911 calls from start to finish on this machine alone.

\b
Exit codes:
  0  done (warnings included)
  1  the configuration is wrong, or what was asked for could not be done
  2  the command line is wrong
  3  a fault in edge911 itself
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"edge911 {version('edge911')}")
        raise typer.Exit


def _before_any_command(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    OPTION_BEFORE_COMMAND.set(config)


class _InOrder(TyperGroup):
    """Shows the commands in the order in which they are used, groups of commands among them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def build_app() -> typer.Typer:
    """The command with every subcommand whose module is there.

    A module that is there and cannot be imported is an error like any other: only a missing file is skipped.
    """
    app = typer.Typer(
        name="edge911",
        cls=_InOrder,
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(_before_any_command)
    for name in COMMANDS:
        module = f"{__name__}.{name.replace('-', '_')}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).register(app)
    return app


def main() -> None:
    """Run the command line and end the process with its exit code.

    A fault of our own is one line on standard error; EDGE911_TRACEBACK=1 shows where it happened.
    """
    # What a command imports stays until it ends: the collector need not look at it again and again.
    gc.set_threshold(50_000)
    # No plugin of anybody's has a say in our configuration, and to look for some takes a while.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        build_app()(prog_name="edge911")
    except Exception as error:
        if os.environ.get("EDGE911_TRACEBACK"):
            raise
        print(
            f"edge911: a fault in edge911 itself: {type(error).__name__}: {error} (EDGE911_TRACEBACK=1 shows where)",
            file=sys.stderr,
        )
        sys.exit(EXIT_FAULT)
