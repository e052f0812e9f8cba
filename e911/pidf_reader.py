"""Reading a PIDF-LO (RFC 4119, 5139, 5491) that somebody else wrote: lenient with its form, strict with its safety.

lxml with entities, DTDs and the network off, and a bound on size and depth: what is read came with a call. A
document that gives no place to send help to says why, by name (`UnreadableError.reason`, listed in docs/reasons.md).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from e911.location import CivicAddress, GeoPoint
from e911.pidf_lo import CIVIC, CIVIC_ELEMENTS, CIVIC_RFC4119, DATA_MODEL, GEOPRIV, GML, PIDF, SHAPES

LARGEST_READ = 65_536
"""Bytes; a location document is some two thousand."""
DEEPEST_READ = 40
"""Elements within one another; a location document has some ten."""

_XML_BLANKS = re.compile("[ \t\r\n]+")
_HOLDERS = (f"{{{DATA_MODEL}}}device", f"{{{PIDF}}}tuple", f"{{{DATA_MODEL}}}person", f"{{{PIDF}}}person")
_CIVIC_NAMESPACES = (CIVIC, CIVIC_RFC4119)
_CENTRED_SHAPES = (
    f"{{{GML}}}Point",
    *(f"{{{SHAPES}}}{name}" for name in ("Circle", "Ellipse", "Sphere", "Ellipsoid", "ArcBand")),
)
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


def parse_document(data: bytes) -> etree._Element:
    """The root of an XML document that came from somebody else.

    Raises UnreadableError: `location-too-large`, `location-not-xml`, or `location-has-dtd` (no location document
    has a DTD; one that does is an attack).
    """
    if len(data) > LARGEST_READ:
        raise UnreadableError("location-too-large")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, remove_comments=True
    )
    try:
        root = etree.fromstring(data.strip(b" \t\r\n\0"), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise UnreadableError("location-has-dtd" if b"<!DOCTYPE" in data else "location-not-xml") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnreadableError("location-has-dtd")
    if _is_deeper_than(root, DEEPEST_READ):
        raise UnreadableError("location-too-large")
    return root


def read_location(data: bytes) -> PidfLocation:
    """The location in a PIDF-LO document, alone or within another (a HELD locationResponse).

    The first dm:device with a location counts, then the first tuple, then dm:person (RFC 5491 rule 8), then a
    geopriv that stands nowhere of these. A6 is the street where there is no RD, as RFC 4119 had it; elements we do
    not know are passed over (RFC 6848). Raises UnreadableError; `location-empty` where there is nothing of a place.
    """
    root = parse_document(data)
    for element, geopriv in _geoprivs(root):
        civic, occupant = _read_civic(geopriv)
        point = _read_point(geopriv)
        if civic or point:
            presence = next(element.iterancestors(f"{{{PIDF}}}presence"), root)
            return PidfLocation(
                civic=civic,
                point=point,
                occupant=occupant,
                method=_content(geopriv.find(f"{{{GEOPRIV}}}method")),
                provided_by=_content(geopriv.find(f"{{{GEOPRIV}}}provided-by")),
                entity=str(presence.get("entity", "")),
                device_id=_content(element.find(f"{{{DATA_MODEL}}}deviceID")),
                updated_at=_timestamp(element),
            )
    raise UnreadableError("location-empty")


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
            prefix = f"{{{namespace}}}"
            found: dict[str, str] = {}
            for child in address:
                if isinstance(child.tag, str) and child.tag.startswith(prefix):
                    text = _XML_BLANKS.sub(" ", child.text or "").strip(" ")
                    if text:
                        found.setdefault(child.tag.removeprefix(prefix), text)
            if "RD" not in found and "A6" in found:
                found["RD"] = found["A6"]
            values = {field: found[element] for element, field in CIVIC_ELEMENTS if element in found}
            if "city" not in values and "PCN" in found:
                values["city"] = found["PCN"]
            occupant = values.pop("occupant", "")
            if values or occupant:
                return CivicAddress(**values), occupant
    return None, ""


def _read_point(geopriv: etree._Element) -> GeoPoint | None:
    for shape in geopriv.iter(*_CENTRED_SHAPES):
        if not _is_wgs84(shape):
            continue
        position = shape.find(f"{{{GML}}}pos")
        coordinates = shape.find(f"{{{GML}}}coordinates")  # GML 2, and old documents
        text = position.text if position is not None else coordinates.text if coordinates is not None else ""
        point = _point((text or "").replace(",", " ").split())
        if point is not None:
            return point
    for polygon in geopriv.iter(f"{{{GML}}}Polygon"):
        if _is_wgs84(polygon):
            point = _centre(list(_corners(polygon)))
            if point is not None:
                return point
    return None


def _is_wgs84(shape: etree._Element) -> bool:
    """True for latitude before longitude; other reference systems may put it second: no guessing."""
    return str(shape.get("srsName", "EPSG::4326")).rpartition(":")[2] in ("4326", "4979")


def _corners(polygon: etree._Element) -> Iterator[GeoPoint]:
    ring = polygon.find(f".//{{{GML}}}LinearRing")
    if ring is None:
        return
    for position in ring.iter(f"{{{GML}}}pos"):
        point = _point((position.text or "").split())
        if point is not None:
            yield point
    for listed in ring.iter(f"{{{GML}}}posList"):
        numbers = (listed.text or "").split()
        size = 3 if listed.get("srsDimension") == "3" else 2
        for start in range(0, len(numbers), size):
            point = _point(numbers[start : start + size])
            if point is not None:
                yield point


def _centre(corners: Sequence[GeoPoint]) -> GeoPoint | None:
    different = list(dict.fromkeys(corners))  # the last corner repeats the first
    if len(different) < 3:
        return None
    return GeoPoint(
        latitude=sum(corner.latitude for corner in different) / len(different),
        longitude=sum(corner.longitude for corner in different) / len(different),
    )


def _point(numbers: Sequence[str]) -> GeoPoint | None:
    """A point; None for what is no number or is out of range."""
    try:
        return GeoPoint(latitude=float(numbers[0]), longitude=float(numbers[1]))
    except (IndexError, ValueError):
        return None


def _timestamp(element: etree._Element) -> float:
    for name in (f"{{{DATA_MODEL}}}timestamp", f"{{{PIDF}}}timestamp"):
        found = element.find(name)
        match = _DATE_TIME.fullmatch((found.text or "").strip()) if found is not None else None
        if match:
            try:
                zone = match[7] or "Z"
                return datetime.fromisoformat(f"{match[0][:19]}{'+00:00' if zone == 'Z' else zone}").timestamp()
            except (ValueError, OverflowError):
                return 0.0
    return 0.0
