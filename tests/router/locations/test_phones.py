"""Phones without a location are listed, and those that moved to another network are asked where they are.

From what the call process notes of requests, through its files, to the database on SQLite and PostgreSQL.
"""

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.schema import Config
from e911.location import CivicAddress, Device, DeviceKind
from router.journal.queued_lines import QueuedLines
from router.journal.segments import START, LineReader, LineWriter
from router.locations.invitations import through_us, urls_for
from router.locations.phone_keeper import Invitation, PhoneKeeper
from router.locations.phone_notes import AGAIN_AFTER, DIRECTORY, NOTES_A_SECOND, PhoneNotes, network_name
from router.store.devices import get_device, upsert_devices
from router.store.engine import open_store, reading, writing
from router.store.phones import MOST_PHONES, note_phones, phones_without_location
from tests.support.call_world import CARRIER, CONFIG, PHONE, CallWorld, Sent, invite, of, one, response

HOME = CivicAddress(
    country="US",
    state="NY",
    city="Albany",
    house_number="1",
    street="Example",
    street_suffix="ST",
    postal_code="12207",
)
NORA = Device(device="4150", kind=DeviceKind.SOFTPHONE, civic=HOME, confirmed_at=100.0, email="nora@example.com")


def register(user: str = "4199", agent: str = "phone/1", source: tuple[str, int] = PHONE, number: int = 1) -> bytes:
    address = f"<sip:{user}@pbx.example.com>"
    lines = (
        "REGISTER sip:pbx.example.com SIP/2.0",
        f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bKr{user}{number}",
        "Max-Forwards: 70",
        f"From: {address};tag=r{number}",
        f"To: {address}",
        f"Call-ID: r{user}{number}",
        f"CSeq: {number} REGISTER",
        f"Contact: <sip:{user}@{source[0]}:{source[1]}>",
        f"User-Agent: {agent}",
        "Content-Length: 0",
    )
    return "\r\n".join((*lines, "", "")).encode()


WRITING: dict[Path, PhoneNotes] = {}


def world_of(folder: Path, *devices: Device, outbound: str = "allow") -> CallWorld:
    locations = {**CONFIG["locations"], "unconfirmed": {"outbound": outbound}}
    world = CallWorld(folder, devices=devices, locations=locations)
    world.router.phones = WRITING[folder] = PhoneNotes(world.router, folder)
    return world


def notes(folder: Path) -> list[dict[str, Any]]:
    if folder in WRITING:
        assert WRITING[folder].settle(60)
    return [orjson.loads(line) for line in LineReader(folder / DIRECTORY).read_lines(START, 10_000)[0]]


def test_phones_without_a_location_are_noted_once_in_a_while(tmp_path: Path) -> None:
    world = world_of(tmp_path, NORA, Device(device="4151", name="no place"))
    world.receive(register(agent="<script>alert(1)</script>\x1b[31m"))
    world.receive(register(number=2))
    world.receive(invite("sip:2125550177@carrier.example.com", user="4198"))
    world.receive(invite(user="4197"))
    world.receive(register(user="4151"))
    found = notes(tmp_path)
    assert [(note["kind"], note["phone"], note["method"]) for note in found] == [
        ("unlocated", "4199@pbx.example.com", "REGISTER"),
        ("unlocated", "4198@pbx.example.com", "INVITE"),
        ("unlocated", "4197@pbx.example.com", "INVITE"),
        ("unlocated", "4151@pbx.example.com", "REGISTER"),
    ]
    assert found[0]["network"] == network_name(PHONE[0])
    assert "\x1b" not in found[0]["user_agent"]
    world.advance(AGAIN_AFTER + 1)
    world.receive(register(number=3))
    assert len(notes(tmp_path)) == 5


