"""The wiremap in the REST API and on its page: any spelling of an identifier, whose sites, the audit trail."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from e911.wiremap import WiremapEntry
from router.store.audit import audit_rows
from router.store.tokens import TokenRole
from router.store.wiremap import all_entries, upsert_entries
from tests.support.console import ConsoleWorld, console_world

AP, PORT = "/wiremap/00:1B:2C:3D:4E:50", "/wiremap/001b.54aa.bbcc,GigabitEthernet1/0/14"


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path, store_url) as made:
        yield made


def test_a_row_from_its_beginning_to_its_end(world: ConsoleWorld) -> None:
    api = world.program()
    made = api("PUT", AP, json={"name": "AP 1", "site": "hq", "zone": "hq-1"})
    assert (made.status_code, made.json()["key"], made.json()["bssid"]) == (201, "bssid 001b2c3d4e50", "001b2c3d4e50")
    assert api("PUT", PORT, json={"site": "hq", "room": "312"}).json()["port"] == "gi1/0/14"
    assert api("PUT", AP, json={"site": "hq", "latitude": 42.5, "longitude": -73.7}).json()["zone"] == ""
    found = api("GET", "/wiremap", params={"limit": 1}).json()
    assert (found["total"], len(found["rows"]), found["next"]) == (2, 1, "bssid 001b2c3d4e50")
    assert api("GET", "/wiremap", params={"after": found["next"]}).json()["rows"][0]["room"] == "312"
    assert api("GET", "/wiremap", params={"q": "00:1b:54"}).json()["total"] == 1
    assert api("GET", "/wiremap/001b54aabbcc,gi1/0/14").json()["chassis"] == "001b54aabbcc"
    assert api("DELETE", AP).status_code == 204
    assert api("GET", AP).status_code == api("DELETE", AP).status_code == 404
    with world.console.store.reading() as conn:
        trail = audit_rows(conn, subject="wiremap:bssid 001b2c3d4e50")
    assert [(row.action, row.via) for row in trail] == [("remove", "api"), ("change", "api"), ("create", "api")]


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/wiremap/nonsense", {"site": "hq"}, "row", "names no access point and no switch port"),
        (AP, {"site": "hw"}, "site", "no site 'hw' in the configuration"),
        (AP, {"site": "hq", "zone": "hq-9"}, "zone", "no zone 'hq-9' in site 'hq'"),
        (AP, {}, "site", "no place"),
        (AP, {"site": "hq", "colour": "red"}, "colour", "no such field"),
        (AP, {"site": "hq", "bssid": "1"}, "bssid", "no such field"),
        (AP, {"site": "hq", "room": ["1"]}, "room", "neither a text nor a number"),
        (AP, {"site": "hq", "latitude": 91, "longitude": 0}, "latitude", "91 is not between"),
        (AP, {"site": "hq", "latitude": 1}, "longitude", "latitude without longitude"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    world: ConsoleWorld, path: str, body: dict[str, object], field: str, message: str
) -> None:
    refused = world.program()("PUT", path, json=body)
    assert refused.status_code == 422
    (problem,) = refused.json()["errors"]
    assert problem["field"] == field
    assert message in problem["message"]
    with world.console.store.reading() as conn:
        assert all_entries(conn) == []


def test_a_token_changes_its_own_sites_only(world: ConsoleWorld) -> None:
    world.program()("PUT", AP, json={"site": "hq"})
    other = world.program(TokenRole.WRITE, sites=("lab",))
    assert other("GET", AP).status_code == other("DELETE", AP).status_code == 404
    assert other("PUT", AP, json={"site": "lab"}).status_code == 404
    assert other("PUT", PORT, json={"site": "hq"}).status_code == 422
    assert other("PUT", PORT, json={"site": "lab"}).status_code == 201
    assert other("GET", "/wiremap").json()["total"] == 1
    assert world.program(TokenRole.READ)("DELETE", AP).status_code == 403


def test_a_row_is_added_found_moved_to_another_access_point_and_removed_on_the_page(world: ConsoleWorld) -> None:
    browser = world.browser("erin", "engineer")
    made = browser.submit("/wiremap/edit", bssid="00-1B-2C-3D-4E-50", name="AP 1", site="hq", zone="hq-1", room="12")
    assert made.headers["location"] == "/wiremap/edit?row=bssid%20001b2c3d4e50&saved=true"
    page = "/wiremap/edit?row=bssid%20001b2c3d4e50"
    text = browser.get(page).text
    assert 'value="00:1b:2c:3d:4e:50"' in text
    values = {"row": "bssid 001b2c3d4e50", "etag": etag(text), "name": "AP 1", "site": "hq", "zone": "hq-1"}
    moved = browser.submit(page, "/wiremap/edit", bssid="00:1b:2c:3d:4e:60", **values)
    assert moved.headers["location"] == "/wiremap/edit?row=bssid%20001b2c3d4e60&saved=true"
    assert (
        browser.submit("/wiremap/edit", chassis="SW-3", port="GigabitEthernet1/0/14", site="lab").status_code == 303
    )
    with world.console.store.reading() as conn:
        assert [(entry.key, entry.civic.room) for entry in all_entries(conn)] == [
            ("bssid 001b2c3d4e60", ""),
            ("switch sw-3 gi1/0/14", ""),
        ]
        trail = audit_rows(conn, subject="wiremap:bssid 001b2c3d4e50")
        assert [(row.action, row.who, row.via) for row in trail] == [
            ("remove", "erin", "console"),
            ("create", "erin", "console"),
        ]
    for wanted in ("00:1b:2c", "1B-2C-3D", "AP%201", "001b.2c3d"):
        found = browser.get(f"/wiremap?q={wanted}").text
        assert ("00:1b:2c:3d:4e:60" in found, "sw-3" in found) == (True, False), wanted
    for wanted in ("GigabitEthernet1/0/14", "SW-3,gi1/0/14", "sw"):
        found = browser.get(f"/wiremap?q={wanted}").text
        assert ("00:1b:2c:3d:4e:60" in found, "sw-3" in found) == (False, True), wanted
    gone = browser.submit("/wiremap/edit?row=bssid%20001b2c3d4e60", "/wiremap/remove", row="bssid 001b2c3d4e60")
    assert "was removed" in browser.get(gone.headers["location"]).text
    assert browser.get("/wiremap/edit?row=bssid%20001b2c3d4e60").status_code == 404


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"site": "hq"}, "every row names an access point or a switch port"),
        ({"bssid": "00:1b:2c:3d:4e:50", "chassis": "sw-3", "site": "hq"}, "a row is of one of them"),
        ({"port": "gi1", "site": "hq"}, "write chassis too"),
        ({"bssid": "phone", "site": "hq"}, "is not the BSSID of an access point"),
        ({"bssid": "00:1b:2c:3d:4e:50", "site": "lab", "zone": "hq-1"}, "no zone &#39;hq-1&#39; in site"),
        ({"bssid": "00:1b:2c:3d:4e:50"}, "no place"),
        ({"bssid": "00:1b:2c:3d:4e:50", "site": "hq", "latitude": "91", "longitude": "1"}, "not between"),
        ({"chassis": "sw-9", "site": "hq"}, "there is such a row already"),
    ],
)
def test_a_form_with_mistakes_keeps_what_was_typed_and_stores_nothing(
    world: ConsoleWorld, values: dict[str, str], told: str
) -> None:
    world.program()("PUT", "/wiremap/sw-9,", json={"site": "lab"})
    browser = world.browser("erin", "engineer")
    answer = browser.submit("/wiremap/edit", room="kept-as-typed", **values)
    assert answer.status_code == 422
    assert told in answer.text
    assert 'value="kept-as-typed"' in answer.text
    with world.console.store.reading() as conn:
        assert [entry.civic.room for entry in all_entries(conn)] == [""]


def test_two_people_at_one_row(world: ConsoleWorld) -> None:
    world.program()("PUT", AP, json={"site": "hq"})
    erin, paul = world.browser("erin", "engineer"), world.browser("paul", "engineer")
    page = "/wiremap/edit?row=bssid%20001b2c3d4e50"
    values = {"row": "bssid 001b2c3d4e50", "bssid": "00:1b:2c:3d:4e:50", "site": "hq"}
    before = etag(erin.get(page).text)
    assert paul.submit(page, "/wiremap/edit", etag=before, room="2", **values).status_code == 303
    late = erin.submit(page, "/wiremap/edit", etag=before, room="3", **values)
    assert late.status_code == 409
    assert "Somebody else changed" in late.text
    assert 'value="3"' in late.text
    assert erin.submit(page, "/wiremap/edit", etag=etag(late.text), room="3", **values).status_code == 303
    paul.submit(page, "/wiremap/remove", row="bssid 001b2c3d4e50")
    assert erin.submit("/wiremap", "/wiremap/edit", etag=before, **values).status_code == 409


def test_rows_of_other_peoples_sites_are_not_there(world: ConsoleWorld) -> None:
    api = world.program()
    api("PUT", AP, json={"site": "hq", "name": "Secret"})
    api("PUT", PORT, json={"latitude": 42.5, "longitude": -73.7, "name": "Secret"})
    api("PUT", "/wiremap/sw-9,", json={"site": "lab"})
    browser = world.browser("lou", "engineer", ("lab",))
    for path in ("/wiremap", "/wiremap?q=Secret", "/wiremap?site=hq"):
        assert "Secret" not in browser.get(path).text.replace('value="Secret"', "")
    version = etag(browser.get("/wiremap/edit?row=switch%20sw-9").text)
    for key in ("bssid 001b2c3d4e50", "switch 001b54aabbcc gi1/0/14"):
        assert browser.get(f"/wiremap/edit?row={key}").status_code == 404
        assert browser.submit("/wiremap", "/wiremap/remove", row=key).status_code == 404
        taken = browser.submit("/wiremap", "/wiremap/edit", row=key, bssid="00:1b:2c:3d:4e:50", site="lab")
        assert taken.status_code == 404
    over = {"row": "switch sw-9", "etag": version, "bssid": "00:1b:2c:3d:4e:50", "site": "lab"}
    assert browser.submit("/wiremap", "/wiremap/edit", **over).status_code == 404
    away = {"row": "switch sw-9", "etag": version, "chassis": "sw-9", "site": "hq"}
    assert browser.submit("/wiremap", "/wiremap/edit", **away).status_code == 422
    assert browser.submit("/wiremap/edit", bssid="00:1b:2c:3d:4e:51", site="hq").status_code == 422
    viewer = world.browser("vera", "viewer")
    assert "/wiremap/remove" not in viewer.get("/wiremap/edit?row=switch%20sw-9").text
    for action in ("edit", "remove"):
        answer = viewer.http.post(f"/wiremap/{action}", data={"csrf": viewer.csrf("/wiremap")})
        assert answer.status_code == 403
    with world.console.store.reading() as conn:
        assert {entry.key: entry.site for entry in all_entries(conn)} == {
            "bssid 001b2c3d4e50": "hq",
            "switch 001b54aabbcc gi1/0/14": "",
            "switch sw-9": "lab",
        }


def test_many_rows_a_page_at_a_time(world: ConsoleWorld) -> None:
    rows = [WiremapEntry(chassis="sw-1", port=f"gi1/0/{number}", site="hq") for number in range(120)]
    with world.console.store.writing() as conn:
        upsert_entries(conn, rows, {})
    browser = world.browser("victor", "viewer")
    path: str | None = "/wiremap?q=sw-1"
    seen: list[str] = []
    while path:
        text = browser.get(path).text
        seen += re.findall(r'class="cell" href="/wiremap/edit\?row=([^"]+)"', text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        path = unescape(found[1]) if found else None
    assert sorted(map(unquote, seen)) == sorted(row.key for row in rows)


def etag(text: str) -> str:
    """The version of the row that a form was shown with."""
    found = re.search(r'name="etag" value="([^"]*)"', text)
    assert found
    return unescape(found[1])
