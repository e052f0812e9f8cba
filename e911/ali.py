"""ALI records for data exchange with a database operator: NENA 02-010 version 2.1, 512 bytes each, as text.

Positions are those of the standard, counted from 1. Text is upper-case ASCII, left aligned and filled with blanks;
each record ends with `*`, each line with CR LF. What does not fit is refused with its field's name, never cut: an
address that lost its end sends help elsewhere. Written and read by the same table, so that what was read is what was
written.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from e911.ascii_text import as_ascii

LENGTH: Final = 512
LINE_END: Final = "\r\n"
LAST_CYCLE: Final = 999_999


class AliError(ValueError):
    """A record or file that is none; the text names line, field and remedy."""


class FunctionCode(StrEnum):
    """What is to be done with a record."""

    INSERT = "I"
    CHANGE = "C"
    DELETE = "D"
    UNLOCK = "U"
    """The number leaves us: who takes it over may put a record of theirs."""
    MIGRATE = "M"
    """The number comes to us: the record that its old provider unlocked becomes ours."""


class Variant(StrEnum):
    """How the dates are written."""

    STANDARD = "standard"
    CENTURY = "century"
    """Some operators want no expanded extract date and no coordinates, and the century in positions 398-399."""


class _Field(NamedTuple):
    name: str
    start: int
    length: int


_FIELDS: Final = tuple(
    _Field(*field)
    for field in (
        ("function", 1, 1),
        ("npa", 2, 3),
        ("calling_number", 5, 7),
        ("house_number", 12, 10),
        ("house_number_suffix", 22, 4),
        ("prefix_directional", 26, 2),
        ("street_name", 28, 60),
        ("street_suffix", 88, 4),
        ("post_directional", 92, 2),
        ("community", 94, 32),
        ("state", 126, 2),
        ("location", 128, 60),
        ("customer_name", 188, 32),
        ("class_of_service", 220, 1),
        ("type_of_service", 221, 1),
        ("exchange", 222, 4),
        ("esn", 226, 5),
        ("main_npa", 231, 3),
        ("main_number", 234, 7),
        ("order_number", 241, 10),
        ("extract_date", 251, 6),
        ("county_id", 257, 4),
        ("company_id", 261, 5),
        ("source_id", 266, 1),
        ("postal_code", 267, 5),
        ("postal_code_extension", 272, 4),
        ("general_use", 276, 11),
        ("customer_code", 287, 3),
        ("comments", 290, 30),
        ("x_coordinate", 320, 9),
        ("y_coordinate", 329, 9),
        ("z_coordinate", 338, 5),
        ("cell_id", 343, 6),
        ("sector_id", 349, 1),
        ("tar_code", 350, 6),
        ("alt_number", 377, 10),
        ("expanded_extract_date", 387, 8),
        ("century", 395, 5),
    )
)
"""Reserved: 356-376, 400-480 (NENA), 481-511 (the database operator)."""
_BY_NAME: Final = {field.name: field for field in _FIELDS}
_OF_RECORD: Final = tuple(
    name
    for name in _BY_NAME
    if name
    not in (
        *("function", "npa", "calling_number", "main_npa", "main_number", "extract_date"),
        *("expanded_extract_date", "century", "source_id"),
    )
)
"""Fields of AliRecord that stand in the line as they are."""
_ASCII = re.compile(r"[ -)+-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class AliRecord:
    """One record, without what the file adds (function, dates). Numbers have ten digits; other texts are as they
    stand in the line, without the blanks after them."""

    number: str
    house_number: str = ""
    house_number_suffix: str = ""
    prefix_directional: str = ""
    street_name: str = ""
    street_suffix: str = ""
    post_directional: str = ""
    community: str = ""
    state: str = ""
    location: str = ""
    customer_name: str = ""
    class_of_service: str = ""
    type_of_service: str = ""
    exchange: str = ""
    esn: str = ""
    main_number: str = ""
    order_number: str = ""
    county_id: str = ""
    company_id: str = ""
    postal_code: str = ""
    postal_code_extension: str = ""
    general_use: str = ""
    customer_code: str = ""
    comments: str = ""
    x_coordinate: str = ""
    y_coordinate: str = ""
    z_coordinate: str = ""
    cell_id: str = ""
    sector_id: str = ""
    tar_code: str = ""
    alt_number: str = ""


class AliEntry(NamedTuple):
    """A record of a file, and what is to be done with it."""

    function: FunctionCode
    record: AliRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AliHeader:
    """What the first record of a file says. date is YYYYMMDD."""

    company: str
    cycle: int
    date: str
    county_id: str = ""
    state: str = ""
    general_use: str = ""
    release: str = ""
    format_version: str = ""


@dataclass(frozen=True, slots=True)
class AliFile:
    """A whole file."""

    header: AliHeader
    entries: tuple[AliEntry, ...]


def ali_text(text: str) -> str:
    """Text as it may stand in a record: upper case, ASCII, one blank between words; what has no ASCII form goes."""
    plain = as_ascii(text).upper().replace("*", " ")
    return " ".join("".join(char if " " <= char <= "~" else " " for char in plain).split())


def check_record(record: AliRecord) -> None:
    """Raise AliError where a record could not be written: a text that is too long, or a number that is none."""
    if not re.fullmatch(r"[2-9]\d{9}", record.number):
        raise AliError(f"number {record.number!r} has not ten digits; ALI knows numbers of North America only")
    if record.main_number and not re.fullmatch(r"[2-9]\d{9}", record.main_number):
        raise AliError(f"{record.number}: main_number {record.main_number!r} has not ten digits")
    for name in _OF_RECORD:
        value = getattr(record, name)
        most = _BY_NAME[name].length
        if len(value) > most:
            raise AliError(
                f"{record.number}: {name} is {len(value)} characters, {most} is the most: {value!r}; shorten it"
            )
        if not _ASCII.fullmatch(value):
            raise AliError(f"{record.number}: {name} {value!r} has characters that no ALI record can hold")


def format_file(
    header: AliHeader,
    entries: Sequence[AliEntry],
    *,
    variant: Variant = Variant.STANDARD,
    fill: str = "0",
    source_id: str = "",
) -> str:
    """The file: header, records, trailer. fill stands before the cycle counter and the count (`0` or a blank).
    source_id: C in an initial load. Raises AliError."""
    lines = [_header_line(header, fill)]
    lines += [_record_line(entry, header.date, variant, source_id) for entry in entries]
    lines.append(_trailer_line(header, len(entries), fill))
    return "".join(line + LINE_END for line in lines)


def _record_line(entry: AliEntry, date: str, variant: Variant, source_id: str) -> str:
    record = entry.record
    check_record(record)
    values = {name: getattr(record, name) for name in _OF_RECORD}
    values |= {
        "function": entry.function.value,
        "npa": record.number[:3],
        "calling_number": record.number[3:],
        "main_npa": record.main_number[:3],
        "main_number": record.main_number[3:],
        "extract_date": _short(date),
        "source_id": source_id,
    }
    if variant is Variant.CENTURY:
        values |= {"x_coordinate": "", "y_coordinate": "", "century": f"   {date[:2]}"}
    else:
        values["expanded_extract_date"] = date
    return _line({_BY_NAME[name]: value for name, value in values.items()})


_HEADER: Final = tuple(
    _Field(*field)
    for field in (
        ("mark", 1, 5),
        ("extract_date", 6, 6),
        ("company", 12, 50),
        ("cycle", 62, 6),
        ("county_id", 68, 4),
        ("state", 72, 2),
        ("general_use", 74, 20),
        ("release", 94, 3),
        ("format_version", 97, 1),
        ("expanded_extract_date", 98, 8),
    )
)
_TRAILER: Final = tuple(
    _Field(*field)
    for field in (
        ("mark", 1, 5),
        ("extract_date", 6, 6),
        ("company", 12, 50),
        ("count", 62, 9),
        ("expanded_extract_date", 71, 8),
    )
)


def _header_line(header: AliHeader, fill: str) -> str:
    if not 1 <= header.cycle <= LAST_CYCLE:
        raise AliError(f"cycle counter {header.cycle} is not between 1 and {LAST_CYCLE}")
    values = {
        "mark": "UHL",
        "extract_date": _short(header.date),
        "cycle": str(header.cycle).rjust(6, fill),
        "expanded_extract_date": header.date,
        **{name: getattr(header, name) for name in _OF_HEADER},
    }
    return _line({field: values[field.name] for field in _HEADER})


_OF_HEADER: Final = ("company", "county_id", "state", "general_use", "release", "format_version")


def _trailer_line(header: AliHeader, count: int, fill: str) -> str:
    values = {
        "mark": "UTL",
        "extract_date": _short(header.date),
        "company": header.company,
        "count": str(count).rjust(9, fill),
        "expanded_extract_date": header.date,
    }
    return _line({field: values[field.name] for field in _TRAILER})


def _line(values: dict[_Field, str]) -> str:
    line = [" "] * LENGTH
    for field, value in values.items():
        if len(value) > field.length:
            raise AliError(f"{field.name} is {len(value)} characters, {field.length} is the most: {value!r}")
        line[field.start - 1 : field.start - 1 + len(value)] = value
    line[LENGTH - 1] = "*"
    return "".join(line)


def _short(date: str) -> str:
    """YYYYMMDD as MMDDYY."""
    return date[4:] + date[2:4]


# ---- reading ----


def read_file(text: str) -> AliFile:
    """The file in a text; lines may end with CR LF or LF. Raises AliError with line and field."""
    lines = text.split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    while lines and lines[-1] in ("", "\x1a"):
        lines.pop()
    if len(lines) < 2:
        raise AliError("no ALI file: it has fewer than two lines, and begins with UHL and ends with UTL")
    for number, line in enumerate(lines, 1):
        if len(line) != LENGTH:
            raise AliError(f"line {number}: {len(line)} characters, and each record has {LENGTH}")
        if line[-1] != "*":
            raise AliError(f"line {number}: position 512 is {line[-1]!r}, and each record ends with *")
    header = _read_header(lines[0])
    entries = tuple(_read_record(number, line) for number, line in enumerate(lines[1:-1], 2))
    _check_trailer(lines[-1], len(entries), len(lines))
    return AliFile(header, entries)


def _value(line: str, field: _Field) -> str:
    return line[field.start - 1 : field.start - 1 + field.length].rstrip(" ")


def _read_header(line: str) -> AliHeader:
    values = {field.name: _value(line, field) for field in _HEADER}
    if values["mark"] != "UHL":
        raise AliError(f"line 1: begins with {values['mark']!r}, and a file begins with UHL")
    cycle = values["cycle"].strip()
    if not cycle.isdigit():
        raise AliError(f"line 1: cycle counter {cycle!r} is no number")
    date = values["expanded_extract_date"] or _long(values["extract_date"], "20")
    return AliHeader(cycle=int(cycle), date=date, **{name: values[name] for name in _OF_HEADER})


def _read_record(number: int, line: str) -> AliEntry:
    values = {field.name: _value(line, field) for field in _FIELDS}
    try:
        function = FunctionCode(values["function"])
    except ValueError:
        known = ", ".join(FunctionCode)
        raise AliError(f"line {number}: function code {values['function']!r}; there are {known}") from None
    calling, main = (values["npa"] + values["calling_number"], values["main_npa"] + values["main_number"])
    record = AliRecord(number=calling, main_number=main, **{name: values[name] for name in _OF_RECORD})
    try:
        check_record(record)
    except AliError as error:
        raise AliError(f"line {number}: {error}") from None
    return AliEntry(function, record)


def _check_trailer(line: str, count: int, number: int) -> None:
    values = {field.name: _value(line, field) for field in _TRAILER}
    if values["mark"] != "UTL":
        raise AliError(f"line {number}: begins with {values['mark']!r}, and a file ends with UTL")
    written = values["count"].strip()
    if not written.isdigit() or int(written) != count:
        raise AliError(f"line {number}: the trailer counts {written!r} records, and there are {count}")


def _long(date: str, century: str) -> str:
    return f"{century}{date[4:]}{date[:4]}" if len(date) == 6 else ""


# ---- what changed ----


def changes(
    wanted: dict[str, AliRecord],
    accepted: dict[str, AliRecord],
    *,
    ported_in: frozenset[str] = frozenset(),
    ported_out: frozenset[str] = frozenset(),
) -> list[AliEntry]:
    """What a file must say so that the operator's records become those that are wanted, by number.

    accepted are the operator's records as far as known. A number that was ported in is migrated, one that was ported
    out unlocked, in place of being inserted or deleted.
    """
    found = []
    for number in sorted(wanted.keys() | accepted.keys()):
        new, old = wanted.get(number), accepted.get(number)
        if number in ported_out:
            if old is not None:
                found.append(AliEntry(FunctionCode.UNLOCK, old))
        elif new is None:
            assert old is not None  # it is in one of the two
            found.append(AliEntry(FunctionCode.DELETE, old))
        elif old is None:
            found.append(AliEntry(FunctionCode.MIGRATE if number in ported_in else FunctionCode.INSERT, new))
        elif new != old:
            found.append(AliEntry(FunctionCode.CHANGE, new))
    return found
