"""What `edge911 explain` says is what SIPp receives, for generated calls."""

import json
import random
from typing import Any

import pytest

from tests.support.sip_text import PIDF, Message, civic
from tests.support.sipp import running
from tests.support.world import Place, Plan, World

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("explain")]

FRANCE = {"country": "FR", "city": "Example", "house_number": "1", "street": "Exemple"}
PLANS = {
    "by-value": Plan(),
    "by-number": Plan(profile="number", address={}),
    "to-an-esinet": Plan(profile="i3"),
    "nowhere": Plan(address={}),
    "covered-by-the-second": Plan(route_keys={"provider_a": {"covers": ["CA"]}}),
    "covered-by-none": Plan(
        address=FRANCE, route_keys={"provider_a": {"covers": ["CA"]}, "provider_b": {"covers": ["CA-QC"]}}
    ),
}

_generated = random.Random(911)
CALLS = [
    (place, _generated.choice(["registered", "unregistered"]), _generated.choice(["911", "9911", "933"]))
    for place in PLANS
    for _ in range(2)
]
COMPARED = ("geolocation-routing", "resource-priority")
CIVIC = {
    "country": "country",
    "A1": "state",
    "A3": "city",
    "RD": "street",
    "STS": "street_suffix",
    "HNO": "house_number",
    "PC": "postal_code",
    "FLR": "floor",
    "ROOM": "room",
}


@pytest.mark.parametrize(("name", "who", "dialled"), CALLS)
def test_explain_says_what_arrives(the_world: World, name: str, who: str, dialled: str) -> None:
    place = the_world[name]
    caller = place.device if who == "registered" else place.unregistered
    source = place.street["phone"].address
    said = json.loads(the_world.router.asked("explain", caller, dialled, "--source", source, "--json"))
    routes = [route for route in said["routes"] if "skipped" not in route]
    if not routes:
        assert said["kind"] == "test"
        phone = place.caller("caller_is_refused_503", caller=caller, dial=dialled)
        with running(phone):
            phone.succeed()
        return
    first = routes[0]
    at = next(trunk for trunk in ("provider_a", "provider_b", "relay") if place.trunk(trunk) == first["trunk"])
    psap, phone = place.sipp("psap_answers", at), place.caller(caller=caller, dial=dialled)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    compare(said, first, psap.request(), place)


def compare(said: dict[str, Any], route: dict[str, Any], arrived: Message, place: Place) -> None:
    assert arrived.start == f"INVITE {route['request_uri']} SIP/2.0"
    headers: dict[str, list[str]] = {}
    for line in route["headers"]:
        key, _, value = line.partition(":")
        headers.setdefault(key.lower(), []).append(value.strip())
    for key in COMPARED:
        assert arrived.all(key) == headers.get(key, []), key
    assert len(arrived.all("geolocation")) == len(headers.get("geolocation", []))
    assert len(arrived.all("call-info")) == len(headers.get("call-info", []))
    (told,) = headers["p-asserted-identity"]
    assert arrived.get("p-asserted-identity").rpartition("<")[2] == told.rpartition("<")[2]
    assert said["callback"] in told
    parts = arrived.parts
    assert ([part.content_type for part in parts] or [arrived.content_type]) == route["body_parts"]
    documents = [part for part in parts if part.content_type == PIDF]
    assert bool(documents) is route["carries_location"]
    if documents:
        found = civic(documents[0])
        assert {CIVIC[key]: value for key, value in found.items() if key in CIVIC} == {
            key: value for key, value in said["location"].items() if key in CIVIC.values()
        }
