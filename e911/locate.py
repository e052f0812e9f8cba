"""Who is calling and where they are: the rules. All tables are in memory; nothing here waits or raises.

A caller is matched to a registered device, claimed by a site, located by the first configured source that
knows, and given a number to be called back on. Every source says why it did or did not decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.devices import DeviceMatch, DeviceTable
from e911.location import (
    CivicAddress,
    Device,
    DeviceKind,
    DispatchableLocation,
    LocationSource,
    Site,
    Zone,
)
from e911.numbers import canonical_user, dialable
from e911.places import Places, SitePlace
from e911.record import SourceAnswer, SourceOutcome

__all__ = [
    "CallerIdentity",
    "DeviceTable",
    "LocationDecision",
    "LocationQuery",
    "Places",
    "locate",
]


# Made on every emergency call and never changed; not frozen, for that triples the price of making one.


@dataclass(slots=True, kw_only=True)
class CallerIdentity:
    """Who the INVITE says is calling; source is `p-asserted-identity` or `from`."""

    user: str
    host: str = ""
    display_name: str = ""
    source: str = "from"


@dataclass(slots=True, kw_only=True)
class LocationQuery:
    """What is known of a caller: the identity believed, and the IP address the INVITE came from."""

    identity: CallerIdentity
    source_address: str
    behind_trunk: bool = False
    """True where the INVITE came from a trunk (a PBX), so that its address is not the phone's."""
    conveyed: Conveyed = NOTHING_CONVEYED
    """The location the caller sent, read and judged."""


@dataclass(slots=True, kw_only=True)
class LocationDecision:
    """Who is calling, from where, who is told, and why each is so."""

    device: Device | None
    device_reason: str
    """How the device was matched (`address-of-record`, `user`, `network`, `same-place`), or why none was
    (`unknown-device`, `ambiguous-device`, `no-identity`)."""
    site: Site | None
    site_reason: str
    """`device`, `number`, `network`, `default-site` or `no-site`."""
    zone: Zone | None
    location: DispatchableLocation | None
    answers: tuple[SourceAnswer, ...]
    """One for each source: the configured ones in their order, then the others."""
    callback: str
    """+E.164, or empty."""
    callback_source: str
    """`device`, `caller`, `site`, `default-site` or empty."""
    contacts: tuple[str, ...]


_Found = tuple[DispatchableLocation | None, SitePlace | None, str]
"""What one source says: the location, the site or zone it is of, and the reason."""


def locate(
    query: LocationQuery, devices: DeviceTable, places: Places, sources: Sequence[LocationSource]
) -> LocationDecision:
    """Decide who calls, from where, and who is told; `sources` is the configured order. Never raises."""
    user = canonical_user(query.identity.user)
    seen = places.source(query.source_address)
    behind_trunk = query.behind_trunk or seen.is_trunk
    network = None if behind_trunk else seen.place
    network_reason = "behind-pbx" if behind_trunk else seen.reason

    match = devices.match_canonical(user, query.identity.host)
    device, device_reason, device_site = _choose_device(match, network)
    if not user:
        device_reason = "no-identity"
    site, site_reason = _claim(device_site, user, network, places)

    found: dict[LocationSource, _Found] = {
        LocationSource.CONVEYED: (query.conveyed.location, None, query.conveyed.reason),
        LocationSource.NETWORK: _at_network(network, network_reason),
        LocationSource.REGISTERED: _registered(device, device_reason, places),
        LocationSource.SITE: _at_site(site, places),
    }
    location, place, answers = _ask(found, sources)
    if location and place and device and location.source is not LocationSource.REGISTERED:
        location, place = _with_desk(location, place, device, places, seen=network)
    if place is None:
        place = network  # nobody knows, or the caller does: the network still says in which zone they were seen
    callback, callback_source = _callback(device, user, site, places)
    return LocationDecision(
        device=device,
        device_reason=device_reason,
        site=site,
        site_reason=site_reason,
        zone=place.zone if place else None,
        location=location,
        answers=answers,
        callback=callback,
        callback_source=callback_source,
        contacts=_contacts(site, places),
    )


