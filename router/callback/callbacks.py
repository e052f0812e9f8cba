"""Callbacks: leases of callback numbers in the call process, and calls to them from outside.

A call to a number under lease goes to the phone that dialled 911 by the way it called, past `routes.inbound`; then to
the site's desk. A call to an ELIN that nobody has goes to the desk at once. All else is an ordinary call
(docs/decisions/0047-callbacks.md).
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from e911.elin import LEASES_KEPT, Lease, LeaseKind, Leases, Pool, PoolState, WayBack
from e911.record import AlarmRaised, CallbackEvent, CallbackOutcome
from router.callback.callback_call import CallbackCall, Place
from router.callback.callback_places import CallbackPlaces, contact_uri, desk_names
from router.callback.leasing import (
    LONGEST_NAME,
    Lending,
    address_of_record,
    instance_of,
    number_of,
    prefers_of,
    user_at_pbx,
    way_back_of,
)
from router.calls.ordinary import routed_request
from router.calls.refusals import RefusalLimit
from router.dialogs.bindings import is_bound
from router.emergency.caller_identity import call_id_of, identify
from router.emergency.decision import CallPlan
from router.network.sources import Source
from sip.flow import Flow
from sip.locating import Located, Where
from sip.machines import ServerTransaction
from sip.message import Edits, Request, Response
from sip.routing import RouteDecision
from sip.uri import parse_sip_uri

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

PSAP_CALLBACK = b"psap-callback"
"""Value of Priority (RFC 7090)."""
LEASE_OVER = "lease-over"
WAY_LOST = "way-lost"
ALARM_SECONDS = 600.0
"""Between two alarms of one pool that say the same."""


class Callbacks:
    """Leases and the calls to them. router: the transaction user."""

    def __init__(self, router: "CallRouter") -> None:
        self.router = router
        self.leases = Leases()
        self.places = CallbackPlaces(router)
        self.limit = RefusalLimit()
        self.psap_limit = RefusalLimit()
        """Of their own: others who call a number under lease must not use it up."""
        self.nodes: tuple[str, ...] = ()
        """Names of the nodes that share the ELINs, in order."""
        self.prefers = prefers_of(self.leases.pools, (), "")
        self.changes = 0
        """Counts changes of what is remembered."""
        self._desk_names: tuple[Where, ...] = ()
        self._alarms: dict[str, tuple[PoolState, float]] = {}
        self._by_aor: dict[str, tuple[str, str]] = {}
        """Of phones that called by themselves: number and caller of the lease by address of record."""

    def use(self) -> None:
        """Take the pools of another configuration."""
        self.leases.with_pools(self.router.rules.pools)
        self._desk_names = desk_names(self.router.rules.config)
        self.share_with(self.nodes)

    @property
    def is_active(self) -> bool:
        """True where a call from outside may be a callback."""
        return bool(self.leases) or bool(self.leases.pools)

    # ---- at a 911 call ----

    def lending(self) -> Lending:
        """What deciding about a call needs to know."""
        router = self.router
        return Lending(
            self.leases,
            router.clock(),
            router.node,
            self.prefers,
            router.on_fault,
        )

    def share_with(self, nodes: Sequence[str]) -> None:
        """These nodes have the same ELINs."""
        self.nodes = tuple(nodes)
        self.prefers = prefers_of(self.leases.pools, self.nodes, self.router.node)

    def give(self, plan: CallPlan, request: Request, flow: Flow) -> Lease | None:
        """Lend what was decided; called with the intent. Never raises."""
        lease = plan.lease
        if lease is None:
            return None
        router = self.router
        try:
            trunk = router.sources.trunk_name_at(flow.host, flow.port)
            user = ""
            if trunk and plan.identity is not None:
                user = user_at_pbx(request, plan.identity, is_registered=bool(plan.caller.device))
            lease.way_back = way_back_of(request, flow, trunk, user, router.process, router.clock())
            self.leases.put(lease)
            self.changes += 1
            if not trunk:
                identity = plan.identity
                if identity is not None and identity.source == "from" and identity.host:
                    self._index(f"{identity.user}@{identity.host}", lease)
                else:
                    self._index(address_of_record(lease.way_back.aor), lease)
            if lease.kind is LeaseKind.ELIN:
                router.counts["elins_lent"] += 1
                self._watch_pool(lease)
        except Exception:
            router.on_fault("lending a callback number")
        return lease

    def _watch_pool(self, lease: Lease) -> None:
        """An alarm before the ELINs of a place are used up, and when they are."""
        router = self.router
        at = router.clock()
        if lease.reason:
            router.counts["elins_shared"] += 1
        use = self.leases.use_of(self.leases.pools.of(lease.site, lease.zone), at)
        state = use.state
        before, since = self._alarms.get(lease.pool, (PoolState.OK, 0.0))
        if state is PoolState.OK:
            self._alarms.pop(lease.pool, None)
            return
        if state is before and at - since < ALARM_SECONDS:
            return
        self._alarms[lease.pool] = state, at
        reason = lease.reason or state.value
        router.counts[state.value] += 1
        router.note(
            logging.ERROR if state is PoolState.EMPTY else logging.WARNING,
            state.value,
            {"pool": lease.pool, "free": use.free, "elins": use.total, "call": lease.call},
        )
        router.write(
            AlarmRaised(
                id=lease.call,
                at=at,
                node=router.node,
                reason=reason,
                subject=lease.pool,
                free=use.free,
                total=use.total,
                site=lease.site,
                contacts=lease.contacts,
            )
        )

    # ---- from elsewhere ----

    def merge(self, found: Iterable[Lease]) -> None:
        """Leases of before a restart, or of other nodes."""
        for lease in found:
            if self.leases.merge(lease):
                self.changes += 1
                if not lease.way_back.trunk:
                    self._index(address_of_record(lease.way_back.aor), lease)

    def _index(self, record: str, lease: Lease) -> None:
        if record and len(record) <= 2 * LONGEST_NAME:
            self._by_aor.pop(record, None)
            self._by_aor[record] = lease.number, lease.caller
            if len(self._by_aor) > LEASES_KEPT:
                del self._by_aor[next(iter(self._by_aor))]

    def free(self) -> dict[str, float]:
        """ELINs that nobody has, by pool."""
        at = self.router.clock()
        return {pool.name: float(self.leases.use_of((pool,), at).free) for pool in self.leases.pools.all}

    def registered(self, request: Request, response: Response, flow: Flow, registrar: Flow) -> None:
        """A phone has registered: where that very phone called 911 lately, it is now called back by this flow. Never
        raises.

        Only where a trunk took the binding: whoever answers its own REGISTER must not get another's callbacks.
        """
        if not self._by_aor or not 200 <= response.status < 300:
            return
        try:
            self._registered(request, response, flow, registrar)
        except Exception:
            self.router.on_fault("noting where a phone is called back")

    def _registered(self, request: Request, response: Response, flow: Flow, registrar: Flow) -> None:
        if self.router.sources.trunk_at(registrar.host, registrar.port) is None:
            return
        known_as = self._by_aor.get(address_of_record((request.first("to") or b"").decode("latin-1")))
        lease = None if known_as is None else self.leases.of(*known_as)
        contact = (request.first("contact") or b"").decode("latin-1")
        if (
            lease is None
            or not lease.is_live(self.router.clock())
            or not contact
            or contact == "*"
            or re.search(r"expires\s*=\s*0\b", contact)
        ):
            return
        if (request.first("expires") or b"").strip() == b"0" or not is_bound(request, response, flow.host):
            return
        known = lease.way_back
        way = way_back_of(request, flow, "", known.user, self.router.process, self.router.clock())
        if not _is_same_phone(known, way):
            return  # another phone of the same user
        way.aor = known.aor
        if replace(way, noted_at=known.noted_at) != known:
            self.leases.put(replace(lease, way_back=way))
            self.changes += 1

    def keep_desks(self) -> None:
        """Once a second: the servers of desks given by name are known, so that no callback has to wait for DNS."""
        router = self.router
        if router.resolve is not None:
            for where in self._desk_names:
                router.resolve(where, _nobody)

    # ---- a call from outside ----

    def is_from_psap(self, uri: bytes, flow: Flow) -> bool:
        """True for a Request-URI under lease, by a trunk that PSAPs call back by: served in an overload as 911 is."""
        if not self.leases:
            return False
        trunk = self.router.sources.trunk_at(flow.host, flow.port)
        if trunk is None or not trunk.psap_callback:
            return False
        number = number_of(uri)
        return bool(number) and self.leases.find(number, self.router.clock()) is not None

    def take(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, source: Source, now: float
    ) -> bool:
        """Take a new INVITE from outside for a callback; False where it is an ordinary call."""
        number = number_of(decision.uri)
        if not number:
            return False
        at = self.router.clock()
        lease = self.leases.find(number, at)
        if lease is not None:
            self._call_back(server, request, decision, lease, now)
            return True
        pool = self.leases.pools.by_number.get(number)
        if pool is None:
            return False
        self._call_desk(server, request, decision, pool, number, now)
        return True

    def _call_back(
        self, server: ServerTransaction, request: Request, decision: RouteDecision, lease: Lease, now: float
    ) -> None:
        router = self.router
        phone = self.places.of_phone(server, request, decision, lease)
        desk = self.places.of_desk(server, request, decision, lease.site)
        ways = [*filter(None, [lease.way_back.trunk]), *router.rules.config.routes.inbound]
        if (
            phone
            or desk
            or not router.trunks.await_names(ways, lambda: self._named(server, request, decision, lease))
        ):
            self._by_ways(server, request, decision, lease, phone, desk, now)

    def _named(self, server: ServerTransaction, request: Request, decision: RouteDecision, lease: Lease) -> None:
        """DNS has named the PBX for the first time, or is given up."""
        router = self.router
        if not server.is_answered:
            try:
                phone = self.places.of_phone(server, request, decision, lease)
                desk = self.places.of_desk(server, request, decision, lease.site)
                self._by_ways(server, request, decision, lease, phone, desk, router.now())
            except Exception:
                router.on_fault("going on after a look-up")
            router.flush()

    def _by_ways(
        self,
        server: ServerTransaction,
        request: Request,
        decision: RouteDecision,
        lease: Lease,
        phone: list[Place],
        desk: list[Place],
        now: float,
    ) -> None:
        router = self.router
        router.counts["callbacks"] += 1
        trunk = router.sources.trunk_at(server.flow.host, server.flow.port)
        is_psap = trunk is not None and trunk.psap_callback
        if not phone:
            router.counts["callbacks_without_way"] += 1
        self._start(
            server, request, decision, [*phone, *desk], lease, now, is_psap=is_psap, reason="" if phone else WAY_LOST
        )

    def _call_desk(
        self,
        server: ServerTransaction,
        request: Request,
        decision: RouteDecision,
        pool: Pool,
        number: str,
        now: float,
    ) -> None:
        """To an ELIN that nobody has any more."""
        self.router.counts["callbacks_without_lease"] += 1
        last = self.leases.last(number)
        desk = self.places.of_desk(server, request, decision, pool.site)
        self._start(server, request, decision, desk, last, now, is_psap=False, reason=LEASE_OVER)

    def _start(
        self,
        server: ServerTransaction,
        request: Request,
        decision: RouteDecision,
        places: list[Place],
        lease: Lease | None,
        now: float,
        *,
        is_psap: bool,
        reason: str,
    ) -> None:
        router = self.router
        callback = call_id_of(router.key, request)
        number = number_of(decision.uri)
        event = None
        limit = self.psap_limit if is_psap else self.limit
        if lease is not None and limit.allows(number, callback, now):
            event = self._received(server, request, lease, callback, number, is_psap=is_psap)
            router.write(
                replace(event, to=places[0].to if places else "", reason=reason, contacts=lease.contacts),
            )
        elif lease is not None:
            router.counts["callbacks_not_recorded"] += 1
        router.note(
            logging.WARNING,
            "callback",
            {
                "call": lease.call if lease else "",
                "number": number,
                "reason": reason,
                "callback": callback,
            },
        )

        def note(outcome: CallbackOutcome, to: str, place: str, status: int, why: str) -> None:
            router.counts[f"callbacks_{outcome}"] += 1
            if event is not None:
                router.write_later(
                    replace(event, at=router.clock(), outcome=outcome, to=to, place=place, status=status, reason=why)
                )

        make = partial(_request_for, request, decision, is_psap)
        CallbackCall(
            router, server, request, places, make, router.rules.config.emergency.callback_timeout, note
        ).start(now)

    def _received(
        self, server: ServerTransaction, request: Request, lease: Lease, callback: str, number: str, *, is_psap: bool
    ) -> CallbackEvent:
        router = self.router
        flow = server.flow
        caller = ""
        try:
            caller = identify(request, router.sources.classify(flow.host, flow.port))[0].user
        except Exception:
            router.on_fault("reading who calls back")
        return CallbackEvent(
            id=lease.call,
            at=router.clock(),
            node=router.node,
            callback=callback,
            number=number,
            caller=caller,
            trunk=router.sources.trunk_name_at(flow.host, flow.port) or flow.host,
            outcome=CallbackOutcome.RECEIVED,
            is_psap=is_psap,
            is_test=lease.is_test,
            who=lease.who,
            site=lease.site,
        )


def _nobody(_: Located) -> None:
    """Nobody waits for this look-up."""


def without_mark(request: Request) -> Request:
    """The request without `Priority: psap-callback`, which nobody but us may say onward (RFC 7090 section 5)."""
    lines = request.lines("priority")
    # Priority is one word; whoever takes more for it finds ours among others, too.
    kept = [line for line in lines if PSAP_CALLBACK not in re.split(rb"[\s,;]+", line.partition(b":")[2].lower())]
    return request if len(kept) == len(lines) else request.edited(Edits(replace={"priority": kept}))


def _request_for(request: Request, decision: RouteDecision, is_psap: bool, place: Place) -> Request:
    uri = place.uri
    if uri[:5].lower() == b"sips:" and place.flow.point.transport != "tls":
        uri = b"sip:" + uri[5:]  # a PSAP that calls back so is to reach somebody, by whatever way there is
    routed = routed_request(request, replace(decision, uri=uri))
    if not is_psap:
        return routed
    line = b"Priority: " + PSAP_CALLBACK
    if routed.has("priority"):
        return routed.edited(Edits(replace={"priority": (line,)}))
    return routed.edited(Edits(append=(line,)))


def _is_same_phone(known: WayBack, way: WayBack) -> bool:
    """True where a registration is of the phone that called: the same instance (RFC 5626); where one of the two does
    not say, the same address, its own or the one it is seen by."""
    before, now = instance_of(known.contact), instance_of(way.contact)
    if before and now:
        return before == now
    return way.host == known.host or _host_of(way.contact) == _host_of(known.contact) != ""


def _host_of(contact: str) -> str:
    uri = contact_uri(contact)
    return parse_sip_uri(uri).host if uri else ""
