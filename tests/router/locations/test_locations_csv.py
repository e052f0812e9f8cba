"""CSV of registered devices: what is understood, and every mistake by its line and column."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.location import CIVIC_FIELDS, CivicAddress, Device, DeviceKind, GeoPoint
from router.locations.location_cells import MAX_TEXT, Places
from router.locations.locations_csv import merged_problems, read_rows, written_rows
from router.process.csv_table import CsvError, CsvProblem
from router.store.devices import COLUMNS, from_columns

PLACES: Places = {"hq": frozenset({"hq-3e", "hq-1"}), "mtl": frozenset()}


def values(text: str | bytes) -> list[dict[str, object]]:
    data = text.encode() if isinstance(text, str) else text
    return [dict(row.values) for row in read_rows(data, PLACES)]


def problems(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(CsvError) as caught:
        read_rows(data, PLACES)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        "device,name,floor\n4001,Lobby,3\n4002,,\n",
        "device,name,floor\r\n4001,Lobby,3\r\n4002,,",
        "\ufeffdevice,name,floor\n4001,Lobby,3\n4002,,\n",
        "device;name;floor\n4001;Lobby;3\n4002;;\n",
        "device\tname\tfloor\n4001\tLobby\t3\n4002\t\t\n",
        "\n Device ,NAME,Floor\n\n4001, Lobby ,3\n,,\n4002,,\n\n",
        '"device","name","floor"\n"4001","Lobby","3"\n"4002","",""\n',
    ],
)
def test_forms_of_the_same_file(text: str) -> None:
    assert values(text) == [
        {"device": "4001", "name": "Lobby", "floor": "3"},
        {"device": "4002", "name": "", "floor": ""},
    ]


def test_only_the_columns_of_the_file_are_given() -> None:
    assert values("Room,device\nEast wing,4001\n") == [{"room": "East wing", "device": "4001"}]
    assert values("device\n4001\n") == [{"device": "4001"}]
    assert values("device,name\n") == []


def test_headings_as_people_write_them() -> None:
    (row,) = values("Device,House Number,POSTAL-CODE,pre_directional\n4001,12,H2Y 1C6,N\n")
    assert row == {"device": "4001", "house_number": "12", "postal_code": "H2Y 1C6", "pre_directional": "N"}


def test_cells_become_what_the_store_holds() -> None:
    (row,) = values(
        "device,kind,callback,country,latitude,longitude\n"
        "sip:Alice@PBX.Example,Off Premises,(212) 555-0123,us,40.7484,-73.9857\n"
    )
    assert row == {
        "device": "alice@pbx.example",
        "kind": "off-premises",
        "callback": "+12125550123",
        "country": "US",
        "latitude": 40.7484,
        "longitude": -73.9857,
    }
    (row,) = values("device,kind,callback,latitude,longitude\n4001,,,,\n")
    assert row == {"device": "4001", "kind": "fixed", "callback": "", "latitude": None, "longitude": None}


def test_quoted_cells_hold_delimiters_quotes_and_line_breaks() -> None:
    (row,) = values('device,name,room\n4001,"Lobby, ""west""","East\r\nwing"\n')
    assert (row["name"], row["room"]) == ('Lobby, "west"', "East wing")


def test_the_semicolon_of_other_languages_leaves_commas_alone() -> None:
    (row,) = values("device;name;additional\n4001;Roy, Alice;a,b,c\n")
    assert (row["name"], row["additional"]) == ("Roy, Alice", "a,b,c")


