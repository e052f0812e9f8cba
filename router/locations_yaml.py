"""Registered devices as YAML: a list `devices`, each a map with the columns of the CSV file as its keys.

The same columns, checks and words as CSV; every problem has its line and its column (in characters). A key that is
not there leaves a device's value as it is, an empty one clears it.
"""

from collections.abc import Callable, Iterable, Iterator

from config.document import Mapping, Node, Scalar, Sequence, parse_document
from e911.location import Device
from router.csv_table import CsvError, CsvProblem
from router.location_cells import Places, cell_value, column_named, unfitting
from router.locations_csv import LocationRow, written_cell
from router.store.devices import COLUMNS, POINT_COLUMNS, Value, columns_of

_LIST = "devices"
_PROGRESS_EVERY = 500


def read_yaml_rows(
    data: bytes, places: Places, *, progress: Callable[[int], None] | None = None
) -> list[LocationRow]:
    """Every device of the file, checked against the sites and zones. Raises CsvError with all problems."""
    root, found = parse_document(data, "")
    # What the reader of configurations says of a file without a map names keys of a configuration.
    told = [problem for problem in found if "`listen:`" not in problem.message]
    problems = [_problem(problem.line or 1, problem.column or 1, "", problem.message) for problem in told]
    items = root.get(_LIST) if root is not None else None
    if not isinstance(items, Sequence):
        if not problems:
            problems.append(
                _problem(1, 1, "", "no list `devices`; write `devices:` and below it `- {device: 4012, …}`")
            )
        raise CsvError(problems)
    assert root is not None
    for key, (place, _) in root.entries.items():
        if key != _LIST:
            problems.append(
                _problem(place.line or 1, place.column or 1, key, "unknown key; only `devices` belongs here")
            )
    rows: list[LocationRow] = []
    first_lines: dict[str, int] = {}
    for node in items.items:
        row = _row(node, places, problems)
        if row is None:
            continue
        if first := first_lines.get(row.device):
            line, column = row.at("device")
            problems.append(_problem(line, column, "device", f"{row.device!r} is already on line {first}; keep one"))
        first_lines.setdefault(row.device, row.line)
        rows.append(row)
        if progress is not None and len(rows) % _PROGRESS_EVERY == 0:
            progress(row.line)
    if problems:
        raise CsvError(problems)
    return rows


def written_yaml(devices: Iterable[Device]) -> Iterator[str]:
    """The lines of a YAML file of these devices, sorted by device; read_yaml_rows reads them back."""
    yield f"{_LIST}:\n"
    for device in sorted(devices, key=lambda device: device.device):
        mark = "-"
        for name, value in columns_of(device).items():
            if value not in ("", None):
                yield f"  {mark} {name}: {_quoted(written_cell(name, value))}\n"
                mark = " "


def _quoted(value: str | float) -> str:
    """A text in double quotes, which take every printable character as it is."""
    text = str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _row(node: Node, places: Places, problems: list[CsvProblem]) -> LocationRow | None:
    line, column = node.place.line or 1, node.place.column or 1
    if not isinstance(node, Mapping):
        problems.append(_problem(line, column, "", "not a device; write `device: 4012` and its other columns"))
        return None
    values: dict[str, Value] = {}
    columns: dict[str, int] = {}
    lines: dict[str, int] = {}
    for key, (place, value) in node.entries.items():
        at = value.place
        try:
            name = column_named(key)
        except ValueError as error:
            problems.append(_problem(place.line or 1, place.column or 1, "", str(error)))
            continue
        lines[name], columns[name] = at.line or 1, at.column or 1
        try:
            if name in values:
                raise ValueError("the column is there twice, under another spelling; keep one")
            if not isinstance(value, Scalar):
                raise ValueError("a list or map, where a text belongs")
            values[name] = cell_value(name, value.text or "", places)
        except ValueError as error:
            problems.append(_problem(lines[name], columns[name], name, str(error)))
    if "device" not in node.entries:
        problems.append(_problem(line, column, "device", "missing; it names the phone"))
    if "device" not in values:
        return None
    pairs = [pair for pair in (("site", "zone"), POINT_COLUMNS) if all(name in values for name in pair)]
    for name, what in unfitting({name: values[name] for pair in pairs for name in pair}, places):
        problems.append(_problem(lines[name], columns[name], name, what))
    ordered = {name: values[name] for name in COLUMNS if name in values}
    return LocationRow(line=line, values=ordered, columns=columns, lines=lines)


def _problem(line: int, column: int, name: str, what: str) -> CsvProblem:
    return CsvProblem(line=line, column=column, name=name, what=what)
