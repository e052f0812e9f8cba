"""Readiness: what each phone's 911 call would get, and what is to be mended."""

import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from config.load import load_config
from router.readiness.findings import Severity, worst
from router.readiness.judge import findings_of
from router.readiness.look import Look, look
from router.self_test.shape import shape_of
from router.store.engine import open_store, writing
from router.store.self_tests import SelfTest, claim, finish
from tests.support.commands import invoke

CONFIG = """
listen: [udp://127.0.0.1:5060]
networks: {inside: [127.0.0.0/8]}
trunks: {a: {target: "sip:192.0.2.7"}, b: {target: "sip:192.0.2.8"}}
emergency:
  default: {site: hq}
  routes: [{name: one, trunk: a}]
  basic: [{name: relay, trunk: b, number: "+12125550140"}]
locations: {database: "sqlite:///edge911.db", sources: [registered, site]}
sites:
  - id: hq
    name: Head office
    timezone: America/New_York
    multi_storey: true
    numbers: [4XXX]
    callback: "+12125550100"
    notify: [desk]
    address:
      {country: US, state: NY, city: Albany, street: Lake, street_suffix: RD, house_number: "1", postal_code: "12207"}
  - id: yard
    timezone: America/New_York
    numbers: [5XXX]
    notify: [desk]
    address: {}
contacts: {desk: {send: ["json://127.0.0.1:9/x"]}}
"""
DEVICES = """device,site,floor,room
4001,hq,3,301
4002,hq,,
4003,hq,2,
5001,yard,,
"""


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = invoke([*arguments, "-c", str(folder / "edge911.yaml")], env={"COLUMNS": "160"})
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "edge911.yaml").write_text(CONFIG)
    (tmp_path / "devices.csv").write_text(DEVICES)
    code, said = run(tmp_path, "locations", "import", str(tmp_path / "devices.csv"))
    assert code == 0, said
    return tmp_path


def seen(folder: Path) -> Look:
    return look(load_config(folder / "edge911.yaml"))


def alive(folder: Path, **trunks: str) -> None:
    """The processes as they write down that they live."""
    state = load_config(folder / "edge911.yaml").state_directory
    state.mkdir(exist_ok=True)
    now = time.time()
    told = {name: {"state": how, "places": []} for name, how in trunks.items()}
    calls = {"at": now, "serving": True, "database": "ok", "devices": 4, "trunks": told}
    (state / "calls-state.json").write_bytes(orjson.dumps(calls))
    (state / "notices.json").write_bytes(orjson.dumps({"at": now}))


def test_phones_are_counted_by_what_their_call_would_get(folder: Path) -> None:
    phones = {one.site: one for one in seen(folder).phones}
    hq, yard = phones["hq"], phones["yard"]
    assert (hq.phones, hq.dispatchable, hq.located, hq.basic) == (3, 2, 1, 0)
    assert hq.named["no-floor-or-room"] == ["4002"]
    assert (yard.phones, yard.basic, yard.without_callback) == (1, 1, 0)
    assert yard.reasons["no-location"] == 1


def names(folder: Path) -> dict[str, Severity]:
    return {finding.name: finding.severity for finding in findings_of(seen(folder))}


def test_a_router_that_does_not_run_is_critical(folder: Path) -> None:
    found = names(folder)
    assert found["router-not-running"] is Severity.CRITICAL
    assert found["phones-basic-only"] is Severity.WARNING
    assert found["channel-not-proven"] is Severity.WARNING
    assert found["route-not-tested"] is Severity.WARNING


def test_trunks_that_do_not_answer(folder: Path) -> None:
    alive(folder, a="up", b="up")
    assert worst(findings_of(seen(folder))) is Severity.WARNING
    alive(folder, a="down", b="up")
    assert names(folder)["trunk-down"] is Severity.CRITICAL
    assert "no-route-alive" not in names(folder)
    alive(folder, a="down", b="no-address")
    assert names(folder)["no-route-alive"] is Severity.CRITICAL


