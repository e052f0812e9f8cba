"""One golden INVITE for each profile and kind of call: what a provider receives, byte for byte.

Renew after a wanted change with EDGE911_RENEW_EXPECTED=1, and read the difference.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from e911.location import CivicAddress
from e911.pidf_reader import read_civic
from tests.support.call_world import CONFIG, CallWorld, invite, one, response

GOLDEN = Path(__file__).parents[2] / "data" / "providers"
OWN_LOCATION = (
    b"--c\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--c\r\nContent-Type: application/pidf+xml\r\n"
    b"Content-ID: <caller@phone.example.com>\r\n\r\n<presence/>\r\n--c--\r\n"
)


OWN_ADDRESS = (
    b"--c\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--c\r\nContent-Type: application/pidf+xml\r\n"
    b"Content-ID: <caller@phone.example.com>\r\n\r\n"
    b'<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"'
    b' xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10" xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr">'
    b'<dm:device id="d"><gp:geopriv><gp:location-info><ca:civicAddress><ca:country>US</ca:country><ca:A1>NY</ca:A1>'
    b"<ca:A3>Albany</ca:A3><ca:RD>Main</ca:RD><ca:HNO>12</ca:HNO><ca:FLR>2</ca:FLR></ca:civicAddress>"
    b"</gp:location-info><gp:usage-rules/></gp:geopriv></dm:device></presence>\r\n--c--\r\n"
)


def world_of(folder: Path, profile: str, **sections: Any) -> CallWorld:
    routes = [{**route, "profile": profile} for route in CONFIG["emergency"]["routes"]]
    return CallWorld(folder, emergency={**CONFIG["emergency"], "routes": routes}, **sections)


def compare(sent: bytes, name: str) -> None:
    path = GOLDEN / f"{name}.sip"
    if os.environ.get("EDGE911_RENEW_EXPECTED") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sent)
    assert sent.split(b"\r\n") == path.read_bytes().split(b"\r\n")


OF_PROVIDERS = ("bandwidth", "telnyx", "intrado-ers", "redsky", "audiocodes-elin", "voip-innovations", "i2")
IDS = {
    "bandwidth": {"endpoint_id": "HQ3EAST0001", "location_id": "HQ3EAST"},
    "telnyx": {"endpoint_id": "sip-from-0001", "location_id": "8d2f0b6e-0000-4000-8000-000000000001"},
    "intrado-ers": {"location_id": "ERL-0042"},
    "redsky": {"location_id": "ERL-0042"},
    "i2": {"endpoint_id": "+12125550181"},
}


@pytest.mark.parametrize("profile", OF_PROVIDERS)
@pytest.mark.parametrize("number", ["911", "933"])
def test_the_invite_of_a_provider(tmp_path: Path, profile: str, number: str) -> None:
    esrn = {"number": "+12125550170"} if profile == "i2" else {}
    routes = [{**route, "profile": profile, **esrn} for route in CONFIG["emergency"]["routes"]]
    site = {**CONFIG["sites"][0], **IDS.get(profile, {})}
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "routes": routes}, sites=[site])
    out = world.receive(invite(f"sip:{number}@10.0.0.5", number=1, extra=("Privacy: id", "X-Kept:  as  it came")))
    compare(one(out, "INVITE").message.raw, f"{profile}/{'emergency' if number == '911' else 'test'}")


@pytest.mark.parametrize("profile", OF_PROVIDERS)
def test_the_invite_of_a_provider_that_gave_no_ids(tmp_path: Path, profile: str) -> None:
    """What is shown then is what everybody understands: the callback number, the location by value."""
    esrn = {"number": "+12125550170"} if profile == "i2" else {}
    routes = [{**route, "profile": profile, **esrn} for route in CONFIG["emergency"]["routes"]]
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "routes": routes})
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert "+12125550142" in sent.get("p-asserted-identity")
    assert "{" not in sent.raw.decode()
    has_location = profile not in ("intrado-ers", "i2")
    assert (b"application/pidf+xml" in sent.raw) is has_location


@pytest.mark.parametrize("profile", ["pidf-lo", "number", "i3"])
@pytest.mark.parametrize("number", ["911", "933"])
def test_the_invite_of_a_profile(tmp_path: Path, profile: str, number: str) -> None:
    world = world_of(tmp_path, profile)
    out = world.receive(invite(f"sip:{number}@10.0.0.5", number=1, extra=("Privacy: id", "X-Kept:  as  it came")))
    compare(one(out, "INVITE").message.raw, f"{profile}/{'emergency' if number == '911' else 'test'}")


def test_the_invite_of_basic_911(tmp_path: Path) -> None:
    world = world_of(tmp_path, "pidf-lo")
    first = one(world.receive(invite(number=1)), "INVITE")
    second = one(world.receive(response(first.message, 503), first.to), "INVITE")
    third = one(world.receive(response(second.message, 503), second.to), "INVITE")
    compare(third.message.raw, "basic/emergency")


@pytest.mark.parametrize("profile", ["pidf-lo", "winner-only", "i3"])
def test_the_invite_of_a_caller_who_sent_a_location(tmp_path: Path, profile: str) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "winner-only.yaml").write_text("caller_location: winner-only\n")
    world = world_of(tmp_path, profile)
    raw = invite(
        number=1,
        extra=("Geolocation: <cid:caller@phone.example.com>", "Geolocation-Routing: no"),
        body=OWN_LOCATION,
        content_type="multipart/mixed;boundary=c",
    )
    compare(one(world.receive(raw), "INVITE").message.raw, f"{profile}/caller-location")


def test_the_invite_of_a_delayed_offer(tmp_path: Path) -> None:
    world = world_of(tmp_path, "pidf-lo")
    compare(one(world.receive(invite(number=1, body=b"")), "INVITE").message.raw, "pidf-lo/delayed-offer")


def test_an_elin_gateway_reads_the_elin_of_a_caller_who_sent_a_location(tmp_path: Path) -> None:
    """It looks into the last PIDF-LO of the body; the caller's own has no ELIN, and stays before it."""
    world = world_of(tmp_path, "audiocodes-elin", locations={"sources": ["conveyed", "registered", "site"]})
    raw = invite(
        number=1,
        extra=("Geolocation: <cid:caller@phone.example.com>",),
        body=OWN_ADDRESS,
        content_type="multipart/mixed;boundary=c",
    )
    sent = one(world.receive(raw), "INVITE").message
    first, last = (part for part in sent.parts if part.content_type == "application/pidf+xml")
    assert first.body == OWN_ADDRESS.split(b"\r\n\r\n")[2].removesuffix(b"\r\n--c--\r\n")
    assert read_civic(last.body) == CivicAddress(
        country="US", state="NY", city="Albany", street="Main", house_number="12", floor="2"
    )
    assert b"<ca:NAM>12125550142</ca:NAM>" in last.body
    assert sent.all("geolocation") == [f"<cid:{last.get('content-id').strip('<>')}>"]
