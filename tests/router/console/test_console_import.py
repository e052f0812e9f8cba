"""Files of devices and of the wiremap in the console: the plan is shown first, and what was shown is what is done."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from e911.wiremap import WiremapEntry
from router.console import bulk_rows
from router.console.pieces import pieces
from router.console.uploads import SECONDS, Upload, Uploads
from router.locations.location_plan import import_plan
from router.store.audit import audit_rows
from router.store.devices import all_devices, upsert_devices
from router.store.wiremap import all_entries, upsert_entries
from tests.support.console import Browser, ConsoleWorld, console_world

ADDRESS = "country,state,city,street,house_number,postal_code"
ALBANY = "US,NY,Albany,Lake,1,12207"
DEVICES_CSV = f"""device,name,{ADDRESS}
4001,Anna,{ALBANY}
4002,Ben,US,NY,Albany,Lake,,12207
4003,Cleo,{ALBANY}
"""


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path, store_url) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path) as made:
        yield made


def send(browser: Browser, table: str, text: str, name: str = "file.csv", **values: str) -> Any:
    """Upload a file."""
    files = {"file": (name, text.encode(), "application/octet-stream")}
    return browser.submit(f"/{table}/import", files=files, **values)


def confirm(browser: Browser, table: str, plan: str) -> Any:
    """Press the button of a plan."""
    hidden = {name: unescape(value) for name, value in re.findall(r'name="(upload|digest)" value="([^"]*)"', plan)}
    return browser.submit(f"/{table}/import", f"/{table}/import/apply", **hidden)


def visible(page: str) -> str:
    """The text of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_file_of_devices_is_looked_at_first_and_changed_after_a_yes(world: ConsoleWorld) -> None:
    with world.console.store.writing() as conn:
        base = dict(zip(ADDRESS.split(","), ALBANY.split(","), strict=True))
        upsert_devices(conn, [{"device": "4002", "name": "Ben", **base}, {"device": "4009", "name": "Zoe", **base}])
    browser = world.browser("erin", "engineer")
    plan = send(browser, "locations", DEVICES_CSV)
    assert plan.status_code == 200
    text = visible(plan.text)
    assert "New 2 Changed 1 Removed 0 Unchanged 0" in text
    assert "1 Phones that would lose their dispatchable location 4002 Ben no-house-number" in text
    assert "2 Phones that would gain a dispatchable location 4001 Anna 4003 Cleo" in text
    with world.console.store.reading() as conn:
        assert {device.device for device in all_devices(conn)} == {"4002", "4009"}
    done = confirm(browser, "locations", plan.text)
    assert done.headers["location"] == "/locations/import?added=2&changed=1&removed=0"
    assert "Done: 2 new, 1 changed, 0 removed" in visible(browser.get(done.headers["location"]).text)
    with world.console.store.reading() as conn:
        assert {device.device: device.civic.house_number for device in all_devices(conn)} == {
            "4001": "1",
            "4002": "",
            "4003": "1",
            "4009": "1",
        }
        trail = [(row.action, row.who, row.via) for row in audit_rows(conn, subject="device:4002")]
    assert trail[0] == ("change", "erin", "console")
    again = send(browser, "locations", DEVICES_CSV)
    assert "there is nothing to change" in again.text
    assert "/import/apply" not in again.text
    twice = confirm(browser, "locations", plan.text)
    assert (twice.status_code, "not kept any more" in twice.text) == (409, True)


def test_what_is_not_in_the_file_goes_only_where_that_was_asked_for(here: ConsoleWorld) -> None:
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4009", "site": "hq"}, {"device": "4010", "site": "lab"}])
    browser = here.browser("lou", "engineer", ("hq",))
    plan = send(browser, "locations", "device,site\n4001,hq\n", replace="1")
    assert "New 1 Changed 0 Removed 1" in visible(plan.text)
    assert "4010" not in plan.text
    assert confirm(browser, "locations", plan.text).status_code == 303
    with here.console.store.reading() as conn:
        assert {device.device for device in all_devices(conn)} == {"4001", "4010"}


def test_a_plan_is_shown_anew_where_somebody_changed_something_meanwhile(here: ConsoleWorld) -> None:
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4001", "site": "hq", "room": "1"}])
    browser = here.browser("erin", "engineer")
    plan = send(browser, "locations", "device,room\n4001,2\n")
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4001", "room": "17"}])
    late = confirm(browser, "locations", plan.text)
    assert late.status_code == 409
    assert "Something else changed meanwhile" in late.text
    assert "<del>17</del> <ins>2</ins>" in late.text
    with here.console.store.reading() as conn:
        assert [device.civic.room for device in all_devices(conn)] == ["17"]
    assert confirm(browser, "locations", late.text).status_code == 303
    with here.console.store.reading() as conn:
        assert [device.civic.room for device in all_devices(conn)] == ["2"]


