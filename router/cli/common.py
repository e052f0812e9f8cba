"""What every command shares: the -c option, loading the configuration or ending, and saying what went wrong."""

from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from config.load import LoadedConfig, Problem

EXIT_OK = 0
EXIT_FAILED = 1
"""The configuration is wrong, or what was asked for could not be done."""
EXIT_USAGE = 2
"""The command line is wrong."""
EXIT_FAULT = 3
"""A fault in edge911 itself."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        help="Configuration file.  [default: $EDGE911_CONFIG, else edge911.yaml here, "
        "else /etc/edge911/edge911.yaml]",
        show_default=False,
    ),
]
"""The option every command takes; it may stand before or after the command's own arguments."""

OPTION_BEFORE_COMMAND: ContextVar[Path | None] = ContextVar("OPTION_BEFORE_COMMAND", default=None)
"""The same option where it was given before the command: `edge911 -c FILE check`."""


def choose_config(option: Path | None) -> Path:
    """The configuration file to use: the command's -c, else the one before the command, else where it belongs.

    Raises config.load.ConfigError with the places looked at where there is none.
    """
    from config.load import find_config

    return find_config(option if option is not None else OPTION_BEFORE_COMMAND.get())


def config_path(option: Path | None) -> Path:
    """As `choose_config`; prints the problem to standard error and ends with exit code 1 where there is none."""
    from config.load import ConfigError

    try:
        return choose_config(option)
    except ConfigError as error:
        print_problems(error.problems)
        raise typer.Exit(EXIT_FAILED) from None


def load_or_exit(option: Path | None) -> "LoadedConfig":
    """The checked configuration; prints every problem to standard error and ends with exit code 1 otherwise."""
    from config.load import ConfigError, load_config

    path = config_path(option)
    try:
        return load_config(path)
    except ConfigError as error:
        print_problems(error.problems)
        fail("the configuration cannot be used; mend the above, `edge911 check` tries it")


def print_problems(problems: "Iterable[Problem]", *, label: str = "") -> None:
    """Each problem on a line of its own on standard error: `file:line:column: path: LABELmessage`."""
    for problem in problems:
        typer.echo(str(replace(problem, message=f"{label}{problem.message}")), err=True)


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """One line on standard error, and the end of the command with this exit code."""
    typer.echo(f"edge911: {message}", err=True)
    raise typer.Exit(code)


def note_change(
    loaded: "LoadedConfig", action: str, subject: str, before: dict[str, Any], after: dict[str, Any], by: str = ""
) -> None:
    """Have something done stand in the audit trail that is not done in the database; said where it cannot be
    written, for it is done all the same. by: the operating system's user where empty."""
    from router.store.audit import Author, Change, command_line_author, record_changes
    from router.store.engine import open_store, writing
    from router.store.errors import StoreError

    author = Author(who=by, via="cli") if by else command_line_author()
    try:
        engine = open_store(loaded.database_url, create=False, wait=2.0)
        try:
            with writing(engine) as conn:
                record_changes(conn, author, [Change(action=action, subject=subject, before=before, after=after)])
        finally:
            engine.dispose()
    except StoreError as error:
        typer.echo(f"edge911: {error}; done, but it is not in the audit trail", err=True)
