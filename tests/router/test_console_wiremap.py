"""The wiremap in the REST API: rows by any spelling of their identifier, sites of tokens, the audit trail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from router.store.audit import audit_rows
from router.store.tokens import TokenRole
from router.store.wiremap import all_entries
from tests.support.console import ConsoleWorld, console_world

AP, PORT = "/wiremap/00:1B:2C:3D:4E:50", "/wiremap/001b.54aa.bbcc,GigabitEthernet1/0/14"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path) as made:
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
