"""Record-Route: the lines we add, and the keyed token in them that lets the rest of a dialog through.

The token is a keyed hash of the Call-ID: a request that carries it belongs to a dialog that we let through once, from
wherever it comes now, also after a restart or on another node with the same key.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence

from sip.errors import RemoteError
from sip.message import Request
from sip.routing import process_routes
from sip.stack import ListeningPoint
from sip.uri import SipUri


class RecordRouting:
    """Writes and checks our Record-Route values. key: the node's."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def token(self, call_id: bytes) -> bytes:
        """Proof that a later request belongs to a call that we let through."""
        return hashlib.blake2b(call_id, key=self.key, digest_size=6, person=b"record-route").hexdigest().encode()

    def has_token(self, request: Request, is_own: Callable[[SipUri], bool]) -> bool:
        """True where a request in a dialog carries the token of its call in a Route value of ours."""
        if not request.to_tag:
            return False
        try:
            decision = process_routes(request, is_own)
            wanted = self.token(request.call_id)
        except RemoteError:
            return False
        return any(hmac.compare_digest(uri.parameters.get("t", b""), wanted) for uri in decision.own)

    def lines(
        self,
        out: ListeningPoint,
        arrived: ListeningPoint,
        request: Request,
        parameters: bytes = b"",
        *,
        keeps_uri: bool = True,
    ) -> Sequence[bytes]:
        """Our Record-Route lines: one, or two where the request crosses listening points (RFC 5658).

        They are sips: URIs where the Request-URI is one (section 16.6 step 4): that received for the side it came
        from, that sent, which is the same where keeps_uri, for the other.
        """
        parameters = b";t=" + self.token(request.call_id) + parameters
        leaves, came = out.record_route_uri, arrived.record_route_uri
        if request.uri[:5].lower() == b"sips:":
            came = arrived.secure_record_route_uri
            if keeps_uri:
                leaves = out.secure_record_route_uri
        made = [b"Record-Route: <%b%b>" % (leaves, parameters)]
        if came != leaves:
            made.append(b"Record-Route: <%b%b>" % (came, parameters))
        return made

    def emergency_call_of(self, own: Sequence[SipUri], call_id: bytes) -> str:
        """The record id of an emergency call that our Route values carry beside a valid token, or ""."""
        token = self.token(call_id)
        for uri in own:
            if not hmac.compare_digest(uri.parameters.get("t", b""), token):
                continue
            call = uri.parameters.get("call", b"").decode("latin-1")
            if call and call.isalnum() and len(call) <= 40:
                return call
        return ""


def sips_not_allowed(point: ListeningPoint) -> bytes:
    """The Warning that goes with a refusal of a sips: request that no trunk takes by TLS (RFC 5630 section 8)."""
    return b'Warning: 380 %b "SIPS Not Allowed: no way on is by TLS"' % point.sent_by
