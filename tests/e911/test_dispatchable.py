"""What makes a registered location one that help can be sent to, in the United States and in Canada."""

from dataclasses import replace

import pytest

from e911.dispatchable import civic_problems, device_dispatchability, device_of, suggestions
from e911.location import CivicAddress, Device, DeviceKind, GeoPoint
from tests.e911.worlds import BARE, HQ, MTL, places

ALBANY = CivicAddress(
    country="US",
    state="NY",
    city="Albany",
    house_number="1",
    street="Example",
    street_suffix="ST",
    postal_code="12207",
)
MONTREAL = CivicAddress(
    country="CA", state="QC", city="Montréal", house_number="1200", street="Exemple", postal_code="H3B 2Y5"
)


@pytest.mark.parametrize(
    ("address", "reasons"),
    [
        (ALBANY, ()),
        (MONTREAL, ()),
        (replace(ALBANY, postal_code="12207-1234"), ()),
        (replace(MONTREAL, postal_code="h3b2y5"), ()),
        (replace(ALBANY, state="NJ"), ("postal-code-of-another-state",)),
        (replace(MONTREAL, state="ON"), ("postal-code-of-another-state",)),
        (replace(MONTREAL, postal_code="K1A 0A1"), ()),  # the federal government, in Gatineau too
        # Fort Campbell lies in both, and so does the delivery area of its code.
        (replace(ALBANY, city="Fort Campbell", state="TN", postal_code="42223-1234"), ()),
        (replace(ALBANY, city="Fort Campbell", state="KY", postal_code="42223"), ()),
        (replace(ALBANY, city="Fort Campbell", state="NY", postal_code="42223"), ("postal-code-of-another-state",)),
        (replace(ALBANY, city="Nashville", state="TN", postal_code="42224"), ("postal-code-of-another-state",)),
        (replace(ALBANY, postal_code="1220"), ("postal-code-malformed",)),
        (replace(MONTREAL, postal_code="H3B 2O5"), ("postal-code-malformed",)),  # no letter O in a postal code
        (replace(MONTREAL, state="NU", postal_code="X1A 1A1"), ("postal-code-of-another-state",)),  # Yellowknife
        (replace(MONTREAL, state="NT", postal_code="X0A 0H0"), ("postal-code-of-another-state",)),  # Iqaluit
        (replace(ALBANY, state="QC"), ("unknown-state",)),
        (replace(ALBANY, country=""), ("no-country",)),
        (replace(ALBANY, house_number="", postal_code=""), ("no-house-number", "no-postal-code")),
        (replace(ALBANY, house_number="", street="", landmark="City Hall"), ()),
        (replace(ALBANY, country="GB", state="", postal_code="", city="London"), ()),
        (CivicAddress(floor="3"),
         ("no-country", "no-state", "no-city", "no-street", "no-house-number", "no-postal-code")),
    ],
)  # fmt: skip
def test_what_an_address_lacks_or_contradicts(address: CivicAddress, reasons: tuple[str, ...]) -> None:
    assert civic_problems(address) == reasons


@pytest.mark.parametrize(
    ("country", "state", "code"),
    [
        ("US", "AK", "99501"), ("US", "TX", "73301"), ("US", "NY", "00501"), ("US", "NY", "06390"),
        ("US", "VA", "20101"),
        ("US", "PR", "00601"), ("US", "DC", "20500"), ("US", "CA", "90001"), ("US", "GA", "39901"),
        ("US", "AE", "09001"),
        ("CA", "YT", "Y1A 1A1"), ("CA", "NU", "X0A 0H0"), ("CA", "ON", "K1A 0A1"), ("CA", "NL", "A1A 1A1"),
        ("CA", "NT", "X1A 1A1"), ("CA", "NT", "X0E 0N0"), ("CA", "NU", "X0C 0G0"),
    ],
)  # fmt: skip
def test_codes_of_their_states(country: str, state: str, code: str) -> None:
    assert civic_problems(replace(ALBANY, country=country, state=state, postal_code=code)) == ()


def test_coordinates_alone_tell_nobody_which_door_to_knock_at() -> None:
    device = Device(device="1", point=GeoPoint(latitude=42.65, longitude=-73.75))
    assert device_dispatchability(device, places(), 0.0).reasons == ("no-civic-address",)


