"""`edge911 wiremap` on SQLite and PostgreSQL, and how a running call process hears of it."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from e911.attachment import Attachment
from e911.location import CivicAddress, GeoPoint
from e911.wiremap import WiremapEntry, WiremapTable
from router.locations.table_feed import TableFeed
from router.locations.wiremap_csv import merged, read_wiremap, written_wiremap
from router.locations.wiremap_feed import followed_wiremap, wiremap_now
from router.locations.wiremap_yaml import read_wiremap_yaml, written_wiremap_yaml
from router.process.csv_table import CsvError
from router.store.audit import audit
from router.store.engine import open_store, reading
from tests.router.cli.test_locations_cli import CONFIG
from tests.support.commands import invoke

ROWS = """bssid,switch,interface,name,site,zone,floor,room
00:1B:2C:3D:4E:50,,,AP 4-2,hq,hq-3e,,
,001b.54aa.bbcc,GigabitEthernet1/0/14,"Prise, 312",hq,hq-3e,,312
,sw-3-east.example.com,,closet,hq,hq-3e,,
"""
PLACES = {"hq": frozenset({"hq-3e"}), "mtl": frozenset[str]()}


class Command:
    """The command, with a configuration of this test."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.url = url
        self.config = directory / "edge911.yaml"
        self.config.write_text(CONFIG.replace("DATABASE", url), encoding="utf-8")

    def __call__(self, command: str, *arguments: str, stdin: str | bytes = "") -> Result:
        return invoke(["wiremap", command, "-c", str(self.config), *arguments], input=stdin)

    def all(self) -> dict[str, dict[str, object]]:
        found = json.loads(self("list", "--json").stdout)
        return {row["name"]: row for row in found}


@pytest.fixture
def wiremap(tmp_path: Path, store_url: str) -> Command:
    return Command(tmp_path, store_url)


def test_import_change_export_and_remove(wiremap: Command) -> None:
    assert wiremap("import", "-", stdin=ROWS).stdout == "3 rows: 3 new, 0 changed, 0 unchanged\n"
    assert wiremap("import", "-", stdin=ROWS).stdout == "3 rows: 0 new, 0 changed, 3 unchanged\n"
    outlet = wiremap.all()["Prise, 312"]
    assert (outlet["chassis"], outlet["port"], outlet["room"]) == ("001b54aabbcc", "gi1/0/14", "312")
    part = "chassis;port;room\n00:1b:54:aa:bb:cc;Gi1/0/14;314\n"
    assert wiremap("import", "-", stdin=part).stdout == "1 row: 0 new, 1 changed, 0 unchanged\n"
    assert wiremap.all()["Prise, 312"]["room"] == "314", "and what the file did not have stays"
    assert wiremap("set", "00:1b:2c:3d:4e:50", "room=4-2", "floor=4").exit_code == 0
    assert wiremap.all()["AP 4-2"]["floor"] == "4"
    exported = wiremap("export").stdout
    assert "00:1b:2c:3d:4e:50,,,AP 4-2,hq,hq-3e" in exported
    assert wiremap("import", "-", stdin=exported).stdout == "3 rows: 0 new, 0 changed, 3 unchanged\n"
    assert wiremap("remove", "sw-3-east.example.com,", "00:00:00:00:00:09").exit_code == 1
    assert len(wiremap.all()) == 3, "all or nothing"
    assert wiremap("remove", "sw-3-east.example.com,", "001b2c3d4e50").stdout == "2 rows removed\n"
    assert "switch 00:1b:54:aa:bb:cc port gi1/0/14" in wiremap("list", "prise").stdout
    engine = open_store(wiremap.url)
    with reading(engine) as conn:
        trail = list(conn.execute(select(audit.c.action, audit.c.subject, audit.c.via).order_by(audit.c.id)))
    engine.dispose()
    assert [row.action for row in trail] == ["create"] * 3 + ["change"] * 2 + ["remove"] * 2
    assert (trail[3].subject, trail[3].via) == ("wiremap:switch 001b54aabbcc gi1/0/14", "cli")


