"""PIDF-LO documents: valid against the published schemas, read back as written, and safe to read."""

import re
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from e911 import pidf_lo
from e911.location import CIVIC_FIELDS, CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.pidf_lo import (
    CIVIC,
    CIVIC_ELEMENTS,
    DATA_MODEL,
    GEOPRIV,
    build_pidf_lo,
)
from e911.pidf_reader import read_civic, read_pidf_lo, read_point
from tests.e911.worlds import HQ

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SCHEMAS / "all.xsd", etree.XMLParser(no_network=True)))


def location(**changes: object) -> DispatchableLocation:
    values: dict[str, object] = {
        "civic": HQ.address,
        "point": None,
        "source": LocationSource.NETWORK,
        "method": "Wiremap",
        "occupant": "Head office",
    }
    return DispatchableLocation(**(values | changes))  # type: ignore[arg-type]  # keywords by name


def written(place: DispatchableLocation, **changes: object) -> bytes:
    values: dict[str, object] = {
        "entity": "sip:+12125550100@hq-1.example.com",
        "device_id": "4102",
        "timestamp": 1_893_456_245.9,
        "provided_by": "hq-1.example.com",
    }
    return build_pidf_lo(location=place, **(values | changes))  # type: ignore[arg-type]  # keywords by name


def as_token(text: str) -> str:
    """What XML can hold of a text, as an xs:token (XML 1.0 section 2.2, XML Schema part 2 section 4.3.6)."""
    held = "".join(
        char
        for char in text
        if char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char >= "\U00010000"
    )
    return re.sub("[ \t\n\r]+", " ", held).strip(" ")


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=30)
POINTS = st.none() | st.builds(
    GeoPoint,
    latitude=st.floats(-90, 90, allow_nan=False),
    longitude=st.floats(-180, 180, allow_nan=False),
    uncertainty=st.just(0.0) | st.floats(0.1, 10_000),
)
CIVICS = st.builds(
    CivicAddress,
    **{name: ANY_TEXT for name in CIVIC_FIELDS if name != "country"},
    country=st.sampled_from(["US", "CA", "ca", "USA", "", "1A", "ÄÖ"]) | ANY_TEXT,
)


@given(
    civic=CIVICS,
    point=POINTS,
    occupant=ANY_TEXT,
    method=ANY_TEXT,
    entity=ANY_TEXT | ANY_TEXT.map(lambda text: "sip:" + text) | ANY_TEXT.map(lambda text: "pres:" + text),
    device_id=ANY_TEXT | ANY_TEXT.map(lambda text: "urn:" + text) | ANY_TEXT.map(lambda text: "mac:" + text),
    timestamp=st.floats(),
    provided_by=ANY_TEXT,
)
@example(
    civic=CivicAddress(),
    point=None,
    occupant="",
    method="",
    entity="",
    device_id="",
    timestamp=float("nan"),
    provided_by="]]>",
)
def test_valid_and_read_back_whatever_the_text(
    schema: etree.XMLSchema,
    civic: CivicAddress,
    point: GeoPoint | None,
    occupant: str,
    method: str,
    entity: str,
    device_id: str,
    timestamp: float,
    provided_by: str,
) -> None:
    place = location(civic=civic, point=point, occupant=occupant, method=method)
    other = {"entity": entity, "device_id": device_id, "timestamp": timestamp, "provided_by": provided_by}
    document = written(place, **other)
    schema.assertValid(etree.fromstring(document))
    assert document == written(place, **other)

    expected = {name: as_token(getattr(civic, name)) for name in CIVIC_FIELDS}
    country = expected["country"].upper()
    expected["country"] = country if re.fullmatch("[A-Z]{2}", country) else ""
    found = read_pidf_lo(document)
    assert (found.civic if found and found.civic else CivicAddress()) == CivicAddress(**expected)
    assert (found.occupant if found else "") == as_token(occupant)
    if point:
        assert found
        assert found.point
        assert found.point.latitude == pytest.approx(point.latitude, abs=1e-7)
        assert found.point.longitude == pytest.approx(point.longitude, abs=1e-7)
        assert found.point.uncertainty == pytest.approx(point.uncertainty, abs=0.05)
    else:
        assert found is None or found.point is None