def _choose_device(match: DeviceMatch, network: SitePlace | None) -> tuple[Device | None, str, str]:
    """The one device that the caller must be, the reason, and the site (id) that all candidates share.

    Several candidates are narrowed to those of the site, then of the zone, in whose network the caller is.
    Those left are one device only where all of them are at the very same place (a line shared by AORs);
    which of them it is then does not matter, but a callback number they do not share is not used.
    """
    found = match.devices
    if not found:
        return None, "unknown-device", ""
    if len(found) == 1:
        return found[0], "address-of-record" if match.exact else "user", found[0].site
    if network:
        here = tuple(device for device in found if device.site == network.site.id)
        zone_id = network.zone.id if network.zone else ""
        found = tuple(device for device in here if zone_id and device.zone == zone_id) or here or found
        if len(found) == 1:
            return found[0], "network", found[0].site
    first = found[0]
    if all(
        (other.site, other.zone, other.civic, other.point) == (first.site, first.zone, first.civic, first.point)
        for other in found
    ):
        if any(other.callback != first.callback for other in found):
            first = replace(first, callback="")
        return first, "same-place", first.site
    sites = {device.site for device in found}
    return None, "ambiguous-device", sites.pop() if len(sites) == 1 else ""


def _claim(device_site: str, user: str, network: SitePlace | None, places: Places) -> tuple[Site | None, str]:
    """The site a caller belongs to: by device, by number, by network, else the default."""
    if device_site:
        by_device = places.find(device_site)
        if by_device:
            return by_device.site, "device"
    by_number, _ = places.site_by_number(user)
    if by_number:
        return by_number, "number"
    if network:
        return network.site, "network"
    if places.default:
        return places.default.site, "default-site"
    return None, "no-site"


def _ask(
    found: dict[LocationSource, _Found], sources: Sequence[LocationSource]
) -> tuple[DispatchableLocation | None, SitePlace | None, tuple[SourceAnswer, ...]]:
    """The first source, in order, that knows; and what every one of them said."""
    won: DispatchableLocation | None = None
    won_place: SitePlace | None = None
    answers = []
    for source in sources:
        location, place, reason = found.pop(source, (None, None, "named-twice"))
        if location is None:
            outcome = SourceOutcome.MISSED
        elif won is None:
            outcome = SourceOutcome.WON
            won, won_place = location, place
        else:
            outcome = SourceOutcome.KNEW
        answers.append(_answer(source, outcome, reason))
    answers += [_answer(source, SourceOutcome.MISSED, "not-configured") for source in found]
    return won, won_place, tuple(answers)


@lru_cache(maxsize=512)
def _answer(source: LocationSource, outcome: SourceOutcome, reason: str) -> SourceAnswer:
    return SourceAnswer(source=source.value, outcome=outcome, reason=reason)


# The registered location (method Manual).

CACHED_LOCATIONS = 8192
"""Made-up locations remembered: making one up costs more than all the rest of a decision."""

_NOTHING = CivicAddress()

_LOCALITY = ("country", "state", "county", "city")
_STREET = ("pre_directional", "street", "street_suffix", "post_directional")
_HOUSE = ("house_number", "house_number_suffix")
_FINER_CONFLICT = ("building", "floor", "unit")


def _registered(device: Device | None, device_reason: str, places: Places) -> _Found:
    """What is registered for the device, completed from its site and zone where it names that same place."""
    if device is None:
        return None, None, device_reason
    place = places.find(device.site, device.zone) or places.find(device.site)
    return _registered_at(device, place)


def _registered_at(device: Device, place: SitePlace | None) -> _Found:
    civic = device.civic
    point = device.point
    completed = _complete(place, civic) if place and place.network_location else None
    if place and completed:
        civic = completed
        point = point or place.site.point
    else:
        place = None
    if not civic.has_street_address and point is None:
        return None, None, "no-address"
    location = DispatchableLocation(
        civic=civic,
        point=point,
        source=LocationSource.REGISTERED,
        method="Manual",
        site=place.site.id if place else "",
        zone=place.zone.id if place and place.zone else "",
        occupant=place.site.name if place and not device.civic.has_street_address else "",
        updated_at=device.updated_at,
    )
    return location, place, "registered-device"


