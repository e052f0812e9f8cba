"""What may stand in one column of a registered device, and which columns must fit together.

Shared by the CSV import and `edge911 locations set`, so that both refuse the same mistakes with the same words.
"""

import re
import time
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from e911.devices import device_key
from e911.location import Device, DeviceKind
from e911.numbers import dialable
from router.store.devices import COLUMNS, TIME_COLUMNS, Value, columns_of

if TYPE_CHECKING:
    from config.schema import Config

MAX_TEXT: Final = 200
"""Characters in one cell; PIDF-LO elements and ALI screens are far shorter."""

Places = Mapping[str, frozenset[str]]
"""The sites of the configuration, and the zones of each."""

_LINE_BREAKS = re.compile(r"[\t\r\n]+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPREADSHEET_NUMBER = re.compile(r"\d+([.,]\d+)?E\+\d+", re.IGNORECASE | re.ASCII)
_UNFIT_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories without a visible character: they break XML, or make two equal-looking names differ."""
_LIMITS: Final = {"latitude": 90.0, "longitude": 180.0}
_ALSO_CALLED: Final = {"user": "username", "address_of_record": "aor", "mac_address": "mac", "expires": "expires_at"}
_MAC = re.compile(r"[0-9a-f]{12}")
_EMAIL = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+\.[^@\s<>,;.]+")
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def places_of(config: "Config") -> Places:
    """The sites and zones that devices may name."""
    return {site.id: frozenset(zone.id for zone in site.zones) for site in config.sites}


def column_named(written: str) -> str:
    """The column of that name, in any case and with spaces or hyphens for underscores.

    Raises ValueError where there is none, with the nearest name.
    """
    name = re.sub(r"[\s_-]+", "_", _plain_text(written).lower())
    name = _ALSO_CALLED.get(name, name)
    if name in COLUMNS:
        return name
    if not name:
        raise ValueError("a column without a name; name it or take it out")
    raise ValueError(f"unknown column {written.strip()!r}{_did_you_mean(name, COLUMNS)}")


def cell_value(column: str, written: str, places: Places) -> Value:
    """What is stored for the text `written` in `column`; "" (None for a coordinate or a time) where it is empty.

    Raises ValueError with what is wrong and what would be right.
    """
    text = _plain_text(written)
    if column in _LIMITS:
        return _coordinate(column, text) if text else None
    if column in TIME_COLUMNS:
        return _time(column, text) if text else None
    if column == "device":
        return _device(text)
    if not text:
        return DeviceKind.FIXED.value if column == "kind" else ""
    match column:
        case "kind":
            return _kind(text)
        case "aor":
            return _aor(text)
        case "number" | "username":
            return _identity(column, text)
        case "mac":
            return hardware_key(text)
        case "language":
            return _language(text)
        case "email":
            if not _EMAIL.fullmatch(text):
                raise ValueError(f"{text!r} is not a mail address; write name@example.com")
        case "callback":
            if not (number := dialable(text)):
                raise ValueError(f"{text!r} is not a number a PSAP can call back; write +12125550123")
            return number
        case "location_id" | "endpoint_id":
            if not is_provider_id(text):
                raise ValueError(f"{text!r} is no provider's id; write letters, digits and + . _ ~ -, 128 at most")
        case "country":
            if not re.fullmatch(r"[A-Za-z]{2}", text):
                raise ValueError(f"{text!r} is not a country of two letters (ISO 3166-1); write US or CA")
            return text.upper()
        case "site":
            if text not in places:
                raise ValueError(f"no site {text!r} in the configuration{_did_you_mean(text, places)}")
    return text


def unfitting(values: Mapping[str, Value], places: Places) -> list[tuple[str, str]]:
    """(column, what is wrong) for columns that do not fit together; `values` are those of a whole device."""
    problems: list[tuple[str, str]] = []
    site, zone = str(values.get("site") or ""), str(values.get("zone") or "")
    if zone and not site:
        problems.append(("zone", f"zone {zone!r} needs a site"))
    elif zone and zone not in places.get(site, frozenset()):
        near = _did_you_mean(zone, places.get(site, ()))
        problems.append(("zone", f"no zone {zone!r} in site {site!r}{near}"))
    lender = str(values.get("elin_zone") or "")
    if lender and not site:
        problems.append(("elin_zone", f"elin_zone {lender!r} needs a site"))
    elif lender and lender not in places.get(site, frozenset()):
        near = _did_you_mean(lender, places.get(site, ()))
        problems.append(("elin_zone", f"no zone {lender!r} in site {site!r}{near}"))
    latitude, longitude = values.get("latitude"), values.get("longitude")
    if latitude is not None and longitude is None:
        problems.append(("longitude", "latitude without longitude; give both, or clear both"))
    if longitude is not None and latitude is None:
        problems.append(("latitude", "longitude without latitude; give both, or clear both"))
    if latitude == 0 and longitude == 0:
        # What spreadsheets and phones without a fix write for no position; a PSAP would be shown the Gulf of Guinea.
        problems.append(("latitude", "0 0 is no position of a phone; clear both"))
    return problems


def unfitting_after(device: Device | None, row: Mapping[str, Value], places: Places) -> list[tuple[str, str]]:
    """(column, what is wrong) once `row` lies over what is stored of `device` (None where it is new)."""
    values: dict[str, Value] = {**(columns_of(device) if device else {}), **row}
    return [
        (name, what if name in row or not values.get(name) else f"{what} (that {name} is stored; give {name} too)")
        for name, what in unfitting(values, places)
    ]


def _plain_text(written: str) -> str:
    """The text without space around it, line breaks and tabs as spaces."""
    text = _LINE_BREAKS.sub(" ", written).strip()
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text)} characters; {MAX_TEXT} is the most")
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise ValueError(f"{text!r} is not UTF-8; save the file as CSV UTF-8")
    if not text.isprintable():
        for place, character in enumerate(text, start=1):
            if unicodedata.category(character) in _UNFIT_CATEGORIES:
                raise ValueError(
                    f"control or invisible character U+{ord(character):04X} at character {place}; take it out"
                )
    return text


def _device(text: str) -> str:
    name = device_key(text)
    if not name:
        raise ValueError("missing device; every row names its phone's number, user or address of record")
    if _SPREADSHEET_NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is a number a spreadsheet has shortened; format the column as text")
    if any(character.isspace() for character in name):
        raise ValueError(f"{text!r} is neither a number nor a user: there is a space in it")
    return name


def _aor(text: str) -> str:
    name = _device(text)
    user, _, host = name.rpartition("@")
    if not user or not host:
        raise ValueError(f"{text!r} is not an address of record; write alice@example.com")
    return name


def _identity(column: str, text: str) -> str:
    name = _device(text)
    if "@" in name:
        raise ValueError(f"{text!r} is an address of record; write it in the column aor")
    if column == "number" and not name.removeprefix("+").isdigit():
        raise ValueError(f"{text!r} is not a number; write +12125550123 or 4102, or use the column username")
    return name


def hardware_key(text: str) -> str:
    """A hardware address (MAC) in any spelling as its 12 lower-case hexadecimal digits. Raises ValueError."""
    digits = re.sub(r"[\s:.-]", "", text.lower())
    if not _MAC.fullmatch(digits):
        raise ValueError(f"{text!r} is not a MAC address; write 00:0b:82:1a:2b:3c")
    return digits


def is_provider_id(text: str) -> bool:
    """True for an id that may stand in a SIP URI and a header field as it is."""
    return 0 < len(text) <= 128 and text.isascii() and all(char.isalnum() or char in "+._~-" for char in text)


def _language(text: str) -> str:
    language = text.lower().replace("_", "-").partition("-")[0]
    if language not in ("en", "fr"):
        raise ValueError(f"{text!r} is not a language; write en or fr")
    return language


def _time(column: str, text: str) -> float:
    """Seconds since 1970. A day alone is its beginning, or its end where it is the last (UTC)."""
    if text.lower() == "now":
        return float(int(time.time()))
    try:
        found = datetime.fromisoformat(text.upper().replace("Z", "+00:00") if "T" in text.upper() else text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2026-11-22 or 2026-11-22T21:36:12Z") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if len(text) <= 10 and column == "expires_at":
        found += timedelta(days=1)
    seconds = found.timestamp()
    if not 0 < seconds <= _LATEST:
        raise ValueError(f"{text!r} is no time in use; write one after 1970")
    return seconds


def written_time(seconds: float | None) -> str:
    """A time as `cell_value` reads it back; empty for none."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _kind(text: str) -> str:
    name = re.sub(r"[\s_-]+", "-", text.lower())
    if name not in {kind.value for kind in DeviceKind}:
        raise ValueError(f"{text!r} is not a kind; write {', '.join(DeviceKind)}")
    return name


def _coordinate(column: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number; write degrees with a point, such as 40.7484 or -73.9857")
    degrees, limit = float(text), _LIMITS[column]
    if not -limit <= degrees <= limit:
        raise ValueError(f"{text} is not between -{limit:.0f} and {limit:.0f} degrees")
    return degrees


def _did_you_mean(name: str, names: "Mapping[str, object] | frozenset[str] | tuple[str, ...]") -> str:
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
