"""Registered devices as CSV: read with every problem named by line and column, and written.

Columns in any order, of which only `device` must be there. A column that is not in the file leaves a device's value
as it is; an empty cell clears it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from e911.location import Device
from router.locations.location_cells import Places, cell_value, column_named, unfitting, unfitting_after, written_time
from router.process.csv_table import CsvProblem, read_table, written
from router.store.devices import COLUMNS, POINT_COLUMNS, TIME_COLUMNS, Value, columns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationRow:
    """One device of the file: the columns given, canonical, and where it stands (for later problems)."""

    line: int
    values: Mapping[str, Value]
    columns: Mapping[str, int]
    """The number of each column in the file, from 1."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """The line of each column, where they are not all on `line`."""

    def at(self, name: str) -> tuple[int, int]:
        """(line, column) of a column, or of the device where it is not given."""
        name = name if name in self.columns else "device"
        return self.lines.get(name, self.line), self.columns[name]

    @property
    def device(self) -> str:
        """The canonical name."""
        return str(self.values["device"])

    @property
    def key(self) -> str:
        """The device: each stands in a file once."""
        return self.device

    @property
    def key_at(self) -> tuple[int, int, str]:
        """(line, column, name) of the cell that names the device."""
        return *self.at("device"), "device"


def read_rows(data: bytes, places: Places, *, progress: Callable[[int], None] | None = None) -> list[LocationRow]:
    """Every row of the file, checked against the sites and zones of the configuration.

    `progress` is told the number of the line reached, now and then. Raises CsvError with all problems.
    """
    return read_table(
        data,
        column_named,
        _header_fits,
        lambda line, columns, cells, problems: _row(line, columns, cells, places, problems),
        progress=progress,
    )


def merged_problems(rows: Sequence[LocationRow], known: Mapping[str, Device], places: Places) -> list[CsvProblem]:
    """What does not fit once the rows lie over the devices that exist, by canonical name in `known`."""
    problems = []
    for row in rows:
        for name, what in unfitting_after(known.get(row.device), row.values, places):
            line, column = row.at(name)
            problems.append(CsvProblem(line=line, column=column, name=name, what=what))
    return problems


def written_rows(devices: Iterable[Device]) -> Iterator[str]:
    """The lines of a CSV file of these devices, header first, sorted by device; read_rows reads them back."""
    everything = (columns_of(device) for device in sorted(devices, key=lambda device: device.device))
    rows = ([written_cell(name, values[name]) for name in COLUMNS] for values in everything)
    return written(chain([COLUMNS], rows))


def written_cell(name: str, value: Value) -> str | float:
    """A value as it stands in a file."""
    if name in TIME_COLUMNS:
        return written_time(value if isinstance(value, float) else None)
    return "" if value is None else value


def _header_fits(line: int, names: list[str], problems: list[CsvProblem]) -> bool:
    """False where the rows cannot be read with these columns."""
    if "device" not in names:
        what = "no column `device`; it names each row's phone"
        problems.append(CsvProblem(line=line, column=1, name="", what=what))
        return False
    given = [name for name in POINT_COLUMNS if name in names]
    if len(given) == 1:
        (other,) = set(POINT_COLUMNS) - set(given)
        what = f"a column {given[0]} without a column {other}; give both"
        column = names.index(given[0]) + 1
        problems.append(CsvProblem(line=line, column=column, name=given[0], what=what))
    return True


def _row(
    line: int, columns: Mapping[str, int], cells: list[str], places: Places, problems: list[CsvProblem]
) -> LocationRow | None:
    """The row; None, with its problem noted, where its device cannot be told."""
    values: dict[str, Value] = {}
    for name, column in columns.items():
        try:
            values[name] = cell_value(name, cells[column - 1], places)
        except ValueError as error:
            problems.append(CsvProblem(line=line, column=column, name=name, what=str(error)))
    for name, what in _unfitting_here(values, columns, places):
        problems.append(CsvProblem(line=line, column=columns[name], name=name, what=what))
    if "device" not in values:
        return None
    return LocationRow(line=line, values=values, columns=columns)


def _unfitting_here(values: Mapping[str, Value], columns: Mapping[str, int], places: Places) -> list[tuple[str, str]]:
    """What does not fit among cells of this row alone, once each of a pair is right by itself."""
    pairs = [pair for pair in (("site", "zone"), POINT_COLUMNS) if all(name in values for name in pair)]
    considered = {name: values[name] for pair in pairs for name in pair}
    return [(name, what) for name, what in unfitting(considered, places) if name in columns]
