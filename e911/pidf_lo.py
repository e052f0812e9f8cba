"""PIDF-LO (RFC 4119, 5139, 5491): the location document written into an emergency INVITE.

String building over a cached part, because it happens on every 911 call. Reading is e911.pidf_reader's.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1
from math import isfinite
from operator import attrgetter
from urllib.parse import quote
from uuid import NAMESPACE_URL
from xml.sax.saxutils import escape

from e911.location import DispatchableLocation, GeoPoint

PIDF = "urn:ietf:params:xml:ns:pidf"
DATA_MODEL = "urn:ietf:params:xml:ns:pidf:data-model"
GEOPRIV = "urn:ietf:params:xml:ns:pidf:geopriv10"
BASIC_POLICY = "urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
CIVIC = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
CIVIC_RFC4119 = "urn:ietf:params:xml:ns:pidf:geopriv10:civicLoc"
GML = "http://www.opengis.net/gml"
SHAPES = "http://www.opengis.net/pidflo/1.0"
PROVIDED_BY = "urn:edge911:provided-by"
"""Our namespace within gp:provided-by, which takes any foreign content (RFC 4119 section 2.2.1)."""

CIVIC_ELEMENTS: tuple[tuple[str, str], ...] = (
    ("country", "country"),
    ("A1", "state"),
    ("A2", "county"),
    ("A3", "city"),
    ("PRD", "pre_directional"),
    ("RD", "street"),
    ("STS", "street_suffix"),
    ("POD", "post_directional"),
    ("HNO", "house_number"),
    ("HNS", "house_number_suffix"),
    ("LMK", "landmark"),
    ("LOC", "additional"),
    ("FLR", "floor"),
    ("NAM", "occupant"),
    ("PC", "postal_code"),
    ("BLD", "building"),
    ("UNIT", "unit"),
    ("ROOM", "room"),
)
"""Element and field, in the order of the RFC 5139 schema, which is a sequence."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML_BLANKS = re.compile("[ \t\r\n]+")
_COUNTRY = re.compile("[A-Z]{2}")
_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_URI = re.compile("(?:pres|sips?|tel|im|urn|mac):[^/].*", re.IGNORECASE | re.DOTALL)
_NAMESPACE = NAMESPACE_URL.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
_USUAL_URI = re.compile(r"(?:sip|pres):[+0-9A-Za-z]+@[0-9A-Za-z.-]+")
_NO_ENTITY = "pres:anonymous@anonymous.invalid"
_BEFORE_ENTITY = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    f'<presence xmlns="{PIDF}" xmlns:dm="{DATA_MODEL}" xmlns:gp="{GEOPRIV}" xmlns:gbp="{BASIC_POLICY}"'
    f' xmlns:ca="{CIVIC}" xmlns:gml="{GML}" entity="'
)


def build_pidf_lo(
    *, location: DispatchableLocation, entity: str, device_id: str, timestamp: float, provided_by: str
) -> bytes:
    """The location as a PIDF-LO document, UTF-8, packed, valid against the schemas.

    `entity` is the presentity's URI (pres: or sip:). `device_id` becomes dm:deviceID: a URI stays, anything
    else becomes the URN of a UUID derived from it and `provided_by`. `timestamp` is seconds since 1970, of
    the document. `provided_by` names who says so (RFC 6881 SP-20). Never raises; the same input gives the
    same bytes.
    """
    source = location.source._value_  # a plain attribute, where value is a function
    seconds = int(timestamp) if isfinite(timestamp) else 0
    return (
        f'{_BEFORE_ENTITY}{_uri(entity)}"><dm:device id="caller"><gp:geopriv>{_location(location)}'
        f'<gp:provided-by><by:source xmlns:by="{PROVIDED_BY}" by="{source}">{xml_text(provided_by)}</by:source>'
        f"</gp:provided-by></gp:geopriv><dm:deviceID>{_device_urn(device_id, provided_by)}</dm:deviceID>"
        f"<dm:timestamp>{_date_time(seconds)}</dm:timestamp></dm:device></presence>"
    ).encode()


