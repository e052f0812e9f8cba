"""What an import would do, before it does it: which devices change and how, and who gains or loses a location."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e911.location import Device
from router.locations_csv import LocationRow, written_cell
from router.store.devices import COLUMNS, Value, columns_of, overlaid, settled

Judged = Callable[[Device], tuple[str, ...]]
"""Why help could not be sent to a device by what is registered of it; empty where it could."""
_KEPT_BY_US = frozenset({"confirmed_at", "confirmed_by"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChange:
    """One device as it is before and afterwards; None where there is none."""

    device: str
    change: str
    """`added`, `changed` or `removed`."""
    was: Device | None
    becomes: Device | None
    dispatchable_before: tuple[str, ...] | None
    """Why help could not be sent there; empty where it could, None where there is no such device."""
    dispatchable_after: tuple[str, ...] | None

    def columns(self) -> tuple[dict[str, str], dict[str, str]]:
        """The columns that are not the same, before and after, as they stand in a file; without those that are empty.

        Made when asked for: an import of many devices shows few of them.
        """
        old: Mapping[str, Value] = columns_of(self.was) if self.was else {}
        new: Mapping[str, Value] = columns_of(self.becomes) if self.becomes else {}
        names = [name for name in COLUMNS[1:] if (old.get(name) or "") != (new.get(name) or "")]
        if self.was and self.becomes:
            names = [name for name in names if name not in _KEPT_BY_US] or names
        return (
            {name: _shown(name, old[name]) for name in names if old.get(name) not in ("", None)},
            {name: _shown(name, new[name]) for name in names if new.get(name) not in ("", None)},
        )

    @property
    def gains(self) -> bool:
        """True where the phone has a dispatchable location afterwards, and had none."""
        return self.dispatchable_after == () and self.dispatchable_before != ()

    @property
    def loses(self) -> bool:
        """True where it had one, and has none afterwards."""
        return self.dispatchable_before == () and self.dispatchable_after != ()


@dataclass(slots=True, kw_only=True)
class ImportPlan:
    """All that an import would change."""

    changes: list[DeviceChange] = field(default_factory=list)
    unchanged: int = 0
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Devices of the file that help could not be sent to by their location, and why."""

    def of(self, change: str) -> list[DeviceChange]:
        """Those added, changed or removed."""
        return [item for item in self.changes if item.change == change]

    @property
    def writes(self) -> list[tuple[Device | None, Device]]:
        """What `write_devices` is to write."""
        return [(item.was, item.becomes) for item in self.changes if item.becomes is not None]

    @property
    def removed(self) -> list[str]:
        """The devices to be taken away."""
        return [item.device for item in self.of("removed")]

    def as_document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "added": [_document(item) for item in self.of("added")],
            "changed": [_document(item) for item in self.of("changed")],
            "removed": [_document(item) for item in self.of("removed")],
            "unchanged": self.unchanged,
            "gains_dispatchable_location": [item.device for item in self.changes if item.gains],
            "loses_dispatchable_location": [item.device for item in self.changes if item.loses],
            "not_dispatchable": {device: list(reasons) for device, reasons in self.lacking.items()},
        }


def import_plan(
    rows: Sequence[LocationRow],
    known: Mapping[str, Device],
    judged: Judged,
    *,
    replace: bool = False,
    now: float = 0.0,
    by: str = "",
    progress: Callable[[int], None] | None = None,
) -> ImportPlan:
    """What the rows make of the devices in `known` (by canonical name; with `replace` all there are)."""
    plan = ImportPlan()
    named: set[str] = set()
    for number, row in enumerate(rows, start=1):
        before = known.get(row.device)
        named.add(row.device)
        after = overlaid(before or Device(device=row.device), row.values)
        if after == before:
            plan.unchanged += 1
            reasons = judged(after)
        else:
            change = _change(before, settled(before, after, now, by), judged)
            plan.changes.append(change)
            reasons = change.dispatchable_after or ()
        if reasons:
            plan.lacking[row.device] = reasons
        if progress is not None and number % 500 == 0:
            progress(row.line)
    if replace:
        plan.changes += [_change(known[name], None, judged) for name in sorted(known.keys() - named)]
    return plan


def _change(before: Device | None, after: Device | None, judged: Judged) -> DeviceChange:
    device = after or before
    assert device is not None
    return DeviceChange(
        device=device.device,
        change="removed" if after is None else "added" if before is None else "changed",
        was=before,
        becomes=after,
        dispatchable_before=judged(before) if before else None,
        dispatchable_after=judged(after) if after else None,
    )


def _shown(name: str, value: Value) -> str:
    return str(written_cell(name, value))


def _document(item: DeviceChange) -> dict[str, Any]:
    before, after = item.columns()
    return {"device": item.device, "before": before, "after": after}


def plan_lines(plan: ImportPlan, most: int = 50) -> Iterable[str]:
    """The plan for people, one line a change; of many only the first `most` of each kind."""
    marks = {"added": "+", "changed": "~", "removed": "-"}
    for change, mark in marks.items():
        items = plan.of(change)
        for item in items[:most]:
            yield f"{mark} {item.device}{_columns(item)}{_effect(item)}"
        if len(items) > most:
            yield f"{mark} … {len(items) - most:,} more {change} (--json shows all)"


def _columns(item: DeviceChange) -> str:
    before, after = item.columns()
    names = {**after, **before} if item.change != "removed" else before
    parts = []
    for name in COLUMNS:
        if name not in names or (item.change == "added" and name in _KEPT_BY_US):
            continue
        old, new = before.get(name, ""), after.get(name, "")
        if item.change == "changed":
            parts.append(f"{name}: {old or '(empty)'} → {new or '(empty)'}")
        else:
            parts.append(f"{name}={old or new}")
    return ("  " + ", ".join(parts)) if parts else ""


def _effect(item: DeviceChange) -> str:
    if item.gains:
        return "  [gains a dispatchable location]"
    if item.loses:
        why = ", ".join(item.dispatchable_after or ("removed",))
        return f"  [LOSES its dispatchable location: {why}]"
    return ""