def test_a_flood_of_invented_phones_has_an_end_and_every_request_goes_on(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    sent = [one for user in range(200) for one in world.receive(register(user=f"x{user}"))]
    assert len({item.message.call_id for item in of(sent, "REGISTER")}) == 200
    assert len(notes(tmp_path)) == NOTES_A_SECOND
    assert world.router.counts["phone_notes_left_out"] == 150


def test_a_phone_that_its_network_places_is_not_listed(tmp_path: Path) -> None:
    site = {**CONFIG["sites"][0], "networks": [f"{PHONE[0]}/32"]}
    world = CallWorld(tmp_path, devices=(), sites=[site])
    world.router.phones = WRITING[tmp_path] = PhoneNotes(world.router, tmp_path)
    world.receive(register())
    assert notes(tmp_path) == []


def test_until_it_says_where_it_is_an_unconfirmed_softphone_makes_no_ordinary_calls(tmp_path: Path) -> None:
    lost = Device(device="4150", kind=DeviceKind.SOFTPHONE, civic=HOME, unconfirmed="new-network")
    world = world_of(tmp_path, lost, outbound="refuse")
    refused = one(world.receive(invite("sip:2125550177@carrier.example.com", user="4150")), 403)
    warning = refused.message.get("warning")
    assert "location-needed" in warning
    assert "911 works" in warning
    assert one(world.receive(register(user="4150")), "REGISTER")
    assert one(world.receive(invite("sip:988@carrier.example.com", user="4150")), "INVITE", CARRIER)
    emergency = of(world.receive(invite(user="4150")), "INVITE")
    assert emergency
    assert b"location-unconfirmed" not in emergency[0].message.raw
    world.devices.put(NORA)
    assert one(world.receive(invite("sip:2125550178@carrier.example.com", user="4150")), "INVITE", CARRIER)
    allowed = world_of(tmp_path, lost)
    assert one(allowed.receive(invite("sip:2125550177@carrier.example.com", user="4150")), "INVITE", CARRIER)


def registrar(sent: Sent, status: int, *contacts: str) -> bytes:
    """The answer of a registrar, with these bindings."""
    lines = [line for line in response(sent.message, status).decode().split("\r\n") if not line.startswith("Contact")]
    return "\r\n".join([lines[0], *(f"Contact: {contact}" for contact in contacts), *lines[1:]]).encode()


def moves(folder: Path) -> list[tuple[str, str]]:
    return [(note["device"], note["address"]) for note in notes(folder) if note["kind"] == "moving"]


STRANGER = ("10.66.6.6", 5060)


def test_only_a_registration_that_the_registrar_took_says_where_a_phone_is(tmp_path: Path) -> None:
    world = world_of(tmp_path, NORA)
    forged = one(world.receive(register("4150", source=STRANGER), STRANGER), "REGISTER")
    assert moves(tmp_path) == []
    world.receive(registrar(forged, 401), forged.to)
    assert moves(tmp_path) == []
    forged = one(world.receive(register("4150", source=STRANGER, number=2), STRANGER), "REGISTER")
    world.receive(registrar(forged, 200, "<sip:4150@10.1.3.7:5060>;expires=60"), forged.to)
    assert moves(tmp_path) == []  # the binding of the phone itself, not the one asked for
    ended = one(world.receive(register("4150", source=STRANGER, number=3), STRANGER), "REGISTER")
    world.receive(registrar(ended, 200, "<sip:4150@10.66.6.6:5060>;expires=0"), ended.to)
    assert moves(tmp_path) == []
    own = one(world.receive(register("4150", number=4)), "REGISTER")
    world.receive(registrar(own, 200, "<sip:4150@10.1.3.9>", "<sip:4150@10.1.3.7>;expires=60"), own.to)
    assert moves(tmp_path) == [("4150", "10.1.3.7:5060")]


def test_who_has_the_same_user_part_in_a_domain_where_nobody_is_registered_is_somebody_else(tmp_path: Path) -> None:
    """The link of another customer's phone would be sent to it, and its own 911 call to that phone's address."""
    world = world_of(tmp_path, replace(NORA, device="4150@other.example"))
    raw = register("4150").replace(b"pbx.example.com", b"customer.example")
    sent = one(world.receive(raw), "REGISTER")
    world.receive(registrar(sent, 200, f"<sip:4150@{PHONE[0]}:{PHONE[1]}>;expires=60"), sent.to)
    assert [(note["kind"], note["phone"], note["device"]) for note in notes(tmp_path)] == [
        ("unlocated", "4150@customer.example", "")
    ]
    asked = world.receive(invite(user="4150").replace(b"4150@pbx.example.com", b"4150@customer.example"))
    sent = one(asked, "INVITE")
    assert b"Albany" not in sent.message.raw


def test_who_is_back_on_another_network_within_minutes_is_noted_again(tmp_path: Path) -> None:
    """Else a laptop that looks in at the office is believed to be there until it registers again, in an hour."""
    world = world_of(tmp_path, NORA)
    elsewhere = ("10.9.9.9", 5060)

    def registers(number: int, source: tuple[str, int]) -> None:
        sent = one(world.receive(register("4150", source=source, number=number), source), "REGISTER")
        world.receive(registrar(sent, 200, f"<sip:4150@{source[0]}:{source[1]}>;expires=3600"), sent.to)

    seen = []
    pauses = (2, 61, 61, 61)
    for number, source in enumerate((elsewhere, PHONE, elsewhere, elsewhere), 1):
        registers(number, source)
        seen.append(("4150", f"{source[0]}:{source[1]}"))
        world.advance(pauses[number - 1])
    assert moves(tmp_path) == seen[:3], "and on the same network not before five minutes are over"


def test_who_is_on_a_network_and_back_within_a_minute_is_noted_there(tmp_path: Path) -> None:
    """It may not register again for an hour, and would be believed to be where it was for a moment."""
    world = world_of(tmp_path, NORA)
    elsewhere = ("10.9.9.9", 5060)

    def registers(number: int, source: tuple[str, int]) -> None:
        sent = one(world.receive(register("4150", source=source, number=number), source), "REGISTER")
        world.receive(registrar(sent, 200, f"<sip:4150@{source[0]}:{source[1]}>;expires=3600"), sent.to)

    def seen(*sources: tuple[str, int]) -> bool:
        world.router.phones.look(world.router.now())
        return moves(tmp_path) == [("4150", f"{host}:{port}") for host, port in sources]

    for number, source in enumerate((elsewhere, PHONE, elsewhere), 1):
        registers(number, source)
        world.advance(2)
    assert seen(elsewhere, PHONE), "two phones of one user that register in turn are no news each time"
    world.advance(60)
    assert seen(elsewhere, PHONE, elsewhere)
    world.advance(600)
    assert seen(elsewhere, PHONE, elsewhere)
    registers(4, PHONE)
    world.advance(2)
    registers(5, elsewhere)
    world.advance(2)
    registers(6, PHONE)
    world.advance(2)
    registers(7, elsewhere)
    assert seen(elsewhere, PHONE, elsewhere, PHONE, elsewhere)
    world.advance(120)
    assert seen(elsewhere, PHONE, elsewhere, PHONE, elsewhere), "in the end it is where it was noted last"


def test_when_all_phones_move_at_once_none_is_forgotten(tmp_path: Path) -> None:
    """Where an office loses its line, hundreds register from another network in a second, and again in an hour."""
    names = [str(4200 + number) for number in range(3 * NOTES_A_SECOND)]
    world = world_of(tmp_path, *(replace(NORA, device=name) for name in names))
    for name in names:
        sent = one(world.receive(register(name)), "REGISTER")
        world.receive(registrar(sent, 200, f"<sip:{name}@{PHONE[0]}:{PHONE[1]}>;expires=3600"), sent.to)
    assert len(moves(tmp_path)) == NOTES_A_SECOND
    for _ in range(3):
        world.advance(1)
        world.router.phones.look(world.router.now())
    assert sorted(device for device, _ in moves(tmp_path)) == names


def test_a_registrar_that_lists_the_address_behind_the_nat_took_the_phone(tmp_path: Path) -> None:
    world = world_of(tmp_path, NORA)
    raw = register("4150").replace(b"Contact: <sip:4150@10.1.3.7:5060>", b"Contact: <sip:4150@192.168.1.9:5060>")
    sent = one(world.receive(raw), "REGISTER")
    world.receive(registrar(sent, 200, f"<sip:4150@{PHONE[0]}:{PHONE[1]}>;expires=60"), sent.to)
    assert moves(tmp_path) == [("4150", f"{PHONE[0]}:{PHONE[1]}")]
    (note,) = [one for one in notes(tmp_path) if one["kind"] == "moving"]
    assert note["contact"] == "sip:4150@192.168.1.9:5060"
    to_phone = MESSAGE.format(contact=note["contact"], route=note["route"]).encode()
    assert one(world.receive(to_phone, ("198.51.100.77", 40_000)), 403)
    carried = one(world.receive(to_phone, ("127.0.0.1", 40_000)), "MESSAGE", PHONE)
    assert carried.message.raw.startswith(b"MESSAGE sip:4150@192.168.1.9:5060 SIP/2.0\r\n")
    forged = to_phone.replace(b"Route: <sip:", b"Route: <sip:A").replace(b"m1", b"m2")
    assert one(world.receive(forged, ("127.0.0.1", 40_000)), 403)


MESSAGE = "\r\n".join(
    (
        "MESSAGE {contact} SIP/2.0",
        "Via: SIP/2.0/UDP 10.0.0.1:40000;branch=z9hG4bKm1",
        "Max-Forwards: 70",
        "Route: {route}",
        "From: <sip:edge911@10.0.0.1>;tag=m1",
        "To: <{contact}>",
        "Call-ID: m1",
        "CSeq: 1 MESSAGE",
        "Content-Length: 0",
        "",
        "",
    )
)


def test_a_registrar_of_the_strangers_own_says_nothing(tmp_path: Path) -> None:
    world = world_of(tmp_path, NORA)
    raw = register("4150", source=STRANGER).replace(b"sip:pbx.example.com SIP", b"sip:10.66.6.7:5060 SIP")
    sent = one(world.receive(raw, STRANGER), "REGISTER", ("10.66.6.7", 5060))
    world.receive(registrar(sent, 200, "<sip:4150@10.66.6.6:5060>;expires=60"), sent.to)
    assert moves(tmp_path) == []


@pytest.mark.parametrize(
    "to",
    [
        '"<sip:4150@pbx.example.com>" <sip:4103@pbx.example.com>',
        "<sip:4103@pbx.example.com>;x=<sip:4150@pbx.example.com>",
    ],
)
def test_another_users_registration_moves_nobody_else(tmp_path: Path, to: str) -> None:
    mac = Device(device="desk", kind=DeviceKind.SOFTPHONE, civic=HOME, mac="00a8591122aa")
    world = world_of(tmp_path, NORA, mac)
    raw = register("4103", "Phone 1.0 00:A8:59:11:22:AA", STRANGER)
    raw = raw.replace(b"To: <sip:4103@pbx.example.com>", f"To: {to}".encode())
    sent = one(world.receive(raw, STRANGER), "REGISTER")
    world.receive(registrar(sent, 200, "<sip:4103@10.66.6.6:5060>;expires=60"), sent.to)
    assert moves(tmp_path) == []


def test_no_request_waits_for_the_disk_that_notes_go_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    append, begin = LineWriter.append_line, LineWriter._open

    def appended(self: LineWriter, line: bytes) -> bool:
        threads.append(threading.get_ident())
        return append(self, line)

    def begun(self: LineWriter) -> None:
        threads.append(threading.get_ident())
        begin(self)

    monkeypatch.setattr(LineWriter, "append_line", appended)
    monkeypatch.setattr(LineWriter, "_open", begun)
    world = world_of(tmp_path)
    assert of(world.receive(invite(user="4197")), "INVITE")
    world.receive(register())
    assert len(notes(tmp_path)) == 2
    assert threads
    assert threading.get_ident() not in threads


def test_notes_that_nobody_reads_have_an_end(tmp_path: Path) -> None:
    lines = QueuedLines(tmp_path, segment_bytes=1000, most_segments=3)
    for number in range(200):
        assert lines.put(b"%099d\n" % number)
        assert lines.settle(60)
    left = LineReader(tmp_path).read_lines(START, 1000)[0]
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    assert [int(line) for line in left] == list(range(200 - len(left), 200))
    assert (lines.outgrown, lines.not_written) == (200 - len(left), 0)


def test_a_disk_that_takes_nothing_costs_counted_notes_only(tmp_path: Path) -> None:
    (tmp_path / DIRECTORY).write_text("no directory")
    world = world_of(tmp_path)
    assert of(world.receive(invite(user="4197")), "INVITE")
    assert notes(tmp_path) == []
    world.router.phones.look(world.router.now())
    world.router.phones.look(world.router.now())
    assert world.router.counts["phone_notes_not_written"] == 1


LOST = Device(device="soft", username="4150", kind=DeviceKind.SOFTPHONE, civic=HOME, unconfirmed="new-network")


@pytest.mark.parametrize(
    "fixed",
    [Device(device="4150", site="hq"), Device(device="desk", username="4150", kind=DeviceKind.FIXED, civic=HOME)],
)
@pytest.mark.parametrize("lost", [LOST, replace(LOST, device="4150@pbx.example.com", username="")])
def test_a_fixed_phone_of_the_same_user_is_not_refused(tmp_path: Path, fixed: Device, lost: Device) -> None:
    alone = world_of(tmp_path, lost, outbound="refuse")
    assert one(alone.receive(invite("sip:2125550177@carrier.example.com", user="4150")), 403)
    world = world_of(tmp_path, fixed, lost, outbound="refuse")
    assert one(world.receive(invite("sip:2125550177@carrier.example.com", user="4150")), "INVITE", CARRIER)


def test_the_same_user_of_another_host_makes_a_phone_no_less_itself(tmp_path: Path) -> None:
    lost = replace(LOST, device="4150@pbx.example.com", username="")
    other = Device(device="4150@other.example.com", kind=DeviceKind.SOFTPHONE, civic=HOME)
    world = world_of(tmp_path, lost, other, outbound="refuse")

    def call(number: int, host: str) -> list[Sent]:
        raw = invite(f"sip:212555010{number}@carrier.example.com", user="4150")
        return world.receive(re.sub(rb"(From:[^\r]*sip:4150)@[^>]*", rb"\1@" + host.encode(), raw))

    assert one(call(1, "pbx.example.com"), 403)
    assert one(call(2, "other.example.com"), "INVITE", CARRIER)
    assert one(call(3, "10.0.0.5"), "INVITE", CARRIER), "of an address nobody knows which"


def test_a_phone_in_doubt_holds_back_nobody_of_another_domain(tmp_path: Path) -> None:
    lost = replace(LOST, device="4150@other.example", username="")
    world = world_of(tmp_path, lost, outbound="refuse")

    def call(number: int, host: str) -> list[Sent]:
        raw = invite(f"sip:212555010{number}@carrier.example.com", user="4150")
        return world.receive(re.sub(rb"(From:[^\r]*sip:4150)@[^>]*", rb"\1@" + host.encode(), raw))

    assert one(call(1, "customer.example"), "INVITE", CARRIER)
    assert one(call(2, "sip.other.example"), 403)
    assert one(call(3, "10.0.0.5"), 403)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outside=st.sampled_from(["", "9", "8", "0", "1", "+1", "91"]),
    number=st.sampled_from(["911", "988", "933", "112", "18002738255", "8002738255"]),
    separator=st.sampled_from(["", "-", ".", "%2D"]),
    form=st.sampled_from(["sip:{}@10.0.0.5", "sips:{}@10.0.0.5", "tel:{}", "sip:{};phone-context=x@10.0.0.5"]),
)
def test_help_is_never_refused(tmp_path: Path, outside: str, number: str, separator: str, form: str) -> None:
    world = world_of(tmp_path, LOST, outbound="refuse")
    uri = form.format(outside + separator.join(number))
    assert of(world.receive(invite(uri, user="4150")), 403) == []
    assert world.router.counts["calls_refused_location_unconfirmed"] == 0
    assert of(world.receive(invite("urn:service:sos", user="4150")), "INVITE")
    assert one(world.receive(register(user="4150")), "REGISTER")
    assert one(world.receive(invite("sip:4150@10.0.0.5", user="4150", source=CARRIER), CARRIER), "INVITE")
    again = invite("sip:4199@10.1.9.9", user="4150").replace(b"To: <sip:911@pbx.example.com>", b"To: <sip:1@x>;tag=t")
    assert of(world.receive(again), 403) == []


