"""What would happen to a call: the decision (router.emergency.decision), shown and not carried out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from config.addresses import is_private
from config.schema import Config, Trunk
from e911.locate import NOT_ASKED, DeviceTable, HeldAnswer
from e911.location import DispatchableLocation
from e911.lost import NONE_VALIDATED, NOT_VALIDATED, ValidatedAddresses
from e911.numbers import CallKind, dialled, near_miss
from e911.provider_profile import (
    LocationConveyance,
)
from e911.record import SourceAnswer
from e911.wiremap import NO_WIREMAP, WiremapTable
from router.callback.leasing import Lending, number_of
from router.emergency.call_routes import RouteStep
from router.emergency.decision import CallPlan, plan_call
from router.emergency.provider_invite import NO_SERVER, Reference, request_for
from router.emergency.rules import Rules
from router.emergency.second_round import ANSWER_SECONDS, PASSING_STATUSES, PAUSE_SECONDS, WITHIN_SECONDS
from router.network.listening import ListeningPoints, is_public
from router.network.media import PRIVATE_MEDIA
from router.network.sources import Side, Source, Sources
from router.network.trunks import Way, where_of
from router.references.spool import LOCATION
from sip.body import BodyPart, add_part, boundary_of, media_type, split_parts
from sip.errors import RemoteError
from sip.fields import key_of_line, value_of
from sip.message import Edits, Request
from sip.uri import bracketed, parse_sip_uri, scheme_of

_SDP = b"v=0\r\no=- 0 0 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
_SHOWN = (
    "p-asserted-identity",
    "geolocation",
    "geolocation-routing",
    "call-info",
    "resource-priority",
    "priority",
    "p-preferred-identity",
    "remote-party-id",
    "content-type",
    "privacy",
)
_DERIVED = "…"
"""Stands for what is derived from the call itself (ids)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidOfPlace:
    """What the caller's INVITE would say about where they are."""

    document: bytes = b""
    """A PIDF-LO."""
    reference: str = ""
    """A URI of one; it is not asked."""
    phone_address: str = ""
    """Of a phone behind a PBX: its own address, as the PBX would let it through in SDP, Contact and Via."""
    fields: tuple[str, ...] = ()
    """Further header field lines, such as `P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001b2c3d4e5f`."""


SAID_NOTHING = SaidOfPlace()


def synthetic_invite(caller: str, dialled: str, source_address: str, said: SaidOfPlace = SAID_NOTHING) -> Request:
    """The INVITE that the call would begin with: from and to are users, numbers, or whole URIs."""
    scheme = scheme_of(dialled.encode())
    to_uri = dialled if scheme in ("sip", "sips", "tel", "urn") else _as_uri(dialled, "edge911.example.com")
    host = source_address or "192.0.2.1"
    # A name would say in which domain the caller is, which nobody did.
    from_uri = caller if scheme_of(caller.encode()) in ("sip", "sips", "tel") else _as_uri(caller, bracketed(host))
    phone = said.phone_address or host
    family = "IP6" if ":" in phone else "IP4"
    sdp = _SDP.replace(b"IP4 192.0.2.1", f"{family} {phone}".encode())
    lines = [b"Via: SIP/2.0/UDP %b:5060;branch=z9hG4bKexplain" % bracketed(host).encode()]
    if said.phone_address:
        lines.append(b"Via: SIP/2.0/UDP %b:5060;branch=z9hG4bKphone" % bracketed(phone).encode())
    lines += [
        b"Max-Forwards: 70",
        b"From: <%b>;tag=explain" % from_uri.encode(),
        b"To: <%b>" % to_uri.encode(),
        b"Call-ID: explain",
        b"CSeq: 1 INVITE",
        b"Contact: <sip:explain@%b:5060>" % bracketed(phone).encode(),
        *(line.encode() for line in said.fields),
        b"Content-Type: application/sdp",
        b"Content-Length: %d" % len(sdp),
    ]
    request = Request(b"INVITE", to_uri.encode(), [(key_of_line(line), line) for line in lines], sdp, 1)
    reference = said.reference
    if said.document:
        part = BodyPart(content_type=b"application/pidf+xml", content_id=b"caller@explain", body=said.document)
        request = request.edited(add_part(request, part, b"explain"))
        reference = reference or "cid:caller@explain"
    if reference:
        request = request.edited(Edits(append=(b"Geolocation: <%b>" % reference.encode(),)))
    return request


def _as_uri(text: str, host: str) -> str:
    return f"sip:{text}" if "@" in text else f"sip:{text}@{host}"


