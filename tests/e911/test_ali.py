"""ALI records: every field at its position, nothing cut, what was written is read, changes and nothing else."""

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e911.ali import (
    AliEntry,
    AliError,
    AliHeader,
    AliRecord,
    FunctionCode,
    Variant,
    ali_text,
    changes,
    format_file,
    read_file,
)

GOLDEN = Path(__file__).parent.parent / "data" / "ali"
HEADER = AliHeader(company="EXAMPLE CORP", cycle=42, date="20300115", county_id="0061", state="NY")
DESK = AliRecord(
    number="2125550142",
    house_number="350",
    house_number_suffix="1/2",
    prefix_directional="N",
    street_name="5TH",
    street_suffix="AVE",
    post_directional="W",
    community="NEW YORK",
    state="NY",
    location="BLDG NORTH FLR 3 RM 312",
    customer_name="HEAD OFFICE",
    class_of_service="4",
    type_of_service="8",
    exchange="NYC1",
    esn="00123",
    main_number="2125550100",
    order_number="A1",
    county_id="0061",
    company_id="EXMPL",
    postal_code="10118",
    postal_code_extension="0001",
    general_use="GENERAL",
    customer_code="CC1",
    comments="COMMENT",
    x_coordinate="-73.98570",
    y_coordinate="40.748400",
    z_coordinate="12",
    cell_id="CELL1",
    sector_id="S",
    tar_code="TAR001",
    alt_number="2125550143",
)
POSITIONS = {
    "2-4": "212",
    "5-11": "5550142",
    "12-21": "350",
    "22-25": "1/2",
    "26-27": "N",
    "28-87": "5TH",
    "88-91": "AVE",
    "92-93": "W",
    "94-125": "NEW YORK",
    "126-127": "NY",
    "128-187": "BLDG NORTH FLR 3 RM 312",
    "188-219": "HEAD OFFICE",
    "220-220": "4",
    "221-221": "8",
    "222-225": "NYC1",
    "226-230": "00123",
    "231-233": "212",
    "234-240": "5550100",
    "241-250": "A1",
    "251-256": "011530",
    "257-260": "0061",
    "261-265": "EXMPL",
    "266-266": "C",
    "267-271": "10118",
    "272-275": "0001",
    "276-286": "GENERAL",
    "287-289": "CC1",
    "290-319": "COMMENT",
    "320-328": "-73.98570",
    "329-337": "40.748400",
    "338-342": "12",
    "343-348": "CELL1",
    "349-349": "S",
    "350-355": "TAR001",
    "356-376": "",
    "377-386": "2125550143",
    "387-394": "20300115",
    "395-511": "",
    "512-512": "*",
}


def at(line: str, positions: str) -> str:
    first, _, last = positions.partition("-")
    return line[int(first) - 1 : int(last)].rstrip(" ")


@pytest.mark.parametrize("function", list(FunctionCode))
def test_every_field_is_at_its_position(function: FunctionCode) -> None:
    text = format_file(HEADER, [AliEntry(function, DESK)], source_id="C")
    header, line, trailer, end = text.split("\r\n")
    assert end == ""
    assert {len(one) for one in (header, line, trailer)} == {512}
    assert line[0] == function.value
    assert {positions: at(line, positions) for positions in POSITIONS} == POSITIONS
    wanted = {
        "1-5": "UHL",
        "6-11": "011530",
        "12-61": "EXAMPLE CORP",
        "62-67": "000042",
        "68-71": "0061",
        "72-73": "NY",
        "74-97": "",
        "98-105": "20300115",
        "106-511": "",
        "512-512": "*",
    }
    assert {positions: at(header, positions) for positions in wanted} == wanted
    wanted = {
        "1-5": "UTL",
        "6-11": "011530",
        "12-61": "EXAMPLE CORP",
        "62-70": "000000001",
        "71-78": "20300115",
        "79-511": "",
        "512-512": "*",
    }
    assert {positions: at(trailer, positions) for positions in wanted} == wanted


