"""Many devices, or many rows of the wiremap, at once: what a file would change, and changing it, for pages and API.

All or nothing; whoever is limited to sites sees, changes and takes away what is of those sites alone.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from e911.dispatchable import device_problems, wiremap_problems
from e911.location import Device
from e911.wiremap import WiremapEntry
from router.console.device_edit import Editor, values_wrong
from router.console.problems import FieldProblem
from router.console.settings import Console
from router.emergency.rules import places_of
from router.locations.import_plan import ImportPlan
from router.locations.location_cells import unfitting_after
from router.locations.location_plan import import_plan
from router.locations.locations_csv import LocationRow, merged_problems, read_rows, written_rows
from router.locations.locations_yaml import read_yaml_rows, written_yaml
from router.locations.shared_names import with_shared_names
from router.locations.wiremap_csv import WiremapRow, read_wiremap, written_wiremap
from router.locations.wiremap_csv import merged_problems as wiremap_merged_problems
from router.locations.wiremap_edit import write_trail
from router.locations.wiremap_plan import wiremap_plan
from router.locations.wiremap_yaml import read_wiremap_yaml, written_wiremap_yaml
from router.process.csv_table import CsvError
from router.store import devices, wiremap
from router.store.audit import Author
from router.store.followed import revisions_of

MOST_PROBLEMS: Final = 500
_NOT_YOURS: Final = "this row or site is not yours; name one of yours"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTable:
    """A table that is kept by files: devices or the wiremap."""

    key: str
    """`locations` or `wiremap`: its page, and the name of its files."""
    row: str
    """What the name of a row is called in JSON."""
    read: Callable[[bytes, Console, bool], Sequence[Any]]
    """The rows of a file, YAML or CSV. Raises RequestProblem 422 with all that is wrong."""
    plan: Callable[[Connection, Sequence[Any], Console, Editor, bool], ImportPlan[Any]]
    """What rows would change; True: also take away all that is in none. Raises RequestProblem 422."""
    apply: Callable[[Connection, ImportPlan[Any], Editor], None]
    """Write a plan that was made in this transaction, after `take_turn`."""
    take_turn: Callable[[Connection], None]
    revision: Callable[[Connection], int]
    """Another number after each change of the table."""
    written: Callable[[Connection, Editor, bool], Iterator[str]]
    """The lines of a file of all rows that may be seen, YAML or CSV."""


@contextmanager
def plan_in_turn(
    table: BulkTable, rows: Sequence[Any], console: Console, editor: Editor, replace: bool
) -> Iterator[tuple[Connection, ImportPlan[Any]]]:
    """A transaction that may write, and the plan of `rows` as it is true in it. Raises RequestProblem 422.

    Many rows take seconds to compare: that is done before others have to wait, and again if they changed any.
    """
    with console.store.reading() as conn:
        revision = table.revision(conn)
        plan = table.plan(conn, rows, console, editor, replace)
    with console.store.writing() as conn:
        table.take_turn(conn)
        if table.revision(conn) != revision:
            plan = table.plan(conn, rows, console, editor, replace)
        yield conn, plan


def plan_digest(plan: ImportPlan[Any]) -> str:
    """Another one where the same file would change something else: what was shown is what is applied."""
    found = hashlib.blake2b(digest_size=16)
    for item in (*plan.changes, *plan.others):
        was = item.was
        stored: list[Any] = []
        if isinstance(was, Device):
            stored = [*devices.columns_of(was).values(), was.updated_at, was.unconfirmed]
        elif isinstance(was, WiremapEntry):
            stored = [*wiremap.columns_of(was).values(), was.updated_at]
        found.update(
            orjson.dumps([item.name, item.change, stored, item.dispatchable_before, item.dispatchable_after])
        )
    found.update(str(plan.unchanged).encode())
    return found.hexdigest()


def csv_wrong(error: CsvError) -> Exception:
    """The problem that names each mistake of a file by line and column."""
    return values_wrong(
        [
            FieldProblem.of(f"{one.line}:{one.column}{f': {one.name}' if one.name else ''}", one.what)
            for one in error.problems[:MOST_PROBLEMS]
        ]
    )


def plan_devices(
    conn: Connection, rows: Sequence[LocationRow], console: Console, editor: Editor, replace: bool
) -> ImportPlan[Device]:
    """What the rows make of the devices. Raises RequestProblem 422."""
    now, sites = time.time(), places_of(console.config)
    known: dict[str, Device] = {}
    if replace:
        known = {device.device: device for device in devices.all_devices(conn) if editor.may_see(device.site)}
    known |= devices.get_devices(conn, (row.device for row in rows))
    _check_devices(rows, known, console, editor)

    def judged(device: Device) -> tuple[str, ...]:
        return device_problems(device, sites, now)

    plan = import_plan(rows, known, judged, replace=replace, now=now, by=editor.who)
    return with_shared_names(conn, plan, judged, editor.may_see)


def _check_devices(
    rows: Sequence[LocationRow], known: Mapping[str, Device], console: Console, editor: Editor
) -> None:
    """Raises RequestProblem 422 for columns that do not fit together, and for devices and sites of others."""
    is_file = any(row.columns.get("device") for row in rows)
    if is_file and (found := merged_problems(rows, known, console.places)):
        raise csv_wrong(CsvError(found))
    problems: list[FieldProblem] = []
    for row in rows:
        where = f"line {row.line}" if is_file else f"devices[{row.line}]"
        before = known.get(row.device)
        if not is_file:
            for column, what in unfitting_after(before, row.values, console.places):
                problems.append(FieldProblem.of(f"{where}.{column}", what))
        site = str(row.values.get("site", before.site if before else "") or "")
        if not editor.may_see(site) or (before is not None and not editor.may_see(before.site)):
            problems.append(FieldProblem.of(f"{where}.site", _NOT_YOURS))
    if problems:
        raise values_wrong(problems[:MOST_PROBLEMS])


def apply_devices(conn: Connection, plan: ImportPlan[Device], editor: Editor) -> None:
    """Write a plan of devices."""
    devices.write_devices(conn, plan.writes, now=time.time(), by=editor.who, via=editor.via)
    devices.remove_devices(conn, plan.removed, by=editor.who, via=editor.via)


def plan_wiremap(
    conn: Connection, rows: Sequence[WiremapRow], console: Console, editor: Editor, replace: bool
) -> ImportPlan[WiremapEntry]:
    """What the rows make of the wiremap. Raises RequestProblem 422."""
    places = places_of(console.config)
    known: dict[str, WiremapEntry] = {}
    if replace:
        known = {entry.key: entry for entry in wiremap.all_entries(conn) if editor.may_see(entry.site)}
    known |= wiremap.get_entries(conn, (row.key for row in rows))
    if found := wiremap_merged_problems(rows, known, console.places):
        raise csv_wrong(CsvError(found))
    problems: list[FieldProblem] = []
    for row in rows:
        before = known.get(row.key)
        site = str(row.values.get("site", before.site if before else "") or "")
        if not editor.may_see(site) or (before is not None and not editor.may_see(before.site)):
            problems.append(FieldProblem.of(f"line {row.line}.site", _NOT_YOURS))
    if problems:
        raise values_wrong(problems[:MOST_PROBLEMS])
    return wiremap_plan(rows, known, lambda entry: wiremap_problems(entry, places), replace=replace)


def apply_wiremap(conn: Connection, plan: ImportPlan[WiremapEntry], editor: Editor) -> None:
    """Write a plan of the wiremap."""
    before = {item.name: item.was for item in plan.changes if item.was is not None}
    after = {item.name: item.becomes for item in plan.changes if item.becomes is not None}
    wiremap.upsert_entries(conn, list(after.values()), before)
    wiremap.remove_entries(conn, plan.removed)
    write_trail(conn, Author(who=editor.who, via=editor.via), before, after)


def _read_devices(data: bytes, console: Console, is_yaml: bool) -> Sequence[LocationRow]:
    try:
        return (read_yaml_rows if is_yaml else read_rows)(data, console.places)
    except CsvError as error:
        raise csv_wrong(error) from None


def _read_wiremap(data: bytes, console: Console, is_yaml: bool) -> Sequence[WiremapRow]:
    try:
        return (read_wiremap_yaml if is_yaml else read_wiremap)(data, console.places)
    except CsvError as error:
        raise csv_wrong(error) from None


def _written_devices(conn: Connection, editor: Editor, is_yaml: bool) -> Iterator[str]:
    found = _seen(devices.all_devices(conn), editor)
    return (written_yaml if is_yaml else written_rows)(found)


def _written_wiremap(conn: Connection, editor: Editor, is_yaml: bool) -> Iterator[str]:
    found = _seen(wiremap.all_entries(conn), editor)
    return (written_wiremap_yaml if is_yaml else written_wiremap)(found)


def _seen(rows: Iterable[Any], editor: Editor) -> list[Any]:
    return [row for row in rows if editor.may_see(row.site)]


DEVICES: Final = BulkTable(
    key="locations",
    row="device",
    read=_read_devices,
    plan=plan_devices,
    apply=apply_devices,
    take_turn=devices.take_turn,
    revision=devices.current_revision,
    written=_written_devices,
)
WIREMAP: Final = BulkTable(
    key="wiremap",
    row="row",
    read=_read_wiremap,
    plan=plan_wiremap,
    apply=apply_wiremap,
    take_turn=wiremap.take_turn,
    revision=lambda conn: revisions_of(conn).get("wiremap", 0),
    written=_written_wiremap,
)
