"""Who is calling, from where, and who is told: the decision table."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.conveyed import Conveyed, ConveyedValue
from e911.location import (
    CivicAddress,
    Device,
    DeviceKind,
    DispatchableLocation,
    GeoPoint,
    LocationSource,
    Site,
    Zone,
)
from e911.lost import Validated
from e911.numbers import EmergencyNumbers
from e911.places import SOURCE_CACHE_SIZE, Places
from e911.record import SourceOutcome
from e911.wiremap import WiremapEntry
from tests.e911.worlds import ALL_SOURCES, HQ, MTL, TRUNK, decide, places, reasons

DESK = Device(device="4102", name="Front desk", site="hq", zone="hq-3e", civic=CivicAddress(room="312"))
ON_FLOOR = "10.1.3.7"
IN_SITE = "10.1.9.7"
REGISTERED_FIRST = (LocationSource.REGISTERED, LocationSource.NETWORK, LocationSource.SITE)


# Which site


def test_device_claims_before_number_and_network() -> None:
    decision = decide(replace(DESK, site="mtl", zone=""), user="4102", address="192.0.2.9")
    assert (decision.site, decision.site_reason) == (MTL, "device")
    assert decision.contacts == ("accueil",)


def test_number_pattern_claims_before_network() -> None:
    decision = decide(user="4102", address="192.0.2.9")
    assert (decision.site, decision.site_reason) == (MTL, "number")  # 41XX is narrower than 4XXX


@pytest.mark.parametrize("device", [replace(DESK, site="mtl", zone=""), replace(DESK, device="4777")])
def test_a_visitor_is_of_the_site_where_they_are_seen(device: Device) -> None:
    """An ELIN or a route of the home site would bring the call to the PSAP of another city."""
    decision = decide(device, user="4102", address=ON_FLOOR)  # by its number of mtl, too
    assert decision.location
    assert (decision.location.site, decision.location.zone) == ("hq", "hq-3e")
    assert (decision.site, decision.site_reason) == (HQ, "network")
    assert decision.zone
    assert decision.zone.id == "hq-3e"
    assert decision.contacts == ("front-desk", "accueil"), "where they are first, and where they belong"
    assert decision.callback_source == "site"
    assert decision.callback == HQ.callback


@pytest.mark.parametrize(
    ("changes", "room"),
    [
        ({}, "4-14"),
        ({"floor": ""}, ""),  # a room never without its floor
        ({"floor": "3"}, ""),
        ({"house_number": "352"}, ""),
        ({"city": "Boston", "postal_code": "02108"}, ""),
    ],
)
def test_a_desk_registered_by_its_address_alone_keeps_its_room(changes: dict[str, str], room: str) -> None:
    zone = replace(HQ.zones[0], id="hq-5", networks=(ip_network("10.1.5.0/24"),), finer=CivicAddress(floor="4"))
    address = replace(HQ.address, floor="4", room="4-14")
    desk = Device(device="4104", civic=replace(address, **changes))
    decision = decide(desk, user="4104", address="10.1.5.7", among=places(replace(HQ, zones=(*HQ.zones, zone)), MTL))
    assert decision.location
    assert (decision.location.zone, decision.location.civic.floor) == ("hq-5", "4")
    assert decision.location.civic.room == room
    assert decision.location.finer_from == ("registered" if room else "")


def test_an_outlet_with_an_address_of_its_own_is_not_in_the_zone_of_its_subnet() -> None:
    """Wi-Fi of a branch carried into a subnet of the head office: an ELIN of that floor would send help there."""
    branch = CivicAddress(country="US", state="NJ", city="Hoboken", house_number="7", street="Garden")
    decision = decide(user="6000", address=ON_FLOOR, at=WiremapEntry(bssid="001b2c3d4e50", civic=branch))
    assert decision.location
    assert decision.location.civic == branch
    assert (decision.site, decision.site_reason, decision.zone) == (HQ, "default-site", None)
    at_mtl = decide(user="6000", address=ON_FLOOR, at=WiremapEntry(bssid="001b2c3d4e50", site="mtl"))
    assert (at_mtl.site, at_mtl.site_reason, at_mtl.zone) == (MTL, "network", None)


def test_a_visitor_whose_registration_decides_stays_of_their_site() -> None:
    visitor = replace(DESK, site="mtl", zone="", civic=CivicAddress(floor="1", room="101"))
    decision = decide(visitor, user="4102", address=ON_FLOOR, sources=REGISTERED_FIRST)
    assert (decision.site, decision.zone) == (MTL, None)
    assert decision.contacts == ("accueil",)


@pytest.mark.parametrize("user", ["+12125550125", "2125550125", "1-212-555-0125", "4999"])
def test_number_patterns(user: str) -> None:
    assert decide(user=user).site_reason == "number"
    assert decide(user=user).site is HQ


@pytest.mark.parametrize("user", ["+12125550135", "40000", "alice4999", "x4999", "499", ""])
def test_what_no_pattern_fits_goes_on(user: str) -> None:
    assert decide(user=user, address="10.2.0.1").site_reason == "network"


def test_national_pattern_is_also_its_e164_form() -> None:
    among = places(replace(MTL, numbers=("514555012X",)), default=None)
    assert decide(user="+15145550123", among=among).site_reason == "number"


def test_equal_patterns_of_two_sites_are_nobodys() -> None:
    among = places(HQ, replace(MTL, numbers=("4XXX",)))
    assert decide(user="4999", address="10.2.0.1", among=among).site_reason == "network"


@pytest.mark.parametrize(
    ("address", "site", "zone"),
    [
        (ON_FLOOR, "hq", "hq-3e"),
        (IN_SITE, "hq", None),
        ("::ffff:10.1.3.7", "hq", "hq-3e"),
        ("2001:db8:1::7", "hq", None),
        ("[2001:db8:1::7]", "hq", None),
        ("2001:db8:1::7%eth0", "hq", None),
        ("10.2.255.255", "mtl", None),
    ],
)
def test_longest_prefix_claims(address: str, site: str, zone: str | None) -> None:
    decision = decide(address=address)
    assert decision.site_reason == "network"
    assert decision.site
    assert decision.site.id == site
    assert (decision.zone.id if decision.zone else None) == zone
    assert decision.location
    assert decision.location.zone == (zone or "")


@pytest.mark.parametrize("address", ["192.0.2.9", "", "not an address", "10.1.3.7:5060", "10.1.3", "\x00"])
def test_default_site_takes_the_rest(address: str) -> None:
    decision = decide(address=address)
    assert (decision.site, decision.site_reason) == (HQ, "default-site")
    assert reasons(decision)["network"] == "missed no-network"
    assert reasons(decision)["site"] == "won site-address"
    assert decision.location
    assert decision.location.method == "Default"


def test_no_site_tells_everybody() -> None:
    decision = decide(among=places(default=None))
    assert (decision.site, decision.site_reason) == (None, "no-site")
    assert decision.contacts == ("front-desk", "accueil")
    assert decision.location is None
    assert decision.callback == ""
    assert reasons(decision)["site"] == "missed no-site"


def test_site_without_contacts_still_tells_somebody() -> None:
    assert decide(address="10.3.0.1").contacts == ("front-desk",)
    assert decide(address="10.3.0.1", among=places(default=None)).contacts == ("front-desk", "accueil")


def test_a_network_of_two_sites_is_nobodys() -> None:
    other = replace(MTL, networks=HQ.networks)
    decision = decide(address=IN_SITE, among=places(HQ, other, default=None))
    assert decision.site is None
    assert reasons(decision)["network"] == "missed ambiguous-network"


def test_a_network_of_two_zones_is_the_sites() -> None:
    zones = tuple(Zone(id=name, networks=(ip_network("10.9.0.0/24"),)) for name in "ab")
    decision = decide(address="10.9.0.1", among=places(replace(HQ, zones=zones)))
    assert (decision.site and decision.site.id, decision.zone) == ("hq", None)
    assert reasons(decision)["network"] == "won site-network"


# The address of a PBX is never a phone's


@pytest.mark.parametrize("how", [{"address": TRUNK}, {"address": ON_FLOOR, "behind_trunk": True}])
def test_trunk_address_says_nothing(how: dict[str, object]) -> None:
    decision = decide(**how, among=places(default=None))  # type: ignore[arg-type]  # a table of keywords
    assert reasons(decision)["network"] == "missed behind-pbx"
    assert (decision.site, decision.location, decision.zone) == (None, None, None)


def test_phone_behind_pbx_is_located_by_its_registration() -> None:
    decision = decide(DESK, user="4102", address=TRUNK)
    assert reasons(decision) == {
        "conveyed": "missed not-conveyed",
        "network": "missed behind-pbx",
        "registered": "won registered-device",
        "site": "knew site-address",
    }
    assert decision.location
    assert (decision.location.civic.street, decision.location.civic.floor, decision.location.civic.room) == (
        "5th",
        "3",
        "312",
    )
    assert (decision.location.method, decision.location.occupant) == ("Manual", "Head office")
    assert decision.location.point == HQ.point


# Which device


def test_unknown_device() -> None:
    decision = decide(DESK, user="4103")
    assert (decision.device, decision.device_reason) == (None, "unknown-device")
    assert reasons(decision)["registered"] == "missed unknown-device"


def test_no_identity() -> None:
    assert decide(DESK, user="").device_reason == "no-identity"


AT_HQ = Device(device="100@hq.example", site="hq", civic=CivicAddress(room="1"))
AT_MTL = Device(device="100@mtl.example", site="mtl", civic=CivicAddress(room="2"))


def test_domain_decides_between_sites() -> None:
    decision = decide(AT_HQ, AT_MTL, user="100", host="MTL.example")
    assert (decision.device, decision.device_reason) == (AT_MTL, "address-of-record")


def test_network_decides_between_sites() -> None:
    decision = decide(AT_HQ, AT_MTL, user="100", host="192.0.2.1", address="10.2.0.9")
    assert (decision.device, decision.device_reason) == (AT_MTL, "network")


def test_zone_network_decides_within_a_site() -> None:
    third = replace(AT_HQ, device="100@a", zone="hq-3e")
    fourth = replace(AT_HQ, device="100@b", zone="hq-4")
    assert decide(third, fourth, user="100", host="x", address=ON_FLOOR).device == third


@pytest.mark.parametrize("address", ["192.0.2.9", TRUNK, "10.3.0.1"])
def test_device_of_two_sites_is_nobody(address: str) -> None:
    decision = decide(AT_HQ, AT_MTL, user="100", host="192.0.2.1", address=address, sources=REGISTERED_FIRST)
    assert (decision.device, decision.device_reason) == (None, "ambiguous-device")
    assert reasons(decision)["registered"] == "missed ambiguous-device"
    assert decision.site_reason in ("default-site", "network")
    assert decision.location is None or decision.location.source is not LocationSource.REGISTERED


def test_same_site_other_room_is_nobody_but_of_that_site() -> None:
    other = replace(AT_MTL, device="100@b", civic=CivicAddress(room="3"))
    decision = decide(AT_MTL, other, user="100", host="x")
    assert (decision.device, decision.device_reason) == (None, "ambiguous-device")
    assert (decision.site, decision.site_reason) == (MTL, "device")
    assert reasons(decision)["registered"] == "missed ambiguous-device"


def test_one_place_under_two_addresses_is_known() -> None:
    twin = replace(AT_HQ, device="100@b", callback="+12125550177")
    decision = decide(AT_HQ, twin, user="100", host="x")
    assert decision.device
    assert decision.device_reason == "same-place"
    assert decision.location
    assert decision.location.civic.room == "1"
    assert decision.callback == "+12125550100"  # not the number of only one of the two


# The registered location


def test_own_full_address_elsewhere_is_not_mixed_with_the_site() -> None:
    home = CivicAddress(country="US", state="NJ", city="Hoboken", house_number="7", street="Garden", unit="2")
    worker = Device(device="4102", kind=DeviceKind.OFF_PREMISES, site="hq", zone="hq-3e", civic=home)
    decision = decide(worker, user="4102")
    assert decision.location
    assert decision.location.civic == home
    assert decision.location.point is None  # the site's point is elsewhere
    assert (decision.location.occupant, decision.location.site, decision.zone) == ("", "", None)
    assert (decision.site, decision.site_reason) == (HQ, "device")


def test_own_address_that_is_the_sites_keeps_the_zone() -> None:
    own = replace(HQ.address, room="9", street_suffix="")
    decision = decide(Device(device="4102", site="hq", zone="hq-4", civic=own), user="4102")
    assert decision.location
    assert (decision.location.civic.floor, decision.location.civic.room) == ("4", "9")
    assert decision.location.civic.street_suffix == "AVE"
    assert decision.location.occupant == ""


def test_own_street_without_city_takes_no_part_of_the_sites_street() -> None:
    annex = CivicAddress(house_number="12", street="Main", floor="1")
    decision = decide(Device(device="4102", site="hq", civic=annex), user="4102")
    assert decision.location
    civic = decision.location.civic
    assert (civic.house_number, civic.street, civic.street_suffix) == ("12", "Main", "")
    assert (civic.city, civic.floor) == ("New York", "1")


@pytest.mark.parametrize(
    "device",
    [
        Device(device="4102", civic=CivicAddress(room="312")),
        Device(device="4102", site="closed-site", civic=CivicAddress(room="312")),
        Device(device="4102", site="closed-site"),
        Device(device="4102", site="hq", civic=CivicAddress(city="Boston", room="312")),
        Device(device="4102", site="bare", civic=CivicAddress(room="312")),
    ],
)
def test_a_room_without_a_building_is_no_address(device: Device) -> None:
    decision = decide(device, user="4102", sources=REGISTERED_FIRST)
    assert reasons(decision)["registered"] == "missed no-address"


@pytest.mark.parametrize("postal_code", ["10118", "10118-0110", "101 18"])
def test_longer_postal_code_is_the_same_place(postal_code: str) -> None:
    device = Device(device="4102", site="hq", civic=CivicAddress(postal_code=postal_code, room="1"))
    assert reasons(decide(device, user="4102"))["registered"] == "won registered-device"


def test_point_alone_is_a_location() -> None:
    spot = GeoPoint(latitude=45.5, longitude=-73.5)
    decision = decide(Device(device="4102", point=spot), user="4102")
    assert decision.location
    assert decision.location.point == spot
    assert decision.location.civic.is_empty


def test_unknown_zone_leaves_the_site() -> None:
    decision = decide(replace(DESK, zone="gone"), user="4102", address=TRUNK)
    assert decision.location
    assert decision.location.civic.room == "312"
    assert decision.zone is None


# Network and site locations, with the desk's own parts


def test_network_wins_and_keeps_the_desks_room() -> None:
    decision = decide(DESK, user="4102", address=ON_FLOOR)
    assert reasons(decision)["network"] == "won zone-network"
    assert reasons(decision)["registered"] == "knew registered-device"
    assert decision.location
    assert (decision.location.method, decision.location.occupant) == ("Wiremap", "Head office")
    assert (decision.location.civic.floor, decision.location.civic.room) == ("3", "312")


@pytest.mark.parametrize(
    "device",
    [
        replace(DESK, kind=DeviceKind.NOMADIC),
        replace(DESK, kind=DeviceKind.SOFTPHONE),
        replace(DESK, site="mtl", zone=""),
        replace(DESK, zone="hq-4"),
        replace(DESK, zone="gone"),
        replace(DESK, zone="", civic=CivicAddress(floor="5", room="512")),
        replace(DESK, civic=CivicAddress(floor="31", room="312")),
        replace(DESK, civic=CivicAddress(city="Boston", room="312")),
        replace(DESK, civic=CivicAddress(house_number="7", street="Garden", city="New York", room="312")),
    ],
    ids=["nomadic", "softphone", "site", "zone", "unknown zone", "floor", "like floor", "city", "street"],
)
def test_a_desk_that_may_be_elsewhere_adds_nothing(device: Device) -> None:
    decision = decide(device, user="4102", address=ON_FLOOR)
    assert decision.location
    assert decision.location.source is LocationSource.NETWORK
    assert decision.location.civic.room == "East wing"
    assert decision.zone
    assert decision.zone.id == "hq-3e"


def test_phone_not_seen_in_its_zones_network_is_not_put_there() -> None:
    decision = decide(DESK, user="4102", address=IN_SITE)
    assert decision.location
    assert decision.location.civic == HQ.address
    assert decision.zone is None


def test_zone_without_networks_completes_a_site_network() -> None:
    decision = decide(replace(DESK, zone="hq-4"), user="4102", address=IN_SITE)
    assert decision.location
    assert (decision.location.civic.floor, decision.location.civic.room) == ("4", "312")
    assert (decision.location.zone, decision.zone and decision.zone.id) == ("hq-4", "hq-4")


def test_site_source_keeps_the_desks_parts_too() -> None:
    order = (LocationSource.SITE, LocationSource.REGISTERED)
    decision = decide(DESK, user="4102", address=TRUNK, sources=order)
    assert decision.location
    assert decision.location.method == "Default"
    assert decision.location.civic.room == "312"
    assert decision.location.finer_from == "registered"
    assert reasons(decision) == {
        "site": "won site-address",
        "registered": "knew registered-device",
        "conveyed": "missed not-configured",
        "network": "missed not-configured",
    }


def test_a_source_that_is_left_out_gives_no_finer_parts_either() -> None:
    for sources, address in (((LocationSource.SITE,), TRUNK), ((LocationSource.NETWORK,), "10.1.9.9")):
        decision = decide(DESK, user="4102", address=address, sources=sources)
        assert decision.location
        assert (decision.location.civic.room, decision.location.finer_from) == ("", "")
        assert reasons(decision)["registered"] == "missed not-configured"


def test_site_source_not_where_the_phone_is_seen_elsewhere() -> None:
    decision = decide(DESK, user="4102", address="10.2.0.1", sources=(LocationSource.SITE,))
    assert decision.location
    assert decision.location.civic == HQ.address


def test_site_without_address_gives_none() -> None:
    decision = decide(address="10.3.0.1")
    assert decision.location is None
    assert reasons(decision)["network"] == reasons(decision)["site"] == "missed no-address"


def test_order_decides() -> None:
    decision = decide(DESK, user="4102", address=ON_FLOOR, sources=REGISTERED_FIRST)
    assert decision.location
    assert decision.location.source is LocationSource.REGISTERED
    assert [answer.source for answer in decision.answers] == ["registered", "network", "site", "conveyed"]


def a_caller_at(civic: CivicAddress) -> Conveyed:
    place = DispatchableLocation(civic=civic, point=None, source=LocationSource.CONVEYED, method="GPS")
    return Conveyed(values=(ConveyedValue(uri="cid:x", location=place, reason="conveyed-by-value"),))


def test_what_the_caller_says_decides_where_it_comes_first() -> None:
    home = CivicAddress(city="Albany", street="Lake")
    decision = decide(DESK, user="4102", address=ON_FLOOR, sources=ALL_SOURCES, conveyed=a_caller_at(home))
    assert decision.location
    assert decision.location.civic == home, "nothing of the desk is put to it"
    assert reasons(decision)["conveyed"] == "won conveyed-by-value"
    assert reasons(decision)["registered"].startswith("knew")
    assert decision.site
    assert decision.zone, "seen in that zone's network, whatever the caller says"


def test_what_the_caller_says_is_asked_in_its_turn() -> None:
    home = a_caller_at(CivicAddress(city="Albany", street="Lake"))
    order = (LocationSource.REGISTERED, LocationSource.CONVEYED)
    decision = decide(DESK, user="4102", address=ON_FLOOR, sources=order, conveyed=home)
    assert decision.location
    assert decision.location.source is LocationSource.REGISTERED
    assert reasons(decision)["conveyed"] == "knew conveyed-by-value"


def test_what_cannot_be_used_counts_as_none() -> None:
    unreadable = Conveyed(values=(ConveyedValue(uri="cid:x", reason="location-not-xml"),))
    decision = decide(DESK, user="4102", address=ON_FLOOR, sources=ALL_SOURCES, conveyed=unreadable)
    assert reasons(decision)["conveyed"] == "missed location-not-xml"
    assert decision.location
    assert decision.location.source is not LocationSource.CONVEYED


# The callback number


@pytest.mark.parametrize(
    ("device", "user", "address", "callback", "source"),
    [
        (replace(DESK, callback="212-555-0177"), "4102", TRUNK, "+12125550177", "device"),
        (replace(DESK, callback="4102"), "4102", TRUNK, "+12125550100", "site"),
        (DESK, "2125550166", TRUNK, "+12125550166", "caller"),
        (DESK, "+33123456789", TRUNK, "+33123456789", "caller"),
        (DESK, "911", TRUNK, "+12125550100", "default-site"),
        (DESK, "5000", "10.1.9.9", "+12125550100", "site"),
        (DESK, "5000", "10.2.0.1", "+12125550100", "default-site"),
    ],
)
def test_callback(device: Device, user: str, address: str, callback: str, source: str) -> None:
    decision = decide(device, user=user, address=address)
    if source == "default-site" and decision.site is HQ:
        source = "site"
    assert (decision.callback, decision.callback_source) == (callback, source)


def test_an_emergency_number_is_no_callback() -> None:
    strange = Places(
        sites=(),
        default_site=None,
        all_contacts=(),
        trunk_addresses=(),
        numbers=EmergencyNumbers(emergency=frozenset({"2125550166"}), test=frozenset()),
    )
    assert decide(user="+12125550166", among=strange).callback == ""
    assert decide(user="+12125550167", among=strange).callback == "+12125550167"


# Whatever comes


@given(
    user=st.text(),
    host=st.text(),
    address=st.text() | st.ip_addresses().map(str),
    sources=st.permutations(ALL_SOURCES).flatmap(
        lambda order: st.integers(0, 4).map(lambda count: tuple(order[:count]))
    ),
    device=st.builds(
        Device,
        device=st.text(),
        callback=st.text(),
        site=st.sampled_from(["", "hq", "mtl", "gone"]),
        zone=st.sampled_from(["", "hq-3e", "hq-4", "gone"]),
        kind=st.sampled_from(DeviceKind),
        civic=st.builds(CivicAddress, city=st.text(), street=st.text(), room=st.text(), floor=st.text()),
    ),
    is_callers=st.booleans(),
)
def test_always_an_answer_from_every_source(
    user: str,
    host: str,
    address: str,
    sources: tuple[LocationSource, ...],
    device: Device,
    is_callers: bool,
) -> None:
    decision = decide(device, user=device.device if is_callers else user, host=host, address=address, sources=sources)
    assert sorted(answer.source for answer in decision.answers) == sorted(ALL_SOURCES)
    won = [answer.source for answer in decision.answers if answer.outcome is SourceOutcome.WON]
    assert won == ([decision.location.source] if decision.location else [])
    assert decision.contacts
    if decision.location:
        assert decision.location.civic.has_street_address or decision.location.point


@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6), max_size=20))
def test_longest_prefix_equals_a_plain_search(addresses: list[object]) -> None:
    networks = [ip_network(text) for text in ("0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/8", "::/0", "2001:db8::/32")]
    sites = [Site(id=str(network), networks=(network,)) for network in networks]
    among = places(*sites, default=None)
    for address in addresses:
        holding = [network for network in networks if address in network]
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped:
            holding = [network for network in networks if mapped in network]
        expected = str(max(holding, key=lambda network: network.prefixlen)) if holding else None
        place = among.source(str(address)).place
        assert (place.site.id if place else None) == expected


def test_remembered_source_addresses_are_bounded() -> None:
    among = places()
    for number in range(SOURCE_CACHE_SIZE + 10):
        among.source(f"nonsense {number}")
    assert len(among._seen) <= SOURCE_CACHE_SIZE
    assert among.source(ON_FLOOR).reason == "zone-network"


def at_home(**values: object) -> Device:
    home = CivicAddress(
        country="US", state="NY", city="Albany", house_number="1", street="Example", street_suffix="ST"
    )
    return Device(device="4150", kind=DeviceKind.SOFTPHONE, civic=home, **values)  # type: ignore[arg-type]


IN_DOUBT = pytest.mark.parametrize(
    ("device", "doubt"),
    [
        (at_home(unconfirmed="new-network"), "location-unconfirmed"),
        (at_home(expires_at=99.0), "location-expired"),
    ],
)
REGISTERED_FIRST = (LocationSource.REGISTERED, LocationSource.NETWORK, LocationSource.SITE)


@IN_DOUBT
def test_a_location_in_doubt_is_better_than_the_site_s_and_says_so(device: Device, doubt: str) -> None:
    decision = decide(device, user="4150", sources=REGISTERED_FIRST, now=100.0)
    assert reasons(decision)["registered"] == f"won {doubt}"
    assert reasons(decision)["site"] == "knew site-address"
    assert decision.location is not None
    assert (decision.location.civic.city, decision.location.doubt) == ("Albany", doubt)


@IN_DOUBT
def test_a_location_in_doubt_gives_way_to_where_the_phone_is_seen(device: Device, doubt: str) -> None:
    decision = decide(device, user="4150", address="10.1.3.7", sources=REGISTERED_FIRST, now=100.0)
    assert reasons(decision)["registered"] == f"knew {doubt}"
    assert reasons(decision)["network"] == "won zone-network"
    assert decision.location is not None
    assert (decision.location.civic.floor, decision.location.doubt) == ("3", "")


def test_an_order_that_asks_the_site_first_is_kept_and_a_location_without_end_does_not_expire() -> None:
    order = (LocationSource.SITE, LocationSource.REGISTERED)
    assert reasons(decide(at_home(unconfirmed="x"), user="4150", sources=order))["site"] == "won site-address"
    decision = decide(at_home(expires_at=101.0), user="4150", address="10.1.3.7", sources=REGISTERED_FIRST, now=100.0)
    assert reasons(decision)["registered"] == "won registered-device"


def test_the_phone_decides_the_place_and_the_caller_the_number() -> None:
    desk = Device(device="desk-7", mac="000b821a2b3c", site="hq", zone="hq-4", callback="+12125550177")
    roamer = Device(device="4150", site="mtl", callback="+15145550150")
    decision = decide(desk, roamer, user="4150", hardware="000b821a2b3c")
    assert decision.device == desk
    assert decision.device_reason == "mac-address"
    assert decision.site is not None
    assert (decision.site.id, decision.callback) == ("hq", "+15145550150")
    elsewhere = decide(desk, roamer, user="4150", hardware="000b821a2bff")
    assert (elsewhere.device, elsewhere.device_reason) == (roamer, "user")
    unknown = decide(desk, user="7777", hardware="000b821a2b3c")
    assert (unknown.device, unknown.callback) == (desk, "+12125550177")


def test_a_phone_of_several_lines_is_the_line_that_calls() -> None:
    lines = [
        Device(device=name, mac="000b821a2b3c", site="hq", civic=CivicAddress(room=name)) for name in ("41", "42")
    ]
    assert decide(*lines, user="42", hardware="000b821a2b3c").device == lines[1]
    assert decide(*lines, user="43", hardware="000b821a2b3c").device_reason == "ambiguous-device"


def test_an_address_that_the_validation_function_does_not_know_is_not_relied_on() -> None:
    def confidence(validation: str) -> str:
        home = CivicAddress(country="US", state="NY", city="Albany", street="Lake", house_number="1")
        device = Device(device="4102", civic=home, validation=validation, confirmed_at=1.0)
        found = decide(device, user="4102", now=2.0)
        return next(answer.confidence for answer in found.answers if answer.source == "registered")

    assert [confidence(said) for said in ("", "valid", "unknown: HNO", "invalid: HNO", "invalid")] == [
        "high", "high", "high", "low", "low",
    ]  # fmt: skip


def test_a_sites_address_that_the_validation_function_does_not_know_is_not_relied_on() -> None:
    site = places().find("hq")
    assert site
    assert site.network_location
    address = site.network_location.civic.as_street_address

    def said_of(said: str, **call: Any) -> dict[str, str]:
        found = decide(validated={address: Validated(said, 7.0)}, **call)
        assert found.location
        assert found.location.validation == said
        return {answer.source: answer.confidence for answer in found.answers if answer.location}

    in_zone = {"address": "10.1.3.7", "now": 9.0}
    assert said_of("valid", **in_zone) == {"network": "medium", "site": "low"}
    assert said_of("invalid: HNO", **in_zone) == {"network": "low", "site": "low"}
    said = replace(site.network_location, source=LocationSource.CONVEYED)
    told = Conveyed(values=(ConveyedValue(uri="cid:a", location=said, reason="conveyed-by-value"),))
    assert said_of("valid", conveyed=told, **in_zone)["conveyed"] == "high"
    assert said_of("invalid: HNO", conveyed=told, **in_zone)["conveyed"] == "low"


def test_what_was_said_of_the_registered_address_counts_for_the_same_address_seen() -> None:
    desk = Device(
        device="4102", site="hq", zone="hq-3e", civic=CivicAddress(room="317"), validation="valid", validated_at=7.0
    )
    seen = decide(desk, user="4102", address="10.1.3.7")
    assert reasons(seen)["network"] == "won zone-network"
    assert seen.location
    assert (seen.location.civic.room, seen.location.validation, seen.location.validated_at) == ("317", "valid", 7.0)
    elsewhere = decide(desk, user="4102", address="10.1.9.7").location
    assert elsewhere
    assert (elsewhere.civic.room, elsewhere.validation) == ("", ""), "another address than was asked about"
