"""Where a phone is by what it is attached to: the wiremap's row as a location."""

from functools import lru_cache

from e911.attachment import Attachment
from e911.completing import CACHED_LOCATIONS, complete
from e911.location import DispatchableLocation, LocationSource
from e911.places import Places, SitePlace
from e911.wiremap import WiremapEntry, WiremapTable

NO_ADDRESS = "no-address"

Attached = tuple[DispatchableLocation | None, SitePlace | None, str]
"""The location, the site or zone it is of, and the reason."""


def attached_at(attachment: Attachment, wiremap: WiremapTable, places: Places) -> Attached:
    """What the wiremap says of an attachment; None and why where it says nothing. Never raises."""
    entry, reason = wiremap.find(attachment)
    if entry is None:
        return None, None, reason
    location, place = entry_location(entry, places)
    return location, place, reason if location is not None else NO_ADDRESS


def entry_location(entry: WiremapEntry, places: Places) -> tuple[DispatchableLocation | None, SitePlace | None]:
    """The place that a row says, and the site or zone it is of."""
    return _located(entry, places.find(entry.site, entry.zone) or places.find(entry.site))


@lru_cache(maxsize=CACHED_LOCATIONS)
def _located(entry: WiremapEntry, place: SitePlace | None) -> tuple[DispatchableLocation | None, SitePlace | None]:
    """The row's place, completed from its site and zone where it names that same place."""
    civic, point = entry.civic, entry.point
    completed = complete(place, civic) if place and place.network_location else None
    if place and completed:
        civic, point = completed, point or place.site.point
    elif not civic.has_street_address and point is None:
        # It still tells of which site or zone the phone is, whose address nobody has written down.
        return None, place
    else:
        place = None
    location = DispatchableLocation(
        civic=civic,
        point=point,
        source=LocationSource.NETWORK,
        method="802.11" if entry.bssid else "Wiremap",
        site=place.site.id if place else "",
        zone=place.zone.id if place and place.zone else "",
        occupant=place.site.name if place else "",
        updated_at=entry.updated_at,
    )
    return location, place
