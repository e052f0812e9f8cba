"""New emergency requests: who is served, what is decided, and the call set going."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.locate import NOT_ASKED, HeldAnswer
from e911.numbers import CallKind
from e911.record import Caller, CallLocating, CallRefused
from router.callback.leasing import LONGEST_NAME, Lending
from router.calls.admission import INSIDE_ONLY
from router.calls.refusals import RefusalLimit
from router.calls.returning import came_back
from router.emergency.caller_identity import call_id_of
from router.emergency.copies import Copy, is_copy
from router.emergency.decision import CallPlan, conveyed_by, plan_call, plan_of_unknown
from router.emergency.emergency_call import EmergencyCall
from router.emergency.floods import Floods
from router.emergency.leg_doubt import trunk_went_down
from router.emergency.text_to_911 import TextTo911
from router.locating.held_wait import HeldWait
from router.locating.location_wait import SAID_AFTER, LocationWait
from router.locating.reference_wait import ReferenceWait
from router.network.sources import Side, Source
from router.network.trunk_health import Place
from router.self_test.plan import plan_for
from router.self_test.proof import KEY, Asked, asked_by
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.forwarding import max_forwards
from sip.machines import ServerTransaction
from sip.message import Edits, Request

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_OUTSIDE = Side.OUTSIDE
_EMERGENCY = CallKind.EMERGENCY


class EmergencyRequests:
    """911 and test calls as they come in, and texts to 911. router: the transaction user."""

    def __init__(self, router: "CallRouter") -> None:
        self.router = router
        self.texts = TextTo911(router)
        self.being_set_up: dict[tuple[bytes, bytes, int], EmergencyCall] = {}
        """Emergency calls without a final answer, by Call-ID, the caller's tag and CSeq."""
        self.refusals = RefusalLimit()
        self.floods = Floods()

    def is_being_set_up(self, request: Request) -> bool:
        """True for a CANCEL, or a request in the early dialog, of a call without a final answer.

        Goes through all such calls: to be asked of malformed requests only.
        """
        call_id = request.call_id
        tags = (request.from_tag, request.to_tag)
        return any(key[0] == call_id and key[1] in tags for key in self.being_set_up)

    def receive(
        self, server: ServerTransaction, request: Request, source: Source, kind: CallKind, now: float
    ) -> None:
        """One INVITE or MESSAGE to 911 or a test number. Never raises."""
        try:
            self._receive(server, request, source, kind, now)
        except Exception:
            self.router.on_fault("receiving an emergency call")
            self._serve_all_the_same(server, request, source, kind, now)

    def _receive(
        self, server: ServerTransaction, request: Request, source: Source, kind: CallKind, now: float
    ) -> None:
        router = self.router
        asked: Asked | None = None
        if kind is CallKind.TEST and request.has(KEY):
            asked = asked_by(router.key, request, router.clock())
            request = request.edited(Edits(replace={KEY: ()}))
            if asked is not None:
                source = replace(source, side=Side.INSIDE)
        if came_back(router.key, request, kind):
            # A route of ours led back to us. The copy that went out there is refused with this, and goes on to its
            # next route.
            again = RemoteError(Reason.LOOP_DETECTED, 482, "this call has been here before")
            router.stack.refuse_in(server, again, now)
            router.note(logging.ERROR, "911 call came back to us", {"source_address": server.flow.host})
            return
        if source.side is _OUTSIDE:
            self.note_refused(request, server.flow.host, source, kind)
            router.stack.refuse_in(server, RemoteError(Reason.SOURCE_NOT_LISTED, 403, INSIDE_ONLY), now)
            return
        if router.blocks and self._is_blocked(server, request, source, kind, None, now):
            return
        if request.method == b"MESSAGE":
            host = server.flow.host
            self.texts.receive(
                server,
                request,
                kind,
                lambda: self._plan(request, source, host, kind),
                now,
            )
            return
        try:
            if max_forwards(request) <= 0:
                router.stack.refuse_in(server, RemoteError(Reason.TOO_MANY_HOPS, 483, "Max-Forwards is 0"), now)
                return
        except RemoteError:
            request = request.edited(Edits(replace={"max-forwards": ()}))
        conveyed = NOTHING_CONVEYED
        try:
            conveyed = conveyed_by(request)
        except Exception:
            router.on_fault("reading the location of a caller")
        held: HeldWait | HeldAnswer = NOT_ASKED
        if router.rules.servers and router.lis is not None:
            held = router.lis.begin(request, source, server.flow.host, conveyed)

        waiting: LocationWait | None = None

        def decide(known: Conveyed) -> None:
            """The caller's references are answered: as soon as the location server is, too."""

            def go_on(answer: HeldAnswer) -> None:
                try:
                    self._decide(server, request, source, kind, known, answer, router.now(), asked, waiting)
                except Exception:
                    router.on_fault("going on with an emergency call")
                    self._serve_all_the_same(server, request, source, kind, router.now())

            if isinstance(held, HeldAnswer):
                go_on(held)
            else:
                held.when_known(go_on)

        asks = (
            conveyed is not NOTHING_CONVEYED
            and conveyed.references
            and router.ask_reference is not None
            and router.rules.asks_references
        )
        if asks or isinstance(held, HeldWait):
            waiting = LocationWait(router.stack, server, request, router.on_fault)
            if asked is None:
                waiting.tell_after(SAID_AFTER, lambda: self._say_locating(server, request, source, kind), now)
        if waiting is not None and isinstance(held, HeldWait):
            waiting.waits.append(held)
        if waiting is not None and asks and router.ask_reference is not None:
            wait = ReferenceWait(router.stack, router, conveyed, decide)
            waiting.waits.insert(0, wait)
            wait.start(router.ask_reference, server.flow.host, router.rules.config.locations.reference_timeout)
            return
        decide(conveyed)

    def _say_locating(self, server: ServerTransaction, request: Request, source: Source, kind: CallKind) -> None:
        """A call waits for its location long enough to be seen: told those who watch, as far as it is known."""
        router = self.router
        key = (request.call_id, request.from_tag, request.cseq)
        if key in self.being_set_up:
            return  # by another way it is on its way already
        plan = self._plan(request, source, server.flow.host, kind)
        router.write(
            CallLocating(
                id=plan.id,
                at=router.clock(),
                node=router.node,
                kind=str(kind),
                caller=plan.caller,
                site=plan.decision.site.id if plan.decision.site else "",
            )
        )
        router.write_waiting()

    def _decide(
        self,
        server: ServerTransaction,
        request: Request,
        source: Source,
        kind: CallKind,
        conveyed: Conveyed,
        held: HeldAnswer,
        now: float,
        asked: Asked | None = None,
        waiting: LocationWait | None = None,
    ) -> None:
        """Everything about the caller is known that will be: decide, and let the call go, or record that the caller
        gave up while their location was asked for."""
        router = self.router
        if waiting is not None:
            waiting.end()
        if server.is_answered:
            return
        is_cancelled = waiting is not None and waiting.cancelled
        key = (request.call_id, request.from_tag, request.cseq)
        going_on = self.being_set_up.get(key)
        if going_on is not None and is_copy(request, going_on.request):
            router.counts["copies_of_calls"] += 1
            if is_cancelled:
                router.stack.answer(server, 487, now)
                return
            going_on.join(server, request)
            return
        if is_cancelled and waiting is not None and waiting.has_another_way():
            router.stack.answer(server, 487, now)  # the call goes on by that one
            return
        try:
            lending = router.callbacks.lending() if asked is None and not is_cancelled else None
            plan = self._plan(request, source, server.flow.host, kind, conveyed, lending, held)
            if asked is not None:
                plan = plan_for(router.rules, plan, asked)
        except Exception:
            # A fault of ours stops no emergency call: it goes as one of whom nothing is known.
            router.on_fault("deciding about an emergency call")
            plan = plan_of_unknown(router.rules, request, server.flow.host, kind)
        if router.blocks and self._is_blocked(server, request, source, kind, plan.caller, now):
            return
        if is_cancelled:
            plan = replace(plan, steps=(), ladder=())  # no route will see it
            router.counts["calls_cancelled_while_located"] += 1
        self._watch_for_flood(plan, now)
        router.counts[f"{kind._value_}_calls"] += 1
        found_by = str(plan.decision.location.source) if plan.decision.location else "none"
        router.counts[f"location_{found_by}"] += 1
        for answer in plan.decision.answers:
            router.location_answers[f"{answer.source} {answer.outcome} {answer.reason}"] += 1
        first_route = self._start(server, request, plan, key, now, is_cancelled=is_cancelled)
        if asked is None:  # a test call of our own is of no phone
            router.phones.note(request, source, server.flow, now)
        router.note(
            logging.INFO,
            "emergency call" if kind is _EMERGENCY else "test call",
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

    def _serve_all_the_same(
        self, server: ServerTransaction, request: Request, source: Source, kind: CallKind, now: float
    ) -> None:
        """After a fault of ours: the call goes as one of whom nothing is known, unless it is on its way already."""
        router = self.router
        if server.is_answered or isinstance(server.owner, EmergencyCall | Copy):
            return
        if source.side is _OUTSIDE or request.method != b"INVITE":
            router.stack.refuse_in(server, RemoteError(Reason.INTERNAL_ERROR, 500, "see the log of edge911"), now)
            return
        if isinstance(server.owner, LocationWait):
            server.owner.end()
        try:
            plan = plan_of_unknown(router.rules, request, server.flow.host, kind)
            key = (request.call_id, request.from_tag, request.cseq)
            is_cancelled = isinstance(server.owner, LocationWait) and server.owner.cancelled
            self._start(server, request, plan, key, now, is_cancelled=is_cancelled)
        except Exception:
            router.on_fault("serving an emergency call all the same")
            router.stack.refuse_in(server, RemoteError(Reason.INTERNAL_ERROR, 503, "see the log of edge911"), now)

    def _plan(
        self,
        request: Request,
        source: Source,
        host: str,
        kind: CallKind,
        conveyed: Conveyed | None = None,
        lending: Lending | None = None,
        held: HeldAnswer = NOT_ASKED,
    ) -> CallPlan:
        router = self.router
        return plan_call(
            router.rules,
            router.devices,
            request,
            source,
            host,
            kind,
            conveyed,
            wiremap=router.wiremap,
            validated=router.validated,
            held=held,
            now=router.clock(),
            lending=lending,
        )

    def _start(
        self,
        server: ServerTransaction,
        request: Request,
        plan: CallPlan,
        key: tuple[bytes, bytes, int],
        now: float,
        *,
        is_cancelled: bool,
    ) -> str:
        """Set a call going, or write down one that its caller has cancelled; where that fails by a fault of ours,
        once more as simply as can be, else 503. Returns the name of the route tried first."""
        router = self.router
        call = self.being_set_up[key] = EmergencyCall(router, server, request, plan, key)
        call.cancelled = is_cancelled
        try:
            call.start(now)
        except Exception:
            router.on_fault("starting an emergency call")
            if call.branches or call.final_status or is_cancelled:
                return call.first_route
            try:
                simple = plan_of_unknown(router.rules, request, server.flow.host, plan.kind)
                call = self.being_set_up[key] = EmergencyCall(router, server, request, simple, key)
                call.start(now)
            except Exception:
                router.on_fault("starting an emergency call as a simple one")
                self.set_up(key)
                router.stack.refuse_in(server, RemoteError(Reason.INTERNAL_ERROR, 503, "see the log of edge911"), now)
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
        router = self.router
        host = server.flow.host
        block = router.blocks.find(host, caller, router.clock()) if router.blocks else None
        if block is None:
            return False
        self.note_refused(request, host, source, kind, "blocked")
        error = RemoteError(Reason.BLOCKED, 403, f"blocked by hand for a while: {block.reason}")
        router.stack.refuse_in(server, error, now)
        return True

    def _watch_for_flood(self, plan: CallPlan, now: float) -> None:
        """An alarm where one caller calls 911 again and again; the calls are served."""
        router = self.router
        caller = plan.caller
        who = (caller.device or caller.number or caller.source_address)[:LONGEST_NAME]
        most = router.rules.config.emergency.flood
        if self.floods.is_news(f"{who} {caller.source_address}", most, now):
            router.counts["emergency_floods"] += 1
            fields: dict[str, object] = {
                "call": plan.id,
                "number": who,
                "source_address": caller.source_address,
                "calls_a_minute": most,
                "remedy": "edge911 block add DEVICE|IP --for 1h --reason TEXT",
            }
            router.note(logging.ERROR, "911 flood", fields)

    def note_refused(
        self,
        request: Request,
        host: str,
        source: Source,
        kind: CallKind,
        reason: str = "",
        error: RemoteError | None = None,
    ) -> None:
        """Write down, within limits, that a 911 call was refused; the contacts are told from it. error: what was
        wrong with one that could not be read."""
        router = self.router
        reason = reason or ("from-outside" if source.side is _OUTSIDE else "from-unlisted-source")
        router.counts[f"emergency_refused_{reason}"] += 1
        try:
            call = call_id_of(router.key, request)
            if not self.refusals.allows(host, call, router.now()):
                router.counts["refused_not_recorded"] += 1
                return
            plan = self._plan(request, source, host, kind)
        except Exception:
            router.on_fault("noting a refused call")
            return
        router.write(
            CallRefused(
                id=plan.id,
                at=router.clock(),
                node=router.node,
                call_id=request.call_id.decode("latin-1"),
                dialled=plan.dialled,
                caller=plan.caller,
                reason=reason,
                status=error.status if error else 403,
                site=plan.decision.site.id if plan.decision.site else "",
                contacts=plan.decision.contacts,
                kind=str(kind),
            )
        )
        said: dict[str, object] = {"call": plan.id, "reason": reason, "source_address": host}
        router.note(logging.WARNING, "911 call refused", said | ({"what": str(error)} if error else {}))

    def carelessly_cancelled(self, request: Request, flow: Flow) -> ServerTransaction | None:
        """The call that a CANCEL means which has not its INVITE's branch (aiosip gives each request its own).

        Only of the very caller, and never where the INVITE came by several ways: one of them would end the others."""
        call = self.being_set_up.get((request.call_id, request.from_tag, request.cseq))
        if call is None or call.copies or call.server.is_answered or call.server.flow.host != flow.host:
            return None
        self.router.counts["careless_cancels"] += 1
        return call.server

    def on_trunk_down(self, place: Place) -> None:
        """A place of a trunk has become silent: calls that ring there are in doubt."""
        now = self.router.now()
        for call in list(self.being_set_up.values()):
            try:
                trunk_went_down(call, place, now)
            except Exception:
                self.router.on_fault("asking a silent provider for a call that rings there")

    def hung_up(self, call: str, request: Request) -> bool:
        """A caller's BYE passes, in an early dialog of the call with this record id; False where none is set up."""
        for going_on in self.being_set_up.values():
            if going_on.plan.id == call and going_on.request.from_tag == request.from_tag:
                going_on.hung_up.add(request.to_tag)
                return True
        return False

    def set_up(self, key: tuple[bytes, bytes, int]) -> None:
        """The setting-up of an emergency call has ended: the same INVITE would begin another."""
        self.being_set_up.pop(key, None)