def test_an_import_tells_first_what_it_would_change_and_takes_away_what_is_gone(wiremap: Command) -> None:
    planned = wiremap("import", "-", "--plan", stdin=ROWS)
    assert planned.stdout.splitlines()[-2] == "3 rows: 3 new, 0 changed, 0 unchanged"
    assert wiremap.all() == {}
    wiremap("import", "-", stdin=ROWS)
    file = wiremap.directory / "all.yaml"
    wiremap("export", str(file))
    assert wiremap("import", str(file), "--replace").stdout == "3 rows: 0 new, 0 changed, 3 unchanged, 0 removed\n"
    moved = "wiremap:\n  - bssid: 00:1b:2c:3d:4e:50\n    room: '17'\n"
    again = wiremap("import", "-", "--format", "yaml", "--plan", "--replace", "--json", stdin=moved)
    document = json.loads(again.stdout)
    assert document["changed"] == [{"row": "bssid 001b2c3d4e50", "before": {}, "after": {"room": "17"}}]
    assert (document["applied"], len(document["removed"]), len(wiremap.all())) == (False, 2, 3)
    assert wiremap("import", "-", "--format", "yaml", "--replace", stdin=moved).exit_code == 0
    assert [row["room"] for row in wiremap.all().values()] == ["17"]


def test_every_mistake_has_its_line_and_column_and_nothing_is_stored(wiremap: Command) -> None:
    lines = [
        "bssid,switch,port,site,zone,latitude,longitude",
        "00:1b:2c:3d:4e:5z,,,hq,,,",
        ",,Gi1,hq,,,",
        "00:1b:2c:3d:4e:50,x,1,hq,,,",
        "00:1b:2c:3d:4e:51,,,hqq,,,",
        "00:1b:2c:3d:4e:52,,,hq,hq-4,,",
        "00:1b:2c:3d:4e:53,,,,,,",
        "00:1b:2c:3d:4e:53,,,mtl,,,",
        "00:1b:2c:3d:4e:54,,,hq,,91,0",
        "00:1b:2c:3d:4e:55,,,hq",
        "00:1b:2c:3d:4e:56,,,hq,,,\x00",
    ]
    refused = wiremap("import", "-", stdin="\n".join(lines))
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        "<stdin>:2:1: bssid: '00:1b:2c:3d:4e:5z' is not the BSSID of an access point; write 00:1b:2c:3d:4e:5f",
        "<stdin>:3:1: a port without its switch; write chassis too",
        "<stdin>:4:1: both an access point (bssid) and a switch port (chassis, port); a row is of one of them",
        "<stdin>:5:4: site: no site 'hqq' in the configuration; did you mean hq?",
        "<stdin>:8:1: 'bssid 001b2c3d4e53' is already on line 7; keep one",
        "<stdin>:9:6: latitude: 91 is not between -90 and 90 degrees",
        "<stdin>:10:5: 4 cells, but 7 columns; write the empty cells too",
        "<stdin>:11:7: longitude: control or invisible character U+0000 at character 1; take it out",
        "edge911: <stdin>: 8 errors; nothing was changed",
    ]
    together = "\n".join([lines[0], lines[5], lines[6], "00:1b:2c:3d:4e:50,,,hq,,,"])
    refused = wiremap("import", "-", stdin=together)
    assert refused.stderr.splitlines()[:-1] == [
        "<stdin>:2:5: zone: no zone 'hq-4' in site 'hq'; did you mean hq-3e?",
        "<stdin>:3:4: site: no place; give a site (and zone), a whole address, or coordinates",
    ]
    assert wiremap("list").stdout == "0 rows\n"
    assert wiremap("set", "00:1b:2c:3d:4e:50", "site=hq", "zone=x").exit_code == 1
    assert wiremap("set", "nothing", "site=hq").exit_code == 1
    assert wiremap("list").stdout == "0 rows\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no header"),
        (b"site,zone\nhq,\n", "no column `bssid`"),
        (b"bssid,colour\n", "unknown column 'colour'"),
        (b"bssid,mac\n", "there twice"),
        ("bssid,site\n001b2c3d4e50,hq".encode("utf-16-le"), "UTF-16"),
        (b'bssid,site\n"001b2c3d4e50,hq\n', "a cell in quotes"),
        (b"bssid,site\n001b2c3d4e50,\xff\n", "not UTF-8"),
    ],
)
def test_files_that_cannot_be_read(data: bytes, what: str) -> None:
    with pytest.raises(CsvError, match=what):
        read_wiremap(data, PLACES)


identifiers = st.one_of(
    st.binary(min_size=5, max_size=5).map(lambda octets: {"bssid": "00" + octets.hex()}).filter(
        lambda given: given["bssid"] != "0" * 12
    ),
    st.builds(
        lambda chassis, port: {"chassis": chassis, "port": port},
        st.from_regex(r"[g-z][a-z0-9.-]{0,20}[a-z]", fullmatch=True),
        st.from_regex(r"(gi[0-9]/0/[0-9]{1,2}|[0-9]{1,3}|)", fullmatch=True),
    ),
)  # fmt: skip
texts = st.text("aZ09 ,;\"'é<&/-世", max_size=12).map(str.strip)


