"""CallRouter: the transaction user. Every request comes in here and is sent on its way."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from e911.locate import DeviceTable
from e911.lost import NONE_VALIDATED
from e911.numbers import CallKind
from e911.record import CallIntent, CallOutcome, JournalEvent
from e911.wiremap import NO_WIREMAP
from router.callback.callbacks import Callbacks, without_mark
from router.calls.admission import Admission, does_not_matter, forgives
from router.calls.ordinary import routed_request
from router.calls.ordinary_requests import OrdinaryRequests
from router.calls.setup import Edge, Journal, Setup
from router.calls.strays import Strays
from router.dialogs.dialog_ways import DialogWays
from router.dialogs.emergency_dialogs import EmergencyDialogs
from router.dialogs.flow_tokens import FlowTokens
from router.dialogs.last_resort import last_resort
from router.dialogs.path import Paths
from router.dialogs.reach import check_reach
from router.dialogs.record_route import RecordRouting
from router.dialogs.token_keys import TokenKeys, derived_key
from router.emergency.acks import Acks
from router.emergency.blocks import Blocks
from router.emergency.copies import Copy
from router.emergency.earlier import EarlierCalls
from router.emergency.emergency_requests import EmergencyRequests
from router.emergency.from_uri import FromRewriting
from router.emergency.identity import Trust
from router.emergency.unreadable_calls import note_unreadable
from router.journal.event_lines import encode_event
from router.locating.lis_calls import LisCalls
from router.locating.location_wait import LocationWait
from router.locating.reference_wait import AskReference
from router.locations.phone_notes import PhoneNotes
from router.network.next_hop import NextHops, Resolve
from router.network.sources import Side, Source
from router.references.issuing import References
from sip.errors import Reason, RemoteError
from sip.flow import Flow, ListeningPoint
from sip.forwarding import derive_branch, forward_bytes, max_forwards
from sip.machines import ServerTransaction
from sip.mending import mended
from sip.message import Request, Response
from sip.proxy import ResponseContext
from sip.routing import RouteDecision, process_routes
from sip.stack import Stack

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_ORDINARY = CallKind.ORDINARY
_OUTSIDE = Side.OUTSIDE
_UNLISTED = Side.UNLISTED
_FAILED = CallOutcome.FAILED

log = logging.getLogger(__name__)


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
        self.later: list[bytes] = []
        """Events as lines that wait to be written: at the latest when the loop has a moment."""
        self.call_began: Callable[[str], None] | None = None
        """Told the Call-ID of each emergency and test call that is served; must not raise."""
        self._must_write = False
        """True where one of them must be written before anything is sent."""
        self.process = int.from_bytes(os.urandom(4))
        self.contact_flows: dict[bytes, Flow] = {}
        self.dialogs = EmergencyDialogs(clock)
        self.acks = Acks(self.stack, key, self.counts, self.is_own_uri)
        self.draining = False
        self.earlier = EarlierCalls()
        """Calls that were being set up when an earlier process of this node ended."""
        self.wiremap = NO_WIREMAP
        self.validated = NONE_VALIDATED
        """Which place access points and switch ports serve."""
        self.lis: LisCalls | None = None
        """Asks location servers; None asks none."""
        self.location_answers: Counter[str] = Counter()
        """What location sources said of emergency calls: source, outcome and reason."""
        self.references = References()
        self.blocks: Blocks | None = None
        """Whose 911 calls a person has blocked; None blocks nobody."""
        self.admission = Admission(self)
        self.callbacks = Callbacks(self)
        self.phones = PhoneNotes(self)
        """Phones without a location, and those that moved."""
        self.emergency = EmergencyRequests(self)
        self.ordinary = OrdinaryRequests(self)
        self.strays = Strays(self)
        self.use(setup)

    def use(self, setup: Setup) -> None:
        """Take another configuration; calls in progress keep the decisions made."""
        self.setup = setup
        self.rules = setup.rules
        self.sources = setup.sources
        self.trunks = setup.trunks
        self.trunks.health.on_silent = self.emergency.on_trunk_down
        self.points = setup.points
        self.node = setup.rules.config.node
        self.admission.use(setup.rules.config.limits.per_source)
        self.next_hops = NextHops(setup.points, setup.sources, self.resolve, self)
        self.ways = DialogWays(self.next_hops)
        keys = setup.token_keys or TokenKeys((derived_key(self.key),))
        self.record_routing = RecordRouting(keys)
        self.from_rewriting = FromRewriting(keys)
        self.paths = Paths(FlowTokens(keys, self.process), setup.points, self.contact_flows, self._is_connected)
        self.callbacks.use()

    # ---- the transaction user ----

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Before a transaction is made: requests of sources that are not listed, and new calls while draining."""
        return self.admission.refuses(request, flow)

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        """True where a malformed request is served all the same."""
        source = self.sources.classify(flow.host, flow.port)
        return (
            forgives(self.rules, request, error, source)
            or self.dialogs.forgives(request, error)
            or (does_not_matter(request, error) and self._is_of_emergency_call(request))
        )

    def _is_of_emergency_call(self, request: Request) -> bool:
        """True for what belongs to an emergency call that is answered, or is being set up (its CANCEL, too), and for
        the ACK of a refusal of ours."""
        if request.method == b"ACK" and request.to_tag == self.stack.to_tag(request):
            return True
        return self.dialogs.of(request) is not None or self.emergency.is_being_set_up(request)

    def on_malformed(self, request: Request, error: RemoteError, flow: Flow) -> None:
        """A request was refused unread."""
        try:
            note_unreadable(self, request, error, flow)
        except Exception:
            self.on_fault("noting a refused call")

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """A new request."""
        flow = server.flow
        source = self.sources.classify(flow.host, flow.port)
        if request.method in (b"INVITE", b"MESSAGE") and not request.to_tag:
            if request.has("priority"):
                request = without_mark(request)
            kind = self.rules.kind_of(request, source)
            if kind is not _ORDINARY and not (source.side is _OUTSIDE and self.ordinary.is_for_phone(request, flow)):
                self.emergency.receive(server, request, source, kind, now)
                return
        try:
            self.ordinary.receive(server, request, source, now)
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
        if isinstance(context, (ResponseContext, Copy, LocationWait)):
            context.on_cancel(request, now)
        elif not invite.is_answered:
            self.stack.answer(invite, 487, now)

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        """The ACK for a 2xx: forwarded without a transaction (section 16.11)."""
        source = self.sources.classify(flow.host, flow.port)
        if source.side is _UNLISTED and invite is None and not self.has_token(request):
            self.stack.drops[Reason.SOURCE_NOT_LISTED] += 1
            return
        as_it_came = request
        if self.dialogs:
            request = self.dialogs.repaired(request)
            if request is not as_it_came:
                # This phone will need its dialog again, also where this process ends the next moment.
                self.write_waiting()
        self.acks.passed(request.call_id, request.to_tag, request.uri)
        request = mended(request)
        try:
            if max_forwards(request) <= 0:
                raise RemoteError(Reason.TOO_MANY_HOPS, 0)
            known = self.ways.find(request, flow)
            if known is not None:
                self._send_ack(request, flow, known[0], [known[1]])
                return
            decision = process_routes(request, self.next_hops.is_own)
            if self.dialogs:
                decision = self.dialogs.meant_for_far_end(request, decision, self.next_hops.is_own_text)
            if decision.own:
                request = self.from_rewriting.in_dialog(decision.own, request)
            phone = self.paths.find(decision, flow)
            if phone is not None:
                decision = replace(decision, uri=phone.uri)
                if phone.flow is not None:
                    self._send_ack(request, flow, decision, [phone.flow])
                    return
            uri = decision.next_hop or decision.uri
            if self.next_hops.is_own_text(uri):
                raise RemoteError(Reason.STRAY_ACK, 0, "it names nobody but this router")
            if invite is None:
                check_reach(source, flow.host, request, uri, self.next_hops, self.has_token)
            self.next_hops.towards(
                uri,
                self.next_hops.leaving_point(decision),
                flow.point,
                lambda flows: (
                    self.on_ack(as_it_came, flow, invite, self.now())
                    if self.next_hops.is_found_own(uri, flows)
                    else self._send_found_ack(
                        request, flow, source, decision, flows or self._as_answered(request, flow)
                    )
                ),
                request.call_id,
            )
        except RemoteError as error:
            self.stack.drops[Reason.STRAY_ACK] += 1
            log.debug("ACK dropped: %s", error)

    def _as_answered(self, request: Request, came_by: Flow) -> list[Flow]:
        return last_resort(self.dialogs.of(request), request, self.points, self.sources, came_by.point)

    def _send_found_ack(
        self, request: Request, came_by: Flow, source: Source, decision: RouteDecision, flows: Sequence[Flow]
    ) -> None:
        if len(flows) == 1:
            self.ways.keep(request, came_by, source, decision, flows[0])
        self._send_ack(request, came_by, decision, flows)

    def _send_ack(self, request: Request, came_by: Flow, decision: RouteDecision, flows: Sequence[Flow]) -> None:
        if not flows:
            self.stack.drops[Reason.STRAY_ACK] += 1
            return
        onward = flows[0]
        others = self._as_answered(request, came_by) if onward.point.reliable and self.dialogs else []
        if not others or others[0][:3] == onward[:3]:
            self._send_ack_by(request, decision, onward)
            return

        def told(failure: str) -> None:
            """Nobody tells that an ACK was lost: whether the place that the PSAP names is there is seen before."""
            self._send_ack_by(request, decision, others[0] if failure else onward)
            self.flush()

        self.connect(onward, told)

    def _send_ack_by(self, request: Request, decision: RouteDecision, onward: Flow) -> None:
        branch = derive_branch(self.key, request, b"n0")
        if decision.routes == [] and decision.uri == request.uri and len(request.lines("route")) == 1:
            # Nearly every ACK: our own Route was the only one. The same bytes with no request made for them.
            data = forward_bytes(request, onward, branch, without="route")
        else:
            data = forward_bytes(routed_request(request, decision), onward, branch)
        self.stack.out.append((onward, data, None))

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction."""
        self.strays.receive_response(response, flow, now)

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> ServerTransaction | None:
        """A CANCEL of an INVITE that is not known."""
        known = self.emergency.carelessly_cancelled(request, flow)
        if known is None:
            self.strays.receive_cancel(request, flow, now)
        return known

    # ---- emergency calls ----

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
        self.emergency.being_set_up.pop(key, None)

    def follow(
        self, call: str, invite: Request, response: Response, uri: bytes, source_address: str, answered_by: str
    ) -> None:
        """An emergency call was answered: its dialog is followed, in case its phone does not."""
        self.write_later(self.dialogs.form(call, invite, response, uri, source_address, answered_by))

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
        level = logging.ERROR if outcome is _FAILED else logging.INFO
        self.note(level, f"{kind} call {outcome._value_}", {"call": call, "status": status, "route": route})

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

    def has_token(self, request: Request, caller: str = "") -> bool:
        """True where a request carries the token of its dialog; caller: see RecordRouting.has_token."""
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
        if source.side is not _OUTSIDE and self.sources.trunk_at(arrived.host, arrived.port) is None:
            arrived_flow = self.paths.token_of_caller(request, arrived)
            if source.side is _UNLISTED:
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

    def renew(self, flow: Flow) -> None:
        """Have the edge open a new connection to this address, and use the old one until it stands."""
        if self.edge is not None:
            self.edge.renew(flow)

    def line_seconds(self, flow: Flow) -> float:
        """How much of the time to an answer the line to this address takes, as far as that is known."""
        return self.edge.line_seconds(flow) if self.edge is not None else 0.0

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Ask the edge for a connection."""
        if self.edge is None:
            told("unreachable")
        else:
            self.edge.connect(flow, told)

    # ---- journal ----

    def write(self, event: JournalEvent) -> None:
        """Append to the journal before anything more is sent: with the edge, once for all that came together."""
        self.write_later(event)
        self._must_write = True
        if self.call_began is not None and type(event) is CallIntent:
            self.call_began(event.call_id)

    def before_sending(self) -> None:
        """Write what must be written before the messages that wait may leave."""
        if self._must_write:
            self.write_waiting()

    def write_later(self, event: JournalEvent) -> None:
        """Append soon: nothing depends on it before the next intent."""
        try:
            # As a line at once: kept as objects until the write they cost twice as much.
            self.later.append(encode_event(event))
        except Exception as error:
            self.counts["journal_failures"] += 1
            self.journal.note_not_encodable(error)

    def write_waiting(self) -> None:
        """Append what waits, with one write and never an exception."""
        self._must_write = False
        if not self.later:
            return
        lines, self.later = self.later, []
        try:
            written = self.journal.append_lines(lines)
        except Exception:
            written = False
            self.on_fault("writing the journal")
        if not written:
            self.counts["journal_failures"] += 1
