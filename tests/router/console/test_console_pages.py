"""The pages of the console: what they show to whom, what their forms change, and what hostile text does to them."""

import io
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import insert

from router.console.channel_names import channel_name
from router.console.live_page import WITHOUT_SCRIPT
from router.console.navigation import ENTRIES
from router.console.plan_images import PlanError, read_plan
from router.console.words import LANGUAGES, Words, accepted_language
from router.notices.channel_identity import channel_id
from router.notices.contact_tests import FOLDER, KIND
from router.store.audit import audit_rows
from router.store.devices import COLUMNS, get_device, mark_devices, upsert_devices
from router.store.outbox import outbox
from router.store.records import calls
from router.store.self_tests import SelfTest, claim
from router.store.users import get_user
from router.store.validated_addresses import keep_addresses
from tests.support.console import PASSWORD, ConsoleWorld, console_world

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "router" / "console" / "templates"
DESK = channel_id("json://127.0.0.1:9/desk")
HOSTILE = "\"><script>alert('x')</script>{{7*7}}${7*7}<img src=x onerror=alert(1)>"
PATHS = tuple(entry.path for entry in ENTRIES)


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


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def etag(text: str) -> str:
    """The version of the device that a form was shown with."""
    found = re.search(r'name="etag" value="([^"]*)"', text)
    assert found
    return unescape(found[1])


def put(world: ConsoleWorld, *rows: dict[str, str | float | None]) -> None:
    with world.console.store.writing() as conn:
        upsert_devices(conn, list(rows))


def test_a_location_is_added_corrected_confirmed_and_removed_and_all_of_it_stands_in_the_trail(
    world: ConsoleWorld,
) -> None:
    browser = world.browser("erin", "engineer")
    made = browser.submit("/locations/edit", is_new="1", device="sip:4012@PBX.example.com", name="Lobby", site="hq")
    assert made.headers["location"] == "/locations/edit?device=4012%40pbx.example.com&saved=true"
    page = "/locations/edit?device=4012%40pbx.example.com"
    text = browser.get(page).text
    values = {"device": "4012@pbx.example.com", "name": "Lobby", "site": "hq", "zone": "hq-3e", "room": "3-217"}
    saved = browser.submit(page, "/locations/edit", is_new="0", etag=etag(text), **values)
    assert saved.status_code == 303
    assert "within a second" in browser.get(saved.headers["location"]).text
    with world.console.store.reading() as conn:
        device = get_device(conn, "4012@pbx.example.com")
    assert device is not None
    assert (device.zone, device.civic.room, device.confirmed_by) == ("hq-3e", "3-217", "erin")
    put(world, {"device": "4012@pbx.example.com", "confirmed_at": 5.0, "confirmed_by": "old"})
    assert browser.submit(page, "/locations/confirm", device=device.device).status_code == 303
    gone = browser.submit(page, "/locations/remove", device=device.device)
    assert "was removed" in browser.get(gone.headers["location"]).text
    with world.console.store.reading() as conn:
        rows = audit_rows(conn, subject="device:4012@pbx.example.com")
    assert [(row.action, row.via) for row in rows if row.who == "erin"] == [
        ("remove", "console"),
        ("change", "console"),
        ("change", "console"),
        ("create", "console"),
    ]
    assert rows[-2].after["room"] == "3-217"


def test_a_form_with_mistakes_keeps_what_was_typed_and_stores_nothing(here: ConsoleWorld) -> None:
    browser = here.browser("erin", "engineer")
    answer = browser.submit(
        "/locations/edit", is_new="1", device="4012", callback="call me", room="3-217", latitude="40", zone="hq-1"
    )
    assert answer.status_code == 422
    assert "write +12125550123" in answer.text
    assert 'value="3-217"' in answer.text
    assert 'value="call me"' in answer.text
    with here.console.store.reading() as conn:
        assert get_device(conn, "4012") is None
    assert browser.submit("/locations/edit", is_new="1", device="").status_code == 422
    put(here, {"device": "4012"})
    taken = browser.submit("/locations/edit", is_new="1", device="sip:4012;x=y")
    assert taken.status_code == 422
    assert "already" in taken.text


