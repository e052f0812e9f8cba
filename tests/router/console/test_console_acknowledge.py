"""The link in a notice: what it shows, that only its button acknowledges, and what a wrong one gets."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.console.acknowledge_page import links_of
from router.notices.confirmations import Requests
from router.store.records import apply_events
from tests.router.notice_events import intent
from tests.support.console import Browser, ConsoleWorld, console_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ConsoleWorld]:
    with console_world(tmp_path) as made:
        with made.console.store.writing() as conn:
            event = intent("call-1")
            event.caller.device_name = "<script>alert(1)</script>"
            apply_events(conn, [event])
        yield made


def link(world: ConsoleWorld, contact: str = "desk", at: float | None = None) -> str:
    url = links_of(world.console).acknowledge_url("call-1", contact, at or time.time())
    return url.removeprefix("http://127.0.0.1:8911")


def requests(world: ConsoleWorld) -> list[tuple[str, str, str]]:
    found = [(one["step"], one["contact"], one["by"]) for one in Requests(world.console.state_directory).take()]
    return sorted(found)


def test_opening_it_shows_the_call_and_acknowledges_nothing(world: ConsoleWorld) -> None:
    answer = world.browser().get(link(world))
    assert answer.status_code == 200
    assert "+12125550123" in answer.text
    for line in ("350 5th AVE<br>", "New York, NY, US<br>", "Floor: 3<br>", "40.748400, -73.985700<br>"):
        assert line in answer.text, "the place as in the notice"
    assert "<script>alert" not in answer.text
    assert "I take care of it" in answer.text
    assert requests(world) == [("seen", "desk", "")]
    french = Browser(world.app, language="fr").get(link(world)).text
    assert "Je m&#39;en occupe" in french
    assert "Étage : 3<br>" in french.replace("\u202f", " ").replace("\u00a0", " ")


def test_a_scanner_that_asks_whether_the_page_is_there_has_not_seen_it(world: ConsoleWorld) -> None:
    assert world.browser().http.request("HEAD", link(world)).status_code == 200
    assert requests(world) == []


def test_its_button_acknowledges_with_a_name_or_without(world: ConsoleWorld) -> None:
    answer = world.browser().submit(link(world), name="  Ada   <b>L</b> ")
    assert answer.status_code == 200
    assert "Acknowledged by Ada &lt;b&gt;L&lt;/b&gt;." in answer.text
    assert world.browser().submit(link(world, "security")).status_code == 200
    acknowledged = [one for one in requests(world) if one[0] == "acknowledged"]
    assert acknowledged == [("acknowledged", "desk", "Ada <b>L</b>"), ("acknowledged", "security", "security")]


def test_a_button_of_another_site_is_refused(world: ConsoleWorld) -> None:
    path = link(world)
    assert world.browser().http.post(path, data={"csrf": "0" * 64}).status_code == 403
    assert requests(world) == []


def test_changed_and_expired_links_are_refused_and_guessing_is_slowed_down(world: ConsoleWorld) -> None:
    browser = world.browser()
    good = link(world)
    assert browser.get(link(world, at=time.time() - 9 * 86_400)).status_code == 410
    for wrong in (good[:-2] + "AA", good.replace("/desk/", "/boss/"), good.replace("call-1", "call-2")):
        assert browser.get(wrong).status_code == 404
        assert browser.http.post(wrong, data={"csrf": browser.csrf(good)}).status_code == 404
    statuses = {browser.get(good[:-2] + "AA").status_code for _ in range(200)}
    assert 429 in statuses
    assert browser.get(good).status_code == 200, "a good link works where somebody guesses"
    assert world.program()("GET", "/calls").status_code == 200, "and so do the programs there"
    assert all(one[0] == "seen" for one in requests(world))


def test_it_works_without_the_database(world: ConsoleWorld, tmp_path: Path) -> None:
    path = link(world)
    from router.notices.links import keep_secret

    secret = links_of(world.console).secrets[0]
    keep_secret(world.console.state_directory, secret)
    world.console.store.close()
    world.console.store.url = "sqlite:////proc/none/edge911.db"
    answer = world.browser().submit(path, name="Ada")
    assert answer.status_code == 200
    assert "Acknowledged by Ada." in answer.text
    assert ("acknowledged", "desk", "Ada") in requests(world)
