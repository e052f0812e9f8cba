"""Where a callback can go: the ways back to the phone that dialled 911, and those to the desk of its site."""

import re
from typing import TYPE_CHECKING

from config.schema import Config
from e911.elin import Lease, LeaseKind
from e911.numbers import dialable
from router.callback.callback_call import DESK, PHONE, Place
from router.callback.leasing import address_of_record, user_in
from router.dialogs.flow_tokens import FlowToken
from router.network.next_hop import where_of
from router.network.sources import parse_address
from sip.errors import RemoteError
from sip.flow import Flow
from sip.headers import parse_name_addr
from sip.locating import Where
from sip.machines import ServerTransaction
from sip.message import Request
from sip.routing import RouteDecision
from sip.uri import parse_sip_uri, scheme_of

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

_LEADS_NOWHERE = re.compile(r"[^!-~]|[<>@;?:]")


class CallbackPlaces:
    """Finds them. router: the transaction user."""

    def __init__(self, router: "CallRouter") -> None:
        self._router = router

    def of_phone(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, lease: Lease
    ) -> list[Place]:
        """The ways to the phone of a lease, best first. Never raises."""
        try:
            way = lease.way_back
            if way.trunk:
                found = self._by_pbx(server, request, way.trunk, way.user)
                if lease.kind is LeaseKind.OWN and way.user != user_in(decision.uri.decode("latin-1")):
                    # A PBX that takes no extensions from this side, or spells numbers otherwise on its way out than
                    # on its way in, knows the number as it was dialled.
                    found += [place._replace(uri=decision.uri) for place in found]
                return found
            return self._by_flow(server, request, lease)
        except Exception:
            self._router.on_fault("finding the way back to a phone")
            return []

    def _by_pbx(self, server: ServerTransaction, request: Request, trunk: str, user: str) -> list[Place]:
        if not user or _LEADS_NOWHERE.search(user):
            return []
        hops = self._router.trunks.hops(trunk, server.flow.point, request.call_id)
        return [Place(PHONE, trunk, hop.flow, f"sip:{user}@{hop.peer.hostport}".encode("latin-1")) for hop in hops]

    def _by_flow(self, server: ServerTransaction, request: Request, lease: Lease) -> list[Place]:
        """By the flow it called by, else by a new one to where its Contact says it is; then by its registrar, which
        may know a flow that we do not: a connection of a phone that left its network looks alive for long."""
        router, way = self._router, lease.way_back
        found: list[Place] = []
        contact = contact_uri(way.contact)
        token = FlowToken(
            way.transport, way.point_host, way.point_port, way.host, way.port, way.process, way.connection
        )
        flow = router.paths.flow_of(token)
        if flow is None and way.transport == "udp":
            point = router.points.choose("udp", way.host, server.flow.point, router.sources.interface_of(way.host))
            flow = Flow(point, way.host, way.port) if point is not None else None  # another node's listening point
        if flow is not None and contact:
            found.append(Place(PHONE, "", flow, contact, router.paths.tokens.make(flow)))
        elif contact and router.next_hops.inside_uri(contact) is not None:
            router.next_hops.towards(
                contact,
                None,
                server.flow.point,
                lambda flows: found.extend(Place(PHONE, "", one, contact) for one in flows),
                request.call_id,
            )
        record = address_of_record(way.aor)
        user, _, host = record.partition("@")
        if record and not dialable(user):
            # A number is not asked for there: it would come back.
            registrars = router.sources.trunk_name_at(host, 5060), *router.rules.config.routes.outbound[:1]
            for trunk in filter(None, dict.fromkeys(registrars)):
                for hop in router.trunks.hops(trunk, server.flow.point, request.call_id):
                    found.append(Place(PHONE, trunk, hop.flow, b"sip:" + record.encode("latin-1")))
        return found

    def of_desk(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, site_id: str
    ) -> list[Place]:
        """The ways to whoever takes callbacks for a site that no phone takes. Never raises."""
        router = self._router
        try:
            rules = router.rules
            default = rules.places.default.site.id if rules.places.default else ""
            sites = [rules.sites[one] for one in dict.fromkeys((site_id, default)) if one in rules.sites]
            desk = next((site.desk or dialable(site.callback) for site in sites if site.desk or site.callback), "")
            found: list[Place] = []
            if desk.lower().startswith(("sip:", "sips:")):
                uri = desk.encode("latin-1", "replace")
                router.next_hops.towards(
                    uri,
                    None,
                    server.flow.point,
                    lambda flows: found.extend(Place(DESK, "", one, uri) for one in flows),
                    request.call_id,
                )
                if found:
                    return found
                desk = dialable(sites[0].callback)
            uri = _with_number(decision.uri, desk) if desk else decision.uri
            for name in rules.config.routes.inbound:
                hops = router.trunks.hops(name, server.flow.point, request.call_id)
                found += [Place(DESK, name, hop.flow, uri) for hop in hops]
            return found
        except Exception:
            router.on_fault("finding the desk of a site")
            return []


def desk_names(config: Config) -> tuple[Where, ...]:
    """Desks that are URIs with a host name."""
    found: list[Where] = []
    for site in config.sites:
        if site.desk and site.desk.lower().startswith(("sip:", "sips:")):
            try:
                uri = parse_sip_uri(site.desk.encode("latin-1", "replace"))
            except RemoteError:
                continue
            if parse_address(uri.destination) is None:
                found.append(where_of(uri))
    return tuple(dict.fromkeys(found))


def _with_number(uri: bytes, number: str) -> bytes:
    """The Request-URI for another number, all else as it came."""
    user = number.encode("latin-1").replace(b"#", b"%23")
    if scheme_of(uri) == "tel":
        return b"tel:" + user
    scheme, _, rest = uri.partition(b":")
    return b"%b:%b@%b" % (scheme, user, rest.rpartition(b"@")[2])


def contact_uri(value: str) -> bytes:
    """The SIP URI in a Contact; empty where there is none."""
    try:
        uri = parse_name_addr(value.encode("latin-1")).uri
        parse_sip_uri(uri)
    except (RemoteError, UnicodeEncodeError):
        return b""
    return uri
