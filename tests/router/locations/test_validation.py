"""Validating registered addresses: a real LoST server over HTTP, the store (SQLite, PostgreSQL), the command."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine

from config.load import load_config
from config.schema import Lvf
from e911.location import CivicAddress, Device
from e911.lost import LostError, Validated, Validation
from router.emergency.rules import places_of
from router.locations.lvf_client import LvfClient
from router.locations.validation import DAY, MOST_FAILURES, is_due, keep_validations, validate_devices
from router.locations.validator import Validator
from router.readiness.judge import findings_of
from router.readiness.look import look
from router.store.device_list import names_to_validate
from router.store.devices import all_devices, get_device, upsert_devices
from router.store.engine import open_store, reading, writing
from router.store.validated_addresses import all_addresses, keep_addresses
from simulations.lost import Lost, Manner, errors, redirect
from tests.support.commands import invoke

CONFIG = """
listen: ["udp://127.0.0.1:5060"]
networks: {inside: [127.0.0.0/8]}
trunks: {ers: {target: "sip:192.0.2.31"}}
emergency: {default: {site: hq}, routes: [{name: primary, trunk: ers}]}
locations: {database: "DATABASE", sources: [registered, site], lvf: {url: "URL", timeout: SECONDS}}
sites:
  - id: hq
    callback: "+12125550100"
    address: {country: US, state: NY, city: Albany, house_number: "1", street: Lake, street_suffix: RD}
