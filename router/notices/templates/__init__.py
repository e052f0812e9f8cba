"""Notices in words of one's own: Jinja2 templates in a folder that a contact names, in a sandbox.

A file is called KIND.PART.j2: KIND is that of the notice (`call`, `failed`, `test`, `refused`, `escalated`, `untold`,
`answered`, …) or `notice` for all that have none of their own; PART is `subject`, `body`, `short` (SMS) or `spoken`.
A folder `en` or `fr` within goes first for contacts of that language. What is missing, or fails, is as supplied.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

PARTS = ("subject", "body", "short", "spoken")
LONGEST = {"subject": 300, "body": 20_000, "short": 480, "spoken": 2_000}
_MOST_TURNS = 1_000
_MOST_TURNS_IN_ALL = 20_000
"""Of all loops over ranges in one template, loops within loops included: more would hold up notices."""
_LARGEST = 100_000
"""So long a text `*` may make, and so large a number it may take; the exponent of a power is 64 at most."""
_SUPPLIED = Path(__file__).parent

log = logging.getLogger(__name__)


def render(folder: Path, language: str, kind: str, part: str, facts: Mapping[str, Any]) -> str | None:
    """A part of a notice by the template for it; None where there is none, or it fails (said in the log)."""
    for name in (f"{kind}.{part}.j2", f"notice.{part}.j2"):
        for place in (folder / language, folder):
            path = place / name
            try:
                return rendered(path, part, facts)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except Exception as error:  # whatever somebody wrote: the supplied words go out
                fields = {"template": str(path), "reason": type(error).__name__, "words": str(error)[:200]}
                log.error("template-failed", extra={"event_fields": fields})
                return None
    return None


def rendered(path: Path, part: str, facts: Mapping[str, Any]) -> str:
    """What one template makes of a notice's facts. Raises OSError, and whatever its author brought about."""
    text = _template(path, path.stat().st_mtime_ns).render({**facts, "range": _Turns().range})
    if not text.strip() and part == "body":
        raise ValueError("it says nothing")
    if part in ("subject", "short"):
        text = " ".join(text.split())
    text = text.strip("\n")[: LONGEST[part]]
    return text if part != "body" else f"{text}\n"


@lru_cache(maxsize=256)
def _template(path: Path, _changed_at: int) -> jinja2.Template:
    return _environment().from_string(path.read_text(encoding="utf-8"))


class _Environment(SandboxedEnvironment):
    """Jinja2's sandbox, in which no product takes all memory or all time."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if _is_too_large(operator, left, right):
            raise ValueError(f"{operator} would make something too large")
        return super().call_binop(context, operator, left, right)


def _is_too_large(operator: str, left: Any, right: Any) -> bool:
    if operator == "**":
        return bool(abs(left) > _LARGEST or abs(right) > 64)
    if hasattr(left, "__len__"):
        return bool(len(left) * right > _LARGEST)
    if hasattr(right, "__len__"):
        return bool(len(right) * left > _LARGEST)
    return bool(abs(left) > _LARGEST or abs(right) > _LARGEST)


class _Turns:
    """What is left of the turns of one rendering."""

    def __init__(self) -> None:
        self._left = _MOST_TURNS_IN_ALL

    def range(self, *arguments: int) -> "_Range":
        found = range(*arguments)
        if len(found) > _MOST_TURNS:
            raise ValueError(f"a range of more than {_MOST_TURNS}")
        return _Range(found, self)

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {_MOST_TURNS_IN_ALL} turns of loops")


class _Range(Sequence[int]):
    """A range whose turns are counted, however often it is gone through."""

    def __init__(self, numbers: range, turns: _Turns) -> None:
        self._numbers, self._turns = numbers, turns

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, at: Any) -> Any:
        return self._numbers[at]

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            self._turns.take()
            yield number


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    environment = _Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals = {}
    return environment


def export(folder: Path) -> list[Path]:
    """Write the supplied templates into a folder, one within for each language. Raises OSError; nothing that is there
    is overwritten (FileExistsError)."""
    written = []
    for source in sorted(_SUPPLIED.glob("*/*.j2")):
        target = folder / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
        written.append(target)
    return written


def supplied_folder() -> Path:
    """Where the supplied templates are."""
    return _SUPPLIED


__all__ = ["LONGEST", "PARTS", "export", "render", "rendered", "supplied_folder"]
