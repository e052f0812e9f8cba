"""The ALI screen: what a call-taker is shown of a 911 call, made of nothing but the INVITE that arrived."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from lxml import etree

from e911.location import CivicAddress, GeoPoint
from e911.numbers import dialable
from e911.pidf_lo import DATA_MODEL
from e911.pidf_reader import read_pidf_lo
from sip.body import boundary_of, media_type, split_parts
from sip.errors import RemoteError
from sip.fields import value_of
from sip.headers import parse_name_addr
from sip.message import Request

PIDF_TYPE = b"application/pidf+xml"
WIDTH = 76


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPart:
    """One part of a body: its media type, its Content-ID without angle brackets, its bytes."""

    media_type: bytes
    content_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ali:
    """Automatic number and location identification of one call; empty or None where the INVITE does not say."""

    callback: str
    """A number that can be dialled, +E.164."""
    caller: str
    """The calling user as written, also where it is no such number."""
    name: str
    class_of_service: str
    occupant: str
    civic: CivicAddress | None
    point: GeoPoint | None
    method: str
    provided_by: str
    located_at: str
    """The location document's own timestamp, as written in it."""
    request_uri: str
    incident: str
    received_at: float
    """Seconds since 1970, by the PSAP's clock."""
    received_from: str
    provider: str
    """Who took the call."""


def body_parts(request: Request) -> list[BodyPart]:
    """The parts of a body; a body that is not multipart is its own only part."""
    content_type = request.first("content-type") or b""
    if not request.body:
        return []
    boundary = boundary_of(content_type) if media_type(content_type).startswith(b"multipart/") else None
    if boundary is None:
        content_id = (request.first("content-id") or b"").strip(b"<> ")
        return [BodyPart(media_type=media_type(content_type), content_id=content_id, data=request.body)]
    found = []
    for head, data in split_parts(request.body, boundary):
        values = {line.partition(b":")[0].strip().lower(): value_of(line) for line in head if b":" in line}
        found.append(
            BodyPart(
                media_type=media_type(values.get(b"content-type", b"text/plain")),
                content_id=values.get(b"content-id", b"").strip(b"<> "),
                data=data,
            )
        )
    return found


def location_part(request: Request) -> BodyPart | None:
    """The body part that a Geolocation value names by `cid:` (RFC 6442), the last value first; or None."""
    parts = body_parts(request)
    for value in reversed(request.values("geolocation")):
        uri = value.partition(b">")[0].strip(b"< ")
        if uri[:4].lower() == b"cid:":
            for part in parts:
                if part.content_id == uri[4:] and part.media_type == PIDF_TYPE:
                    return part
    return None


def read_ali(request: Request, *, received_at: float, received_from: str, provider: str) -> Ali:
    """What an INVITE says of the caller. Never raises: what cannot be read is empty."""
    part = location_part(request)
    location = read_pidf_lo(part.data) if part is not None else None
    callback, caller, name = _identity(request)
    incident = next((v for v in request.values("call-info") if b"emergency-IncidentId" in v), b"")
    return Ali(
        callback=callback,
        caller=caller,
        name=name,
        class_of_service="VOIP",  # it came by SIP, and nothing in it says more
        occupant=location.occupant if location else "",
        civic=location.civic if location else None,
        point=location.point if location else None,
        method=location.method if location else "",
        provided_by=location.provided_by if location else "",
        located_at=_timestamp(part.data) if part is not None and location else "",
        request_uri=request.uri.decode("latin-1"),
        incident=incident.partition(b">")[0].lstrip(b"<").rpartition(b"incidentid:")[2].decode("latin-1"),
        received_at=received_at,
        received_from=received_from,
        provider=provider,
    )


