"""The REST API: devices one by one and many at once, tokens, and what must not be had with them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.console.rate import Rate
from router.store.audit import audit_rows
from router.store.devices import COLUMNS, all_devices, upsert_devices
from router.store.validated_addresses import keep_addresses
from tests.support.console import ConsoleWorld, Program, console_world


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console, once on SQLite and once on PostgreSQL."""
    with console_world(tmp_path, store_url) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console on SQLite."""
    with console_world(tmp_path) as made:
        yield made


def names(world: ConsoleWorld) -> list[str]:
    with world.console.store.reading() as conn:
        return sorted(device.device for device in all_devices(conn))


def errors(answer: Any) -> dict[str, str]:
    """Field → message and remedy, of a problem+json."""
    assert answer.headers["content-type"] == "application/problem+json"
    return {one["field"]: f"{one['message']}|{one.get('remedy', '')}" for one in answer.json()["errors"]}


def test_a_device_from_its_beginning_to_its_end_leaves_a_trail(world: ConsoleWorld) -> None:
    api = world.program()
    made = api("PUT", "/devices/4012", json={"name": "Lobby", "site": "hq", "zone": "hq-1", "floor": "1"})
    assert made.status_code == 201
    assert made.headers["location"] == "/api/v1/devices/4012"
    assert made.json()["floor"] == "1"
    assert made.json()["kind"] == "fixed"
    assert made.json()["confirmed_at"].endswith("Z")
    changed = api("PATCH", "/devices/sip:4012", json={"room": "12", "floor": None})
    assert (changed.status_code, changed.json()["room"], changed.json()["floor"]) == (200, "12", "")
    assert api("GET", "/devices/4012").json() == changed.json()
    whole = api("PUT", "/devices/4012", json={"name": "Lobby", "site": "hq"})
    assert (whole.status_code, whole.json()["room"], whole.json()["zone"]) == (200, "", "")
    assert api("DELETE", "/devices/4012").status_code == 204
    assert api("GET", "/devices/4012").status_code == 404
    history = api("GET", "/devices/4012/history").json()
    assert [one["action"] for one in history] == ["remove", "change", "change", "create"]
    assert history[2]["before"]["floor"] == "1"
    assert history[2]["after"]["room"] == "12"
    assert all(one["via"] == "api" and one["who"].startswith("crm (") and one["at"] > 0 for one in history)
    assert names(world) == []


def test_a_device_says_what_its_location_lacks(here: ConsoleWorld) -> None:
    api = here.program()
    home = {"country": "US", "state": "NY", "city": "Buffalo", "street": "Home", "house_number": "1"}
    made = api("PUT", "/devices/4099", json={"kind": "off-premises", **home, "postal_code": "90210"})
    assert (made.status_code, made.json()["not_dispatchable"]) == (201, ["postal-code-of-another-state"])
    mended = api("PATCH", "/devices/4099", json={"postal_code": "14201"})
    assert mended.json()["not_dispatchable"] == []
    assert api("GET", "/devices?q=4099").json()["devices"] == [api("GET", "/devices/4099").json()]
    assert "not_dispatchable" in here.browser().get("/api/openapi.json").text


def test_what_was_read_can_be_sent_back_as_it_is(here: ConsoleWorld) -> None:
    api = here.program()
    api("PUT", "/devices/4012", json={"name": "Lobby", "site": "hq", "latitude": 40.5, "longitude": -73.25})
    known = api("GET", "/devices/4012")
    again = api("PUT", "/devices/4012", json=known.json(), headers={"If-Match": known.headers["etag"]})
    assert again.status_code == 200
    assert again.json() == known.json()


def test_the_providers_ids_stay_where_a_device_is_replaced_without_them(here: ConsoleWorld) -> None:
    api = here.program()
    ids = {"location_id": "LOC-7", "endpoint_id": "EP-7"}
    assert api("PUT", "/devices/4012", json={"site": "hq", **ids}).json().items() >= ids.items()
    assert api("PUT", "/devices/4012", json={"site": "hq", "name": "Lobby"}).json().items() >= ids.items()
    moved = api("PUT", "/devices/4012", json={"site": "lab", "name": "Lobby"}).json()
    assert (moved["location_id"], moved["endpoint_id"]) == ("", "")
    assert api("PATCH", "/devices/4012", json={"location_id": "LOC-9"}).json()["location_id"] == "LOC-9"
    wrong = api("PATCH", "/devices/4012", json={"location_id": "a b"})
    assert list(errors(wrong)) == ["location_id"]


def test_lost_updates(world: ConsoleWorld) -> None:
    api = world.program()
    first = api("PUT", "/devices/4012", json={"name": "A"}, headers={"If-None-Match": "*"}).headers["etag"]
    assert api("PUT", "/devices/4012", json={"name": "B"}, headers={"If-None-Match": "*"}).status_code == 412
    assert api("GET", "/devices/4012", headers={"If-None-Match": first}).status_code == 304
    second = api("PATCH", "/devices/4012", json={"name": "B"}, headers={"If-Match": first})
    assert second.status_code == 200
    late = api("PATCH", "/devices/4012", json={"name": "C"}, headers={"If-Match": first})
    assert (late.status_code, late.json()["reason"]) == (412, "changed-meanwhile")
    assert api("DELETE", "/devices/4012", headers={"If-Match": first}).status_code == 412
    assert api("DELETE", "/devices/4012", headers={"If-Match": second.headers["etag"]}).status_code == 204
    assert api("PATCH", "/devices/4012", json={"name": "C"}).status_code == 404


def test_an_error_names_every_field_and_its_remedy_and_nothing_is_stored(world: ConsoleWorld) -> None:
    api = world.program()
    body = {"site": "nowhere", "callback": "call me", "kind": "flying", "flor": "1", "room": ["a"], "name": "\x00"}
    answer = api("PUT", "/devices/4012", json=body)
    assert answer.status_code == 422
    found = errors(answer)
    assert found.keys() == {"site", "callback", "kind", "flor", "room", "name"}
    assert found["callback"].endswith("|write +12125550123")
    assert "did you mean floor" in found["flor"]
    zone = api("PUT", "/devices/4012", json={"zone": "hq-1"})
    assert errors(zone) == {"zone": "zone 'hq-1' needs a site|"}
    assert names(world) == []
    assert api("PUT", "/devices/4012", content=b"{no json").json()["reason"] == "json-not-readable"
    assert api("PUT", "/devices/4012", json=[1]).status_code == 400
    assert api("PUT", "/devices/4012", json={"device": "4013"}).status_code == 422


def test_pages_and_filters(world: ConsoleWorld) -> None:
    rows: list[dict[str, Any]] = [
        {"device": f"4{number:03d}", "name": f"Desk {number}", "site": "hq" if number % 2 else "lab"}
        for number in range(25)
    ]
    rows += [{"device": "alice@example.com", "kind": "softphone"}, {"device": "5000", "name": "100%_sure"}]
    with world.console.store.writing() as conn:
        upsert_devices(conn, rows)
    api = world.program("read")
    seen: list[str] = []
    after = ""
    while True:
        page = api("GET", "/devices", params={"limit": 10, "after": after}).json()
        assert page["total"] == 27
        seen += [one["device"] for one in page["devices"]]
        after = page["next"]
        if not after:
            break
    assert seen == sorted(str(row["device"]) for row in rows)

    def found(**params: Any) -> list[str]:
        return [one["device"] for one in api("GET", "/devices", params=params).json()["devices"]]

    assert found(q="desk 7") == ["4007"]
    assert found(q="%_s") == ["5000"]
    assert found(q="' OR 1=1 --") == []
    assert len(found(site="lab")) == 13
    assert found(kind="softphone") == ["alice@example.com"]
    assert found(located=False) == ["5000", "alice@example.com"]
    assert found(in_doubt=True) == []
    assert api("GET", "/devices", params={"limit": 0}).status_code == 422
    exported = api("GET", "/devices", headers={"Accept": "text/csv"}).text.splitlines()
    assert exported[0].split(",") == list(COLUMNS)
    assert len(exported) == 28


def test_many_at_once_by_csv_and_json_with_a_plan_first(world: ConsoleWorld) -> None:
    api = world.program()
    csv = "device,name,site\n4001,One,hq\n4002,Two,lab\n"
    headers = {"Content-Type": "text/csv"}
    planned = api("PUT", "/devices?plan=true", content=csv, headers=headers).json()
    assert planned["applied"] is False
    assert [one["device"] for one in planned["added"]] == ["4001", "4002"]
    assert names(world) == []
    assert api("PUT", "/devices", content=csv, headers=headers).json()["applied"] is True
    body = {"devices": [{"device": "4001", "name": "Uno"}, {"device": "4002"}, {"device": "4003", "site": "hq"}]}
    done = api("PUT", "/devices", json=body).json()
    assert [one["device"] for one in done["changed"]] == ["4001"]
    assert (done["changed"][0]["before"], done["changed"][0]["after"]) == ({"name": "One"}, {"name": "Uno"})
    assert done["loses_dispatchable_location"] == []
    assert "not_dispatchable" in done
    assert (len(done["added"]), done["unchanged"]) == (1, 1)
    done = api("PUT", "/devices?replace=true", json={"devices": [{"device": "4001"}]}).json()
    assert [one["device"] for one in done["removed"]] == ["4002", "4003"]
    assert names(world) == ["4001"]
    with world.console.store.reading() as conn:
        assert [row.action for row in audit_rows(conn, subject="device:4002")] == ["remove", "create"]
    yaml = {"content": b"devices:\n- {device: 0501, name: Zero}\n", "headers": {"Content-Type": "application/yaml"}}
    assert [one["device"] for one in api("PUT", "/devices", **yaml).json()["added"]] == ["0501"]
    yaml["content"] = b"devices:\n- {device: 4009, site: mars}\n"
    assert list(errors(api("PUT", "/devices", **yaml))) == ["2:24: site"]


def test_many_at_once_are_all_or_nothing(world: ConsoleWorld) -> None:
    api = world.program()
    csv = "device,name,site,zone\n4001,One,hq,\n4002,Two,nowhere,\n4003,Three,hq,lab-1\n"
    answer = api("PUT", "/devices", content=csv, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 422
    assert list(errors(answer)) == ["3:3: site", "4:4: zone"]
    body = {"devices": [{"device": "4001"}, {"name": "x"}, {"device": "4001"}, 7, {"device": "4004", "zone": "hq-1"}]}
    answer = api("PUT", "/devices", json=body)
    assert list(errors(answer)) == ["devices[1].device", "devices[2].device", "devices[3]"]
    answer = api("PUT", "/devices", json={"devices": [{"device": "4001"}, {"device": "4004", "zone": "hq-1"}]})
    assert list(errors(answer)) == ["devices[1].zone"]
    assert api("PUT", "/devices", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert api("PUT", "/devices", json={"devices": "x"}).status_code == 400
    assert names(world) == []


def test_tokens_that_open_nothing(here: ConsoleWorld) -> None:
    good = here.token("read")
    expired = here.token("admin", expires_at=time.time() - 1)
    for token, reason in (
        ("", "token-missing"),
        ("x", "token-unknown"),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), "token-unknown"),
        (good.replace("e911_", "e911__"), "token-unknown"),
        (expired, "token-expired"),
    ):
        answer = Program(here.app, token)("GET", "/devices")
        assert (answer.status_code, answer.json()["reason"]) == (401, reason)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    reader = Program(here.app, good)
    assert reader("GET", "/devices").status_code == 200
    for method, path in (
        ("PUT", "/devices/1"),
        ("PATCH", "/devices/1"),
        ("DELETE", "/devices/1"),
        ("PUT", "/devices"),
    ):
        answer = reader(method, path, content=b"{}")
        assert (answer.status_code, answer.json()["reason"]) == (403, "role-too-low")
    browser = here.browser("alice")
    assert browser.get("/api/v1/devices").status_code == 401, "a login is no token: no other site can use it here"


def test_other_peoples_sites(world: ConsoleWorld) -> None:
    everything = world.program("admin")
    everything("PUT", "/devices/4001", json={"site": "hq", "name": "Secret"})
    everything("PUT", "/devices/4002", json={"site": "lab"})
    everything("PUT", "/devices/4003", json={})
    lab = world.program("write", ("lab",))
    assert [one["device"] for one in lab("GET", "/devices").json()["devices"]] == ["4002"]
    assert "Secret" not in lab("GET", "/devices", headers={"Accept": "text/csv"}).text
    for device in ("4001", "4003"):
        assert lab("GET", f"/devices/{device}").status_code == 404
        assert lab("PATCH", f"/devices/{device}", json={"site": "lab"}).status_code == 404
        assert lab("PUT", f"/devices/{device}", json={"site": "lab"}).status_code == 404
        assert lab("DELETE", f"/devices/{device}").status_code == 404
        assert lab("GET", f"/devices/{device}/history").status_code == 404
        taken = lab("PUT", "/devices", json={"devices": [{"device": device, "site": "lab"}]})
        assert list(errors(taken)) == ["devices[0].site"]
    assert list(errors(lab("PATCH", "/devices/4002", json={"site": "hq"}))) == ["site"]
    assert list(errors(lab("PUT", "/devices/4002", json={"name": "x"}))) == ["site"]
    assert lab("PUT", "/devices?replace=true", json={"devices": []}).json()["removed"][0]["device"] == "4002"
    assert names(world) == ["4001", "4003"]
    assert [one["id"] for one in lab("GET", "/sites").json()] == ["lab"]
    assert lab("GET", "/sites/hq").status_code == 404
    assert lab("GET", "/calls?site=hq").status_code == 404
    assert "Secret" not in lab("GET", "/audit").text
    everything("PUT", "/devices/4004", json={"site": "hq", "room": "Vault"})
    everything("PATCH", "/devices/4004", json={"site": "lab", "room": "Open"})
    trail = lab("GET", "/devices/4004/history")
    assert trail.status_code == 200
    assert "Vault" not in trail.text, "where it came from is not theirs to know"


def test_too_many_requests(here: ConsoleWorld) -> None:
    here.console.rates.api = Rate(5, 60)
    api = here.program("read")
    answers = [api("GET", "/sites") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    here.console.rates.api = Rate(1000, 1)
    guesser = Program(here.app, "e911_00000000_x")
    assert [guesser("GET", "/sites").status_code for _ in range(25)][-1] == 429


def test_a_body_without_end(here: ConsoleWorld) -> None:
    api = here.program()
    answer = api("PUT", "/devices/4001", content=(b"x" * 65_536 for _ in range(10)))
    assert (answer.status_code, answer.json()["reason"]) == (413, "body-too-large")
    answer = api("PUT", "/devices", content=b"", headers={"Content-Length": str(10**10), "Content-Type": "text/csv"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "device", ["<script>alert(1)</script>@example.com", "a/../../b", "%2e%2e", "ünïcode", "' --"]
)
def test_odd_names_are_devices_or_refused(here: ConsoleWorld, device: str) -> None:
    from urllib.parse import quote

    api = here.program()
    made = api("PUT", f"/devices/{quote(device, safe='')}", json={"name": "<b>x</b>"})
    if made.status_code == 201:
        assert [one["device"] for one in api("GET", "/devices").json()["devices"]] == [made.json()["device"]]
    else:
        assert made.status_code in (404, 422)
        assert names(here) == []


def test_sites_trunks_and_calls(here: ConsoleWorld) -> None:
    api = here.program("write")
    api("PUT", "/devices/4001", json={"site": "hq", "zone": "hq-1"})
    hq = api("GET", "/sites/hq").json()
    assert (hq["devices"], hq["zones"][0]["devices"], hq["address"]["city"]) == (1, 1, "Albany")
    assert (hq["validation"], hq["validated_at"]) == ("", None)
    site = next(one for one in here.console.config.sites if one.id == "hq")
    with here.console.store.writing() as conn:
        keep_addresses(conn, {site.address.as_street_address: "invalid: HNO"}, 1000.0)
    said = api("GET", "/sites/hq").json()
    assert (said["validation"], said["validated_at"]) == ("invalid: HNO", 1000.0)
    assert api("GET", "/sites/none").status_code == 404
    nothing = api("GET", "/trunks").json()
    assert (nothing["at"], nothing["stale"], nothing["trunks"]) == (None, True, [])
    here.console.state_directory.mkdir(exist_ok=True)
    place = {
        "place": "udp:192.0.2.7:5060",
        "state": "down",
        "reason": "no-answer",
        "asked_at": 2.0,
        "answered_at": 1.0,
    }
    state = {"at": time.time(), "serving": True, "database": "ok", "devices": 1}
    content = orjson.dumps({**state, "trunks": {"a": {"state": "down", "places": [place]}}})
    (here.console.state_directory / "calls-state.json").write_bytes(content)
    found = api("GET", "/trunks").json()
    assert found["stale"] is False
    assert found["trunks"][0]["places"] == [place]
    assert (found["trunks"][0]["asked_at"], found["trunks"][0]["answered_at"]) == (2.0, 1.0)
    (here.console.state_directory / "calls-state.json").write_bytes(content[:-9])
    assert api("GET", "/trunks").json()["stale"] is True
    assert api("GET", "/calls").json() == {"calls": []}
    assert api("GET", "/calls/0123456789").status_code == 404


def test_the_contract_names_every_column_and_its_page_needs_no_internet(here: ConsoleWorld) -> None:
    browser = here.browser()
    contract = browser.get("/api/openapi.json").json()
    body = contract["paths"]["/api/v1/devices/{device}"]["put"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == set(COLUMNS)
    assert contract["components"]["securitySchemes"]
    page = browser.get("/api/docs").text
    assert "/api/v1/devices/{device}" in page
    assert "//cdn" not in page
    assert 'src="http' not in page


def test_the_contract_names_what_each_operation_answers(here: ConsoleWorld) -> None:
    contract = here.browser().get("/api/openapi.json").json()
    problem = contract["components"]["schemas"]["Problem"]
    tried = set()
    programs = {role: here.program(role) for role in ("read", "write", "admin")}
    bodies: tuple[Any, ...] = (
        b"",
        b"{",
        b'{"nonsense": 1}',
        b'{"name": "x"}',
        b'{"password": "correct horse battery"}',
    )
    for path, operations in contract["paths"].items():
        for method, operation in operations.items():
            named = path.removeprefix("/api/v1").replace("{row}", "001b2c3d4e50").replace("{name}", "bob")
            named = re.sub(r"\{\w+\}", "4012", named)
            given = {
                parameter["name"]: "9" * 25
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query"
            }
            for role, program in programs.items():
                for body in bodies if "requestBody" in operation else bodies[:1]:
                    for query in ({}, given):
                        headers = {"Content-Type": "application/json"} if body else {}
                        answer = program(method.upper(), named, content=body, params=query, headers=headers)
                        where = f"{role} {method} {path} {body!r} {query}: {answer.status_code}"
                        documented = operation["responses"].get(str(answer.status_code))
                        assert documented is not None, where
                        if answer.status_code >= 400:
                            assert answer.headers["content-type"] in documented["content"], where
                            assert set(problem["required"]) <= set(answer.json()) <= set(problem["properties"]), where
                        tried.add(answer.status_code)
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
    assert tried >= {200, 201, 204, 400, 403, 404, 415, 422}


def test_users_and_tokens_by_an_admin_token(world: ConsoleWorld) -> None:
    api = world.program("admin")
    made = api("PUT", "/users/Lou", json={"role": "admin", "password": "a long password"})
    assert (made.status_code, made.json()["username"], made.json()["sites"]) == (201, "lou", None)
    assert world.browser().log_in("lou", "a long password").status_code == 303
    for name, body, field in (
        ("x", {"role": "viewer"}, "password"),
        ("x", {"role": "king", "password": "a long password"}, "role"),
        ("x", {"sites": ["mars"], "password": "a long password"}, "sites"),
        ("x", {"sites": "hq", "password": "a long password"}, "sites"),
        ("x", {"password": "short"}, "password"),
        ("x", {"colour": "red"}, "colour"),
        ("x y", {"password": "a long password"}, "username"),
        ("lou", {"sites": ["hq"]}, "sites"),
        ("lou", {"role": "viewer"}, "role"),
    ):
        answer = api("PUT", f"/users/{name}", json=body)
        assert list(errors(answer)) == [field], body
    assert [user["username"] for user in api("GET", "/users").json()["users"]] == ["lou"]
    assert api("PUT", "/users/ann", json={"role": "admin", "password": "a long password"}).status_code == 201
    changed = api("PUT", "/users/lou", json={"role": "engineer", "sites": ["hq"]})
    assert (changed.status_code, changed.json()["role"], changed.json()["sites"]) == (200, "engineer", ["hq"])
    assert api("DELETE", "/users/lou").status_code == 204
    assert api("DELETE", "/users/lou").status_code == 404
    assert list(errors(api("DELETE", "/users/ann"))) == ["role"]
    token = api("POST", "/tokens", json={"name": "crm", "role": "read", "sites": ["lab"], "days": 1})
    assert token.status_code == 201
    text, token_id = token.json()["token"], token.json()["id"]
    assert Program(world.app, text)("GET", "/sites").status_code == 200
    assert text.rpartition("_")[2] not in api("GET", "/tokens").text
    assert api("DELETE", f"/tokens/{token_id}").status_code == 204
    assert Program(world.app, text)("GET", "/sites").status_code == 401
    assert api("DELETE", f"/tokens/{token_id}").status_code == 404
    for body, field in (
        ({"role": "read"}, "name"),
        ({"name": "x", "role": "x"}, "role"),
        ({"name": "x", "days": 0}, "days"),
    ):
        assert list(errors(api("POST", "/tokens", json=body))) == [field]
    writer = world.program("write")
    for method, path in (
        ("GET", "/users"),
        ("PUT", "/users/x"),
        ("DELETE", "/users/ann"),
        ("GET", "/tokens"),
        ("POST", "/tokens"),
    ):
        assert writer(method, path, content=b"{}").status_code == 403


def test_who_may_log_in_stands_in_the_audit_trail_for_admin_tokens_only(world: ConsoleWorld) -> None:
    world.browser("ada", "desk")
    world.program()("PUT", "/devices/4077", json={"site": "hq"})
    seen = {}
    for role in ("read", "write", "admin"):
        rows = world.program(role)("GET", "/audit").json()["changes"]
        seen[role] = {row["subject"].partition(":")[0] for row in rows}
        assert world.program(role)("GET", "/audit?subject=user:ada").json()["changes"] == [] or role == "admin"
    assert seen["read"] == seen["write"] == {"device"}
    assert seen["admin"] == {"device", "user", "token"}