"""
STREETS = {"NY": {"Albany": {"Lake RD": (1, 99), "Rue de l'Été": (1, 5)}}}
ROWS = [
    {"device": "4001", "site": "hq", "floor": "3", "room": "301"},
    {"device": "4002", "site": "hq", "floor": "3", "room": "301"},
    {"device": "4003", "site": "hq", "house_number": "400"},
    {"device": "4004", "country": "US", "state": "NY", "city": "Troy", "street": "Lake", "house_number": "1"},
    {"device": "4005", "latitude": 42.65, "longitude": -73.75},
]
ALBANY = CivicAddress(
    country="US", state="NY", city="Albany", street="Lake", street_suffix="RD", house_number="1", floor="3"
)


@pytest.fixture
def lost() -> Iterator[Lost]:
    """A LoST server that knows two streets."""
    with Lost(STREETS) as server:
        yield server


class World:
    """A configuration, a store with devices, and a server."""

    def __init__(self, directory: Path, store_url: str, server: Lost) -> None:
        self.file = directory / "edge911.yaml"
        self.url = store_url
        self.configure(server.url)
        self.engine: Engine = open_store(store_url)
        with writing(self.engine) as conn:
            upsert_devices(conn, ROWS, now=1000.0)

    def configure(self, lvf: str, timeout: str = "20s") -> None:
        text = CONFIG.replace("DATABASE", self.url).replace("URL", lvf).replace("SECONDS", timeout)
        self.file.write_text(text, encoding="utf-8")

    def __call__(self, *arguments: str) -> Result:
        line = ["locations", *arguments, "-c", str(self.file)]
        return invoke(line, env={"COLUMNS": "200"})

    def kept(self) -> dict[str, str]:
        with reading(self.engine) as conn:
            return {device.device: device.validation for device in all_devices(conn)}

    def device(self, name: str) -> Device:
        with reading(self.engine) as conn:
            found = get_device(conn, name)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path, store_url: str, lost: Lost) -> Iterator[World]:
    """On SQLite and PostgreSQL."""
    made = World(tmp_path, store_url, lost)
    yield made
    made.engine.dispose()


KEPT = {"4001": "valid", "4002": "valid", "4003": "invalid: HNO", "4004": "invalid: A3", "4005": ""}


def test_devices_are_validated_and_the_result_is_seen(world: World, lost: Lost) -> None:
    assert "not validated" in world("list").output
    done = world("validate")
    assert done.exit_code == 0, done.output
    assert "4003: invalid: HNO" in done.output
    assert "4005: not asked about: no-civic-address" in done.output
    assert "4 devices validated: 2 valid, 2 invalid, 0 unknown; 1 not asked about" in done.output
    assert world.kept() == KEPT
    assert "1 address of a site validated: 1 valid" in done.output
    assert len(lost.asked) == 4  # two phones in one room are one question; the site's address is one
    assert b'validateLocation="true"' in lost.documents[0]
    listed = world("list").output
    assert "valid on 20" in listed
    assert "HNO" in listed
    again = json.loads(world("validate", "--json").stdout)
    assert (again["validated"], again["skipped"], len(lost.asked)) == (0, {"4005": "no-civic-address"}, 4)
    assert json.loads(world("validate", "--json", "4001").stdout)["results"] == {"4001": "valid"}
    assert json.loads(world("validate", "--json", "--all").stdout)["counts"] == {"valid": 2, "invalid": 2}


def test_a_call_shows_what_its_place_was_validated_as_and_when(world: World) -> None:
    def explained(device: str, *more: str) -> str:
        return str(invoke(["explain", device, "911", "-c", str(world.file), *more]).stdout)

    assert "; not validated" in explained("4003")
    world("validate")
    at = world.device("4003").validated_at
    day, moment = (f"{datetime.fromtimestamp(at, UTC):{form}}" for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"))
    assert f"; invalid on {day}: HNO" in explained("4003")
    location = json.loads(explained("4003", "--json"))["location"]
    assert (location["validation"], location["validated_at"]) == ("invalid: HNO", moment)
    where_the_site_is = json.loads(explained("4099", "--json"))["location"]
    assert where_the_site_is["source"] == "site"
    assert where_the_site_is["validation"] == "valid"
    assert where_the_site_is["validated_at"] >= moment


def test_the_address_of_a_site_is_asked_about_kept_and_shown(world: World, lost: Lost) -> None:
    def of_calls() -> tuple[str, str]:
        """What is said of a phone seen in the site's network, on a floor of its own, and of a caller of the site."""
        said = [
            json.loads(invoke(["explain", caller, "911", "-c", str(world.file), "--json", *more]).stdout)
            for caller, more in (("4099", ["--source", "127.0.0.9"]), ("4098", []))
        ]
        first, second = (str(one["location"]["validation"]) for one in said)
        return first, second

    def validated(*more: str) -> dict[str, str]:
        return dict(json.loads(world("validate", "--json", *more).stdout)["sites"]["results"])

    world.file.write_text(
        world.file.read_text()
        .replace("sources: [registered, site]", "sources: [registered, network, site]")
        .replace(
            "street_suffix: RD}", "street_suffix: RD}\n    zones: [{id: hq-3, floor: '3', networks: [127.0.0.9/32]}]"
        )
    )
    assert of_calls() == ("not validated", "not validated")
    assert validated("4001") == {}  # only what is named
    assert validated() == {"hq": "valid"}
    assert of_calls() == ("valid", "valid")
    asked = len(lost.asked)
    assert validated() == {}
    assert len(lost.asked) == asked
    world.file.write_text(world.file.read_text().replace('house_number: "1"', 'house_number: "400"'))
    assert of_calls() == ("not validated", "not validated")
    lost.manner = Manner(body=b"no")
    assert validated() == {}
    assert of_calls() == ("not validated", "not validated")
    lost.manner = Manner()
    assert validated() == {"hq": "invalid: HNO"}
    assert of_calls() == ("invalid: HNO", "invalid: HNO")
    with reading(world.engine) as conn:
        assert {civic.house_number for civic in all_addresses(conn)} == {"1", "400"}


