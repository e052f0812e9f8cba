"""Where the network says that a caller is: behind a PBX, at an access point, at a switch port; what arrives then."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e911.location import CivicAddress, Device, DeviceKind
from e911.record import CallIntent, SourceAnswer
from e911.wiremap import WiremapEntry, WiremapTable
from tests.support.call_world import CLOCK, CONFIG, DESK_PHONE, PBX, PHONE, CallWorld, invite, one
from tests.support.sip_text import PIDF, Message, civic

ON_FLOOR = "10.1.3.20"
AP, SWITCH = "001b2c3d4e50", "001b54aabbcc"
SITE = {
    **CONFIG["sites"][0],
    "networks": ["10.1.0.0/16"],
    "zones": [
        {"id": "hq-3e", "networks": ["10.1.3.0/24"], "floor": "3", "room": "East wing"},
        {"id": "hq-4", "floor": "4"},
    ],
}
BRANCH = {
    "id": "albany",
    "name": "Branch",
    "address": {"country": "US", "state": "NY", "city": "Albany", "house_number": "1", "street": "Lake"},
    "networks": ["10.2.0.0/16"],
}
SOURCES = ["conveyed", "network", "registered", "site"]


def world_of(
    folder: Path, location_from: str = "none", *, devices: tuple[Device, ...] = (), **sections: Any
) -> CallWorld:
    pbx = {**CONFIG["trunks"]["pbx"], "location_from": location_from}
    made = {
        "trunks": {**CONFIG["trunks"], "pbx": pbx},
        "sites": [SITE, BRANCH],
        "locations": {"sources": SOURCES, "wiremap": {"bssid_headers": ["X-BSSID"], "lldp_headers": ["X-LLDP"]}},
        **sections,
    }
    world = CallWorld(folder, devices=devices, **made)
    world.router.wiremap = WiremapTable(
        [
            WiremapEntry(bssid=AP, site="hq", zone="hq-4", civic=CivicAddress(room="AP 4-2"), updated_at=CLOCK),
            WiremapEntry(chassis=SWITCH, port="gi1/0/14", site="hq", zone="hq-3e", civic=CivicAddress(room="312")),
            WiremapEntry(chassis=SWITCH, site="hq", zone="hq-3e"),
            WiremapEntry(
                bssid="0a1b2c3d4e00", civic=CivicAddress(city="Troy", street="Ferry", house_number="8", floor="2")
            ),
        ]
    )
    return world


def sdp(connection: str = "", origin: str = "10.0.0.10", media: str = "") -> bytes:
    lines = ["v=0", f"o=- 1 1 IN IP4 {origin}", "s=-"]
    lines += [f"c=IN IP4 {connection}"] if connection else []
    lines += ["t=0 0", "m=audio 4000 RTP/AVP 0"]
    lines += [f"c=IN IP4 {media}"] if media else []
    return "".join(f"{line}\r\n" for line in lines).encode()


def arrived(world: CallWorld, raw: bytes, source: tuple[str, int] = PHONE) -> Message:
    return one(world.receive(raw, source), "INVITE").message


def network_answer(world: CallWorld) -> SourceAnswer:
    return next(answer for answer in world.events(CallIntent)[-1].sources if answer.source == "network")


def place(message: Message) -> dict[str, str]:
    """The civic address that arrives."""
    (part,) = [part for part in message.parts if part.content_type == PIDF]
    return civic(part)


# What a PBX lets through


def from_pbx(user: str = "4999", *, extra: tuple[str, ...] = (), body: bytes = b"", contact: str = "") -> bytes:
    raw = invite(user=user, extra=extra, source=PBX, body=body or sdp("10.0.0.10"))
    return raw.replace(b"Contact: <sip:4999@10.0.0.10:5060>", f"Contact: {contact}".encode()) if contact else raw


def with_vias(*below: str) -> bytes:
    lines = "".join(f"Via: {value}\r\n" for value in below)
    return from_pbx().replace(b"Max-Forwards:", lines.encode() + b"Max-Forwards:", 1)


LET_THROUGH = {
    "sdp, session": ("sdp", from_pbx(body=sdp(ON_FLOOR))),
    "sdp, media": ("sdp", from_pbx(body=sdp("10.0.0.10", media=ON_FLOOR))),
    "sdp, origin": ("sdp", from_pbx(body=sdp("10.0.0.10", origin=ON_FLOOR))),
    "contact": ("contact", from_pbx(contact=f"<sip:4999@{ON_FLOOR}:5062;transport=tcp>")),
    "contact, no brackets": ("contact", from_pbx(contact=f"sip:4999@{ON_FLOOR}")),
    "via, sent-by": ("via", with_vias(f"SIP/2.0/UDP {ON_FLOOR}:5060;branch=z9hG4bKp")),
    "via, received": ("via", with_vias(f"SIP/2.0/UDP 192.168.1.9:5060;branch=z9hG4bKp;received={ON_FLOOR}")),
    "via, the bottom one": (
        "via", with_vias(f"SIP/2.0/UDP 10.1.9.9;branch=z9hG4bKo, SIP/2.0/TCP {ON_FLOOR};branch=z9hG4bKp")
    ),
    "header": ("header:X-Phone-IP", from_pbx(extra=(f"X-Phone-IP: {ON_FLOOR}",))),
    "header, with port": ("header:x-phone-ip", from_pbx(extra=(f"x-PHONE-ip:{ON_FLOOR}:5060",))),
    "header, twice the same": ("header:X-Orig", from_pbx(extra=(f"X-Orig: {ON_FLOOR}", f"X-Orig: {ON_FLOOR}:5060"))),
    "header, the PBX's own too": ("header:X-Orig", from_pbx(extra=("X-Orig: 10.0.0.10", f"X-Orig: {ON_FLOOR}"))),
    "header, a URI": ("header:X-Orig", from_pbx(extra=(f'X-Orig: "Phone" <sip:4999@{ON_FLOOR}:5060>;expires=60',))),
    "header, a URI without a user": ("header:X-Orig", from_pbx(extra=(f"X-Orig: <sip:{ON_FLOOR}:5060>",))),
    "header, mapped": ("header:X-Orig", from_pbx(extra=(f"X-Orig: [::ffff:{ON_FLOOR}]:5060",))),
}  # fmt: skip


@pytest.mark.parametrize("name", LET_THROUGH)
def test_a_phone_behind_a_pbx_is_found_by_its_own_address(tmp_path: Path, name: str) -> None:
    location_from, raw = LET_THROUGH[name]
    world = world_of(tmp_path, location_from)
    found = place(arrived(world, raw, PBX))
    assert (found["FLR"], found["ROOM"], found["RD"]) == ("3", "East wing", "5th")
    answer = network_answer(world)
    assert (answer.outcome, answer.reason, answer.detail) == ("won", "zone-network", ON_FLOOR)
    caller = world.events(CallIntent)[-1].caller
    assert (caller.source_address, caller.phone_address) == (PBX[0], ON_FLOOR)


HIDDEN = {
    "the PBX's own": ("sdp", from_pbx(), "phone-address-of-pbx"),
    "another trunk's": ("sdp", from_pbx(body=sdp("203.0.113.31")), "phone-address-of-pbx"),
    "on hold": ("sdp", from_pbx(body=sdp("0.0.0.0", origin="0.0.0.0")), "phone-address-unreadable"),
    "a name in SDP": ("sdp", from_pbx(body=sdp("phone.example", origin="x")), "phone-address-unreadable"),
    "no SDP": ("sdp", invite(user="4999", source=PBX, body=b"x", content_type="text/plain"), "phone-address-missing"),
    "a name in Contact": ("contact", from_pbx(contact="<sip:4999@pbx.example.com>"), "phone-address-unreadable"),
    "no URI in Contact": ("contact", from_pbx(contact="*"), "phone-address-unreadable"),
    "only the PBX's Via": ("via", from_pbx(), "phone-address-missing"),
    "a name in Via": ("via", with_vias("SIP/2.0/UDP phone.example;branch=z9hG4bKp"), "phone-address-unreadable"),
    "no such field": ("header:X-Phone-IP", from_pbx(), "phone-address-missing"),
    "an empty field": ("header:X-Phone-IP", from_pbx(extra=("X-Phone-IP:",)), "phone-address-unreadable"),
    "rubbish": ("header:X-Phone-IP", from_pbx(extra=("X-Phone-IP: 10.1.3.400 \x00",)), "phone-address-unreadable"),
    "two of them": (
        "header:X-Phone-IP",
        from_pbx(extra=(f"X-Phone-IP: {ON_FLOOR}", "X-Phone-IP: 10.2.0.9")),
        "phone-address-ambiguous",
    ),
    "a group": ("header:X-Phone-IP", from_pbx(extra=("X-Phone-IP: 224.0.0.1",)), "phone-address-unreadable"),
    "nowhere of ours": ("header:X-Phone-IP", from_pbx(extra=("X-Phone-IP: 10.9.9.9",)), "no-network"),
    "not configured": ("none", from_pbx(body=sdp(ON_FLOOR)), "behind-pbx"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_pbx_hides_has_a_name(tmp_path: Path, name: str) -> None:
    location_from, raw, reason = HIDDEN[name]
    world = world_of(tmp_path, location_from)
    found = place(arrived(world, raw, PBX))
    assert "FLR" not in found, "the site's own address"
    assert (network_answer(world).outcome, network_answer(world).reason) == ("missed", reason)
    assert world.router.location_answers[f"network missed {reason}"] == 1


def test_a_pbx_on_this_machine_is_believed_from_any_of_its_ports(tmp_path: Path) -> None:
    beside = ("127.0.0.50", 41234)
    pbx = {"target": "sip:127.0.0.50:5060;transport=tcp", "side": "inside", "location_from": "header:X-Phone-IP"}
    world = world_of(
        tmp_path,
        networks={"inside": ["10.0.0.0/8", "127.0.0.0/8"], "outside": ["203.0.113.0/24"]},
        trunks={**CONFIG["trunks"], "pbx": pbx},
    )
    raw = invite(user="4999", source=beside, extra=(f"X-Phone-IP: {ON_FLOOR}",))
    assert place(arrived(world, raw, beside))["FLR"] == "3"


def test_a_phone_that_calls_itself_says_nothing_so(tmp_path: Path) -> None:
    world = world_of(tmp_path, "header:X-Phone-IP")
    found = place(
        arrived(
            world,
            invite(user="4999", extra=(f"X-Phone-IP: {ON_FLOOR}",), source=("10.2.0.9", 5060)),
            ("10.2.0.9", 5060),
        )
    )
    assert found["A3"] == "Albany"


# What a phone is attached to


def said(*extra: str, user: str = "4999", source: tuple[str, int] = PHONE) -> bytes:
    return invite(user=user, extra=extra, source=source)


ATTACHED = {
    "RFC 7315": ("P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001B2C3D4E50", "wiremap-bssid", "4", "AP 4-2"),
    "quoted, with colons": (
        'P-Access-Network-Info: IEEE-802.11ac; i-wlan-node-id="00:1b:2c:3d:4e:50"', "wiremap-bssid", "4", "AP 4-2"
    ),
    "among others": (
        "P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=2341, IEEE-802.11;i-wlan-node-id=001b2c3d4e50;np",
        "wiremap-bssid", "4", "AP 4-2",
    ),
    "a field of its own": ("X-BSSID: 001b.2c3d.4e50", "wiremap-bssid", "4", "AP 4-2"),
    "switch port": ("X-LLDP: chassis=00:1B:54:AA:BB:CC;port=GigabitEthernet1/0/14", "wiremap-port", "3", "312"),
    "switch port, plain": ("x-lldp: 001b.54aa.bbcc, Gi1/0/14", "wiremap-port", "3", "312"),
    "eth-location": (
        'P-Access-Network-Info: IEEE-802.3;eth-location="00-1b-54-aa-bb-cc Gi1/0/14"', "wiremap-port", "3", "312"
    ),
    "another port of the switch": ("X-LLDP: 00:1b:54:aa:bb:cc Gi1/0/15", "wiremap-switch", "3", "East wing"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACHED)
def test_what_a_phone_is_attached_to_decides_before_its_subnet(tmp_path: Path, name: str) -> None:
    line, reason, floor, room = ATTACHED[name]
    world = world_of(tmp_path)
    message = arrived(world, said(line, source=("10.2.0.9", 5060)), ("10.2.0.9", 5060))
    found = place(message)
    assert (found["RD"], found["FLR"], found["ROOM"]) == ("5th", floor, room), "not the branch, whose subnet it is"
    assert network_answer(world).reason == reason
    assert world.events(CallIntent)[-1].site == "hq"
    method = b"802.11" if reason == "wiremap-bssid" else b"Wiremap"
    assert b"<gp:method>" + method + b"</gp:method>" in message.raw
    assert line.encode() in message.raw, "what the phone said goes on as it came"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("X-BSSID: 00:1b:2c:3d:4e:5f", "unknown-bssid"),
        ("X-LLDP: 00:1b:54:00:00:01 Gi1/0/14", "unknown-switch-port"),
        ("X-BSSID: 02:00:00:00:00:00", "bssid-unreadable"),
        ("X-BSSID: my access point", "bssid-unreadable"),
        ("P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=ffffffffffff", "bssid-unreadable"),
        ("X-LLDP: ;;;", "switch-port-unreadable"),
    ],
)
def test_what_the_wiremap_does_not_know_has_a_name(tmp_path: Path, line: str, reason: str) -> None:
    world = world_of(tmp_path)
    at_subnet = place(arrived(world, said(line, source=(ON_FLOOR, 5060)), (ON_FLOOR, 5060)))
    assert at_subnet["FLR"] == "3"
    assert network_answer(world).reason == "zone-network", "the subnet still knows"
    nowhere = arrived(world, said(line, source=("10.9.9.9", 5060)), ("10.9.9.9", 5060))
    assert "FLR" not in place(nowhere)
    assert network_answer(world).reason == reason


def test_an_address_of_its_own_is_not_mixed_with_the_sites(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    found = place(arrived(world, said("X-BSSID: 0a:1b:2c:3d:4e:00")))
    assert (found["A3"], found["RD"], found["HNO"], found["FLR"]) == ("Troy", "Ferry", "8", "2")
    assert "ROOM" not in found
    assert "PC" not in found


def test_behind_a_pbx_too(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    assert place(arrived(world, from_pbx(extra=("X-LLDP: 001b54aabbcc gi1/0/14",)), PBX))["ROOM"] == "312"


def test_nobody_outside_is_believed(tmp_path: Path) -> None:
    world = world_of(tmp_path, emergency={**CONFIG["emergency"], "from_unlisted": "accept"})
    stranger = ("192.0.2.77", 5060)
    assert "ROOM" not in place(arrived(world, said("X-LLDP: 001b54aabbcc gi1/0/14", source=stranger), stranger))
    assert network_answer(world).reason == "no-network"


def test_fields_that_are_not_configured_are_not_read(tmp_path: Path) -> None:
    world = world_of(tmp_path, locations={"sources": SOURCES, "wiremap": {"access_network_info": False}})
    arrived(
        world, said("X-LLDP: 001b54aabbcc gi1/0/14", "P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001b2c3d4e50")
    )
    assert network_answer(world).reason == "zone-network"


# Finer parts from a later source


@pytest.mark.parametrize(
    ("device", "room", "finer_from"),
    [
        (replace(DESK_PHONE, zone="hq-3e", civic=CivicAddress(room="317")), "317", "registered"),
        (replace(DESK_PHONE, zone="hq-4", civic=CivicAddress(room="417")), "East wing", ""),
        (
            replace(DESK_PHONE, zone="hq-3e", kind=DeviceKind.SOFTPHONE, civic=CivicAddress(room="317")),
            "East wing",
            "",
        ),
    ],
    ids=["fixed", "of another zone", "softphone"],
)
def test_a_desk_phones_room_is_not_lost_to_its_floors_subnet(
    tmp_path: Path, device: Device, room: str, finer_from: str
) -> None:
    world = world_of(tmp_path, devices=(device,))
    assert place(arrived(world, said(user="4102", source=(ON_FLOOR, 5060)), (ON_FLOOR, 5060)))["ROOM"] == room
    intent = world.events(CallIntent)[-1]
    assert intent.location.finer_from == finer_from
    registered = next(answer for answer in intent.sources if answer.source == "registered")
    assert registered.lost == ("finer-parts-taken" if finer_from else "later-in-order")
    assert registered.location.civic.room == device.civic.room


def test_what_it_is_plugged_into_is_finer_than_what_is_registered(tmp_path: Path) -> None:
    device = replace(DESK_PHONE, zone="hq-3e", civic=CivicAddress(room="317", unit="C"))
    world = world_of(tmp_path, devices=(device,))
    found = place(arrived(world, said("X-LLDP: 001b54aabbcc gi1/0/14", user="4102")))
    assert found["ROOM"] == "312"
    assert "UNIT" not in found, "the desk phone has moved: nothing of its old place is put to the new"


def test_a_registered_phone_gets_its_floor_from_where_it_is_plugged_in(tmp_path: Path) -> None:
    device = replace(DESK_PHONE, civic=CivicAddress())
    world = world_of(
        tmp_path,
        devices=(device,),
        locations={"sources": ["registered", "network", "site"], "wiremap": {"lldp_headers": ["X-LLDP"]}},
    )
    found = place(arrived(world, said("X-LLDP: 001b54aabbcc gi1/0/14", user="4102")))
    assert (found["FLR"], found["ROOM"]) == ("3", "312")
    intent = world.events(CallIntent)[-1]
    assert (intent.location.source, intent.location.finer_from, intent.zone) == ("registered", "network", "hq-3e")


def test_every_answer_is_in_the_record_with_its_age_and_confidence(tmp_path: Path) -> None:
    device = replace(DESK_PHONE, updated_at=CLOCK - 86_400.0)
    world = world_of(tmp_path, devices=(device,))
    arrived(world, said(f"X-BSSID: {AP}", user="4102"))
    conveyed, network, registered, site = world.events(CallIntent)[-1].sources
    assert (conveyed.outcome, conveyed.reason, conveyed.location) == ("missed", "not-conveyed", None)
    assert (network.outcome, network.confidence, network.as_of) == ("won", "medium", CLOCK)
    assert network.detail == "bssid 00:1b:2c:3d:4e:50"
    assert (registered.lost, registered.confidence, registered.as_of) == ("later-in-order", "high", CLOCK - 86_400.0)
    assert registered.location.civic.room == "312"
    assert (site.lost, site.confidence, site.location.civic.street) == ("later-in-order", "low", "5th")
