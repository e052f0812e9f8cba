"""Requests that are no emergency, and those within dialogs: checked, and sent where they belong."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from e911.numbers import CallKind, dialled, near_miss
from e911.record import CallFinished, DialogFormed
from router.calls.ordinary import OrdinaryCall, routed_request
from router.calls.restoring import RestoringCall, RestoringCallToFlow
from router.calls.returning import came_back
from router.dialogs.last_resort import answered_from, last_resort
from router.dialogs.path import ToPhone
from router.dialogs.reach import check_reach
from router.dialogs.record_route import sips_not_allowed
from router.dialogs.registrations import CallToFlow, Registration
from router.emergency.from_uri import EditedRequest
from router.network.sources import Side, Source, parse_address
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.forwarding import max_forwards
from sip.loops import max_breadth
from sip.machines import ServerTransaction
from sip.mending import mended
from sip.message import Edits, Request
from sip.routing import RouteDecision, process_routes
from sip.uri import SipUri, parse_sip_uri, scheme_of

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_ORDINARY = CallKind.ORDINARY
_INSIDE = Side.INSIDE
_OUTSIDE = Side.OUTSIDE

log = logging.getLogger(__name__)

NEAR_MISSES_SAID = 50
"""So many dial strings that look like 911 are said in the log; all are counted."""
OWN_ALLOW = (
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, PRACK, UPDATE, MESSAGE"
)


class OrdinaryRequests:
    """Sends on what is no new emergency call. router: the transaction user."""

    def __init__(self, router: "CallRouter") -> None:
        self.router = router
        self._near_misses: set[str] = set()

    def receive(self, server: ServerTransaction, request: Request, source: Source, now: float) -> None:
        """One request: forwarded, or answered by us. Raises RemoteError where it is to be refused."""
        router = self.router
        came = request
        if router.dialogs:
            request = router.dialogs.repaired(request)
        self._validate(request)
        if request.has("proxy-require"):
            request = request.edited(Edits(replace={"proxy-require": ()}))  # as in the INVITE of this 911 call
        request = mended(request)
        flow = server.flow
        if request.method == b"REGISTER" and source.side is _INSIDE:
            router.phones.note(request, source, flow, now)
        known = router.ways.find(request, flow) if request.to_tag else None
        decision = process_routes(request, router.next_hops.is_own) if known is None else known[0]
        if known is None and router.dialogs and (request.to_tag or request.method != b"INVITE"):
            decision = router.dialogs.meant_for_far_end(request, decision, router.next_hops.is_own_text)
        followed: DialogFormed | None = None
        if request.method == b"BYE" and (decision.own or router.dialogs):
            followed = router.dialogs.of(request)
            self._note_bye(decision.own, request, source)
        if known is not None:
            self._forward(server, request, decision, [("", known[1])], now, followed=followed)
            return
        if decision.own and request.to_tag:
            request = router.from_rewriting.in_dialog(decision.own, request)
        phone = router.paths.find(decision, flow)
        if phone is not None:
            self._to_phone(server, request, replace(decision, uri=phone.uri), phone, now)
            return
        if (
            source.side is _OUTSIDE
            and request.method == b"INVITE"
            and not request.to_tag
            and router.callbacks.is_active
            and decision.next_hop is None
            and router.callbacks.take(server, request, decision, source, now)
        ):
            return
        if source.side is _OUTSIDE and not request.to_tag and router.paths.is_forged(decision):
            raise RemoteError(Reason.BAD_FLOW_TOKEN, 403, "a Path or Contact of ours that we do not know again")
        uri = decision.next_hop
        if uri is None and (request.to_tag or self._is_of_911_call(request, decision)):
            uri = decision.uri
        if uri is None:
            inside = router.next_hops.inside_uri(decision.uri)
            if inside is not None:
                uri = decision.uri
            elif self._is_for_us(request, decision.uri):
                router.stack.answer(server, 200, now, extra=(OWN_ALLOW, b"Accept: application/sdp"))
                return
            elif request.method == b"OPTIONS" and self._may_name_us(decision.uri, source):
                router.next_hops.towards(
                    decision.uri,
                    None,
                    flow.point,
                    lambda flows: self._on_asked_by_name(server, came, request, source, decision, flows),
                    request.call_id,
                )
                return
        if uri is None:
            places = self._where_taken_over(request, source, flow)
            if places:
                self._forward(server, request, decision, places, now)
            else:
                self._by_source(server, request, decision, source, now)
            return
        if router.next_hops.is_own_text(uri):
            raise RemoteError(Reason.UNKNOWN_TRANSACTION, 481, "the request names nobody but this router")
        check_reach(source, flow.host, request, uri, router.next_hops, router.has_token)
        router.next_hops.towards(
            uri,
            router.next_hops.leaving_point(decision),
            flow.point,
            lambda flows: self._forward_found(server, came, request, source, decision, uri, flows, followed),
            request.call_id,
        )

    def _forward_found(
        self,
        server: ServerTransaction,
        came: Request,
        request: Request,
        source: Source,
        decision: RouteDecision,
        uri: bytes,
        flows: Sequence[Flow],
        followed: DialogFormed | None,
    ) -> None:
        """The next hop is found; where it is this router, by a name, the request is treated as what it is.

        came: the request as it came; followed: the emergency dialog that it ends."""
        router = self.router
        if router.next_hops.is_found_own(uri, flows):
            router.on_request(server, came, router.now())
            return
        if not flows and request.to_tag:
            followed = followed or router.dialogs.of(request)
            flows = last_resort(followed, request, router.points, router.sources, server.flow.point)
        elif len(flows) == 1 and request.to_tag:
            router.ways.keep(request, server.flow, source, decision, flows[0])
        places = [("", onward) for onward in flows]
        self._forward(server, request, decision, places, router.now(), followed=followed)

    def is_for_phone(self, request: Request, flow: Flow) -> bool:
        """True where an INVITE goes to a registered phone, whatever the user part of its Contact is."""
        router = self.router
        try:
            return router.paths.find(process_routes(request, router.next_hops.is_own), flow) is not None
        except RemoteError:
            return False

    def _to_phone(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, phone: ToPhone, now: float
    ) -> None:
        """By the flow that the phone registered by. Where its connection has ended, also by our restart, a phone
        that listens where its Contact says is reached by a new one; else the registrar hears of it (RFC 5626 section
        5.3.1)."""
        router = self.router
        routed = routed_request(request, decision)

        def send(flows: Sequence[Flow]) -> None:
            if server.is_answered:
                return
            if not flows:
                error = RemoteError(Reason.FLOW_FAILED, 430, "the connection the phone registered by has ended")
                router.stack.refuse_in(server, error, router.now())
                return
            router.counts["ordinary_requests"] += 1
            places = [("", onward) for onward in flows]
            kind = RestoringCallToFlow if isinstance(request, EditedRequest) else CallToFlow
            kind(router, server, request, places, routed, phone.token).start(router.now())

        uri = decision.next_hop or decision.uri
        inside = None if phone.flow is not None or phone.outbound else router.next_hops.inside_uri(uri)
        # By TLS hardly a phone listens; but within a call one is tried where it says that it hears something else.
        listens = phone.transport == "tcp" or (request.to_tag and inside is not None and inside.transport != "tls")
        if inside is None or not listens:
            send([phone.flow] if phone.flow is not None else [])
        else:
            router.next_hops.towards(uri, None, server.flow.point, send, request.call_id)

    def _where_taken_over(self, request: Request, source: Source, flow: Flow) -> list[tuple[str, Flow]]:
        """Where an emergency call is that an INVITE from inside wants to take over (decision 0066); else none."""
        router = self.router
        if not router.dialogs or source.side is not _INSIDE or request.method != b"INVITE":
            return []
        dialog = router.dialogs.taken_over(request)
        if dialog is None:
            return []
        return [("", place) for place in answered_from(dialog, router.points, router.sources, flow.point)]

    def _by_source(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, source: Source, now: float
    ) -> None:
        router = self.router
        routes = router.rules.config.routes
        names = routes.outbound if source.side is _INSIDE else routes.inbound
        if source.side is _INSIDE and request.method == b"INVITE" and not request.to_tag:
            router.phones.note(request, source, server.flow, now)
            router.phones.check_outbound(request, source, server.flow)
            self._note_near_miss(request)
        if not names:
            raise RemoteError(Reason.NO_ROUTE, 404, f"no route for calls from {source.side.value}")
        places = self._places(names, server, request)
        if places or not router.trunks.await_names(names, lambda: self._by_names(names, server, request, decision)):
            self._forward(server, request, decision, places, now, self._unnamed(names, places))

    def _note_near_miss(self, request: Request) -> None:
        """Say once of each dial string that looks like a call to 911 and is not one of `emergency.numbers`."""
        dial_string = dialled(request.uri.decode("latin-1"))
        number = near_miss(dial_string, self.router.rules.numbers)
        if not number:
            return
        self.router.counts["looks_like_911"] += 1
        if dial_string in self._near_misses or len(self._near_misses) >= NEAR_MISSES_SAID:
            return
        self._near_misses.add(dial_string)
        log.warning(
            "a call to %s went out as an ordinary one; if people here mean %s by it, add it to emergency.numbers",
            dial_string,
            number,
        )

    def _by_names(
        self, names: Sequence[str], server: ServerTransaction, request: Request, decision: RouteDecision
    ) -> None:
        """DNS has named a trunk for the first time, or is given up."""
        router = self.router
        try:
            places = self._places(names, server, request)
            self._forward(server, request, decision, places, router.now(), self._unnamed(names, places))
        except Exception:
            router.on_fault("going on after a look-up")
        router.flush()

    def _places(self, names: Sequence[str], server: ServerTransaction, request: Request) -> list[tuple[str, Flow]]:
        router = self.router
        places: list[tuple[str, Flow]] = []
        for name in names:
            hops = router.trunks.hops(name, server.flow.point, request.call_id)
            if not hops:
                router.counts["trunk_without_address"] += 1
                log.warning("trunk %s has no address at the moment", name)
            places += [(name, hop.flow) for hop in hops]
        return places

    def _unnamed(self, names: Sequence[str], places: Sequence[tuple[str, Flow]]) -> tuple[str, ...]:
        """Trunks that have no address yet, and will have one when DNS names them."""
        missing = set(names).difference(name for name, _ in places)
        return tuple(name for name in names if name in missing and self.router.trunks.names(name)) if missing else ()

    def _forward(
        self,
        server: ServerTransaction,
        request: Request,
        decision: RouteDecision,
        places: Sequence[tuple[str, Flow]],
        now: float,
        unnamed: Sequence[str] = (),
        followed: DialogFormed | None = None,
    ) -> None:
        router = self.router
        if server.is_answered:
            return
        if not places:
            router.counts["unreachable_requests"] += 1
            status = 503 if request.method == b"INVITE" else 480
            nowhere = RemoteError(Reason.NEXT_HOP_UNREACHABLE, status, "it has no address at the moment")
            router.stack.refuse_in(server, nowhere, now)
            return
        if request.uri[:5].lower() == b"sips:" and not request.to_tag:
            places = [place for place in places if place[1].point.transport == "tls"]
            if not places:
                # RFC 5630 section 5.3: a sips: request goes by TLS or not at all.
                router.stack.drops[Reason.SIPS_NOT_ALLOWED] += 1
                router.stack.answer(server, 480, now, extra=(sips_not_allowed(server.flow.point),))
                return
        router.counts["ordinary_requests"] += 1
        kind = OrdinaryCall
        if request.method == b"REGISTER":
            kind = Registration
            if router.rules.servers and router.lis is not None:
                host = server.flow.host
                router.lis.on_register(request, router.sources.classify(host, server.flow.port), host)
        if isinstance(request, EditedRequest):
            kind = RestoringCall
        call = kind(router, server, request, places, routed_request(request, decision))
        call.unnamed = unnamed
        if request.to_tag and (followed is not None or router.dialogs):
            followed = followed or router.dialogs.of(request)
            if followed is not None:
                near = server.flow.point
                call.last_resort = lambda: last_resort(followed, request, router.points, router.sources, near)
        call.start(now)

    def _validate(self, request: Request) -> None:
        """Section 16.3."""
        scheme = scheme_of(request.uri)
        if scheme in ("sip", "sips"):
            parse_sip_uri(request.uri)
        elif scheme not in ("tel", "urn", "im", "pres"):
            if not scheme:
                raise RemoteError(Reason.BAD_REQUEST_URI, 400, f"URI {request.uri[:80]!r} has no scheme")
            raise RemoteError(Reason.UNSUPPORTED_SCHEME, 416, scheme[:40])
        if max_forwards(request) <= 0:
            raise RemoteError(Reason.TOO_MANY_HOPS, 483, "Max-Forwards is 0")
        if request.has("proxy-require") and not self._follows_911(request):
            raise RemoteError(Reason.BAD_EXTENSION, 420, "no extension of Proxy-Require is supported")
        if came_back(self.router.key, request, _ORDINARY):
            raise RemoteError(Reason.LOOP_DETECTED, 482, "this request has been here before")
        max_breadth(request)

    def _is_of_911_call(self, request: Request, decision: RouteDecision) -> bool:
        """True for what follows in an emergency call whose PSAP gave no tag (RFC 2543): our token is in its Route."""
        return request.method != b"INVITE" and bool(
            self.router.record_routing.emergency_call_of(decision.own, request)
        )

    def _follows_911(self, request: Request) -> bool:
        """True for what belongs to an answered emergency call, as its token says."""
        router = self.router
        own = process_routes(request, router.next_hops.is_own).own
        return bool(router.record_routing.emergency_call_of(own, request))

    def _may_name_us(self, uri: bytes, source: Source) -> bool:
        """True where OPTIONS from inside is for a host by name: perhaps ours (a PBX that looks whether we live)."""
        if source.side is not _INSIDE or scheme_of(uri) not in ("sip", "sips") or self.router.resolve is None:
            return False
        named = parse_sip_uri(uri)
        return not named.user and parse_address(named.destination) is None

    def _on_asked_by_name(
        self,
        server: ServerTransaction,
        came: Request,
        request: Request,
        source: Source,
        decision: RouteDecision,
        flows: Sequence[Flow],
    ) -> None:
        router = self.router
        if router.next_hops.is_found_own(decision.uri, flows):
            router.on_request(server, came, router.now())
            return
        try:
            self._by_source(server, request, decision, source, router.now())
        except RemoteError as error:
            router.stack.refuse_in(server, error, router.now())

    def _is_for_us(self, request: Request, uri: bytes) -> bool:
        """Section 11: OPTIONS to this router itself, by an address without a user part."""
        if request.method != b"OPTIONS" or not self.router.next_hops.is_own_text(uri):
            return False
        return not parse_sip_uri(uri).user

    def _note_bye(self, own: Sequence[SipUri], request: Request, source: Source) -> None:
        """A BYE whose Route carries the id of an emergency call, also one from before a restart, and its token."""
        router = self.router
        followed = router.dialogs.end(request)
        call = router.record_routing.emergency_call_of(own, request) or followed
        if call and not followed and router.emergency.hung_up(call, request):
            return
        if call:
            by = "caller" if source.side is _INSIDE else "provider"
            router.write_later(CallFinished(id=call, at=router.clock(), by=by))