def test_every_problem_is_told_with_line_and_column() -> None:
    assert problems(
        "device,name,kind,callback,site,zone,country,latitude,longitude\n"
        "4001,ok,fixed,+12125550123,hq,hq-3e,US,1,2\n"
        ",no device,,,,,,,\n"
        "4001,twice,,,,,,,\n"
        "4002,,desk,4002,hqq,hq-3e,USA,91,200\n"
        '4003,"two\nlines",,,,hq-3e,,,\n'
        "4004,,,,mtl,hq-3e,,1,\n"
        "4005,,,,,,,,1.5\n"
        "4006,,,,,,,,,extra\n"
        "4007,short\n"
        "4008,a\x07b,,,,,,,\n"
        f"4009,{'x' * (MAX_TEXT + 1)},,,,,,,\n"
        '4010,,,,,,,"40,7",1\n'
    ) == [
        "3:1: device: missing device; every row names its phone's number, user or address of record",
        "4:1: device: '4001' is already on line 2; keep one",
        "5:3: kind: 'desk' is not a kind; write fixed, nomadic, softphone, off-premises",
        "5:4: callback: '4002' is not a number a PSAP can call back; write +12125550123",
        "5:5: site: no site 'hqq' in the configuration; did you mean hq?",
        "5:7: country: 'USA' is not a country of two letters (ISO 3166-1); write US or CA",
        "5:8: latitude: 91 is not between -90 and 90 degrees",
        "5:9: longitude: 200 is not between -180 and 180 degrees",
        "6:6: zone: zone 'hq-3e' needs a site",
        "8:6: zone: no zone 'hq-3e' in site 'mtl'",
        "8:9: longitude: latitude without longitude; give both, or clear both",
        "9:8: latitude: longitude without latitude; give both, or clear both",
        "10:10: 10 cells, but 9 columns; put a cell that holds the delimiter in quotes",
        "11:3: 2 cells, but 9 columns; write the empty cells too",
        "12:2: name: control or invisible character U+0007 at character 2; take it out",
        "13:2: name: 201 characters; 200 is the most",
        "14:8: latitude: '40,7' is not a number; write degrees with a point, such as 40.7484 or -73.9857",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: no header; the first line names the columns"),
        ("\n\n", "1:1: no header; the first line names the columns"),
        ("name,floor\nx,y\n", "1:1: no column `device`; it names each row's phone"),
        ("device,flor\n4001,3\n", "1:2: unknown column 'flor'; did you mean floor?"),
        ("device,\n4001,\n", "1:2: a column without a name; name it or take it out"),
        ("device,name,Name\n4001,a,b\n", "1:3: column 'name' is there twice, first as number 2"),
        (
            "device,latitude\n4001,1\n",
            "1:2: latitude: a column latitude without a column longitude; give both",
        ),
        (
            "device,name\n4001,\u200bx\n",
            "2:2: name: control or invisible character U+200B at character 1; take it out",
        ),
        (
            "device\n1.21256E+11\n",
            "2:1: device: '1.21256E+11' is a number a spreadsheet has shortened; format the column as text",
        ),
        (
            "device\nRoom 204\n",
            "2:1: device: 'Room 204' is neither a number nor a user: there is a space in it",
        ),
        ("device,callback\n4001,911\n", "2:2: callback: '911' is not a number a PSAP can call back; "),
        ("device,latitude,longitude\n4001,0,0.0\n", "2:2: latitude: 0 0 is no position of a phone; "),
        ("device,latitude,longitude\n4001,nan,0\n", "2:2: latitude: 'nan' is not a number; "),
        ("device,latitude,longitude\n4001,1e400,0\n", "2:2: latitude: 1e400 is not between "),
    ],
)
def test_single_problems(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_two_spellings_of_one_device_are_twice_the_same() -> None:
    (problem,) = problems("device\n+12125550123\n4001\n(212) 555-0123\n")
    assert problem == "4:1: device: '+12125550123' is already on line 2; keep one"


def test_a_file_in_another_encoding_names_its_lines() -> None:
    assert problems("device,city\n4001,Montréal\n4002,ok\n4003,Québec\n".encode("latin-1")) == [
        "2:2: city: 'Montr\ufffdal' is not UTF-8; save the file as CSV UTF-8",
        "4:2: city: 'Qu\ufffdbec' is not UTF-8; save the file as CSV UTF-8",
    ]
    assert problems("device,numéro\n4001,1\n".encode("latin-1")) == [
        "1:2: 'num\ufffdro' is not UTF-8; save the file as CSV UTF-8"
    ]


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_a_file_that_excel_saves_as_unicode_text_is_read(order: str) -> None:
    text = "\ufeffdevice\tcity\tname\n4001\tMontréal\t"
    (row,) = read_rows(f"{text}Accueil 😀\n".encode(order), PLACES)
    assert (row.device, row.values["city"], row.values["name"]) == ("4001", "Montréal", "Accueil 😀")
    (problem,) = problems(f"{text}\ud83d\n".encode(order, errors="surrogatepass"))
    assert problem.startswith("2:3: name: ")
    (problem,) = problems(text[1:].encode(order))
    assert problem == "1:1: UTF-16 without a byte order mark, or no text; save the file as CSV UTF-8"


def test_a_workbook_is_no_csv_file() -> None:
    for begins in (b"PK\x03\x04\x14\x00", bytes.fromhex("d0cf11e0a1b11ae1")):
        (problem,) = problems(begins + bytes(range(256)))
        assert problem == "1:1: an Excel workbook, not CSV; save its sheet as CSV UTF-8"


def test_a_quotation_that_does_not_end_is_a_problem_beside_the_others() -> None:
    found = problems('device,kind\n4001,desk\n4002,"fixed\n4003,fixed\n')
    assert found[0].startswith("2:2: kind: 'desk' is not a kind")
    assert found[1].startswith("3:1: unexpected end of data")


def test_the_line_of_a_row_after_cells_of_several_lines_is_the_files() -> None:
    (problem,) = problems('device,name,kind\n4001,"a\nb\nc",fixed\n4002,d,desk\n')
    assert problem.startswith("5:3: ")


def test_what_is_stored_counts_for_columns_that_the_file_does_not_have() -> None:
    known = {
        "4001": from_columns({"device": "4001", "site": "hq", "zone": "hq-3e"}),
        "4002": from_columns({"device": "4002"}),
    }

    def found(text: str) -> list[str]:
        return [str(problem) for problem in merged_problems(read_rows(text.encode(), PLACES), known, PLACES)]

    assert found("device,zone\n4001,hq-1\n") == []
    assert found("device,zone\n4002,hq-1\n") == ["2:2: zone: zone 'hq-1' needs a site"]
    assert found("zone,device\nhq-1,4003\n") == ["2:1: zone: zone 'hq-1' needs a site"]
    assert found("device,site\n4001,mtl\n") == [
        "2:1: zone: no zone 'hq-3e' in site 'mtl' (that zone is stored; give zone too)"
    ]
    assert found("device,site,zone\n4001,mtl,\n") == []
    assert found("device,floor\n4001,4\n") == []


def test_progress_is_told() -> None:
    told: list[int] = []
    text = "device\n" + "".join(f"{n}\n" for n in range(1, 1201))
    read_rows(text.encode(), PLACES, progress=told.append)
    assert told == [501, 1001]


legal_text = (
    st.text(
        st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), exclude_characters="\ufffd"),
        max_size=MAX_TEXT,
    )
    .map(str.strip)
    .filter(lambda text: len(text) <= MAX_TEXT)
)
devices = st.builds(
    Device,
    device=st.from_regex(r"[a-z0-9]{1,8}(@[a-z0-9.-]{1,10})?", fullmatch=True),
    name=legal_text,
    kind=st.sampled_from(DeviceKind),
    aor=st.sampled_from(["", "nora@pbx.example"]),
    number=st.sampled_from(["", "+12125550123", "4102"]),
    mac=st.sampled_from(["", "000b821a2b3c"]),
    language=st.sampled_from(["", "fr"]),
    confirmed_at=st.sampled_from([0.0, 1_790_000_000.0, 1_790_000_000.25]),
    confirmed_by=legal_text,
    callback=st.sampled_from(["", "+12125550123", "+442079460123"]),
    site=st.sampled_from(["", "hq", "mtl"]),
    civic=st.builds(
        CivicAddress,
        country=st.sampled_from(["", "US", "CA"]),
        **{name: legal_text for name in CIVIC_FIELDS if name != "country"},
    ),
    point=st.none()
    | st.builds(GeoPoint, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180)).filter(
        lambda point: bool(point.latitude or point.longitude)
    ),
)