def test_an_address_that_the_server_chokes_on_keeps_no_other_from_being_asked_about(
    world: World, lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = LvfClient.validate

    def chokes(client: LvfClient, civic: CivicAddress) -> Validation:
        if civic.house_number == "400":
            raise LostError("lvf-refused", "locationValidation: missing")
        return validate(client, civic)

    monkeypatch.setattr(LvfClient, "validate", chokes)
    monkeypatch.setattr("router.locations.validator.PAGE", 1)
    config = load_config(world.file).config
    thread = Validator(world.url, lambda: config, str)
    assert thread.look(2000.0) == ("lvf-refused", "locationValidation: missing")
    assert world.kept() == {**KEPT, "4003": ""}
    with reading(world.engine) as conn:
        assert [said.validation for said in all_addresses(conn).values()] == ["valid"]


def test_a_row_of_another_program_that_cannot_be_read_is_no_answer(world: World) -> None:
    albany = CivicAddress(country="US", city="Albany", street="Lake")
    with writing(world.engine) as conn:
        keep_addresses(conn, {albany: "unknown"}, 1.0)
        keep_addresses(conn, {albany: "valid"}, 2.0)
        conn.exec_driver_sql("INSERT INTO validated_addresses VALUES ('{\"planet\": 3}', 'valid', 1), ('?', '', 1)")
    with reading(world.engine) as conn:
        assert all_addresses(conn) == {albany: Validated("valid", 2.0)}


def test_another_location_is_asked_about_anew(world: World, lost: Lost) -> None:
    world("validate")
    assert world("set", "4003", "house_number=2").exit_code == 0
    assert world.kept()["4003"] == ""
    assert json.loads(world("validate", "--json").stdout)["results"] == {"4003": "valid"}
    assert lost.asked[-1]["HNO"] == "2"


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        (Manner(body=b"<html/>"), "lvf-unreadable"),
        (Manner(status=302, headers={"Location": "http://192.0.2.1/"}), "lvf-redirects"),
        (Manner(body=redirect("other.example.com")), "lvf-redirects"),
        (Manner(body=b"<a>" + b"x" * 3_000_000 + b"</a>"), "lvf-too-large"),
        (Manner(headers={"Content-Encoding": "gzip"}), "lvf-unreadable"),
        (Manner(status=503), "lvf-refused"),
        (Manner(body=errors("serverTimeout", "busy")), "lvf-refused"),
    ],
)
def test_a_server_that_gives_no_answer_changes_nothing(
    tmp_path: Path, lost: Lost, manner: Manner, reason: str
) -> None:
    world = World(tmp_path, f"sqlite:///{tmp_path}/edge911.db", lost)
    world("validate")
    before = world.device("4001")
    lost.manner = manner
    done = world("validate", "--all", "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["failures"] == {reason: 3}
    assert said["words"]
    assert world.kept() == KEPT
    assert world.device("4001") == before
    world.engine.dispose()


@pytest.mark.parametrize("manner", [Manner(delay=600.0), Manner(drip=0.1, body=b"<a>" + b"x" * 30_000 + b"</a>")])
def test_a_slow_answer_is_none_also_where_it_drips(lost: Lost, manner: Manner) -> None:
    lost.manner = manner
    with LvfClient(Lvf(url=lost.url, timeout=0.3), str) as client, pytest.raises(LostError) as raised:
        client.validate(ALBANY)
    assert raised.value.reason == "lvf-slow"


def test_nobody_there_and_a_token(lost: Lost) -> None:
    lost.token = "sesame"
    with LvfClient(Lvf(url=lost.url, token="sesame"), str) as client:
        assert client.validate(ALBANY).text == "valid"
    with LvfClient(Lvf(url=lost.url), str) as client, pytest.raises(LostError, match="401"):
        client.validate(ALBANY)
    with LvfClient(Lvf(url="http://127.0.0.1:1/lost"), str) as client, pytest.raises(LostError) as raised:
        client.validate(ALBANY)
    assert raised.value.reason == "lvf-unreachable"


def test_a_server_that_fails_is_left_alone(world: World) -> None:
    asked: list[CivicAddress] = []

    def ask(civic: CivicAddress) -> Validation:
        asked.append(civic)
        raise LostError("lvf-slow", "no answer")

    rooms = [{"device": f"5{n:03}", "site": "hq", "room": str(n)} for n in range(20)]
    with writing(world.engine) as conn:
        upsert_devices(conn, rooms, now=1000.0)
    with reading(world.engine) as conn:
        devices = [device for device in all_devices(conn) if device.device.startswith("5")]
    run = validate_devices(world.engine, devices, places_of(load_config(world.file).config), ask)
    assert (len(asked), run.left, run.results) == (MOST_FAILURES, 20, {})


def test_an_answer_about_where_it_was_is_not_kept(world: World) -> None:
    before = {name: world.device(name) for name in ("4001", "4002")}
    with writing(world.engine) as conn:
        upsert_devices(conn, [{"device": "4001", "room": "302"}, {"device": "4002", "name": "Desk"}], now=1100.0)
        kept = keep_validations(conn, {name: (device, "valid") for name, device in before.items()}, 1200.0)
    assert kept == {"4002"}
    assert (world.device("4001").validation, world.device("4002").validation) == ("", "valid")
    assert (world.device("4002").validated_at, world.device("4002").name) == (1200.0, "Desk")


def test_what_is_due_is_the_same_in_memory_and_in_the_database(world: World) -> None:
    every = 30 * DAY
    texts = {"4001": ("valid", 1000.0), "4002": ("unknown: HNO", 1000.0), "4003": ("invalid: HNO", 1000.0)}
    with writing(world.engine) as conn:
        for name, (text, at) in texts.items():
            keep_validations(conn, {name: (world.device(name), text)}, at)
    for now in (1000.0, 1000.0 + DAY - 1, 1000.0 + DAY, 1000.0 + every - 1, 1000.0 + every):
        with reading(world.engine) as conn:
            expected = sorted(device.device for device in all_devices(conn) if is_due(device, every, now))
            found = names_to_validate(conn, now - every, now - DAY)
            paged = names_to_validate(conn, now - every, now - DAY, limit=1)
        assert found == expected
        assert paged == expected[:1]


def test_the_thread_asks_by_itself(world: World, lost: Lost) -> None:
    config = load_config(world.file).config
    looked = threading.Event()

    def settings() -> object:
        looked.set()
        return config

    thread = Validator(world.url, settings, str)  # type: ignore[arg-type]
    assert thread.look(2000.0) == ("", "")
    assert world.kept() == KEPT
    asked = len(lost.asked)
    assert asked == 4
    with reading(world.engine) as conn:
        assert [said.validation for said in all_addresses(conn).values()] == ["valid"]
    lost.manner = Manner(body=b"no")
    assert world("set", "4001", "room=305").exit_code == 0
    reason, words = thread.look(2000.0)
    assert (reason, words) == ("lvf-unreadable", "the document is not XML")
    assert world.kept() == {**KEPT, "4001": ""}
    thread.start()
    assert looked.wait(60)
    thread.stop(60)
    assert not thread.is_alive()


def test_doctor_and_check(tmp_path: Path, lost: Lost) -> None:
    world = World(tmp_path, f"sqlite:///{tmp_path}/edge911.db", lost)

    def sites() -> dict[str, str]:
        found = findings_of(look(load_config(world.file)))
        return {one.site: one.subject for one in found if one.name == "locations-not-validated"}

    def wrong_places() -> list[str]:
        found = findings_of(look(load_config(world.file)))
        return [one.message for one in found if one.name == "site-address-not-validated"]

    assert sites() == {"hq": "3", "": "1"}
    assert len(wrong_places()) == 1
    world("validate")
    assert sites() == {"hq": "1", "": "1"}
    assert wrong_places() == []
    world.file.write_text(world.file.read_text().replace('house_number: "1"', 'house_number: "400"'))
    assert wrong_places() == ["addresses in the configuration are not known to be valid: hq (not validated)"]
    world.configure("http://192.0.2.9/lost")
    said = invoke(["check", "-c", str(world.file)])
    assert said.exit_code != 0
    assert "locations.lvf.url: http://" in said.output
    world.engine.dispose()


def test_names_that_are_not_there_and_no_server(world: World, lost: Lost) -> None:
    done = world("validate", "4001", "4999")
    assert done.exit_code == 1
    assert "no such device: 4999" in done.output
    assert lost.asked == []
    world.file.write_text(world.file.read_text().replace(f'lvf: {{url: "{lost.url}", timeout: 20s}}', ""))
    assert "locations: {lvf:" in world("validate").output