def test_the_providers_ids_on_the_page_of_a_device(here: ConsoleWorld) -> None:
    browser = here.browser("erin", "engineer")
    page = "/locations/edit?device=4012"
    browser.submit("/locations/edit", is_new="1", device="4012", site="hq", location_id="LOC-7")
    text = browser.get(page).text
    assert 'name="location_id" value="LOC-7"' in text
    values = {"is_new": "0", "device": "4012", "site": "hq", "room": "12", "location_id": "LOC-7"}
    assert browser.submit(page, "/locations/edit", etag=etag(text), **values).status_code == 303
    text = browser.get(page).text
    assert 'name="location_id" value=""' in text, "it stood for the place before"
    values["location_id"] = "LOC 8"
    refused = browser.submit(page, "/locations/edit", etag=etag(text), **values)
    assert (refused.status_code, "write letters, digits" in refused.text) == (422, True)


def test_the_forms_of_the_post_are_taken_in_one_step_and_confirm_nothing(here: ConsoleWorld) -> None:
    address = {"country": "US", "state": "NY", "city": "Albany", "house_number": "1", "postal_code": "12207"}
    put(here, {"device": "4012", "street": "Lake Street", "pre_directional": "north", **address, "confirmed_at": 5.0})
    with here.console.store.writing() as conn:
        mark_devices(conn, {"4012": {"unconfirmed": "new-network", "validation": "valid"}}, None)
    page = "/locations/edit?device=4012"
    assert "/locations/forms" not in here.browser("vera", "viewer").get(page).text
    browser = here.browser("erin", "engineer")
    text = browser.get(page).text
    assert "<strong>ST</strong>" in text
    assert "<strong>N</strong>" in text
    before = etag(text)
    assert browser.submit(page, "/locations/forms", device="4012", etag=before).status_code == 303
    with here.console.store.reading() as conn:
        device = get_device(conn, "4012")
        rows = audit_rows(conn, subject="device:4012")
    assert device is not None
    civic = device.civic
    assert (civic.pre_directional, civic.street, civic.street_suffix) == ("N", "Lake", "ST")
    assert (device.confirmed_at, device.unconfirmed, device.validation) == (5.0, "new-network", "")
    assert (rows[0].who, rows[0].after) == ("erin", {"pre_directional": "N", "street": "Lake", "street_suffix": "ST"})
    put(here, {"device": "4012", "street_suffix": "Street"})
    late = browser.submit(page, "/locations/forms", device="4012", etag=before)
    assert "saved" not in late.headers["location"]
    with here.console.store.reading() as conn:
        device = get_device(conn, "4012")
    assert device is not None
    assert device.civic.street_suffix == "Street", "somebody else changed it meanwhile"


def test_two_people_at_one_device(here: ConsoleWorld) -> None:
    put(here, {"device": "4012", "site": "hq"})
    erin, paul = here.browser("erin", "engineer"), here.browser("paul", "engineer")
    page = "/locations/edit?device=4012"
    before = etag(erin.get(page).text)
    values = {"is_new": "0", "device": "4012", "site": "hq", "etag": before}
    assert paul.submit(page, "/locations/edit", room="2", **values).status_code == 303
    late = erin.submit(page, "/locations/edit", room="3", **values)
    assert late.status_code == 409
    assert "Somebody else changed" in late.text
    assert 'value="3"' in late.text
    again = erin.submit(page, "/locations/edit", room="3", **{**values, "etag": etag(late.text)})
    assert again.status_code == 303


def test_a_hundred_thousand_devices_a_page_at_a_time(here: ConsoleWorld) -> None:
    """As many as it takes to have many pages: what a page costs does not depend on which it is."""
    put(here, *({"device": f"4{number:04d}", "site": "hq", "room": f"R{number}"} for number in range(120)))
    browser = here.browser("victor", "viewer")
    path: str | None = "/locations?q=R1"
    seen: list[str] = []
    while path:
        text = browser.get(path).text
        seen += re.findall(r'class="cell" href="[^"]*">(\d+)<', text)
        found = re.search(r'rel="next" href="([^"]+)"', text)
        path = unescape(found[1]) if found else None
    assert seen == [f"4{number:04d}" for number in range(120) if f"R{number}".startswith("R1")]
    assert "120 devices" in browser.get("/locations").text
    assert "No such devices" in browser.get("/locations?q=nothing").text


