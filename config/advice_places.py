"""Warnings about the places of sites: an address that help would not find, and floors that do not fit it."""

from collections.abc import Iterator
from typing import Final

from config.findings import Finding, Steps
from config.schema import SiteConfig
from e911.dispatchable import civic_problems, inside_problems
from e911.location import CivicAddress, Site
from e911.postal import states_of

_NORTH_AMERICA: Final = ("US", "CA")
_MISSING: Final = {
    "no-state": "state",
    "no-city": "city",
    "no-street": "street",
    "no-house-number": "house_number",
    "no-postal-code": "postal_code",
}


def place(site: SiteConfig, path: Steps) -> Iterator[Finding]:
    """Every warning about where a site is; path: of the site."""
    address = site.address
    if not address.has_street_address and site.point is None:
        yield Finding(
            (*path, "address"),
            "no location: no street and city, no coordinates; callers here without a registered location "
            "go by basic 911",
        )
    elif not address.country and address.has_street_address:
        yield Finding(
            (*path, "address", "country"),
            "no country: routes with `covers` are skipped for this site; write US or CA",
        )
    if (site.latitude is None) != (site.longitude is None):
        missing = "latitude" if site.latitude is None else "longitude"
        yield Finding((*path, missing), "missing: one coordinate alone is not a location and is not used")
    if address.country.upper() in _NORTH_AMERICA:
        if site.timezone == "UTC":
            yield Finding(
                (*path, "timezone"), "UTC: notices give the time of a call in UTC; write America/New_York or so"
            )
        if address.state and len(address.state) != 2:
            yield Finding(
                (*path, "address", "state"),
                "not a two-letter code: providers may not find the address and `covers` does not match; write NY",
            )
        elif address.state and address.state.upper() not in states_of(address.country.upper()):
            yield Finding(
                (*path, "address", "state"),
                f"{address.country.upper()} has no {address.state}: providers may not find the address and `covers` "
                "does not match; write NY, QC or so",
            )
        if address.has_street_address:
            yield from _street_address(address, (*path, "address"))
    yield from _zones(site, path)


def _street_address(address: CivicAddress, path: Steps) -> Iterator[Finding]:
    """What is missing of an address in the United States or Canada, and where its parts contradict each other."""
    problems = civic_problems(address)
    missing = [_MISSING[reason] for reason in problems if reason in _MISSING]
    if missing:
        yield Finding(
            path,
            f"{', '.join(missing)} missing: not a dispatchable location by itself, and providers may refuse it; "
            "add what is missing",
        )
    country = address.country.upper()
    if "postal-code-malformed" in problems:
        example = "10118" if country == "US" else "H3B 2Y5"
        yield Finding((*path, "postal_code"), f"no postal code of {country}; write one such as {example}")
    if "postal-code-of-another-state" in problems:
        yield Finding(
            (*path, "postal_code"),
            f"not a code of {address.state.upper()}: one of the two is mistyped, and help may be sent elsewhere; "
            "correct it",
        )


def _zones(site: SiteConfig, path: Steps) -> Iterator[Finding]:
    """Zones of a site with several storeys that do not say on which they are."""
    within = Site(id=site.id, multi_storey=site.multi_storey, floors=tuple(site.floors))
    for number, zone in enumerate(site.zones):
        where: Steps = (*path, "zones", number)
        problems = inside_problems(CivicAddress(floor=zone.floor, unit=zone.unit, room=zone.room), within)
        if "unknown-floor" in problems:
            yield Finding(
                (*where, "floor"),
                f"none of the site's floors ({', '.join(site.floors)}); correct one of them",
            )
        elif problems:
            yield Finding(
                where,
                "neither floor, unit nor room, and the site has several storeys: help does not know where to go",
            )