def explain(
    rules: Rules,
    sources: Sources,
    devices: DeviceTable,
    caller: str,
    dialled: str,
    source_address: str = "",
    *,
    said: SaidOfPlace = SAID_NOTHING,
    wiremap: WiremapTable = NO_WIREMAP,
    validated: ValidatedAddresses = NONE_VALIDATED,
    held: HeldAnswer = NOT_ASKED,
    interfaces: "Interfaces | None" = None,
    lending: Lending | None = None,
) -> dict[str, Any]:
    """The decision as one dictionary, ready for JSON. Raises RemoteError where the call could not even be read.

    said: what the caller would send about where they are. held: what the location server says. interfaces: how
    trunks are reached, to be shown too. lending: what is known of callback numbers; nothing is lent.
    """
    request = synthetic_invite(caller, dialled, source_address, said)
    if source_address:
        source = sources.classify(source_address, 5060)
    else:
        source = Source(Side.INSIDE, is_trunk_address=False, trust_identity=False)
    kind = rules.kind_of(request, source)
    found: dict[str, Any] = {
        "from": caller,
        "to": dialled,
        "source": source_address or "some inside address in no site's network",
        "source_side": source.side.value,
        "kind": kind.value,
    }
    if kind is CallKind.ORDINARY and source.side is Side.OUTSIDE and lending is not None:
        called_back = _called_back(rules, lending, request)
        if called_back:
            return found | called_back
    if kind is CallKind.ORDINARY:
        return found | _ordinary(rules, sources, request, source, interfaces, source_address)
    now = time.time()
    plan = plan_call(
        rules,
        devices,
        request,
        source,
        source_address,
        kind,
        wiremap=wiremap,
        held=held,
        validated=validated,
        now=now,
        lending=lending,
    )
    accepted = source.side is Side.INSIDE or (
        source.side is Side.UNLISTED and rules.config.emergency.from_unlisted == "accept"
    )
    if kind is CallKind.TEST:
        found["rule"] = f"{plan.dialled} is a test number"
    elif source.is_all_emergency:
        found["rule"] = "every call from there is an emergency (emergency.all_calls_from)"
    else:
        found["rule"] = f"{plan.dialled} is an emergency number"
    found["served"] = accepted
    if not accepted:
        why = "comes from outside" if source.side is Side.OUTSIDE else "comes from no listed network"
        found["rule"] += f", but the call {why}: refused with 403, and the contacts are told"
    decision = plan.decision
    site = decision.site
    found |= {
        "caller": {key: value for key, value in asdict(plan.caller).items() if value != ""},
        "device_reason": decision.device_reason,
        "site": site.id if site else None,
        "site_reason": decision.site_reason,
        "zone": decision.zone.id if decision.zone else None,
        "location": _location(decision.location),
        "location_sources": [_answer(answer, now) for answer in decision.answers],
        "callback": decision.callback or None,
        "callback_source": decision.callback_source or None,
        **_lease(plan, now),
        "told": list(decision.contacts),
    }
    if accepted:
        found |= {
            "routes": _routes(rules, sources, plan, request, interfaces),
            "worst_case_seconds": round(plan.worst_case_seconds, 3),
        }
        if kind is CallKind.EMERGENCY and plan.ladder:
            found["second_round"] = {
                "after_seconds": PAUSE_SECONDS,
                "where_all_failed_within_seconds": WITHIN_SECONDS,
                "answer_within_seconds": ANSWER_SECONDS,
                "statuses": list(PASSING_STATUSES),
            }
    return found


def _answer(answer: SourceAnswer, now: float) -> dict[str, Any]:
    found: dict[str, Any] = {"source": answer.source, "outcome": answer.outcome.value, "reason": answer.reason}
    if answer.lost:
        found["lost"] = answer.lost
    if answer.detail:
        found["detail"] = answer.detail
    if answer.location is not None:
        found |= {"confidence": answer.confidence, "said": _location(answer.location)}
        if answer.as_of:
            found["age_seconds"] = max(round(now - answer.as_of), 0)
    return found


def _location(location: DispatchableLocation | None) -> dict[str, Any] | None:
    if location is None:
        return None
    found: dict[str, Any] = {"source": location.source.value, "method": location.method}
    if location.finer_from:
        found["finer_from"] = location.finer_from
    found |= {key: value for key, value in asdict(location.civic).items() if value}
    if location.point is not None:
        found |= {"latitude": location.point.latitude, "longitude": location.point.longitude}
        if location.point.uncertainty:
            found["uncertainty"] = location.point.uncertainty
    found["validation"] = location.validation or NOT_VALIDATED
    if location.validation and location.validated_at:
        found["validated_at"] = _moment(location.validated_at)
    return found


