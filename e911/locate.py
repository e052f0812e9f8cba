"""Who is calling and where they are: the rules. All tables are in memory; nothing here waits or raises.

A caller is matched to a registered device, claimed by a site, located by the first configured source that
knows, and given a number to be called back on. Every source says why it did or did not decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from e911.attached import attached_at
from e911.attachment import Attachment
from e911.completing import complete
from e911.confidence import confidence_of
from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.devices import DeviceMatch, DeviceTable
from e911.finer import refined, stays_put, with_desk
from e911.location import (
    Device,
    DeviceKind,
    DispatchableLocation,
    LocationSource,
    Site,
    Zone,
)
from e911.lost import NONE_VALIDATED, ValidatedAddresses
from e911.numbers import canonical_user, dialable
from e911.places import Places, SitePlace
from e911.record import SourceAnswer, SourceOutcome
from e911.wiremap import NO_WIREMAP, WiremapTable

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_CONVEYED = LocationSource.CONVEYED
_NETWORK = LocationSource.NETWORK
_REGISTERED = LocationSource.REGISTERED
_SITE_ADDRESS = LocationSource.SITE
_HELD = LocationSource.HELD
_WON = SourceOutcome.WON
_KNEW = SourceOutcome.KNEW
_FIXED = DeviceKind.FIXED

AMBIGUOUS_DEVICE: Final = "ambiguous-device"
"""Why nobody is taken for the caller: several devices at different places have that name."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswer:
    """What a location server (LIS) said of a caller."""

    location: DispatchableLocation | None = None
    reason: str = ""
    detail: str = ""
    """Which server, and by what the caller was named to it."""


NOT_ASKED = HeldAnswer(reason="no-lis")


@dataclass(slots=True, kw_only=True)
class LocationQuery:
    """What is known of a caller: the identity believed, and the IP address the INVITE came from."""

    identity: CallerIdentity
    source_address: str
    behind_trunk: bool = False
    """True where the INVITE came from a trunk (a PBX), so that its address is not the phone's."""
    is_own_domain: bool = False
    """True where the host of the identity is the phone's own domain, and no name that others put there."""
    conveyed: Conveyed = NOTHING_CONVEYED
    """The location the caller sent, read and judged."""
    phone_address: str = ""
    """Of a phone behind a trunk: its own IP address, where the trunk lets it through."""
    phone_address_reason: str = ""
    """Why there is no such address, where there should be."""
    attachment: Attachment | None = None
    """What the phone says that it is attached to; None where it says nothing."""
    hardware: str = ""
    """The phone's hardware address as it says itself, 12 lower-case hexadecimal digits; empty where it does not."""
    held: HeldAnswer = NOT_ASKED
    """What the location server says."""
    now: float = 0.0
    """Seconds since 1970, for what ages."""
    validated: ValidatedAddresses = field(default_factory=lambda: NONE_VALIDATED)
    """What the location validation function said of the addresses of sites."""


@dataclass(slots=True, kw_only=True)
class LocationDecision:
    """Who is calling, from where, who is told, and why each is so."""

    device: Device | None
    device_reason: str
    """How the device was matched (`address-of-record`, `user`, `network`, `same-place`, `mac-address`), or why none
    was (`unknown-device`, `other-domain`, `ambiguous-device`, `no-identity`)."""
    site: Site | None
    site_reason: str
    """`device`, `number`, `network` (also of a visitor from another site), `default-site` or `no-site`."""
    zone: Zone | None
    location: DispatchableLocation | None
    answers: tuple[SourceAnswer, ...]
    """One for each source: the configured ones in their order, then the others."""
    callback: str
    """+E.164, or empty."""
    callback_source: str
    """`device`, `caller`, `site`, `default-site` or empty."""
    contacts: tuple[str, ...]
    is_as_registered: bool = False
    """True where the location is what the device is registered with, whichever source decided it: a desk phone in the
    network of its site, with its room."""


_Found = tuple[DispatchableLocation | None, SitePlace | None, str]
"""What one source says: the location, the site or zone it is of, and the reason."""