def test_document_says_all_it_must(schema: etree.XMLSchema) -> None:
    place = location(
        civic=CivicAddress(**{name: name for name in CIVIC_FIELDS} | {"country": "US"}),
        point=GeoPoint(latitude=40.7484, longitude=-73.98566),
    )
    root = etree.fromstring(written(place))
    schema.assertValid(root)
    civic = root.find(f".//{{{CIVIC}}}civicAddress")
    assert civic is not None
    assert [etree.QName(child).localname for child in civic] == [element for element, _ in CIVIC_ELEMENTS]
    info = root.find(f".//{{{GEOPRIV}}}location-info")
    assert info is not None
    assert [etree.QName(child).localname for child in info] == ["Point", "civicAddress"]
    assert info.findtext(".//{http://www.opengis.net/gml}pos") == "40.7484 -73.98566"
    assert root.findtext(f".//{{{GEOPRIV}}}method") == "Wiremap"
    assert root.findtext(f".//{{{DATA_MODEL}}}timestamp") == "2030-01-01T00:04:05Z"
    assert "".join(root.find(f".//{{{GEOPRIV}}}provided-by").itertext()) == "hq-1.example.com"
    assert b">true</gbp:retransmission-allowed>" in etree.tostring(root)
    assert b"> <" not in written(place)
    assert b"\n" not in written(place)


def test_device_id_is_a_stable_urn() -> None:
    first, again, other, elsewhere = (
        read_pidf_lo(written(location(), device_id=device, provided_by=domain))
        for device, domain in (("4102", "a"), ("4102", "a"), ("4103", "a"), ("4102", "b"))
    )
    assert first
    assert first.device_id.startswith("urn:uuid:")
    assert first == again
    assert len({found.device_id for found in (first, other, elsewhere) if found}) == 3
    kept = read_pidf_lo(written(location(), device_id="urn:uuid:5b0c1f0e-0000-4000-8000-000000004102"))
    assert kept
    assert kept.device_id == "urn:uuid:5b0c1f0e-0000-4000-8000-000000004102"


@given(
    st.lists(
        st.sampled_from(["", "Lake", "12 A", " 1", "a\nb", "\n", "R&D", "é", "x  y", "us", "U1"]),
        min_size=len(CIVIC_FIELDS) + 1,
        max_size=len(CIVIC_FIELDS) + 1,
    )
)
def test_values_looked_at_together_are_written_as_each_would_be(values: list[str]) -> None:
    place = location(
        civic=CivicAddress(**dict(zip(CIVIC_FIELDS, values[1:], strict=True))),  # type: ignore[arg-type]
        occupant=values[0],
    )
    together = pidf_lo._civic(place)
    with mock.patch.object(pidf_lo, "_ALL_PLAIN", re.compile("never")):
        assert pidf_lo._civic(place) == together


def test_small_coordinates_have_no_exponent() -> None:
    document = written(location(point=GeoPoint(latitude=-0.00000001, longitude=0.0000123)))
    assert b"<gml:pos>0 0.0000123</gml:pos>" in document


HEAD = (
    '<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" '
    'xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10" '
    'xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr" '
    'xmlns:old="urn:ietf:params:xml:ns:pidf:geopriv10:civicLoc" '
    'xmlns:gml="http://www.opengis.net/gml" xmlns:gs="http://www.opengis.net/pidflo/1.0">'
)


def geopriv(content: str) -> str:
    return f"<gp:geopriv><gp:location-info>{content}</gp:location-info><gp:usage-rules/></gp:geopriv>"


def civic(content: str) -> str:
    return geopriv(f"<ca:civicAddress>{content}</ca:civicAddress>")


def document(content: str, before: str = "") -> bytes:
    return f"{before}{HEAD}{content}</presence>".encode()


