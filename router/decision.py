"""The decision an emergency call gets: who, where, which routes, who is told. Pure: `explain` and the calls use it.

Everything here is made of the request, the tables in memory and the configuration; nothing waits and nothing is sent.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from config.load import LoadedConfig
from config.schema import AdditionalData, BasicRoute, Config, EmergencyRoute, SiteConfig
from e911.additional_data import CallData, ProviderData
from e911.conveyed import NOTHING_CONVEYED, Conveyed, LocationDocument, read_conveyed
from e911.elin import Lease
from e911.locate import (
    NOT_ASKED,
    CallerIdentity,
    DeviceTable,
    HeldAnswer,
    LocationDecision,
    LocationQuery,
    Places,
    locate,
)
from e911.location import CivicAddress, LocationSource, Site, Zone
from e911.numbers import CallKind, EmergencyNumbers, classify, dialable, dialled
from e911.provider import (
    ExistingFields,
    ProviderRequest,
    basic_request,
    provider_request,
    user_part,
)
from e911.provider_profile import (
    AddLocation,
    LocationConveyance,
    ProviderProfile,
)
from e911.record import Caller
from e911.wiremap import NO_WIREMAP, WiremapTable
from router.attachment_fields import AttachmentFields
from router.from_uri import LONGEST_URI, uri_in, with_uri
from router.hardware import hardware_address
from router.identity import drop_unsigned
from router.leasing import Lending, lend, pools_of
from router.lis_client import LisServer, lis_server
from router.phone_address import NO_PHONE_ADDRESS, SAYS_NOTHING, phone_address
from router.reference_spool import LOCATION
from router.sources import Source
from sip.body import BodyPart, add_part, leaf_parts, media_type
from sip.errors import RemoteError
from sip.headers import NameAddr, parse_name_addr
from sip.message import Edits, Request
from sip.uri import scheme_of

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_ORDINARY = CallKind.ORDINARY
_CONVEYED = LocationSource.CONVEYED

KINDS_KEPT = 10_000
LONGEST_KIND_KEPT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStep:
    """One rung of the ladder, or a route that was left out and why (`skipped`)."""

    name: str
    kind: str
    """`e911` or `basic`."""
    trunk: str
    host: str
    """Host and port of the trunk, as configured."""
    profile: ProviderProfile | None
    number: str
    timeout: float
    progress_timeout: float
    with_location: bool
    """True where the location goes along: ours, or the caller's own where that decided."""
    skipped: str = ""


@dataclass(slots=True, kw_only=True)
class CallPlan:
    """All that was decided about one emergency or test call; never changed (to freeze it would cost every call)."""

    id: str
    kind: CallKind
    dialled: str
    caller: Caller
    decision: LocationDecision
    steps: tuple[RouteStep, ...]
    """The ladder, skipped routes included, in order."""
    ladder: tuple[RouteStep, ...]
    """The routes that will be tried."""
    existing: ExistingFields
    conveyed: Conveyed = NOTHING_CONVEYED
    """What the caller said about where they are."""
    trusts_identity: bool = False
    """True where the source's P-Asserted-Identity is believed (RFC 3325)."""
    lease: Lease | None = None
    """The number that is to be lent to the caller, or kept for callbacks."""
    identity: CallerIdentity | None = None
    """Who calls, as the INVITE says; None where deciding failed."""

    @property
    def worst_case_seconds(self) -> float:
        """Seconds to the end of the ladder where every route says 100 and then nothing."""
        return sum(step.timeout + step.progress_timeout for step in self.ladder)


Ladder = tuple[tuple[RouteStep, ...], tuple[RouteStep, ...]]
"""All routes of a call in order, those left out included, and those that will be tried."""


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


def conveyed_by(request: Request) -> Conveyed:
    """The location that a caller sent along, read and judged; references are not asked here."""
    if not request.has("geolocation"):
        content_type = request.first("content-type") or b""
        if content_type == b"application/sdp" or media_type(content_type) in (b"application/sdp", b""):
            return NOTHING_CONVEYED
    documents = [
        LocationDocument(
            content_type=part.content_type.decode("latin-1"),
            content_id=part.content_id.decode("latin-1"),
            data=part.data,
        )
        for part in leaf_parts(request)
        if part.content_type != b"application/sdp"
    ]
    return read_conveyed(_texts(request, "geolocation"), documents)