class Keeper:
    """A keeper with its store, fed with notes of a phone."""

    def __init__(self, url: str, folder: Path, **policy: Any) -> None:
        self.sent: list[Invitation] = []
        self.delivers = True
        self.folder = folder
        console = {"listen": "http://127.0.0.1:8911", "public_url": "https://e911.example.com"}
        self.config = Config.model_validate(
            {"listen": ["udp://127.0.0.1:5060"], "console": console, "locations": {"unconfirmed": policy}}
        )
        self.engine = open_store(url)
        with writing(self.engine) as conn:
            upsert_devices(
                conn,
                [
                    {
                        "device": "4150",
                        "kind": "softphone",
                        "city": "Albany",
                        "street": "Lake",
                        "email": "n@example.com",
                    }
                ],
                now=100.0,
            )
        self.url = url
        self.start()
        self.path = folder / DIRECTORY / "00000001.jsonl"
        self.path.parent.mkdir(exist_ok=True)

    def start(self) -> None:
        self.keeper = PhoneKeeper(lambda: self.config, self.url, self.folder, self.send)

    def send(self, invitation: Invitation) -> bool:
        self.sent.append(invitation)
        return self.delivers

    def see(self, network: str, at: float, kind: str = "moving", **more: Any) -> str:
        """A note comes; why the device's location is then unconfirmed."""
        note = {"kind": kind, "phone": "4150@pbx", "device": "4150", "network": network, "at": at, "is_direct": True}
        with self.path.open("ab") as file:
            file.write(orjson.dumps({**note, "address": "192.0.2.9:5060", "transport": "udp", **more}) + b"\n")
        self.keeper.look(at)
        return self.doubt

    @property
    def doubt(self) -> str:
        with reading(self.engine) as conn:
            device = get_device(conn, "4150")
        assert device is not None
        return device.unconfirmed

    def confirm(self, at: float) -> None:
        with writing(self.engine) as conn:
            upsert_devices(conn, [{"device": "4150", "confirmed_at": at}], now=at)