@pytest.mark.parametrize("role", ["viewer", "desk", "engineer", "admin"])
def test_who_may_do_what(here: ConsoleWorld, role: str) -> None:
    put(here, {"device": "4012", "site": "hq"})
    browser = here.browser("someone", role)
    rank = ["viewer", "desk", "engineer", "admin"].index(role)
    menu = browser.get("/locations").text
    for path, needed in (("/audit", 2), ("/users", 3), ("/tokens", 3), ("/contacts", 0), ("/sites", 0)):
        assert browser.get(path).status_code == (200 if rank >= needed else 403)
        assert (f'href="{path}"' in menu) is (rank >= needed)
    csrf = browser.csrf("/locations")
    for path, needed in (
        ("/contacts/test", 1),
        ("/locations/confirm", 1),
        ("/locations/remove", 2),
        ("/locations/edit", 2),
        ("/sites/hq/hq-1/plan", 2),
        ("/users", 3),
        ("/tokens", 3),
    ):
        answer = browser.http.post(path, data={"csrf": csrf})
        assert (answer.status_code == 403) is (rank < needed), path


def test_sites_show_what_the_lvf_said_of_their_address(here: ConsoleWorld) -> None:
    browser = here.browser("noah", "viewer")
    assert "not validated" in browser.get("/sites").text
    for site in here.console.config.sites:
        with here.console.store.writing() as conn:
            keep_addresses(conn, {site.address.as_street_address: "invalid: HNO"}, 1_700_000_000.0)
    text = browser.get("/sites").text
    assert "not validated" not in text
    assert "invalid: HNO" in text
    assert "2023-11-14" in text


def test_other_peoples_sites(world: ConsoleWorld) -> None:
    put(
        world,
        {"device": "4001", "site": "hq", "name": "Secret"},
        {"device": "4002", "site": "lab"},
        {"device": "4003"},
    )
    plan = Image.new("RGB", (8, 8))
    image = io.BytesIO()
    plan.save(image, "PNG")
    world.browser("erin", "engineer").submit(
        "/sites", "/sites/hq/hq-1/plan", files={"image": ("p.png", image.getvalue(), "image/png")}
    )
    browser = world.browser("lou", "engineer", ("lab",))
    for path in ("/locations", "/locations?site=hq", "/locations?q=Secret", "/audit", "/sites", "/contacts"):
        text = browser.get(path).text
        assert "Secret" not in text.replace('value="Secret"', "")
        assert "4001" not in text
        assert "4003" not in text
        assert "Head office" not in text
    for device in ("4001", "4003", "nobody"):
        assert browser.get(f"/locations/edit?device={device}").status_code == 404
        assert browser.submit("/locations", "/locations/remove", device=device).status_code == 404
        assert browser.submit("/locations", "/locations/confirm", device=device).status_code == 404
        sent = browser.submit("/locations", "/locations/edit", device=device, is_new="0", site="lab", etag='"x"')
        assert sent.status_code in (404, 409)
    assert browser.get("/sites/hq/hq-1/plan").status_code == 404
    assert browser.submit("/sites", "/sites/hq/hq-1/plan", remove="1").status_code == 404
    moved = browser.submit("/locations", "/locations/edit", device="4005", is_new="1", site="hq")
    assert moved.status_code == 422
    with world.console.store.reading() as conn:
        assert get_device(conn, "4005") is None
        untouched = get_device(conn, "4001")
    assert untouched is not None
    assert untouched.name == "Secret"


