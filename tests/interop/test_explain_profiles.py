"""What `edge911 explain` says that a provider's profile makes of a call is what SIPp receives in its place."""

import json
import re
from typing import Any

import pytest

from tests.support.sip_text import PIDF, Message
from tests.support.sipp import running
from tests.support.world import Place, Plan, World

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("explain-profiles")]

IDS = {"location_id": "LOC-0042", "endpoint_id": "ENDPOINT0042"}
PROFILES = ("bandwidth", "telnyx", "intrado-ers", "redsky", "audiocodes-elin", "voip-innovations")
ESRN = {"provider_a": {"number": "+12125550170"}}
PLANS = {
    **{name: Plan(profile=name, site_keys=IDS) for name in PROFILES},
    "i2": Plan(
        profile="i2", site_keys=IDS, route_keys={"provider_a": {"number": "+12125550170"}}, routes=("provider_a",)
    ),
    "no-ids": Plan(profile="bandwidth"),
    "with-data": Plan(profile="with-data.yaml"),
}
FILES = {"with-data.yaml": "additional_data: [service, device, subscriber, comment]\n"}
KEYS = {
    "emergency": {
        "numbers": ["911"],
        "test_numbers": ["933"],
        "additional_data": {"comment": "Ring the night bell"},
    }
}
CALLS = [*((name, "911") for name in PLANS), ("bandwidth", "933"), ("i2", "933")]
WORDS = ("from", "p-asserted-identity", "p-preferred-identity", "remote-party-id", "priority", "geolocation-routing")


@pytest.mark.parametrize(
    ("name", "dialled"), [*((name, "911") for name in PLANS), ("bandwidth", "933"), ("i2", "933")]
)
def test_explain_says_what_the_provider_receives(the_world: World, name: str, dialled: str) -> None:
    place = the_world[name]
    # One that nobody registered: it is at its site's address, which is what the ids stand for.
    caller = place.unregistered
    source = place.street["phone"].address
    said = json.loads(the_world.router.asked("explain", caller, dialled, "--source", source, "--json"))
    route = next(one for one in said["routes"] if "skipped" not in one)
    psap, phone = place.sipp("psap_answers", "provider_a"), place.caller(caller=caller, dial=dialled)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    compare(route, psap.request(), place, caller)


def compare(route: dict[str, Any], arrived: Message, place: Place, caller: str) -> None:
    assert arrived.start == f"INVITE {route['request_uri']} SIP/2.0"
    headers: dict[str, list[str]] = {}
    for line in route["headers"]:
        key, _, value = line.partition(":")
        headers.setdefault(key.lower(), []).append(value.strip())
    own = f"<sip:{caller}@pbx.example.com>"
    for key in WORDS:
        expected = [uri(value) for value in headers.get(key, [own] if key == "from" else [])]
        assert [uri(value) for value in arrived.all(key)] == expected, key
    assert [masked(value) for value in arrived.all("geolocation")] == [
        masked(value) for value in headers.get("geolocation", [])
    ]
    assert [masked(value) for value in arrived.all("call-info")] == [
        masked(value) for value in headers.get("call-info", [])
    ]
    kinds = [part.content_type for part in arrived.parts] or [arrived.content_type]
    assert kinds == [kind.lower() for kind in route["body_parts"]]
    assert (PIDF in kinds) is (route["location_by"] == "value")
    if route["location_by"] == "id":
        assert "LOC-0042" in arrived.get("geolocation")
    assert ("no-location-id" in route.get("shortfalls", ())) is (place.name == "no-ids")


def uri(value: str) -> str:
    """Without the name before it, and the tag behind."""
    found = re.search(r"<[^>]*>[^<]*", value)
    return re.sub(r";tag=[^;]*", "", found[0]) if found else value


def masked(value: str) -> str:
    """Without what is derived from the call."""
    return re.sub(r"[0-9a-f]{20}|…", "*", value)