def locate(
    query: LocationQuery,
    devices: DeviceTable,
    places: Places,
    sources: Sequence[LocationSource],
    wiremap: WiremapTable = NO_WIREMAP,
) -> LocationDecision:
    """Decide who calls, from where, and who is told; `sources` is the configured order. Never raises."""
    user = canonical_user(query.identity.user)
    network, network_reason = _seen_in(query, places)
    at_network = _at_network(network, network_reason)
    if query.attachment is not None:
        # What a phone is plugged into says more than the network it is in: a network may reach several places.
        attached, place, reason = attached_at(query.attachment, wiremap, places)
        # At an outlet or access point with an address of its own it is not where its subnet usually is.
        network = place if attached is not None else place or network
        if attached is not None:
            at_network = attached, place, reason
        elif at_network[0] is None:
            at_network = None, None, reason

    match = devices.match_canonical(user, query.identity.host, query.is_own_domain)
    device, device_reason, device_site = choose_device(match, network)
    if not user:
        device_reason = "no-identity"
    owner = device
    if query.hardware and (here := devices.with_hardware(query.hardware)):
        device, device_reason, device_site = _at_phone(here, match, network)
    site, site_reason = _claim(device_site, user, network, places)

    found: dict[LocationSource, _Found] = {
        _CONVEYED: (query.conveyed.location_at(query.now), None, query.conveyed.reason),
        _NETWORK: at_network,
        _REGISTERED: registered_location(device, device_reason, places, query.now),
        _SITE_ADDRESS: _at_site(site, places),
    }
    if _HELD in sources:
        found[_HELD] = query.held.location, None, query.held.reason
    winner = _first(found, sources)
    location, place, _ = found[winner] if winner is not None else (None, None, "")
    if location is not None and winner is not _CONVEYED:
        desk = device if device and _REGISTERED in sources and stays_put(device, query.now) else None
        if place and desk and winner is not _REGISTERED:
            location, place = with_desk(location, place, desk, places, seen=network)
        if not location.finer_from:
            # What with_desk has judged by its site; a device of no site names its place by its address alone.
            if desk is not None and ((place is not None and desk.site) or _is_seen_elsewhere(desk, network, places)):
                desk = None
            location, place = _refined(location, place, found, sources, desk)
    if location is not None:
        location = _as_validated(location, found[_REGISTERED][0], query.validated)
    is_as_registered = _is_as_registered(location, found[_REGISTERED][0])
    answers = _answers(found, sources, winner, query, device, location)
    if place is None:
        place = network  # nobody knows, or the caller does: the network still says in which zone they were seen
    contacts = _contacts(site, places)
    if place is not None and place.site is not site and winner not in (_REGISTERED, _SITE_ADDRESS):
        # A visitor: routes, ELIN and desk are those of where the phone is, and the people there are told as well.
        site, site_reason = place.site, "network"
        contacts = tuple(dict.fromkeys(_contacts(site, places) + contacts))
    callback, callback_source = _callback(owner or device, user, site, places)
    return LocationDecision(
        device=device,
        device_reason=device_reason,
        site=site,
        site_reason=site_reason,
        zone=place.zone if place and place.site is site else None,
        location=location,
        answers=answers,
        callback=callback,
        callback_source=callback_source,
        contacts=contacts,
        is_as_registered=is_as_registered,
    )


def choose_device(match: DeviceMatch, network: SitePlace | None) -> tuple[Device | None, str, str]:
    """The one device that the caller must be, the reason, and the site (id) that all candidates share.

    Several candidates are narrowed to those of the site, then of the zone, in whose network the caller is.
    Those left are one device only where all of them are at the very same place (a line shared by AORs);
    which of them it is then does not matter, but a callback number they do not share is not used.
    """
    found = match.devices
    if not found:
        return None, "other-domain" if match.is_of_another_domain else "unknown-device", ""
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
    return None, AMBIGUOUS_DEVICE, sites.pop() if len(sites) == 1 else ""


def _at_phone(
    here: tuple[Device, ...], match: DeviceMatch, network: SitePlace | None
) -> tuple[Device | None, str, str]:
    """As choose_device, among the lines of the very phone that calls: the caller's own line where it has one.

    A phone is where it stands, whoever has logged in to it.
    """
    own = tuple(device for device in here if device in match.devices)
    device, reason, site = choose_device(DeviceMatch(own or here, False), network)
    return device, "mac-address" if device else reason, site


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


def _seen_in(query: LocationQuery, places: Places) -> tuple[SitePlace | None, str]:
    """The site or zone in whose network the phone is, and the reason. The address of a trunk is never a phone's."""
    seen = places.source(query.source_address)
    if not (query.behind_trunk or seen.is_trunk):
        return seen.place, seen.reason
    if not query.phone_address:
        return None, query.phone_address_reason or "behind-pbx"
    seen = places.source(query.phone_address)
    return (None, "phone-address-of-pbx") if seen.is_trunk else (seen.place, seen.reason)


def _first(found: dict[LocationSource, _Found], sources: Sequence[LocationSource]) -> LocationSource | None:
    """The first source, in order, that knows.

    A registered location in doubt stands behind every source that sees where the phone is now, and before the
    site's own address (decision 0041).
    """
    doubtful: LocationSource | None = None
    for source in sources:
        location = found[source][0]
        if location is None or (doubtful is not None and source is _SITE_ADDRESS):
            continue
        if not location.doubt:
            return source
        doubtful = doubtful or source
    return doubtful


