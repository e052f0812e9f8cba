"""The location that a caller sent along (RFC 6442): found, read, and judged fit to send help to, or not.

By value it is a body part that a Geolocation `cid:` names, by reference an http(s) URI that somebody must ask
(RFC 6753); the asking is the router's, what comes back is judged here. Read as leniently as products write: see
docs/decisions/0012-conveyed-location.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from urllib.parse import unquote

from e911.lists import split_list
from e911.location import CivicAddress, DispatchableLocation, LocationSource
from e911.pidf_reader import PidfLocation, UnreadableError, read_locations

VALUES_LIMIT = 8
"""Geolocation values looked at."""
REFERENCES_LIMIT = 2
"""Of these, references that are asked for one call."""
COARSEST_METRES = 10_000.0
"""A point that the caller may be further away from says no more than the name of a town."""
LARGEST_COPY = 32_768
"""Bytes of a document that goes along once more, for those who cannot read it where it stands."""
LONGEST_TEXT = 200
"""Characters of one civic element that are kept for records and notices; the document itself goes on whole."""

NOT_ASKED = "reference-not-asked"
"""Reason of a reference as long as nobody has asked it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationDocument:
    """A body part that may be a location: media type in lower case, Content-ID without brackets, and its bytes."""

    content_type: str
    content_id: str
    data: bytes
    is_plain: bool = True
    """False where others may not find it as it stands: packed, encoded, in a broken multipart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAnswer:
    """What came of asking a reference: the document, or why there is none (a reason such as `reference-late`)."""

    document: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConveyedValue:
    """One Geolocation value and what became of it."""

    uri: str
    """Without brackets and parameters. Empty for a location part that no Geolocation value names."""
    location: DispatchableLocation | None = None
    """None where it is not fit to be used."""
    reason: str
    """Why it is (not) used; see docs/reasons.md."""
    content_id: str = ""
    """Of the part it names."""
    document: bytes = b""
    """What a reference gave, or a part that others may not be able to read, fit to go along by value."""
    expires_at: float = 0.0
    """Until when it may be kept (RFC 4119 section 2.2.2), seconds since 1970; 0 where it does not say."""

    @property
    def needs_copy(self) -> bool:
        """True for a part that others may not be able to read where it stands."""
        return bool(self.document and self.content_id)

    @property
    def is_unasked(self) -> bool:
        """True for a reference that can be asked and was not yet."""
        return self.reason == NOT_ASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Conveyed:
    """All that a caller sent about where they are, in order; the first value that is fit decides."""

    values: tuple[ConveyedValue, ...] = ()

    @property
    def best(self) -> ConveyedValue | None:
        """The value that decides, or None."""
        if not self.values:
            return None
        return next((value for value in self.values if value.location is not None), None)

    @property
    def location(self) -> DispatchableLocation | None:
        """The caller's location; None where there is none that could be used."""
        best = self.best
        return best.location if best else None

    def location_at(self, now: float) -> DispatchableLocation | None:
        """The same at `now`: in doubt where the document says that it was to be kept no longer than until then."""
        location = self.location
        return replace(location, doubt="location-expired") if location is not None and self.is_over(now) else location

    def is_over(self, now: float) -> bool:
        """True where the value that decides says itself that it counted until before `now`."""
        best = self.best
        return best is not None and 0 < best.expires_at <= now

    @property
    def reason(self) -> str:
        """Of the value that decides, else of the first one."""
        best = self.best
        return best.reason if best else self.values[0].reason if self.values else "not-conveyed"

    @property
    def references(self) -> tuple[str, ...]:
        """The URIs to ask before it is known what decides: those before the first value that is fit."""
        found: list[str] = []
        for value in self.values:
            if value.location is not None or len(found) >= REFERENCES_LIMIT:
                break
            if value.is_unasked:
                found.append(value.uri)
        return tuple(dict.fromkeys(found))

    def answered(self, answers: Mapping[str, ReferenceAnswer]) -> "Conveyed":
        """The same with what came of asking, by URI."""
        return Conveyed(
            values=tuple(
                _answered(value, answers[value.uri]) if value.is_unasked and value.uri in answers else value
                for value in self.values
            )
        )


NOTHING_CONVEYED = Conveyed()