def plan_call(
    rules: Rules,
    devices: DeviceTable,
    request: Request,
    source: Source,
    source_address: str,
    kind: CallKind,
    conveyed: Conveyed | None = None,
    *,
    wiremap: WiremapTable = NO_WIREMAP,
    held: HeldAnswer = NOT_ASKED,
    now: float = 0.0,
    lending: Lending | None = None,
) -> CallPlan:
    """Decide about one call. Never raises for what the caller sent: what cannot be read counts as not given.

    conveyed: what the caller sent about where they are, where that is read already (and its references asked).
    held: what the location server says. now: seconds since 1970, for what ages.
    lending: the leases of callback numbers; None where none is to be lent.
    """
    identity, identity_source = identify(request, source)
    if conveyed is None:
        conveyed = conveyed_by(request)
    existing = _existing(request, source)
    query = location_query(rules, devices, request, source, source_address, identity, wiremap)
    query.conveyed, query.held, query.now = conveyed, held, now
    decision = locate(query, devices, rules.places, rules.sources, wiremap)
    device = decision.device
    call = call_id_of(rules.key, request)
    lease = None
    if lending is not None:
        try:
            lease = lend(lending, rules.config, request, source, source_address, identity, decision, kind, call)
        except Exception:  # a fault of ours costs the ELIN, and nothing else of the decision
            lending.on_fault("lending a callback number")
    caller = Caller(
        number=identity.user,
        display_name=identity.display_name,
        device=device.device if device else "",
        device_name=device.name if device else "",
        callback=decision.callback,
        callback_source=decision.callback_source,
        identity_source=identity_source,
        source_address=source_address,
        phone_address=query.phone_address,
        privacy=", ".join(_texts(request, "privacy")),
        reason="" if device else decision.device_reason,
    )
    steps, ladder = ladder_for(rules, decision, kind)
    return CallPlan(
        id=call,
        kind=kind,
        dialled=dialled(request.uri.decode("latin-1")),
        caller=caller,
        lease=lease,
        identity=identity,
        decision=decision,
        steps=steps,
        ladder=ladder,
        existing=existing,
        conveyed=conveyed,
        trusts_identity=source.trust_identity,
    )


def location_query(
    rules: Rules,
    devices: DeviceTable,
    request: Request,
    source: Source,
    source_address: str,
    identity: CallerIdentity,
    wiremap: WiremapTable,
) -> LocationQuery:
    """What a request says of where its phone is, but for what must be asked of others. Never raises."""
    phone = NO_PHONE_ADDRESS
    if source.location_from != SAYS_NOTHING:
        phone = phone_address(request, source.location_from, source_address)
    return LocationQuery(
        identity=identity,
        source_address=source_address,
        behind_trunk=source.is_trunk_address,
        phone_address=phone.address,
        phone_address_reason=phone.reason,
        attachment=rules.attachment_fields.read(request, source) if wiremap or rules.servers else None,
        hardware=hardware_address(request) if devices.has_hardware else "",
    )


_EXISTING = frozenset(
    {
        "geolocation",
        "geolocation-routing",
        "p-asserted-identity",
        "call-info",
        "resource-priority",
        "priority",
    }
)
_EXISTING_OF_UNTRUSTED = _EXISTING - {"p-asserted-identity"}
_NOTHING_EXISTING = ExistingFields()


def _existing(request: Request, source: Source) -> ExistingFields:
    names = request.keys()
    if (_EXISTING if source.trust_identity else _EXISTING_OF_UNTRUSTED).isdisjoint(names):
        return _NOTHING_EXISTING
    return ExistingFields(
        geolocation=_texts(request, "geolocation"),
        geolocation_routing=_texts(request, "geolocation-routing"),
        asserted_identity=_texts(request, "p-asserted-identity") if source.trust_identity else (),
        call_info=_texts(request, "call-info"),
        resource_priority=_texts(request, "resource-priority"),
        priority=_texts(request, "priority"),
    )


