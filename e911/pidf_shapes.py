"""Shapes in location documents (RFC 5491 section 5): where help is sent, and how far from there the caller may be."""

from collections.abc import Sequence
from math import cos, hypot, isnan, radians

from lxml import etree

from e911.location import GeoPoint
from e911.pidf_lo import GML, SHAPES

_GML = (GML, "http://www.opengis.net/gml/3.2")
_CENTRED = tuple(
    [f"{{{namespace}}}Point" for namespace in _GML]
    + [f"{{{SHAPES}}}{name}" for name in ("Circle", "Ellipse", "Sphere", "Ellipsoid", "ArcBand")]
)
_SIZES = ("radius", "semiMajorAxis", "semiMinorAxis", "verticalAxis", "outerRadius")
"""What says how far from its centre a shape reaches; the largest counts."""
_FLAT, _WITH_HEIGHT = "4326", "4979"
_METRES_PER_DEGREE = 111_320.0


def read_point(geopriv: etree._Element) -> GeoPoint | None:
    """The point, or the centre of a shape (of a polygon: of its corners), with what it is uncertain by; else None.

    Only of WGS 84, latitude before longitude; other reference systems may put it second: no guessing.
    """
    for shape in geopriv.iter(*_CENTRED):
        if not _reference_system(shape):
            continue
        position = next(iter(_children(shape, "pos")), None)
        if position is None:
            position = next(iter(_children(shape, "coordinates")), None)  # GML 2, and old documents
        text = (position.text or "") if position is not None else ""
        point = _point(text.replace(",", " ").split(), _uncertainty(shape))
        if point is not None:
            return point
    for polygon in geopriv.iter(*(f"{{{namespace}}}Polygon" for namespace in _GML)):
        ring = next(polygon.iter(*(f"{{{namespace}}}LinearRing" for namespace in _GML)), None)
        if ring is not None and _reference_system(ring):
            point = _centre(_corners(ring))
            if point is not None:
                return point
    return None


def _children(element: etree._Element, name: str) -> list[etree._Element]:
    return [found for namespace in _GML for found in element.iter(f"{{{namespace}}}{name}")]


def _inherited(element: etree._Element, name: str) -> str:
    """An attribute of the element, else of what it stands in: a prism says it for its base."""
    for holder in (element, *element.iterancestors()):
        value = holder.get(name)
        if value:
            return str(value)
    return ""


def _reference_system(element: etree._Element) -> str:
    """The EPSG code of what has latitude first, however it is written; where nothing is said, the usual one."""
    said = _inherited(element, "srsName") or _FLAT
    code = said.replace("/", ":").replace("#", ":").rpartition(":")[2]
    return code if code in (_FLAT, _WITH_HEIGHT) else ""


def _uncertainty(shape: etree._Element) -> float:
    """Metres (EPSG 9001, the one unit of RFC 5491); 0 for a point, or where it cannot be read."""
    sizes = [0.0]
    for name in _SIZES:
        found = shape.find(f"{{{SHAPES}}}{name}")
        try:
            size = float(found.text or "") if found is not None else 0.0
        except ValueError:
            continue
        if not isnan(size):
            sizes.append(size)
    return max(sizes)


def _corners(ring: etree._Element) -> list[GeoPoint]:
    found = [_point((position.text or "").split()) for position in _children(ring, "pos")]
    for listed in _children(ring, "posList"):
        numbers = (listed.text or "").split()
        size = _numbers_per_corner(listed, numbers)
        found += [_point(numbers[start : start + size]) for start in range(0, len(numbers), size)]
    return [corner for corner in found if corner is not None]


def _numbers_per_corner(listed: etree._Element, numbers: Sequence[str]) -> int:
    """Two, or three with a height: as it is said, else as the ring closes (RFC 5491's own prism says nothing)."""
    said = _inherited(listed, "srsDimension")
    if said in ("2", "3"):
        return int(said)
    likely = (3, 2) if _reference_system(listed) == _WITH_HEIGHT else (2, 3)
    for size in likely:
        if len(numbers) % size == 0 and numbers[:size] == numbers[-size:]:
            return size
    return next((size for size in likely if len(numbers) % size == 0), likely[0])


def _centre(corners: Sequence[GeoPoint]) -> GeoPoint | None:
    different = list(dict.fromkeys(corners))  # the last corner repeats the first
    if len(different) < 3:
        return None
    latitude = sum(corner.latitude for corner in different) / len(different)
    longitude = sum(corner.longitude for corner in different) / len(different)
    east = _METRES_PER_DEGREE * cos(radians(latitude))
    reach = max(
        hypot((corner.latitude - latitude) * _METRES_PER_DEGREE, (corner.longitude - longitude) * east)
        for corner in different
    )
    return GeoPoint(latitude=latitude, longitude=longitude, uncertainty=reach)


def _point(numbers: Sequence[str], uncertainty: float = 0.0) -> GeoPoint | None:
    """A point; None for what is no number or is out of range."""
    try:
        return GeoPoint(latitude=float(numbers[0]), longitude=float(numbers[1]), uncertainty=uncertainty)
    except (IndexError, ValueError):
        return None
