"""From rewritten for a provider that identifies callers by it, and restored for everybody else.

The provider sees another URI in From (display name and tag stay). Both URIs stand in a parameter of our Record-Route
value, under a keyed hash with the Call-ID and the caller's tag, so each later request of the dialog brings with it
what to write where, also after a restart or on another node: nothing is remembered, and nobody can make it up. See
docs/decisions/0044-from-rewriting.md.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence

from router.calls.later_copies import edit_later_copies
from router.dialogs.token_keys import TokenKeys
from sip.errors import RemoteError
from sip.fields import value_of
from sip.headers import parse_name_addr
from sip.machines import ClientTransaction
from sip.message import Edits, Request, Response
from sip.uri import SipUri, parse_sip_uri

PARAMETER = "f"
LONGEST_URI = 512
"""A From URI that is longer stays as it came: restored it could not be."""
_MAC_BYTES = 8
_NAME_ADDR = re.compile(rb'([^:]+:(?:[^"<]|"(?:[^"\\]|\\.)*")*<)([^<>]*)(>.*)', re.DOTALL)
_ADDR_SPEC = re.compile(rb"([^:]+:\s*)([^\s;<>\"]+)(.*)", re.DOTALL)


class EditedRequest(Request):
    """A request in a dialog whose From or To was edited. kept: that field's name, and its line as it came, which the
    responses carry again."""

    __slots__ = ("kept",)
    kept: tuple[str, bytes]


def with_uri(line: bytes, uri: bytes) -> bytes:
    """A From or To line with another URI; everything else stays. The same line where it cannot be read."""
    match = _NAME_ADDR.fullmatch(line)
    if match:
        return match[1] + uri + match[3]
    match = _ADDR_SPEC.fullmatch(line)
    return line if match is None else b"%b<%b>%b" % (match[1], uri, match[3])


def uri_in(line: bytes) -> bytes:
    """The URI of a From or To line; empty where it cannot be read."""
    match = _NAME_ADDR.fullmatch(line) or _ADDR_SPEC.fullmatch(line)
    return b"" if match is None else match[2]


def with_line(response: Response, key: str, line: bytes) -> Response:
    """A response with this line in place of its own of that name."""
    return response.edited(Edits(replace={key: (line,)}))


class FromRewriting:
    """Writes and reads the parameter."""

    def __init__(self, keys: TokenKeys) -> None:
        self.keys = keys

    def noted(self, record_routes: Sequence[bytes], came: Request, sent: Request) -> Sequence[bytes]:
        """Our Record-Route lines with both URIs in the first; as they are where From was not edited."""
        before, after = came.lines("from")[0], sent.lines("from")[0]
        if before == after or not record_routes:
            return record_routes
        own, shown = uri_in(before), uri_in(after)
        uris = len(own).to_bytes(2) + own + shown
        mac = _mac(self.keys.signing, came.call_id, came.from_tag, uris)
        text = urlsafe_b64encode(mac + uris).rstrip(b"=")
        first = record_routes[0]
        return [b"%b;%b=%b>" % (first[:-1], PARAMETER.encode(), text), *record_routes[1:]]

    def in_dialog(self, own: Iterable[SipUri], request: Request) -> Request:
        """A request in a dialog as the other side knows its parties; the same one where nothing was rewritten.

        own: our Route values that it came with.
        """
        for uri in own:
            text = uri.parameters.get(PARAMETER)
            if not text:
                continue
            from_tag, to_tag = request.from_tag, request.to_tag
            uris = self._read(text, request.call_id, from_tag)
            if uris is not None:
                return _edited(request, "from", uris[1])  # the caller's: the provider knows it by what it was shown
            uris = self._read(text, request.call_id, to_tag)
            if uris is not None:
                return _edited(request, "to", uris[0])
        return request

    def restored(self, response: Response) -> Response:
        """A response to an INVITE of ours of which nothing is known any more, with the caller's own From; the same
        one where its Record-Route tells of no rewriting."""
        for line in response.lines("record-route"):
            if b";f=" not in line:
                continue
            try:
                uri = parse_sip_uri(parse_name_addr(value_of(line).partition(b",")[0]).uri)
            except RemoteError:
                continue
            uris = self._read(uri.parameters.get(PARAMETER, b""), response.call_id, response.from_tag)
            if uris is not None and uri_in(response.lines("from")[0]) == uris[1]:
                return with_line(response, "from", with_uri(response.lines("from")[0], uris[0]))
        return response

    def _read(self, text: bytes, call_id: bytes, tag: bytes) -> tuple[bytes, bytes] | None:
        """The caller's own URI and the one shown; None where they are not ours, or of another dialog."""
        try:
            data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        except ValueError:
            return None
        mac, uris = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if not any(hmac.compare_digest(mac, _mac(key, call_id, tag, uris)) for key in self.keys.keys):
            return None
        end = 2 + int.from_bytes(uris[:2])
        return uris[2:end], uris[end:]


def relay_restoring(client: ClientTransaction | None, owner: object, key: str, line: bytes) -> None:
    """Have further copies of the 2xx restored too, once another than the branch (owner) is in charge of them."""
    edit_later_copies(client, owner, lambda response: with_line(response, key, line))


def _edited(request: Request, key: str, uri: bytes) -> Request:
    line = request.lines(key)[0]
    edited = EditedRequest(
        request.method,
        request.uri,
        request.edited_fields(Edits(replace={key: (with_uri(line, uri),)})),
        request.body,
        request.cseq,
    )
    edited.kept = (key, line)
    return edited


def _mac(key: bytes, call_id: bytes, tag: bytes, uris: bytes) -> bytes:
    data = b"\0".join((call_id, tag, uris))
    return hashlib.blake2b(data, key=key, digest_size=_MAC_BYTES, person=b"from uri").digest()
