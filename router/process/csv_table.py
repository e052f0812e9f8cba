"""CSV tables (RFC 4180) as people write them: read with every problem named by line and column, and written.

Read: UTF-8 with or without a byte order mark, UTF-16 with one (what Excel saves as "Unicode Text"); comma, semicolon
or tab; CRLF or LF; quoted cells may hold line breaks. Columns in any order. What the columns are, and what may stand
in them, is their table's (locations_csv, wiremap_csv).
"""

import csv
import io
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_DELIMITERS = ",;\t"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How .xlsx and .xls begin."""
_BEGINNING = 4
"""Characters: in UTF-16, every second byte of a header's first two letters is a zero."""
_PROGRESS_EVERY = 500
"""Rows from one word of progress to the next."""

ColumnNamed = Callable[[str], str]
"""The column of a name as written; raises ValueError for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvProblem:
    """One mistake: `line` and `column` count from 1, the latter in cells; `name` is the column's, if any."""

    line: int
    column: int
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.name + ': ' if self.name else ''}{self.what}"


class CsvError(ValueError):
    """The file is not usable; `problems` has all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[CsvProblem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))


_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-](?![0-9.]*$))")
"""What a spreadsheet takes for a formula; a number with its sign is none. After apostrophes it gets one more."""
_GUARDED = re.compile(r"'+(?:[=@\t\r]|[+-](?![0-9.]*$))")


def records(data: bytes, column_named: ColumnNamed, problems: list[CsvProblem]) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each record that is not blank, the header first.

    A broken quotation ends the file with a problem; so does a file without a header. Raises CsvError for what is
    no text.
    """
    text = _decoded(data)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, column_named), strict=True)
    is_empty = True
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            what = f"{error}; a cell in quotes ends with a quote, and a quote inside it is doubled (rest not read)"
            problems.append(_problem(line, 1, what))
            return
        if any(cell.strip() for cell in cells):
            is_empty = False
            yield line, [cell[1:] if _GUARDED.match(cell) else cell for cell in cells]
    if is_empty:
        problems.append(_problem(1, 1, "no header; the first line names the columns"))


def header_of(line: int, cells: list[str], column_named: ColumnNamed, problems: list[CsvProblem]) -> list[str]:
    """The columns in order; empty texts for those that are unknown or there twice, which are problems."""
    names: list[str] = []
    for column, cell in enumerate(cells, start=1):
        try:
            name = column_named(cell)
            if name in names:
                raise ValueError(f"column {name!r} is there twice, first as number {names.index(name) + 1}")
        except ValueError as error:
            problems.append(_problem(line, column, str(error)))
            name = ""
        names.append(name)
    return names


def has_every_cell(line: int, cells: list[str], header: list[str], problems: list[CsvProblem]) -> bool:
    """False, with a problem, where a record has more or fewer cells than columns."""
    if len(cells) == len(header):
        return True
    what = f"{len(cells)} cells, but {len(header)} columns"
    if len(cells) > len(header):
        what += "; put a cell that holds the delimiter in quotes"
    else:
        what += "; write the empty cells too"
    problems.append(_problem(line, min(len(cells), len(header)) + 1, what))
    return False


class KeyedRow(Protocol):
    """One row of a table in which each key stands once."""

    @property
    def line(self) -> int:
        """Where the row begins, from 1."""
        ...

    @property
    def key(self) -> str:
        """What the row is about."""
        ...

    @property
    def key_at(self) -> tuple[int, int, str]:
        """(line, column, name of the column) where a problem with the key is told."""
        ...


Row = TypeVar("Row", bound=KeyedRow)


class UniqueRows(Generic[Row]):
    """The rows of a file in its order, and all that is wrong with it; a key that comes again is a problem."""

    def __init__(self, progress: Callable[[int], None] | None = None) -> None:
        """`progress` is told the number of the line reached, now and then."""
        self.problems: list[CsvProblem] = []
        self._rows: list[Row] = []
        self._first_lines: dict[str, int] = {}
        self._progress = progress

    def add(self, row: Row | None) -> None:
        """Take the next row; None for one that could not be read, whose problem is noted already."""
        if row is None:
            return
        if first := self._first_lines.get(row.key):
            line, column, name = row.key_at
            what = f"{row.key!r} is already on line {first}; keep one"
            self.problems.append(CsvProblem(line=line, column=column, name=name, what=what))
        self._first_lines.setdefault(row.key, row.line)
        self._rows.append(row)
        if self._progress is not None and len(self._rows) % _PROGRESS_EVERY == 0:
            self._progress(row.line)

    def all(self) -> list[Row]:
        """Every row. Raises CsvError where the file has a problem."""
        if self.problems:
            raise CsvError(self.problems)
        return self._rows


def read_table(
    data: bytes,
    column_named: ColumnNamed,
    header_fits: Callable[[int, list[str], list[CsvProblem]], bool],
    read_row: Callable[[int, Mapping[str, int], list[str], list[CsvProblem]], Row | None],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """Every row of a table in which each key stands once.

    `header_fits` says whether rows can be read with the columns of (line, names, problems); `read_row` makes the row
    of (line, number of each column, cells, problems). Raises CsvError with all problems.
    """
    rows: UniqueRows[Row] = UniqueRows(progress)
    header: list[str] | None = None
    columns: dict[str, int] = {}
    for line, cells in records(data, column_named, rows.problems):
        if header is None:
            header = header_of(line, cells, column_named, rows.problems)
            if not header_fits(line, header, rows.problems):
                break
            columns = {name: column for column, name in enumerate(header, start=1) if name}
        elif has_every_cell(line, cells, header, rows.problems):
            rows.add(read_row(line, columns, cells, rows.problems))
    return rows.all()


def written(rows: Iterable[Iterable[str | float]]) -> Iterator[str]:
    """The lines of a CSV file of these rows, the header first.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which `records` takes away again:
    phones and users fill these cells, and others open the file.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _decoded(data: bytes) -> str:
    # What is not of the encoding becomes U+FFFD, which no cell may hold: the problem then has its line and column.
    if data.startswith(_WORKBOOKS):
        raise CsvError([_problem(1, 1, "an Excel workbook, not CSV; save its sheet as CSV UTF-8")])
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        text = data.decode("utf_16", errors="replace")
    else:
        text = data.removeprefix(BOM_UTF8).decode("utf-8", errors="replace")
    if "\0" in text[:_BEGINNING]:
        raise CsvError([_problem(1, 1, "UTF-16 without a byte order mark, or no text; save the file as CSV UTF-8")])
    return text


def _delimiter(text: str, column_named: ColumnNamed) -> str:
    """The one that cuts the header into the most known columns; a comma where none does better."""

    def is_column(cell: str) -> bool:
        try:
            column_named(cell)
        except ValueError:
            return False
        return True

    def known_columns(delimiter: str) -> int:
        lines = io.StringIO(text, newline="")
        try:
            header = next((row for row in csv.reader(lines, delimiter=delimiter) if any(row)), [])
        except csv.Error:
            return 0
        return sum(1 for cell in header if is_column(cell))

    return max(_DELIMITERS, key=known_columns)  # max keeps the first of equals


def _problem(line: int, column: int, what: str) -> CsvProblem:
    return CsvProblem(line=line, column=column, name="", what=what)
