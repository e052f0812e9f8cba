"""Ending an answer that nobody takes: ACK and BYE of our own for a 2xx (RFC 3261 sections 13.2.2.4 and 15.1.1)."""

import hashlib
from collections.abc import Callable, Sequence

from sip.errors import RemoteError
from sip.fields import Field, value_of
from sip.flow import Flow
from sip.forwarding import derive_branch, forward_bytes
from sip.headers import parse_name_addr, split_values
from sip.machines import ClientTransaction
from sip.message import Request, Response
from sip.stack import Stack


def end_answer(
    stack: Stack,
    key: bytes,
    response: Response,
    flow: Flow,
    uri: bytes,
    is_own: Callable[[bytes], bool],
    now: float,
) -> None:
    """Acknowledge a 2xx and hang up.

    response is as it came, our Via on top. flow: where the INVITE went. uri: the Request-URI to use where the
    answer's Contact cannot be read. The ACK is the same each time; the BYE is sent once (its transaction repeats it).
    """
    target = contact_uri(response) or uri
    routes = _routes_beyond(response, is_own)
    # The Contact too: two providers may have given the same To tag.
    tag = hashlib.blake2b(response.to_tag + b"\0" + target, digest_size=4).hexdigest().encode()
    seed_fields = _seed_fields(response, flow)
    for method, cseq in ((b"ACK", response.cseq), (b"BYE", response.cseq + 1)):
        request = _in_dialog(method, target, routes, response, cseq)
        seed = Request(method, target, seed_fields, b"", response.cseq)
        branch = derive_branch(key, seed, b"h" + tag)
        data = forward_bytes(request, flow, branch)
        if method == b"ACK":
            stack.out.append((flow, data, None))
        elif branch not in stack.clients:
            stack.send_request(b"BYE", branch, data, flow, _Unheard(), now)


def _seed_fields(response: Response, flow: Flow) -> list[Field]:
    """What the branch is derived from: the fields below our Via; where no Via there can be read, one of ours."""
    below = response.without_top_via()
    try:
        return below.fields if below.via else []
    except RemoteError:
        return [("via", flow.point.via), *(item for item in below.fields if item[0] != "via")]


class _Unheard:
    """Owner of a request whose outcome changes nothing."""

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        """Nothing to do."""

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        """Nothing to do."""

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        """Nothing to do."""


def contact_uri(response: Response) -> bytes:
    """The remote target; b"" where there is none that can be read."""
    contacts = response.values("contact")
    return uri_of_contact(contacts[0]) if contacts else b""


def uri_of_contact(value: bytes) -> bytes:
    """The URI of a Contact value; b"" where it cannot be read, or could not be a Request-URI."""
    try:
        uri = parse_name_addr(value).uri
    except RemoteError:
        return b""
    return uri if uri and not any(byte <= 0x20 for byte in uri) else b""


def _routes_beyond(response: Response, is_own: Callable[[bytes], bool]) -> list[bytes]:
    """The Record-Route values of the proxies between us and the far end, nearest first (section 12.1.2)."""
    beyond: list[bytes] = []
    for line in response.lines("record-route"):
        for value in split_values(value_of(line)):
            try:
                if is_own(parse_name_addr(value).uri):
                    return list(reversed(beyond))
            except RemoteError:
                return []  # without a route set that can be read, straight to the contact
            beyond.append(value)
    return []


def _in_dialog(method: bytes, uri: bytes, routes: Sequence[bytes], response: Response, cseq: int) -> Request:
    fields = [(key, line) for key in ("from", "to", "call-id") for line in response.lines(key)[:1]]
    fields += [("route", b"Route: " + value) for value in routes]
    fields.append(("cseq", b"CSeq: %d %b" % (cseq, method)))
    fields.append(("content-length", b"Content-Length: 0"))
    return Request(method, uri, fields, b"", cseq)
