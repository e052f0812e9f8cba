"""The sites as the call path needs them: by id, by network, by number pattern, their locations made up."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from e911.location import CivicAddress, DispatchableLocation, IPNetwork, LocationSource, Site, Zone
from e911.numbers import EmergencyNumbers, canonical_user, dialable

SOURCE_CACHE_SIZE = 65_536
"""Source addresses remembered; beyond that all are forgotten and learnt anew."""

_NANP_PATTERN = re.compile(r"(?:\+?1)?([2-9X][0-9X]{2}[2-9X][0-9X]{6})")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SitePlace:
    """A site, or a zone of one, with the locations that follow from it; None where it has no address."""

    site: Site
    zone: Zone | None
    civic: CivicAddress
    """The site's address with the zone's finer parts."""
    network_location: DispatchableLocation | None
    """For a phone seen in its network (method Wiremap)."""
    site_location: DispatchableLocation | None
    """For a caller of whom only this is known (method Default)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourcePlace:
    """What a source address says: the place whose network holds it, or why it says nothing."""

    is_trunk: bool
    place: SitePlace | None
    reason: str
    """`zone-network`, `site-network`, `no-network`, `ambiguous-network` or `behind-pbx`."""


class Places:
    """The sites, compiled. Built once for each configuration; it never changes but for its cache."""

    __slots__ = (
        "_networks",
        "_patterns",
        "_places",
        "_seen",
        "_trunks",
        "all_contacts",
        "default",
        "never_callback",
    )

    def __init__(
        self,
        *,
        sites: Sequence[Site],
        default_site: str | None,
        all_contacts: Sequence[str],
        trunk_addresses: Collection[str],
        numbers: EmergencyNumbers | None = None,
    ) -> None:
        """`trunk_addresses` are IP addresses as text; `numbers` are never taken for a callback number."""
        self._places = {(place.site.id, place.zone.id if place.zone else ""): place for place in _places(sites)}
        self.default = self.find(default_site or "")
        self.all_contacts = tuple(all_contacts)
        self.never_callback = frozenset(
            dialable(number) for number in (numbers.emergency | numbers.test if numbers else ())
        )
        self._trunks = frozenset(_address(text) or text for text in trunk_addresses)
        self._networks = _compile_networks(list(self._places.values()))
        self._patterns = _compile_patterns(sites)
        self._seen: dict[str, SourcePlace] = {}

    def find(self, site_id: str, zone_id: str = "") -> SitePlace | None:
        """The site, or the zone of that site; None where there is no such site (zone)."""
        return self._places.get((site_id, zone_id))

    def street_addresses(self) -> dict[CivicAddress, list[str]]:
        """Each street address of a site, and whose it is: `SITE`, and `SITE/ZONE` for a zone that has another
        (a landmark of its own)."""
        found: dict[CivicAddress, list[str]] = {}
        for (site, zone), place in self._places.items():
            if not place.civic.has_street_address:
                continue
            whose = found.setdefault(place.civic.as_street_address, [])
            if site not in whose:
                whose.append(f"{site}/{zone}" if zone else site)
        return found

    def source(self, address: str) -> SourcePlace:
        """What the address an INVITE came from says; the longest prefix decides. Never raises."""
        known = self._seen.get(address)
        if known is None:
            if len(self._seen) >= SOURCE_CACHE_SIZE:
                self._seen.clear()
            known = self._seen[address] = self._look_up(address)
        return known

    def _look_up(self, text: str) -> SourcePlace:
        address = _address(text)
        if (address or text) in self._trunks:
            return SourcePlace(is_trunk=True, place=None, reason="behind-pbx")
        if address is None:
            return SourcePlace(is_trunk=False, place=None, reason="no-network")
        number = int(address)
        for shift, found in self._networks[address.version]:
            place = found.get(number >> shift)
            if place is not None:
                return place
        return SourcePlace(is_trunk=False, place=None, reason="no-network")

    def site_by_number(self, user: str) -> tuple[Site | None, str]:
        """The site whose number pattern a canonical user part fits best, and the reason.

        The pattern with the fewest X decides; where patterns of two sites fit equally well it is nobody's
        (`ambiguous-number`). `number` where one fits, `no-number` where none does.
        """
        best: list[_Pattern] = []
        # A canonical number is +digits or digits; text such as alice4102 is no number.
        texts = (user, user[1:]) if user[:1] == "+" else (user,)
        for text in texts:
            for prefix_length in self._patterns.prefix_lengths.get(len(text), ()):
                for pattern in self._patterns.by_prefix.get((len(text), text[:prefix_length]), ()):
                    if pattern.regex.fullmatch(text):
                        best.append(pattern)
        if not best:
            return None, "no-number"
        fewest = min(pattern.wild for pattern in best)
        sites = {pattern.site.id: pattern.site for pattern in best if pattern.wild == fewest}
        if len(sites) > 1:
            return None, "ambiguous-number"
        (site,) = sites.values()
        return site, "number"


