"""What an import would do, before it does it: which rows change, which gain or lose a dispatchable location.

Of any table whose rows are places: registered devices (location_plan), the wiremap (wiremap_plan).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

RowT = TypeVar("RowT")

Texts = tuple[dict[str, str], dict[str, str]]
"""The columns that are not the same, before and after, as they stand in a file; without those that are empty."""
_MARKS = {"added": "+", "changed": "~", "removed": "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange(Generic[RowT]):
    """One row as it is before and afterwards; None where there is none."""

    name: str
    change: str
    """`added`, `changed` or `removed`; `none` of a row that stays as it is."""
    was: RowT | None
    becomes: RowT | None
    dispatchable_before: tuple[str, ...] | None
    """Why help could not be sent there; empty where it could, None where there is no such row."""
    dispatchable_after: tuple[str, ...] | None
    texts: Callable[[RowT | None, RowT | None], Texts]

    def columns(self) -> Texts:
        """What changes. Made when asked for: an import of many rows shows few of them."""
        return self.texts(self.was, self.becomes)

    @property
    def gains(self) -> bool:
        """True where it has a dispatchable location afterwards, and had none."""
        return self.dispatchable_after == () and self.dispatchable_before != ()

    @property
    def loses(self) -> bool:
        """True where it had one, and has none afterwards."""
        return self.dispatchable_before == () and self.dispatchable_after != ()


@dataclass(slots=True, kw_only=True)
class ImportPlan(Generic[RowT]):
    """All that an import would change."""

    changes: list[PlannedChange[RowT]] = field(default_factory=list)
    unchanged: int = 0
    others: list[PlannedChange[RowT]] = field(default_factory=list)
    """Rows that stay as they are, and gain or lose a dispatchable location by what becomes of others."""
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rows of the file that help could not be sent to by their location, and why."""

    def of(self, change: str) -> list[PlannedChange[RowT]]:
        """Those added, changed or removed."""
        return [item for item in self.changes if item.change == change]

    @property
    def gains(self) -> list[PlannedChange[RowT]]:
        """Those that gain a dispatchable location."""
        return [item for item in (*self.changes, *self.others) if item.gains]

    @property
    def loses(self) -> list[PlannedChange[RowT]]:
        """Those that lose theirs."""
        return [item for item in (*self.changes, *self.others) if item.loses]

    @property
    def writes(self) -> list[tuple[RowT | None, RowT]]:
        """What is to be written: as it was, and as it is to be."""
        return [(item.was, item.becomes) for item in self.changes if item.becomes is not None]

    @property
    def removed(self) -> list[str]:
        """The rows to be taken away."""
        return [item.name for item in self.of("removed")]

    def as_document(self, row: str) -> dict[str, Any]:
        """Plain data for JSON; `row` is what a row's name is called there."""
        documents = {
            change: [
                {row: item.name, "before": before, "after": after}
                for item in self.of(change)
                for before, after in (item.columns(),)
            ]
            for change in _MARKS
        }
        return {
            **documents,
            "unchanged": self.unchanged,
            "gains_dispatchable_location": [item.name for item in self.gains],
            "loses_dispatchable_location": [item.name for item in self.loses],
            "not_dispatchable": {name: list(reasons) for name, reasons in self.lacking.items()},
        }


def planned_change(
    name: str,
    was: RowT | None,
    becomes: RowT | None,
    judged: Callable[[RowT], tuple[str, ...]],
    texts: Callable[[RowT | None, RowT | None], Texts],
) -> PlannedChange[RowT]:
    """The change from `was` to `becomes`; `judged` says why help could not be sent to a row."""
    return PlannedChange(
        name=name,
        change="removed" if becomes is None else "added" if was is None else "changed",
        was=was,
        becomes=becomes,
        dispatchable_before=None if was is None else judged(was),
        dispatchable_after=None if becomes is None else judged(becomes),
        texts=texts,
    )


def plan_lines(
    plan: ImportPlan[RowT], columns: Sequence[str], most: int = 50, *, own: frozenset[str] = frozenset()
) -> Iterable[str]:
    """The plan for people, one line a change; of many only the first `most` of each kind.

    `columns`: in which order they are shown; `own`: those that are not worth a word of a new row.
    """
    for change, mark in _MARKS.items():
        items = plan.of(change)
        for item in items[:most]:
            yield f"{mark} {item.name}{_columns(item, columns, own)}{_effect(item)}"
        if len(items) > most:
            yield f"{mark} … {len(items) - most:,} more {change} (--json shows all)"
    for item in plan.others[:most]:
        yield f"= {item.name}{_effect(item)}"
    if len(plan.others) > most:
        yield f"= … {len(plan.others) - most:,} more that stay as they are (--json shows all)"


def _columns(item: PlannedChange[RowT], columns: Sequence[str], own: frozenset[str]) -> str:
    before, after = item.columns()
    names: Mapping[str, str] = {**after, **before} if item.change != "removed" else before
    parts = []
    for name in columns:
        if name not in names or (item.change == "added" and name in own):
            continue
        old, new = before.get(name, ""), after.get(name, "")
        if item.change == "changed":
            parts.append(f"{name}: {old or '(empty)'} → {new or '(empty)'}")
        else:
            parts.append(f"{name}={old or new}")
    return ("  " + ", ".join(parts)) if parts else ""


def _effect(item: PlannedChange[RowT]) -> str:
    if item.gains:
        return "  [gains a dispatchable location]"
    if item.loses:
        why = ", ".join(item.dispatchable_after or ("removed",))
        return f"  [LOSES its dispatchable location: {why}]"
    return ""