def _location(location: DispatchableLocation) -> str:
    """From gp:location-info to gp:method.

    The point comes before the civic address: RFC 5491 section 3.4 wants the coarser of two in one
    location-info first, its example a geodetic shape before the civic address with the floor.
    """
    parts = ["<gp:location-info>"]
    if location.point:
        parts.append(_shape(location.point))
    civic = _civic(location)
    if civic:
        parts.append(f"<ca:civicAddress>{civic}</ca:civicAddress>")
    parts.append(
        "</gp:location-info>"
        "<gp:usage-rules><gbp:retransmission-allowed>true</gbp:retransmission-allowed></gp:usage-rules>"
        + (f"<gp:method>{xml_text(location.method)}</gp:method>" if location.method else "")
    )
    return "".join(parts)


def _shape(point: GeoPoint) -> str:
    """A point, or the circle that the caller is within (RFC 5491 section 5.2.3): no more precise than it is known."""
    latitude, longitude = (_degrees(value) for value in (point.latitude, point.longitude))
    position = f"<gml:pos>{latitude} {longitude}</gml:pos>"
    if not point.uncertainty:
        return f'<gml:Point srsName="urn:ogc:def:crs:EPSG::4326">{position}</gml:Point>'
    return (
        f'<gs:Circle xmlns:gs="{SHAPES}" srsName="urn:ogc:def:crs:EPSG::4326">{position}'
        f'<gs:radius uom="urn:ogc:def:uom:EPSG::9001">{point.uncertainty:.1f}</gs:radius></gs:Circle>'
    )


_OPENED = tuple([f"<ca:{element}>" for element, _ in CIVIC_ELEMENTS])
_CLOSED = tuple([f"</ca:{element}>" for element, _ in CIVIC_ELEMENTS])
_OCCUPANT = [name for _, name in CIVIC_ELEMENTS].index("occupant")
_given = attrgetter(*[name for _, name in CIVIC_ELEMENTS if name != "occupant"])
_PLAIN_TEXT = "[0-9A-Za-z]+(?: [0-9A-Za-z]+)*"
_PLAIN = re.compile(_PLAIN_TEXT)
_ALL_PLAIN = re.compile(f"(?:{_PLAIN_TEXT})?(?:\n(?:{_PLAIN_TEXT})?){{{len(CIVIC_ELEMENTS) - 1}}}")
"""All values of an address, joined by line breaks: one look does for nearly every address."""


def _civic(location: DispatchableLocation) -> str:
    values = list(_given(location.civic))
    values.insert(_OCCUPANT, location.occupant)
    country = xml_text(values[0]).upper()
    values[0] = country if _COUNTRY.fullmatch(country) else ""
    if not _ALL_PLAIN.fullmatch("\n".join(values)):
        values = [value if _PLAIN.fullmatch(value) else _escaped_xml_text(value) for value in values]
    return "".join(
        [opened + text + closed for opened, text, closed in zip(_OPENED, values, _CLOSED, strict=True) if text]
    )


def xml_text(value: str) -> str:
    """Text as an xs:token: what XML 1.0 cannot hold removed, blanks collapsed, markup escaped."""
    if value.isalnum() and value.isascii():
        return value
    return _escaped_xml_text(value)


@lru_cache(maxsize=8192)
def _escaped_xml_text(value: str) -> str:
    return escape(_XML_BLANKS.sub(" ", _NOT_XML.sub("", value)).strip(" "))


def _uri(value: str) -> str:
    """Text as an xs:anyURI within double quotes: whatever a URI cannot hold is %-escaped; ours where none."""
    return value if _USUAL_URI.fullmatch(value) else _escaped_uri(value)


@lru_cache(maxsize=8192)
def _escaped_uri(value: str) -> str:
    if not _URI.fullmatch(value):
        return _NO_ENTITY
    safe = quote(_BARE_PERCENT.sub("%25", value), safe="%:/?@!$'()*+,;=&", errors="replace")
    return escape(safe, {"'": "&apos;"})


def _device_urn(device_id: str, scope: str) -> str:
    # Not kept: hardly a device calls 911 twice, and to keep and forget costs as much as the hash.
    if ":" in device_id and _URI.fullmatch(device_id):
        return _uri(device_id)
    name = f"{scope}/{device_id}".encode(errors="replace")
    # RFC 9562 section 5.5, by hand: uuid.uuid5 costs as much as the rest of the document.
    digest = sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[digest[16]]
    return f"urn:uuid:{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


@lru_cache(maxsize=64)
def _date_time(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _degrees(value: float) -> str:
    """Seven decimals (a centimetre), no exponent, no needless zeros."""
    text = f"{value:.7f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
