"""Record-Route: the lines we add, and the keyed token in them that lets the rest of a dialog through.

The token is a keyed hash of the Call-ID and the tag of the side that began: a request that carries it belongs to a
dialog that we let through once, from wherever it comes now, also after a restart or on another node with the same
keys. Why just these, and where such a request may go: docs/decisions/0027-in-dialog-access.md.
"""

import hmac
from collections.abc import Callable, Sequence

from router.dialogs.token_keys import TokenKeys
from sip.errors import RemoteError
from sip.flow import ListeningPoint
from sip.keyed_hash import keyed_hash
from sip.message import Request
from sip.routing import process_routes
from sip.uri import SipUri


class RecordRouting:
    """Writes and checks our Record-Route values."""

    def __init__(self, keys: TokenKeys) -> None:
        self.keys = keys

    def token(self, call_id: bytes, tag: bytes) -> bytes:
        """Proof that a later request belongs to a call that we let through. tag: From tag of the request that began
        it."""
        return _hash(self.keys.signing, call_id, tag)

    def has_token(self, request: Request, is_own: Callable[[SipUri], bool], caller: str = "") -> bool:
        """True where a request in a dialog carries the token of its call in a Route value of ours.

        caller: the address the request came from, where the token must also say that the call began there.
        """
        if not request.to_tag:
            return False
        try:
            own = process_routes(request, is_own).own
        except RemoteError:
            return False
        return any(self._proves(uri, request, caller) for uri in own)

    def _proves(self, uri: SipUri, request: Request, caller: str = "") -> bool:
        given = uri.parameters.get("t", b"")
        if not given:
            return False
        for key in self.keys.keys:
            for tag in (request.from_tag, request.to_tag):
                if hmac.compare_digest(given, _hash(key, request.call_id, tag)):
                    return not caller or hmac.compare_digest(
                        uri.parameters.get("s", b""), _hash(key, request.call_id, tag, caller)
                    )
        return False

    def lines(
        self,
        out: ListeningPoint,
        arrived: ListeningPoint,
        request: Request,
        *,
        parameters: bytes = b"",
        keeps_uri: bool = True,
        out_flow: bytes = b"",
        arrived_flow: bytes = b"",
        caller: str = "",
    ) -> Sequence[bytes]:
        """Our Record-Route lines: one, or two where the request crosses listening points (RFC 5658).

        They are sips: URIs where the Request-URI is one (section 16.6 step 4): that received for the side it came
        from, that sent, which is the same where keeps_uri, for the other.

        parameters go into each. out_flow and arrived_flow are flow tokens (RFC 5626 section 5.3) for what comes back
        to the far and to the near end: always in a pair of lines, so that the one that was taken off last says which
        way a request goes. caller: the near end's address, to be proven by `has_token` later.
        """
        parameters = b";t=" + self.token(request.call_id, request.from_tag) + parameters
        if caller:
            parameters += b";s=" + _hash(self.keys.signing, request.call_id, request.from_tag, caller)
        near, far = arrived.record_route_uri, out.record_route_uri
        if request.uri[:5].lower() == b"sips:":
            near = arrived.secure_record_route_uri
            if keeps_uri:
                far = out.secure_record_route_uri
        if near == far and not out_flow and not arrived_flow:
            return [b"Record-Route: <%b%b>" % (far, parameters)]
        return [
            b"Record-Route: <%b%b>" % (with_user(far, out_flow), parameters),
            b"Record-Route: <%b%b>" % (with_user(near, arrived_flow), parameters),
        ]

    def emergency_call_of(self, own: Sequence[SipUri], request: Request) -> str:
        """The record id of an emergency call that our Route values carry beside a valid token, or ""."""
        for uri in own:
            call = uri.parameters.get("call", b"").decode("latin-1")
            if call and call.isalnum() and len(call) <= 40 and self._proves(uri, request):
                return call
        return ""


def sips_not_allowed(point: ListeningPoint) -> bytes:
    """The Warning that goes with a refusal of a sips: request that no trunk takes by TLS (RFC 5630 section 8)."""
    return b'Warning: 380 %b "SIPS Not Allowed: no way on is by TLS"' % point.sent_by


def with_user(uri: bytes, user: bytes) -> bytes:
    """A URI of ours with a user part, where one is given."""
    if not user:
        return uri
    scheme, _, rest = uri.partition(b":")
    return b"%b:%b@%b" % (scheme, user, rest)


def _hash(key: bytes, call_id: bytes, tag: bytes, caller: str = "") -> bytes:
    data = b"\0".join((call_id, tag, caller.encode())) if caller else b"%b\0%b" % (call_id, tag)
    return keyed_hash(key, 6, data, b"record-route").encode()