def test_script_in_every_field_that_a_user_can_fill_is_text(here: ConsoleWorld) -> None:
    browser = here.browser("root", "admin")
    fields = ("name", "room", "floor", "building", "unit", "landmark", "additional", "street", "city", "county")
    put(here, {"device": "4012", "site": "hq", **dict.fromkeys(fields, HOSTILE)})
    put(here, {"device": "<script>alert(1)</script>@example.com", "site": "hq"})
    with here.console.store.writing() as conn:
        row = {
            "call": f"{KIND}-1-{DESK}",
            "kind": KIND,
            "contact": "desk",
            "channel": 0,
            "state": "refused",
            "words": HOSTILE,
        }
        conn.execute(insert(outbox), [{**row, "queued_at": 1.0, "last_attempt_at": 1.0, "reason": "refused"}])
    browser.submit("/tokens", action="add", name=HOSTILE, role="read")
    state = {"at": time.time(), "serving": True, "database": HOSTILE, "devices": 1}
    place = {"place": HOSTILE, "state": "down", "reason": HOSTILE, "asked_at": None, "answered_at": None}
    here.console.state_directory.mkdir(exist_ok=True)
    (here.console.state_directory / "calls-state.json").write_bytes(
        orjson.dumps({**state, "trunks": {"a": {"state": "down", "places": [place]}}})
    )
    paths = ["/locations", "/locations/edit?device=4012", "/audit", "/tokens", "/contacts", "/trunks"]
    paths += [f"/locations?q={HOSTILE}&removed={HOSTILE}", f"/audit?q={HOSTILE}&subject={HOSTILE}"]
    paths += ["/locations/edit?device=%3Cscript%3Ealert(1)%3C/script%3E@example.com", f"/contacts?asked={HOSTILE}"]
    for path in paths:
        answer = browser.get(path)
        assert answer.status_code == 200, path
        found = Tags(answer.text).found
        assert [attributes.get("src") for tag, attributes in found if tag == "script"] == ["/static/console.js"], path
        for tag, attributes in found:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
            assert not str(attributes.get("href", "")).lower().startswith("javascript:")
    assert HOSTILE in unescape(browser.get("/locations/edit?device=4012").text), "shown as it is, {{7*7}} too"
    refused = browser.submit("/locations/edit", is_new="1", device=HOSTILE, name=HOSTILE, callback=HOSTILE)
    assert [attributes.get("src") for tag, attributes in Tags(refused.text).found if tag == "script"] == [
        "/static/console.js"
    ]
    refused = browser.submit("/users", action="add", username=HOSTILE, role=HOSTILE, password=HOSTILE, sites=HOSTILE)
    assert refused.status_code == 422
    assert len([tag for tag, _ in Tags(refused.text).found if tag == "script"]) == 1


def png(size: tuple[int, int] = (60, 40), comment: str = "") -> bytes:
    """A PNG image."""
    written, info = io.BytesIO(), PngInfo()
    if comment:
        info.add_text("Comment", comment)
    Image.new("RGB", size, "white").save(written, "PNG", pnginfo=info)
    return written.getvalue()


def test_a_plan_is_written_anew_and_served_as_an_image_only(world: ConsoleWorld) -> None:
    browser = world.browser("erin", "engineer")
    data = png(comment="<script>alert(1)</script>") + b"<script>alert(2)</script>"
    sent = browser.submit("/sites", "/sites/hq/hq-1/plan", files={"image": ("../../x.html", data, "text/html")})
    assert sent.status_code == 303
    assert "/sites/hq/hq-1/plan?" in browser.get("/sites").text
    served = browser.get("/sites/hq/hq-1/plan")
    assert served.headers["content-type"] == "image/png"
    assert served.headers["x-content-type-options"] == "nosniff"
    assert b"script" not in served.content
    assert Image.open(io.BytesIO(served.content)).size == (60, 40)
    assert browser.submit("/sites", "/sites/hq/hq-1/plan", remove="1").status_code == 303
    assert browser.get("/sites/hq/hq-1/plan").status_code == 404
    with world.console.store.reading() as conn:
        assert [row.action for row in audit_rows(conn, subject="zone-plan:hq/hq-1")] == ["remove", "create"]
    assert browser.submit("/sites", "/sites/hq/nowhere/plan", files={"image": ("p", png(), "")}).status_code == 404


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: b"", "plans.nothing"),
        (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "plans.no_image"),
        (lambda: b"GIF89a" + b"\0" * 40, "plans.no_image"),
        (lambda: png()[:60], "plans.no_image"),
        (lambda: png((7000, 7000)), "plans.too_large"),
        (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 6_000_000, "plans.too_large"),
    ],
    ids=["nothing", "svg", "gif", "cut off", "too many pixels", "too many bytes"],
)
def test_what_is_no_plan(made: Callable[[], bytes], why: str) -> None:
    with pytest.raises(PlanError) as caught:
        read_plan(made())
    assert caught.value.key == why


