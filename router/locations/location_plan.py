"""What an import of registered devices would do, before it does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from e911.location import Device
from router.locations.import_plan import ImportPlan, PlannedChange, Texts, planned_change
from router.locations.locations_csv import LocationRow, written_cell
from router.store.devices import COLUMNS, Value, columns_of, overlaid, settled

Judged = Callable[[Device], tuple[str, ...]]
"""Why help could not be sent to a device by what is registered of it; empty where it could."""
KEPT_BY_US: Final = frozenset({"confirmed_at", "confirmed_by"})


def import_plan(
    rows: Sequence[LocationRow],
    known: Mapping[str, Device],
    judged: Judged,
    *,
    replace: bool = False,
    now: float = 0.0,
    by: str = "",
    progress: Callable[[int], None] | None = None,
) -> ImportPlan[Device]:
    """What the rows make of the devices in `known` (by canonical name; with `replace` all there are)."""
    plan = ImportPlan[Device]()
    named: set[str] = set()
    for number, row in enumerate(rows, start=1):
        before = known.get(row.device)
        named.add(row.device)
        after = overlaid(before or Device(device=row.device), row.values)
        if after == before:
            plan.unchanged += 1
            reasons = judged(after)
        else:
            change = planned_change(row.device, before, settled(before, after, now, by), judged, _texts)
            plan.changes.append(change)
            reasons = change.dispatchable_after or ()
        if reasons:
            plan.lacking[row.device] = reasons
        if progress is not None and number % 500 == 0:
            progress(row.line)
    if replace:
        plan.changes += [
            planned_change(name, known[name], None, judged, _texts) for name in sorted(known.keys() - named)
        ]
    return plan


def unwritten(device: Device, judged: Judged) -> PlannedChange[Device]:
    """A device that stays as it is."""
    return replace(planned_change(device.device, device, device, judged, _texts), change="none")


def _texts(was: Device | None, becomes: Device | None) -> Texts:
    old: Mapping[str, Value] = columns_of(was) if was else {}
    new: Mapping[str, Value] = columns_of(becomes) if becomes else {}
    names = [name for name in COLUMNS[1:] if (old.get(name) or "") != (new.get(name) or "")]
    if was and becomes:
        names = [name for name in names if name not in KEPT_BY_US] or names
    return (
        {name: str(written_cell(name, old[name])) for name in names if old.get(name) not in ("", None)},
        {name: str(written_cell(name, new[name])) for name in names if new.get(name) not in ("", None)},
    )