@given(st.lists(devices, max_size=6, unique_by=lambda device: device.device))
def test_what_is_written_reads_back_the_same(table: list[Device]) -> None:
    text = "".join(written_rows(table))
    rows = read_rows(text.encode(), PLACES)
    assert [from_columns(row.values) for row in rows] == sorted(table, key=lambda device: device.device)
    assert text.splitlines()[0].split(",") == list(COLUMNS)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_problems(data: bytes) -> None:
    found: tuple[CsvProblem, ...] = ()
    try:
        rows = read_rows(b"device,name\n" + data, PLACES)
    except CsvError as error:
        rows, found = [], error.problems
    assert all(row.device for row in rows)
    assert all(problem.line >= 2 and problem.column >= 1 for problem in found)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        assert found, "what is not UTF-8 never passes"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("'=x", "''=x"),
        ("-1", "-1"),
        ("+12125550123", "+12125550123"),
        ("'Ohana", "'Ohana"),
        ("A=1", "A=1"),
    ],
)
def test_a_cell_is_no_formula_for_a_spreadsheet_and_comes_back_as_it_was(text: str, cell: str) -> None:
    device = from_columns({"device": "4001", "site": "hq", "room": text})
    found = "".join(written_rows([device]))
    assert dict(zip(*csv.reader(io.StringIO(found)), strict=True))["room"] == cell
    assert values(found)[0]["room"] == text
