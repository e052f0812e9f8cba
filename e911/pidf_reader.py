"""Reading a PIDF-LO (RFC 4119, 5139, 5491) that somebody else wrote: lenient with its form, strict with its safety.

lxml with entities, DTDs and the network off, and a bound on size and depth: what is read came with a call. A
document that gives no place to send help to says why, by name (`UnreadableError.reason`, listed in docs/reasons.md).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from e911.location import CivicAddress, GeoPoint
from e911.pidf_lo import BASIC_POLICY, CIVIC, CIVIC_ELEMENTS, CIVIC_RFC4119, DATA_MODEL, GEOPRIV, PIDF
from e911.pidf_shapes import read_point as read_shape

LARGEST_READ = 65_536
"""Bytes; a location document is some two thousand."""
DEEPEST_READ = 40
"""Elements within one another; a location document has some ten."""

MOST_LOCATIONS = 8
"""Of one document that are looked at."""

_XML_BLANKS = re.compile("[ \t\r\n]+")
_HOLDERS = (f"{{{DATA_MODEL}}}device", f"{{{PIDF}}}tuple", f"{{{DATA_MODEL}}}person", f"{{{PIDF}}}person")
_CIVIC_NAMESPACES = (CIVIC, CIVIC_RFC4119)
_CIVIC_EXTENSION = f"{CIVIC}:ext"
"""RFC 6848: prefix of the house number, type of a street before its name."""
_DATE_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?")


class UnreadableError(Exception):
    """A document gives no place that could be used; reason names why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PidfLocation:
    """What a PIDF-LO says, as far as we read it; empty or None where it does not say."""

    civic: CivicAddress | None
    point: GeoPoint | None
    """Of a point, or the centre of a shape (of a polygon: of its corners)."""
    occupant: str = ""
    method: str = ""
    provided_by: str = ""
    entity: str = ""
    device_id: str = ""
    updated_at: float = 0.0
    """The document's timestamp, seconds since 1970; 0 where it has none."""
    expires_at: float = 0.0
    """Its retention-expiry (RFC 4119 section 2.2.2), likewise."""


