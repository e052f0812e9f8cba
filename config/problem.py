"""What is wrong with a configuration, and where: one Problem per mistake, all of them in one ConfigError.

Paths are written as in `sites[0].zones[1].floor` and `trunks.pbx.target`: keys joined by dots, positions in
lists counted from 0 in brackets, a key that is not a plain name quoted in brackets (`contacts["a.b"]`), and
`(file)` where the whole file is meant.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

WHOLE_FILE = "(file)"

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning; its text is `file:line:column: path: message`."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path}: {self.message}"

    @classmethod
    def at(cls, place: Place, path: Iterable[str | int], message: str) -> "Problem":
        """A problem at a place, with its path given as keys and list positions."""
        return cls(place.file, place.line, place.column, path_text(path), message)


class ConfigError(Exception):
    """The configuration cannot be used: every error found, and the warnings where they could be looked for."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)
        self.warnings = list(warnings)


def path_text(path: Iterable[str | int]) -> str:
    """`sites[0].name` of ("sites", 0, "name")."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)}]"
    return text or WHOLE_FILE


def quoted(text: str) -> str:
    """The text in quotes on one line, cut where it is long, for messages."""
    shown = text if len(text) <= _LONGEST_KEY else text[: _LONGEST_KEY - 1] + "…"
    return json.dumps(shown, ensure_ascii=False)


def on_one_line(path: Path) -> str:
    """The path as it is; in quotes and escaped where a character of it would break a message (a line break)."""
    return str(path) if str(path).isprintable() else json.dumps(str(path))