def test_a_test_call_that_failed_is_critical_until_one_passes(folder: Path) -> None:
    alive(folder)
    loaded = load_config(folder / "edge911.yaml")
    engine = open_store(loaded.database_url)

    def tested(name: str, verdict: str, at: float) -> None:
        test = SelfTest(
            id=name, node="n", site="hq", route="one", by="x", started_at=at, ended_at=at, verdict=verdict, reason="r"
        )
        with writing(engine) as conn:
            claim(conn, test)
            finish(conn, test, b"")

    tested("t1", "failed", time.time() - 10)
    assert names(folder)["self-test-failed"] is Severity.CRITICAL
    tested("t2", "passed", time.time() - 5)
    assert "self-test-failed" not in names(folder)
    engine.dispose()


def test_a_database_that_is_away_is_critical_and_nothing_else_is_lost(folder: Path) -> None:
    alive(folder)
    (folder / "edge911.db").write_bytes(b"this is no database" * 1000)
    found = names(folder)
    assert found["database-corrupt"] is Severity.CRITICAL
    assert "channel-not-proven" not in found, "nobody knows"


def test_the_command_says_it_to_people_and_to_monitoring(folder: Path) -> None:
    code, said = run(folder, "doctor")
    assert code == 2
    assert said.startswith("NOT READY")
    assert "CRITICAL router-not-running" in said
    assert "→ start it" in said
    alive(folder, a="up", b="up")
    code, said = run(folder, "doctor", "--json")
    document: dict[str, Any] = json.loads(said)
    assert (code, document["status"]) == (1, "warning")
    assert [site["site"] for site in document["sites"]] == ["hq", "yard"]
    assert all(finding["remedy"] for finding in document["findings"])
    code, said = run(folder, "doctor", "--site", "yard", "--json")
    assert {finding["site"] for finding in json.loads(said)["findings"]} <= {"", "yard"}


def test_a_site_that_is_not_there_and_a_configuration_that_cannot_be_used_are_critical(folder: Path) -> None:
    alive(folder, a="up", b="up")
    code, said = run(folder, "doctor", "--site", "hg")
    assert code == 2
    assert "no such site" in said
    file = folder / "edge911.yaml"
    file.write_text(CONFIG.replace("trunk: a", "trunk: x"))
    code, said = run(folder, "doctor", "--json")
    document = json.loads(said)
    assert (code, document["status"], document["sites"]) == (2, "critical", [])
    (finding,) = document["findings"]
    assert finding["name"] == "configuration-wrong"
    assert "trunk" in finding["subject"]
    code, said = run(folder, "doctor")
    assert code == 2
    assert said.startswith("NOT READY")


MIXED = """device,kind,site,floor,room,country,state,city,house_number,street,postal_code
4010,off-premises,,,,US,NY,Albany,12,Lake,12207
4011,off-premises,hq,,7,,,,,,
6001,fixed,,,,,,,,,
"""


def test_a_phone_is_where_it_says_and_not_in_the_building_of_the_default_site(folder: Path) -> None:
    (folder / "mixed.csv").write_text(MIXED)
    code, said = run(folder, "locations", "import", str(folder / "mixed.csv"))
    assert code == 0, said
    hq = next(one for one in seen(folder).phones if one.site == "hq")
    named = {device: reason for reason, devices in hq.named.items() for device in devices}
    assert "4010" not in named, "a house of its own has no floors of the head office"
    assert named["4011"] == "no-address-of-its-own"
    assert named["6001"] == "default-site"


def test_a_dead_e911_trunk_leaves_basic_911(folder: Path) -> None:
    alive(folder, a="down", b="up")
    hq = next(one for one in seen(folder).phones if one.site == "hq")
    assert (hq.dispatchable, hq.located, hq.basic) == (0, 0, 3)
    assert hq.reasons["trunk-down"] == 3
    finding = next(one for one in findings_of(seen(folder)) if (one.name, one.site) == ("phones-basic-only", "hq"))
    assert "do not answer" in finding.remedy
    alive(folder, a="down", b="down")
    hq = next(one for one in seen(folder).phones if one.site == "hq")
    assert (hq.dispatchable, hq.basic) == (2, 0), "both are tried; no-route-alive says it"


