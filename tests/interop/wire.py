"""What the far side must see, as assertions shared by the interop tests."""

import re

from tests.support.sip_text import PIDF, Message, civic, geolocation, location_part, texts
from tests.support.world import RELAY_NUMBER, Place

HOP_BY_HOP = ("via", "record-route", "route", "max-forwards")
CIVIC_ORDER = (
    "country",
    "A1",
    "A2",
    "A3",
    "A4",
    "A5",
    "A6",
    "PRM",
    "PRD",
    "RD",
    "STS",
    "POD",
    "POM",
    "RDSEC",
    "RDBR",
    "RDSUBBR",
    "HNO",
    "HNS",
    "LMK",
    "LOC",
    "FLR",
    "NAM",
    "PC",
    "BLD",
    "UNIT",
    "ROOM",
    "SEAT",
)


def assert_forwarded_by_router(arrived: Message, sent: Message, place: Place) -> None:
    """One Via of the router on top of the caller's, one hop less, and a way back through the router."""
    assert f"{place.router}" in arrived.vias[0], f"the topmost Via is not the router's: {arrived.vias}"
    assert len(arrived.vias) == len(sent.vias) + 1
    assert sent.branch in arrived.vias[1]
    assert int(arrived.get("max-forwards")) == int(sent.get("max-forwards")) - 1
    if not sent.tag("to"):
        routes = arrived.all("record-route")
        assert routes, "no Record-Route: the dialog would pass by the router"
        assert f"{place.router.address}" in routes[0]
        assert re.search(r";lr\b", routes[0])


def assert_unchanged(arrived: Message, sent: Message, place: Place) -> None:
    """Every byte as sent, but for Via, Record-Route, Route and Max-Forwards."""
    assert_forwarded_by_router(arrived, sent, place)
    assert arrived.start == sent.start
    assert arrived.without(*HOP_BY_HOP) == sent.without(*HOP_BY_HOP)
    assert arrived.body == sent.body


def assert_same_call(arrived: Message, sent: Message, place: Place) -> None:
    """The dialog's own fields and what the caller's device says of itself are as sent."""
    assert_forwarded_by_router(arrived, sent, place)
    for name in ("from", "to", "call-id", "cseq", "contact", "allow", "user-agent"):
        assert arrived.all(name) == sent.all(name), name


def assert_identity(arrived: Message, number: str) -> None:
    """One P-Asserted-Identity, with that number."""
    asserted = arrived.get("p-asserted-identity")
    assert re.search(rf"<(sip|tel):{re.escape(number)}[@;>]", asserted), f"P-Asserted-Identity is {asserted!r}"


def assert_emergency_marks(arrived: Message) -> None:
    """Resource-Priority and the two NENA identifiers in Call-Info."""
    assert "esnet.1" in arrived.get("resource-priority")
    information = ", ".join(arrived.all("call-info"))
    for purpose, kind in (("emergency-CallId", "callid"), ("emergency-IncidentId", "incidentid")):
        assert re.search(rf"<urn:emergency:uid:{kind}:[^:>]+:[^:>]+>\s*;\s*purpose={purpose}", information), (
            f"no {purpose} in {information!r}"
        )


def assert_no_location(arrived: Message) -> None:
    """No Geolocation, no PIDF-LO."""
    assert not arrived.all("geolocation")
    assert not arrived.all("geolocation-routing")
    assert PIDF.encode() not in arrived.raw


def assert_pidf_lo(arrived: Message, expected: dict[str, str], method: str) -> None:
    """The PIDF-LO named last: these civic elements in schema order, that method, a provided-by, on a device."""
    part = location_part(arrived)
    elements = civic(part)
    elements.pop("NAM", None)  # the occupant's name is a matter of taste, and judged elsewhere
    assert elements == expected
    positions = [CIVIC_ORDER.index(name) for name in civic(part)]
    assert positions == sorted(positions), f"not in schema order: {list(civic(part))}"
    assert texts(part, "method") == [method]
    assert len(texts(part, "provided-by")) == 1
    assert len(texts(part, "device")) == 1
    assert len(texts(part, "deviceID")) == 1


def registered_address(place: Place) -> dict[str, str]:
    """The civic elements of the place's registered extension."""
    return {
        "country": "US",
        "A1": "NY",
        "A3": "Albany",
        "RD": "Washington",
        "STS": "AVE",
        "HNO": str(100 + place.index),
        "FLR": "3",
        "PC": "12210",
        "ROOM": place.room,
    }


def site_address(place: Place) -> dict[str, str]:
    """The civic elements of the place's own address."""
    names = {
        "country": "country",
        "state": "A1",
        "city": "A3",
        "street": "RD",
        "street_suffix": "STS",
        "post_directional": "POD",
        "house_number": "HNO",
        "postal_code": "PC",
    }
    return {names[key]: value for key, value in place.plan.address.items()}


def assert_request_uri(arrived: Message, place: Place, trunk: str, user: str = "911") -> None:
    """USER at the trunk's host, whatever form was dialled."""
    point = place.street[trunk]
    assert re.fullmatch(rf"sip:{re.escape(user)}@{re.escape(point.address)}(:{point.port})?(;[^@]*)?", arrived.uri), (
        f"Request-URI {arrived.uri}, trunk {point}"
    )


def assert_carries_location(
    arrived: Message,
    sent: Message,
    place: Place,
    trunk: str = "provider_a",
    *,
    expected: dict[str, str] | None = None,
    method: str = "Manual",
    callback: str | None = None,
) -> None:
    """All that the profile `pidf-lo` promises, for a call with an SDP offer."""
    assert_same_call(arrived, sent, place)
    assert_request_uri(arrived, place, trunk)
    assert arrived.content_type == "multipart/mixed"
    assert len(arrived.parts) == 2
    assert arrived.part("application/sdp").body == sent.body, "the SDP is not byte-identical"
    assert_pidf_lo(arrived, registered_address(place) if expected is None else expected, method)
    assert len(geolocation(arrived)) == 1
    assert arrived.get("geolocation-routing").lower() == "yes"
    assert_identity(arrived, place.callback if callback is None else callback)
    assert_emergency_marks(arrived)
    assert int(arrived.get("content-length")) == len(arrived.body)


def assert_basic(arrived: Message, sent: Message, place: Place) -> None:
    """Basic 911: the relay centre's number, a dialable callback, the caller's own body, no location."""
    assert_same_call(arrived, sent, place)
    assert_request_uri(arrived, place, "relay", RELAY_NUMBER)
    assert_no_location(arrived)
    assert arrived.body == sent.body
    assert arrived.content_type == sent.content_type
    asserted = arrived.get("p-asserted-identity")
    assert place.callback in asserted or place.site_callback in asserted, asserted
