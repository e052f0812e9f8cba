"""`edge911 locations` as engineers use it, on SQLite files and a real PostgreSQL."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from router.locations import location_plan
from router.locations.location_plan import import_plan
from router.store.devices import COLUMNS, STATE_COLUMNS
from router.store.engine import open_store
from tests.support.commands import invoke

CONFIG = """
listen: ["udp://127.0.0.1:5060"]
trunks: {pbx: {target: "sip:192.0.2.10", side: inside}, ers: {target: "sip:192.0.2.31"}}
emergency:
  default: {site: hq}
  routes: [{name: primary, trunk: ers}]
locations: {database: "DATABASE"}
sites:
  - id: hq
    address: {country: US, state: NY, city: New York, house_number: "350", street: 5th}
    callback: "+12125550100"
    zones: [{id: hq-3e, floor: "3"}]
  - id: mtl
    address: {country: CA, state: QC, city: Montréal, house_number: "1", street: Rue Exemple}
    callback: "+15145550100"
"""


class Locations:
    """The command, with a configuration of this test."""

    def __init__(self, directory: Path, url: str) -> None:
        self.config = directory / "edge911.yaml"
        self.config.write_text(CONFIG.replace("DATABASE", url), encoding="utf-8")
        self.directory = directory
        self.url = url

    def __call__(self, command: str, *arguments: str, stdin: str | bytes = "") -> Result:
        line = ["locations", command, "-c", str(self.config), *arguments]
        return invoke(line, input=stdin)

    def file(self, text: str, name: str = "phones.csv") -> str:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def all(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self("list", "--json").stdout)
        return found


@pytest.fixture
def locations(tmp_path: Path, store_url: str) -> Locations:
    return Locations(tmp_path, store_url)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Locations:
    return Locations(tmp_path, "sqlite:///edge911.db")


def test_import_list_export_and_import_again(locations: Locations) -> None:
    file = locations.file(
        "device,name,site,zone,floor,latitude,longitude\n"
        '4001,"Lobby, west",hq,hq-3e,3,40.7484,-73.9857\n'
        "4002,Atelier Hélène,mtl,,,,\n"
    )
    result = locations("import", file)
    assert (result.exit_code, result.stdout) == (0, "2 devices: 2 new, 0 changed, 0 unchanged\n")
    first, second = locations.all()
    assert set(first) == {*COLUMNS, *STATE_COLUMNS, "not_dispatchable"}
    assert (first["name"], first["zone"], first["latitude"]) == ("Lobby, west", "hq-3e", 40.7484)
    assert (second["name"], second["site"], second["longitude"]) == ("Atelier Hélène", "mtl", None)
    exported = locations("export")
    assert exported.exit_code == 0
    assert exported.stdout.splitlines()[0] == ",".join(COLUMNS)
    again = locations("import", "-", stdin=exported.stdout)
    assert again.stdout == "2 devices: 0 new, 0 changed, 2 unchanged\n"
    assert locations("export", "-").stdout == exported.stdout
    target = locations.directory / "out.csv"
    assert locations("export", str(target)).exit_code == 0
    assert target.read_text(encoding="utf-8") == exported.stdout
    assert sorted(path.name for path in locations.directory.glob("*out.csv*")) == ["out.csv"]


def test_a_device_is_changed_while_an_import_compares_and_the_import_sees_it(
    locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations("set", "4001", "site=hq", "room=1")
    plans = 0

    def slow(*arguments: Any, **options: Any) -> Any:
        nonlocal plans
        plans += 1
        if plans == 1:  # somebody else, to whom nothing is locked
            assert locations("set", "4001", "room=17").exit_code == 0
        return import_plan(*arguments, **options)

    monkeypatch.setattr(location_plan, "import_plan", slow)
    done = locations("import", locations.file("device,name\n4001,Anna\n"))
    assert done.stdout == "1 device: 0 new, 1 changed, 0 unchanged\n"
    assert plans == 2
    assert [(one["name"], one["room"]) for one in locations.all()] == [("Anna", "17")]


def test_the_providers_ids_are_written_by_hand_and_shown_in_calls(locations: Locations) -> None:
    text = locations.config.read_text().replace("trunk: ers}", "trunk: ers, profile: telnyx}")
    locations.config.write_text(text)
    file = locations.file("device,site,zone,location_id,endpoint_id\n4001,hq,hq-3e,LOC-7,EP-7\n")
    assert locations("import", file).exit_code == 0
    explained = invoke(["explain", "4001", "911", "-c", str(locations.config)]).stdout
    assert "Geolocation: LOC-7" in explained
    assert "sip:EP-7@" in explained
    moved = locations("import", locations.file("device,room\n4001,312\n"), "--plan").stdout
    assert "location_id: LOC-7 → (empty)" in moved
    assert locations("set", "4001", "room=312", "location_id=LOC-8").exit_code == 0
    assert [(one["location_id"], one["endpoint_id"]) for one in locations.all()] == [("LOC-8", "")]
    assert (
        locations("import", "-", "--format", "yaml", stdin=locations("export", "--format", "yaml").stdout).exit_code
        == 0
    )
    refused = locations("set", "4001", "endpoint_id=sip:x@example.com")
    assert "is no provider's id; write letters, digits" in refused.stderr
    assert [(one["location_id"], one["endpoint_id"]) for one in locations.all()] == [("LOC-8", "")]


def test_an_absent_column_keeps_and_an_empty_cell_clears(locations: Locations) -> None:
    locations("import", locations.file("device,name,floor,room\n4001,Lobby,3,East\n"))
    result = locations("import", locations.file("device,room\n4001,\n4009,West\n"))
    assert result.stdout == "2 devices: 1 new, 1 changed, 0 unchanged\n"
    first, second = locations.all()
    assert (first["name"], first["floor"], first["room"]) == ("Lobby", "3", "")
    assert (second["device"], second["room"]) == ("4009", "West")


def test_one_wrong_row_and_nothing_changes(locations: Locations) -> None:
    locations("set", "4001", "name=Lobby")
    file = locations.file("device,name,site\n4001,Changed,hq\n4002,x,nowhere\n4003,y,hq,z\n")
    result = locations("import", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{file}:3:3: site: no site 'nowhere' in the configuration",
        f"{file}:4:4: 4 cells, but 3 columns; put a cell that holds the delimiter in quotes",
        f"edge911: {file}: 2 errors; nothing was changed",
    ]
    assert [device["name"] for device in locations.all()] == ["Lobby"]


def test_a_row_that_does_not_fit_what_is_stored_changes_nothing(locations: Locations) -> None:
    locations("set", "4001", "site=hq", "zone=hq-3e")
    result = locations("import", "-", stdin="device,site\n4000,hq\n4001,mtl\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("<stdin>:3:1: zone: no zone 'hq-3e' in site 'mtl'")
    assert [(device["device"], device["site"]) for device in locations.all()] == [("4001", "hq")]


@pytest.mark.long
def test_ten_thousand_devices(locations: Locations, monkeypatch: pytest.MonkeyPatch) -> None:
    nicer: list[int] = []
    monkeypatch.setattr(os, "nice", nicer.append)
    header = "device,name,site,floor\n"
    rows = [f"{n:05},Phone {n},hq,3\n" for n in range(10_000)]
    locations("import", locations.file(header + "".join(rows[:10])))
    rows[3] = rows[3].replace(",3\n", ",4\n")
    result = locations("import", locations.file(header + "".join(rows)))
    assert result.stdout == "10,000 devices: 9,990 new, 1 changed, 9 unchanged\n"
    assert nicer == [10], "calls on the same machine go before a long import"
    assert len(locations.all()) == 10_000


@pytest.mark.long
def test_imports_at_once_wait_for_each_other(locations: Locations) -> None:
    """Real processes, the first to open the database included; overlapping devices in opposite orders."""
    running = []
    for number in range(3):
        names = list(range(500))[:: -1 if number % 2 else 1]
        text = "device,name\n" + "".join(f"{n},by {number}\n" for n in names) + f"only-{number},x\n"
        line = [sys.executable, "-c", "from router.cli import main; main()", "locations", "import"]
        line += ["-c", str(locations.config), locations.file(text, f"{number}.csv")]
        running.append(subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    outcomes = [(*process.communicate(timeout=100), process.returncode) for process in running]
    assert [outcome[1:] for outcome in outcomes] == [("", 0)] * 3
    assert sum("501 new" in outcome[0] for outcome in outcomes) == 1
    assert sum(": 1 new, 500 changed" in outcome[0] for outcome in outcomes) == 2
    table = locations.all()
    assert len(table) == 503
    assert len({device["name"] for device in table if str(device["device"]).isdigit()}) == 1


def test_set_adds_changes_and_clears(locations: Locations) -> None:
    assert locations("set", "4001", "site=hq", "zone=hq-3e", "Room=East wing").stdout == "4001: new\n"
    assert locations("set", "4001", "room=", "longitude=-73.9", "latitude=40.7").stdout == "4001: changed\n"
    assert locations("set", "4001", "room=").stdout == "4001: unchanged\n"
    (device,) = locations.all()
    assert (device["site"], device["room"], device["longitude"]) == ("hq", "", -73.9)


def test_set_tells_every_mistake_and_changes_nothing(locations: Locations) -> None:
    locations("set", "4001", "site=hq", "zone=hq-3e")
    result = locations("set", "4001", "flor=3", "kind=desk", "callback", "site=hqq", "name=a", "name=b")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "edge911: 4001: flor: unknown column 'flor'; did you mean floor?",
        "edge911: 4001: kind: 'desk' is not a kind; write fixed, nomadic, softphone, off-premises",
        "edge911: 4001: callback: write KEY=VALUE",
        "edge911: 4001: site: no site 'hqq' in the configuration; did you mean hq?",
        "edge911: 4001: name: given twice",
    ]
    result = locations("set", "4001", "site=mtl", "latitude=1")
    assert result.exit_code == 1
    assert "zone: no zone 'hq-3e' in site 'mtl' (that zone is stored; give zone too)" in result.stderr
    assert "longitude: latitude without longitude" in result.stderr
    assert locations("set", "4001", "device=4002").exit_code == 1
    assert [(device["device"], device["site"]) for device in locations.all()] == [("4001", "hq")]


def test_remove_takes_all_or_none(locations: Locations) -> None:
    locations("import", "-", stdin="device\n4001\n4002\n+12125550123\n")
    result = locations("remove", "4001", "4999")
    assert result.exit_code == 1
    assert "4999: no such device" in result.stderr
    assert "nothing was removed" in result.stderr
    assert len(locations.all()) == 3
    assert locations("remove", "4001", "(212) 555-0123").stdout == "2 devices removed\n"
    assert [device["device"] for device in locations.all()] == ["4002"]


def test_list_filters_and_shows_whole_lines(on_sqlite: Locations) -> None:
    on_sqlite(
        "import",
        "-",
        stdin="device,name,site,floor,additional\n"
        f"4001,[bold]Lobby,hq,3,{'long ' * 30}end\n4002,Desk,mtl,1,\n4003,lobby 2,mtl,2,\n",
    )
    shown = on_sqlite("list").stdout
    assert "[bold]Lobby" in shown
    assert "long end" in shown
    assert shown.endswith("3 devices\n")
    shown = on_sqlite("list", "--site", "mtl", "LOBBY").stdout
    assert "4003" in shown
    assert "4001" not in shown
    assert "4002" not in shown
    assert shown.endswith("1 device of 3\n")
    assert [d["device"] for d in json.loads(on_sqlite("list", "--json", "--site", "hq").stdout)] == ["4001"]
    assert on_sqlite("list", "nothing like it").stdout == "0 devices of 3\n"
    on_sqlite("set", "4004", "country=US", "state=NY", "city=Buffalo", "street=Home", "postal_code=90210")
    lacking = "no-house-number, postal-code-of-another-state"
    assert lacking in on_sqlite("list", "4004").stdout
    assert json.loads(on_sqlite("list", "--json", "4004").stdout)[0]["not_dispatchable"] == lacking.split(", ")


def test_an_empty_table_exports_a_header_that_imports(locations: Locations) -> None:
    exported = locations("export").stdout
    assert exported == ",".join(COLUMNS) + "\n"
    assert locations("import", "-", stdin=exported).stdout == "0 devices: 0 new, 0 changed, 0 unchanged\n"


def test_a_broken_database_says_what_to_do(on_sqlite: Locations) -> None:
    database = on_sqlite.directory / "edge911.db"
    database.write_bytes(b"no database\n" * 1000)
    for arguments in (["list"], ["export"], ["set", "1", "name=x"], ["remove", "1"]):
        result = on_sqlite(*arguments)
        assert result.exit_code == 1
        assert "database-corrupt" in result.stderr
        assert "restore a backup" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    locations = Locations(tmp_path, f"postgresql://u:s3cret@/d?host={tmp_path}")
    result = locations("list")
    assert result.exit_code == 1
    assert "database-unreachable" in result.stderr
    assert "s3cret" not in result.stderr


def test_files_that_cannot_be_read_or_written(on_sqlite: Locations) -> None:
    result = on_sqlite("import", str(on_sqlite.directory / "none.csv"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "none.csv: No such file" in result.stderr
    result = on_sqlite("export", str(on_sqlite.directory / "no" / "where.csv"))
    assert result.exit_code == 1
    assert "not written" in result.stderr


def test_a_latin_1_file_from_standard_input(on_sqlite: Locations) -> None:
    result = on_sqlite("import", "-", stdin="device,name\n4001,Hélène\n".encode("latin-1"))
    assert result.exit_code == 1
    assert result.stderr.startswith("<stdin>:2:2: name: 'H\ufffdl\ufffdne' is not UTF-8")


def test_import_help_teaches_with_an_example_that_imports(on_sqlite: Locations) -> None:
    shown = on_sqlite("import", "--help").stdout
    for column in COLUMNS:
        assert column in shown
    lines = [line.strip() for line in shown.splitlines()]
    start = lines.index("For example:") + 1
    example = "\n".join(lines[start : lines.index("", start)]).replace("hq-1", "hq-3e")
    result = on_sqlite("import", "-", stdin=example)
    assert result.stdout == "2 devices: 2 new, 0 changed, 0 unchanged\n"


def test_the_database_lies_beside_the_configuration_wherever_one_stands(
    on_sqlite: Locations, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    on_sqlite("set", "4001", "name=x")
    assert os.listdir() == []
    engine = open_store(f"sqlite:///{on_sqlite.directory}/edge911.db", create=False)
    engine.dispose()


def test_the_new_columns_are_read_checked_and_written(locations: Locations) -> None:
    file = locations.file(
        "device,kind,aor,number,user,MAC address,language,email,site,elin zone,expires\n"
        "4001,softphone,sip:Nora@PBX.example,(212) 555-0123,NQ,00-0B-82-1A-2B-3C,fr-CA,nora@example.com,hq,hq-3e,"
        "2027-11-22\n"
    )
    assert locations("import", file).exit_code == 0
    (found,) = locations.all()
    assert [found[name] for name in ("kind", "aor", "number", "username", "mac")] == [
        *("softphone", "nora@pbx.example", "+12125550123", "nq", "000b821a2b3c"),
    ]
    assert [found[name] for name in ("language", "email", "elin_zone")] == ["fr", "nora@example.com", "hq-3e"]
    assert found["expires_at"] == datetime(2027, 11, 23, tzinfo=UTC).timestamp()  # the day is the last
    assert found["confirmed_by"]
    exported = locations("export").stdout
    assert "2027-11-23T00:00:00Z" in exported
    assert locations("import", "-", stdin=exported).stdout == "1 device: 0 new, 0 changed, 1 unchanged\n"
    bad = locations("import", locations.file("device,mac,aor,number,language,email,expires_at\n4,x,y,z,w,v,t\n"))
    assert bad.exit_code == 1
    assert [line.split(": ")[1] for line in bad.stderr.splitlines()[:-1]] == [
        *("mac", "aor", "number", "language", "email", "expires_at"),
    ]


def test_an_expired_location_is_shown_as_such(locations: Locations) -> None:
    locations("import", locations.file("device,site,expires_at\n4001,hq,2020-01-01\n4002,hq,\n"))
    shown = locations("list").stdout
    assert [("expired" in line) for line in shown.splitlines() if line.strip().startswith("400")] == [True, False]


HOME = (
    "device,kind,country,state,city,house_number,street,street_suffix,postal_code\n"
    "4001,softphone,US,NY,Albany,1,Example,ST,12207\n4002,softphone,US,NY,Albany,2,Example,ST,12207\n"
)


def test_a_plan_shows_what_would_change_and_changes_nothing(locations: Locations) -> None:
    locations("import", locations.file(HOME))
    before = locations("export").stdout
    moved = locations.file(HOME.replace("12207\n4002", "08540\n4003").replace("Example", "Exemple"), "moved.csv")
    result = locations("import", moved, "--plan", "--replace")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("+ 4003  kind=softphone, country=US")
    assert lines[0].endswith("[gains a dispatchable location]")
    assert lines[1] == (
        "~ 4001  street: Example → Exemple, postal_code: 12207 → 08540  "
        "[LOSES its dispatchable location: postal-code-of-another-state]"
    )
    assert lines[2].startswith("- 4002  kind=softphone")
    assert lines[2].endswith("[LOSES its dispatchable location: removed]")
    assert lines[3] == "2 devices: 1 new, 1 changed, 0 unchanged, 1 removed"
    assert lines[4] == "dispatchable locations: 1 gained, 2 lost; nothing was changed (--plan)"
    assert lines[5] == "1 device without a dispatchable location: postal-code-of-another-state 1"
    document = json.loads(locations("import", moved, "--plan", "--json").stdout)
    assert document["applied"] is False
    assert document["changed"][0]["before"] == {"street": "Example", "postal_code": "12207"}
    assert document["changed"][0]["after"] == {"street": "Exemple", "postal_code": "08540"}
    assert (document["gains_dispatchable_location"], document["loses_dispatchable_location"]) == (["4003"], ["4001"])
    assert document["removed"] == []
    assert locations("export").stdout == before
    assert locations("import", moved, "--replace").stdout == "2 devices: 1 new, 1 changed, 0 unchanged, 1 removed\n"
    assert [device["device"] for device in locations.all()] == ["4001", "4003"]


def at(*rows: tuple[str, str, str, str]) -> str:
    """Devices as (device, number, address of record, house)."""
    header = "device,number,aor,house_number,country,state,city,street,street_suffix,postal_code\n"
    return header + "".join(f"{','.join(row)},US,NY,Albany,Example,ST,12207\n" for row in rows)


def test_a_plan_says_who_loses_a_location_to_a_name_that_two_devices_would_have(locations: Locations) -> None:
    known = ("4001", "+12125550123", "", "1"), ("4002", "+12125550124", "", "1"), ("a@b.example", "", "", "1")
    locations("import", locations.file(at(*known)))
    taken = at(
        ("4005", "+12125550123", "", "2"),
        ("4006", "+12125550199", "a@b.example", "2"),
        ("4007", "4002", "", "1"),
        ("4008", "", "a@elsewhere.example", "2"),
    )
    lines = locations("import", locations.file(taken), "--plan").stdout.splitlines()
    assert [line.split()[:2] for line in lines[:6]] == [
        *(["+", name] for name in ("4005", "4006", "4007", "4008")),
        *(["=", name] for name in ("4001", "a@b.example")),
    ]
    # At the same place any of them will do, and an address of record that is another's is another name.
    assert ["gains" in line for line in lines[:4]] == [False, False, True, True]
    assert lines[4] == "= 4001  [LOSES its dispatchable location: ambiguous-device]"
    assert "dispatchable locations: 2 gained, 2 lost; nothing was changed (--plan)" in lines
    document = json.loads(locations("import", locations.file(taken), "--json").stdout)
    assert document["loses_dispatchable_location"] == ["4001", "a@b.example"]
    assert document["not_dispatchable"] == {"4005": ["ambiguous-device"], "4006": ["ambiguous-device"]}
    given = locations.file(at(("4001", "", "", "1")), "given.csv")
    document = json.loads(locations("import", given, "--plan", "--json").stdout)
    assert document["gains_dispatchable_location"] == ["4001", "4005"], "the number is of one device again"
    document = json.loads(locations("import", given, "--plan", "--json", "--replace").stdout)
    assert document["gains_dispatchable_location"] == ["4001"]


def test_yaml_says_the_same_as_csv_and_reads_back(locations: Locations) -> None:
    locations("import", locations.file(HOME + '"a@b.example",softphone,CA,QC,"L\'Île ""x"": #1",1,Côte,CH,H3B 2Y5\n'))
    exported = locations("export", "--format", "yaml").stdout
    assert locations("import", "-", "--format", "yaml", stdin=exported).stdout == (
        "3 devices: 0 new, 0 changed, 3 unchanged\n"
    )
    file = locations.file("devices:\n  - device: 4001\n    house_number: 3\n    postal_code:\n", "change.yaml")
    assert locations("import", file).stdout == "1 device: 0 new, 1 changed, 0 unchanged\n"
    first = locations.all()[0]
    assert (first["house_number"], first["postal_code"], first["city"]) == ("3", "", "Albany")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("devices:\n  - device: 4009\n    flor: 3\n", "3:5: unknown column 'flor'; did you mean floor?"),
        ("devices:\n  - device: 4009\n    site: [hq]\n", "3:11: site: a list or map, where a text belongs"),
        ("devices:\n  - floor: 3\n", "2:5: device: missing"),
        ("devices:\n  - device: 4009\n  - device: '40 09'\n", "3:13: device: '4009' is already on line 2"),
        ("devices:\n  - 4009\n", "2:5: not a device"),
        ("devices:\n  - {device: 4009, zone: x}\n", "2:26: zone: zone 'x' needs a site"),
        ("sites: []\ndevices: []\n", "1:1: sites: unknown key"),
        ("- device: 4009\n", "1:1: no list `devices`"),
        ("", "1:1: no list `devices`"),
        ("devices: [\n", "not YAML"),
        ("devices:\n  - device: 4009\n    latitude: 3\n", "longitude: latitude without longitude"),
    ],
)
def test_mistakes_in_yaml_have_their_line_and_column(on_sqlite: Locations, text: str, problem: str) -> None:
    result = on_sqlite("import", on_sqlite.file(text, "phones.yaml"))
    assert result.exit_code == 1
    assert problem in result.stderr
    assert on_sqlite.all() == []