def ali_lines(ali: Ali, zone: tzinfo | None = None, hide: Callable[[str], str] = str) -> list[str]:
    """The screen as lines of at most WIDTH - 4 characters, without a frame. hide: what is done to every text that
    says who or where somebody is; that there is one stays to be seen."""
    civic = ali.civic
    when = datetime.fromtimestamp(ali.received_at, zone or ZoneInfo("UTC"))
    lines = [
        _spread(
            hide(_national(ali.callback)) or f"{hide(ali.caller)}  NO CALLBACK NUMBER".strip(),
            f"{when:%Y-%m-%d %H:%M:%S %Z}",
        ),
        _spread((hide(ali.name) or "no name given").upper(), f"CLASS {ali.class_of_service}"),
    ]
    if civic is None and ali.point is None:
        lines += ["", "*** NO LOCATION: ask the caller where they are ***"]
    if civic is not None:
        lines += ["", *(hide(line) for line in _address(civic, ali.occupant))]
    if ali.point is not None:
        latitude, longitude = f"{ali.point.latitude:+.6f}", f"{ali.point.longitude:+.6f}"
        lines.append(f"LAT {hide(latitude)}  LON {hide(longitude)}")
    if civic is not None or ali.point is not None:
        lines += ["", f"Location   {ali.method or 'method not said'}, by {ali.provided_by or 'nobody named'}"]
        lines.append(f"Located at {_local(ali.located_at, zone) or 'not said'}")
    else:
        lines.append("")
    lines.append(f"Taken by   {ali.provider}, dialled {ali.request_uri}")
    if ali.incident:
        lines.append(f"Incident   {ali.incident}")
    return [line[: WIDTH - 4] for line in lines]


def frame(title: str, lines: list[str]) -> list[str]:
    """Lines in a frame of WIDTH characters."""
    inner = WIDTH - 4
    top = f"┌─ {title} " + "─" * (inner - len(title) - 1) + "┐"
    return [top, *(f"│ {line:<{inner}} │" for line in lines), "└" + "─" * (inner + 2) + "┘"]


def ali_document(ali: Ali) -> dict[str, object]:
    """The same as plain data for JSON; empty values are left out."""
    document: dict[str, object] = {
        field.name: value
        for field in fields(ali)
        if field.name not in ("civic", "point") and (value := getattr(ali, field.name))
    }
    civic = ali.civic
    document["civic"] = (
        {field.name: value for field in fields(civic) if (value := getattr(civic, field.name))} if civic else None
    )
    point = ali.point
    document["point"] = {"latitude": point.latitude, "longitude": point.longitude} if point else None
    return document


def _identity(request: Request) -> tuple[str, str, str]:
    """Number to ring back, calling user and name: of P-Asserted-Identity, else of From."""
    number = caller = name = ""
    for value in (*request.values("p-asserted-identity"), *request.all("from")):
        try:
            address = parse_name_addr(value)
            user = address.sip_uri().user.decode("latin-1")
        except RemoteError:
            continue
        caller = caller or user
        number = number or dialable(user)
        name = name or address.display_name
    return number, caller, name


def _timestamp(pidf: bytes) -> str:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(pidf, parser)
    except (etree.XMLSyntaxError, ValueError):
        return ""
    return next((str(item.text or "") for item in root.iter(f"{{{DATA_MODEL}}}timestamp")), "")


def _address(civic: CivicAddress, occupant: str) -> list[str]:
    number = _join(" ", civic.house_number, civic.house_number_suffix)
    street = _join(" ", number, civic.pre_directional, civic.street, civic.street_suffix, civic.post_directional)
    finer = [
        f"{label} {value}"
        for label, value in (
            ("BLDG", civic.building),
            ("FLOOR", civic.floor),
            ("UNIT", civic.unit),
            ("ROOM", civic.room),
        )
        if value
    ]
    return [
        line.upper()
        for line in (
            occupant,
            street,
            _join(" ", civic.city, civic.state, civic.postal_code, civic.country),
            "   ".join(finer),
            civic.landmark,
            civic.additional,
        )
        if line
    ]


def _national(number: str) -> str:
    """+12125550112 as (212) 555-0112."""
    if len(number) == 12 and number.startswith("+1"):
        return f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    return number


def _local(timestamp: str, zone: tzinfo | None) -> str:
    try:
        moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return timestamp
    return f"{moment.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S %Z}"


def _spread(left: str, right: str) -> str:
    room = WIDTH - 4 - len(right)
    return f"{left[: room - 1]:<{room}}{right}"


def _join(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)