def _moment(seconds: float) -> str:
    """A time in UTC, to the second (RFC 3339)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _called_back(rules: Rules, lending: Lending, request: Request) -> dict[str, Any]:
    """What would happen to a call back to somebody who dialled 911; empty where it is none."""
    number = number_of(request.uri)
    lease = lending.leases.find(number, lending.at)
    pool = lending.leases.pools.by_number.get(number)
    if not number or (lease is None and pool is None):
        return {}
    site_id = lease.site if lease is not None else pool.site if pool is not None else ""
    site = rules.sites.get(site_id)
    desk = (site.desk or site.callback) if site is not None else ""
    found: dict[str, Any] = {"served": True, "trunks": [], "desk": desk or None}
    if lease is None:
        return found | {"rule": f"an ELIN of {site_id} that nobody has: to the site's desk"}
    way = lease.way_back
    where = f"{way.user} at trunk {way.trunk}" if way.trunk else f"{way.transport} {way.host} {way.port}"
    return found | {
        "rule": f"a call back to {lease.who or lease.caller}, who dialled 911: by {where}, then to the site's desk",
        "called_back": {
            "number": number,
            "who": lease.who,
            "call": lease.call,
            "trunk": way.trunk or None,
            "user": way.user or None,
            "seconds_left": round(lease.until - lending.at),
        },
    }


def _lease(plan: CallPlan, now: float) -> dict[str, Any]:
    """For how long the number would be kept for the caller, and of which pool an ELIN is."""
    lease = plan.lease
    if lease is None:
        return {}
    found: dict[str, Any] = {"callback_kept_seconds": round(lease.until - now)}
    if lease.pool:
        found["elin_pool"] = lease.pool
    if lease.reason:
        found["callback_reason"] = lease.reason
    return found


def _routes(
    rules: Rules, sources: Sources, plan: CallPlan, request: Request, interfaces: "Interfaces | None"
) -> list[dict[str, Any]]:
    starts = 0.0
    shown = []
    for step in plan.steps:
        route: dict[str, Any] = {
            "name": step.name,
            "kind": step.kind,
            "trunk": step.trunk,
            **_targets(rules, sources, step.trunk),
        }
        if interfaces is not None and not step.skipped:
            route |= interfaces.of(step.trunk, plan.caller.source_address)
        if step.profile is not None:
            route["profile"] = step.profile.name
        if step.skipped:
            shown.append(route | {"skipped": step.skipped})
            continue
        route |= {
            "starts_after_seconds_at_worst": round(starts, 3),
            "timeout": step.timeout,
            "progress_timeout": step.progress_timeout,
        }
        ways = _ways(rules.config.trunks[step.trunk])
        if ways:
            route["ways"] = ways
        starts += step.timeout + step.progress_timeout
        shown.append(route | _as_sent(rules, plan, step, request))
    return shown


def _as_sent(rules: Rules, plan: CallPlan, step: RouteStep, request: Request) -> dict[str, Any]:
    sent, shortfalls, documents = request_for(
        *(rules, plan, step, request, time.time()),
        with_location=step.with_location,
        reference=_reference(rules, plan),
    )
    shown = _SHOWN if sent.first("from") == request.first("from") else ("from", *_SHOWN)
    headers = [line.decode("latin-1").replace(plan.id, _DERIVED) for key, line in sent.fields if key in shown]
    parts = []
    content_type = sent.first("content-type") or b""
    boundary = boundary_of(content_type) if media_type(content_type).startswith(b"multipart/") else None
    if boundary is None:
        parts = [media_type(content_type).decode("latin-1")]
    else:
        for lines, _ in split_parts(sent.body, boundary):
            types = [value_of(line) for line in lines if line.lower().startswith(b"content-type")]
            parts.append(media_type(types[0]).decode("latin-1") if types else "text/plain")
    return {
        "request_uri": sent.uri.decode("latin-1"),
        "headers": headers,
        "body_parts": parts,
        "carries_location": step.with_location,
        "location_by": _location_by(sent, step, documents),
        **({"by_reference": list(documents)} if documents else {}),
        **({"shortfalls": list(shortfalls)} if shortfalls else {}),
    }


def _location_by(sent: Request, step: RouteStep, documents: Mapping[str, bytes]) -> str:
    """How the location goes along: `value`, `reference`, `id` (the provider's own), `number` (not at all: the
    provider knows it by what the call shows), or empty where none goes along."""
    if step.profile is not None and step.profile.location is LocationConveyance.NONE:
        return "number"
    if not step.with_location:
        return ""
    if LOCATION in documents:
        return "reference"
    is_part = any(b"cid:" in value.lower() for value in sent.all("geolocation"))
    is_id = step.profile is not None and step.profile.location is LocationConveyance.ID and not is_part
    return "id" if is_id else "value"


def _reference(rules: Rules, plan: CallPlan) -> Reference:
    """As it would be while references are answered."""
    server = rules.config.locations.reference_server
    return NO_SERVER if server is None else Reference(f"{server.url.rstrip('/')}/{plan.id}")


def _ordinary(
    rules: Rules,
    sources: Sources,
    request: Request,
    source: Source,
    interfaces: "Interfaces | None",
    source_address: str,
) -> dict[str, Any]:
    routes = rules.config.routes
    if source.side is Side.UNLISTED:
        return {"rule": "the source is in no listed network: refused with 403", "served": False, "trunks": []}
    uri = request.uri
    if scheme_of(uri) in ("sip", "sips"):
        try:
            host = parse_sip_uri(uri).destination
        except RemoteError as error:
            return {"rule": str(error), "served": False, "trunks": []}
        if sources.reaches_inside(host):
            return {
                "rule": f"the Request-URI names the inside address {host}: sent there",
                "served": True,
                "trunks": [],
            }
    names = routes.outbound if source.side is Side.INSIDE else routes.inbound
    which = "outbound" if source.side is Side.INSIDE else "inbound"
    if not names:
        return {"rule": f"routes.{which} is empty: refused with 404", "served": False, "trunks": []}
    rule = f"an ordinary call from {source.side.value}: routes.{which}, forwarded unchanged"
    dial_string = dialled(uri.decode("latin-1"))
    if source.side is Side.INSIDE and (number := near_miss(dial_string, rules.numbers)):
        rule += f"; if people here mean {number} by {dial_string}, add it to emergency.numbers"
    return {
        "rule": rule,
        "served": True,
        "trunks": [
            {
                "name": name,
                **_targets(rules, sources, name),
                **(interfaces.of(name, source_address) if interfaces is not None else {}),
            }
            for name in names
        ],
    }


def _ways(trunk: Trunk) -> list[str]:
    """How an emergency call reaches a trunk by TLS: the first way that can be had, each but the first an alarm."""
    if not trunk.uses_tls:
        return []
    return [Way.TLS.value] if trunk.tls.policy == "require" else [way.value for way in Way]


class Interfaces:
    """By which interface each trunk is reached. addresses: trunk name → its addresses and ports."""

    def __init__(
        self, config: Config, points: ListeningPoints, addresses: Mapping[str, Sequence[tuple[str, int]]]
    ) -> None:
        self.config = config
        self.points = points
        self.addresses = addresses

    def of(self, name: str, source_address: str) -> dict[str, Any]:
        """Interface and warnings for a call to a trunk from this address ("": from some phone inside)."""
        trunk = self.config.trunks[name]
        found: dict[str, Any] = {}
        for host, _ in self.addresses.get(name, ())[:1]:
            point = self.points.choose(trunk.addresses[0].transport or "udp", host, None, trunk.listen or "")
            if point is not None:
                found["leaves_by"] = {"name": point.name, "socket": f"{point.transport}:{point.bound_to}"}
                if point.advertised is not None:
                    found["leaves_by"]["seen_as"] = point.sent_by.decode()
            if trunk.private_media == "warn" and is_public(host) and self._is_private(source_address):
                found["warnings"] = [PRIVATE_MEDIA]
        return found

    def _is_private(self, source_address: str) -> bool:
        if source_address:
            return not is_public(source_address)
        return any(is_private(network.network_address) for network in self.config.networks.inside)


def _targets(rules: Rules, sources: Sources, trunk: str) -> dict[str, Any]:
    """A trunk's targets as configured, in the order in which they are tried; the first one also by itself. With names
    among them: the servers that they lead to now, in no particular order."""
    peers = rules.config.trunks[trunk].addresses
    targets = [peer.uri for peer in peers]
    shown: dict[str, Any] = {"target": targets[0], "targets": targets}
    if any(where_of(peer) is not None for peer in peers):
        shown["servers"] = [f"{bracketed(host)}:{port}" for host, port in sources.addresses_of(trunk)]
    return shown