def plan_of_unknown(rules: Rules, request: Request, source_address: str, kind: CallKind) -> CallPlan:
    """The plan for a call about which deciding failed: the default site, its callback and contacts, no location."""
    place = rules.places.default
    site = place.site if place else None
    callback = dialable(site.callback) if site else ""
    decision = LocationDecision(
        device=None,
        device_reason="fault",
        site=site,
        site_reason="default-site" if site else "no-site",
        zone=None,
        location=None,
        answers=(),
        callback=callback,
        callback_source="default-site" if callback else "",
        contacts=site.contacts if site and site.contacts else tuple(rules.config.contacts),
    )
    steps, ladder = ladder_for(rules, decision, kind)
    return CallPlan(
        id=call_id_of(rules.key, request),
        kind=kind,
        dialled=dialled(request.uri.decode("latin-1")),
        caller=Caller(callback=callback, source_address=source_address, reason="fault"),
        decision=decision,
        steps=steps,
        ladder=ladder,
        existing=ExistingFields(),
    )


def ladder_for(rules: Rules, decision: LocationDecision, kind: CallKind) -> Ladder:
    """The routes of a call about whose caller this was decided."""
    location = decision.location
    place = location.civic if location else None
    if (place is None or not place.country) and decision.site is not None:
        place = decision.site.address
    located = location is not None
    is_conveyed = location is not None and location.source is _CONVEYED
    site = decision.site.id if decision.site else ""
    country, state = (place.country.upper(), place.state.upper()) if place else ("", "")
    key = (site, country, state, located, is_conveyed, kind)
    ladder = rules.ladders.get(key)
    if ladder is None:
        if len(rules.ladders) > 10_000:
            rules.ladders.clear()
        steps = tuple(_steps(rules, decision.site, country, state, located, is_conveyed, kind))
        ladder = rules.ladders[key] = steps, tuple(step for step in steps if not step.skipped)
    return ladder


def _steps(
    rules: Rules, site: Site | None, country: str, state: str, located: bool, is_conveyed: bool, kind: CallKind
) -> list[RouteStep]:
    routes, basic = rules.routes_for(site)
    steps = []
    for route in routes:
        profile = rules.profile_of(route)
        assert profile is not None
        skipped = ""
        if not covers(route.covers, country, state):
            skipped = "does-not-cover"
        elif profile.needs_location and not located and profile.add_location is not AddLocation.NEVER:
            skipped = "no-location"
        steps.append(_step(rules, route, "e911", profile, skipped, located=located, is_conveyed=is_conveyed))
    for last in basic:
        skipped = "test-call" if kind is CallKind.TEST else ""
        profile = rules.profile_of(last)
        steps.append(_step(rules, last, "basic", profile, skipped, located=located, is_conveyed=is_conveyed))
    return steps


def _step(
    rules: Rules,
    route: EmergencyRoute | BasicRoute,
    kind: str,
    profile: ProviderProfile | None,
    skipped: str,
    *,
    located: bool,
    is_conveyed: bool,
) -> RouteStep:
    carries = located and profile is not None and profile.location is not LocationConveyance.NONE
    if carries and profile is not None and profile.add_location is AddLocation.NEVER:
        carries = is_conveyed
    return RouteStep(
        name=route.name,
        kind=kind,
        trunk=route.trunk,
        host=rules.config.trunks[route.trunk].hostport,
        profile=profile,
        number=route.number or "",
        timeout=route.timeout,
        progress_timeout=route.progress_timeout,
        with_location=carries,
        skipped=skipped,
    )


def covers(areas: Sequence[str], country: str, state: str) -> bool:
    """True where a route's `covers` holds the place: its country, or its country and state (upper case).

    Without a list, or where the country is not known, a route counts as covering: trying it costs one round trip,
    not trying it may cost the call.
    """
    return not areas or not country or country in areas or f"{country}-{state}" in areas


