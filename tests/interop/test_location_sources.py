"""Where a caller is by each source: what SIPp's PSAP receives, what the record says, what explain said before."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simulations.lis import Lis, Manner
from tests.interop.test_explain import compare
from tests.support.certificates import Authority
from tests.support.sip_text import PIDF, Message, civic
from tests.support.sipp import Sipp, running
from tests.support.world import ADDRESS, Place, Plan, World, world

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("location-sources")]

FIELD = "X-Phone-IP"
PLANS = {
    "sdp": Plan(networks=True, pbx={"location_from": "sdp"}),
    "contact": Plan(networks=True, pbx={"location_from": "contact"}),
    "via": Plan(networks=True, pbx={"location_from": "via"}),
    "header": Plan(networks=True, pbx={"location_from": f"header:{FIELD}"}),
    "hidden": Plan(networks=True, pbx={}),
    "wiremap": Plan(networks=True),
    "lis": Plan(networks=True),
}
BSSID, CHASSIS = "00:1b:2c:3d:4e:50", "00:1b:54:aa:bb:cc"
WIREMAP = f"""bssid,chassis,port,site,zone,floor,room
{BSSID},,,wiremap,wiremap-2,,AP 7
,{CHASSIS},GigabitEthernet1/0/14,wiremap,,3,3-14
"""
SAYS = {
    "access point": "P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001B2C3D4E50",
    "unknown access point": "P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001B2C3D4E5F",
    "switch port": f"X-LLDP: {CHASSIS};Gi1/0/14",
    "rubbish": "X-LLDP: ;;;",
}
OF_SERVER = {**ADDRESS, "floor": "9", "room": "9-L"}


@pytest.fixture(scope="module")
def lis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lis]:
    """A location server that wants a client certificate."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    own = authority.issue("lis", "IP:127.0.0.1")
    authority.issue("edge911")
    with Lis({}, certificate=own.certificate, key=own.key, client_ca=authority.certificate) as server:
        yield server