def test_a_large_plan_becomes_smaller_and_a_jpeg_stays_one() -> None:
    written = io.BytesIO()
    Image.new("CMYK", (5000, 1000)).save(written, "JPEG")
    plan = read_plan(written.getvalue())
    assert (plan.media_type, plan.width, plan.height) == ("image/jpeg", 2400, 480)


def test_an_upload_without_end_is_cut_off(here: ConsoleWorld) -> None:
    browser = here.browser("erin", "engineer")
    huge = {"image": ("p.png", b"\0" * 7_000_000, "image/png")}
    assert browser.submit("/sites", "/sites/hq/hq-1/plan", files=huge).status_code == 413


def test_a_contact_is_tried_and_its_proof_shown(here: ConsoleWorld) -> None:
    browser = here.browser("dana", "desk")
    assert "never" in browser.get("/contacts").text
    asked = browser.submit("/contacts", "/contacts/test", contact="desk", channel=DESK)
    assert asked.status_code == 303
    assert "reload in a moment" in browser.get(asked.headers["location"]).text
    (request,) = (here.console.state_directory / FOLDER).glob("*.json")
    assert request.stat().st_mode & 0o077 == 0
    assert orjson.loads(request.read_bytes())["by"] == "dana"
    for contact, channel in (("nobody", "0"), ("desk", "7"), ("desk", "0"), ("desk", "x"), ("", "")):
        assert browser.submit("/contacts", "/contacts/test", contact=contact, channel=channel).status_code == 404
    statuses = [
        browser.submit("/contacts", "/contacts/test", contact="desk", channel=DESK).status_code for _ in range(6)
    ]
    assert statuses[-1] == 429
    with here.console.store.reading() as conn:
        assert audit_rows(conn, subject="contact:desk")[0].who == "dana"


def test_no_channel_shows_its_secret() -> None:
    shown = {
        "mailto://user:secret@mail.example.com:587?to=desk@example.com": "mailto://mail.example.com:587",
        "json://alice:secret@192.0.2.7/secret": "json://192.0.2.7",
        "slack://secretA/secretB/secretC": "slack://…",
        "tgram://secret-bot/12345": "tgram://…",
        "sip:100:secret@192.0.2.7;transport=tcp?x=secret": "sip:100@192.0.2.7",
        "pagerduty://secret@secret": "pagerduty://…",
        "json://[": "json://…",
    }
    assert {url: channel_name(url) for url in shown} == shown
    assert not any("secret" in text for text in shown.values())


def test_users_and_tokens_by_the_page(world: ConsoleWorld) -> None:
    browser = world.browser("root")
    added = browser.submit("/users", action="add", username="Lou", role="engineer", password=PASSWORD, sites="lab")
    assert added.status_code == 303
    with world.console.store.reading() as conn:
        lou = get_user(conn, "lou")
    assert lou is not None
    assert lou.sites == ("lab",)
    for values, what in (
        ({"action": "add", "username": "lou", "role": "viewer", "password": PASSWORD}, "there is a user lou already"),
        ({"action": "add", "username": "b", "role": "king", "password": PASSWORD}, "not a role"),
        ({"action": "add", "username": "b", "role": "viewer", "password": "short"}, "10 at least"),
        ({"action": "add", "username": "b", "role": "viewer", "password": PASSWORD, "sites": "mars"}, "no site"),
        ({"action": "add", "username": "b", "role": "admin", "password": PASSWORD, "sites": "hq"}, "sees all sites"),
        ({"action": "role", "username": "root", "role": "viewer"}, "the only admin"),
        ({"action": "remove", "username": "root"}, "the only admin"),
        ({"action": "fly"}, "unknown"),
    ):
        answer = browser.submit("/users", **values)
        assert answer.status_code == 422
        assert what in unescape(answer.text)
    other = world.browser()
    assert other.log_in("lou").status_code == 303
    assert browser.submit("/users", action="role", username="lou", role="viewer").status_code == 303
    assert other.get("/audit").status_code == 403, "a role counts from the next click"
    assert browser.submit("/users", action="remove", username="lou").status_code == 303
    assert other.get("/locations").status_code == 303
    made = browser.submit("/tokens", action="add", name="crm", role="write", sites="lab", days="30")
    found = re.search(r"e911_([0-9a-f]{8})_[\w-]+", made.text)
    assert found
    assert found[0] not in browser.get("/tokens").text, "shown once"
    assert browser.submit("/tokens", action="remove", token=found[1]).status_code == 303
    assert browser.submit("/tokens", action="add", name="", role="read").status_code == 422
    assert browser.submit("/tokens", action="add", name="x", role="read", days="0").status_code == 422


