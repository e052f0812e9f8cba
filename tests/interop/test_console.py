"""The console and the API beside calls: a real browser corrects a place, and the provider's next INVITE shows it;
what becomes of the console is none of the calls' business."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import chromium, new_page
from tests.support.ports import Endpoint, endpoint, loopback
from tests.support.sip_text import civic, location_part
from tests.support.sipp import running
from tests.support.world import Place, Plan, World, world

pytestmark = pytest.mark.peers("chromium")

PASSWORD = "correct horse battery"
PLANS = {"office": Plan(), "branch": Plan()}
PATIENCE = 30.0


class ConsoleWorld:
    """A running router with a console."""

    def __init__(self, built: World, console: Endpoint) -> None:
        self.built = built
        self.url = f"http://{console}"
        self.console = console

    def add_user(self, name: str, *options: str) -> None:
        """`edge911 users add`."""
        done = self.run("users", "add", name, "--password-stdin", *options, text=PASSWORD + "\n")
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, text: str = "") -> Any:
        """An edge911 command beside the router."""
        import subprocess

        from tests.support.router_process import EDGE911

        return subprocess.run(
            [str(EDGE911), *arguments, "-c", str(self.built.router.config_file)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def api(self, token: str, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        """Status and document of a request to the API; 0 where nobody answers."""
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())
        except OSError:
            return 0, None

    def console_pid(self) -> int | None:
        """The console's process, where there is one."""
        found = [pid for pid, line in self.built.router.processes().items() if "router.console" in line]
        return found[0] if found else None


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleWorld]:
    """A router with a console, and alice, who may do everything."""
    console = endpoint(f"{loopback().next_network()}.1")
    with world(tmp_path_factory.mktemp("console"), PLANS, console={"listen": f"http://{console}"}) as built:
        made = ConsoleWorld(built, console)
        made.add_user("alice", "--role", "admin")
        until(lambda: made.api("x", "GET", "/sites")[0] == 401, "the console answers")
        yield made
        assert built.router.alive


def room_sent(place: Place) -> str:
    """Place a 911 call from the registered extension; the room that the provider gets."""
    psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller()
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    return civic(location_part(psap.request("INVITE"))).get("ROOM", "")


