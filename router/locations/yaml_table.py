"""Tables as YAML: a list under one key, each item a map with the columns of the CSV file as its keys.

What the columns are, and what may stand in them, is their table's (locations_yaml, wiremap_yaml). Every problem has
its line and its column (in characters).
"""

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass

from config.document import MAX_PROBLEMS, Mapping, Node, Scalar, Sequence, Table, parse_document
from router.process.csv_table import ColumnNamed, CsvError, CsvProblem
from router.store.devices import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlCells:
    """The cells of one item, and where each stands."""

    line: int
    column: int
    values: AnyMapping[str, Value]
    columns: AnyMapping[str, int]
    lines: AnyMapping[str, int]


def read_items(
    data: bytes, name: str, example: str, item: Callable[[Node], None], problems: list[CsvProblem]
) -> None:
    """Give `item` each item of the list `name`; `example` shows one. What is wrong with the file goes to `problems`.

    Raises CsvError where there is no such list, and where so much is wrong that nobody reads it all.
    """

    def one(node: Node) -> None:
        item(node)
        if len(problems) >= MAX_PROBLEMS:
            raise CsvError(problems)

    root, found = parse_document(data, "", Table(name, one))
    # What the reader of configurations says of a file without a map names keys of a configuration.
    told = [problem for problem in found if "`listen:`" not in problem.message]
    problems += [yaml_problem(problem.line or 1, problem.column or 1, "", problem.message) for problem in told]
    if root is None or not isinstance(root.get(name), Sequence):
        if not problems:
            what = f"no list `{name}`; write `{name}:` and below it `- {example}`"
            problems.append(yaml_problem(1, 1, "", what))
        raise CsvError(problems)
    for key, (place, _) in root.entries.items():
        if key != name:
            what = f"unknown key; only `{name}` belongs here"
            problems.append(yaml_problem(place.line or 1, place.column or 1, key, what))


def cells_of(
    node: Node,
    column_named: ColumnNamed,
    value_of: Callable[[str, str], Value],
    no_map: str,
    problems: list[CsvProblem],
) -> YamlCells | None:
    """The cells of an item, what is wrong with them in `problems`; None, with the problem `no_map`, for no map."""
    line, column = node.place.line or 1, node.place.column or 1
    if not isinstance(node, Mapping):
        problems.append(yaml_problem(line, column, "", no_map))
        return None
    values: dict[str, Value] = {}
    columns: dict[str, int] = {}
    lines: dict[str, int] = {}
    for key, (place, value) in node.entries.items():
        at = value.place
        try:
            name = column_named(key)
        except ValueError as error:
            problems.append(yaml_problem(place.line or 1, place.column or 1, "", str(error)))
            continue
        lines[name], columns[name] = at.line or 1, at.column or 1
        try:
            if name in values:
                raise ValueError("the column is there twice, under another spelling; keep one")
            if not isinstance(value, Scalar):
                raise ValueError("a list or map, where a text belongs")
            values[name] = value_of(name, value.text or "")
        except ValueError as error:
            problems.append(yaml_problem(lines[name], columns[name], name, str(error)))
    return YamlCells(line=line, column=column, values=values, columns=columns, lines=lines)


def written_items(name: str, rows: Iterable[AnyMapping[str, str | float]]) -> Iterator[str]:
    """The lines of a YAML file of these rows under the key `name`; cells that are empty are left out."""
    is_empty = True
    for row in rows:
        mark = "-"
        for column, value in row.items():
            if value != "":
                if is_empty:
                    yield f"{name}:\n"
                    is_empty = False
                yield f"  {mark} {column}: {_quoted(value)}\n"
                mark = " "
    if is_empty:
        yield f"{name}: []\n"


def yaml_problem(line: int, column: int, name: str, what: str) -> CsvProblem:
    """A mistake in a YAML file."""
    return CsvProblem(line=line, column=column, name=name, what=what)


def _quoted(value: str | float) -> str:
    """A text in double quotes, which take every printable character as it is."""
    text = str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
