"""Whether help can be sent to a location as it is registered: a dispatchable location (47 CFR 9.3, 9.16(b)(3)).

A validated street address with what else is needed to find the caller: floor, room or suite. Reasons name what is
missing or contradicts itself. Forms of the post are suggested beside, and never keep a location from being used.
"""

from dataclasses import dataclass
from typing import Final

from e911.attached import NO_ADDRESS, entry_location
from e911.locate import registered_location
from e911.location import CivicAddress, Device, DispatchableLocation, Site
from e911.places import Places
from e911.postal import normal_postal_code, postal_problem, state_code, states_of
from e911.street_forms import directional_form, split_suffix, suffix_form
from e911.wiremap import WiremapEntry

REQUIRED: Final = ("country", "state", "city", "street", "house_number", "postal_code")
"""What ERS providers in the United States and Canada ask for."""
_MISSING: Final = {
    "country": "no-country",
    "state": "no-state",
    "city": "no-city",
    "street": "no-street",
    "house_number": "no-house-number",
    "postal_code": "no-postal-code",
}
_ELSEWHERE: Final = frozenset({"state", "postal_code"})
"""Not asked for in other countries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """The post's form of one column; both together where a suffix belongs in a column of its own."""

    column: str
    written: str
    form: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatchability:
    """What is to be said about a location."""

    reasons: tuple[str, ...]
    """Why help could not be sent there by it alone; empty where it could."""
    suggestions: tuple[Suggestion, ...]

    @property
    def is_dispatchable(self) -> bool:
        """True where nothing is missing and nothing contradicts itself."""
        return not self.reasons


def dispatchability(location: DispatchableLocation | None, site: Site | None = None) -> Dispatchability:
    """Judge a location as a caller's; `site` is the one it is at, where it is at one."""
    if location is None:
        return Dispatchability(reasons=("no-location",), suggestions=())
    return Dispatchability(reasons=_problems(location, site), suggestions=suggestions(location.civic))


def _problems(location: DispatchableLocation, site: Site | None) -> tuple[str, ...]:
    reasons = civic_problems(location.civic, has_point=location.point is not None)
    if site is not None:
        reasons += inside_problems(location.civic, site)
    if location.validation.startswith("invalid"):
        reasons += ("address-invalid",)
    return (*reasons, location.doubt) if location.doubt else reasons


def device_problems(device: Device, places: Places, now: float) -> tuple[str, ...]:
    """The reasons of `device_dispatchability` alone, for many devices."""
    location, place, reason = registered_location(device, "", places, now)
    return (reason,) if location is None else _problems(location, place.site if place else None)


def device_dispatchability(device: Device, places: Places, now: float) -> Dispatchability:
    """Judge what is registered for a device, completed from its site and zone, at `now` (seconds since 1970)."""
    location, place, reason = registered_location(device, "", places, now)
    if location is None:
        return Dispatchability(reasons=(reason,), suggestions=suggestions(device.civic))
    return dispatchability(location, place.site if place else None)


def wiremap_problems(entry: WiremapEntry, places: Places) -> tuple[str, ...]:
    """Why help could not be sent to a phone that is attached to what this row of the wiremap is of."""
    location, place = entry_location(entry, places)
    return (NO_ADDRESS,) if location is None else _problems(location, place.site if place else None)


def civic_problems(civic: CivicAddress, *, has_point: bool = False) -> tuple[str, ...]:
    """What an address lacks, and where its parts contradict each other."""
    if not (civic.city or civic.street or civic.landmark):
        # FCC 19-76, 163: coordinates alone do not tell which door to knock at.
        return ("no-civic-address",) if has_point or civic.is_empty else tuple(_missing(civic))
    reasons = list(_missing(civic))
    country, state = civic.country.upper(), civic.state.upper()
    known = states_of(country)
    if known and state and state not in known:
        reasons.append("unknown-state")
    if civic.postal_code and (problem := postal_problem(country, state, civic.postal_code)):
        reasons.append(problem)
    return tuple(reasons)


def _missing(civic: CivicAddress) -> list[str]:
    is_elsewhere = bool(civic.country) and not states_of(civic.country.upper())
    return [
        reason
        for name, reason in _MISSING.items()
        if not getattr(civic, name)
        and not (is_elsewhere and name in _ELSEWHERE)
        and not (civic.landmark and name in ("street", "house_number"))
    ]


def inside_problems(civic: CivicAddress, site: Site) -> tuple[str, ...]:
    """What is missing to find somebody inside the site's building."""
    if not (site.multi_storey or site.floors):
        return ()
    if not (civic.floor or civic.room or civic.unit):
        return ("no-floor-or-room",)
    if civic.floor and site.floors and civic.floor.casefold() not in {floor.casefold() for floor in site.floors}:
        return ("unknown-floor",)
    return ()


def suggestions(civic: CivicAddress) -> tuple[Suggestion, ...]:
    """The forms that USPS or Canada Post would write, where they are not those given."""
    country = civic.country.upper()
    state = state_code(country, civic.state)
    forms: dict[str, str | None] = {"postal_code": normal_postal_code(country, civic.postal_code)}
    forms["country"], forms["state"] = country, state_code(country, civic.state)
    for name in ("pre_directional", "post_directional"):
        forms[name] = directional_form(country, state, getattr(civic, name))
    forms["street_suffix"] = suffix_form(country, civic.street_suffix)
    if not civic.street_suffix and (parts := split_suffix(country, civic.street)):
        forms["street"], forms["street_suffix"] = parts
    return tuple(
        Suggestion(column=name, written=written, form=form)
        for name, form in forms.items()
        if form and form != (written := getattr(civic, name))
    )


def device_of(device: Device, changes: tuple[Suggestion, ...]) -> dict[str, str]:
    """The columns of a device that its own suggestions change; those of its site's address are the site's."""
    own = device.civic
    return {
        change.column: change.form
        for change in changes
        # A suffix that was cut off a street belongs to whoever has that street.
        if getattr(own, change.column) == change.written and (change.written or own.street)
    }