def read_conveyed(geolocation: Sequence[str], documents: Sequence[LocationDocument]) -> Conveyed:
    """What a caller sent, from the Geolocation fields (values as written) and the body parts. Never raises.

    A part that no value names counts after those that are named: some products get the Content-ID wrong, or leave
    the field out.
    """
    unnamed = [part for part in documents if part.content_type == "application/pidf+xml"]
    found: list[ConveyedValue] = []
    for written in [value for line in geolocation for value in split_list(line) if value.strip()][:VALUES_LIMIT]:
        uri = uri_of(written)
        scheme = uri.partition(":")[0].strip().lower()
        if scheme == "cid":
            part = _named(uri, documents)
            if part is None:
                # What has no Content-ID cannot be named; what has another one gets its own value below.
                part = next((one for one in unnamed if not one.content_id), None)
            if part in unnamed:
                unnamed.remove(part)
            found.append(_by_value(uri, part))
        elif scheme in ("http", "https"):
            found.append(ConveyedValue(uri=uri, reason=NOT_ASKED))
        else:
            # sip: and pres: want a subscription (RFC 3856), which no call can wait for.
            found.append(ConveyedValue(uri=uri, reason="reference-scheme"))
    # A part without Content-ID cannot be named to anybody after us.
    found += [
        _by_value("", part) if part.content_id else ConveyedValue(uri="", reason="location-not-named")
        for part in unnamed[:VALUES_LIMIT]
    ]
    return Conveyed(values=tuple(found)) if found else NOTHING_CONVEYED


def judge(document: bytes) -> DispatchableLocation:
    """The place in a document: of its locations the first that is fit. Raises UnreadableError where help could not be
    sent to any of them, with the reason."""
    return _judged(document)[0]


def _judged(document: bytes) -> tuple[DispatchableLocation, float]:
    """As judge, and until when it may be kept."""
    for found in read_locations(document):
        location = _fit(found)
        if location is not None:
            return location, found.expires_at
    raise UnreadableError("location-too-coarse")


def _fit(found: PidfLocation) -> DispatchableLocation | None:
    civic, point = found.civic, found.point
    if point is not None and not (point.latitude or point.longitude):
        point = None  # 0 0 is what devices send that have no fix
    if point is not None and point.uncertainty > COARSEST_METRES:
        point = None
    if point is None and not (civic and _names_a_place(civic)):
        return None
    return DispatchableLocation(
        civic=_shortened(civic) if civic else CivicAddress(),
        point=point,
        source=LocationSource.CONVEYED,
        method=found.method[:LONGEST_TEXT],
        occupant=found.occupant[:LONGEST_TEXT],
        updated_at=_age_of(found),
    )


def _names_a_place(civic: CivicAddress) -> bool:
    return bool((civic.street or civic.landmark) and (civic.city or civic.postal_code or civic.county))


def _shortened(civic: CivicAddress) -> CivicAddress:
    return replace(civic, **{field.name: getattr(civic, field.name)[:LONGEST_TEXT] for field in fields(civic)})


def _age_of(found: PidfLocation) -> float:
    return found.updated_at if found.updated_at > 0 else 0.0


def _by_value(uri: str, part: LocationDocument | None) -> ConveyedValue:
    if part is None:
        return ConveyedValue(uri=uri, reason="location-part-missing")
    try:
        location, expires_at = _judged(part.data)
    except UnreadableError as error:
        return ConveyedValue(uri=uri, reason=error.reason, content_id=part.content_id)
    return ConveyedValue(
        uri=uri,
        location=location,
        reason="conveyed-by-value",
        content_id=part.content_id,
        document=b"" if part.is_plain or len(part.data) > LARGEST_COPY else part.data,
        expires_at=expires_at,
    )


def _answered(value: ConveyedValue, answer: ReferenceAnswer) -> ConveyedValue:
    if not answer.document:
        return replace(value, reason=answer.reason or "reference-unreachable")
    try:
        location, expires_at = _judged(answer.document)
    except UnreadableError as error:
        return replace(value, reason=error.reason)
    return replace(
        value,
        location=location,
        reason="conveyed-by-reference",
        document=answer.document,
        expires_at=expires_at,
    )


def uri_of(value: str) -> str:
    """The URI of a locationValue; products also write it without the angle brackets."""
    _, bracket, rest = value.partition("<")
    return (rest.partition(">")[0] if bracket else value.partition(";")[0]).strip()


def _named(uri: str, documents: Sequence[LocationDocument]) -> LocationDocument | None:
    """The part that a cid: URL names (RFC 2392): as it stands, else but for case, escapes and a sip: before it."""
    wanted = uri[4:]
    for key in (str, unquote, _loosely):
        for part in documents:
            if part.content_id and key(part.content_id) == key(wanted):
                return part
    return None


def _loosely(content_id: str) -> str:
    text = unquote(content_id).strip().strip("<>").lower()
    return text.removeprefix("cid:").removeprefix("sips:").removeprefix("sip:")