def _refined(
    location: DispatchableLocation,
    place: SitePlace | None,
    found: dict[LocationSource, _Found],
    sources: Sequence[LocationSource],
    desk: Device | None,
) -> tuple[DispatchableLocation, SitePlace | None]:
    """The location with finer parts of another source: a desk phone's, what a phone is attached to, or what the
    location server says now."""
    for source in sources:
        other, other_place, reason = found[source]
        if other is None or source is location.source or other == location:
            continue
        if source is _REGISTERED and desk is None:
            continue
        if source not in _FINER_SOURCES or (source is _HELD and reason != "held-answered"):
            continue
        finer = refined(location, other)
        if finer is not None:
            return finer, place if place is not None and place.zone is not None else other_place or place
    return location, place


def _is_as_registered(location: DispatchableLocation | None, registered: DispatchableLocation | None) -> bool:
    if location is None or registered is None or location.source is _CONVEYED:
        return False
    return location.source is _REGISTERED or _place_of(location) == _place_of(registered)


def _place_of(location: DispatchableLocation) -> tuple[object, ...]:
    return location.site, location.zone, location.civic, location.point


def _as_validated(
    location: DispatchableLocation, registered: DispatchableLocation | None, validated: ValidatedAddresses
) -> DispatchableLocation:
    """The location with what the location validation function said of the very same address as it is registered,
    else of its street address as a site has it."""
    if location.validation:
        return location
    if registered is not None and registered.validation and location.civic == registered.civic:
        return replace(location, validation=registered.validation, validated_at=registered.validated_at)
    if validated and (said := validated.get(location.civic.as_street_address)) is not None:
        return replace(location, validation=said.validation, validated_at=said.validated_at)
    return location


def _is_seen_elsewhere(device: Device, seen: SitePlace | None, places: Places) -> bool:
    """True for a device that is seen in another site's network, or outside its own zone's."""
    if seen is None or not device.site:
        return False
    own = places.find(device.site, device.zone)
    has_networks = own is not None and own.zone is not None and bool(own.zone.networks)
    return seen.site.id != device.site or (has_networks and seen is not own)


_FINER_SOURCES = frozenset({LocationSource.REGISTERED, LocationSource.NETWORK, LocationSource.HELD})


def _answers(
    found: dict[LocationSource, _Found],
    sources: Sequence[LocationSource],
    winner: LocationSource | None,
    query: LocationQuery,
    device: Device | None,
    decided: DispatchableLocation | None,
) -> tuple[SourceAnswer, ...]:
    """What every source said, and why it did or did not decide; `decided` is what the call carries."""
    answers = []
    finer_from = decided.finer_from if decided else ""
    registered = found[_REGISTERED][0]
    for source in sources:
        location, _, reason = found.pop(source, (None, None, "named-twice"))
        detail = ""
        if source is _NETWORK:
            detail = _network_detail(query)
        elif source is _HELD:
            detail = query.held.detail
        if location is None:
            answers.append(_missed(source, reason, detail))
            continue
        lost = ""
        if source is not winner:
            lost = "finer-parts-taken" if source == finer_from else "in-doubt" if location.doubt else "later-in-order"
        moves = source is _REGISTERED and device is not None and device.kind is not _FIXED
        judged = decided if source is winner and decided else _as_validated(location, registered, query.validated)
        answers.append(
            SourceAnswer(
                source=source._value_,
                outcome=_WON if source is winner else _KNEW,
                reason=reason,
                lost=lost,
                confidence=confidence_of(
                    reason,
                    location.updated_at,
                    query.now,
                    moves=moves,
                    is_doubtful=bool(location.doubt) or judged.validation.startswith("invalid"),
                ),
                as_of=location.updated_at,
                detail=detail,
                location=location,
            )
        )
    answers += [_missed(source, "not-configured", "") for source in found]
    return tuple(answers)


def _network_detail(query: LocationQuery) -> str:
    """What the network was asked with, beyond the address that the call came from."""
    if query.attachment is None:
        return query.phone_address
    text = query.attachment.text or query.attachment.reason
    return f"{text}, {query.phone_address}" if query.phone_address else text


@lru_cache(maxsize=512)
def _missed(source: LocationSource, reason: str, detail: str) -> SourceAnswer:
    return SourceAnswer(source=source._value_, outcome=SourceOutcome.MISSED, reason=reason, detail=detail)


# The registered location (method Manual).


def registered_location(device: Device | None, device_reason: str, places: Places, now: float) -> _Found:
    """What is registered for the device, completed from its site and zone where it names that same place."""
    if device is None:
        return None, None, device_reason
    place = places.find(device.site, device.zone) or places.find(device.site)
    return _registered_at(device, place, device.doubt(now))


def _registered_at(device: Device, place: SitePlace | None, doubt: str) -> _Found:
    civic = device.civic
    point = device.point
    completed = complete(place, civic) if place and place.network_location else None
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
        source=_REGISTERED,
        method="Manual",
        site=place.site.id if place else "",
        zone=place.zone.id if place and place.zone else "",
        occupant=place.site.name if place and not device.civic.has_street_address else "",
        updated_at=device.confirmed_at or device.updated_at,
        doubt=doubt,
        validation=device.validation,
        validated_at=device.validated_at,
    )
    return location, place, doubt or "registered-device"


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
