"""What a caller sent about where they are: found, read, and fit to be used or not, with a reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.conveyed import (
    NOTHING_CONVEYED,
    Conveyed,
    LocationDocument,
    ReferenceAnswer,
    read_conveyed,
)
from e911.location import CivicAddress, GeoPoint
from e911.pidf_reader import LARGEST_READ
from tests.e911.pidf_documents import (
    GOOD,
    POINT,
    STREET,
    civic,
    geopriv,
    in_device,
    in_person,
    in_tuple,
    presence,
)
from tests.e911.worlds import decide, reasons

LAKE = CivicAddress(country="US", state="NY", city="Albany", street="Lake", street_suffix="AVE", house_number="7")
PIDF = "application/pidf+xml"


def part(data: bytes = GOOD, content_id: str = "loc@example.com", content_type: str = PIDF) -> LocationDocument:
    return LocationDocument(content_type=content_type, content_id=content_id, data=data)


def by_value(data: bytes) -> Conveyed:
    return read_conveyed(["<cid:loc@example.com>"], [part(data)])


def test_nothing() -> None:
    assert read_conveyed([], []) is NOTHING_CONVEYED
    assert NOTHING_CONVEYED.reason == "not-conveyed"
    assert NOTHING_CONVEYED.location is None


def test_a_part_that_a_value_names() -> None:
    found = by_value(GOOD)
    assert found.location
    assert found.location.civic == LAKE
    assert found.location.method == "GPS"
    assert found.location.updated_at == 1893456000.0
    assert found.reason == "conveyed-by-value"


@pytest.mark.parametrize("holder", [in_device, in_tuple, in_person, str])
def test_wherever_it_stands(holder: object) -> None:
    found = by_value(presence(holder(geopriv(civic())), entity=""))  # type: ignore[operator]  # functions of text
    assert found.location
    assert found.location.civic == LAKE


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + presence(in_device(geopriv(civic())), before='<?xml version="1.0" encoding="UTF-8"?>'),
        b"\r\n  " + presence(in_device(geopriv(civic())), before='<?xml version="1.0"?>') + b"\r\n\0",
        presence(in_device(geopriv(civic(STREET.replace("RD>", "A6>"))))),
        presence(in_device(geopriv(civic(STREET, "urn:ietf:params:xml:ns:pidf:geopriv10:civicLoc")))),
        presence(in_device(geopriv(civic(STREET.replace("A3>", "PCN>"))))),
        presence(in_device(geopriv("") + geopriv(civic()))),
        presence(in_device(geopriv(civic(STREET + "<ca:XX>new</ca:XX><!-- and --><?some thing?>")))),
        presence(in_device(geopriv(civic(STREET.replace("Lake", "La<!-- and --><?some thing?>ke"))))),
        presence(in_device(geopriv(civic())), before='<?xml version="1.0"?>').decode().encode("utf-16"),
    ],
    ids=[
        "byte-order-mark",
        "blanks",
        "street-in-A6",
        "RFC-4119",
        "postal-community",
        "second-geopriv",
        "unknown",
        "within-a-word",
        "utf-16",
    ],
)
def test_read_leniently(data: bytes) -> None:
    found = by_value(data)
    assert found.location, found.reason
    assert found.location.civic == LAKE


CIRCLE = "<gs:Circle><gml:pos>42.65 -73.75</gml:pos><gs:radius>20</gs:radius></gs:Circle>"
CORNERS = "42.6 -73.7 42.7 -73.7 42.7 -73.8 42.6 -73.8 42.6 -73.7"
RING = f"<gml:exterior><gml:LinearRing><gml:posList>{CORNERS}</gml:posList></gml:LinearRing></gml:exterior>"
COORDINATES = '<gml:Point srsName="EPSG:4326"><gml:coordinates>42.65,-73.75</gml:coordinates></gml:Point>'


@pytest.mark.parametrize("shape", [CIRCLE, f"<gml:Polygon>{RING}</gml:Polygon>", COORDINATES])
def test_shapes(shape: str) -> None:
    found = by_value(presence(in_device(geopriv(shape))))
    assert found.location, found.reason
    assert found.location.point
    assert found.location.point.latitude == pytest.approx(42.65)
    assert found.location.point.longitude == pytest.approx(-73.75)


HEIGHTS = "42.6 -73.7 36.6 42.7 -73.7 36.6 42.7 -73.8 36.6 42.6 -73.8 36.6 42.6 -73.7 36.6"
RING_3D = f"<gml:exterior><gml:LinearRing><gml:posList>{HEIGHTS}</gml:posList></gml:LinearRing></gml:exterior>"
PRISM = f"<gs:base><gml:Polygon>{RING_3D}</gml:Polygon></gs:base><gs:height>2.4</gs:height>"


@pytest.mark.parametrize(
    "shape",
    [
        f'<gs:Prism srsName="urn:ogc:def:crs:EPSG::4979">{PRISM}</gs:Prism>',
        f'<gml:Polygon srsName="urn:ogc:def:crs:EPSG::4979">{RING_3D}</gml:Polygon>',
        f'<gml:Polygon srsDimension="3">{RING_3D}</gml:Polygon>',
        f"<gml:Polygon>{RING_3D}</gml:Polygon>",
        f'<gml:Polygon srsName="http://www.opengis.net/def/crs/EPSG/0/4326">{RING}</gml:Polygon>',
        f'<gml:Polygon xmlns:gml="http://www.opengis.net/gml/3.2">{RING}</gml:Polygon>',
    ],
    ids=["prism", "polygon", "dimension", "as-it-closes", "url", "gml-3.2"],
)
def test_corners_with_heights_are_no_other_place(shape: str) -> None:
    """RFC 5491 section 5.2.8 has three numbers a corner and no srsDimension; read by twos they lie in Africa."""
    found = by_value(presence(in_device(geopriv(shape))))
    assert found.location, found.reason
    assert found.location.point
    assert found.location.point.latitude == pytest.approx(42.65)
    assert found.location.point.longitude == pytest.approx(-73.75)


def test_a_shape_in_another_reference_system_is_none() -> None:
    prism = f'<gs:Prism srsName="urn:ogc:def:crs:OGC:1.3:CRS84">{PRISM}</gs:Prism>'
    assert by_value(presence(in_device(geopriv(prism)))).reason == "location-empty"


@pytest.mark.parametrize(
    ("shape", "metres"),
    [
        (CIRCLE, 20),
        (CIRCLE.replace(">20<", ">NaN<"), 0),
        (CIRCLE.replace(">20<", "><"), 0),
        (f"<gml:Polygon>{RING}</gml:Polygon>", 6_909),
        (
            "<gs:Ellipse><gml:pos>42.65 -73.75</gml:pos><gs:semiMajorAxis>1275</gs:semiMajorAxis>"
            "<gs:semiMinorAxis>670</gs:semiMinorAxis><gs:orientation>43.2</gs:orientation></gs:Ellipse>",
            1275,
        ),
    ],
)
def test_how_far_the_caller_may_be_from_the_point(shape: str, metres: float) -> None:
    found = by_value(presence(in_device(geopriv(shape))))
    assert found.location, found.reason
    assert found.location.point
    assert found.location.point.uncertainty == pytest.approx(metres, abs=1)


def test_a_circle_as_wide_as_a_county_does_not_take_the_place_of_an_address() -> None:
    wide = CIRCLE.replace(">20<", ">50000<")
    assert by_value(presence(in_device(geopriv(wide)))).reason == "location-too-coarse"
    both = by_value(presence(in_device(geopriv(wide + civic()))))
    assert both.location
    assert (both.location.civic, both.location.point) == (LAKE, None)


@pytest.mark.parametrize(
    "first",
    [
        CIRCLE.replace(">20<", ">50000<"),
        "<gml:Point><gml:pos>0 0</gml:pos></gml:Point>",
        civic("<ca:A1>NY</ca:A1><ca:A3>Albany</ca:A3>"),
    ],
    ids=["wide-circle", "no-fix", "city-alone"],
)
def test_of_several_locations_the_first_that_is_fit_counts(first: str) -> None:
    found = by_value(presence(in_device(geopriv(first)) + in_tuple(geopriv(civic())) + in_tuple(geopriv(CIRCLE))))
    assert found.location, found.reason
    assert (found.location.civic, found.location.point) == (LAKE, None)


@pytest.mark.parametrize(
    ("elements", "changed"),
    [
        ("<ca:PRM>Old</ca:PRM><ca:PRD>N</ca:PRD>", {"street": "Old N Lake"}),
        ("<ca:PRD>N</ca:PRD>", {"pre_directional": "N"}),
        ("<ca:POM>Extended</ca:POM>", {"post_directional": "Extended"}),
        ('<e:STP xmlns:e="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext">Rue</e:STP>', {"street": "Rue Lake"}),
        (
            '<e:HNP xmlns:e="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr:ext">W64</e:HNP>',
            {"house_number": "W647"},
        ),
    ],
)
def test_no_part_of_a_street_or_house_number_is_lost(elements: str, changed: dict[str, str]) -> None:
    found = by_value(presence(in_device(geopriv(civic(STREET + elements)))))
    assert found.location
    assert found.location.civic == replace(LAKE, **changed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "location-not-xml"),
        (b"<presence", "location-not-xml"),
        (b"<presence/>", "location-empty"),
        (presence(in_device("")), "location-empty"),
        (presence(in_device(geopriv(civic("<ca:A1>NY</ca:A1><ca:A3>Albany</ca:A3>")))), "location-too-coarse"),
        (presence(in_device(geopriv(civic("<ca:ROOM>312</ca:ROOM>")))), "location-too-coarse"),
        (presence(in_device(geopriv("<gml:Point><gml:pos>0 0</gml:pos></gml:Point>"))), "location-too-coarse"),
        (presence(in_device(geopriv("<gml:Point><gml:pos>99 7</gml:pos></gml:Point>"))), "location-empty"),
        (presence(in_device(geopriv(civic())), before="<!DOCTYPE presence>"), "location-has-dtd"),
        (
            presence(
                in_device(geopriv(civic("<ca:A3>&x;</ca:A3>"))),
                before='<!DOCTYPE presence [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
            ),
            "location-has-dtd",
        ),
        (presence("<a>" * 60 + "</a>" * 60), "location-too-large"),
        (presence(in_device(geopriv(civic())) + " " * LARGEST_READ), "location-too-large"),
    ],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    found = by_value(data)
    assert found.location is None
    assert found.reason == reason


@pytest.mark.parametrize(
    ("value", "content_id"),
    [
        ("<cid:loc@example.com>;inserted-by=phone", "loc@example.com"),
        ("cid:loc@example.com", "loc@example.com"),
        ("<CID:LOC@Example.com>", "loc@example.com"),
        ("<cid:a%2Bb@example.com>", "a+b@example.com"),
        ("<cid:sip:4102@pbx.example.com>", "4102@pbx.example.com"),
        ("<cid:4102@pbx.example.com>", "sip:4102@pbx.example.com"),
        ("<cid:something-else>", "loc@example.com"),
    ],
)
def test_the_value_and_the_part_as_products_write_them(value: str, content_id: str) -> None:
    found = read_conveyed([value], [part(content_id=content_id)])
    assert found.location


def test_each_value_has_its_own_part() -> None:
    found = read_conveyed(["<cid:two@x>, <cid:one@x>"], [part(content_id="one@x"), part(POINT, content_id="two@x")])
    assert found.location
    assert found.location.point == GeoPoint(latitude=42.65, longitude=-73.75)
    assert [value.uri for value in found.values] == ["cid:two@x", "cid:one@x"]


def test_the_first_that_can_be_used_decides() -> None:
    found = read_conveyed(
        ["<cid:one@x>", "<cid:two@x>"], [part(b"<broken", content_id="one@x"), part(content_id="two@x")]
    )
    assert found.best
    assert found.best.uri == "cid:two@x"
    assert [value.reason for value in found.values] == ["location-not-xml", "conveyed-by-value"]


def test_a_value_without_its_part() -> None:
    assert read_conveyed(["<cid:gone@x>"], []).reason == "location-part-missing"


def test_a_part_that_nothing_names() -> None:
    found = read_conveyed([], [part()])
    assert found.best
    assert (found.best.uri, found.best.content_id) == ("", "loc@example.com")
    assert read_conveyed([], [part(content_id="")]).reason == "location-not-named"
    assert read_conveyed([], [part(content_type="text/plain")]) is NOTHING_CONVEYED


# References


def test_a_reference_is_asked_and_what_it_gives_is_judged() -> None:
    found = read_conveyed(["<https://lis.example.com/1>"], [])
    assert found.references == ("https://lis.example.com/1",)
    assert found.location is None
    assert found.reason == "reference-not-asked"
    good = found.answered({"https://lis.example.com/1": ReferenceAnswer(document=GOOD)})
    assert good.best
    assert good.best.location
    assert good.best.document == GOOD
    assert good.reason == "conveyed-by-reference"
    assert not good.references
    late = found.answered({"https://lis.example.com/1": ReferenceAnswer(reason="reference-late")})
    assert (late.location, late.reason, late.references) == (None, "reference-late", ())
    broken = found.answered({"https://lis.example.com/1": ReferenceAnswer(document=b"<html>")})
    assert broken.reason == "location-not-xml"


@pytest.mark.parametrize(
    "uri", ["sip:loc@lis.example.com", "pres:loc@lis.example.com", "geo:42.65,-73.75", "data:,x"]
)
def test_what_no_call_can_wait_for_is_not_asked(uri: str) -> None:
    found = read_conveyed([f"<{uri}>"], [])
    assert found.references == ()
    assert found.reason == "reference-scheme"


def test_only_what_could_decide_is_asked() -> None:
    values = ["<https://a.example/1>", "<cid:loc@example.com>", "<https://b.example/2>"]
    assert read_conveyed(values, [part()]).references == ("https://a.example/1",)
    assert read_conveyed(values[1:], [part()]).references == ()
    many = [f"<https://a.example/{number}>" for number in range(20)]
    assert len(read_conveyed(many, []).references) == 2


@given(st.lists(st.text(max_size=40), max_size=4), st.lists(st.binary(max_size=60), max_size=3))
def test_reading_never_raises(values: list[str], documents: list[bytes]) -> None:
    found = read_conveyed(values, [part(data, content_id=f"{number}@x") for number, data in enumerate(documents)])
    assert found.reason
    found.answered({uri: ReferenceAnswer() for uri in found.references})


def held_until(moment: str) -> Conveyed:
    rules = f"<gp:usage-rules><gbp:retention-expiry>{moment}</gbp:retention-expiry></gp:usage-rules>"
    policy = 'xmlns:gbp="urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy" entity="pres:caller@example.com"'
    return by_value(presence(in_device(geopriv(civic())).replace("<gp:usage-rules/>", rules), entity=policy))


def test_a_location_that_says_it_is_over_decides_only_where_nobody_sees_the_phone() -> None:
    over = held_until("2030-01-01T00:00:00Z")
    before, after = 1_893_455_999.0, 1_893_456_000.0
    assert over.location_at(before) == over.location
    seen = decide(address="10.1.3.7", conveyed=over, now=after)
    assert reasons(seen)["network"] == "won zone-network"
    lost = next(answer for answer in seen.answers if answer.source == "conveyed")
    assert (lost.outcome, lost.reason, lost.lost, lost.confidence) == ("knew", "conveyed-by-value", "in-doubt", "low")
    assert reasons(decide(address="10.1.3.7", conveyed=over, now=before))["conveyed"] == "won conveyed-by-value"
    alone = decide(conveyed=over, now=after)
    assert reasons(alone)["conveyed"] == "won conveyed-by-value", "better than the site's own address"
    assert alone.location
    assert alone.location.doubt == "location-expired"
    for nothing in ("", "tomorrow", "2030-13-01T00:00:00Z"):
        assert held_until(nothing).location_at(after) == over.location
