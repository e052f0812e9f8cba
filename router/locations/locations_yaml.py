"""Registered devices as YAML: a list `devices`, each a map with the columns of the CSV file as its keys.

The same columns, checks and words as CSV; every problem has its line and its column (in characters). A key that is
not there leaves a device's value as it is, an empty one clears it.
"""

from collections.abc import Callable, Iterable, Iterator

from config.document import Node
from e911.location import Device
from router.locations.location_cells import Places, cell_value, column_named, unfitting
from router.locations.locations_csv import LocationRow, written_cell
from router.locations.yaml_table import cells_of, read_items, written_items, yaml_problem
from router.process.csv_table import CsvProblem, UniqueRows
from router.store.devices import COLUMNS, POINT_COLUMNS, columns_of

_LIST = "devices"


def read_yaml_rows(
    data: bytes, places: Places, *, progress: Callable[[int], None] | None = None
) -> list[LocationRow]:
    """Every device of the file, checked against the sites and zones. Raises CsvError with all problems."""
    rows: UniqueRows[LocationRow] = UniqueRows(progress)
    example = "{device: 4012, …}"
    read_items(data, _LIST, example, lambda node: rows.add(_row(node, places, rows.problems)), rows.problems)
    return rows.all()


def written_yaml(devices: Iterable[Device]) -> Iterator[str]:
    """The lines of a YAML file of these devices, sorted by device; read_yaml_rows reads them back."""
    everything = (columns_of(device) for device in sorted(devices, key=lambda device: device.device))
    return written_items(
        _LIST, ({name: written_cell(name, value) for name, value in values.items()} for values in everything)
    )


def _row(node: Node, places: Places, problems: list[CsvProblem]) -> LocationRow | None:
    no_map = "not a device; write `device: 4012` and its other columns"
    cells = cells_of(node, column_named, lambda name, text: cell_value(name, text, places), no_map, problems)
    if cells is None:
        return None
    values = cells.values
    if "device" not in cells.columns:
        problems.append(yaml_problem(cells.line, cells.column, "device", "missing; it names the phone"))
    if "device" not in values:
        return None
    pairs = [pair for pair in (("site", "zone"), POINT_COLUMNS) if all(name in values for name in pair)]
    for name, what in unfitting({name: values[name] for pair in pairs for name in pair}, places):
        problems.append(yaml_problem(cells.lines[name], cells.columns[name], name, what))
    ordered = {name: values[name] for name in COLUMNS if name in values}
    return LocationRow(line=cells.line, values=ordered, columns=cells.columns, lines=cells.lines)
