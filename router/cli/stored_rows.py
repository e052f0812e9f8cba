"""What the commands that keep a table of the database share: the open store, files in and out, and mistakes told."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from router.cli.common import EXIT_FAILED, fail

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from router.locations.import_plan import ImportPlan
    from router.process.csv_table import CsvError

FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="csv|yaml", help="Default: by the file's name, else csv.")
]
_WAIT_FOR_OTHERS = 30.0
"""Seconds to wait for another import to end."""


@contextmanager
def open_or_exit(url: str) -> "Iterator[Engine]":
    """The open store; ends the command where it cannot be used."""
    from router.store.engine import StoreError, open_store

    try:
        engine = open_store(url, wait=_WAIT_FOR_OTHERS)
        try:
            yield engine
        finally:
            engine.dispose()
    except StoreError as error:
        fail(str(error))


def is_yaml(file: str, form: str | None) -> bool:
    """True where a file is, or is to be, YAML and not CSV: by --format, else by its name."""
    if form is None:
        return file.endswith((".yaml", ".yml"))
    if form not in ("csv", "yaml"):
        fail(f"--format {form}: write csv or yaml")
    return form == "yaml"


def read_file(file: str) -> bytes:
    """What is in a file, or comes on standard input (-); ends the command where it cannot be read."""
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")


def write_file(file: str, lines: Iterable[str], told: Callable[[], str]) -> None:
    """Write a whole file or none, and say on standard output what it has; or write to standard output (-)."""
    if file == "-":
        for line in lines:
            sys.stdout.write(line)
        return
    path = Path(file)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as output:
            output.writelines(lines)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        fail(f"{file}: not written: {error.strerror or error}")
    typer.echo(f"{file}: {told()}")


def tell_import(
    planned: "ImportPlan[Any]",
    of_rows: str,
    row: str,
    columns: Sequence[str],
    *,
    only_planned: bool,
    with_removed: bool,
    as_json: bool,
    own: frozenset[str] = frozenset(),
) -> None:
    """What an import changed, or would change, on standard output: one JSON document, or lines for people.

    `of_rows` counts the rows of the file in words, `row` is what a row's name is called in JSON; a change of the
    columns in `own` alone is not listed.
    """
    if as_json:
        import orjson

        document = {"applied": not only_planned, **planned.as_document(row)}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    from router.locations.import_plan import plan_lines

    if only_planned:
        for line in plan_lines(planned, columns, own=own):
            typer.echo(line)
    counts = [f"{len(planned.of('added')):,} new", f"{len(planned.of('changed')):,} changed"]
    counts += [f"{planned.unchanged:,} unchanged", *([f"{len(planned.removed):,} removed"] if with_removed else [])]
    typer.echo(f"{of_rows}: {', '.join(counts)}")
    if only_planned:
        gains, loses = len(planned.gains), len(planned.loses)
        typer.echo(f"dispatchable locations: {gains:,} gained, {loses:,} lost; nothing was changed (--plan)")


def refuse_file(name: str, error: "CsvError") -> NoReturn:
    """Every mistake of a file by its line and column, and the end of the command."""
    for problem in error.problems:
        typer.echo(f"{name}:{problem}", err=True)
    number = len(error.problems)
    fail(f"{name}: {number:,} error{'' if number == 1 else 's'}; nothing was changed")


def refuse_row(what: str, problems: Sequence[str]) -> NoReturn:
    """What is wrong with one row given on the command line, and the end of the command."""
    for problem in problems:
        typer.echo(f"edge911: {what}: {problem}", err=True)
    raise typer.Exit(EXIT_FAILED)
