"""CallRouter: the transaction user. Every request comes in here and is sent on its way."""

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.locate import DeviceTable
from e911.numbers import CallKind, classify
from e911.record import Caller, CallFinished, CallOutcome, CallRefused, JournalEvent
from router.acks import Acks
from router.admission import INSIDE_ONLY, forgives, refusal
from router.blocks import Blocks
from router.copies import Copy, is_copy
from router.decision import CallPlan, Rules, call_id_of, conveyed_by, plan_call, plan_of_unknown
from router.dialogs import EmergencyDialogs
from router.earlier import EarlierCall, EarlierCalls, EarlierRoute
from router.emergency import EmergencyCall
from router.floods import Floods
from router.flow_tokens import FlowTokens
from router.from_uri import EditedRequest, FromRewriting
from router.identity import Trust
from router.limits import MOST_TRANSACTIONS, Rates, Strangers
from router.listening import ListeningPoints
from router.next_hop import NextHops, Resolve
from router.ordinary import OrdinaryCall, routed_request
from router.path import Paths, ToPhone
from router.reach import check_reach
from router.record_route import RecordRouting, sips_not_allowed
from router.reference_wait import AskReference, ReferenceWait
from router.refusals import RefusalLimit
from router.registrations import CallToFlow, Registration
from router.restoring import RestoringCall, RestoringCallToFlow
from router.resumed import ResumedCall, invite_of_cancel, invite_of_response
from router.sources import Side, Source, Sources, parse_address
from router.text_to_911 import TextTo911
from router.token_keys import TokenKeys, derived_key
from router.trunks import Trunks
from sip.errors import Reason, RemoteError
from sip.flow import Flow, ListeningPoint
from sip.forwarding import backward_bytes, derive_branch, forward_bytes, is_own_branch, loop_mark, max_forwards
from sip.loops import labels_of_passes, max_breadth
from sip.machines import ServerTransaction
from sip.mending import mended
from sip.message import Edits, Request, Response
from sip.proxy import ResponseContext
from sip.received import maddr_of
from sip.routing import RouteDecision, process_routes, strictly_routed_uri
from sip.stack import Stack
from sip.uri import SipUri, parse_sip_uri, scheme_of

log = logging.getLogger(__name__)

SHUNNED_SECONDS = 1.0
"""So long a stranger that floods is not even read."""
OWN_ALLOW = (
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, PRACK, UPDATE, MESSAGE"
)


class Journal(Protocol):
    """Where events of emergency calls are written."""

    def append(self, event: JournalEvent) -> bool:
        """Append one event now; False where that failed."""

    def append_all(self, events: Iterable[JournalEvent]) -> bool:
        """Append several with one write; False where any could not be written."""


class Edge(Protocol):
    """What the router needs of the sockets."""

    def flush(self) -> None:
        """Send what the stack has ready; needed where no message or timer of the edge's own is being treated."""

    def distrust(self, flow: Flow) -> None:
        """Use a new connection to this address next time."""

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Find out whether a connection can be had; told an empty string, or the name of what stopped it."""

    def is_connected(self, connection: int) -> bool:
        """True while the connection of this number lives."""

    def shun(self, flow: Flow, seconds: float) -> None:
        """Drop what comes from this flow's address and port unread, for so long."""

    def hold(self, flow: Flow, seconds: float) -> None:
        """Keep a connection for so long although nobody uses it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything made from one configuration; swapped whole on reload."""

    rules: Rules
    sources: Sources
    trunks: Trunks
    points: ListeningPoints
    token_keys: TokenKeys | None = None
    """None: the one derived from the node's key."""