def parse_document(data: bytes) -> etree._Element:
    """The root of an XML document that came from somebody else.

    Raises UnreadableError: `location-too-large`, `location-not-xml`, or `location-has-dtd` (no location document
    has a DTD; one that does is an attack).
    """
    if len(data) > LARGEST_READ:
        raise UnreadableError("location-too-large")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16: every other byte of it is a zero
        root = etree.fromstring(data if wide else data.strip(b" \t\r\n\0"), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise UnreadableError("location-has-dtd" if b"<!DOCTYPE" in data else "location-not-xml") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnreadableError("location-has-dtd")
    if _is_deeper_than(root, DEEPEST_READ):
        raise UnreadableError("location-too-large")
    return root


def read_location(data: bytes) -> PidfLocation:
    """The location in a PIDF-LO document, alone or within another (a HELD locationResponse): the first of
    `read_locations`."""
    return read_locations(data)[0]


def read_locations(data: bytes) -> list[PidfLocation]:
    """Every location in a PIDF-LO document, in the order in which they count; at least one.

    First dm:device, then tuples, then dm:person (RFC 5491 rule 8), then a geopriv that stands nowhere of these. A6 is
    the street where there is no RD, as RFC 4119 had it; elements we do not know are passed over (RFC 6848). Raises
    UnreadableError; `location-empty` where there is nothing of a place.
    """
    root = parse_document(data)
    found: list[PidfLocation] = []
    for element, geopriv in _geoprivs(root):
        civic, occupant = _read_civic(geopriv)
        point = read_shape(geopriv)
        if civic or point:
            presence = next(element.iterancestors(f"{{{PIDF}}}presence"), root)
            found.append(
                PidfLocation(
                    civic=civic,
                    point=point,
                    occupant=occupant,
                    method=_content(geopriv.find(f"{{{GEOPRIV}}}method")),
                    provided_by=_content(geopriv.find(f"{{{GEOPRIV}}}provided-by")),
                    entity=str(presence.get("entity", "")),
                    device_id=_content(element.find(f"{{{DATA_MODEL}}}deviceID")),
                    updated_at=_timestamp(element),
                    expires_at=_seconds(geopriv.find(f".//{{{BASIC_POLICY}}}retention-expiry")),
                )
            )
            if len(found) >= MOST_LOCATIONS:
                break
    if not found:
        raise UnreadableError("location-empty")
    return found


def read_pidf_lo(pidf: bytes) -> PidfLocation | None:
    """The location in a PIDF-LO document, or None where it holds none or cannot be read. Never raises."""
    try:
        return read_location(pidf)
    except UnreadableError:
        return None


def read_civic(pidf: bytes) -> CivicAddress | None:
    """The civic address in a PIDF-LO document, or None. Never raises."""
    found = read_pidf_lo(pidf)
    return found.civic if found else None


def read_point(pidf: bytes) -> GeoPoint | None:
    """The point (or centre) in a PIDF-LO document, or None. Never raises."""
    found = read_pidf_lo(pidf)
    return found.point if found else None


def _is_deeper_than(root: etree._Element, limit: int) -> bool:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > limit:
            return True
    return False


def _geoprivs(root: etree._Element) -> Iterator[tuple[etree._Element, etree._Element]]:
    """Every geopriv with the device, tuple or person that holds it, in the order in which they count."""
    for holder in _HOLDERS:
        for element in root.iter(holder):
            for geopriv in element.iter(f"{{{GEOPRIV}}}geopriv"):
                yield element, geopriv
    for geopriv in root.iter(f"{{{GEOPRIV}}}geopriv"):
        yield geopriv, geopriv


def _content(element: etree._Element | None) -> str:
    """All text within an element, blanks collapsed."""
    if element is None:
        return ""
    return " ".join(" ".join(str(text) for text in element.itertext()).split())


def _read_civic(geopriv: etree._Element) -> tuple[CivicAddress | None, str]:
    for namespace in _CIVIC_NAMESPACES:
        for address in geopriv.iter(f"{{{namespace}}}civicAddress"):
            found: dict[str, str] = {}
            for child in address:
                space, _, name = str(child.tag)[1:].rpartition("}")
                if space in (namespace, _CIVIC_EXTENSION):
                    text = _XML_BLANKS.sub(" ", child.text or "").strip(" ")
                    if text:
                        found.setdefault(name, text)
            _put_together(found)
            values = {field: found[element] for element, field in CIVIC_ELEMENTS if element in found}
            occupant = values.pop("occupant", "")
            if values or occupant:
                return CivicAddress(**values), occupant
    return None, ""


def _put_together(found: dict[str, str]) -> None:
    """What we keep no field for goes to the part that it changes: Old Main ST is not Main ST, W6422 is not 6422.

    The order of a street's parts is that of RFC 5139 section 3.4: PRM PRD STP RD STS POD POM.
    """
    if "RD" not in found and "A6" in found:
        found["RD"] = found["A6"]
    if "A3" not in found and "PCN" in found:
        found["A3"] = found["PCN"]
    if "RD" in found:
        before = [found.pop("PRM"), found.pop("PRD", "")] if "PRM" in found else []
        found["RD"] = " ".join(filter(None, [*before, found.get("STP", ""), found["RD"]]))
        if "POM" in found:
            found["POD"] = " ".join(filter(None, [found.get("POD", ""), found["POM"]]))
    if "HNO" in found:
        found["HNO"] = found.get("HNP", "") + found["HNO"]


def _timestamp(element: etree._Element) -> float:
    return _seconds(element.find(f"{{{DATA_MODEL}}}timestamp")) or _seconds(element.find(f"{{{PIDF}}}timestamp"))


def _seconds(element: etree._Element | None) -> float:
    """A dateTime as seconds since 1970; 0 where there is none that can be read."""
    match = _DATE_TIME.fullmatch((element.text or "").strip()) if element is not None else None
    if match is None:
        return 0.0
    try:
        zone = match[7] or "Z"
        return datetime.fromisoformat(f"{match[0][:19]}{'+00:00' if zone == 'Z' else zone}").timestamp()
    except (ValueError, OverflowError):
        return 0.0
