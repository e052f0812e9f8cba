"""Answering a HELD location dereference (RFC 5985, RFC 6753): what is asked for, and the answer, as bytes.

Errors of HELD itself travel in a 200 (RFC 5985 section 8.1); who carries them over HTTP decides about its statuses.
"""

from dataclasses import dataclass
from typing import Final

from lxml import etree

from e911.pidf_lo import CIVIC, CIVIC_RFC4119, GEOPRIV, GML, SHAPES
from e911.pidf_reader import UnreadableError, parse_document

HELD: Final = "urn:ietf:params:xml:ns:geopriv:held"
HELD_TYPE: Final = "application/held+xml"
PIDF_TYPE: Final = "application/pidf+xml"
_TYPES: Final = {"civic": (CIVIC, CIVIC_RFC4119), "geodetic": (GML, SHAPES)}
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'


class HeldError(Exception):
    """The request cannot be answered; code is one of RFC 5985 section 6.3."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a locationRequest asks for. types: among any, civic, geodetic, locationURI; exact: those, or an error."""

    types: frozenset[str] = frozenset({"any"})
    exact: bool = False


ANYTHING: Final = Wanted()
"""What a plain GET asks for (RFC 6753 section 4.2)."""


def read_request(data: bytes) -> Wanted:
    """What a locationRequest document asks for. Raises HeldError: xmlError, unsupportedMessage, requestError.

    Who asks, and in which time, does not matter here: the reference says whose location it is.
    """
    try:
        root = parse_document(data)
    except UnreadableError as error:
        raise HeldError("xmlError", f"the request cannot be read: {error.reason}") from None
    if root.tag != f"{{{HELD}}}locationRequest":
        raise HeldError("unsupportedMessage", "only a locationRequest is answered here")
    element = root.find(f"{{{HELD}}}locationType")
    if element is None:
        return ANYTHING
    types = frozenset((element.text or "").split())
    if not types or not types <= {"any", "civic", "geodetic", "locationURI"}:
        raise HeldError("requestError", "locationType is a list of any, civic, geodetic, locationURI")
    exact = element.get("exact", "false").strip()
    if exact not in ("true", "false", "1", "0"):
        raise HeldError("requestError", "exact is true or false")
    return Wanted(types=types, exact=exact in ("true", "1"))


def location_of(document: bytes, wanted: Wanted) -> bytes:
    """The PIDF-LO that answers a request. Raises HeldError cannotProvideLiType where exactly that is not there."""
    if not wanted.exact or "any" in wanted.types:
        return document
    root = parse_document(document)
    namespaces = {one for name in wanted.types for one in _TYPES.get(name, ())}
    found: set[str] = set()
    for info in root.iter(f"{{{GEOPRIV}}}location-info"):
        for child in list(info):
            namespace = etree.QName(child).namespace or ""
            if namespace in namespaces:
                found |= {name for name, known in _TYPES.items() if namespace in known}
            else:
                info.remove(child)
    if found != wanted.types:
        missing = ", ".join(sorted(wanted.types - found))
        raise HeldError("cannotProvideLiType", f"not known of this caller: {missing}")
    return etree.tostring(root, encoding="UTF-8", xml_declaration=False)


def location_response(location: bytes) -> bytes:
    """The locationResponse around a PIDF-LO document."""
    body = location.removeprefix(_DECLARATION)
    if body.lstrip().startswith((b"<?", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):  # of an encoding of its own
        body = etree.tostring(parse_document(location), encoding="UTF-8", xml_declaration=False)
    return b'%b<locationResponse xmlns="%b">%b</locationResponse>' % (_DECLARATION, HELD.encode(), body.strip())


def error_response(code: str, message: str) -> bytes:
    """The error document."""
    root = etree.Element(f"{{{HELD}}}error", nsmap={None: HELD})  # type: ignore[dict-item]  # None is the default namespace
    root.set("code", code)
    words = etree.SubElement(root, f"{{{HELD}}}message")
    words.set("{http://www.w3.org/XML/1998/namespace}lang", "en")
    words.text = message
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def prefers_bare_document(accept: str) -> bool:
    """True where an Accept field would rather have the PIDF-LO by itself than within a locationResponse."""
    weights = {HELD_TYPE: -1.0, PIDF_TYPE: -1.0}
    general = -1.0
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if kind in weights:
            weights[kind] = weight
        elif kind in ("*/*", "application/*"):
            general = max(general, weight)
    held = weights[HELD_TYPE] if weights[HELD_TYPE] >= 0 else general
    return weights[PIDF_TYPE] > max(held, 0.0)
