"""edge911 check: every error and warning of a configuration at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import EXIT_FAILED, ConfigOption, choose_config, print_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.load import Problem


def register(app: typer.Typer) -> None:
    """Add the `check` command."""

    @app.command()
    def check(
        config: ConfigOption = None,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    ) -> None:
        """Check the configuration: all errors at once.

        Each is FILE:LINE:COLUMN: PATH: MESSAGE on standard error; warnings say `warning:` before the message.
        Ends with 1 where there is an error, with 0 where there are at most warnings.
        """
        from config.load import ConfigError, load_config
        from router.callback.elin_doubts import elin_doubts
        from router.network.certificate_files import unusable_certificates
        from router.notices.contact_urls import unusable_contacts

        file = ""
        errors: Sequence[Problem] = ()
        warnings: Sequence[Problem]
        try:
            path = choose_config(config)
            file = str(path)
            loaded = load_config(path)
            errors, doubts = unusable_certificates(path, loaded)
            warnings = [*loaded.warnings, *doubts, *elin_doubts(path, loaded)]
        except ConfigError as error:
            errors, warnings = error.problems, error.warnings
        if file:
            errors = _by_line([*errors, *unusable_contacts(Path(file))])
        if as_json:
            _print_json(file, errors, warnings)
        else:
            _print_text(file, errors, warnings)
        if errors:
            raise typer.Exit(EXIT_FAILED)


def _by_line(problems: "Sequence[Problem]") -> "list[Problem]":
    """In the order of the lines of each file; the files as they came."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(problems, key=lambda problem: (files.index(problem.file), problem.line, problem.column))


def _print_text(file: str, errors: "Sequence[Problem]", warnings: "Sequence[Problem]") -> None:
    print_problems(errors)
    print_problems(warnings, label="warning: ")
    if not file:
        return
    if errors or warnings:
        typer.echo(f"{file}: {_count(errors, 'error')}, {_count(warnings, 'warning')}", err=bool(errors))
    else:
        typer.echo(f"{file}: no errors, no warnings")


def _count(problems: "Sequence[Problem]", noun: str) -> str:
    return f"{len(problems)} {noun}{'' if len(problems) == 1 else 's'}"


def _print_json(file: str, errors: "Sequence[Problem]", warnings: "Sequence[Problem]") -> None:
    import json
    from dataclasses import asdict

    document = {
        "file": file,
        "ok": not errors,
        "errors": [asdict(problem) for problem in errors],
        "warnings": [asdict(problem) for problem in warnings],
    }
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
