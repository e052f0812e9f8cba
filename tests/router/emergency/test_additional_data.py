"""Additional data (RFC 7852) on the wire: body parts or references, each named by Call-Info."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from e911.record import RouteEvent
from router.references.spool import ALIVE, key_of
from router.references.table import ReferenceTable
from tests.support.call_world import CONFIG, KEY, PROVIDER_A, CallWorld, invite, one, response

DATA = {"provider": {"name": "Example", "contact": "tel:+12125550100"}, "comment": "Ring the night bell"}
BLOCKS = "[provider, service, device, subscriber, comment]"
NAMES = ("ProviderInfo", "ServiceInfo", "DeviceInfo", "SubscriberInfo", "Comment")
URL = "https://e911.example.com:8443/held"


def world_of(folder: Path, profile: str, data: Mapping[str, Any] = DATA) -> CallWorld:
    (folder / "profiles").mkdir()
    (folder / "profiles" / "own.yaml").write_text(profile)
    routes = [{**route, "profile": "own"} for route in CONFIG["emergency"]["routes"]]
    locations = {
        "sources": ["registered", "network", "site"],
        "reference_server": {"listen": "http://127.0.0.1:8443", "url": URL},
    }
    emergency = {**CONFIG["emergency"], "routes": routes, "additional_data": data}
    world = CallWorld(folder, emergency=emergency, locations=locations)
    (folder / "state").mkdir()
    (folder / "state" / ALIVE).touch()
    world.router.references.use(world.router.rules.config.locations.reference_server, folder / "state", KEY)
    return world


def purposes(message: Any) -> dict[str, str]:
    """Purpose → URI of the Call-Info values about additional data."""
    found = {}
    for value in message.all("call-info"):
        match = re.fullmatch(r"<([^>]+)>;purpose=EmergencyCallData\.(\w+)", value)
        if match:
            found[match[2]] = match[1]
    return found


@pytest.mark.parametrize("body", [b"v=0\r\n", b""])
def test_by_value(tmp_path: Path, body: bytes) -> None:
    world = world_of(tmp_path, f"additional_data: {BLOCKS}\n")
    sent = one(world.receive(invite(number=1, body=body)), "INVITE").message
    named = purposes(sent)
    assert tuple(named) == NAMES
    parts = {part.get("content-id"): part for part in sent.parts}
    for name, uri in named.items():
        part = parts[f"<{uri.removeprefix('cid:')}>"]
        assert part.get("content-type") == f"application/EmergencyCallData.{name}+xml"
        assert part.get("content-disposition") == "by-reference;handling=optional"
        assert f"<EmergencyCallData.{name} ".encode() in part.body
    kinds = [part.content_type for part in sent.parts]
    assert kinds[: 2 if body else 1] == (["application/sdp"] if body else []) + ["application/pidf+xml"]
    assert len(kinds) == len(NAMES) + (2 if body else 1)
    assert int(sent.get("content-length")) == len(sent.body)


def test_a_provider_that_cannot_take_it_gets_the_call_without(tmp_path: Path) -> None:
    world = world_of(
        tmp_path, f'location: none\nneeds_location: false\ngeolocation_routing: ""\nadditional_data: {BLOCKS}\n'
    )
    raw = invite(number=1)
    sent = one(world.receive(raw), "INVITE", PROVIDER_A)
    assert len(sent.message.parts) == 1 + len(NAMES)
    again = one(world.receive(response(sent.message, 415), PROVIDER_A), "INVITE", PROVIDER_A)
    assert purposes(again.message) == {}
    assert again.message.body == raw.split(b"\r\n\r\n", 1)[1]
    third = one(world.receive(response(again.message, 415), PROVIDER_A), "INVITE")
    assert third.to != PROVIDER_A, "not a third time: the next route"


@pytest.mark.parametrize("status", [413, 415, 513])
def test_the_location_outlasts_the_data_where_a_provider_refuses_parts(tmp_path: Path, status: int) -> None:
    world = world_of(tmp_path, f"additional_data: {BLOCKS}\n")
    raw = invite(number=1)
    sent = one(world.receive(raw), "INVITE", PROVIDER_A)
    assert len(sent.message.parts) == 2 + len(NAMES)
    again = one(world.receive(response(sent.message, status), PROVIDER_A), "INVITE", PROVIDER_A)
    assert purposes(again.message) == {}
    assert len(again.message.parts) == 2
    assert again.message.get("geolocation") == sent.message.get("geolocation")
    assert again.message.get("geolocation-routing") == "yes"
    bare = one(world.receive(response(again.message, status), PROVIDER_A), "INVITE", PROVIDER_A)
    assert bare.message.body == raw.split(b"\r\n\r\n", 1)[1]
    assert len({message.message.branch for message in (sent, again, bare)}) == 3
    other = one(world.receive(response(bare.message, status), PROVIDER_A), "INVITE")
    assert other.to != PROVIDER_A
    outcomes = [event.outcome.value for event in world.events(RouteEvent) if event.outcome.value != "started"]
    assert outcomes == ["retried-without-data", "retried-without-location", "refused"]


def test_a_location_that_is_refused_goes_with_the_data(tmp_path: Path) -> None:
    world = world_of(tmp_path, f"additional_data: {BLOCKS}\n")
    sent = one(world.receive(invite(number=1)), "INVITE", PROVIDER_A)
    again = one(world.receive(response(sent.message, 424), PROVIDER_A), "INVITE", PROVIDER_A)
    assert again.message.all("geolocation") == []


def test_by_reference(tmp_path: Path) -> None:
    world = world_of(tmp_path, f"additional_data: {BLOCKS}\nadditional_data_by: reference\nlocation: reference\n")
    world.router.references.look(time.time())
    raw = invite(number=1)
    sent = one(world.receive(raw), "INVITE").message
    assert sent.body == raw.split(b"\r\n\r\n", 1)[1]
    named = purposes(sent)
    reference = sent.get("geolocation").strip("<>")
    assert named == {name: f"{reference}/{name}" for name in NAMES}
    found = ReferenceTable(tmp_path / "state", world.router.clock).find(key_of(reference.rpartition("/")[2]))
    assert found is not None
    assert set(found.documents) == {"location", *NAMES}


def test_where_references_are_not_answered_they_go_by_value(tmp_path: Path) -> None:
    world = world_of(tmp_path, "additional_data: [service]\nadditional_data_by: reference\n")
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert purposes(sent)["ServiceInfo"].startswith("cid:")
    assert [event.reason for event in world.events(RouteEvent)] == ["reference-server-down"]


def test_what_is_not_known_is_left_out_and_said(tmp_path: Path) -> None:
    world = world_of(tmp_path, "additional_data: [provider, comment, service]\n", {})
    sent = one(world.receive(invite(number=1)), "INVITE").message
    assert tuple(purposes(sent)) == ("ServiceInfo",)
    assert [event.reason for event in world.events(RouteEvent)] == ["no-provider-data, no-comment-data"]


def test_a_test_call_carries_none(tmp_path: Path) -> None:
    world = world_of(tmp_path, f"additional_data: {BLOCKS}\n")
    sent = one(world.receive(invite("sip:933@10.0.0.5", number=1)), "INVITE").message
    assert purposes(sent) == {}
    assert b"EmergencyCallData" not in sent.raw


def test_what_the_caller_sent_of_its_own_stays(tmp_path: Path) -> None:
    world = world_of(tmp_path, "additional_data: [service]\n")
    own = "<https://phone.example.com/x>;purpose=EmergencyCallData.DeviceInfo"
    sent = one(world.receive(invite(number=1, extra=(f"Call-Info: {own}",))), "INVITE").message
    assert purposes(sent) == {
        "DeviceInfo": "https://phone.example.com/x",
        "ServiceInfo": purposes(sent)["ServiceInfo"],
    }
