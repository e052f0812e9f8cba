"""The wiremap as CSV: read with every problem named by line and column, and written.

Columns in any order. Each row names an access point (`bssid`), or a switch port (`chassis`, `port`; without a port
the whole switch). A column that is not in the file leaves a row's value as it is; an empty cell clears it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from typing import Final

from e911.attachment import mac_text, normal_bssid, normal_chassis, normal_port
from e911.wiremap import WiremapEntry, entry_key
from router.locations.location_cells import Places, cell_value
from router.process.csv_table import CsvProblem, read_table, written
from router.store.devices import Value
from router.store.wiremap import COLUMNS, KEY_COLUMNS, POINT_COLUMNS, columns_of, from_columns

_ALIASES: Final = {
    "mac": "bssid",
    "ap": "bssid",
    "access_point": "bssid",
    "switch": "chassis",
    "chassis_id": "chassis",
    "port_id": "port",
    "interface": "port",
    "lat": "latitude",
    "lon": "longitude",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WiremapRow:
    """One row of the file: the columns given, and where it stands."""

    line: int
    key: str
    values: Mapping[str, Value]
    columns: Mapping[str, int]
    """The number of each column in the file, from 1."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """The line of each column, where they are not all on `line`."""

    @property
    def key_at(self) -> tuple[int, int, str]:
        """The beginning of the row: up to three cells make the key."""
        return self.line, 1, ""


def column_named(written: str) -> str:
    """The column of that name, in any case, with blanks or hyphens for underscores. Raises ValueError for none."""
    name = re.sub(r"[\s_-]+", "_", written.strip().lower())
    name = _ALIASES.get(name, name)
    if name in COLUMNS:
        return name
    if not name:
        raise ValueError("a column without a name; name it or take it out")
    near = get_close_matches(name, COLUMNS, n=1)
    raise ValueError(f"unknown column {written.strip()!r}{f'; did you mean {near[0]}?' if near else ''}")


def wiremap_value(column: str, written: str, places: Places) -> Value:
    """What is stored for the text `written` in `column`. Raises ValueError with what would be right."""
    if column not in KEY_COLUMNS:
        return cell_value(column, written, places)
    text = str(cell_value("name", written, places))  # what no cell may hold is refused there
    if not text:
        return ""
    if column == "bssid":
        if not (bssid := normal_bssid(text)):
            raise ValueError(f"{text!r} is not the BSSID of an access point; write 00:1b:2c:3d:4e:5f")
        return bssid
    found = normal_chassis(text) if column == "chassis" else normal_port(text)
    if not found:
        raise ValueError(f"{text!r} is no {'chassis' if column == 'chassis' else 'port'} ID of a switch")
    return found


def row_key(values: Mapping[str, Value]) -> str:
    """The key of a row's values. Raises ValueError where it names neither, or both."""
    bssid, chassis, port = (str(values.get(name) or "") for name in KEY_COLUMNS)
    if bssid and (chassis or port):
        raise ValueError("both an access point (bssid) and a switch port (chassis, port); a row is of one of them")
    if port and not chassis:
        raise ValueError("a port without its switch; write chassis too")
    if not bssid and not chassis:
        raise ValueError("neither bssid nor chassis; every row names an access point or a switch port")
    return entry_key(bssid, chassis, port)


def merged(row: Mapping[str, Value], known: WiremapEntry | None) -> WiremapEntry:
    """The row over what is stored. Raises ValueError for half a point."""
    return from_columns({**(columns_of(known) if known else {}), **row})


def unfitting(values: Mapping[str, Value], places: Places) -> list[tuple[str, str]]:
    """(column, what is wrong) for columns that do not fit together; `values` are those of a whole entry."""
    problems = []
    site, zone = str(values.get("site") or ""), str(values.get("zone") or "")
    if zone and not site:
        problems.append(("zone", f"zone {zone!r} needs a site"))
    elif zone and zone not in places.get(site, frozenset()):
        near = get_close_matches(zone, places.get(site, ()), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.append(("zone", f"no zone {zone!r} in site {site!r}{hint}"))
    given = [name for name in POINT_COLUMNS if values.get(name) not in (None, "")]
    if len(given) == 1:
        (other,) = set(POINT_COLUMNS) - set(given)
        problems.append((other, f"{given[0]} without {other}; give both, or clear both"))
    has_street = values.get("city") and (values.get("street") or values.get("landmark"))
    if not site and not has_street and not given:
        problems.append(("site", "no place; give a site (and zone), a whole address, or coordinates"))
    return problems


def read_wiremap(data: bytes, places: Places) -> list[WiremapRow]:
    """Every row of the file. Raises CsvError with all problems."""
    return read_table(
        data,
        column_named,
        _header_fits,
        lambda line, columns, cells, problems: _row(line, columns, cells, places, problems),
    )


def merged_problems(
    rows: Sequence[WiremapRow], known: Mapping[str, WiremapEntry], places: Places
) -> list[CsvProblem]:
    """What does not fit once the rows lie over what is stored, by key in `known`."""
    problems = []
    for row in rows:
        stored = known.get(row.key)
        for name, what in unfitting({**(columns_of(stored) if stored else {}), **row.values}, places):
            problems.append(_problem(row.lines.get(name, row.line), row.columns.get(name, 1), name, what))
    return problems


def written_wiremap(entries: Iterable[WiremapEntry]) -> Iterator[str]:
    """The lines of a CSV file of these entries, header first, sorted; read_wiremap reads them back."""
    everything = (shown_columns(entry) for entry in sorted(entries, key=lambda entry: entry.key))
    rows = (["" if (value := values[name]) is None else value for name in COLUMNS] for values in everything)
    return written(chain([COLUMNS], rows))


def shown_columns(entry: WiremapEntry) -> dict[str, Value]:
    """The columns as people read and write them: MAC addresses in pairs."""
    # A spreadsheet would take 12e345678901 for a number.
    return columns_of(entry) | {name: mac_text(getattr(entry, name)) for name in KEY_COLUMNS}


def _header_fits(line: int, names: list[str], problems: list[CsvProblem]) -> bool:
    """False where the rows cannot be read with these columns."""
    if "bssid" in names or "chassis" in names:
        return True
    problems.append(_problem(line, 1, "", "no column `bssid` and no column `chassis`; one of them names each row"))
    return False


def _row(
    line: int, columns: Mapping[str, int], cells: list[str], places: Places, problems: list[CsvProblem]
) -> WiremapRow | None:
    """The row; None, with its problem noted, where it cannot be told what it is about."""
    values: dict[str, Value] = {}
    before = len(problems)
    for name, column in columns.items():
        try:
            values[name] = wiremap_value(name, cells[column - 1], places)
        except ValueError as error:
            problems.append(_problem(line, column, name, str(error)))
    if len(problems) > before and any(name not in values for name in KEY_COLUMNS if name in columns):
        return None
    try:
        key = row_key(values)
    except ValueError as error:
        problems.append(_problem(line, columns.get("bssid") or columns["chassis"], "", str(error)))
        return None
    return WiremapRow(line=line, key=key, values=values, columns=columns)


def _problem(line: int, column: int, name: str, what: str) -> CsvProblem:
    return CsvProblem(line=line, column=column, name=name, what=what)