def test_the_variant_with_the_century_apart() -> None:
    line = format_file(HEADER, [AliEntry(FunctionCode.INSERT, DESK)], variant=Variant.CENTURY, fill=" ").split("\r\n")
    assert (line[1][386:394], line[1][394:399], line[1][319:337]) == (" " * 8, "   20", " " * 18)
    assert line[0][61:67] == "    42"
    assert line[2][61:70] == "        1"


@pytest.mark.parametrize("name", ["standard", "century"])
def test_the_golden_files(name: str) -> None:
    entries = [
        AliEntry(FunctionCode.INSERT, DESK),
        AliEntry(FunctionCode.CHANGE, replace(DESK, number="2125550143", location="RM 7")),
        AliEntry(FunctionCode.DELETE, replace(DESK, number="2125550144")),
        AliEntry(FunctionCode.UNLOCK, replace(DESK, number="2125550145")),
        AliEntry(
            FunctionCode.MIGRATE,
            AliRecord(
                number="5145550146",
                house_number="1200",
                street_name="EXAMPLE",
                street_suffix="ST",
                community="MONTREAL",
                state="QC",
                class_of_service="V",
                postal_code="H3B2Y",
                postal_code_extension="5",
            ),
        ),
    ]
    text = format_file(HEADER, entries, variant=Variant(name))
    path = GOLDEN / f"{name}.ali"
    if os.environ.get("EDGE911_RENEW_EXPECTED") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("ascii"))
    assert text.encode("ascii") == path.read_bytes()


def texts(most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet="ABCZ 019-/.'&", max_size=most).map(ali_text)


LENGTHS = {
    "house_number": 10,
    "house_number_suffix": 4,
    "prefix_directional": 2,
    "street_name": 60,
    "street_suffix": 4,
    "post_directional": 2,
    "community": 32,
    "state": 2,
    "location": 60,
    "customer_name": 32,
    "class_of_service": 1,
    "type_of_service": 1,
    "exchange": 4,
    "esn": 5,
    "order_number": 10,
    "county_id": 4,
    "company_id": 5,
    "postal_code": 5,
    "postal_code_extension": 4,
    "general_use": 11,
    "customer_code": 3,
    "comments": 30,
    "x_coordinate": 9,
    "y_coordinate": 9,
    "z_coordinate": 5,
    "cell_id": 6,
    "sector_id": 1,
    "tar_code": 6,
    "alt_number": 10,
}
NUMBERS = st.from_regex(r"\A[2-9][0-9]{9}\Z")
RECORDS = st.builds(
    AliRecord,
    number=NUMBERS,
    main_number=st.one_of(st.just(""), NUMBERS),
    **{name: texts(most) for name, most in LENGTHS.items()},
)
ENTRIES = st.lists(st.builds(AliEntry, st.sampled_from(FunctionCode), RECORDS), max_size=4)


@settings(max_examples=30)
@given(ENTRIES, st.sampled_from(["0", " "]), st.sampled_from(["\r\n", "\n"]), st.integers(1, 999_999))
def test_what_was_written_is_read(entries: list[AliEntry], fill: str, end: str, cycle: int) -> None:
    header = replace(HEADER, cycle=cycle)
    found = read_file(format_file(header, entries, fill=fill).replace("\r\n", end))
    assert found.header == header
    assert list(found.entries) == entries


def test_every_field_of_a_record_is_tried() -> None:
    assert set(LENGTHS) | {"number", "main_number"} == {field.name for field in fields(AliRecord)}


@pytest.mark.parametrize(("name", "most"), LENGTHS.items())
def test_what_does_not_fit_is_refused_with_its_name(name: str, most: int) -> None:
    entry = AliEntry(FunctionCode.INSERT, replace(DESK, **{name: "X" * (most + 1)}))
    with pytest.raises(AliError, match=rf"2125550142: {name} is {most + 1} characters, {most} is the most"):
        format_file(HEADER, [entry])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"number": "212555014"}, "ten digits"),
        ({"number": "1125550142"}, "ten digits"),
        ({"main_number": "1"}, "main_number"),
        ({"street_name": "RUE ÉLAN"}, "no ALI record can hold"),
        ({"location": "A*B"}, "no ALI record can hold"),
    ],
)
def test_what_no_record_can_hold(change: dict[str, str], words: str) -> None:
    with pytest.raises(AliError, match=words):
        format_file(HEADER, [AliEntry(FunctionCode.INSERT, replace(DESK, **change))])