@pytest.fixture(scope="module")
def places(lis: Lis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world, with the wiremap imported and known to the call process."""
    folder = tmp_path_factory.getbasetemp() / "authority0"
    keys = {"ca": str(folder / "ca.pem"), "client_certificate": str(folder / "edge911.pem")}
    plans = dict(PLANS)
    asked = {"url": lis.url, "timeout": "2s", "fresh": "100ms", **keys, "client_key": str(folder / "edge911.key")}
    plans["lis"] = Plan(networks=True, site_keys={"lis": asked})
    locations = {
        "database": "sqlite:///edge911.db",
        "sources": ["conveyed", "held", "network", "registered", "site"],
        "wiremap": {"lldp_headers": ["X-LLDP"]},
    }
    with world(tmp_path_factory.mktemp("world"), plans, locations=locations) as built:
        file = Path(built.router.folder) / "wiremap.csv"
        file.write_text(WIREMAP, encoding="utf-8")
        built.router.asked("wiremap", "import", str(file))
        deadline = time.monotonic() + 60
        while built.router.metric("edge911_wiremap_rows") < 2:
            assert time.monotonic() < deadline, built.router.log[-4000:]
            time.sleep(0.05)
        yield built
        assert built.router.alive, f"the router ended by itself:\n{built.router.log[-4000:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call, and what must come of it."""

    place: str
    at: str = "phone"
    """The endpoint it comes from."""
    phone: str = "second_phone"
    """Whose address the PBX shows; a phone of its own shows its own."""
    says: str = ""
    outcome: str
    """Of the network source: outcome and reason."""
    floor: str = ""
    room: str = ""
    who: str = "unregistered"
    method: str = "Wiremap"


IN_ZONE = {"outcome": "won zone-network", "floor": "2", "room": "2-Z"}
CALLS = {
    "behind a PBX, SDP": Call(place="sdp", at="pbx", **IN_ZONE),
    "behind a PBX, Contact": Call(place="contact", at="pbx", **IN_ZONE),
    "behind a PBX, Via": Call(place="via", at="pbx", **IN_ZONE),
    "behind a PBX, field": Call(place="header", at="pbx", says=FIELD, **IN_ZONE),
    "the PBX shows itself": Call(
        place="sdp", at="pbx", phone="pbx", outcome="missed phone-address-of-pbx", method="Default"
    ),
    "the PBX shows a stranger": Call(
        place="contact", at="pbx", phone="stranger", outcome="missed no-network", method="Default"
    ),
    "the PBX leaves its field out": Call(
        place="header", at="pbx", outcome="missed phone-address-missing", method="Default"
    ),
    "the PBX may not be asked": Call(place="hidden", at="pbx", outcome="missed behind-pbx", method="Default"),
    "access point": Call(
        place="wiremap", says="access point", outcome="won wiremap-bssid", floor="2", room="AP 7", method="802.11"
    ),
    "unknown access point": Call(place="wiremap", says="unknown access point", outcome="won site-network"),
    "switch port": Call(place="wiremap", says="switch port", outcome="won wiremap-port", floor="3", room="3-14"),
    "nothing to be read": Call(place="wiremap", says="rubbish", outcome="won site-network"),
}  # fmt: skip


def shown(place: Place, call: Call) -> tuple[str, str]:
    """The phone's address as it stands in the INVITE, and the field that says more."""
    phone = place.street[call.phone if call.at == "pbx" else call.at].address
    line = f"{FIELD}: {phone}:5060" if call.says == FIELD else SAYS.get(call.says, "X-Nothing: here")
    return phone, line


def placed(place: Place, call: Call, at: Place | None = None) -> Message:
    """The INVITE that the provider gets; at: of another place, where the phone is a visitor."""
    phone, line = shown(place, call)
    who = getattr(place, "device" if call.who == "registered" else "unregistered")
    psap = (at or place).sipp("psap_answers", "provider_a")  # first: it is there once it is made
    caller = Sipp(
        "caller_says_where",
        at=place.street[call.at],
        to=place.router,
        folder=place.folder,
        keys={"caller": who, "phone": phone, "extra": line},
    )
    with running(psap, caller):
        caller.succeed()
        psap.succeed()
    return psap.request()


def explained(the_world: World, place: Place, call: Call, *more: str) -> dict[str, Any]:
    phone, line = shown(place, call)
    who = getattr(place, "device" if call.who == "registered" else "unregistered")
    at = place.street[call.at].address
    arguments = ("--source", at, "--phone", phone, "--header", line, "--json", *more)
    found: dict[str, Any] = json.loads(the_world.router.asked("explain", who, "911", *arguments))
    return found


def finer(message: Message) -> dict[str, str]:
    (part,) = [part for part in message.parts if part.content_type == PIDF]
    return civic(part)


def sources(the_world: World, call_id: str) -> dict[str, dict[str, Any]]:
    """What the record says that each source said."""
    (record,) = the_world.router.records(call_id)
    return {answer["source"]: answer for answer in record["sources"]}


@pytest.mark.parametrize("name", CALLS)
def test_what_arrives_what_was_recorded_and_what_explain_said(places: World, name: str) -> None:
    call = CALLS[name]
    place = places[call.place]
    said = explained(places, place, call)
    arrived = placed(place, call)
    found = finer(arrived)
    assert (found.get("FLR", ""), found.get("ROOM", "")) == (call.floor, call.room)
    assert f"<gp:method>{call.method}</gp:method>".encode() in arrived.raw
    answer = sources(places, arrived.call_id)["network"]
    assert f"{answer['outcome']} {answer['reason']}" == call.outcome
    compare(said, said["routes"][0], arrived, place)
    (told,) = [one for one in said["location_sources"] if one["source"] == "network"]
    assert f"{told['outcome']} {told['reason']}" == call.outcome
    assert told.get("confidence", "") == answer["confidence"]


_generated = random.Random(4)


def _generate() -> Call:
    place = _generated.choice(["sdp", "contact", "via", "hidden", "wiremap"])
    ways = ["phone", "second_phone"]
    if PLANS[place].pbx is not None:
        ways.append("pbx")
    return Call(
        place=place,
        at=_generated.choice(ways),
        phone=_generated.choice(["phone", "second_phone", "pbx", "stranger"]),
        says=_generated.choice(["", *SAYS]),
        who=_generated.choice(["registered", "unregistered"]),
        outcome="",
    )


GENERATED = [_generate() for _ in range(8)]


@pytest.mark.parametrize("number", range(len(GENERATED)))
def test_explain_says_what_arrives_for_generated_calls(places: World, number: int) -> None:
    call = GENERATED[number]
    place = places[call.place]
    said = explained(places, place, call)
    where = places[said["site"]]
    arrived = placed(place, call, where)
    compare(said, said["routes"][0], arrived, where)
    recorded = sources(places, arrived.call_id)
    for told in said["location_sources"]:
        answer = recorded[told["source"]]
        assert (answer["outcome"], answer["reason"], answer["lost"]) == (
            told["outcome"],
            told["reason"],
            told.get("lost", ""),
        )


# A location server


AT_LIS = Call(place="lis", outcome="")


def test_a_location_server_by_client_certificate(places: World, lis: Lis) -> None:
    place = places["lis"]
    lis.devices = {place.street["phone"].address: OF_SERVER}
    lis.manner = Manner()
    said = explained(places, place, AT_LIS, "--ask")
    arrived = placed(place, AT_LIS)
    assert (finer(arrived)["FLR"], finer(arrived)["ROOM"]) == ("9", "9-L")
    assert b"<gp:method>LLDP-MED</gp:method>" in arrived.raw
    answer = sources(places, arrived.call_id)["held"]
    assert (answer["outcome"], answer["reason"], answer["confidence"]) == ("won", "held-answered", "high")
    compare(said, said["routes"][0], arrived, place)
    assert {one.client for one in lis.asked} == {"edge911"}


def test_its_last_answer_while_it_is_down_and_the_next_source_when_it_knows_no_more(places: World, lis: Lis) -> None:
    place = places["lis"]
    lis.devices = {place.street["phone"].address: OF_SERVER}
    lis.manner = Manner()
    placed(place, AT_LIS)
    lis.manner = Manner(status=503, body=b"")
    arrived = placed(place, AT_LIS)
    assert finer(arrived)["ROOM"] == "9-L"
    answer = sources(places, arrived.call_id)["held"]
    assert (answer["reason"], answer["confidence"]) == ("held-kept", "medium")
    lis.manner = Manner()
    lis.devices = {}
    arrived = placed(place, AT_LIS)
    assert "ROOM" not in finer(arrived), "the site's network"
    assert sources(places, arrived.call_id)["held"]["reason"] == "held-unknown"


def test_a_deaf_server_costs_its_timeout_and_nothing_else(places: World, lis: Lis) -> None:
    place = places["lis"]
    lis.devices = {}
    lis.manner = Manner(is_deaf=True)
    call = Call(place="lis", at="second_phone", outcome="")
    arrived = placed(place, call)
    assert finer(arrived)["ROOM"] == "2-Z"
    assert sources(places, arrived.call_id)["held"]["reason"] == "held-late"
    lis.manner = Manner()
    other = places["wiremap"]
    assert sources(places, placed(other, Call(place="wiremap", outcome="")).call_id)["held"]["reason"] == "no-lis"


def test_a_phone_that_registers_is_known_before_it_dials(places: World, lis: Lis) -> None:
    place = places["lis"]
    address = place.street["phone"].address
    lis.devices = {address: {**OF_SERVER, "room": "9-R"}}
    lis.manner = Manner()
    before = len(lis.asked)
    carrier = Sipp("registrar_accepts", at=places.street["carrier"], folder=place.folder)
    phone = Sipp(
        "phone_registers",
        at=place.street["phone"],
        to=place.router,
        folder=place.folder,
        keys={"caller": place.unregistered},
    )
    with running(carrier, phone):
        phone.succeed()
    deadline = time.monotonic() + 30
    while not any(address in one.identifiers for one in lis.asked[before:]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