def test_others_change_devices_while_a_file_is_compared_and_it_is_compared_again(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = 0

    def slow(*arguments: Any, **options: Any) -> Any:
        nonlocal plans
        plans += 1
        planned = import_plan(*arguments, **options)
        if plans == 1:  # somebody else, to whom nothing is locked
            with world.console.store.writing() as conn:
                upsert_devices(conn, [{"device": "4001", "site": "lab", "room": "17"}])
        return planned

    monkeypatch.setattr(bulk_rows, "import_plan", slow)
    csv = {"content-type": "text/csv"}
    done = world.program()("PUT", "/devices", content="device,name\n4001,Anna\n", headers=csv).json()
    assert (done["added"], done["changed"][0]["after"]) == ([], {"name": "Anna"})
    with world.console.store.reading() as conn:
        assert [(one.name, one.site, one.civic.room) for one in all_devices(conn)] == [("Anna", "lab", "17")]


@pytest.mark.parametrize(
    ("table", "name", "text", "told"),
    [
        ("locations", "a.csv", "device,zone\n4001,hq-9\n", "2:2: zone zone 'hq-9' needs a site"),
        ("locations", "a.csv", "device,site\n4001,hw\n", "2:2: site no site 'hw' in the configuration"),
        ("locations", "a.yml", "devices:\n  - {device: 4001, site: hw}\n", "2:26: site no site 'hw'"),
        ("locations", "a.yaml", "devices: 7\n", "no list `devices`"),
        ("locations", "a.csv", "", "nothing in it"),
        ("locations", "a.csv", "\x00\x01\x02", "Line : column"),
        ("wiremap", "a.csv", "bssid,site\nphone,hq\n", "2:1: bssid 'phone' is not the BSSID"),
        ("wiremap", "a.csv", "bssid,site\n00:1b:2c:3d:4e:50,\n", "2:2: site no place"),
        (
            "wiremap",
            "a.yaml",
            "wiremap:\n  - {chassis: sw-1, port: 7, bssid: 00:1b:2c:3d:4e:50}\n",
            "a row is of one",
        ),
        ("wiremap", "a.yaml", "wiremap:\n  - {chassis: sw-1, colour: red}\n", "unknown column 'colour'"),
    ],
)
def test_a_file_with_mistakes_names_each_and_changes_nothing(
    here: ConsoleWorld, table: str, name: str, text: str, told: str
) -> None:
    browser = here.browser("erin", "engineer")
    refused = send(browser, table, text, name)
    assert refused.status_code == 422
    assert told in visible(refused.text)
    assert "/import/apply" not in refused.text
    with here.console.store.reading() as conn:
        assert (all_devices(conn), all_entries(conn)) == ([], [])


def test_the_wiremap_by_csv_and_yaml_with_its_plan(world: ConsoleWorld) -> None:
    place = "latitude: 42.65, longitude: -73.75, name: AP"
    browser = world.browser("erin", "engineer")
    text = f"bssid,chassis,port,name,{ADDRESS}\n00:1b:2c:3d:4e:50,,,AP 1,{ALBANY}\n,SW-1,Gi1/0/7,outlet,{ALBANY}\n"
    plan = send(browser, "wiremap", text)
    assert "2 Where phones would gain a dispatchable location" in visible(plan.text)
    assert "bssid 00:1b:2c:3d:4e:50" in plan.text
    assert confirm(browser, "wiremap", plan.text).status_code == 303
    exported = browser.get("/wiremap/export?format=yaml")
    assert exported.headers["content-disposition"] == 'attachment; filename="wiremap.yaml"'
    assert "there is nothing to change" in send(browser, "wiremap", exported.text, "wiremap.yaml").text
    csv = browser.get("/wiremap/export").text
    assert "there is nothing to change" in send(browser, "wiremap", csv, "wiremap.csv", replace="1").text
    empty = ", ".join(f"{name}: ''" for name in ADDRESS.split(","))
    moved = f"wiremap:\n  - {{bssid: '001B.2C3D.4E50', {place}, {empty}}}\n"
    plan = send(browser, "wiremap", moved, "w.yaml", replace="1")
    shown = visible(plan.text)
    assert "New 0 Changed 1 Removed 1" in shown
    assert "2 Where phones would lose their dispatchable location" in shown
    assert "no-civic-address" in shown
    assert confirm(browser, "wiremap", plan.text).status_code == 303
    with world.console.store.reading() as conn:
        (entry,) = all_entries(conn)
        trail = [(row.subject, row.action, row.via) for row in audit_rows(conn, limit=2)]
    assert entry.point is not None
    assert set(trail) == {
        ("wiremap:bssid 001b2c3d4e50", "change", "console"),
        ("wiremap:switch sw-1 gi1/0/7", "remove", "console"),
    }


def test_files_and_plans_keep_to_ones_sites_and_role(here: ConsoleWorld) -> None:
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4001", "site": "hq", "name": "Secret"}, {"device": "4002", "site": "lab"}])
        rows = [WiremapEntry(bssid="001b2c3d4e50", site="hq", name="Secret"), WiremapEntry(chassis="s", site="lab")]
        upsert_entries(conn, rows, {})
    browser = here.browser("lou", "engineer", ("lab",))
    for table in ("locations", "wiremap"):
        for form in ("csv", "yaml"):
            assert "Secret" not in browser.get(f"/{table}/export?format={form}").text
    for table, text in (
        ("locations", "device,site\n4001,lab\n"),
        ("locations", "device,site\n4005,hq\n"),
        ("locations", "device,name\n4005,of no site\n"),
        ("wiremap", "bssid,site\n00:1b:2c:3d:4e:50,lab\n"),
        ("wiremap", "bssid,site\n00:1b:2c:3d:4e:51,hq\n"),
    ):
        refused = send(browser, table, text)
        assert (refused.status_code, "not yours" in refused.text) == (422, True), text
    plan = send(here.browser("erin", "engineer"), "locations", "device,site\n4001,lab\n")
    assert confirm(browser, "locations", plan.text).status_code == 409, "somebody else's plan"
    desk = here.browser("dora", "desk")
    assert desk.get("/locations/import").status_code == 403
    assert "/locations/import" not in desk.get("/locations").text
    assert desk.get("/locations/export").status_code == 200
    for path in ("/locations/import", "/locations/import/apply", "/wiremap/import", "/wiremap/import/apply"):
        assert desk.http.post(path, data={"csrf": desk.csrf("/locations")}).status_code == 403
        assert browser.http.post(path, data={}).status_code == 403, "without the form's token"
    assert Browser(here.app).http.post("/locations/import", data={}).status_code == 401


def test_a_file_longer_than_other_forms_is_taken_and_one_without_end_is_not(here: ConsoleWorld) -> None:
    browser = here.browser("erin", "engineer")
    rows = "".join(f"4{number:05d},Person number {number},hq\n" for number in range(12_000))
    plan = send(browser, "locations", "device,name,site\n" + rows)
    assert "New 12,000" in visible(plan.text)
    assert "… and 11,900 more" in plan.text
    headers = {"content-length": str(200 * 1024 * 1024), "content-type": "multipart/form-data; boundary=x"}
    assert browser.http.post("/locations/import", content=b"--x", headers=headers).status_code == 413


def test_the_api_takes_the_wiremap_at_once_with_a_plan_first(here: ConsoleWorld) -> None:
    api = here.program()
    yaml = {"content-type": "application/yaml"}
    body = "wiremap:\n  - {chassis: sw-1, port: Gi1/0/7, site: hq}\n"
    planned = api("PUT", "/wiremap?plan=true", content=body, headers=yaml).json()
    assert (planned["applied"], planned["added"][0]["row"]) == (False, "switch sw-1 gi1/0/7")
    assert planned["not_dispatchable"] == {"switch sw-1 gi1/0/7": ["no-postal-code"]}
    with here.console.store.reading() as conn:
        assert all_entries(conn) == []
    assert api("PUT", "/wiremap", content=body, headers=yaml).json()["applied"]
    csv = {"content-type": "text/csv"}
    gone = api("PUT", "/wiremap?replace=true", content="bssid,site\n00:1b:2c:3d:4e:50,lab\n", headers=csv).json()
    assert [row["row"] for row in gone["removed"]] == ["switch sw-1 gi1/0/7"]
    assert api("PUT", "/wiremap", content="{}", headers={"content-type": "application/json"}).status_code == 415
    assert (
        api("GET", "/wiremap", headers={"accept": "text/csv"}).text.splitlines()[1].startswith("00:1b:2c:3d:4e:50,")
    )


def test_files_that_wait_are_forgotten_in_time_and_one_a_user_is_kept() -> None:
    now = 0.0
    uploads = Uploads(lambda: now)

    def one(username: str) -> Upload:
        return Upload.of(username, "locations", "f", b"device\n", is_yaml=False, replace=False, at=now)

    first, others = uploads.keep(one("erin")), uploads.keep(one("paul"))
    second = uploads.keep(one("erin"))
    assert uploads.find(first, "erin", "locations") is None
    assert uploads.find(second, "paul", "locations") is None
    assert uploads.find(second, "erin", "wiremap") is None
    found = uploads.find(second, "erin", "locations")
    assert found is not None
    assert found.data == b"device\n"
    now = SECONDS
    assert uploads.find(others, "paul", "locations") is None


def test_a_long_file_is_sent_in_few_pieces(here: ConsoleWorld) -> None:
    """Each piece is a turn of a thread: one for each line, and 100,000 devices take a minute."""
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": f"4{number:04d}", "site": "hq"} for number in range(2_500)])
    text = here.browser("erin", "engineer").get("/locations/export?format=yaml").text
    assert text.count("- device:") == 2_500
    sent = list(pieces(text.splitlines(keepends=True)))
    assert "".join(sent) == text
    assert len(sent) < 20
    assert list(pieces([])) == []