def test_every_word_exists_in_both_languages_and_is_asked_for_by_its_name() -> None:
    words = Words()
    for key, text in words.texts.items():
        assert set(text) == set(LANGUAGES), key
        assert all(text.values()), key
        names = [set(re.findall(r"{(\w+)}", text[language])) for language in LANGUAGES]
        assert names[0] == names[1], key
    used: set[str] = set()
    sources = [*TEMPLATES.glob("*.html"), *(ROOT / "router" / "console").glob("*.py")]
    for source in sources:
        used |= set(re.findall(r"""(?:\bt\(|\.say\()\s*["']([\w.\-]+)["']\s*[,)]""", source.read_text()))
    assert used - words.texts.keys() == set()
    assert {f"nav.{entry.key}" for entry in ENTRIES} <= words.texts.keys()
    assert {f"column.{name}" for name in COLUMNS if name in COLUMNS[:10]} <= words.texts.keys()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("en;q=0.5, fr;q=0.7", "fr"),
        ("de,es", "en"),
        ("", "en"),
        ("fr;q=x", "en"),
        ("," * 10_000, "en"),
    ],
)
def test_the_language_a_browser_asks_for(header: str, language: str) -> None:
    assert accepted_language(header) == language


def test_no_template_holds_script_or_style_of_its_own() -> None:
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:|\|\s*safe\b|https?://", text), template.name
        scripts = re.findall(r"<script[^>]*>", text)
        assert all("src=" in tag or "application/json" in tag for tag in scripts), template.name
        for form in re.findall(r'<form[^>]*method="post".*?</form>', text, flags=re.DOTALL):
            assert "csrf" in form, template.name


def test_one_device_is_no_devices(here: ConsoleWorld) -> None:
    words = Words()
    for key in ("locations.count", "sites.devices", "locations.not_saved"):
        for language, counts in (("en", ("1", 1)), ("fr", ("0", "1", 0, 1))):
            for count in counts:
                assert not re.search(r"devices|appareils|fields|champs", words.say(language, key, count=count))
        assert re.search(r"devices|fields", words.say("en", key, count="0"))
        assert re.search(r"appareils|champs", words.say("fr", key, count="1,001"))
    with here.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4102", "site": "hq", "callback": "+12125550142"}])
    browser = here.browser("ada")
    for path in ("/locations", "/sites"):
        assert re.search(r"\b1 device\b", browser.get(path).text)
        assert "1 devices" not in browser.get(path).text


def test_what_many_other_sites_do_hides_nothing_of_ones_own(here: ConsoleWorld) -> None:
    now = time.time()
    with here.console.store.writing() as conn:
        rows = [
            ("lab", "own-call", 0.0),
            *(("hq", f"other-{number}", 1.0 + number) for number in range(WITHOUT_SCRIPT)),
        ]
        conn.execute(
            insert(calls),
            [{"id": call, "site": site, "started_at": now + at, "document": ""} for site, call, at in rows],
        )
        for site, count in (("lab", 1), ("hq", 2)):
            for number in range(count):
                test = SelfTest(
                    id=f"{site}.one.{number}",
                    node="n",
                    site=site,
                    route="one",
                    by="x",
                    started_at=now + count + number,
                )
                claim(conn, test)
    browser = here.browser("ann", "viewer", ("lab",))
    assert "own-call" in browser.get("/live").text
    assert "other-" not in browser.get("/live").text
    found = here.program("read", ("lab",))("GET", "/self-tests?limit=1").json()["tests"]
    assert [test["id"] for test in found] == ["lab.one.0"]