def test_a_location_corrected_in_the_browser_is_in_the_providers_next_invite(
    office: ConsoleWorld, tmp_path: Path
) -> None:
    place = office.built["office"]
    assert room_sent(place) == place.room
    with chromium() as browser, new_page(browser, viewport={"width": 1280, "height": 900}) as (page, complaints):
        page.goto(f"{office.url}/locations?q={place.device}")
        page.fill("input[name=username]", "alice")
        page.fill("input[name=password]", PASSWORD)
        page.click("text=Log in >> nth=-1")
        page.click(f"a.cell:has-text('{place.device}')")
        page.fill("input[name=room]", "B-12 (south)")
        page.click("button.primary:has-text('Save')")
        page.wait_for_selector(".done")
        assert page.input_value("input[name=room]") == "B-12 (south)"
        page.screenshot(path=tmp_path / "location.png", full_page=True)
        # Within a second it is in calls; a call in that very second may still go out with the old one.
        until(lambda: room_sent(place) == "B-12 (south)", "the provider gets the new room")
        page.goto(f"{office.url}/audit")
        assert "B-12 (south)" in page.inner_text("main")
        assert complaints == []
    with chromium() as browser:
        for options in ({"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "locale": "fr-CA"},):
            with new_page(browser, **options) as (page, complaints):
                page.goto(f"{office.url}/locations")
                assert "Mot de passe" in page.inner_text("main")
                page.fill("input[name=username]", "alice")
                page.fill("input[name=password]", PASSWORD)
                page.press("input[name=password]", "Enter")
                for path in (
                    "/locations",
                    f"/locations/edit?device={place.device}",
                    "/wiremap",
                    "/wiremap/edit",
                    "/locations/import",
                    "/wiremap/import",
                    "/sites",
                    "/trunks",
                    "/contacts",
                ):
                    page.goto(f"{office.url}{path}")
                    wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
                    assert not page.evaluate(wider), f"{path} is wider than a telephone's screen"
                assert complaints == []


def test_a_file_that_was_looked_at_and_confirmed_is_in_the_providers_next_invite(
    office: ConsoleWorld, tmp_path: Path
) -> None:
    place = office.built["branch"]
    file = tmp_path / "phones.yaml"
    file.write_text(f"devices:\n  - {{device: '{place.device}', room: 'F-31'}}\n")
    with chromium() as browser, new_page(browser, viewport={"width": 390, "height": 844}) as (page, complaints):
        page.goto(f"{office.url}/locations/import")
        page.fill("input[name=username]", "alice")
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.set_input_files("input[type=file]", file)
        page.click("button:has-text('Show what would change')")
        page.wait_for_selector("ins:has-text('F-31')")
        wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not page.evaluate(wider), "the plan is wider than a telephone's screen"
        page.click("button:has-text('Apply 1 change')")
        page.wait_for_selector(".done")
        assert complaints == []
    until(lambda: room_sent(place) == "F-31", "the provider gets the room of the file")


def test_what_the_api_stores_reaches_calls(office: ConsoleWorld) -> None:
    place = office.built["branch"]
    token = office.run("tokens", "add", "crm", "--role", "write").stdout.strip()
    status, device = office.api(token, "PATCH", f"/devices/{place.device}", {"room": "API-7"})
    assert (status, device["room"]) == (200, "API-7")
    until(lambda: room_sent(place) == "API-7", "the provider gets the new room")
    status, trunks = office.api(token, "GET", "/trunks")
    assert (status, trunks["stale"]) == (200, False)
    assert {trunk["name"] for trunk in trunks["trunks"]} == set(office.built.router.config["trunks"])

    def is_recorded() -> bool:
        calls = office.api(token, "GET", "/calls?site=branch")[1]["calls"]
        records = [office.api(token, "GET", f"/calls/{call['id']}")[1]["call"] for call in calls]
        return any(record["location"]["civic"]["room"] == "API-7" for record in records)

    until(is_recorded, "the record of the call")


def test_a_channel_is_proven_by_a_real_test_notice(office: ConsoleWorld) -> None:
    with chromium() as browser, new_page(browser) as (page, complaints):
        page.goto(f"{office.url}/contacts")
        page.fill("input[name=username]", "alice")
        page.fill("input[name=password]", PASSWORD)
        page.press("input[name=password]", "Enter")
        page.click("#office button:has-text('Test')")
        (post,) = until(
            lambda: [post for post in office.built.desk.posts("office") if "TEST" in post.text], "the test notice"
        )
        assert "Nobody has dialled 911" in post.text
        assert "alice" in post.text

        def accepted() -> bool:
            page.goto(f"{office.url}/contacts")
            return page.locator("#office .tag.good").count() == 1

        until(accepted, "the proof stands on the page")
        assert complaints == []


def test_calls_go_on_and_health_answers_when_the_console_is_killed_and_it_comes_back(office: ConsoleWorld) -> None:
    router, place = office.built.router, office.built["office"]
    old = office.console_pid()
    assert old is not None
    os.kill(old, signal.SIGKILL)
    psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller()
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    assert router.get("/healthz")[0] == 200
    assert router.get("/metrics")[0] == 200
    until(lambda: office.console_pid() not in (None, old), "another console process")
    until(lambda: office.api("x", "GET", "/sites")[0] == 401, "the console answers again")
    assert "the console process ended (killed by SIGKILL)" in router.log


@pytest.mark.long
def test_a_crowd_at_the_console_keeps_no_call_waiting(office: ConsoleWorld) -> None:
    """So many connections, all of which ask without end: the 911 call goes by its first route, and is answered."""
    stop = threading.Event()
    answered = 0

    def ask() -> None:
        nonlocal answered
        request = f"GET /login HTTP/1.1\r\nHost: {office.console}\r\n\r\n".encode()
        connections: list[socket.socket] = []
        try:
            for _ in range(50):
                connections.append(socket.create_connection(office.console.pair, timeout=PATIENCE))
            while not stop.is_set():
                for connection in connections:
                    connection.sendall(request)
                for connection in connections:
                    answered += bool(connection.recv(65_536))
        except OSError:
            pass
        finally:
            for connection in connections:
                connection.close()

    crowd = [threading.Thread(target=ask) for _ in range(8)]
    for thread in crowd:
        thread.start()
    try:
        until(lambda: answered > 400, "the crowd is there")
        place = office.built["branch"]
        psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller()
        with running(psap, phone):
            phone.succeed()
            psap.succeed()
        assert civic(location_part(psap.request("INVITE")))["HNO"] == "102"
        assert phone.statuses()[-1] == 200
    finally:
        stop.set()
        for thread in crowd:
            thread.join(PATIENCE)
    assert office.built.router.get("/healthz")[0] == 200


@pytest.mark.long
def test_a_reload_is_taken_and_another_address_too(office: ConsoleWorld) -> None:
    router = office.built.router
    token = office.run("tokens", "add", "reader").stdout.strip()
    config = {**router.config, "sites": [dict(site) for site in router.config["sites"]]}
    config["sites"][0]["name"] = "Renamed"
    router.write_config(config)
    router.hup()
    until(lambda: office.api(token, "GET", "/sites/office")[1]["name"] == "Renamed", "the new name")
    office.console = endpoint(office.console.address)
    office.url = f"http://{office.console}"
    router.write_config({**config, "console": {"listen": office.url}})
    router.hup()
    until(lambda: office.api(token, "GET", "/sites/office")[0] == 200, "the console listens at its new address")
    router.write_config({**config, "console": None})
    router.hup()
    until(lambda: office.console_pid() is None, "there is no console any more")
    assert room_sent(office.built["office"])