@pytest.mark.parametrize(
    ("content", "city"),
    [
        (f'<dm:device id="d">{civic("<ca:A3>device</ca:A3>")}</dm:device>', "device"),
        (f'<tuple id="t"><status>{civic("<ca:A3>tuple</ca:A3>")}</status></tuple>', "tuple"),
        (f'<dm:person id="p">{civic("<ca:A3>person</ca:A3>")}</dm:person>', "person"),
        (
            f'<dm:person id="p">{civic("<ca:A3>person</ca:A3>")}</dm:person>'
            f'<tuple id="t"><status>{civic("<ca:A3>tuple</ca:A3>")}</status></tuple>'
            f'<dm:device id="e">{civic("")}</dm:device>'
            f'<dm:device id="d">{civic("<ca:A3>device</ca:A3>")}</dm:device>',
            "device",
        ),
        (
            '<tuple id="t"><status>'
            + geopriv("<old:civicAddress><old:A3>old</old:A3></old:civicAddress>")
            + "</status></tuple>",
            "old",
        ),
    ],
    ids=["device", "tuple", "person", "order", "RFC 4119"],
)
def test_every_place_for_a_location_is_read(content: str, city: str) -> None:
    found = read_civic(document(content))
    assert found
    assert found.city == city


def test_a6_is_the_street_only_where_rd_is_absent() -> None:
    assert read_civic(document(f'<dm:device id="d">{civic("<ca:A6>Main</ca:A6>")}</dm:device>')) == CivicAddress(
        street="Main"
    )
    both = civic("<ca:A6>Group</ca:A6><ca:RD>Main</ca:RD><ca:XYZ>unknown</ca:XYZ>")
    assert read_civic(document(f'<dm:device id="d">{both}</dm:device>')) == CivicAddress(street="Main")


@pytest.mark.parametrize(
    ("shape", "point"),
    [
        ('<gml:Point srsName="urn:ogc:def:crs:EPSG::4326"><gml:pos>45.5 -73.5</gml:pos></gml:Point>', True),
        ('<gml:Point srsName="urn:ogc:def:crs:EPSG::4979"><gml:pos>45.5 -73.5 30</gml:pos></gml:Point>', True),
        (
            '<gs:Circle srsName="urn:ogc:def:crs:EPSG::4326"><gml:pos> 45.5\n-73.5 </gml:pos>'
            "<gs:radius>9</gs:radius></gs:Circle>",
            True,
        ),
        ('<gml:Point srsName="urn:ogc:def:crs:OGC:1.3:CRS84"><gml:pos>-73.5 45.5</gml:pos></gml:Point>', False),
        ("<gml:Point><gml:pos>45.5</gml:pos></gml:Point>", False),
        ("<gml:Point><gml:pos>145.5 -73.5</gml:pos></gml:Point>", False),
        ("<gml:Point><gml:pos>nan nan</gml:pos></gml:Point>", False),
        ("<gml:Point/>", False),
    ],
)
def test_points(shape: str, point: bool) -> None:
    found = read_point(document(f'<dm:device id="d">{geopriv(shape)}</dm:device>'))
    within = 9.0 if "radius" in shape else 0.0
    assert found == (GeoPoint(latitude=45.5, longitude=-73.5, uncertainty=within) if point else None)


DEVICE = f'<dm:device id="d">{civic("<ca:A3>device</ca:A3>")}</dm:device>'


@pytest.mark.parametrize(
    "pidf",
    [
        b"",
        b"not xml",
        b"<presence/>",
        document(DEVICE)[:-5],
        document(DEVICE, before="<!DOCTYPE presence>"),
        document(DEVICE, before='<!DOCTYPE presence SYSTEM "http://192.0.2.1/pidf.dtd">'),
        document(
            DEVICE.replace("device<", "&x;<"), before='<!DOCTYPE presence [<!ENTITY x SYSTEM "/etc/hostname">]>'
        ),
        document(f'<dm:device id="d">{civic("")}</dm:device>'),
        document(DEVICE + " " * 70_000),
    ],
    ids=["empty", "text", "no location", "cut off", "doctype", "dtd", "entity", "empty address", "huge"],
)
def test_what_cannot_be_read_is_none(pidf: bytes) -> None:
    assert read_pidf_lo(pidf) is None


@given(st.binary())
def test_reading_never_raises(pidf: bytes) -> None:
    assert read_civic(pidf) is None
