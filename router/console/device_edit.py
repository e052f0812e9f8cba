"""Changing a registered device, from a page or by the API: the same checks and words as the CSV import."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from e911.devices import device_key
from e911.dispatchable import device_problems
from e911.location import Device
from e911.places import Places as SitePlaces
from router.console.problems import FieldProblem, RequestProblem
from router.locations.location_cells import Places, cell_value, column_named, unfitting_after
from router.locations.locations_csv import written_cell
from router.store.devices import (
    COLUMNS,
    ID_COLUMNS,
    STATE_COLUMNS,
    TIME_COLUMNS,
    Value,
    columns_of,
    get_device,
    remove_devices,
    state_of,
    take_turn,
    upsert_devices,
)

KEPT = frozenset({"device", "confirmed_at", "confirmed_by", *ID_COLUMNS})
"""What a device keeps where it is replaced whole and they are not given."""
NOT_DISPATCHABLE = "not_dispatchable"
"""What is worked out of a device and its site beside its columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Editor:
    """Who changes devices, by which way, and whose devices they may change."""

    who: str
    via: str
    may_see: Callable[[str], bool]
    """Whether a site is theirs; empty is the site of devices without one."""


def document_of(device: Device) -> dict[str, Any]:
    """The device as JSON: every column, and what edge911 itself writes beside them; times as in the CSV file."""
    values: dict[str, Any] = {}
    for name, value in (columns_of(device) | state_of(device)).items():
        is_time = name in TIME_COLUMNS or name.endswith("_at")
        values[name] = written_cell(_A_TIME, value) if is_time and value else None if is_time else value
    return values


def judged_document(device: Device, sites: SitePlaces, now: float) -> dict[str, Any]:
    """The same, and why help could not be sent to its location by that alone (docs/reasons.md)."""
    return document_of(device) | {NOT_DISPATCHABLE: list(device_problems(device, sites, now))}


def etag_of(device: Device) -> str:
    """Another one after each change (RFC 9110 section 8.8.3)."""
    content = orjson.dumps(columns_of(device) | state_of(device))
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def row_of(written: Mapping[str, Any], places: Places) -> dict[str, Value]:
    """The columns that were written, as they are stored. Raises RequestProblem 422 with all that is wrong.

    What edge911 itself writes is passed over, so that a device that was read can be sent back as it is.
    """
    row: dict[str, Value] = {}
    problems: list[FieldProblem] = []
    for key, value in written.items():
        if key in STATE_COLUMNS or key == NOT_DISPATCHABLE:
            continue
        try:
            name = column_named(key)
            if name in row:
                raise ValueError(f"{name} is given twice; give it once")
            row[name] = cell_value(name, _text(value), places)
        except ValueError as error:
            problems.append(FieldProblem.of(key[:100], str(error)))
    if problems:
        raise values_wrong(problems)
    return row


def values_wrong(problems: list[FieldProblem]) -> RequestProblem:
    """The problem that says so."""
    return RequestProblem(422, "values-wrong", "nothing was changed; see errors", fields=problems)


def save_device(
    conn: Connection,
    row: Mapping[str, Value],
    places: Places,
    editor: Editor,
    *,
    expected: Callable[[Device | None], None] = lambda _: None,
) -> tuple[Device | None, Device]:
    """Add or change the device that `row` names, in this transaction: (before, after).

    `expected` looks at what is stored and may raise. Raises RequestProblem 404 for another's device, 422 for
    columns that do not fit together or a site that is not theirs.
    """
    take_turn(conn)
    name = str(row["device"])
    known = get_device(conn, name)
    if known is not None and not editor.may_see(known.site):
        raise RequestProblem(404, "not-found")
    expected(known)
    if problems := [FieldProblem.of(column, what) for column, what in unfitting_after(known, row, places)]:
        raise values_wrong(problems)
    site = str(row.get("site", known.site if known else "") or "")
    if not editor.may_see(site):
        what = f"site {site!r} is not yours; name one of yours" if site else "no site; name one of yours"
        raise values_wrong([FieldProblem.of("site", what)])
    upsert_devices(conn, [row], by=editor.who, via=editor.via)
    after = get_device(conn, name)
    assert after is not None
    return known, after


def replaced(row: Mapping[str, Value], places: Places) -> dict[str, Value]:
    """The row with every column that it does not have emptied: what is not given is not so."""
    empty = {name: cell_value(name, "", places) for name in COLUMNS if name not in KEPT}
    return {**empty, **row}


def remove_device(
    conn: Connection, device: str, editor: Editor, *, expected: Callable[[Device | None], None] = lambda _: None
) -> Device:
    """Take a device away. Raises RequestProblem 404."""
    take_turn(conn)
    known = get_device(conn, device)
    if known is None or not editor.may_see(known.site):
        raise RequestProblem(404, "not-found")
    expected(known)
    remove_devices(conn, [device], by=editor.who, via=editor.via)
    return known


def canonical(device: str) -> str:
    """The name that a device has in the store."""
    return device_key(device)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise ValueError("neither a text nor a number; write a text")


_A_TIME = TIME_COLUMNS[0]
