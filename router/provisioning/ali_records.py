"""Which ALI records there should be: one for each number that a PSAP may see, with the address that belongs to it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from config.schema import Ali, Config, SiteConfig, ZoneConfig
from e911.ali import AliError, AliRecord, ali_text, check_record
from e911.devices import shown_numbers
from e911.locate import registered_location
from e911.location import FINER_FIELDS, CivicAddress, Device, GeoPoint
from e911.numbers import dialable
from e911.places import Places
from e911.street_forms import directional_form, suffix_form
from router.emergency.rules import places_of

_LOCATION_WORDS = (
    ("building", "BLDG "),
    ("floor", "FLR "),
    ("unit", "UNIT "),
    ("room", "RM "),
    ("landmark", ""),
    ("additional", ""),
)
_SAY_THEMSELVES = {
    "BLDG ": ("BLDG", "BUILDING"),
    "FLR ": ("FLR", "FL", "FLOOR", "ETAGE"),
    "UNIT ": ("UNIT", "UNITE", "STE", "SUITE", "APT", "BUREAU"),
    "RM ": ("RM", "ROOM", "SALLE", "PIECE"),
}
MOST_WILD = 4
"""X in a pattern whose numbers all get a record: a block of 10,000 numbers, as they are given out."""
_CANADIAN = re.compile(r"[A-Z]\d[A-Z] ?\d[A-Z]\d")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The records by number, and what stands in the way of others: number → the reason, for people."""

    records: dict[str, AliRecord]
    problems: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a number is."""

    kind: str
    civic: CivicAddress
    point: GeoPoint | None
    customer: str
    who: str
    """Whose number it is, for people."""


def wanted_records(config: Config, devices: Iterable[Device]) -> Wanted:
    """The records for the callback numbers of sites, for ELINs, and for what devices show: their callback number,
    else the number that they call by; where `site_numbers` is set also for those that sites claim. Ten digits each. A
    number that several devices show belongs to their site."""
    ali = config.ali
    assert ali is not None  # whoever calls has looked
    claimed, problems = _claimed(config.sites) if ali.site_numbers else ({}, {})
    places = dict(claimed)
    sites = {site.id: site for site in config.sites}
    registered = places_of(config)
    by_number: dict[str, list[Device]] = {}
    for device in devices:
        for number in shown_numbers(device):
            by_number.setdefault(number, []).append(device)
    for number, found in by_number.items():
        places[number] = place_of(found[0], registered) if len(found) == 1 else _of_many(found, sites, registered)
    for site in config.sites:
        if dialable(site.callback):
            places[dialable(site.callback)] = _of_site(site, None, "site")
        for elin in site.elins:
            places[dialable(elin)] = _of_site(site, None, "elin")
        for zone in site.zones:
            for elin in zone.elins:
                places[dialable(elin)] = _of_site(site, zone, "elin")
    records = {}
    for number, place in places.items():
        if not number.startswith("+1"):
            continue  # ALI is North American; who shows another number has no record
        national = number[2:]
        try:
            records[national] = _record(ali, national, place)
        except AliError as error:
            problems[national] = f"{error} ({place.who})"
    return Wanted(records, problems)


def _claimed(sites: Iterable[SiteConfig]) -> tuple[dict[str, Place], dict[str, str]]:
    """The numbers that sites say are theirs, the narrowest pattern first, and which patterns are too wide."""
    written = [(pattern.upper(), site) for site in sites for pattern in site.numbers]
    places: dict[str, Place] = {}
    problems: dict[str, str] = {}
    for pattern, site in sorted(written, key=lambda one: one[0].count("X")):
        wild = pattern.count("X")
        if not dialable(pattern.replace("X", "2")).startswith("+1"):
            continue  # an extension: no PSAP sees it
        if wild > MOST_WILD:
            problems[pattern] = (
                f"{pattern} is more than {10**MOST_WILD} numbers; name those that are yours ({site.id})"
            )
            continue
        place = _of_site(site, None, "site")
        for digits in product("0123456789", repeat=wild):
            left = iter(digits)
            number = dialable("".join(next(left) if char == "X" else char for char in pattern))
            if number:
                places.setdefault(number, place)
    return places, problems


def _of_site(site: SiteConfig, zone: ZoneConfig | None, kind: str) -> Place:
    finer = CivicAddress(**{name: getattr(zone, name) for name in FINER_FIELDS}) if zone is not None else None
    return Place(
        kind=kind,
        civic=site.address.overlaid(finer) if finer is not None else site.address,
        point=site.point,
        customer=site.name or site.id,
        who=f"{kind} of {site.id}" + (f", zone {zone.id}" if zone is not None else ""),
    )


def place_of(device: Device, places: Places) -> Place:
    """Where a device is, as a call of it would say by its registration: parts of two streets are never mixed."""
    location, _, _ = registered_location(device, "", places, 0.0)
    home = places.find(device.site)
    return Place(
        kind=device.kind.value,
        civic=location.civic if location is not None else CivicAddress(),
        point=location.point if location is not None else None,
        customer=(home.site.name or home.site.id) if home is not None else device.name,
        who=f"device {device.device}",
    )


def _of_many(found: list[Device], sites: dict[str, SiteConfig], registered: Places) -> Place:
    """A number that several devices show: the place that all of them have, else their site's address."""
    own = [place_of(device, registered) for device in found]
    names = ", ".join(device.device for device in found[:3])
    if all(place.civic == own[0].civic for place in own):
        return Place(kind=own[0].kind, civic=own[0].civic, point=own[0].point, customer=own[0].customer, who=names)
    ids = {device.site for device in found}
    site = sites.get(next(iter(ids))) if len(ids) == 1 else None
    if site is None:
        return Place(
            kind=own[0].kind, civic=CivicAddress(), point=None, customer="", who=f"{names}, of several sites"
        )
    return Place(
        kind=own[0].kind,
        civic=site.address,
        point=site.point,
        customer=site.name or site.id,
        who=f"{names} of {site.id}",
    )