@pytest.fixture
def keeper(store_url: str, tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(store_url, tmp_path)
    yield made
    made.keeper.stop()
    made.engine.dispose()


def test_another_network_makes_the_location_unconfirmed_until_it_is_given(keeper: Keeper) -> None:
    assert keeper.see("192.0.2.0/24", 200.0) == ""
    assert keeper.see("198.51.100.0/24", 300.0) == "new-network"
    assert keeper.see("198.51.100.0/24", 400.0) == "new-network"
    keeper.keeper.stop()
    assert [item.device.device for item in keeper.sent] == ["4150"]
    assert keeper.sent[0].url.startswith("https://e911.example.com/where/")
    keeper.start()  # the process is started again: nothing is sent twice, and the doubt is still there
    assert keeper.see("198.51.100.0/24", 500.0) == "new-network"
    assert len(keeper.sent) == 1
    keeper.confirm(600.0)
    assert keeper.doubt == ""
    assert keeper.see("192.0.2.0/24", 700.0) == "new-network"  # what was given is where it was then
    assert keeper.see("198.51.100.0/24", 800.0) == ""
    assert len(keeper.sent) == 1
    assert keeper.see("203.0.113.0/24", 800.0 + 43_200) == "new-network"
    assert len(keeper.sent) == 2


def test_a_link_that_could_not_be_delivered_is_sent_again_with_the_next_registration(keeper: Keeper) -> None:
    keeper.see("192.0.2.0/24", 200.0)
    keeper.delivers = False
    keeper.see("198.51.100.0/24", 300.0)
    keeper.see("198.51.100.0/24", 600.0)
    keeper.delivers = True
    for at in (900.0, 1200.0, 1500.0):
        keeper.see("198.51.100.0/24", at)
    assert len(keeper.sent) == 3


def test_back_where_it_was_confirmed_the_location_holds_again(keeper: Keeper) -> None:
    keeper.see("192.0.2.0/24", 200.0)
    assert keeper.see("2001:db8:1::/56", 300.0) == "new-network"
    assert keeper.see("192.0.2.0/24", 400.0) == ""


def test_a_phone_behind_a_pbx_is_told_by_mail_alone(keeper: Keeper) -> None:
    keeper.see("192.0.2.0/24", 200.0)
    keeper.see("198.51.100.0/24", 300.0)
    mail = Config.model_validate(
        {
            "listen": ["udp://127.0.0.1:5060"],
            "locations": {"unconfirmed": {"mail": "mailto://smtp.example.com?from=edge@example.com"}},
        }
    )
    by_both = urls_for(mail, keeper.sent[0])
    assert by_both == [
        ("message", "sip:4150@192.0.2.9:5060"),
        ("mail", "mailto://smtp.example.com?from=edge@example.com&to=n%40example.com"),
    ]
    assert urls_for(keeper.config, keeper.sent[0])[1:] == []
    assert through_us(keeper.sent[0]) is None
    ways = {"contact": "sip:4150@192.168.1.9", "route": "<sip:token@127.0.0.1:5060;lr>", "proxy": "127.0.0.1:5060"}
    keeper.see("203.0.113.0/24", 90_000.0, **ways)
    receiver = through_us(keeper.sent[1])
    assert receiver is not None
    assert (receiver.uri.decode(), receiver.route, receiver.proxy) == tuple(ways.values())


def test_a_phone_given_a_location_leaves_the_list_whatever_name_it_is_given_by(keeper: Keeper) -> None:
    for phone in ("4199@pbx", "alice@pbx.example", "+12125550123@pbx", "4198@pbx"):
        keeper.see("192.0.2.0/24", 200.0, "unlocated", phone=phone, user_agent="<script>alert(1)</script>")
    keeper.see("198.51.100.0/24", 900.0, "unlocated", phone="4199@pbx")

    def listed() -> list[str]:
        with reading(keeper.engine) as conn:
            return [found.phone for found in phones_without_location(conn)]

    assert listed() == ["4199@pbx", "+12125550123@pbx", "4198@pbx", "alice@pbx.example"]
    with reading(keeper.engine) as conn:
        first = phones_without_location(conn, text="4199")[0]
    assert (first.first_seen, first.last_seen, first.network, first.times) == (200.0, 900.0, "198.51.100.0/24", 2)
    with writing(keeper.engine) as conn:
        upsert_devices(conn, [{"device": "4199", "site": "hq"}, {"device": "4198", "name": "no place yet"}])
        upsert_devices(conn, [{"device": "x", "aor": "alice@pbx.example", "city": "Albany", "street": "Lake"}])
        upsert_devices(conn, [{"device": "y", "number": "+12125550123", "latitude": 1.0, "longitude": 2.0}])
    assert listed() == ["4198@pbx"]


def test_lines_that_are_no_notes_are_passed_over(keeper: Keeper) -> None:
    with keeper.path.open("ab") as file:
        file.write(b'not json\n[]\n{"kind":"unlocated"}\n{"kind":"unlocated","phone":"4190@pbx","at":"x"}\n')
    keeper.see("192.0.2.0/24", 200.0, "unlocated", phone="4191@pbx")
    with reading(keeper.engine) as conn:
        assert [found.phone for found in phones_without_location(conn)] == ["4191@pbx"]


def test_the_list_has_an_end(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_PHONES >= 1000
    monkeypatch.setattr("router.store.phones.MOST_PHONES", 3)
    with writing(keeper.engine) as conn:
        note_phones(conn, [{"phone": f"p{number}", "at": float(number)} for number in range(6)])
        assert [found.phone for found in phones_without_location(conn)] == ["p5", "p4", "p3"]
