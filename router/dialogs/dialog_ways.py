"""Ways of requests in dialogs that were found before: an ACK or BYE mostly goes where another has just gone.

Which way a request takes that carries our Record-Route value alone depends on that value's address, on the
Request-URI and on where it came from; token and record id in the value have no part in it. So the way is found once
and kept. Only what is the same each time is kept, and whatever looks unusual is not looked up here at all.
"""

import re

from router.network.next_hop import NextHops
from router.network.sources import Side, Source, parse_address
from sip.flow import Flow
from sip.message import Request
from sip.routing import RouteDecision
from sip.uri import SipUri, parse_sip_uri

# Our value alone as router.dialogs.record_route writes it, without flow token (a user part) and without `f` (From
# rewritten).
_OUR_ROUTE = re.compile(
    rb"Route: <(sips?:[0-9A-Za-z.\[\]:-]+(?:;transport=(?:tcp|tls))?;lr);t=([0-9a-f]{12})(?:;call=([0-9a-z]{1,40}))?>"
)
KEPT = 4096
"""Ways kept; all are forgotten where there would be more."""


class DialogWays:
    """The ways kept, of one configuration."""

    def __init__(self, next_hops: NextHops) -> None:
        self.next_hops = next_hops
        self._ways: dict[tuple[bytes, bytes, Flow], tuple[RouteDecision, Flow]] = {}

    def find(self, request: Request, flow: Flow) -> tuple[RouteDecision, Flow] | None:
        """What Route processing would find, and where the request goes; None where that is not known.

        request: with To tag, checked; flow: where it came from.
        """
        index = request._first.get("route")
        if index is None or not self._ways:
            return None
        match = _OUR_ROUTE.fullmatch(request.fields[index][1])
        if match is None:
            return None
        found = self._ways.get((match[1], request.uri, flow))
        if found is None or len(request.lines("route")) > 1:
            return None
        if request.method != b"BYE":
            return found  # token and record id are looked at for a BYE alone
        decision, onward = found
        uri = decision.own[0]
        parameters = {**uri.parameters, "t": match[2]}
        if match[3] is not None:
            parameters["call"] = match[3]
        own = SipUri(uri.scheme, uri.user, uri.host, uri.port, parameters)
        return RouteDecision(request.uri, [], [own], None), onward

    def keep(self, request: Request, flow: Flow, source: Source, decision: RouteDecision, onward: Flow) -> None:
        """Keep the way that a request took which came by this flow, where the next such request would take it too.

        decision: of its Route processing; onward: the one place found for it.
        """
        if decision.routes or decision.next_hop is not None or len(decision.own) != 1 or decision.own[0].user:
            return
        uri = request.uri
        if decision.uri != uri or b";e9=" in uri or not self.next_hops.points.are_fixed:
            return
        match = _OUR_ROUTE.fullmatch(request.lines("route")[0])
        if match is None or onward.point is not self.next_hops.leaving_point(decision):
            return  # by another listening point than it names: which one may depend on more
        if parse_address(parse_sip_uri(uri).destination) is None:
            return  # DNS may say something else the next time
        if source.side is not Side.INSIDE and not self.next_hops.outside_may_reach(uri):
            return  # its token opened the way; that of another may not
        if len(self._ways) >= KEPT:
            self._ways.clear()
        kept = RouteDecision(uri, [], [parse_sip_uri(match[1])], None)
        self._ways[match[1], uri, flow] = (kept, onward)
