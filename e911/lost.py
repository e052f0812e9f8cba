"""LoST (RFC 5222): asking a location validation function (LVF) whether it knows an address, and what it answers.

A findService request with validateLocation="true" (section 8.4.2). The answer sorts the address's elements into
valid, invalid and unchecked. An address is called valid only where nothing is invalid and city, street and house
number, as far as they were asked about, were all found valid: who looks no further than the state knows no door.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from lxml import etree

from e911.location import CivicAddress
from e911.pidf_lo import CIVIC, CIVIC_ELEMENTS, xml_text
from e911.pidf_reader import UnreadableError, parse_document

LOST: Final = "urn:ietf:params:xml:ns:lost1"
LOST_TYPE: Final = "application/lost+xml"
SERVICE: Final = "urn:service:sos"
NOT_VALIDATED: Final = "not validated"

_DECIDING: Final = ("country", "A1", "A3", "PRD", "RD", "STS", "POD", "HNO")
_ABOUT_THE_ADDRESS: Final = frozenset({"locationInvalid", "notFound"})
"""LoST errors (section 13.1) that say something of the address; the others are the server's own trouble."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")
_MOST_NAMES = 64
_LONGEST_WORDS = 200
_COUNTRY = re.compile("[A-Za-z]{2}")


class LostError(Exception):
    """The server gave no answer about the address: reason (docs/reasons.md), and words that name what is wrong."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a server said of an address: names of civic elements (RFC 5139) and its warnings."""

    valid: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    """Those that decide and that the server did not call valid or invalid."""
    error: str = ""
    """`locationInvalid` or `notFound`, in place of lists."""
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As it is kept: `valid`, `invalid: A3, HNO`, `invalid`, `unknown: HNO` (not checked), `unknown`."""
        if self.invalid or self.error == "locationInvalid":
            return f"invalid: {', '.join(self.invalid)}" if self.invalid else "invalid"
        if self.unchecked:
            return f"unknown: {', '.join(self.unchecked)}"
        return "valid" if self.valid else "unknown"


class Validated(NamedTuple):
    """What was said of an address, and when."""

    validation: str
    """`valid`, `invalid: HNO`, `unknown: HNO`."""
    validated_at: float
    """Seconds since 1970."""


ValidatedAddresses = Mapping[CivicAddress, Validated]
"""By street address (CivicAddress.as_street_address)."""
NONE_VALIDATED: Final[ValidatedAddresses] = {}


def validation_request(civic: CivicAddress, service: str = SERVICE) -> bytes:
    """The findService document for an address, valid against the schema of RFC 5222; the same input, the same bytes.

    Raises ValueError where the address says too little to be asked about (no country of two letters, no city).
    """
    if not _COUNTRY.fullmatch(civic.country):
        raise ValueError("no country of two letters (US, CA)")
    if not civic.has_street_address:
        raise ValueError("no city with a street")
    address = "".join(f"<{element}>{text}</{element}>" for element, text in _given(civic))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><findService xmlns="{LOST}" recursive="true" validateLocation="true" '
        'serviceBoundary="reference"><location id="address" profile="civic">'
        f'<civicAddress xmlns="{CIVIC}">{address}</civicAddress></location><service>{xml_text(service)}</service>'
        "</findService>"
    ).encode()


def _given(civic: CivicAddress) -> Iterator[tuple[str, str]]:
    for element, name in CIVIC_ELEMENTS:
        if name != "occupant" and (text := xml_text(getattr(civic, name))):
            yield element, text.upper() if element == "country" else text


def read_answer(data: bytes, asked: CivicAddress) -> Validation:
    """What the answer says of the address that was asked about.

    Raises LostError: `lvf-too-large`, `lvf-unreadable`, `lvf-redirects`, `lvf-refused`. Its words name the element.
    """
    try:
        root = parse_document(data)
    except UnreadableError as error:
        reason = "lvf-too-large" if error.reason == "location-too-large" else "lvf-unreadable"
        raise LostError(reason, _UNREADABLE[error.reason]) from None
    if root.tag == _lost("redirect"):
        raise LostError("lvf-redirects", f"redirect: to {_plain(root.get('target', ''))}, which is not asked")
    if root.tag == _lost("errors"):
        return _of_errors(root)
    if root.tag != _lost("findServiceResponse"):
        raise LostError("lvf-unreadable", f"{_plain(_local(root))}: not a findServiceResponse")
    warnings = tuple(_told(child) for child in root.findall(f"{_lost('warnings')}/*") if isinstance(child.tag, str))
    validations = root.findall(_lost("locationValidation"))
    if len(validations) > 1:
        raise LostError("lvf-unreadable", "locationValidation: there are several")
    if not validations:
        said = f" ({warnings[0]})" if warnings else ""
        raise LostError("lvf-refused", f"locationValidation: missing, the server validated nothing{said}")
    valid, invalid = (_names(validations[0], name) for name in ("valid", "invalid"))
    valid = tuple(name for name in valid if name not in invalid)
    given = {element for element, _ in _given(asked)}
    unchecked = tuple(name for name in _DECIDING if name in given and name not in valid and name not in invalid)
    return Validation(valid=valid, invalid=invalid, unchecked=unchecked, warnings=warnings)


def validation_words(validation: str, at: float) -> str:
    """For people: `not validated`, `valid on 2026-11-27`, `invalid on 2026-11-27: HNO`. at: seconds since 1970."""
    if not validation:
        return NOT_VALIDATED
    try:
        day = f" on {datetime.fromtimestamp(at, UTC):%Y-%m-%d}" if at > 0 else ""
    except (ValueError, OverflowError, OSError):
        day = ""
    verdict, colon, names = validation.partition(":")
    return f"{verdict}{day}{colon}{names}"


_UNREADABLE: Final = {
    "location-too-large": "the document is larger or deeper than any answer",
    "location-not-xml": "the document is not XML",
    "location-has-dtd": "DOCTYPE: no answer has one",
}


def _of_errors(root: etree._Element) -> Validation:
    children = [child for child in root if isinstance(child.tag, str)]
    if not children:
        raise LostError("lvf-unreadable", "errors: empty")
    codes = {_local(child) for child in children}
    if codes <= _ABOUT_THE_ADDRESS:
        return Validation(error="locationInvalid" if "locationInvalid" in codes else "notFound")
    raise LostError(
        "lvf-refused", next(_told(child) for child in children if _local(child) not in _ABOUT_THE_ADDRESS)
    )


def _names(validation: etree._Element, name: str) -> tuple[str, ...]:
    """A list of QNames: the local names, each once, in their order."""
    found: dict[str, None] = {}
    for element in validation.findall(_lost(name)):
        for word in (element.text or "").split():
            local = word.rpartition(":")[2]
            if not _NAME.fullmatch(local):
                raise LostError("lvf-unreadable", f"{name}: {_plain(word)!r} is not the name of an element")
            found[local] = None
    if len(found) > _MOST_NAMES:
        raise LostError("lvf-unreadable", f"{name}: more than {_MOST_NAMES} names")
    return tuple(found)


def _told(element: etree._Element) -> str:
    message = _plain(element.get("message", ""))
    return f"{_plain(_local(element))}: {message}" if message else _plain(_local(element))


def _plain(text: str) -> str:
    """Words of somebody else, fit for a terminal and a log."""
    return "".join(char if char.isprintable() else " " for char in text)[:_LONGEST_WORDS].strip()


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _lost(name: str) -> str:
    return f"{{{LOST}}}{name}"
