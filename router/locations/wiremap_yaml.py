"""The wiremap as YAML: a list `wiremap`, each item a map with the columns of the CSV file as its keys.

The same columns, checks and words as CSV. A key that is not there leaves a row's value as it is, an empty one
clears it.
"""

from collections.abc import Iterable, Iterator

from config.document import Node
from e911.wiremap import WiremapEntry
from router.locations.location_cells import Places
from router.locations.wiremap_csv import WiremapRow, column_named, row_key, shown_columns, wiremap_value
from router.locations.yaml_table import cells_of, read_items, written_items, yaml_problem
from router.process.csv_table import CsvProblem, UniqueRows

_LIST = "wiremap"


def read_wiremap_yaml(data: bytes, places: Places) -> list[WiremapRow]:
    """Every row of the file. Raises CsvError with all problems."""
    rows: UniqueRows[WiremapRow] = UniqueRows()
    example = '{bssid: "00:1b:2c:3d:4e:50", site: hq, …}'
    read_items(data, _LIST, example, lambda node: rows.add(_row(node, places, rows.problems)), rows.problems)
    return rows.all()


def written_wiremap_yaml(entries: Iterable[WiremapEntry]) -> Iterator[str]:
    """The lines of a YAML file of these entries, sorted; read_wiremap_yaml reads them back."""
    everything = (shown_columns(entry) for entry in sorted(entries, key=lambda entry: entry.key))
    return written_items(
        _LIST, ({name: "" if value is None else value for name, value in values.items()} for values in everything)
    )


def _row(node: Node, places: Places, problems: list[CsvProblem]) -> WiremapRow | None:
    no_map = 'not a row; write `bssid: "00:1b:2c:3d:4e:50"` or `chassis: sw-3`, and its other columns'
    before = len(problems)
    cells = cells_of(node, column_named, lambda name, text: wiremap_value(name, text, places), no_map, problems)
    if cells is None or (len(problems) > before and not {"bssid", "chassis"} & cells.values.keys()):
        return None
    try:
        key = row_key(cells.values)
    except ValueError as error:
        problems.append(yaml_problem(cells.line, cells.column, "", str(error)))
        return None
    return WiremapRow(line=cells.line, key=key, values=cells.values, columns=cells.columns, lines=cells.lines)