def test_each_finding_names_the_reasons_of_its_own_phones_and_what_mends_each(folder: Path) -> None:
    (folder / "more.csv").write_text("device,site,floor,room,expires_at\n4004,hq,,,\n4005,hq,,9,2020-01-01\n")
    code, said = run(folder, "locations", "import", str(folder / "more.csv"))
    assert code == 0, said
    alive(folder, a="up", b="up")
    (finding,) = [one for one in findings_of(seen(folder)) if one.name == "phones-not-dispatchable"]
    assert "no-floor-or-room (2: 4002, 4004)" in finding.message
    assert "location-expired (1: 4005)" in finding.message
    assert "floor, room or unit" in finding.remedy
    assert "expires_at" in finding.remedy


def test_phones_that_cannot_be_called_back_are_found(folder: Path) -> None:
    file = folder / "edge911.yaml"
    file.write_text(CONFIG.replace('    callback: "+12125550100"\n', ""))
    alive(folder, a="up", b="up")
    found = [one for one in findings_of(seen(folder)) if one.name == "phones-without-callback"]
    assert {(one.site, one.subject) for one in found} == {("hq", "3"), ("yard", "1")}
    assert all("callback" in one.remedy for one in found)


def test_a_warning_of_a_sites_section_is_of_that_site(folder: Path) -> None:
    alive(folder, a="up", b="up")
    found = [one for one in findings_of(seen(folder)) if one.name == "configuration-warning"]
    assert ("yard", "sites[1].address") in {(one.site, one.subject) for one in found}
    _, said = run(folder, "doctor", "--site", "hq", "--json")
    assert not [one for one in json.loads(said)["findings"] if one["subject"].startswith("sites[1]")]


def untested(folder: Path) -> list[str]:
    return [finding.site for finding in findings_of(seen(folder)) if finding.name == "route-not-tested"]


@pytest.mark.parametrize(
    ("before", "after", "is_stale"),
    [
        ("routes: [{name: one, trunk: a}]", "routes: [{name: one, trunk: a, profile: number}]", True),
        ("routes: [{name: one, trunk: a}]", "routes: [{name: one, trunk: a, add_location: never}]", True),
        ("routes: [{name: one, trunk: a}]", "routes: [{name: one, trunk: a, timeout: 3s}]", False),
        ('a: {target: "sip:192.0.2.7"}', 'a: {target: "sip:192.0.2.7", large_messages: udp}', True),
        ('a: {target: "sip:192.0.2.7"}', 'a: {target: "sip:192.0.2.7", trust_identity: true}', True),
        ('a: {target: "sip:192.0.2.7"}', 'a: {target: "sip:192.0.2.7", probe: 10s}', False),
        ('house_number: "1"', 'house_number: "3"', True),
        ("callback: ", "callback: '+12125550177' # ", True),
    ],
)
def test_a_test_of_calls_that_are_made_otherwise_now_counts_as_none(
    folder: Path, before: str, after: str, is_stale: bool
) -> None:
    alive(folder)
    loaded = load_config(folder / "edge911.yaml")
    now = time.time()
    shape = shape_of(loaded, loaded.config.sites[0], "one")
    test = SelfTest(
        id="t", node="n", site="hq", route="one", by="x", started_at=now, ended_at=now, verdict="passed", shape=shape
    )
    engine = open_store(loaded.database_url)
    with writing(engine) as conn:
        claim(conn, test)
    engine.dispose()
    assert untested(folder) == ["yard"]
    text = (folder / "edge911.yaml").read_text()
    assert before in text
    (folder / "edge911.yaml").write_text(text.replace(before, after, 1))
    assert ("hq" in untested(folder)) is is_stale


def test_a_profile_of_ones_own_that_says_something_else_is_another(folder: Path) -> None:
    (folder / "profiles").mkdir()
    profile = folder / "profiles" / "ours.yaml"
    config = folder / "edge911.yaml"
    config.write_text(config.read_text().replace("{name: one, trunk: a}", "{name: one, trunk: a, profile: ours}"))

    def shape(text: str) -> str:
        profile.write_text(text)
        loaded = load_config(config)
        return shape_of(loaded, loaded.config.sites[0], "one")

    first = shape("request_uri: sip:911@{host}\nlocation: value\n")
    assert shape("description: words\nrequest_uri: sip:911@{host}\nlocation: value\n") == first
    assert shape("request_uri: urn:service:sos\nlocation: value\n") != first
