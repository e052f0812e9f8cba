"""Finer parts of a place (building, floor, unit, room) from a source that did not decide it.

The first source that knows decides the place; so that a desk phone's room is not lost to its floor's subnet, parts
that it does not give are taken from another that names the same address and zone. Nothing is taken from a device that
moves, and nothing where anything speaks against it: an address without a room is better than the wrong room.
"""

from dataclasses import replace
from functools import lru_cache

from e911.completing import (
    CACHED_LOCATIONS,
    HOUSE,
    LOCALITY,
    STREET,
    complete,
    differ,
    gives_another_street,
    other_postal_code,
    same,
)
from e911.location import CivicAddress, Device, DeviceKind, DispatchableLocation
from e911.places import Places, SitePlace

FINER = ("building", "floor", "unit", "room")
_CONFLICT = ("building", "floor", "unit")


def stays_put(device: Device, now: float) -> bool:
    """True for a device whose registered room may be put to its floor: it is fixed, or somebody confirmed that it is
    there; and its location is not in doubt."""
    return (device.kind is DeviceKind.FIXED or device.confirmed_at > 0) and not device.doubt(now)


def with_desk(
    location: DispatchableLocation,
    place: SitePlace,
    device: Device,
    places: Places,
    *,
    seen: SitePlace | None,
) -> tuple[DispatchableLocation, SitePlace]:
    """The location with the desk phone's own finer parts, so that its room is not lost to its floor's subnet.

    Only where nothing speaks against it: the device (see stays_put) is of this site and (where both are known) this
    zone, its civic parts are of the site's address and not of another building, floor or unit than the
    place says; and it is not seen in a network that its own zone does not have.
    """
    unchanged = location, place
    if device.site != place.site.id:
        return unchanged
    if seen and seen.site is not place.site:
        return unchanged
    if device.zone and not (place.zone and place.zone.id == device.zone):
        own = places.find(device.site, device.zone)
        if place.zone or own is None or (seen and own.zone and own.zone.networks):
            return unchanged
        place = own
    at_desk = _at_desk(location, place, device)
    return (at_desk, place) if at_desk else unchanged


@lru_cache(maxsize=CACHED_LOCATIONS)
def _at_desk(location: DispatchableLocation, place: SitePlace, device: Device) -> DispatchableLocation | None:
    given = device.civic
    own: list[str] = []
    if location.civic is not place.civic:
        own = [name for name in FINER if getattr(location.civic, name) != getattr(place.civic, name)]
        # What the wiremap says beyond the zone is of the very outlet: a desk phone with another room has moved.
        if differ(given, location.civic, FINER if "room" in own else _CONFLICT):
            return None
    if differ(given, place.civic, _CONFLICT):
        return None
    if gives_another_street(given, place.site.address):
        return None
    completed = complete(place, given)
    if completed is None:
        return None
    civic = completed
    if own:
        civic = completed.overlaid(CivicAddress(**{name: getattr(location.civic, name) for name in own}))
    zone_id = place.zone.id if place.zone else ""
    point = device.point or location.point
    if (civic, point, zone_id) == (location.civic, location.point, location.zone):
        return location
    is_finer = civic != location.civic or point != location.point
    return replace(
        location,
        civic=civic,
        point=point,
        zone=zone_id,
        finer_from="registered" if is_finer else location.finer_from,
    )


def refined(location: DispatchableLocation, other: DispatchableLocation) -> DispatchableLocation | None:
    """The location with the finer parts that only `other` gives; None where it gives none, or may mean another place.

    The address must be the same: street, house number, and city or postal code given by both and alike. So must be
    the zone, where both have one; and what `location` already says of building and floor, so that a room is never put
    on another floor.
    """
    civic, others = location.civic, other.civic
    given = {name: getattr(others, name) for name in FINER if not getattr(civic, name) and getattr(others, name)}
    if not given or not _is_same_address(civic, others) or differ(civic, others, FINER):
        return None
    if location.zone and other.zone and location.zone != other.zone:
        return None
    if not (location.zone and location.zone == other.zone):
        for name in ("building", "floor"):
            if getattr(civic, name) and not getattr(others, name):
                return None
    return replace(
        location,
        civic=civic.overlaid(CivicAddress(**given)),
        zone=location.zone or other.zone,
        finer_from=other.source.value,
    )


def _is_same_address(one: CivicAddress, other: CivicAddress) -> bool:
    """True for one street address: 5th ST, 5th AVE, W 5th AVE and 5th are four, for all that it tells."""
    if not (one.street and one.house_number):
        return False
    if not all(same(getattr(one, name), getattr(other, name)) for name in STREET + HOUSE):
        return False
    if differ(one, other, LOCALITY):
        return False
    if one.postal_code and other.postal_code and other_postal_code(one.postal_code, other.postal_code):
        return False
    return bool((one.city and other.city) or (one.postal_code and other.postal_code))