class CallRouter:
    """Sends every request where it belongs. One per call process."""

    def __init__(
        self,
        setup: Setup,
        *,
        key: bytes,
        journal: Journal,
        devices: DeviceTable,
        now: Callable[[], float],
        clock: Callable[[], float] = time.time,
        resolve: Resolve | None = None,
        note: Callable[[int, str, dict[str, object]], None] = lambda _level, _event, _fields: None,
        ask_reference: AskReference | None = None,
    ) -> None:
        self.key = key
        self.journal = journal
        self.devices = devices
        self.now = now
        self.clock = clock
        self.resolve = resolve
        self.note = note
        self.ask_reference = ask_reference
        self.stack = Stack(self, key=key)
        self.edge: Edge | None = None
        self.counts: Counter[str] = Counter()
        self.later: deque[JournalEvent] = deque()
        """Events that wait to be written: at the latest when the loop has a moment."""
        self._must_write = False
        """True where one of them must be written before anything is sent."""
        self.process = int.from_bytes(os.urandom(4))
        self.contact_flows: dict[bytes, Flow] = {}
        self.dialogs = EmergencyDialogs(clock)
        self.acks = Acks(self.stack, key, self.counts, self.is_own_uri)
        self.texts = TextTo911(self)
        self.being_set_up: dict[tuple[bytes, bytes, int], EmergencyCall] = {}
        """Emergency calls without a final answer, by Call-ID, the caller's tag and CSeq."""
        self.draining = False
        self.earlier = EarlierCalls()
        """Calls that were being set up when an earlier process of this node ended."""
        self.refusals = RefusalLimit()
        self.floods = Floods()
        self.strangers = Strangers()
        self.rates = Rates(0)
        self.is_restricting = False
        """True where new ordinary requests are looked at more closely than who they are from."""
        self.is_shedding = False
        """True while a message is treated that waited too long in an overload."""
        self.is_full = False
        self.blocks: Blocks | None = None
        """Whose 911 calls a person has blocked; None blocks nobody."""
        self.use(setup)

    def use(self, setup: Setup) -> None:
        """Take another configuration; calls in progress keep the decisions made."""
        self.setup = setup
        self.rules = setup.rules
        self.sources = setup.sources
        self.trunks = setup.trunks
        self.points = setup.points
        self.node = setup.rules.config.node
        per_source = setup.rules.config.limits.per_source
        if per_source != self.rates.per_second:
            self.rates = Rates(per_source)
        self.is_restricting = self.is_full or per_source > 0
        self.next_hops = NextHops(setup.points, setup.sources, self.resolve, self)
        keys = setup.token_keys or TokenKeys((derived_key(self.key),))
        self.record_routing = RecordRouting(keys)
        self.from_rewriting = FromRewriting(keys)
        self.paths = Paths(FlowTokens(keys, self.process), setup.points, self.contact_flows, self._is_connected)

    # ---- the transaction user ----

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Before a transaction is made: requests of sources that are not listed, and new calls while draining."""
        if request.has("route") and request.method == b"INVITE" and not request.to_tag:
            self._find_strictly_routed_call(request)
        source = self.sources.classify(flow.host, flow.port)
        is_usual = source.side is not Side.UNLISTED and flow.peer is None and not self.draining
        if is_usual and not self.is_restricting:
            return None  # spared the questions below
        error = refusal(
            self.rules,
            request,
            flow,
            source,
            draining=self.draining,
            has_token=lambda request: self._has_token(request) or self.dialogs.is_from(request, flow.host),
            note_refused=lambda kind: self._note_refused(request, flow.host, source, kind),
        )
        if error is None:
            return self._restriction(request, flow, source) if self.is_restricting else None
        if error.reason is Reason.SOURCE_NOT_LISTED and not self.strangers.hears(flow.host, self.now()):
            # A flood: no more answers, and for a moment nothing more of it is even read.
            if self.edge is not None:
                self.edge.shun(flow, SHUNNED_SECONDS)
            return RemoteError(Reason.SOURCE_NOT_LISTED, 0, "too many of them to answer")
        return error

    def _restriction(self, request: Request, flow: Flow, source: Source) -> RemoteError | None:
        """Why a new ordinary request is not served although its source is: too much of everything, or of it."""
        if request.to_tag or request.method in (b"ACK", b"CANCEL"):
            return None
        may_be_emergency = request.method in (b"INVITE", b"MESSAGE") and source.side is not Side.OUTSIDE
        if may_be_emergency and self.rules.kind_of(request, source) is not CallKind.ORDINARY:
            return None
        if self.is_shedding:
            return RemoteError(Reason.OVERLOADED, 503, "more calls than can be served; 911 goes first")
        if self.is_full:
            return RemoteError(Reason.OVERLOADED, 503, "too many requests at a time; 911 is served")
        most = self.rates.per_second
        if most and not source.is_trunk_address and not self.rates.allows(flow.host, self.now()):
            return RemoteError(Reason.RATE_LIMITED, 503, f"more than {most:g} new requests a second")
        return None

    def refuse_if_new(self, take: Callable[[bytes, Flow], None], data: bytes, flow: Flow) -> None:
        """Treat a message that has waited too long: a new ordinary request is refused, anything else is served."""
        before = self.is_restricting
        self.is_restricting = self.is_shedding = True
        try:
            take(data, flow)
        finally:
            self.is_restricting, self.is_shedding = before, False

    def looks_like_emergency(self, method: bytes, uri: bytes, flow: Flow) -> bool:
        """True for the method and Request-URI of a new emergency call, as far as these tell; cheap."""
        if method not in (b"INVITE", b"MESSAGE"):
            return False
        source = self.sources.classify(flow.host, flow.port)
        if source.side is Side.OUTSIDE:
            return False
        return source.is_all_emergency or classify(uri.decode("latin-1"), self.rules.numbers) is not CallKind.ORDINARY

    def look_at_limits(self) -> None:
        """Once a second: whether there is room for new ordinary requests."""
        self.is_full = len(self.stack.servers) >= MOST_TRANSACTIONS
        self.is_restricting = self.is_full or self.rates.per_second > 0

    def _find_strictly_routed_call(self, request: Request) -> None:
        """An emergency call is one also where a strict router moved its number to the end of the Route."""
        uri = strictly_routed_uri(request, self.next_hops.is_own)
        if uri is not None and classify(uri.decode("latin-1"), self.rules.numbers) is not CallKind.ORDINARY:
            request.uri = uri  # the Route goes: this router chooses where an emergency call leads

    def forgives(self, request: Request, error: RemoteError) -> bool:
        """True where a malformed request is served all the same."""
        return forgives(self.rules, request, error) or self.dialogs.forgives(request, error)

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """A new request."""
        flow = server.flow
        source = self.sources.classify(flow.host, flow.port)
        if request.method in (b"INVITE", b"MESSAGE") and not request.to_tag:
            kind = self.rules.kind_of(request, source)
            if kind is not CallKind.ORDINARY and not (
                source.side is Side.OUTSIDE and self._is_for_phone(request, flow)
            ):
                self._on_emergency(server, request, source, kind, now)
                return
        try:
            self._on_ordinary(server, request, source, now)
        except RemoteError as error:
            extra = []
            if error.reason is Reason.BAD_EXTENSION:
                extra = [b"Unsupported: " + value for value in request.all("proxy-require")]
            self.stack.refuse_in(server, error, now, extra)
        except Exception:
            self.on_fault("treating a request")
            self.stack.refuse_in(server, RemoteError(Reason.INTERNAL_ERROR, 500, "see the log of edge911"), now)

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        """A CANCEL for an INVITE that has no final answer yet."""
        context = invite.owner
        if isinstance(context, (ResponseContext, Copy)):
            context.on_cancel(request, now)
        elif not invite.is_answered:
            self.stack.answer(invite, 487, now)

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        """The ACK for a 2xx: forwarded without a transaction (section 16.11)."""
        source = self.sources.classify(flow.host, flow.port)
        if source.side is Side.UNLISTED and invite is None and not self._has_token(request):
            self.stack.drops[Reason.SOURCE_NOT_LISTED] += 1
            return
        if self.dialogs:
            as_it_came, request = request, self.dialogs.repaired(request)
            if request is not as_it_came:
                # This phone will need its dialog again, also where this process ends the next moment.
                self.write_waiting()
        self.acks.passed(request.call_id, request.to_tag, request.uri)
        request = mended(request)
        try:
            if max_forwards(request) <= 0:
                raise RemoteError(Reason.TOO_MANY_HOPS, 0)
            decision = process_routes(request, self.next_hops.is_own)
            if decision.own:
                request = self.from_rewriting.in_dialog(decision.own, request)
            phone = self.paths.find(decision, flow)
            if phone is not None:
                decision = replace(decision, uri=phone.uri)
                if phone.flow is not None:
                    self._send_ack(request, decision, [phone.flow])
                    return
            uri = decision.next_hop or decision.uri
            if self.next_hops.is_own_text(uri):
                raise RemoteError(Reason.STRAY_ACK, 0, "it names nobody but this router")
            if invite is None:
                check_reach(source, flow.host, request, uri, self.next_hops, self._has_token)
            self.next_hops.towards(
                uri,
                self.next_hops.leaving_point(decision),
                flow.point,
                lambda flows: self._send_ack(request, decision, flows),
                request.call_id,
            )
        except RemoteError as error:
            self.stack.drops[Reason.STRAY_ACK] += 1
            log.debug("ACK dropped: %s", error)

    def _send_ack(self, request: Request, decision: RouteDecision, flows: Sequence[Flow]) -> None:
        if not flows:
            self.stack.drops[Reason.STRAY_ACK] += 1
            return
        onward = flows[0]
        data = forward_bytes(routed_request(request, decision), onward, derive_branch(self.key, request, b"n0"))
        self.stack.out.append((onward, data, None))

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction: after a restart of ours it is still needed upstream.

        RFC 6026 forbids to forward just any stray response; one whose branch we derived for the request it answers
        is forwarded as section 16.11 says, by the Via below ours. A call that rang while we restarted is so answered.
        Those to other requests are never (RFC 4320 section 4.2): whoever waits for one asks again.
        """
        if response.status != 100 and response.method == b"INVITE" and is_own_branch(self.key, response):
            response = self.from_rewriting.restored(response)
            if self.earlier and self._resume_answered(response, flow, now):
                return
            if response.has("retry-after") and response.status == 503:
                response = response.edited(Edits(replace={"retry-after": ()}))  # it would hold back 911 calls, too
            onward = self._via_flow(response, flow)
            if onward is not None:
                self.counts["stray_responses_forwarded"] += 1
                self.stack.out.append((onward, backward_bytes(response, onward), None))
                return
        self.stack.drops[Reason.STRAY_RESPONSE] += 1

    def _resume_answered(self, response: Response, flow: Flow, now: float) -> bool:
        """Go on with a call of before the start that a provider answers."""
        label = response.via.branch.rpartition(b".")[2]
        invite = invite_of_response(response)
        call = self.earlier.take(call_id_of(self.key, invite), label)
        onward = self._via_flow(response, flow) if call is not None else None
        if call is None or onward is None:
            return False
        if self._resume(call, invite, onward, now):
            self.stack.receive_response(response, flow, now)
            return True
        return False

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """A CANCEL of an INVITE that is not known: perhaps of a call of before the start, as the journal tells."""
        call = self.earlier.take(call_id_of(self.key, request)) if self.earlier else None
        if call is not None:
            self._resume(call, invite_of_cancel(request), flow, now)

    def _resume(self, call: EarlierCall, invite: Request, flow: Flow, now: float) -> bool:
        """Set the transactions of a call of before the start up again; flow: where the caller's answers go.

        False where there is no socket any more to reach its routes by.
        """
        places: list[tuple[EarlierRoute, Flow]] = []
        for route in call.routes.values():
            point = self.points.choose(route.transport, route.host, flow.point, self.sources.interface_of(route.host))
            if point is not None:
                places.append((route, Flow(point, route.host, route.port)))
        if places:
            self.counts["calls_resumed"] += 1
            resumed = ResumedCall(self, self.stack.adopt_server(invite, flow), invite, call)
            for route, onward in places:
                resumed.take_up(route, onward, now)
        return bool(places)

    def _via_flow(self, response: Response, flow: Flow) -> Flow | None:
        below = response.without_top_via()
        via = below.via
        transport = via.transport.decode("latin-1").lower()
        maddr = maddr_of(via.parameters)
        host = maddr or via.received or via.host.decode("latin-1").strip("[]")
        if parse_address(host) is None:
            return None
        point = self.points.choose(transport, host, flow.point)
        if point is None:
            return None
        # On streams rport names the old connection's port, where nobody listens; sent-by is where to connect to.
        default = 5061 if transport == "tls" else 5060
        port = (via.rport if transport == "udp" and not maddr else None) or via.port or default
        return Flow(point, host, port)

    # ---- emergency calls ----

    def _on_emergency(
        self, server: ServerTransaction, request: Request, source: Source, kind: CallKind, now: float
    ) -> None:
        if self._loops(request, kind):
            # A route of ours led back to us. The copy that went out there is refused with this, and goes on to its
            # next route.
            again = RemoteError(Reason.LOOP_DETECTED, 482, "this call has been here before")
            self.stack.refuse_in(server, again, now)
            self.note(logging.ERROR, "911 call came back to us", {"source_address": server.flow.host})
            return
        if source.side is Side.OUTSIDE:
            self._note_refused(request, server.flow.host, source, kind)
            self.stack.refuse_in(server, RemoteError(Reason.SOURCE_NOT_LISTED, 403, INSIDE_ONLY), now)
            return
        if self.blocks and self._is_blocked(server, request, source, kind, None, now):
            return
        if request.method == b"MESSAGE":
            host = server.flow.host
            self.texts.receive(
                server, request, kind, lambda: plan_call(self.rules, self.devices, request, source, host, kind), now
            )
            return
        try:
            if max_forwards(request) <= 0:
                self.stack.refuse_in(server, RemoteError(Reason.TOO_MANY_HOPS, 483, "Max-Forwards is 0"), now)
                return
        except RemoteError:
            request = request.edited(Edits(replace={"max-forwards": ()}))
        conveyed = NOTHING_CONVEYED
        try:
            conveyed = conveyed_by(request)
        except Exception:
            self.on_fault("reading the location of a caller")
        if (
            conveyed is not NOTHING_CONVEYED
            and conveyed.references
            and self.ask_reference is not None
            and self.rules.asks_references
        ):
            wait = ReferenceWait(
                self.stack,
                self,
                conveyed,
                lambda known: self._decide(server, request, source, kind, known, self.now()),
            )
            wait.start(self.ask_reference, server.flow.host, self.rules.config.locations.reference_timeout)
            return
        self._decide(server, request, source, kind, conveyed, now)

    def _decide(
        self,
        server: ServerTransaction,
        request: Request,
        source: Source,
        kind: CallKind,
        conveyed: Conveyed,
        now: float,
    ) -> None:
        """Everything about the caller is known that will be: decide, and let the call go."""
        if server.is_answered:
            return  # cancelled while its location was asked for
        key = (request.call_id, request.from_tag, request.cseq)
        going_on = self.being_set_up.get(key)
        if going_on is not None and is_copy(request, going_on.request):
            self.counts["copies_of_calls"] += 1
            going_on.join(server, request)
            return
        try:
            plan = plan_call(self.rules, self.devices, request, source, server.flow.host, kind, conveyed)
        except Exception:
            # A fault of ours stops no emergency call: it goes as one of whom nothing is known.
            self.on_fault("deciding about an emergency call")
            plan = plan_of_unknown(self.rules, request, server.flow.host, kind)
        if self.blocks and self._is_blocked(server, request, source, kind, plan.caller, now):
            return
        self._watch_for_flood(plan, now)
        self.counts[f"{kind}_calls"] += 1
        found_by = str(plan.decision.location.source) if plan.decision.location else "none"
        self.counts[f"location_{found_by}"] += 1
        first_route = self._start(server, request, plan, key, now)
        self.note(
            logging.INFO,
            "emergency call" if kind is CallKind.EMERGENCY else "test call",
            {
                "call": plan.id,
                "sip_call_id": request.call_id.decode("latin-1"),
                "dialled": plan.dialled,
                "number": plan.caller.number,
                "callback": plan.caller.callback,
                "source_address": plan.caller.source_address,
                "site": plan.decision.site.id if plan.decision.site else "",
                "location_source": found_by,
                "route": first_route,
            },
        )

    def _start(
        self, server: ServerTransaction, request: Request, plan: CallPlan, key: tuple[bytes, bytes, int], now: float
    ) -> str:
        """Set a call going; where that fails by a fault of ours, once more as simply as can be, else 503. Returns the
        name of the route tried first."""
        call = self.being_set_up[key] = EmergencyCall(self, server, request, plan, key)
        try:
            call.start(now)
        except Exception:
            self.on_fault("starting an emergency call")
            if call.branches or call.final_status:
                return call.first_route
            try:
                simple = plan_of_unknown(self.rules, request, server.flow.host, plan.kind)
                call = self.being_set_up[key] = EmergencyCall(self, server, request, simple, key)
                call.start(now)
            except Exception:
                self.on_fault("starting an emergency call as a simple one")
                self.set_up(key)
                self.stack.refuse_in(server, RemoteError(Reason.INTERNAL_ERROR, 503, "see the log of edge911"), now)
        return call.first_route

    def _is_blocked(
        self,
        server: ServerTransaction,
        request: Request,
        source: Source,
        kind: CallKind,
        caller: Caller | None,
        now: float,
    ) -> bool:
        """True where a person has blocked this source, or this caller: refused, recorded, told."""
        host = server.flow.host
        block = self.blocks.find(host, caller, self.clock()) if self.blocks else None
        if block is None:
            return False
        self._note_refused(request, host, source, kind, "blocked")
        error = RemoteError(Reason.BLOCKED, 403, f"blocked by hand for a while: {block.reason}")
        self.stack.refuse_in(server, error, now)
        return True

    def _watch_for_flood(self, plan: CallPlan, now: float) -> None:
        """An alarm where one caller calls 911 again and again; the calls are served."""
        caller = plan.caller
        who = caller.device or caller.number or caller.source_address
        most = self.rules.config.emergency.flood
        if self.floods.is_news(f"{who} {caller.source_address}", most, now):
            self.counts["emergency_floods"] += 1
            fields: dict[str, object] = {
                "call": plan.id,
                "number": who,
                "source_address": caller.source_address,
                "calls_a_minute": most,
                "remedy": "edge911 block add DEVICE|IP --for 1h --reason TEXT",
            }
            self.note(logging.ERROR, "911 flood", fields)

    def _note_refused(self, request: Request, host: str, source: Source, kind: CallKind, reason: str = "") -> None:
        """Write down, within limits, that a 911 call was refused; the contacts are told from it."""
        reason = reason or ("from-outside" if source.side is Side.OUTSIDE else "from-unlisted-source")
        self.counts[f"emergency_refused_{reason}"] += 1
        try:
            call = call_id_of(self.key, request)
            if not self.refusals.allows(host, call, self.now()):
                self.counts["refused_not_recorded"] += 1
                return
            plan = plan_call(self.rules, self.devices, request, source, host, kind)
        except Exception:
            self.on_fault("noting a refused call")
            return
        self.write(
            CallRefused(
                id=plan.id,
                at=self.clock(),
                node=self.node,
                call_id=request.call_id.decode("latin-1"),
                dialled=plan.dialled,
                caller=plan.caller,
                reason=reason,
                status=403,
                site=plan.decision.site.id if plan.decision.site else "",
                contacts=plan.decision.contacts,
                kind=str(kind),
            )
        )
        self.note(logging.WARNING, "911 call refused", {"call": plan.id, "reason": reason, "source_address": host})

    def on_fault(self, doing: str) -> None:
        """A fault of edge911 itself was caught; the call goes on."""
        self.counts["faults"] += 1
        log.exception("fault in edge911 itself, while %s; the call goes on", doing)

    def watch_ack(self, response: Response, flow: Flow, uri: bytes, now: float, *, is_shared: bool) -> None:
        """Deviation (c): see whether somebody acknowledges a second 2xx."""
        self.acks.watch(response, flow, uri, now, is_shared=is_shared)

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """The provider forked, and a second of its phones answered an emergency call."""
        self.acks.watch(response, flow, b"", now)

    def set_up(self, key: tuple[bytes, bytes, int]) -> None:
        """The setting-up of an emergency call has ended: the same INVITE would begin another."""
        self.being_set_up.pop(key, None)

    def follow(self, call: str, invite: Request, response: Response, uri: bytes, source_address: str) -> None:
        """An emergency call was answered: its dialog is followed, in case its phone does not."""
        self.write_later(self.dialogs.form(call, invite, response, uri, source_address))

    def await_ack(self, call_id: bytes, to_tag: bytes) -> None:
        """An emergency call was answered: this process stays until its ACK has passed."""
        self.acks.expect(call_id, to_tag, self.now())

    def in_progress(self) -> bool:
        """True while a request has no final answer, or an answered emergency call no ACK (32 s at the most)."""
        return self.acks.are_awaited(self.now()) or any(
            not server.is_answered for server in self.stack.servers.values()
        )

    def first_seen(self, call: str) -> float:
        """When the call of this record id came in first: now, or before a restart."""
        found = self.earlier.first_seen(call) if self.earlier else None
        if found is None:
            return self.clock()
        self.earlier.note_again(call)
        return found

    def log_call_end(self, kind: str, call: str, outcome: CallOutcome, status: int, route: str) -> None:
        """One line for how the setting-up of an emergency call ended."""
        level = logging.ERROR if outcome is CallOutcome.FAILED else logging.INFO
        self.note(level, f"{kind} call {outcome}", {"call": call, "status": status, "route": route})

    # ---- ordinary requests ----

    def _on_ordinary(self, server: ServerTransaction, request: Request, source: Source, now: float) -> None:
        if self.dialogs:
            request = self.dialogs.repaired(request)
        self._validate(request)
        request = mended(request)
        decision = process_routes(request, self.next_hops.is_own)
        flow = server.flow
        if request.method == b"BYE" and (decision.own or self.dialogs):
            self._note_bye(decision.own, request, source)
        if decision.own and request.to_tag:
            request = self.from_rewriting.in_dialog(decision.own, request)
        phone = self.paths.find(decision, flow)
        if phone is not None:
            self._to_phone(server, request, replace(decision, uri=phone.uri), phone, now)
            return
        if source.side is Side.OUTSIDE and not request.to_tag and self.paths.is_forged(decision):
            raise RemoteError(Reason.BAD_FLOW_TOKEN, 403, "a Path or Contact of ours that we do not know again")
        uri = decision.next_hop
        if uri is None and request.to_tag:
            uri = decision.uri
        if uri is None:
            inside = self.next_hops.inside_uri(decision.uri)
            if inside is not None:
                uri = decision.uri
            elif self._is_for_us(request, decision.uri):
                self.stack.answer(server, 200, now, extra=(OWN_ALLOW, b"Accept: application/sdp"))
                return
        if uri is None:
            self._by_source(server, request, decision, source, now)
            return
        if self.next_hops.is_own_text(uri):
            raise RemoteError(Reason.UNKNOWN_TRANSACTION, 481, "the request names nobody but this router")
        check_reach(source, flow.host, request, uri, self.next_hops, self._has_token)
        self.next_hops.towards(
            uri,
            self.next_hops.leaving_point(decision),
            flow.point,
            lambda flows: self._forward(server, request, decision, [("", onward) for onward in flows], self.now()),
            request.call_id,
        )

    def _is_for_phone(self, request: Request, flow: Flow) -> bool:
        """True where an INVITE goes to a registered phone, whatever the user part of its Contact is."""
        try:
            return self.paths.find(process_routes(request, self.next_hops.is_own), flow) is not None
        except RemoteError:
            return False

    def _to_phone(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, phone: ToPhone, now: float
    ) -> None:
        """By the flow that the phone registered by. Where its connection has ended, also by our restart, a phone
        that listens where its Contact says is reached by a new one; else the registrar hears of it (RFC 5626 section
        5.3.1)."""
        routed = routed_request(request, decision)

        def send(flows: Sequence[Flow]) -> None:
            if server.is_answered:
                return
            if not flows:
                error = RemoteError(Reason.FLOW_FAILED, 430, "the connection the phone registered by has ended")
                self.stack.refuse_in(server, error, self.now())
                return
            self.counts["ordinary_requests"] += 1
            places = [("", onward) for onward in flows]
            kind = RestoringCallToFlow if isinstance(request, EditedRequest) else CallToFlow
            kind(self, server, request, places, routed, phone.token).start(self.now())

        uri = decision.next_hop or decision.uri
        listens = phone.transport == "tcp" and not phone.outbound and self.next_hops.inside_uri(uri) is not None
        if phone.flow is not None or not listens:
            send([phone.flow] if phone.flow is not None else [])
        else:
            self.next_hops.towards(uri, None, server.flow.point, send, request.call_id)

    def _by_source(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, source: Source, now: float
    ) -> None:
        routes = self.rules.config.routes
        names = routes.outbound if source.side is Side.INSIDE else routes.inbound
        places: list[tuple[str, Flow]] = []
        for name in names:
            hops = self.trunks.hops(name, server.flow.point, request.call_id)
            if not hops:
                self.counts["trunk_without_address"] += 1
                log.warning("trunk %s has no address at the moment", name)
            places += [(name, hop.flow) for hop in hops]
        if not names:
            raise RemoteError(Reason.NO_ROUTE, 404, f"no route for calls from {source.side.value}")
        self._forward(server, request, decision, places, now)

    def _forward(
        self,
        server: ServerTransaction,
        request: Request,
        decision: RouteDecision,
        places: Sequence[tuple[str, Flow]],
        now: float,
    ) -> None:
        if server.is_answered:
            return
        if not places:
            self.counts["unreachable_requests"] += 1
            status = 503 if request.method == b"INVITE" else 480
            nowhere = RemoteError(Reason.NEXT_HOP_UNREACHABLE, status, "it has no address at the moment")
            self.stack.refuse_in(server, nowhere, now)
            return
        if request.uri[:5].lower() == b"sips:" and not request.to_tag:
            places = [place for place in places if place[1].point.transport == "tls"]
            if not places:
                # RFC 5630 section 5.3: a sips: request goes by TLS or not at all.
                self.stack.drops[Reason.SIPS_NOT_ALLOWED] += 1
                self.stack.answer(server, 480, now, extra=(sips_not_allowed(server.flow.point),))
                return
        self.counts["ordinary_requests"] += 1
        kind = Registration if request.method == b"REGISTER" else OrdinaryCall
        if isinstance(request, EditedRequest):
            kind = RestoringCall
        kind(self, server, request, places, routed_request(request, decision)).start(now)

    def _validate(self, request: Request) -> None:
        """Section 16.3."""
        scheme = scheme_of(request.uri)
        if scheme in ("sip", "sips"):
            parse_sip_uri(request.uri)
        elif scheme not in ("tel", "urn", "im", "pres"):
            raise RemoteError(
                Reason.UNSUPPORTED_SCHEME if scheme else Reason.BAD_REQUEST_URI, 416 if scheme else 400, scheme[:40]
            )
        if max_forwards(request) <= 0:
            raise RemoteError(Reason.TOO_MANY_HOPS, 483, "Max-Forwards is 0")
        if request.has("proxy-require"):
            raise RemoteError(Reason.BAD_EXTENSION, 420, "no extension of Proxy-Require is supported")
        if self._loops(request, CallKind.ORDINARY):
            raise RemoteError(Reason.LOOP_DETECTED, 482, "this request has been here before")
        max_breadth(request)

    def _loops(self, request: Request, kind: CallKind) -> bool:
        """True where the request left us before, and would go the same way again (RFC 5393).

        An emergency call goes by its ladder whatever its Request-URI says, so for it each return is a loop.
        """
        labels = labels_of_passes(self.key, request)
        if not labels:
            return False
        if kind is not CallKind.ORDINARY:
            return any(label[:1].isdigit() for label in labels)
        mark = loop_mark(request)
        return any(label.endswith(mark) for label in labels)

    def _is_for_us(self, request: Request, uri: bytes) -> bool:
        """Section 11: OPTIONS to this router itself, by an address without a user part."""
        if request.method != b"OPTIONS" or not self.next_hops.is_own_text(uri):
            return False
        return not parse_sip_uri(uri).user

    def _note_bye(self, own: Sequence[SipUri], request: Request, source: Source) -> None:
        """A BYE whose Route carries the id of an emergency call, also one from before a restart, and its token."""
        followed = self.dialogs.end(request)
        call = self.record_routing.emergency_call_of(own, request) or followed
        if call:
            by = "caller" if source.side is Side.INSIDE else "provider"
            self.write_later(CallFinished(id=call, at=self.clock(), by=by))

    # ---- where to ----

    def identity_trust(self, flow: Flow) -> Trust:
        """Whether the peer of this flow is in our trust domain (RFC 3325)."""
        source = self.sources.classify(flow.host, flow.port)
        if source.trust_identity:
            return Trust.TRUSTED
        return Trust.DISTRUSTED if source.is_distrusted else Trust.NOT_SAID

    def is_own_uri(self, uri: bytes) -> bool:
        """True where a URI names this router."""
        return self.next_hops.is_own_text(uri)

    def _has_token(self, request: Request, caller: str = "") -> bool:
        return self.record_routing.has_token(request, self.next_hops.is_own, caller)

    def record_routes(
        self,
        out: ListeningPoint,
        arrived: Flow,
        request: Request,
        parameters: bytes = b"",
        *,
        keeps_uri: bool = True,
        out_flow: bytes = b"",
    ) -> Sequence[bytes]:
        """Our Record-Route lines."""
        source = self.sources.classify(arrived.host, arrived.port)
        arrived_flow, caller = b"", ""
        if source.side is not Side.OUTSIDE and self.sources.trunk_at(arrived.host, arrived.port) is None:
            arrived_flow = self.paths.token_of_caller(request, arrived)
            if source.side is Side.UNLISTED:
                caller = arrived.host
        return self.record_routing.lines(
            out,
            arrived.point,
            request,
            parameters=parameters,
            keeps_uri=keeps_uri,
            out_flow=out_flow,
            arrived_flow=arrived_flow,
            caller=caller,
        )

    def registrar_mode(self, trunk: str, flow: Flow) -> str:
        """How a trunk's registrar finds the way back to phones; of a place that is no trunk's: by Path."""
        state = self.trunks.states.get(trunk)
        config = state.config if state is not None else self.sources.trunk_at(flow.host, flow.port)
        return config.registrar if config is not None else "path"

    def _is_connected(self, connection: int) -> bool:
        return self.edge is not None and self.edge.is_connected(connection)

    def hold(self, flow: Flow, seconds: float) -> None:
        """Have the edge keep a connection."""
        if self.edge is not None:
            self.edge.hold(flow, seconds)

    def flush(self) -> None:
        """Have the edge send what the stack has ready."""
        if self.edge is not None:
            self.edge.flush()

    def distrust(self, flow: Flow) -> None:
        """Have the edge use a new connection to this address next time."""
        if self.edge is not None:
            self.edge.distrust(flow)

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Ask the edge for a connection."""
        if self.edge is None:
            told("unreachable")
        else:
            self.edge.connect(flow, told)

    # ---- journal ----

    def write(self, event: JournalEvent) -> None:
        """Append to the journal before anything more is sent: with the edge, once for all that came together."""
        self.later.append(event)
        self._must_write = True

    def before_sending(self) -> None:
        """Write what must be written before the messages that wait may leave."""
        if self._must_write:
            self.write_waiting()

    def write_later(self, event: JournalEvent) -> None:
        """Append soon: nothing depends on it before the next intent."""
        self.later.append(event)

    def write_waiting(self) -> None:
        """Append what waits, with one write and never an exception."""
        self._must_write = False
        if not self.later:
            return
        events = list(self.later)
        self.later.clear()
        try:
            written = self.journal.append_all(events)
        except Exception:
            written = False
            self.on_fault("writing the journal")
        if not written:
            self.counts["journal_failures"] += 1