@lru_cache(maxsize=CACHED_LOCATIONS)
def _complete(place: SitePlace, given: CivicAddress) -> CivicAddress | None:
    """The place's address with the given parts over it; None where the given parts are of another place.

    Parts of two streets are never mixed: a street of its own brings its directionals and its house number.
    """
    base = place.civic
    if given == _NOTHING:
        return base
    if _differ(given, base, _LOCALITY) or _other_postal_code(given.postal_code, base.postal_code):
        return None
    if given.street and _gives_another_street(given, base):
        if given.city:
            return None
        base = replace(place.site.address, **dict.fromkeys(_STREET + _HOUSE, ""))
    elif given.house_number and not _same(given.house_number, base.house_number):
        base = replace(base, house_number_suffix="")
    return base.overlaid(given)


def _gives_another_street(given: CivicAddress, base: CivicAddress) -> bool:
    """True where a given part of street or house number is not that of `base`."""
    return any(not _same(part, getattr(base, name)) for name in _STREET + _HOUSE if (part := getattr(given, name)))


def _same(one: str, other: str) -> bool:
    return one == other or one.casefold().split() == other.casefold().split()


def _differ(given: CivicAddress, base: CivicAddress, names: tuple[str, ...]) -> bool:
    """True where both give one of the named fields and they are not the same."""
    return any(
        not _same(one, other) for name in names if (one := getattr(given, name)) and (other := getattr(base, name))
    )


def _other_postal_code(one: str, other: str) -> bool:
    """True where both are given and differ; 10118 and 10118-0110 do not, nor do H3B2Y5 and h3b 2y5."""
    one, other = ("".join(text.upper().split()) for text in (one, other))
    return not one.startswith(other) and not other.startswith(one)


# The place where the caller's network is, and the site's own.


def _at_network(network: SitePlace | None, reason: str) -> _Found:
    if network is None:
        return None, None, reason
    if network.network_location is None:
        return None, None, "no-address"
    return network.network_location, network, reason


def _at_site(site: Site | None, places: Places) -> _Found:
    place = places.find(site.id) if site else None
    if place is None:
        return None, None, "no-site"
    if place.site_location is None:
        return None, None, "no-address"
    return place.site_location, place, "site-address"


def _with_desk(
    location: DispatchableLocation,
    place: SitePlace,
    device: Device,
    places: Places,
    *,
    seen: SitePlace | None,
) -> tuple[DispatchableLocation, SitePlace]:
    """The location with the desk phone's own finer parts, so that its room is not lost to its floor's subnet.

    Only where nothing speaks against it: the device is fixed, of this site and (where both are known) this
    zone, its civic parts are of the site's address and not of another building, floor or unit than the
    place says; and it is not seen in a network that its own zone does not have.
    """
    unchanged = location, place
    if device.kind is not DeviceKind.FIXED or device.site != place.site.id:
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
    if _differ(given, place.civic, _FINER_CONFLICT) or _gives_another_street(given, place.site.address):
        return None
    completed = _complete(place, given)
    if completed is None:
        return None
    zone_id = place.zone.id if place.zone else ""
    return replace(location, civic=completed, point=device.point or location.point, zone=zone_id)


def _callback(device: Device | None, user: str, site: Site | None, places: Places) -> tuple[str, str]:
    """The number the PSAP is shown, and whose it is."""
    for text, source in (
        (device.callback if device else "", "device"),
        (user, "caller"),
        (site.callback if site else "", "site"),
        (places.default.site.callback if places.default else "", "default-site"),
    ):
        number = dialable(text) if text else ""
        if number and number not in places.never_callback:
            return number, source
    return "", ""


def _contacts(site: Site | None, places: Places) -> tuple[str, ...]:
    """Who is told. No 911 call goes without a notice: a site without contacts has the default's, or all."""
    if site and site.contacts:
        return site.contacts
    if site and places.default and places.default.site.contacts:
        return places.default.site.contacts
    return places.all_contacts
