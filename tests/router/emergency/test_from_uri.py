"""A provider sees another URI in From; the caller, and every other request of the dialog, its own."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.location import CivicAddress, Device
from e911.record import RouteEvent
from router.dialogs.token_keys import TokenKeys
from router.emergency.from_uri import FromRewriting, uri_in, with_uri
from tests.support.call_world import CONFIG, PBX, PHONE, PROVIDER_A, PROVIDER_B, CallWorld, invite, of, one, response
from tests.support.sip_text import parse

SHOWN = "sip:+12125550142@edge.example.com"
OWN = "sip:4102@pbx.example.com"
PROFILE = 'from_uri: "sip:{callback}@{domain}"\n'


def world_of(folder: Path, profile: str = PROFILE, **sections: Any) -> CallWorld:
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "by-from.yaml").write_text(profile)
    routes = [{**route, "profile": "by-from"} for route in CONFIG["emergency"]["routes"]]
    return CallWorld(folder, emergency={**CONFIG["emergency"], "routes": routes}, **sections)


def names(message: Any) -> tuple[str, str]:
    """From and To as they stand."""
    return message.get("from"), message.get("to")


def test_a_dialog_with_the_rewritten_from(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    raw = invite(number=1)
    out = one(world.receive(raw), "INVITE", PROVIDER_A)
    assert names(out.message) == (f'"Desk" <{SHOWN}>;tag=f1', "<sip:911@pbx.example.com>")
    assert out.message.get("contact") == "<sip:4102@10.1.3.7:5060>", "where the phone is reached stays"
    own = (f'"Desk" <{OWN}>;tag=f1', "<sip:911@pbx.example.com>;tag=psap")
    for status in (180, 200):
        back = one(world.receive(response(out.message, status), PROVIDER_A), status, PHONE)
        assert names(back.message) == own
    again = one(world.receive(response(out.message, 200), PROVIDER_A), 200, PHONE)
    assert names(again.message) == own, "a 200 that the PSAP repeats is restored too"
    routes = list(reversed(again.message.all("record-route")))
    shown = (f'"Desk" <{SHOWN}>;tag=f1', "<sip:911@pbx.example.com>;tag=psap")

    near, psap = parse(raw), "sip:psap@203.0.113.31:5060"
    for started_again in (False, True):
        if started_again:
            world.restart(emergency=world.router.rules.config.emergency.model_dump(mode="json", exclude_none=True))
        ack = one(world.receive(world.in_dialog(near, "ACK", psap, routes, cseq=1)), "ACK", PROVIDER_A)
        assert names(ack.message) == shown
        for method in ("INVITE", "INFO", "BYE"):
            forth = one(world.receive(world.in_dialog(near, method, psap, routes)), method, PROVIDER_A)
            assert names(forth.message) == shown
            back = one(world.receive(response(forth.message, 200), PROVIDER_A), 200, PHONE)
            assert names(back.message) == own
            back_routes = again.message.all("record-route")
            far = world.in_dialog(out.message, method, "sip:4102@10.1.3.7:5060", back_routes, from_far=True)
            forth = one(world.receive(far, PROVIDER_A), method, PHONE)
            assert names(forth.message) == tuple(reversed(own)), "the phone is called what it called itself"
            answer = one(world.receive(response(forth.message, 200), PHONE), 200, PROVIDER_A)
            assert names(answer.message) == tuple(reversed(shown))


def test_what_somebody_made_up_is_not_believed(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    raw = invite(number=1)
    out = one(world.receive(raw), "INVITE")
    answer = one(world.receive(response(out.message, 200), PROVIDER_A), 200).message
    (route,) = answer.all("record-route")
    text = re.search(r";f=([A-Za-z0-9_-]+)>", route)
    assert text
    for made_up in (text[1][:-4] + "AAAA", "A" * 40, "!", ""):
        routes = [route.replace(text[1], made_up)]
        bye = one(world.receive(world.in_dialog(parse(raw), "BYE", "sip:psap@203.0.113.31:5060", routes)), "BYE")
        assert names(bye.message)[0] == f'"Desk" <{OWN}>;tag=f1', "it passes, as it came"
    other = invite(number=2)
    bye = one(world.receive(world.in_dialog(parse(other), "BYE", "sip:psap@203.0.113.31:5060", [route])), "BYE")
    assert names(bye.message)[0] == f'"Desk" <{OWN}>;tag=f2', "the parameter of another call"


def test_a_second_answer_is_ended_in_the_words_of_its_own_dialog(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    first = one(world.receive(invite(number=1)), "INVITE", PROVIDER_A)
    second = one(world.advance(2.2), "INVITE", PROVIDER_B)
    world.receive(response(first.message, 200), PROVIDER_A)
    late = one(world.receive(response(second.message, 200, tag="b"), PROVIDER_B), 200, PHONE)
    assert uri_of(late.message.get("from")) == OWN
    ended = world.advance(3.0)
    for method in ("ACK", "BYE"):
        assert {uri_of(sent.message.get("from")) for sent in of(ended, method, PROVIDER_B)} == {SHOWN}


def uri_of(value: str) -> str:
    return uri_in(b"From: " + value.encode()).decode()


def test_a_call_that_rang_before_a_restart(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    out = one(world.receive(invite(number=1)), "INVITE")
    world.receive(response(out.message, 180), PROVIDER_A)
    world.restart(emergency=world.router.rules.config.emergency.model_dump(mode="json", exclude_none=True))
    answer = one(world.receive(response(out.message, 200), PROVIDER_A), 200, PHONE)
    assert uri_of(answer.message.get("from")) == OWN


def test_the_identity_of_a_number_that_was_edited_goes(tmp_path: Path) -> None:
    world = world_of(tmp_path, 'from_uri: "sip:+12125550100@{domain}"\nidentity: keep\n')
    # {"orig":{"tn":"12125550199"}} and {"orig":{"tn":"13125550100"}}
    payload = {
        "signed-another": "eyJvcmlnIjp7InRuIjoiMTIxMjU1NTAxOTkifX0",
        "signed-from": "eyJvcmlnIjp7InRuIjoiMTMxMjU1NTAxMDAifX0",
    }
    lines = tuple(f"Identity: e30.{text}.c2ln;info=<https://cert.example.com/>" for text in payload.values())
    raw = invite(number=1, user="+13125550100", extra=lines)
    sent = one(world.receive(raw), "INVITE").message
    assert "+13125550100" not in sent.get("from")
    assert [payload["signed-another"] in value for value in sent.all("identity")] == [True]
    compact = invite(number=2, user="+13125550100", extra=("Identity: e30..c2ln;info=<https://cert.example.com/>",))
    assert one(world.receive(compact), "INVITE").message.all("identity") == []


def test_where_what_from_should_show_is_not_known_it_stays(tmp_path: Path) -> None:
    world = world_of(tmp_path, 'from_uri: "sip:{endpoint_id}@{domain}"\n')
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert uri_of(sent.get("from")) == OWN
    assert all(";f=" not in value for value in sent.all("record-route"))
    world.router.write_waiting()
    assert [event.reason for event in world.events(RouteEvent)] == ["no-endpoint-id"]
    assert world.router.counts["profile_no_endpoint_id"] == 1


def test_the_zones_own_id(tmp_path: Path) -> None:
    site = {**CONFIG["sites"][0], "endpoint_id": "SITE01", "location_id": "LOC01"}
    zone = {"id": "z", "networks": ["10.1.3.0/24"], "location_id": "LOC02"}
    world = world_of(
        tmp_path,
        'from_uri: "sip:{location_id}@{domain}"\nidentity_uri: "sip:{endpoint_id}@{domain}"\n',
        sites=[{**site, "networks": ["10.1.0.0/16"], "zones": [zone]}],
        locations={"sources": ["network", "registered", "site"]},
    )
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert uri_of(sent.get("from")) == "sip:LOC02@edge.example.com"
    assert sent.get("p-asserted-identity") == '"Desk" <sip:SITE01@edge.example.com>'
    elsewhere = one(world.receive(invite(number=2), ("10.1.4.9", 5060)), "INVITE").message
    assert uri_of(elsewhere.get("from")) == "sip:LOC01@edge.example.com"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"From: <sip:a@b>;tag=1", b"From: <sip:new@x>;tag=1"),
        (b"f:sip:a@b;tag=1", b"f:<sip:new@x>;tag=1"),
        (b'From: "A <b> \\" c"\r\n <sip:a@b;x=y>;tag=1', b'From: "A <b> \\" c"\r\n <sip:new@x>;tag=1'),
        (b"From: Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8", b"From: Anonymous <sip:new@x>;tag=hyh8"),
        (b'From: "open <sip:a@b>;tag=1', b'From: "open <sip:a@b>;tag=1'),
    ],
)
def test_only_the_uri_changes(line: bytes, expected: bytes) -> None:
    assert with_uri(line, b"sip:new@x") == expected


@given(st.binary(max_size=60))
def test_nothing_breaks_the_reading(text: bytes) -> None:
    assert FromRewriting(TokenKeys((b"k" * 32,)))._read(text, b"call", b"tag") is None
    assert with_uri(b"From: " + text, b"sip:new@x").startswith(b"From:")


def test_an_ordinary_call_knows_nothing_of_it(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    sent = one(world.receive(invite("sip:+12125550199@10.0.0.5", number=1), PBX), "INVITE").message
    assert uri_of(sent.get("from")) == OWN
    assert ";f=" not in sent.get("record-route")


@pytest.mark.parametrize("profile", ["i2", "telnyx", "bandwidth"])
def test_an_id_of_the_site_is_not_shown_for_a_place_that_is_not_the_sites(tmp_path: Path, profile: str) -> None:
    """An ESQK keys the address that the PSAP sees: shown for a phone at home, it would send help to the office. Where
    the address goes along, an id of the line says only who calls."""
    home = Device(
        device="4102",
        callback="+12125550142",
        site="hq",
        civic=CivicAddress(country="US", state="NJ", city="Newark", house_number="12", street="Main"),
    )
    site = {**CONFIG["sites"][0], "endpoint_id": "SITE000001", "location_id": "LOC01"}
    esrn = {"number": "+12125550170"} if profile == "i2" else {}
    routes = [{**route, "profile": profile, **esrn} for route in CONFIG["emergency"]["routes"]]
    world = CallWorld(tmp_path, devices=(home,), sites=[site], emergency={**CONFIG["emergency"], "routes": routes})
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert b"LOC01" not in sent.raw
    if profile == "i2":
        assert b"SITE000001" not in sent.raw
        assert "+12125550142@" in sent.get("p-asserted-identity")
    else:
        assert "SITE000001@" in sent.get("p-asserted-identity")
        assert b">Newark<" in sent.raw


@pytest.mark.parametrize(
    ("source", "room", "shown"),
    [
        ("10.1.3.7", "312", "DESK01"),
        ("10.1.3.7", "", "DESK01"),
        ("10.1.4.7", "312", "LOC01"),
        ("10.2.3.7", "", "FAR01"),
    ],
)
def test_a_desk_phone_in_the_network_of_its_site_is_known_by_its_own_id(
    tmp_path: Path, source: str, room: str, shown: str
) -> None:
    """What a provider took is the desk, and there it is, whoever says so; seen on another floor or site it is not."""
    desk = Device(
        device="4102",
        callback="+12125550142",
        site="hq",
        zone="z" if room else "",
        civic=CivicAddress(room=room),
        location_id="DESK01",
    )
    zones = [
        {"id": "z", "networks": ["10.1.3.0/24"], "floor": "3"} if room else {"id": "y", "networks": []},
        {"id": "w", "networks": ["10.1.4.0/24"], "floor": "4"},
    ]
    site = {**CONFIG["sites"][0], "networks": ["10.1.0.0/16"], "location_id": "LOC01", "zones": zones}
    far = {**CONFIG["sites"][0], "id": "far", "numbers": [], "networks": ["10.2.0.0/16"], "location_id": "FAR01"}
    world = world_of(
        tmp_path,
        'from_uri: "sip:{location_id}@{domain}"\n',
        devices=(desk,),
        sites=[site, far],
        locations={"sources": ["conveyed", "network", "registered", "site"]},
    )
    sent = one(world.receive(invite(number=1), (source, 5060)), "INVITE").message
    assert uri_of(sent.get("from")) == f"sip:{shown}@edge.example.com"


def test_a_devices_own_query_key_is_not_shown_where_it_is_not(tmp_path: Path) -> None:
    desk = Device(device="4102", callback="+12125550142", site="hq", endpoint_id="+12125550181")
    site = CONFIG["sites"][0]
    branch = {**site, "id": "branch", "networks": ["10.1.3.0/24"], "endpoint_id": "+12125550199"}
    routes = [{**route, "profile": "i2", "number": "+12125550170"} for route in CONFIG["emergency"]["routes"]]
    world = CallWorld(
        tmp_path,
        devices=(desk,),
        sites=[site, branch],
        emergency={**CONFIG["emergency"], "routes": routes},
        locations={"sources": ["network", "registered", "site"]},
    )
    away = one(world.receive(invite(number=1)), "INVITE").message
    assert "sip:+12125550199@" in away.get("p-asserted-identity")
    at_home = one(world.receive(invite(number=2), ("10.9.9.9", 5060)), "INVITE").message
    assert "sip:+12125550181@" in at_home.get("p-asserted-identity")
