"""Bandwidth's E911 orders (XML, `accounts/ID/e911s`): what a device's order says, and what the answers mean.

An endpoint is told with its address and a location id of ours, which the provider then knows both by; another address
is another endpoint, and the old one is deleted once the new one stands, so that no moment has neither.
"""

from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from lxml import etree

from e911.location import CivicAddress
from e911.pidf_lo import xml_text
from e911.pidf_reader import UnreadableError, parse_document

_COUNTRIES: Final = {"US": "United States", "CA": "Canada"}
LONGEST_LINE: Final = 60
"""Characters of AddressLine2 that PSAPs show; longer ones are refused."""
LONGEST_NAME: Final = 32
"""Characters of CallerName that PSAPs show."""
_DONE: Final = frozenset({"COMPLETE", "COMPLETED", "ADJUSTED_COMPLETE"})
_FAILED: Final = frozenset({"FAILED", "PARTIAL"})
"""Of a single endpoint, partial is failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What Bandwidth is told about one device."""

    identifier: str
    """AEUI, 10 to 30 letters and digits."""
    location_id: str
    """At most 32 letters and digits."""
    callback: str
    """Ten digits."""
    name: str
    language: str
    """`en` or `fr`."""
    civic: CivicAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswer:
    """What an answer says: done, failed, or neither yet (then order names it)."""

    order: str = ""
    done: bool = False
    failed: bool = False
    words: str = ""
    is_readable: bool = True
    """False where it is no document of Bandwidth's, but a page of whoever stands before it."""


def upsert_order(endpoint: Endpoint, order: str) -> bytes:
    """The order that provisions an endpoint with its address. order: our name for it (CustomerOrderId)."""
    civic = endpoint.civic
    first, _, rest = civic.postal_code.partition("-")
    is_canadian = civic.country.upper() == "CA"
    address = "".join(
        (
            _element("LocationId", endpoint.location_id),
            _element("HouseNumber", civic.house_number),
            _element("HouseSuffix", civic.house_number_suffix),
            _element("PreDirectional", civic.pre_directional),
            _element("StreetName", civic.street),
            _element("StreetSuffix", civic.street_suffix),
            _element("PostDirectional", civic.post_directional),
            _element("AddressLine2", line_two(civic)),
            _element("City", civic.city),
            _element("StateCode", civic.state),
            _element("Zip", civic.postal_code if is_canadian else first),
            _element("PlusFour", "" if is_canadian else rest),
            _element("Country", _COUNTRIES.get(civic.country.upper(), civic.country)),
            "<AddressType>E911</AddressType>",
        )
    )
    return _order(
        order,
        "<AlternateEndUserIdentifiers><AlternateEndUserIdentifier>"
        f"{_element('CallerName', endpoint.name[:LONGEST_NAME])}<Address>{address}</Address>"
        f"{_element('CallbackNumber', endpoint.callback)}{_element('Identifier', endpoint.identifier)}"
        "<PIDFLOEnabled>true</PIDFLOEnabled>"
        f"<PreferredLanguage>{escape(endpoint.language)}</PreferredLanguage>"
        "</AlternateEndUserIdentifier></AlternateEndUserIdentifiers>",
    )


def delete_order(identifier: str, order: str) -> bytes:
    """The order that deletes an endpoint."""
    return _order(
        order,
        f"<AlternateEndUserIdentifiers><AlternateEndUserIdentifier>{_element('Identifier', identifier)}"
        "</AlternateEndUserIdentifier></AlternateEndUserIdentifiers>"
        "<DeleteTNSpecificE911Address>true</DeleteTNSpecificE911Address>",
    )


def line_two(civic: CivicAddress) -> str:
    """What goes beyond the street address, on one line."""
    words = (("building", "BLDG "), ("floor", "FLR "), ("unit", "UNIT "), ("room", "RM "), ("additional", ""))
    return " ".join(f"{word}{value}" for name, word in words if (value := getattr(civic, name)))


def read_answer(document: bytes) -> OrderAnswer:
    """What an E911OrderResponse says; words alone where it cannot be read."""
    try:
        root = parse_document(document)
    except UnreadableError as error:
        return OrderAnswer(words=f"the answer cannot be read: {error.reason}", is_readable=False)
    status = _text(root, "ProcessingStatus").upper()
    errors = [
        " ".join(filter(None, (_text(error, "Code"), _text(error, "Description")))) for error in root.iter("{*}Error")
    ]
    words = "; ".join(filter(None, errors))
    return OrderAnswer(
        order=_text(root, "orderId") or _text(root, "OrderId"),
        done=status in _DONE,
        failed=status in _FAILED,
        words=words,
    )


def _order(name: str, inner: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><E911Order>{_element("CustomerOrderId", name)}{inner}</E911Order>'
    ).encode()


def _element(name: str, value: str) -> str:
    text = xml_text(value)
    return f"<{name}>{text}</{name}>" if text else ""


def _text(root: etree._Element, name: str) -> str:
    found = next(root.iter("{*}" + name), None)
    return " ".join((found.text or "").split()) if found is not None else ""
