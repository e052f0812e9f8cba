"""Responses and CANCELs that fit no transaction: after a restart of ours they are still needed."""

from typing import TYPE_CHECKING

from router.emergency.caller_identity import call_id_of
from router.emergency.earlier import EarlierCall, EarlierRoute
from router.emergency.identity import asserted_back
from router.emergency.resumed import ResumedCall, invite_of_cancel, invite_of_response
from router.network.sources import parse_address
from sip.errors import Reason
from sip.flow import Flow
from sip.forwarding import backward_bytes, is_own_branch
from sip.message import Edits, Request, Response
from sip.received import maddr_of

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter


class Strays:
    """What fits no transaction of this process. router: the transaction user."""

    def __init__(self, router: "CallRouter") -> None:
        self.router = router

    def receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction: after a restart of ours it is still needed upstream.

        RFC 6026 forbids to forward just any stray response; one whose branch we derived for the request it answers
        is forwarded as section 16.11 says, by the Via below ours. A call that rang while we restarted is so answered.
        Those to other requests are never (RFC 4320 section 4.2): whoever waits for one asks again.
        """
        router = self.router
        is_ours = response.status != 100 and response.method == b"INVITE" and is_own_branch(router.key, response)
        if is_ours and not 200 <= response.status < 300 and router.stack.knows(response.without_top_via()):
            is_ours = False  # of a branch that has ended: what it said counted once, and the call may ring elsewhere
        if is_ours:
            response = router.from_rewriting.restored(response)
            if router.earlier and self._resume_answered(response, flow, now):
                return
            if response.has("retry-after") and response.status == 503:
                response = response.edited(Edits(replace={"retry-after": ()}))  # it would hold back 911 calls, too
            onward = self._via_flow(response, flow)
            if onward is not None:
                trust = router.identity_trust
                response = asserted_back(response, source=trust(flow), target=trust(onward))
                router.counts["stray_responses_forwarded"] += 1
                router.stack.out.append((onward, backward_bytes(response, onward), None))
                return
        router.stack.drops[Reason.STRAY_RESPONSE] += 1

    def _resume_answered(self, response: Response, flow: Flow, now: float) -> bool:
        """Go on with a call of before the start that a provider answers."""
        router = self.router
        label = response.via.branch.rpartition(b".")[2]
        invite = invite_of_response(response)
        call = router.earlier.take(call_id_of(router.key, invite), label)
        onward = self._via_flow(response, flow) if call is not None else None
        if call is None or onward is None:
            return False
        if self._resume(call, invite, onward, now):
            router.stack.receive_response(response, flow, now)
            return True
        return False

    def receive_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """A CANCEL of an INVITE that is not known: perhaps of a call of before the start, as the journal tells."""
        router = self.router
        call = router.earlier.take(call_id_of(router.key, request)) if router.earlier else None
        if call is not None:
            self._resume(call, invite_of_cancel(request), flow, now)

    def _resume(self, call: EarlierCall, invite: Request, flow: Flow, now: float) -> bool:
        """Set the transactions of a call of before the start up again; flow: where the caller's answers go.

        False where there is no socket any more to reach its routes by.
        """
        router = self.router
        places: list[tuple[EarlierRoute, Flow]] = []
        for route in call.routes.values():
            point = router.points.choose(
                route.transport, route.host, flow.point, router.sources.interface_of(route.host)
            )
            if point is not None:
                places.append((route, Flow(point, route.host, route.port)))
        if places:
            router.counts["calls_resumed"] += 1
            resumed = ResumedCall(router, router.stack.adopt_server(invite, flow), invite, call)
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
        point = self.router.points.choose(transport, host, flow.point)
        if point is None:
            return None
        # On streams rport names the old connection's port, where nobody listens; sent-by is where to connect to.
        default = 5061 if transport == "tls" else 5060
        port = (via.rport if transport == "udp" and not maddr else None) or via.port or default
        return Flow(point, host, port)