def _places(sites: Sequence[Site]) -> Iterator[SitePlace]:
    for site in sites:
        for zone in (None, *site.zones):
            civic = site.address.overlaid(zone.finer) if zone else site.address
            located = site.address.has_street_address or site.point is not None
            by_network, by_site = (
                DispatchableLocation(
                    civic=civic,
                    point=site.point,
                    source=source,
                    method=method,
                    site=site.id,
                    zone=zone.id if zone else "",
                    occupant=site.name,
                )
                if located
                else None
                for source, method in ((LocationSource.NETWORK, "Wiremap"), (LocationSource.SITE, "Default"))
            )
            yield SitePlace(site=site, zone=zone, civic=civic, network_location=by_network, site_location=by_site)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in this text; an IPv4-mapped IPv6 address is the IPv4 address it stands for."""
    try:
        address = ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


_NetworksOfVersion = list[tuple[int, dict[int, SourcePlace]]]


def _compile_networks(places: list[SitePlace]) -> dict[int, _NetworksOfVersion]:
    """For IP version 4 and 6, longest prefix first: (bits to shift off, place by prefix)."""
    claims: dict[IPNetwork, list[SitePlace]] = {}
    for place in places:
        for network in (place.zone or place.site).networks:
            claims.setdefault(network, []).append(place)
    whole_sites = {place.site.id: place for place in places if not place.zone}
    by_shift: dict[int, dict[int, dict[int, SourcePlace]]] = {4: {}, 6: {}}
    for network, claimants in claims.items():
        shift = network.max_prefixlen - network.prefixlen
        found = by_shift[network.version].setdefault(shift, {})
        found[int(network.network_address) >> shift] = _decide_claim(claimants, whole_sites)
    return {version: sorted(shifts.items()) for version, shifts in by_shift.items()}


def _decide_claim(claimants: list[SitePlace], whole_sites: dict[str, SitePlace]) -> SourcePlace:
    """Who has a network that several claim: a zone before its site; the site where two of its zones do."""
    site_ids = {place.site.id for place in claimants}
    if len(site_ids) > 1:
        return SourcePlace(is_trunk=False, place=None, reason="ambiguous-network")
    zones = [place for place in claimants if place.zone]
    if len(zones) == 1:
        return SourcePlace(is_trunk=False, place=zones[0], reason="zone-network")
    return SourcePlace(is_trunk=False, place=whole_sites[site_ids.pop()], reason="site-network")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pattern:
    regex: re.Pattern[str]
    wild: int
    site: Site


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patterns:
    """Patterns by their length and what stands before their first X, so that few need to be tried."""

    prefix_lengths: dict[int, tuple[int, ...]]
    by_prefix: dict[tuple[int, str], list[_Pattern]]


def _compile_patterns(sites: Sequence[Site]) -> _Patterns:
    by_prefix: dict[tuple[int, str], list[_Pattern]] = {}
    for site in sites:
        for written in site.numbers:
            for text in _spellings(written):
                pattern = _Pattern(
                    regex=re.compile("".join("[0-9]" if char == "X" else re.escape(char) for char in text)),
                    wild=text.count("X"),
                    site=site,
                )
                by_prefix.setdefault((len(text), text.partition("X")[0]), []).append(pattern)
    lengths: dict[int, set[int]] = {}
    for length, prefix in by_prefix:
        lengths.setdefault(length, set()).add(len(prefix))
    return _Patterns(
        prefix_lengths={length: tuple(sorted(found)) for length, found in lengths.items()},
        by_prefix=by_prefix,
    )


def _spellings(written: str) -> set[str]:
    """The pattern as written, and as canonical users are spelled: `212555012X` also is `+1212555012X`."""
    text = canonical_user(written).upper()
    nanp = _NANP_PATTERN.fullmatch(text)
    return {text, "+1" + nanp[1]} if nanp else {text}