def test_a_site_of_several_storeys_wants_floor_or_room() -> None:
    world = places(replace(HQ, multi_storey=True), replace(MTL, floors=("1", "RC")), BARE)

    def reasons(**values: object) -> tuple[str, ...]:
        return device_dispatchability(Device(device="1", **values), world, 0.0).reasons  # type: ignore[arg-type]

    assert reasons(site="hq") == ("no-floor-or-room",)
    assert reasons(site="hq", zone="hq-4") == ()
    assert reasons(site="hq", civic=CivicAddress(room="312")) == ()
    assert reasons(site="mtl") == ("no-floor-or-room",)
    assert reasons(site="mtl", civic=CivicAddress(floor="rc")) == ()
    assert reasons(site="mtl", civic=CivicAddress(floor="7")) == ("unknown-floor",)
    assert reasons(site="bare") == ("no-address",)
    assert reasons() == ("no-address",)
    assert reasons(kind=DeviceKind.SOFTPHONE, civic=ALBANY) == ()  # at home: no storeys of a site


def test_an_address_that_the_validation_function_does_not_know_is_not_dispatchable() -> None:
    def reasons(validation: str) -> tuple[str, ...]:
        return device_dispatchability(Device(device="1", civic=ALBANY, validation=validation), places(), 0.0).reasons

    assert reasons("invalid: HNO") == reasons("invalid") == ("address-invalid",)
    assert reasons("") == reasons("valid") == reasons("unknown: HNO") == (), "not known is not wrong"


def test_a_location_in_doubt_is_not_dispatchable() -> None:
    expired = Device(device="1", civic=ALBANY, expires_at=10.0)
    assert device_dispatchability(expired, places(), 9.0).reasons == ()
    assert device_dispatchability(expired, places(), 10.0).reasons == ("location-expired",)
    assert device_dispatchability(replace(expired, unconfirmed="x"), places(), 0.0).reasons == (
        "location-unconfirmed",
    )


def forms(**values: str) -> dict[str, str]:
    return {found.column: found.form for found in suggestions(CivicAddress(**values))}


def test_forms_of_the_post_are_suggested() -> None:
    assert forms(country="US", state="NY", street="Main", street_suffix="Street", pre_directional="north") == {
        "street_suffix": "ST",
        "pre_directional": "N",
    }
    assert forms(country="US", street="5th Avenue") == {"street": "5th", "street_suffix": "AVE"}
    assert forms(country="CA", state="QC", street="Exemple", street_suffix="boulevard", post_directional="Ouest") == {
        "street_suffix": "BLVD",
        "post_directional": "O",
    }
    assert forms(country="CA", state="QC", street="Exemple", street_suffix="BOUL", post_directional="NO") == {}
    assert forms(country="CA", state="ON", street_suffix="Crescent", postal_code="k1a0a1") == {
        "street_suffix": "CRES",
        "postal_code": "K1A 0A1",
    }
    assert forms(country="us", state="ny", postal_code="101180110") == {
        "country": "US",
        "state": "NY",
        "postal_code": "10118-0110",
    }
    assert forms(country="US", street_suffix="Crossroads", state="New York") == {
        "street_suffix": "XRDS",
        "state": "NY",
    }
    assert forms(country="CA", street_suffix="Échangeur", state="Québec", post_directional="N.-O.") == {
        "street_suffix": "ÉCH",
        "state": "QC",
        "post_directional": "NO",
    }
    assert forms(country="CA", state="quebec", street_suffix="Place") == {"state": "QC", "street_suffix": "PLACE"}
    assert forms(country="US", street="Broadway", street_suffix="Zzz") == {}
    assert forms(country="FR", street="rue Exemple", street_suffix="Street") == {}
    assert forms(country="US", state="NY", street="5th", street_suffix="AVE", postal_code="10118") == {}


def test_a_device_takes_the_forms_of_its_own_columns_alone() -> None:
    changes = suggestions(CivicAddress(country="US", state="ny", street="Lake Street", pre_directional="north"))
    own = Device(device="4012", civic=CivicAddress(pre_directional="north"))
    assert device_of(own, changes) == {"pre_directional": "N"}, "street and state are its site's"
    own = Device(device="4012", civic=CivicAddress(street="Lake Street"))
    assert device_of(own, changes) == {"street": "Lake", "street_suffix": "ST"}
