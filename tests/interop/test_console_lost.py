"""The live page where something is wrong with the way to it: it says so, and catches up by itself."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.browser import WAIT_MS, Chromium, log_in
from tests.support.ports import Endpoint, endpoint, loopback
from tests.support.relay import Line, Relay, relay
from tests.support.sipp import running
from tests.support.world import Plan, World, world

pytestmark = pytest.mark.peers("chromium")

PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
def console() -> Endpoint:
    return endpoint(f"{loopback().next_network()}.1")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, console: Endpoint) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("console")
    with world(folder, {"tower": Plan()}, running=False, console={"listen": f"http://{console}"}) as made:
        for name in ("desk", "other"):
            options = ("--role", "desk", "--password-stdin")
            done = made.router.command("users", "add", name, *options, typed=f"{PASSWORD}\n")
            assert done.returncode == 0, done.stdout + done.stderr
        made.router.import_devices(made.router.devices)
        made.router.start()
        yield made


@pytest.fixture
def line(here: World, console: Endpoint) -> Iterator[Relay]:
    with relay(endpoint(f"{loopback().next_network()}.1"), console) as made:
        yield made


def open_live(url: str, context: BrowserContext, user: str = "desk") -> Page:
    page = context.new_page()
    log_in(page, url, user, PASSWORD)
    page.goto(f"{url}/live")
    expect(page.locator("#live-state")).to_have_class("tag good")
    return page


def console_pid(here: World) -> int | None:
    found = [pid for pid, command in here.router.processes().items() if "router.console" in command]
    return found[0] if found else None


@pytest.mark.long
@pytest.mark.parametrize("failure", [Line.SILENT, Line.AWAY])
def test_a_page_that_is_cut_off_says_so_and_shows_the_call_as_soon_as_it_can(
    here: World, people: Chromium, line: Relay, failure: Line
) -> None:
    place = here["tower"]
    page = open_live(line.url, people.context())
    line.become(failure)
    expect(page.locator("#live-lost")).to_be_visible()
    expect(page.locator("#live-lost")).to_contain_text("Not connected since")
    assert "Not connected" in page.title()
    caller = place.caller(pause_ms=90_000)
    with running(place.sipp("psap_answers", "provider_a")), running(caller):
        assert caller.wait_for_status(200)
        expect(page.locator("#live-alert")).to_be_hidden()
        line.become(Line.GOOD)
        expect(page.locator("#live-alert")).to_contain_text("911 WAS DIALLED")
        expect(page.locator("#live-lost")).to_be_hidden()
        expect(page.locator("#live-state")).to_have_class("tag good")
        page.keyboard.press("Enter")
        expect(page.locator("#live-alert")).to_be_hidden()


def test_a_console_killed_during_a_call_comes_back_to_the_page_and_the_alarm_goes_on(
    here: World, people: Chromium, console: Endpoint
) -> None:
    place = here["tower"]
    page = open_live(f"http://{console}", people.context())
    with running(place.sipp("psap_answers", "provider_a")), running(place.caller(pause_ms=90_000)):
        expect(page.locator("#live-alert")).to_contain_text("Answered by provider-a")
        expect(page.locator("#live")).to_have_attribute("data-sound", "rings")
        page.evaluate("window.isTheSamePage = true")
        old = console_pid(here)
        assert old is not None
        os.kill(old, signal.SIGKILL)
        expect(page.locator("#live-state")).to_have_class("tag bad")
        expect(page.locator("#live-state")).to_have_class("tag good")
        assert page.evaluate("window.isTheSamePage"), "a page that was loaded anew has to be touched before it sounds"
        expect(page.locator("#live")).to_have_attribute("data-sound", "rings")
        page.keyboard.press("Enter")
        expect(page.locator("#live-alert")).to_be_hidden()
        expect(page.locator("#live")).to_have_attribute("data-sound", "on")


@pytest.mark.long
def test_many_pages_of_one_browser_all_show_the_call_and_any_can_acknowledge_it(
    here: World, people: Chromium, console: Endpoint
) -> None:
    place, context = here["tower"], people.context()
    first = open_live(f"http://{console}", context)
    pages = [first]
    for _ in range(7):
        page = context.new_page()
        page.goto(f"http://{console}/live")
        pages.append(page)
    other = open_live(f"http://{console}", people.context(), "other")
    with running(place.sipp("psap_answers", "provider_a")), running(place.caller(pause_ms=90_000)):
        for page in (*pages, other):
            expect(page.locator("#live-alert")).to_contain_text("911 WAS DIALLED")
        # Two at the same moment: each page goes on, and the first of them is shown to all.
        for page in (pages[-1], other):
            page.evaluate("document.getElementById('alert-acknowledge')?.click()")
        names = set()
        for page in (*pages, other):
            expect(page.locator("#live-alert")).to_be_hidden()
            taken = page.locator("#live-open article").first.locator("p", has_text="takes care")
            names.add(taken.inner_text())
        assert len(names) == 1


FORBIDDEN = "window.SharedWorker = class { constructor() { throw new DOMException('no', 'SecurityError'); } };"
DEAD = "window.SharedWorker = class extends EventTarget { port = new MessageChannel().port1; };"
CLOCK = "const real = Date.now; Date.now = () => real() + HOURS * 3600000;"


@pytest.mark.long
@pytest.mark.parametrize(
    "machine",
    [CLOCK.replace("HOURS", "-30"), CLOCK.replace("HOURS", "30"), FORBIDDEN, DEAD],
    ids=["late", "early", "without-workers", "dead-worker"],
)
def test_a_call_shows_on_a_machine_with_a_wrong_clock_or_without_workers(
    here: World, people: Chromium, console: Endpoint, machine: str
) -> None:
    place, context = here["tower"], people.context()
    context.add_init_script(machine)
    page = open_live(f"http://{console}", context)
    with running(place.sipp("psap_answers", "provider_a")), running(place.caller(pause_ms=90_000)):
        expect(page.locator("#live-alert")).to_contain_text("911 WAS DIALLED")
        expect(page.locator("#live-alert")).to_contain_text("just now")
        page.keyboard.press("Enter")
        expect(page.locator("#live-alert")).to_be_hidden()


@pytest.mark.long
def test_a_browser_that_keeps_the_page_silent_is_told_of_until_it_is_touched(
    here: World, people: Chromium, console: Endpoint, tmp_path: Path
) -> None:
    place = here["tower"]
    open_live(f"http://{console}", people.context()).context.storage_state(path=tmp_path / "login.json")
    with people.as_delivered() as strict:
        page = strict.new_context(storage_state=tmp_path / "login.json").new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(f"http://{console}/live")
        expect(page.locator("#live-silent")).to_be_visible()
        expect(page.locator("#live")).to_have_attribute("data-sound", "off")
        with running(place.sipp("psap_answers", "provider_a")), running(place.caller(pause_ms=90_000)):
            expect(page.locator("#alert-silent")).to_be_visible()
            page.locator("#alert-title").click()
            expect(page.locator("#live")).to_have_attribute("data-sound", "rings")
            expect(page.locator("#alert-silent")).to_be_hidden()
            page.keyboard.press("Enter")
            expect(page.locator("#live")).to_have_attribute("data-sound", "on")


@pytest.mark.long
def test_who_logs_out_in_one_page_is_asked_to_log_in_again_in_the_others(
    here: World, people: Chromium, console: Endpoint
) -> None:
    context = people.context()
    page = open_live(f"http://{console}", context)
    second = context.new_page()
    second.goto(f"http://{console}/calls")
    second.locator("form[action='/logout'] button").click()
    page.wait_for_url("**/login?next=/live")
    expect(page.locator("main")).to_contain_text("911 calls do not show here until you log in")


def test_a_router_that_does_not_say_that_it_works_is_told_to_who_watches(
    here: World, people: Chromium, console: Endpoint
) -> None:
    page = open_live(f"http://{console}", people.context())
    expect(page.locator("#live-down")).to_be_hidden()
    state = here.router.config_file.parent / "edge911-state/calls-state.json"
    while not state.is_dir():  # then it cannot say anything: as on a disk that is full
        state.unlink(missing_ok=True)
        with suppress(FileExistsError):
            state.mkdir()
    try:
        expect(page.locator("#live-down")).to_contain_text("does not say that it works")
    finally:
        state.rmdir()
    expect(page.locator("#live-down")).to_be_hidden()
