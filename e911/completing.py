"""Addresses put together: a place's with the parts that somebody gives of it, and never those of two places."""

from dataclasses import replace
from functools import lru_cache

from e911.location import CivicAddress
from e911.places import SitePlace

CACHED_LOCATIONS = 8192
"""Made-up locations remembered: making one up costs more than all the rest of a decision."""

_NOTHING = CivicAddress()

LOCALITY = ("country", "state", "county", "city")
STREET = ("pre_directional", "street", "street_suffix", "post_directional")
HOUSE = ("house_number", "house_number_suffix")


@lru_cache(maxsize=CACHED_LOCATIONS)
def complete(place: SitePlace, given: CivicAddress) -> CivicAddress | None:
    """The place's address with the given parts over it; None where the given parts are of another place.

    Parts of two streets are never mixed: a street of its own brings its directionals and its house number.
    """
    base = place.civic
    if given == _NOTHING:
        return base
    if differ(given, base, LOCALITY) or other_postal_code(given.postal_code, base.postal_code):
        return None
    if given.street and gives_another_street(given, base):
        if given.city:
            return None
        base = replace(place.site.address, **dict.fromkeys(STREET + HOUSE, ""))
    elif given.house_number and not same(given.house_number, base.house_number):
        base = replace(base, house_number_suffix="")
    return base.overlaid(given)


def gives_another_street(given: CivicAddress, base: CivicAddress) -> bool:
    """True where a given part of street or house number is not that of `base`."""
    return any(not same(part, getattr(base, name)) for name in STREET + HOUSE if (part := getattr(given, name)))


def same(one: str, other: str) -> bool:
    """True for the same words, in any case."""
    return one == other or one.casefold().split() == other.casefold().split()


def differ(given: CivicAddress, base: CivicAddress, names: tuple[str, ...]) -> bool:
    """True where both give one of the named fields and they are not the same."""
    return any(
        not same(one, other) for name in names if (one := getattr(given, name)) and (other := getattr(base, name))
    )


def other_postal_code(one: str, other: str) -> bool:
    """True where both are given and differ; 10118 and 10118-0110 do not, nor do H3B2Y5 and h3b 2y5."""
    one, other = ("".join(text.upper().split()) for text in (one, other))
    return not one.startswith(other) and not other.startswith(one)