def identify(request: Request, source: Source) -> tuple[CallerIdentity, str]:
    """Who calls: P-Asserted-Identity where the source is trusted, else From, else Contact (RFC 3325, design)."""
    key = "p-asserted-identity" if source.trust_identity and request.has("p-asserted-identity") else "from"
    first = request.first(key)
    usual = None if first is None else _usual_identity(first, key)
    if usual is not None:
        return usual, key
    candidates: list[tuple[str, list[bytes]]] = []
    if source.trust_identity:
        candidates.append(("p-asserted-identity", request.values("p-asserted-identity")))
    candidates.append(("from", request.all("from")))
    candidates.append(("contact", request.values("contact")))
    fallback: CallerIdentity | None = None
    for name, values in candidates:
        for value in values:
            identity = _identity(value, name)
            if identity is None:
                continue
            if identity.user and identity.user.lower() != "anonymous":
                return identity, name
            fallback = fallback or identity
    return fallback or CallerIdentity(user="", host="", display_name="", source="from"), "from"


# "Name" <sip:user@host>;... as nearly every phone writes it: read at a fifth of the price.
_USUAL_IDENTITY = re.compile(
    rb'(?:"([ -!#-\[\]-~]*)" *)?<sip:([0-9A-Za-z+._-]+)@([0-9A-Za-z.-]*[0-9A-Za-z])(?::[0-9]{1,5})?'
    rb'(?:;[^<>?" ]*)?>(?:;[^"<>,]*)?'
)


def _usual_identity(value: bytes, source: str) -> CallerIdentity | None:
    match = _USUAL_IDENTITY.fullmatch(value)
    if match is None:
        return None
    name, user, host = match.groups()
    if user[:9].lower() == b"anonymous":
        return None
    return CallerIdentity(
        user=user.decode("ascii"),
        host=host.decode("ascii").lower(),
        display_name="" if name is None else name.decode("ascii"),
        source=source,
    )


def _identity(value: bytes, source: str) -> CallerIdentity | None:
    try:
        address = parse_name_addr(value)
    except RemoteError:
        return None
    user, host = _user_and_host(address)
    return CallerIdentity(user=user, host=host, display_name=address.display_name, source=source)


def _user_and_host(address: NameAddr) -> tuple[str, str]:
    if scheme_of(address.uri) == "tel":
        return address.uri[4:].partition(b";")[0].decode("latin-1"), ""
    try:
        uri = address.sip_uri()
    except RemoteError:
        user, at, host = address.uri.rpartition(b":")[2].rpartition(b"@")
        return (user if at else host).decode("latin-1"), ""
    return uri.user.decode("latin-1"), uri.host


def call_id_of(key: bytes, request: Request) -> str:
    """The record id: derived, so that an INVITE retransmitted to a restarted router is the same call."""
    via = request.via
    seed = b"\0".join((request.call_id, request.from_tag, b"%d" % request.cseq, via.branch, via.sent_by))
    return hashlib.blake2b(seed, key=key, digest_size=10, person=b"call record").hexdigest()


NO_DOCUMENTS: Mapping[str, bytes] = MappingProxyType({})


class Outgoing(NamedTuple):
    """An INVITE for a route."""

    request: Request
    """But for Via, Record-Route and Max-Forwards."""
    shortfalls: tuple[str, ...] = ()
    """Why something in it is not as the route's profile would have it."""
    documents: Mapping[str, bytes] = NO_DOCUMENTS
    """What the reference in it stands for, by name."""


class Reference(NamedTuple):
    """Under which URI a location would be answered, or why under none."""

    uri: str
    reason: str = ""


NO_SERVER = Reference("", "reference-server-not-configured")


def request_for(
    rules: Rules,
    plan: CallPlan,
    step: RouteStep,
    request: Request,
    timestamp: float,
    *,
    with_location: bool,
    with_data: bool = True,
    reference: Reference = NO_SERVER,
) -> Outgoing:
    """The INVITE as it goes to one route. timestamp, seconds since 1970, dates the location document. with_data False
    leaves additional data out (a second try)."""
    made = _wishes(
        rules, plan, step, timestamp, with_location=with_location, with_data=with_data, reference=reference
    )
    documents = NO_DOCUMENTS
    if made.reference or made.data_references:
        documents = {block.name: block.document for block in made.data_references}
        if made.reference:
            documents[LOCATION] = made.reference
    return Outgoing(_as_wished(plan, request, made), made.shortfalls, documents)


