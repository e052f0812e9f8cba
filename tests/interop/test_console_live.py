"""The console as people use it: a real browser, a real router, and calls by SIPp."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from playwright.sync_api import BrowserContext, Page, ViewportSize, expect

from tests.e911.pidf_documents import civic, geopriv, in_device, presence
from tests.support.browser import DESKTOP, TELEPHONE, Chromium, keep, log_in
from tests.support.ports import free_port
from tests.support.sipp import running
from tests.support.world import Plan, World, world

pytestmark = pytest.mark.peers("chromium")

SHOTS = Path(os.environ.get("EDGE911_SCREENSHOTS", "build/screenshots"))
PASSWORD = "a long enough password"
PLANS = {
    "tower": Plan(),
    "annex": Plan(language="fr"),
    "storm": Plan(),
    "loud": Plan(),
    "down": Plan(routes=("provider_a",), basic=False, timeout="500ms"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("console")
    port = free_port("127.0.0.1")
    with world(folder, PLANS, running=False, console={"listen": f"http://127.0.0.1:{port}"}) as made:
        for name, role, site in (
            ("root", "admin", ""),
            ("desk", "desk", ""),
            ("annexe", "desk", "annex"),
            ("storm", "desk", "storm"),
            ("eyes", "viewer", ""),
        ):
            sites = ("--site", site) if site else ()
            done = made.router.command(
                "users", "add", name, "--role", role, *sites, "--password-stdin", typed=f"{PASSWORD}\n"
            )
            assert done.returncode == 0, done.stdout + done.stderr
        made.router.import_devices(made.router.devices)
        made.router.start()
        yield made


def url_of(here: World) -> str:
    return str(here.router.config["console"]["listen"])


def open_live(here: World, context: BrowserContext, user: str = "desk") -> Page:
    page = context.new_page()
    log_in(page, url_of(here), user, PASSWORD)
    page.goto(f"{url_of(here)}/live")
    expect(page.locator("#live-state")).to_have_class("tag good")
    return page


def test_a_call_fills_the_screen_is_acknowledged_and_can_be_read_afterwards(here: World, people: Chromium) -> None:
    page = open_live(here, people.context())
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    place = here["tower"]
    with running(place.sipp("psap_answers", "provider_a")):
        caller = place.caller("caller_dials", pause_ms=60_000)
        with running(caller):
            alert = page.locator("#live-alert")
            expect(alert).to_be_visible()
            expect(alert).to_contain_text("911 WAS DIALLED")
            expect(alert).to_contain_text("Floor 3")
            expect(alert).to_contain_text(f"Room {place.room}")
            expect(alert).to_contain_text(place.callback)
            expect(alert).to_contain_text("Answered by provider-a")
            expect(page.locator("#alert-acknowledge")).to_be_focused()
            number = page.locator("#live-alert dd.number")
            assert number.evaluate("shown => shown.scrollWidth <= shown.clientWidth"), "the whole number on one line"
            behind = "boxes => boxes.every(box => box.closest('[inert]'))"
            assert page.locator(".bar, .menu, #live-open, #live-over").evaluate_all(behind), (
                "nothing else can be reached"
            )
            keep(page, SHOTS, "live-alert")
            page.keyboard.press("Enter")
            expect(alert).to_be_hidden()
            expect(page.locator("[inert]")).to_have_count(0)
    record = here.router.calls()[0]
    page.goto(f"{url_of(here)}/calls/{record['id']}")
    for wanted in (
        place.device_name,
        place.callback,
        "registered",
        "later-in-order",
        "high",
        "provider-a",
        "SIP ladder",
    ):
        expect(page.locator("main")).to_contain_text(wanted)
    expect(page.locator("svg.ladder .arrow")).not_to_have_count(0)
    expect(page.locator("pre.sip mark").first).to_contain_text("Geolocation")
    expect(page.locator("pre.ali")).to_contain_text("WASHINGTON")
    keep(page, SHOTS, "call")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Incident bundle").click()
    with zipfile.ZipFile(io.BytesIO(downloading.value.path().read_bytes())) as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
        document = json.loads(archive.read(f"call-{record['id']}/record.json"))
    assert names == {"record.json", "messages.pcap", "messages.txt", "summary.pdf"}
    assert document["caller"]["callback"] == place.callback
    assert errors == []


def test_a_failed_call_says_so_and_only_those_of_the_site_see_it(here: World, people: Chromium) -> None:
    desk = open_live(here, people.context())
    annexe = open_live(here, people.context(locale="fr-CA", viewport=TELEPHONE), "annexe")
    expect(annexe.locator("#live-open")).to_contain_text("Aucun appel")
    place = here["down"]
    with running(place.caller("caller_is_refused_503")):
        expect(desk.locator("#live-alert")).to_contain_text("911 CALL DID NOT GO THROUGH")
        keep(desk, SHOTS, "live-failed")
    record = here.router.calls()[0]
    assert (record["site"], record["outcome"]) == ("down", "failed")
    expect(annexe.locator("#live-alert")).to_be_hidden()
    answer = annexe.goto(f"{url_of(here)}/calls/{record['id']}")
    assert answer is not None
    assert answer.status == 404


def test_on_a_telephone_in_french_a_call_of_ones_own_site_shows(here: World, people: Chromium) -> None:
    place = here["annex"]
    page = open_live(here, people.context(locale="fr-CA", viewport=TELEPHONE), "annexe")
    with running(place.sipp("psap_answers", "provider_a")), running(place.caller("caller_dials")):
        alert = page.locator("#live-alert")
        expect(alert).to_contain_text("LE 911 A ÉTÉ COMPOSÉ")
        expect(alert).to_contain_text("Étage 3")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= TELEPHONE["width"], "nothing to scroll sideways"
        keep(page, SHOTS, "live-alert-telephone-fr")
        number = alert.locator("dd.number")
        assert number.evaluate("shown => shown.scrollWidth <= shown.clientWidth"), "the whole number on one line"
        alert.get_by_role("button", name="Je m’en occupe").click()
        expect(alert).to_be_hidden()


def test_who_only_looks_cannot_acknowledge(here: World, people: Chromium) -> None:
    page = open_live(here, people.context(), "eyes")
    call = here.router.calls()[0]["id"]
    token = page.locator("#live").get_attribute("data-csrf")
    answer = page.request.post(f"{url_of(here)}/live/{call}/acknowledge", form={"csrf": token or ""})
    assert answer.status == 403
    assert page.get_by_role("button", name="I take care").count() == 0


def test_a_933_test_is_placed_from_the_page_and_its_result_is_heard(
    here: World, people: Chromium, tmp_path: Path
) -> None:
    place = here["tower"]
    page = open_live(here, people.context())
    with running(place.sipp("provider_refuses_503", "provider_a")):
        page.goto(f"{url_of(here)}/tests")
        row = page.locator("tr", has=page.locator("td", has_text="Place tower")).filter(has_text="provider-a").first
        expect(row).to_contain_text("never tested")
        row.get_by_role("button", name="Test now").click()
        expect(page.locator("table").last).to_contain_text("failed")
        expect(page.locator("table").last).to_contain_text("refused")
    keep(page, SHOTS, "tests")


def test_readiness_evidence_and_status(here: World, people: Chromium) -> None:
    page = open_live(here, people.context())
    page.goto(f"{url_of(here)}/readiness")
    expect(page.locator("main")).to_contain_text("Place tower")
    expect(page.locator(".finding").first).to_be_visible()
    keep(page, SHOTS, "readiness")
    page.goto(f"{url_of(here)}/evidence")
    page.locator("section", has_text="Place tower").get_by_role("link", name="Read").click()
    expect(page.locator("body")).to_contain_text("47 CFR 9.16(b)(2)")
    keep(page, SHOTS, "evidence")
    pdf = page.request.get(f"{url_of(here)}/evidence/tower.pdf")
    assert pdf.body().startswith(b"%PDF")
    anybody = people.context(locale="fr-CA", viewport=TELEPHONE).new_page()
    anybody.goto(f"{url_of(here)}/status")
    expect(anybody.locator("main")).to_contain_text("911")
    expect(anybody.locator("main")).to_contain_text("fonctionnent")
    text = anybody.content()
    assert not any(secret in text for secret in ("127.30", "provider", "tower", "carrier")), "nothing for an attacker"
    keep(anybody, SHOTS, "status-telephone-fr")


STORM = 200


@pytest.mark.long
def test_a_storm_is_one_growing_alert_and_none_of_its_calls_is_lost(here: World, people: Chromium) -> None:
    place = here["storm"]
    page = open_live(here, people.context(), "storm")
    telephone = open_live(here, people.context(locale="fr-CA", viewport=TELEPHONE), "storm")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    before = {call["id"] for call in here.router.calls()}
    with running(place.sipp("psap_answers", "provider_a", calls=None, timeout=120)):
        caller = place.caller("caller_dials", calls=STORM, rate=STORM, pause_ms=90_000, timeout=120)
        with running(caller):
            alert = page.locator("#live-alert")
            expect(alert.locator("h1")).to_contain_text(f"{STORM} calls to 911", timeout=60_000)
            expect(page.locator("#live-say")).to_contain_text(f"{STORM} calls to 911")
            expect(page.locator("#live-open article")).to_have_count(STORM)
            expect(alert.locator(".others li")).to_have_count(STORM - 1)
            expect(page.locator("#alert-acknowledge")).to_be_focused()
            expect(telephone.locator("#live-alert h1")).to_contain_text(f"{STORM} appels au 911")
            assert telephone.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]
            page.screenshot(path=str(SHOTS / "live-storm.png"))
            telephone.screenshot(path=str(SHOTS / "live-storm-telephone-fr.png"))
            sent: list[str] = []
            page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
            page.keyboard.press("Tab")
            expect(page.locator("#alert-all")).to_be_focused()
            expect(page.locator("#alert-all")).to_contain_text(str(STORM))
            page.keyboard.press("Enter")
            expect(alert).to_be_hidden()
            expect(telephone.locator("#live-alert")).to_be_hidden()
            assert len(sent) == 1, "one step"
            keep(page, SHOTS, "live-storm-acknowledged")
            expect(page.locator("#live-open article.acknowledged")).to_have_count(STORM)
            page.reload()
            expect(page.locator("#live-open article.acknowledged")).to_have_count(STORM)
    records = [call for call in here.router.calls() if call["id"] not in before]
    assert len(records) == STORM
    assert errors == []


EVIL = "<img src=x onerror=alert(1)><script>alert(1)</script>{{7*7}}\u202e\u2066" + "W" * 3_000


@pytest.mark.long
@pytest.mark.parametrize(("locale", "size"), [("en-US", DESKTOP), ("fr-CA", TELEPHONE)])
def test_whatever_a_phone_calls_itself_no_page_runs_it_or_grows_out_of_the_screen(
    here: World, people: Chromium, locale: str, size: ViewportSize
) -> None:
    place = here["loud"]
    with place.peer("phone") as phone, place.peer("provider_a") as psap:
        words = escape(EVIL[:300])
        said_of_it = {"country": "US", "A1": "NY", "A3": words, "RD": words, "FLR": words, "LOC": "L" * 300}
        here_i_am = civic("".join(f"<ca:{name}>{value}</ca:{name}>" for name, value in said_of_it.items()))
        body = (
            b"--evil\r\nContent-Type: application/sdp\r\n\r\n%b\r\n--evil\r\nContent-Type: application/pidf+xml\r\n"
            b"Content-ID: <l@evil>\r\n\r\n%b\r\n--evil--\r\n"
        ) % (place.call(phone).body, presence(in_device(geopriv(here_i_am))))
        call = place.call(phone, user=place.unregistered, name=EVIL, body=body)
        call.content_type = "multipart/mixed;boundary=evil"
        call.send(call.invite("Geolocation: <cid:l@evil>", f"User-Agent: {EVIL[:500]}", f"Subject: {EVIL[:500]}"))
        invite = psap.take("INVITE")
        psap.respond(invite, 486)
        page = people.context(locale=locale, viewport=size).new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(f"{page.url} {error}"))
        page.on("console", lambda told: said.append(f"{page.url} {told.text}") if told.type == "error" else None)
        page.on("dialog", lambda dialog: (said.append(f"{page.url} {dialog.message}"), dialog.dismiss()))
        log_in(page, url_of(here), "root", PASSWORD)
        record = here.router.records(call.call_id)[0]["id"]
        names = page.locator("nav a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        paths = [*dict.fromkeys(name for name in names if name and name.startswith("/"))]
        assert {"/live", "/calls", "/locations", "/unlocated", "/contacts", "/audit"} <= {*paths}
        wide = {}
        for path in [*paths, f"/calls/{record}", "/account", "/status"]:
            page.goto(f"{url_of(here)}{path}")
            if path == "/live":
                expect(page.locator("#live-alert")).to_contain_text("<img src=x")
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > size["width"]:
                wide[path] = width
            assert not {"\u202e", "\u2066"} & {*page.locator("body").inner_text()}, path
            keep(page, SHOTS / f"pages-{locale[:2]}-{size['width']}", path.strip("/").replace("/", "-"))
    assert said == []
    assert wide == {}
