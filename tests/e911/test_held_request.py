"""What a location server is asked, against the schemas of RFC 5985 and RFC 6155, and what its answer means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from e911.attachment import Attachment
from e911.held_request import (
    HELD_ID,
    HeldIdentity,
    HeldRefusedError,
    error_code,
    located_by_server,
    location_request,
)
from e911.location import LocationSource
from e911.pidf_reader import UnreadableError
from router.locating.held_client import location_document
from simulations.lis import identifiers_in, location_response
from tests.e911.pidf_documents import GOOD

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"
MAC = "0200e8a1b2c3"


def asked(**identity: object) -> etree._Element:
    return etree.fromstring(location_request(HeldIdentity(**identity), 300))  # type: ignore[arg-type]  # a table of keywords


def test_the_whole_question() -> None:
    root = asked(ip="192.0.2.41", mac=MAC, uri="sip:4102@pbx.example.com", tel="+12125550142")
    assert root.tag == "{urn:ietf:params:xml:ns:geopriv:held}locationRequest"
    assert root.get("responseTime") == "300"
    device = root.find(f"{{{HELD_ID}}}device")
    assert device is not None
    assert [(child.tag.rpartition("}")[2], child.text, dict(child.attrib)) for child in device] == [
        ("ip", "192.0.2.41", {"v": "4"}),
        ("mac", "02-00-E8-A1-B2-C3", {}),
        ("uri", "sip:4102@pbx.example.com", {}),
        ("uri", "tel:+12125550142", {}),
    ]


@pytest.mark.parametrize(
    ("attachment", "identifier"),
    [
        (Attachment(bssid="001b2c3d4e50"), "00-1B-2C-3D-4E-50"),
        (Attachment(chassis="001b54aabbcc", port="gi1/0/14"), f"001b54aabbcc/{b'gi1/0/14'.hex()}"),
        (Attachment(chassis="sw-3.example.com"), f"{b'sw-3.example.com'.hex()}/"),
    ],
)
def test_what_it_is_attached_to_goes_along_as_a_measurement(attachment: Attachment, identifier: str) -> None:
    assert identifiers_in(asked(attachment=attachment)) == (identifier,)


def test_it_is_what_the_schemas_say() -> None:
    root = asked(ip="2001:db8::7", mac=MAC, uri="sip:a@b", tel="+1", attachment=Attachment(bssid="001b2c3d4e50"))
    etree.XMLSchema(file=str(SCHEMAS / "all.xsd")).assertValid(root)


def test_an_address_of_the_other_family() -> None:
    ip = asked(ip="2001:db8::7").find(f".//{{{HELD_ID}}}ip")
    assert ip is not None
    assert (ip.get("v"), ip.text) == ("6", "2001:db8::7")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), st.text(max_size=30))
def test_no_identity_breaks_the_document(uri: str, port: str) -> None:
    attachment = Attachment(chassis="sw", port=port.encode("ascii", "ignore").decode())
    root = asked(uri=f"sip:{uri}", attachment=attachment)
    assert root.findtext(f".//{{{HELD_ID}}}uri") == f"sip:{uri}"


# Answers


PLACE = {"country": "US", "city": "Albany", "street": "Lake", "house_number": "1", "room": "312"}


def test_what_a_server_says_is_a_location_from_then() -> None:
    found = located_by_server(location_document(location_response(PLACE, timestamp=1000.0)), 2000.0)
    assert (found.source, found.method, found.updated_at) == (LocationSource.HELD, "LLDP-MED", 1000.0)
    assert (found.civic.city, found.civic.room) == ("Albany", "312")


def test_an_answer_from_the_future_is_from_now() -> None:
    assert located_by_server(location_document(location_response(PLACE, timestamp=9e9)), 2000.0).updated_at == 2000.0


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (location_response({"country": "US", "city": "Albany"}), "location-too-coarse"),
        (b"<presence/>", "location-empty"),
    ],
)
def test_what_help_cannot_be_sent_to_is_none(document: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as raised:
        located_by_server(document, 0.0)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'<error xmlns="urn:ietf:params:xml:ns:geopriv:held" code="locationUnknown"/>', "locationUnknown"),
        (b'<error xmlns="urn:ietf:params:xml:ns:geopriv:held"/>', "unknown"),
        (b"<error/>", ""),
        (GOOD, ""),
        (b"<!DOCTYPE error [<!ENTITY a 'b'>]><error>&a;</error>", ""),
        (b"", ""),
    ],
)
def test_errors_have_their_code(body: bytes, code: str) -> None:
    assert error_code(body) == code


def test_what_an_error_means_for_an_older_answer() -> None:
    assert HeldRefusedError("notLocatable").is_lasting
    assert not HeldRefusedError("generalLisError").is_lasting
    assert not HeldRefusedError("timeout").is_lasting


@given(st.binary(max_size=400))
def test_no_answer_breaks_it(body: bytes) -> None:
    assert error_code(body) == ""