def _wishes(
    rules: Rules,
    plan: CallPlan,
    step: RouteStep,
    timestamp: float,
    *,
    with_location: bool,
    with_data: bool,
    reference: Reference,
) -> ProviderRequest:
    """What the profile of a route makes of a call."""
    if step.profile is None:
        return basic_request(
            number=step.number,
            host=step.host,
            decision=plan.decision,
            caller_display_name=plan.caller.display_name,
            domain=rules.domain,
        )
    made = provider_request(
        step.profile,
        kind=plan.kind,
        host=step.host,
        decision=plan.decision,
        caller_display_name=plan.caller.display_name,
        call_id=plan.id,
        domain=rules.domain,
        timestamp=timestamp,
        with_location=with_location,
        existing=plan.existing,
        conveyed=plan.conveyed,
        number=step.number,
        reference=reference.uri,
        no_reference=reference.reason,
        data=rules.call_data,
        with_data=with_data,
        is_private=bool(plan.caller.privacy) and plan.caller.privacy.strip().lower() != "none",
    )
    if step.number and step.kind == "basic":
        made = replace(made, request_uri=f"sip:{user_part(step.number)}@{step.host}")
    return made


def _as_wished(plan: CallPlan, request: Request, made: ProviderRequest) -> Request:
    """The caller's INVITE with a provider's wishes fulfilled."""
    edits = edits_for(made, request, plan.id)
    if not plan.trusts_identity and request.has("p-asserted-identity") and "p-asserted-identity" not in edits.replace:
        # RFC 3325 section 5: what an untrusted phone asserts of itself is not passed on as asserted by us.
        edits.replace["p-asserted-identity"] = ()
    drop_unsigned(request, edits.replace)
    sent = request.edited(edits)
    for data in made.data_parts:
        part = BodyPart(
            content_type=data.block.media_type.encode(),
            content_id=data.content_id.encode(),
            body=data.block.document,
            disposition=b"by-reference;handling=optional",
        )
        sent = sent.edited(add_part(sent, part, b"edge911-" + plan.id.encode()))
    return sent


@lru_cache(maxsize=256)
def _key_of(name: str) -> str:
    return name.lower()


def edits_for(made: ProviderRequest, request: Request, plan_id: str) -> Edits:
    """A provider's wishes as edits to the caller's INVITE."""
    edits = Edits()
    if made.location_part is not None:
        part = BodyPart(
            content_type=b"application/pidf+xml",
            content_id=made.location_part.content_id.encode(),
            body=made.location_part.body,
        )
        edits = add_part(request, part, b"edge911-" + plan_id.encode())
    replacing = edits.replace
    append: list[bytes] = list(edits.append)
    present = request.keys()
    if "route" in present:
        replacing["route"] = ()  # we choose where it goes
    for name in made.remove_fields:
        key = _key_of(name)
        if key in present:
            replacing[key] = ()
    for name, value in made.set_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        if key in present:
            replacing[key] = (line,)
        else:
            append.append(line)
    for name, value in made.first_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        replacing[key] = (line, *replacing.get(key, request.lines(key)))
    for name, value in made.add_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        if key in replacing:
            replacing[key] = (*replacing[key], line)
        elif key in present:
            replacing[key] = (*request.lines(key), line)
        else:
            append.append(line)
    if made.from_uri:
        line = request.lines("from")[0]
        if 0 < len(uri_in(line)) <= LONGEST_URI:
            replacing["from"] = (with_uri(line, made.from_uri.encode("ascii", "replace")),)
    edits.uri = made.request_uri.encode("latin-1", "replace")
    edits.append = append
    return edits


def _call_data(data: AdditionalData) -> CallData:
    provider = ProviderData(**data.provider.model_dump()) if data.provider is not None else None
    return CallData(
        provider=provider,
        environment=data.environment,
        service_type=data.service_type,
        comment=data.comment,
        language=data.language,
    )


def _texts(request: Request, key: str) -> tuple[str, ...]:
    return tuple([value.decode("latin-1") for value in request.all(key)]) if request.has(key) else ()


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
