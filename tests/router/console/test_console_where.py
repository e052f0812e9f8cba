"""The page on which a user says where a phone is, and the list of phones without a location."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e911.location import Device
from router.console.settings import Store
from router.locations.self_service import device_in, token_of
from router.notices.links import secrets_of
from router.store.audit import audit_rows
from router.store.devices import get_device, mark_devices, upsert_devices
from router.store.phones import note_phones
from tests.support.console import Browser, ConsoleWorld, console_world

ADDRESS = {
    "country": "CA",
    "house_number": "1200",
    "street": "rue Exemple Ouest",
    "city": "Montréal",
    "state": "QC",
    "postal_code": "H3B 2Y5",
    "unit": "4",
    "acknowledged": "yes",
}


@pytest.fixture
def world(tmp_path: Path, store_url: str) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path, store_url) as made:
        with made.console.store.writing() as conn:
            home = {"country": "US", "state": "NY", "city": "Albany", "house_number": "1", "street": "Lake"}
            row = {"device": "4150", "name": "Nora's <b>", "kind": "softphone", **home, "street_suffix": "AVE"}
            upsert_devices(conn, [{**row, "site": "hq", "zone": "hq-1", "postal_code": "12207"}], now=100.0)
            upsert_devices(conn, [{"device": "4151", "city": "Geheim", "street": "Secret"}], now=100.0)
            mark_devices(conn, {"4150": {"unconfirmed": "new-network"}}, None)
        yield made


NORA = Device(device="4150", name="Nora's <b>")


def path(world: ConsoleWorld, device: Device = NORA, seconds: float = 600.0) -> str:
    secret = secrets_of(world.console.state_directory, world.console.config.node)[0]
    return "/where/" + token_of(secret, device, time.time() + seconds)


def stored(world: ConsoleWorld) -> Device:
    with world.console.store.reading() as conn:
        found = get_device(conn, "4150")
    assert found is not None
    return found


def test_the_address_given_is_kept_confirmed_and_in_the_audit_trail(world: ConsoleWorld) -> None:
    browser = world.browser()
    page = browser.get(path(world)).text
    assert "Nora&#39;s &lt;b&gt;" in page
    assert 'value="Lake AVE"' in page
    before = time.time()
    answer = browser.submit(path(world), **{**ADDRESS, "postal_code": "h3b2y5"})
    assert answer.status_code == 200
    assert "1200" in answer.text
    device = stored(world)
    assert device.civic.postal_code == "H3B 2Y5"
    assert (device.civic.street, device.civic.street_suffix, device.civic.city) == (
        "rue Exemple Ouest",
        "",
        "Montréal",
    )
    assert (device.site, device.zone, device.unconfirmed) == ("hq", "", "")
    assert device.confirmed_by == "self-service"
    assert device.confirmed_at >= int(before)
    assert device.acknowledged_at >= before
    with world.console.store.reading() as conn:
        row, change = audit_rows(conn, subject="device:4150")[:2]
    assert (change.via, change.after["city"]) == ("self-service", "Montréal")
    assert (row.via, row.action, row.before["city"], row.after["city"]) == (
        "self-service",
        "confirm-location",
        "Albany",
        "Montréal",
    )
    assert "acknowledged_at" in row.after


def test_the_same_address_is_confirmed_and_left_as_it_is(world: ConsoleWorld) -> None:
    same = {**ADDRESS, "country": "US", "state": "NY", "city": "Albany", "house_number": "1", "street": "Lake AVE"}
    old = stored(world).civic
    answer = world.browser().submit(path(world), **{**same, "postal_code": "12207", "unit": ""})
    assert answer.status_code == 200
    device = stored(world)
    assert (device.civic, device.zone, device.unconfirmed) == (old, "hq-1", "")
    assert device.confirmed_at > 100.0


def test_another_house_of_the_street_keeps_the_suffix_where_providers_look_for_it(world: ConsoleWorld) -> None:
    there = {**ADDRESS, "country": "US", "state": "NY", "city": "Albany", "house_number": "7", "street": "Lake AVE"}
    answer = world.browser().submit(path(world), **{**there, "postal_code": "12207", "unit": ""})
    assert answer.status_code == 200
    civic = stored(world).civic
    assert (civic.house_number, civic.street, civic.street_suffix) == ("7", "Lake", "AVE")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"acknowledged": ""}, "Tick that you have read"),
        ({"city": ""}, "Give the city"),
        ({"state": "ON"}, "belongs to another state or province"),
        ({"state": "NY"}, "is not in that country"),
        ({"postal_code": "H3B"}, "no ZIP code"),
        ({"street": "x\u200b"}, "Street, as on letters"),
        ({"street": "s" * 300}, "Street, as on letters"),
        ({"country": "Canada"}, "Country"),
    ],
)
def test_what_is_wrong_is_said_in_words_and_nothing_is_kept(
    world: ConsoleWorld, change: dict[str, str], said: str
) -> None:
    answer = world.browser().submit(path(world), **{**ADDRESS, **change})
    assert answer.status_code == 422
    assert said in answer.text
    assert 'value="1200"' in answer.text
    assert stored(world).unconfirmed == "new-network"
    assert stored(world).civic.city == "Albany"


def test_it_speaks_french_and_warns(world: ConsoleWorld) -> None:
    page = Browser(world.app, language="fr-CA").get(path(world)).text
    assert "Où se trouve ce téléphone?" in page
    assert "sans électricité" in page
    assert "États-Unis" in page


def test_a_link_that_is_wrong_or_over_reveals_nothing(world: ConsoleWorld) -> None:
    good = path(world)
    browser = world.browser()
    other = browser.get("/where/" + token_of(b"x" * 32, NORA, time.time() + 600))
    answers = [
        browser.get(wrong)
        for wrong in (path(world, seconds=-1), path(world, replace(NORA, device="nobody")), good + "A", good[:-1])
    ]
    answers += [browser.get(f"/where/{text}") for text in ("x", "A" * 3000, "%00", "..%2f..", good[7:-2] + "=")]
    for answer in answers:
        assert answer.status_code == 404
    assert other.status_code == 404
    assert all("This link is not good any more" in answer.text for answer in [*answers[:4], other])
    assert not any("Albany" in answer.text or "4150" in answer.text for answer in [*answers, other])
    assert "Geheim" not in browser.get(good).text
    assert browser.http.post(good, data={**ADDRESS, "csrf": "0" * 64}).status_code == 403
    assert stored(world).civic.city == "Albany"


@pytest.mark.parametrize(
    ("language", "said"), [("en", "your address was not kept"), ("fr", "n&#39;a pas été conservée")]
)
def test_without_a_database_the_user_hears_that_nothing_was_kept(tmp_path: Path, language: str, said: str) -> None:
    with console_world(tmp_path) as world:
        with world.console.store.writing() as conn:
            upsert_devices(conn, [{"device": "4150", "name": "Nora's <b>", "kind": "softphone"}], now=100.0)
        browser = Browser(world.app, language=language)
        form = {"csrf": browser.csrf(path(world)), **ADDRESS}
        world.console.store.close()
        world.console.store = Store("postgresql://nobody@127.0.0.1:9/none")
        for answer in (browser.get(path(world)), browser.http.post(path(world), data=form)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
            assert said in answer.text
            assert "locations.database" not in answer.text


def test_tries_are_limited(world: ConsoleWorld) -> None:
    browser = world.browser()
    statuses = {browser.get("/where/x").status_code for _ in range(60)}
    assert statuses == {404, 429}


def test_a_token_is_of_one_device_and_has_one_spelling() -> None:
    alice = Device(device="alice@pbx.example", name="Alice")
    find = {alice.device: alice}.get
    token = token_of(b"k" * 32, alice, 1000.0)
    assert device_in((b"j" * 32, b"k" * 32), token, 999.0, find) == alice
    assert device_in((b"k" * 32,), token, 1000.0, find) is None
    for position in range(len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        assert device_in((b"k" * 32,), changed, 999.0, find) is None


@pytest.mark.parametrize("change", [{"name": "Omar"}, {"email": "omar@example.com"}])
def test_when_a_number_changes_hands_links_of_before_are_over(world: ConsoleWorld, change: dict[str, str]) -> None:
    link = path(world)
    with world.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4150", "city": "Troy", **change}])
    answer = world.browser().get(link)
    assert answer.status_code == 404
    assert "Troy" not in answer.text


def test_phones_without_a_location_are_shown_and_no_script_runs(world: ConsoleWorld) -> None:
    with world.console.store.writing() as conn:
        note_phones(conn, [{"phone": "4199@pbx", "at": 5.0, "user_agent": "<script>x</script>", "network": "n"}])
    page = world.browser("vera", "viewer").get("/unlocated").text
    assert "4199@pbx" in page
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    found = world.program("read")("GET", "/phones/unlocated").json()["phones"]
    assert [(one["phone"], one["user_agent"]) for one in found] == [("4199@pbx", "<script>x</script>")]
    assert world.browser("sam", "viewer", ("hq",)).get("/unlocated").status_code == 403