def _record(ali: Ali, number: str, place: Place) -> AliRecord:
    civic = place.civic
    for name in ("street", "city", "state"):
        if not getattr(civic, name):
            raise AliError(f"{number}: no {name}; an ALI record needs a street address")
    country, state = civic.country.upper(), civic.state.upper()
    suffix = suffix_form(country, civic.street_suffix) or civic.street_suffix
    before, after = (
        directional_form(country, state, text) or text for text in (civic.pre_directional, civic.post_directional)
    )
    postal_code, extension = _postal_code(civic)
    words = [_worded(word, ali_text(getattr(civic, name))) for name, word in _LOCATION_WORDS if getattr(civic, name)]
    record = AliRecord(
        number=number,
        house_number=ali_text(civic.house_number),
        house_number_suffix=ali_text(civic.house_number_suffix),
        prefix_directional=ali_text(before),
        street_name=ali_text(civic.street),
        street_suffix=ali_text(suffix),
        post_directional=ali_text(after),
        community=ali_text(civic.city),
        state=ali_text(civic.state),
        location=" ".join(words),
        customer_name=ali_text(ali.customer_name or place.customer)[:32].rstrip(),
        class_of_service=ali.class_of_service.get(place.kind, "4"),  # type: ignore[call-overload]  # one of its kinds
        type_of_service=ali.type_of_service.get(place.kind, "8" if place.kind == "elin" else "0"),  # type: ignore[call-overload]  # as above
        exchange=ali_text(ali.exchange),
        main_number=dialable(ali.main_number or "").removeprefix("+1") or number,
        county_id=ali_text(ali.county_id),
        company_id=ali_text(ali.company_id),
        postal_code=postal_code,
        postal_code_extension=extension,
        customer_code=ali_text(ali.customer_code),
        x_coordinate=_coordinate(place.point.longitude) if place.point else "",
        y_coordinate=_coordinate(place.point.latitude) if place.point else "",
    )
    if not record.street_name or not record.community:
        raise AliError(f"{number}: street and city have no letters that an ALI record can hold")
    check_record(record)
    return record


def _worded(word: str, text: str) -> str:
    """The text with the word that says what it is, unless it says that itself (Bldg A, Room 12)."""
    first = text.partition(" ")[0].rstrip(".")
    return text if first in _SAY_THEMSELVES.get(word, ()) else f"{word}{text}"


def _postal_code(civic: CivicAddress) -> tuple[str, str]:
    """ZIP and ZIP+4. A Canadian code goes over both fields, without its blank: it does not fit into the first."""
    code = ali_text(civic.postal_code)
    if _CANADIAN.fullmatch(code):
        code = code.replace(" ", "")
        return code[:5], code[5:]
    first, _, rest = code.partition("-")
    return first, rest


def _coordinate(degrees: float) -> str:
    """Degrees in at most nine characters."""
    return next(text for digits in range(6, -1, -1) if len(text := f"{degrees:.{digits}f}") <= 9)