@given(
    st.lists(
        st.builds(
            lambda named, civic, point: WiremapEntry(**named, site="hq", zone="hq-3e", civic=civic, point=point),
            identifiers,
            st.builds(CivicAddress, room=texts, floor=texts, additional=texts),
            st.none()
            | st.builds(GeoPoint, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180)).filter(
                lambda point: bool(point.latitude or point.longitude)
            ),
        ),
        unique_by=lambda entry: entry.key,
        max_size=8,
    )
)
def test_what_is_written_is_read_back(entries: list[WiremapEntry]) -> None:
    as_yaml = read_wiremap_yaml("".join(written_wiremap_yaml(entries)).encode(), PLACES)
    assert sorted((merged(row.values, None) for row in as_yaml), key=lambda entry: entry.key) == sorted(
        entries, key=lambda entry: entry.key
    )
    rows = read_wiremap("".join(written_wiremap(entries)).encode(), PLACES)
    assert sorted((merged(row.values, None) for row in rows), key=lambda entry: entry.key) == sorted(
        entries, key=lambda entry: entry.key
    )


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_breaks_it(data: bytes) -> None:
    try:
        rows = read_wiremap(data, PLACES)
    except CsvError:
        return
    assert all(merged(row.values, None) for row in rows)


# The call process


def bits() -> int:
    return 0


async def until(found: list[WiremapTable], rows: int) -> WiremapTable:
    """The newest table, as soon as it has so many rows."""
    end = time.monotonic() + 30
    while not (found and len(found[-1]) == rows):
        assert time.monotonic() < end, f"{rows} rows did not come; the last had {len(found[-1]) if found else 'none'}"
        await asyncio.sleep(0.01)
    return found[-1]


def test_changes_reach_the_call_process_and_stay_known_without_the_database(wiremap: Command, tmp_path: Path) -> None:
    state = tmp_path / "state"
    at = Attachment(chassis="001b54aabbcc", port="gi1/0/14")

    async def follow() -> None:
        found: list[WiremapTable] = []
        feed = TableFeed(wiremap.url, [followed_wiremap(bits, found.append)], directory=state)
        feed.load_kept()
        feed.start()
        try:
            await asyncio.to_thread(wiremap, "import", "-", stdin=ROWS)
            entry, reason = (await until(found, 3)).find(at)
            assert entry is not None
            assert (entry.civic.room, reason) == ("312", "wiremap-port")
            await asyncio.to_thread(wiremap, "remove", "001b2c3d4e50")
            await until(found, 2)
        finally:
            await asyncio.to_thread(feed.stop)

    asyncio.run(follow())
    assert len(wiremap_now("sqlite:///" + str(tmp_path / "gone.db"), state, 0)) == 0, "another database's is not ours"
    assert len(wiremap_now(wiremap.url, tmp_path / "nothing", 0)) == 2
    end = time.monotonic() + 30
    kept: list[WiremapTable] = []
    while not (kept and len(kept[-1]) == 2):  # the file is written after calls have the rows
        assert time.monotonic() < end
        TableFeed(wiremap.url, [followed_wiremap(bits, kept.append)], directory=state).load_kept()
    assert kept[-1].find(at)[1] == "wiremap-port", "known at a start without the database"


def test_a_row_with_values_that_are_none_keeps_no_other_row_from_calls(wiremap: Command, tmp_path: Path) -> None:
    wiremap("import", "-", stdin=ROWS)
    engine = open_store(wiremap.url)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE wiremap SET latitude = 'NaN', longitude = 500, name = 'odd' WHERE chassis = ''")
    engine.dispose()
    table = wiremap_now(wiremap.url, tmp_path / "state", 0)
    assert len(table) == 3
    odd, reason = table.find(Attachment(bssid="001b2c3d4e50"))
    assert odd is not None
    assert (odd.name, odd.zone, odd.point, reason) == ("odd", "hq-3e", None, "wiremap-bssid")


def test_reading_for_a_command_makes_no_file(tmp_path: Path) -> None:
    assert len(wiremap_now(f"sqlite:///{tmp_path}/none.db", tmp_path / "state", 4)) == 0
    assert list(tmp_path.iterdir()) == []