@pytest.mark.parametrize("cycle", [0, 1_000_000])
def test_a_counter_that_is_none(cycle: int) -> None:
    with pytest.raises(AliError, match="cycle counter"):
        format_file(replace(HEADER, cycle=cycle), [])


GOOD = format_file(HEADER, [AliEntry(FunctionCode.INSERT, DESK)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no ALI file"),
        (GOOD.replace("UHL", "XXX"), "line 1: begins with 'XXX'"),
        (GOOD.replace("UTL", "XXX"), "line 3: begins with 'XXX'"),
        (GOOD.replace("000000001", "000000002"), "line 3: the trailer counts"),
        (GOOD.replace("000042", "00004X"), "line 1: cycle counter"),
        (GOOD.replace("I212", "Q212"), "line 2: function code 'Q'"),
        (GOOD.replace("I212", "IA12"), "line 2: number"),
        (GOOD.replace("5TH", "5T"), "line 2: 511 characters"),
        (GOOD.replace("*\r\nUTL", "X\r\nUTL"), "line 2: position 512"),
    ],
)
def test_a_file_that_is_none_says_where(text: str, words: str) -> None:
    with pytest.raises(AliError, match=words):
        read_file(text)


@given(st.text(max_size=600))
def test_no_text_breaks_the_reading(text: str) -> None:
    with pytest.raises(AliError):
        read_file(text)


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("du Sacré-Cœur", "DU SACRE-COEUR"),
        ("de l\u2019Église", "DE L'EGLISE"),
        ("12½", "12 1/2"),
        ("½", "1/2"),
        ("Rue A\u2013B", "RUE A-B"),
        ("Straße \u2603 7", "STRASSE 7"),
    ],
)
def test_no_letter_of_an_address_is_lost(text: str, stands: str) -> None:
    """½ as 12, or Sacré-Cœur as SACRE-CUR, is another address."""
    assert ali_text(text) == stands


def test_only_what_changed() -> None:
    same, changed, gone, new = (replace(DESK, number=f"212555014{n}") for n in range(4))
    moved = replace(changed, location="RM 9")
    found = changes(
        {one.number: one for one in (same, moved, new)}, {one.number: one for one in (same, changed, gone)}
    )
    assert found == [
        AliEntry(FunctionCode.CHANGE, moved),
        AliEntry(FunctionCode.DELETE, gone),
        AliEntry(FunctionCode.INSERT, new),
    ]


def test_numbers_that_were_ported() -> None:
    came, left = DESK, replace(DESK, number="2125550149")
    wanted = {one.number: one for one in (came, left)}
    found = changes(
        wanted, {left.number: left}, ported_in=frozenset({came.number}), ported_out=frozenset({left.number})
    )
    assert found == [AliEntry(FunctionCode.MIGRATE, came), AliEntry(FunctionCode.UNLOCK, left)]


@settings(max_examples=30)
@given(st.dictionaries(NUMBERS, RECORDS, max_size=4), st.dictionaries(NUMBERS, RECORDS, max_size=4))
def test_the_changes_lead_from_one_to_the_other(wanted: dict[str, AliRecord], accepted: dict[str, AliRecord]) -> None:
    held = dict(accepted)
    for entry in changes(
        {number: replace(one, number=number) for number, one in wanted.items()},
        {number: replace(one, number=number) for number, one in accepted.items()},
    ):
        if entry.function is FunctionCode.DELETE:
            assert held.pop(entry.record.number, None) is not None
        else:
            assert (entry.record.number in held) is (entry.function is FunctionCode.CHANGE)
            held[entry.record.number] = entry.record
    assert held.keys() == wanted.keys()
