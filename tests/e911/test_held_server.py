"""Answers to HELD dereferences: valid against the schemas, exact where that is asked for, safe with any request."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from e911.held_server import (
    HELD,
    HeldError,
    Wanted,
    error_response,
    location_of,
    location_response,
    prefers_bare_document,
    read_request,
)
from e911.location import CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.pidf_lo import build_pidf_lo
from e911.pidf_reader import read_location

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"
CIVIC = CivicAddress(country="US", state="NY", city="Albany", street="Lake", street_suffix="RD", house_number="1")


def document(point: bool = True) -> bytes:
    return build_pidf_lo(
        location=DispatchableLocation(
            civic=CIVIC,
            point=GeoPoint(latitude=42.65, longitude=-73.75) if point else None,
            source=LocationSource.REGISTERED,
            method="Manual",
        ),
        entity="sip:+12125550142@edge.example.com",
        device_id="4102",
        timestamp=1_900_000_000,
        provided_by="edge.example.com",
    )


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(SCHEMAS / "all.xsd")))


def assert_valid(data: bytes) -> etree._Element:
    root = etree.fromstring(data)
    schema().assertValid(root)
    return root


def request(text: str) -> bytes:
    return f'<locationRequest xmlns="{HELD}">{text}</locationRequest>'.encode()


def test_the_answer_is_a_location_response_around_the_document() -> None:
    root = assert_valid(location_response(document()))
    assert root.tag == f"{{{HELD}}}locationResponse"
    found = read_location(etree.tostring(root))
    assert found.civic == CIVIC
    assert found.point is not None


def test_a_document_with_a_declaration_of_its_own_fits_in() -> None:
    other = b"<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" + document().split(b"?>", 1)[1]
    assert_valid(location_response(other))
    wide = b'<?xml version="1.0" encoding="UTF-16"?>'.decode() + document().decode().partition("?>")[2]
    assert_valid(location_response(wide.encode("utf-16")))


@pytest.mark.parametrize(
    ("text", "types", "exact"),
    [
        ("", {"any"}, False),
        ("<locationType>civic geodetic</locationType>", {"civic", "geodetic"}, False),
        ('<locationType exact="true">geodetic</locationType>', {"geodetic"}, True),
    ],
)
def test_what_is_asked_for(text: str, types: set[str], exact: bool) -> None:
    assert read_request(request(text)) == Wanted(types=frozenset(types), exact=exact)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<locationRequest", "xmlError"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "xmlError"),
        (b"<other/>", "unsupportedMessage"),
        (b'<createContext xmlns="urn:ietf:params:xml:ns:geopriv:held"/>', "unsupportedMessage"),
        (request("<locationType>somewhere</locationType>"), "requestError"),
        (request('<locationType exact="perhaps">civic</locationType>'), "requestError"),
    ],
)
def test_what_cannot_be_answered_says_why(data: bytes, code: str) -> None:
    with pytest.raises(HeldError) as caught:
        read_request(data)
    assert caught.value.code == code
    assert_valid(error_response(caught.value.code, str(caught.value)))


def test_exactly_one_form() -> None:
    for kind in ("civic", "geodetic"):
        found = location_of(document(), Wanted(types=frozenset({kind}), exact=True))
        read = read_location(found)
        assert (read.civic is not None, read.point is not None) == (kind == "civic", kind == "geodetic")
        assert_valid(location_response(found))
    with pytest.raises(HeldError, match="geodetic"):
        location_of(document(point=False), Wanted(types=frozenset({"geodetic"}), exact=True))
    with pytest.raises(HeldError, match="locationURI"):
        location_of(document(), Wanted(types=frozenset({"locationURI"}), exact=True))


@pytest.mark.parametrize(
    ("accept", "bare"),
    [
        ("", False),
        ("*/*", False),
        ("application/held+xml", False),
        ("application/pidf+xml", True),
        ("application/pidf+xml, application/held+xml;q=0.5", True),
        ("application/pidf+xml;q=0.5, application/held+xml", False),
        ("application/pidf+xml;q=x", False),
        ("application/pidf+xml, */*;q=0.1", True),
    ],
)
def test_who_would_rather_have_the_document_alone(accept: str, bare: bool) -> None:
    assert prefers_bare_document(accept) is bare


@given(st.binary(max_size=200))
def test_no_request_breaks_it(data: bytes) -> None:
    with pytest.raises(HeldError) as caught:
        read_request(data)
    assert caught.value.code in ("xmlError", "unsupportedMessage")
