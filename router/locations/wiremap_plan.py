"""What an import of the wiremap would do, before it does it."""

from collections.abc import Callable, Mapping, Sequence

from e911.wiremap import WiremapEntry
from router.locations.import_plan import ImportPlan, Texts, planned_change
from router.locations.wiremap_csv import WiremapRow, merged
from router.store.devices import Value
from router.store.wiremap import COLUMNS, KEY_COLUMNS, columns_of

Judged = Callable[[WiremapEntry], tuple[str, ...]]
"""Why help could not be sent to a phone that is attached there; empty where it could."""


def wiremap_plan(
    rows: Sequence[WiremapRow], known: Mapping[str, WiremapEntry], judged: Judged, *, replace: bool = False
) -> ImportPlan[WiremapEntry]:
    """What the rows make of the entries in `known` (by key; with `replace` all there are)."""
    plan = ImportPlan[WiremapEntry]()
    for row in rows:
        before, after = known.get(row.key), merged(row.values, known.get(row.key))
        if before is not None and columns_of(after) == columns_of(before):
            plan.unchanged += 1
            reasons = judged(after)
        else:
            change = planned_change(row.key, before, after, judged, _texts)
            plan.changes.append(change)
            reasons = change.dispatchable_after or ()
        if reasons:
            plan.lacking[row.key] = reasons
    if replace:
        gone = sorted(known.keys() - {row.key for row in rows})
        plan.changes += [planned_change(key, known[key], None, judged, _texts) for key in gone]
    return plan


def _texts(was: WiremapEntry | None, becomes: WiremapEntry | None) -> Texts:
    old: Mapping[str, Value] = columns_of(was) if was else {}
    new: Mapping[str, Value] = columns_of(becomes) if becomes else {}
    names = [name for name in COLUMNS if name not in KEY_COLUMNS and (old.get(name) or "") != (new.get(name) or "")]
    return (
        {name: str(old[name]) for name in names if old.get(name) not in ("", None)},
        {name: str(new[name]) for name in names if new.get(name) not in ("", None)},
    )
