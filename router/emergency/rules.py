"""What the configuration says about emergency calls, compiled once: numbers, sources, sites, routes, profiles."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from config.load import LoadedConfig
from config.schema import AdditionalData, BasicRoute, Config, EmergencyRoute, SiteConfig
from e911.additional_data import CallData, ProviderData
from e911.devices import canonical_host
from e911.locate import Places
from e911.location import CivicAddress, LocationSource, Site, Zone
from e911.numbers import CallKind, EmergencyNumbers, classify
from e911.provider_profile import ProviderProfile
from router.callback.leasing import pools_of
from router.locating.attachment_fields import AttachmentFields
from router.locating.lis_client import LisServer, lis_server
from router.network.sources import Source
from sip.message import Request

if TYPE_CHECKING:
    from router.emergency.call_routes import Ladder

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_ORDINARY = CallKind.ORDINARY
_CONVEYED = LocationSource.CONVEYED

KINDS_KEPT = 10_000
LONGEST_KIND_KEPT = 256


class Rules:
    """What the configuration says about emergency calls, compiled once."""

    def __init__(self, loaded: LoadedConfig, trunk_addresses: Sequence[str], key: bytes) -> None:
        config = loaded.config
        self.config = config
        self.profiles = loaded.profiles
        self.key = key
        self.domain = config.own_domain
        self.numbers = EmergencyNumbers(
            emergency=frozenset(config.emergency.numbers), test=frozenset(config.emergency.test_numbers)
        )
        self.sources: tuple[LocationSource, ...] = tuple(config.locations.sources)
        self.asks_references = _CONVEYED in self.sources
        """False where a caller's location decides nothing, so that no call waits for it."""
        self.attachment_fields = AttachmentFields(config.locations.wiremap)
        self.call_data = _call_data(config.emergency.additional_data)
        self.servers = location_servers_of(loaded) if LocationSource.HELD in self.sources else {}
        """Location servers by site, the general one under an empty name; none where `sources` leaves held out."""
        self.sites = {site.id: site for site in config.sites}
        self.pools = pools_of(config)
        self._kinds: dict[bytes, CallKind] = {}
        """By Request-URI: the same few are dialled again and again."""
        self.ladders: dict[tuple[str, str, str, bool, bool, CallKind], Ladder] = {}
        """Ladders made before, by what they depend on: site, country, state, whether a location is known, and whether
        it is the caller's own, kind of call."""
        self.places = places_of(config, trunk_addresses, self.numbers)
        self._peers = _names_of_peers(config)

    def is_own_domain(self, host: str, source: Source) -> bool:
        """True where the host of an address of record that came from there is the phone's own domain (decision 0006).

        A PBX or gateway (a trunk, or who may assert identities) puts its own name there. So do phones that know a PBX
        or us only by the name of the machine.
        """
        if source.is_trunk_address or source.trust_identity or "." not in host:
            return False
        return canonical_host(host) not in self._peers

    def kind_of(self, request: Request, source: Source | None = None) -> CallKind:
        """What an INVITE or MESSAGE without To tag is for. From some sources each is an emergency, but for tests."""
        kind = self._kinds.get(request.uri)
        if kind is None:
            kind = classify(request.uri.decode("latin-1"), self.numbers)
            if len(self._kinds) >= KINDS_KEPT:
                self._kinds.clear()
            if len(request.uri) <= LONGEST_KIND_KEPT:
                self._kinds[request.uri] = kind
        if kind is _ORDINARY and source is not None and source.is_all_emergency:
            return CallKind.EMERGENCY
        return kind

    def profile_of(self, route: EmergencyRoute | BasicRoute) -> ProviderProfile | None:
        """The provider profile of a route, with what the route itself says otherwise; None for a plain number."""
        if route.profile is None:
            return None
        profile = self.profiles[route.profile]
        return profile if route.add_location is None else replace(profile, add_location=route.add_location)

    def routes_for(self, site: Site | None) -> tuple[list[EmergencyRoute], list[BasicRoute]]:
        """The site's own lists where it has them, else the general ones."""
        emergency = self.config.emergency
        own = self.sites.get(site.id) if site else None
        routes = own.routes if own is not None and own.routes is not None else emergency.routes
        basic = own.basic if own is not None and own.basic is not None else emergency.basic
        return routes, basic


def _names_of_peers(config: Config) -> frozenset[str]:
    """The hosts of all trunks, and what we name ourselves by."""
    names = {peer.host for trunk in config.trunks.values() for peer in trunk.addresses} | {config.own_domain}
    names |= {point.advertised[0] for point in config.listen if point.advertised is not None}
    return frozenset(map(canonical_host, names))


def places_of(config: Config, trunk_addresses: Sequence[str] = (), numbers: EmergencyNumbers | None = None) -> Places:
    """The sites and zones of a configuration, as calls are located by them."""
    return Places(
        sites=[_site(site) for site in config.sites],
        default_site=config.emergency.default.site,
        all_contacts=list(config.contacts),
        trunk_addresses=list(trunk_addresses),
        numbers=numbers,
    )


def location_servers_of(loaded: LoadedConfig) -> dict[str, LisServer]:
    """The location servers of a configuration."""
    config = loaded.config
    ca = config.tls.ca if config.tls is not None else None
    named = {site.id: site.lis for site in config.sites} | {"": config.locations.lis}
    return {
        name: lis_server(lis, lambda text: str(loaded.path(text)), ca)
        for name, lis in named.items()
        if lis is not None
    }


def _call_data(data: AdditionalData) -> CallData:
    provider = ProviderData(**data.provider.model_dump()) if data.provider is not None else None
    return CallData(
        provider=provider,
        environment=data.environment,
        service_type=data.service_type,
        comment=data.comment,
        language=data.language,
    )


def _site(site: SiteConfig) -> Site:
    return Site(
        id=site.id,
        name=site.name,
        timezone=site.timezone,
        address=site.address,
        point=site.point,
        networks=tuple(site.networks),
        numbers=tuple(site.numbers),
        callback=site.callback,
        contacts=tuple(site.notify),
        multi_storey=site.multi_storey,
        floors=tuple(site.floors),
        location_id=site.location_id,
        endpoint_id=site.endpoint_id,
        zones=tuple(
            Zone(
                id=zone.id,
                name=zone.name,
                networks=tuple(zone.networks),
                location_id=zone.location_id,
                endpoint_id=zone.endpoint_id,
                finer=CivicAddress(
                    building=zone.building,
                    floor=zone.floor,
                    unit=zone.unit,
                    room=zone.room,
                    landmark=zone.landmark,
                    additional=zone.additional,
                ),
            )
            for zone in site.zones
        ),
    )
