"""`edge911 ARGUMENTS` in this process, whose commands are built once: that takes longer than most of them do."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from unittest.mock import patch

import typer.testing
from typer.main import get_command

from router.cli import build_app


@cache
def _command() -> Any:
    return get_command(build_app())


def invoke(arguments: Sequence[str], **options: Any) -> Any:
    """What came of `edge911 ARGUMENTS`; options as those of `typer.testing.CliRunner.invoke`."""
    built = _command()
    with patch.object(typer.testing, "_get_command", lambda _: built):
        return typer.testing.CliRunner().invoke(typer.Typer(), arguments, **options)
