"""The decision an emergency call gets: who, where, which routes, who is told. Pure: `explain` and the calls use it.

Everything here is made of the request, the tables in memory and the configuration; nothing waits and nothing is sent.
"""

from dataclasses import dataclass

from e911.conveyed import NOTHING_CONVEYED, Conveyed, LocationDocument, read_conveyed
from e911.elin import Lease
from e911.locate import (
    NOT_ASKED,
    CallerIdentity,
    DeviceTable,
    HeldAnswer,
    LocationDecision,
    LocationQuery,
    locate,
)
from e911.lost import NONE_VALIDATED, ValidatedAddresses
from e911.numbers import CallKind, dialable, dialled
from e911.provider import (
    ExistingFields,
)
from e911.record import Caller
from e911.wiremap import NO_WIREMAP, WiremapTable
from router.callback.leasing import Lending, lend
from router.emergency.call_routes import RouteStep, ladder_for
from router.emergency.caller_identity import call_id_of, identify
from router.emergency.rules import Rules
from router.locating.hardware import hardware_address
from router.locating.phone_address import NO_PHONE_ADDRESS, SAYS_NOTHING, phone_address
from router.network.sources import Source
from sip.body import leaf_parts, media_type, stands_plainly
from sip.message import Request


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
            is_plain=stands_plainly(request, part),
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
    validated: ValidatedAddresses = NONE_VALIDATED,
    now: float = 0.0,
    lending: Lending | None = None,
) -> CallPlan:
    """Decide about one call. Never raises for what the caller sent: what cannot be read counts as not given.

    conveyed: what the caller sent about where they are, where that is read already (and its references asked).
    held: what the location server says. validated: what the LVF said of the addresses of sites. now:
    seconds since 1970, for what ages.
    lending: the leases of callback numbers; None where none is to be lent.
    """
    identity, identity_source = identify(request, source)
    if conveyed is None:
        conveyed = conveyed_by(request)
    existing = _existing(request, source)
    query = location_query(rules, devices, request, source, source_address, identity, wiremap)
    query.conveyed, query.held, query.now, query.validated = conveyed, held, now, validated
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
        is_own_domain=rules.is_own_domain(identity.host, source),
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
        "remote-party-id",
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
        remote_party_id=_texts(request, "remote-party-id"),
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


def _texts(request: Request, key: str) -> tuple[str, ...]:
    return tuple([value.decode("latin-1") for value in request.all(key)]) if request.has(key) else ()
