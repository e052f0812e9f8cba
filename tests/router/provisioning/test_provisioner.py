"""Provisioning on both databases, against a real HTTP server: taken, refused, later, and never twice for nothing."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree
from sqlalchemy import text as text_of_sql
from typer.testing import CliRunner

from config.load import LoadedConfig, load_config
from e911.location import Device
from router.cli import build_app
from router.provisioning.provisioner import PAUSES, Provisioner
from router.provisioning.provisioning_calls import Outcome
from router.store.devices import current_revision, get_device, remove_devices, upsert_devices
from router.store.engine import open_store, reading, writing
from tests.support.provisioning_server import Answer, Asked, ProvisioningServer

ADDRESS = {
    "country": "US",
    "state": "NY",
    "city": "New York",
    "house_number": "350",
    "street": "5th",
    "street_suffix": "AVE",
    "postal_code": "10118-0001",
}
DESK = {"device": "4102", "name": "Front desk", "callback": "+12125550142", "site": "hq", "floor": "3", "room": "312"}


def response(inner: bytes) -> bytes:
    """What Bandwidth says of an order."""
    return b"<E911OrderResponse>%b</E911OrderResponse>" % inner


RECEIVED = response(b"<E911Order><orderId>o-1</orderId><ProcessingStatus>RECEIVED</ProcessingStatus></E911Order>")
DONE = response(b"<E911Order><orderId>o</orderId><ProcessingStatus>ADJUSTED_COMPLETE</ProcessingStatus></E911Order>")
ERRORS = b"<ErrorList><Error><Code>12345</Code><Description>address not\n in MSAG</Description></Error></ErrorList>"
REFUSED = response(ERRORS)
FAILED = response(ERRORS + b"<E911Order><ProcessingStatus>FAILED</ProcessingStatus></E911Order>")


@dataclass
class Office:
    """A database of devices, one target, and a clock that is a number."""

    folder: Path
    database: str
    answers: Callable[[Asked], Answer] = lambda _: (200, b"")
    now: float = 1000.0
    server: ProvisioningServer = field(init=False)
    provisioner: Provisioner = field(init=False)

    def __post_init__(self) -> None:
        self.server = ProvisioningServer(lambda asked: self.answers(asked))

    def configure(self, section: Mapping[str, Any], **site: Any) -> None:
        path = self.folder / "edge911.yaml"
        config = {
            "listen": ["udp://127.0.0.1:5060"],
            "networks": {"inside": ["127.0.0.0/8"]},
            "locations": {"database": self.database},
            "sites": [{"id": "hq", "name": "Head office", "address": ADDRESS, **site}],
            "provisioning": {"crm": dict(section)},
        }
        path.write_text(yaml.safe_dump(config))
        self.loaded: LoadedConfig = load_config(path)

    def begin(self) -> None:
        """Start (again) with nothing in memory."""
        if hasattr(self, "provisioner"):
            self.provisioner.close()
        self.provisioner = Provisioner(
            self.database, lambda: self.loaded.config, lambda path: path, self.folder, clock=lambda: self.now
        )

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.provisioner.look()

    def put(self, **columns: str) -> None:
        engine = open_store(self.database)
        with writing(engine) as conn:
            upsert_devices(conn, [{**DESK, **columns}])
        engine.dispose()

    def remove(self) -> None:
        engine = open_store(self.database)
        with writing(engine) as conn:
            remove_devices(conn, ["4102"])
        engine.dispose()

    @property
    def device(self) -> Device:
        engine = open_store(self.database)
        with reading(engine) as conn:
            found = get_device(conn, "4102")
        engine.dispose()
        assert found is not None
        return found

    @property
    def revision(self) -> int:
        """Counts changes of devices."""
        engine = open_store(self.database)
        with reading(engine) as conn:
            found = current_revision(conn)
        engine.dispose()
        return found

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.server.asked]


@pytest.fixture
def office(tmp_path: Path, store_url: str) -> Iterator[Office]:
    found = Office(tmp_path, store_url)
    with found.server:
        found.configure({"kind": "webhook", "url": f"{found.server.url}/911", "secret": "s3cret"})
        found.put()
        found.begin()
        yield found
        found.provisioner.close()


def test_a_webhook_is_told_once_and_again_when_something_changes(office: Office) -> None:
    office.answers = lambda _: (200, b'{"location_id": "LOC-7", "endpoint_id": "EP-7"}')
    office.look()
    office.look(5)
    office.look(5000)
    (asked,) = office.server.asked
    (said,) = office.said
    assert asked.path == "/911"
    assert asked.headers["x-edge911-signature"] == (
        "sha256=" + hmac.new(b"s3cret", asked.body, hashlib.sha256).hexdigest()
    )
    assert (said["event"], said["target"], said["device"], said["callback"]) == (
        "upsert",
        "crm",
        "4102",
        "+12125550142",
    )
    assert said["address"] == {**ADDRESS, "floor": "3", "room": "312"}
    assert (office.device.provisioning, office.device.location_id, office.device.endpoint_id) == (
        "active",
        "LOC-7",
        "EP-7",
    )
    office.put(room="313")
    assert (office.device.provisioning, office.device.location_id) == ("", ""), "the old place's id is gone at once"
    office.look()
    assert office.said[1]["address"]["room"] == "313"
    assert asked.headers["idempotency-key"] != office.server.asked[1].headers["idempotency-key"]
    assert office.device.location_id == "LOC-7"
    office.put(language="fr")
    office.look()
    assert office.said[2]["language"] == "fr"
    office.remove()
    office.look()
    assert (office.said[3]["event"], office.said[3]["device"]) == ("delete", "4102")
    office.look(5000)
    assert len(office.said) == 4


def test_what_is_refused_is_not_said_again_and_shown_with_the_providers_words(office: Office) -> None:
    office.answers = lambda _: (422, b'{"message": "no such street"}')
    office.look()
    office.look(100_000)
    assert len(office.said) == 1
    assert office.device.provisioning == "refused: 422: no such street"
    listed = CliRunner().invoke(
        build_app(), ["locations", "list", "-c", str(office.folder / "edge911.yaml")], env={"COLUMNS": "300"}
    )
    assert "refused: 422: no such street" in listed.output
    office.answers = lambda _: (200, b"")
    office.put(street="6th", house_number="1", city="Albany", state="NY", country="US")
    office.look()
    assert office.device.provisioning == "active"


@pytest.mark.parametrize("status", [500, 503, 429, 401, 302])
def test_after_an_error_it_is_said_again_with_growing_pauses(office: Office, status: int) -> None:
    office.answers = lambda _: (status, b"not now")
    office.look()
    assert office.device.provisioning == f"pending: {status}: not now"
    for count, pause in enumerate(PAUSES[:3], 1):
        office.look(pause - 0.5)
        assert len(office.said) == count
        office.begin()  # the process ended, and was started again
        office.look(0.5)
        assert len(office.said) == count + 1
    office.answers = lambda _: (204, b"")
    office.look(PAUSES[3])
    assert office.device.provisioning == "active"
    assert {one["id"] for one in office.said} == {office.said[0]["id"]}


@pytest.mark.parametrize("status", [404, 410])
def test_a_webhook_that_does_not_know_a_device_need_not_forget_it(office: Office, status: int) -> None:
    office.answers = lambda _: (204, b"")
    office.look()
    office.remove()
    office.answers = lambda _: (status, b"no such device")
    office.look()
    assert [one["event"] for one in office.said] == ["upsert", "delete"]
    office.look(100_000)
    assert len(office.said) == 2
    office.answers = lambda _: (204, b"")
    office.put()
    office.look()
    assert [one["event"] for one in office.said] == ["upsert", "delete", "upsert"]


@pytest.mark.parametrize("change", ["refused", "not said yet"])
def test_a_webhook_that_knows_a_device_hears_that_it_is_gone_whatever_became_of_a_later_change(
    office: Office, change: str
) -> None:
    office.answers = lambda _: (204, b"")
    office.look()
    if change == "refused":
        office.answers = lambda _: (422, b"no such room")
        office.put(room="313")
        office.look()
    else:
        office.put(device="4103")
        office.answers = lambda _: (503, b"")
        office.look()  # away, and left alone for a while
        office.put(room="313")
        office.look(1)
    office.remove()
    office.answers = lambda _: (204, b"")
    office.look(10)
    assert ("4102", "delete") in [(one["device"], one["event"]) for one in office.said]


class KilledError(BaseException):
    """The process ends here, and notes nothing."""


def test_what_a_killed_process_was_saying_is_said_again_at_its_next_start(office: Office) -> None:
    office.answers = lambda _: (204, b"")
    office.look()
    office.put(room="313")
    office.put(device="4103")
    office.provisioner._say = _killed  # type: ignore[method-assign]  # in the middle of it
    with pytest.raises(KilledError):
        office.look()
    assert len(office.said) == 1
    other_node = Provisioner(
        office.database,
        lambda: office.loaded.config,
        lambda path: path,
        office.folder / "b",
        clock=lambda: office.now,
    )
    other_node.look()
    assert len(office.said) == 1, "another node knows nothing of the first one's end"
    other_node.close()
    office.begin()
    office.look(0.1)
    assert {one["device"] for one in office.said[1:]} == {"4102", "4103"}
    assert len(office.said) == 3
    office.begin()
    office.look(1)
    assert len(office.said) == 3


def _killed(*_: object) -> Outcome:
    raise KilledError


def test_who_does_not_answer_and_who_is_not_there(office: Office) -> None:
    office.configure({"kind": "webhook", "url": office.server.url, "timeout": "500ms"})
    office.answers = lambda _: None
    office.look()
    assert office.device.provisioning == "pending: no answer within 0.5 s"
    office.configure({"kind": "webhook", "url": "http://127.0.0.1:1/x"})
    office.look(PAUSES[0])
    assert office.device.provisioning.startswith("pending: ConnectError")


def test_an_answer_without_end_is_not_read(office: Office) -> None:
    office.answers = lambda _: (200, b"x" * 100_000)
    office.look()
    assert office.device.provisioning == "pending: 200: an answer of more than 65536 bytes"


def test_a_device_that_moves_while_it_is_said_keeps_no_old_id(office: Office) -> None:
    def moves(_: Asked) -> Answer:
        if len(office.server.asked) == 1:
            office.put(room="999")
        return 200, b'{"location_id": "LOC-%d"}' % len(office.server.asked)

    office.answers = moves
    office.look()
    assert office.device.location_id == "", "what was said is not where it is"
    office.look(1)
    assert office.device.location_id == "LOC-2"


def test_a_move_by_plain_sql_ends_the_old_id_too(office: Office) -> None:
    office.answers = lambda _: (200, b'{"location_id": "LOC-1"}') if len(office.server.asked) == 1 else (503, b"")
    office.look()
    assert office.device.location_id == "LOC-1"
    engine = open_store(office.database)
    with writing(engine) as conn:
        conn.execute(text_of_sql("UPDATE devices SET room = '777' WHERE device = '4102'"))
    engine.dispose()
    office.look(1)
    assert (office.device.location_id, office.device.provisioning) == ("", "pending: 503")


def test_an_id_by_hand_stands_until_the_provider_gives_its_own(office: Office) -> None:
    office.answers = lambda _: (503, b"")
    office.put(room="400", location_id="HAND-1", endpoint_id="HAND-E")
    office.look()
    assert (office.device.location_id, office.device.provisioning) == ("HAND-1", "pending: 503")
    office.answers = lambda _: (200, b'{"location_id": "LOC-1"}')
    office.look(60)
    assert (office.device.location_id, office.device.endpoint_id) == ("LOC-1", "HAND-E"), "it gave no endpoint's id"
    office.put(room="400", location_id="HAND-2")
    office.look()
    assert office.device.location_id == "LOC-1", "what it took is what it knows"
    assert len(office.said) == 2
    office.put(room="401", location_id="HAND-3")
    office.look()
    assert (office.device.location_id, office.device.endpoint_id) == ("LOC-1", "")


def test_devices_of_different_fates_are_noted_in_one_go(office: Office) -> None:
    office.answers = lambda _: (503, b"")
    office.look()
    office.put(room="500")  # and back again: nothing new is to be said of it, and its state is shown anew
    office.put()
    engine = open_store(office.database)
    with writing(engine) as conn:
        upsert_devices(conn, [{**DESK, "device": f"40{number}"} for number in range(10, 20)])
        upsert_devices(conn, [{**DESK, "device": f"40{number}", "location_id": "H"} for number in range(20, 30)])
    engine.dispose()
    office.answers = lambda _: (200, b"")
    for seconds in (60, 600, 1, 1):
        office.look(seconds)
    assert office.device.provisioning == "active"
    assert {one["device"] for one in office.said} == {"4102", *(f"40{number}" for number in range(10, 30))}


def test_another_address_of_the_site_is_said_for_its_devices(office: Office) -> None:
    office.look()
    office.configure(
        {"kind": "webhook", "url": f"{office.server.url}/911", "secret": "s3cret"},
        address={**ADDRESS, "house_number": "351"},
    )
    office.look()
    assert [one["address"]["house_number"] for one in office.said] == ["350", "351"]


def test_a_phone_that_calls_by_its_own_number_is_told_with_it(office: Office) -> None:
    office.put(callback="", number="2125550160")
    office.look()
    assert [one["callback"] for one in office.said] == ["+12125550160"]


def test_who_has_no_address_is_not_said(office: Office) -> None:
    office.put(site="", callback="+12125550142")
    office.look()
    assert office.said == []
    assert office.device.provisioning == "refused: not said: its address has no country, state, city, street"


def test_the_same_words_after_others_are_news_and_a_delete_is_too(office: Office) -> None:
    """Whoever knows requests by Idempotency-Key takes the same key for a repetition, and does nothing."""
    for room in ("312", "313", "312"):
        office.put(room=room)
        office.look()
    office.remove()
    office.look()
    assert [one["address"]["room"] for one in office.said] == ["312", "313", "312", "312"]
    keys = [one.headers["idempotency-key"] for one in office.server.asked]
    assert len(set(keys)) == 4
    assert keys == [one["id"] for one in office.said]


def test_a_target_that_is_away_takes_no_time_from_the_others(office: Office) -> None:
    """Each request to it may take its whole timeout, and it may have been told nothing of 100,000 devices yet."""
    path = office.folder / "edge911.yaml"
    config = yaml.safe_load(path.read_text())
    section = config["provisioning"]["crm"]
    config["provisioning"] = {"away": {**section, "url": f"{office.server.url}/away"}, "crm": section}
    path.write_text(yaml.safe_dump(config))
    office.loaded = load_config(path)
    office.begin()
    for number in range(30):
        office.put(device=f"41{number:02}")
    office.answers = lambda asked: (503, b"") if asked.path == "/away" else (204, b"")
    office.look()
    paths = [one.path for one in office.server.asked]
    assert paths.count("/away") == 1
    assert paths.count("/911") >= 30
    office.look(4.9)
    assert len(office.server.asked) == len(paths)
    office.answers = lambda _: (204, b"")
    office.look(0.1)
    away = [one["device"] for one in office.said if one["target"] == "away"]
    assert len(away) == 1 + len(set(away)), "all that was due is said at once when it is back"
    assert len(set(away)) >= 30


def test_of_targets_that_give_ids_the_first_stands(office: Office) -> None:
    """Each would put its own back for ever, and a call would show now the one, now the other."""
    path = office.folder / "edge911.yaml"
    config = yaml.safe_load(path.read_text())
    section = config["provisioning"]["crm"]
    targets = {
        "second": {**section, "url": f"{office.server.url}/a"},
        "first": {**section, "url": f"{office.server.url}/b"},
    }
    path.write_text(yaml.safe_dump({**config, "provisioning": dict(reversed(targets.items()))}, sort_keys=False))
    office.loaded = load_config(path)
    office.begin()
    office.answers = lambda asked: (200, b'{"location_id": "L-%b", "endpoint_id": "E-a"}' % asked.path[1:].encode())
    office.look()
    office.look(1)
    revision = office.revision
    for _ in range(3):
        office.look(1)
    assert (office.device.location_id, office.device.endpoint_id) == ("L-b", "E-a")
    assert office.revision == revision
    assert office.device.provisioning == "first active; second active"
    assert len(office.server.asked) == 2


@pytest.mark.parametrize("field", ["40", "Sat, 01 Jan 2000 00:00:00 GMT", "soon"])
def test_a_target_that_says_when_to_come_again_is_left_alone_until_then(office: Office, field: str) -> None:
    office.server.headers = {"Retry-After": field}
    office.answers = lambda _: (429, b"too many")
    office.look()
    office.put(device="4103")
    wait = 40 if field == "40" else PAUSES[0]
    office.look(wait - 0.5)
    assert len(office.said) == 1
    office.answers = lambda _: (204, b"")
    office.look(0.5)
    assert {one["device"] for one in office.said[1:]} == {"4102", "4103"}


def test_an_answer_that_comes_byte_by_byte_is_given_up(office: Office) -> None:
    office.configure({"kind": "webhook", "url": office.server.url, "timeout": "500ms"})
    office.server.drip = 0.2
    office.answers = lambda _: (200, b"x" * 200)
    office.look()
    assert office.device.provisioning == "pending: no whole answer within 0.5 s"


# ---- Bandwidth ----


def text(document: bytes, name: str) -> str:
    found = next(etree.fromstring(document).iter(name), None)
    return "" if found is None else found.text or ""


@pytest.fixture
def bandwidth(office: Office) -> Office:
    office.configure(
        {"kind": "bandwidth", "url": f"{office.server.url}/api", "account": "9900", "username": "u", "password": "p"}
    )
    return office


def test_a_bandwidth_order_from_received_to_complete(bandwidth: Office) -> None:
    office = bandwidth
    office.answers = lambda asked: (201, RECEIVED) if asked.method == "POST" else (200, RECEIVED)
    office.look()
    (order,) = office.server.asked
    assert (order.path, order.headers["authorization"]) == ("/api/accounts/9900/e911s", "Basic dTpw")
    body = order.body
    assert [element.tag for element in etree.fromstring(body)[1][0]] == [
        *("CallerName", "Address", "CallbackNumber", "Identifier", "PIDFLOEnabled", "PreferredLanguage")
    ]
    wanted = {
        "CallerName": "Front desk",
        "HouseNumber": "350",
        "StreetName": "5th",
        "StreetSuffix": "AVE",
        "AddressLine2": "FLR 3 RM 312",
        "City": "New York",
        "StateCode": "NY",
        "Zip": "10118",
        "PlusFour": "0001",
        "Country": "United States",
        "CallbackNumber": "2125550142",
        "PIDFLOEnabled": "true",
        "PreferredLanguage": "en",
    }
    assert {name: text(body, name) for name in wanted} == wanted
    assert re.fullmatch("[A-Z0-9]{10,30}", text(body, "Identifier"))
    assert re.fullmatch("[A-Z0-9]{1,32}", text(body, "LocationId"))
    assert office.device.provisioning == "pending"
    assert office.device.endpoint_id == "", "not before the provider knows it"
    office.look(1)
    assert [one.method for one in office.server.asked] == ["POST", "GET"]
    assert office.server.asked[1].path == "/api/accounts/9900/e911s/o-1"
    office.answers = lambda _: (200, DONE)
    office.look(2)
    assert office.device.provisioning == "active"
    assert (office.device.endpoint_id, office.device.location_id) == (
        text(body, "Identifier"),
        text(body, "LocationId"),
    )
    office.look(10_000)
    assert len(office.server.asked) == 3


def test_an_order_that_the_provider_knows_no_more_is_placed_again(bandwidth: Office) -> None:
    bandwidth.answers = lambda asked: (201, RECEIVED) if asked.method == "POST" else (404, b"")
    bandwidth.look()
    bandwidth.look(1)
    assert bandwidth.device.provisioning == "pending: 404"
    bandwidth.answers = lambda _: (201, DONE)
    bandwidth.look(100)
    assert [one.method for one in bandwidth.server.asked] == ["POST", "GET", "POST"]
    assert bandwidth.device.provisioning == "active"


@pytest.mark.parametrize(("body", "deletes"), [(REFUSED, 1), (b"<html>no page", 2), (b"<html>none</html>", 2)])
def test_an_endpoint_that_bandwidth_does_not_know_need_not_be_deleted(
    bandwidth: Office, body: bytes, deletes: int
) -> None:
    """Where it says so itself; a 404 of whoever stands before it says nothing."""
    bandwidth.answers = lambda _: (201, DONE)
    bandwidth.look()
    bandwidth.remove()
    bandwidth.answers = lambda _: (404, body)
    bandwidth.look()
    bandwidth.look(100_000)
    assert len(bandwidth.server.asked) == 1 + deletes


def test_a_move_is_a_new_endpoint_and_the_old_one_is_deleted_after_it(bandwidth: Office) -> None:
    office = bandwidth
    office.answers = lambda _: (201, DONE)
    office.look()
    first = text(office.server.asked[0].body, "Identifier")
    office.put(room="400")
    office.look()
    office.look(1)
    _, second, delete = (one.body for one in office.server.asked)
    assert text(second, "Identifier") not in ("", first)
    assert (text(delete, "Identifier"), text(delete, "DeleteTNSpecificE911Address")) == (first, "true")
    assert office.device.endpoint_id == text(second, "Identifier")
    assert office.device.provisioning == "active"
    office.remove()
    office.look(1)
    assert text(office.server.asked[3].body, "Identifier") == text(second, "Identifier")
    assert text(office.server.asked[3].body, "DeleteTNSpecificE911Address") == "true"


@pytest.mark.parametrize("case", ["moved twice", "moved and removed", "removed and put elsewhere"])
def test_no_endpoint_is_forgotten_while_the_provider_is_away(bandwidth: Office, case: str) -> None:
    """What nobody deletes is paid for, and known to the provider by an address where nobody is."""
    office = bandwidth
    office.answers = lambda _: (201, DONE)
    office.look()
    office.put(room="400")
    office.answers = lambda asked: (503, b"") if b"<DeleteTN" in asked.body else (201, DONE)
    office.look()  # at its new place; the old one is still to be deleted
    if case != "moved twice":
        office.answers = lambda _: (503, b"")
    if case == "removed and put elsewhere":
        office.remove()
        office.look(1)
    office.put(room="401")
    office.look(1)
    if case == "moved and removed":
        office.remove()
        office.look(1)
    office.answers = lambda _: (201, DONE)
    for _ in range(4):
        office.look(1000)
    known: set[str] = set()
    for asked in office.server.asked:
        deletes = b"<DeleteTN" in asked.body
        (known.discard if deletes else known.add)(text(asked.body, "Identifier"))
    assert len(known) == (0 if case == "moved and removed" else 1)
    if known:
        assert known == {office.device.endpoint_id}
        assert office.device.provisioning == "active"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, REFUSED), "refused: 400: 12345 address not in MSAG"),
        (
            (200, REFUSED.replace(b"</ErrorList>", b"</ErrorList><ProcessingStatus>FAILED</ProcessingStatus>")),
            "refused: 200: 12345",
        ),
        ((409, b""), "refused: 409"),
        ((503, b"<html>busy"), "pending: 503"),
        ((201, b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), "refused: 201: the answer cannot be read"),
    ],
)
def test_what_bandwidth_says(bandwidth: Office, answer: Answer, words: str) -> None:
    bandwidth.answers = lambda _: answer
    bandwidth.look()
    assert bandwidth.device.provisioning.startswith(words)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"callback": ""}, "no callback number of North America"),
        ({"additional": "x" * 60}, "60 is the most"),
    ],
)
def test_what_bandwidth_would_not_take_is_not_sent(bandwidth: Office, columns: dict[str, str], words: str) -> None:
    bandwidth.put(**columns)
    bandwidth.look()
    assert bandwidth.server.asked == []
    assert words in bandwidth.device.provisioning


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kind": "bandwidth", "url": "https://dashboard.example.com/api"}, "needs account, username and password"),
        ({"kind": "webhook", "url": "http://crm.example.com/"}, "goes by https"),
        ({"kind": "webhook", "url": "ftp://x"}, "url"),
    ],
)
def test_the_section_says_what_is_wrong(tmp_path: Path, section: dict[str, str], words: str) -> None:
    with pytest.raises(Exception, match=words):
        Office(tmp_path, "sqlite:///x.db").configure(section)
