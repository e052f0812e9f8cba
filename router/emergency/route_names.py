"""Routes of an emergency call whose trunks are names that DNS has said nothing of yet (decision 0009).

A first look-up is waited for within the route's time. Once one has failed, the route is passed over, and asked for
once more when all others have failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from e911.record import RouteOutcome
from router.calls.surroundings import Surroundings
from router.emergency.call_routes import RouteStep
from router.emergency.route_target import RouteTarget
from router.emergency.route_try import LEAST_SHARE, RouteTry
from router.network.trunks import Hop
from sip.locating import Located, Where
from sip.machines import ServerTransaction
from sip.message import Request
from sip.proxy import ResponseContext
from sip.timers import Entry, cancel_timer

PROBE_SECONDS = 0.5
"""T1 (RFC 3261 section 17.1.1.1): the time to a first answer of a place that has not shown what it speaks."""

NO_ADDRESS = "no-address"


@dataclass(slots=True, eq=False)
class NameWait:
    """Routes that wait for the names of their trunks. began, until: the loop's time."""

    routes: Sequence[RouteTry]
    left: set[Where]
    """The names DNS has said nothing of yet."""
    began: float
    until: float
    is_last: bool
    """True after all other routes."""
    is_short: bool = False
    """True where basic 911 could be rung already: DNS has T1 to name an E911 route after all."""


class NamedRoutes(ResponseContext):
    """The names of a call's trunks, and what waits for them."""

    __slots__ = ("name_wait", "put_off", "route", "router", "trunks", "wait")

    def __init__(self, router: Surroundings, server: ServerTransaction, request: Request) -> None:
        super().__init__(router.stack, server, request, router.key)
        self.router = router
        self.trunks = router.trunks
        self.route: RouteTry | None = None
        """The route begun last, while another of its hops may be tried."""
        self.wait: Entry | None = None
        """For a name, or a connection."""
        self.name_wait: NameWait | None = None
        """The names that are awaited."""
        self.put_off: list[RouteTry] = []
        """Routes passed over as DNS has said nothing of their trunk; they come once more after all others."""

    def write_route(
        self,
        step: RouteStep,
        attempt: int,
        outcome: RouteOutcome,
        status: int,
        reason: str,
        target: RouteTarget | None = None,
        label: bytes = b"",
    ) -> None:
        """Journal what became of a route."""
        raise NotImplementedError

    def on_timer(self, name: str, now: float) -> None:
        """DNS was waited for long enough; it goes on being asked, for the next call."""
        if self.name_wait is not None:
            self._on_names(self.name_wait, now)

    def hops_of(self, step: RouteStep) -> list[Hop]:
        """Where a route's trunk is reached now."""
        return self.trunks.hops(step.trunk, self.server.flow.point, self.request.call_id)

    def _waits_for_names(self, route: RouteTry, now: float) -> bool:
        """All places of a route have failed, and it has names without an address: True where the first look-up of one
        is awaited, in what is left of the route's time; else the route comes once more after all others."""
        if route.is_named or not route.hops or not self.trunks.unnamed(route.step.trunk):
            return False
        route.is_named = True
        left = round(route.started + route.step.timeout - now, 2)
        if left > 0 and self._ask_names((route,), self.trunks.names_never_asked(route.step.trunk), now, left):
            return True
        self.put_off.append(route)
        return False

    def _new_hops(self, route: RouteTry) -> list[Hop]:
        """Places of a route that it has not had yet."""
        had = {hop.flow[:3] for hop in route.hops}
        found = self.hops_of(route.step)
        if not had:
            return found
        new = [hop for hop in found if hop.flow[:3] not in had]
        return [hop._replace(position=len(route.hops) + number) for number, hop in enumerate(new)]

    def _pass_over(self, route: RouteTry) -> None:
        self.write_route(route.step, 0, RouteOutcome.UNREACHABLE, 0, NO_ADDRESS)
        if self.trunks.names(route.step.trunk):
            self.put_off.append(route)

    def _ask_again(self, now: float) -> None:
        """All else has failed: routes put off have their chance if DNS names their trunks within their time."""
        routes, self.put_off = tuple(self.put_off), []
        names = [name for route in routes for name in self.trunks.names(route.step.trunk)]
        self._ask_names(routes, names, now, min(route.step.timeout for route in routes), again=True)

    def _ask_names(
        self, routes: Sequence[RouteTry], names: Sequence[Where], now: float, seconds: float, *, again: bool = False
    ) -> bool:
        """Wait for names so long at the most; False where there are none."""
        if not names:
            return False
        wait = self.name_wait = NameWait(routes, set(names), now, now + seconds, is_last=again)
        self.wait = self.stack.set_timer(self, "names-wait", seconds, now)
        for name in dict.fromkeys(names):
            self.trunks.resolver.ask(name, partial(self._on_name, wait, name), again=again)
        return True

    def _on_name(self, wait: NameWait, name: Where, _: Located) -> None:
        """DNS has said something of a name, or was given up."""
        wait.left.discard(name)
        if self.name_wait is not wait:
            return
        now = self.router.now()
        named = [route for route in wait.routes if self._new_hops(route)]
        if wait.left and not named:
            return
        if named and all(route.step.kind == "basic" for route in named) and self._may_be_named_better(wait):
            # E911 brings the caller's location: basic 911 gives DNS as long as an E911 route that is down gets.
            if not wait.is_short:
                wait.is_short = True
                cancel_timer(self.wait)
                seconds = max(0.0, min(PROBE_SECONDS, wait.until - now))
                self.wait = self.stack.set_timer(self, "names-wait", seconds, now)
            return
        self._on_names(wait, now)
        self.router.flush()

    def _may_be_named_better(self, wait: NameWait) -> bool:
        return any(route.step.kind != "basic" and self._is_pending(wait, route) for route in wait.routes)

    def _is_pending(self, wait: NameWait, route: RouteTry) -> bool:
        """True where DNS may still name this route's trunk."""
        return not wait.left.isdisjoint(self.trunks.names(route.step.trunk))

    def _on_names(self, wait: NameWait, now: float) -> None:
        self.name_wait = None
        cancel_timer(self.wait)
        if self.cancelled or self.final_status:
            return
        found: list[RouteTry] = []
        pending: list[RouteTry] = []
        for route in wait.routes:
            hops = self._new_hops(route)
            if hops:
                # What it waited is of its own time, but at least time for an answer is left.
                began = route.started if route.hops else wait.began
                started = now if wait.is_last else min(now, max(began, now + LEAST_SHARE - route.step.timeout))
                found.append(replace(route, hops=[*route.hops, *hops], started=started, is_named=True))
            elif route.hops and not wait.is_last:
                self.put_off.append(route)
            elif not wait.is_last:
                self._pass_over(route)
            elif self._is_pending(wait, route):
                pending.append(route)
        self.route = found[0] if found else None
        if found:
            # One route less each time, so this ends; what nobody names while all others wait is over.
            self.put_off += sorted([*found[1:], *pending], key=lambda route: route.index)
        if self.winner is None and not self.next_route(now):
            self.finish_if_exhausted(now)
