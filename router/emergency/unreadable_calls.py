"""911 calls of our own phones that are refused because they cannot be read: the contacts are told, as of any other
that was not served. What can be read of them says who called."""

from typing import TYPE_CHECKING

from e911.numbers import CallKind
from router.network.sources import Side
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.message import Message, Request
from sip.parsing import parse_message

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

MALFORMED = "malformed"
"""The reason that metrics, records and notices give."""

_UNREADABLE = frozenset(
    {
        Reason.BAD_ADDRESS,
        Reason.BAD_CONTENT_LENGTH,
        Reason.BAD_CSEQ,
        Reason.BAD_FIELD_LINE,
        Reason.BAD_START_LINE,
        Reason.BAD_VERSION,
        Reason.BAD_VIA,
        Reason.BODY_INCOMPLETE,
        Reason.CSEQ_METHOD_MISMATCH,
        Reason.HEADER_TOO_LARGE,
        Reason.MESSAGE_TOO_LARGE,
        Reason.MISSING_FIELD,
        Reason.REPEATED_FIELD,
    }
)

_STAND_INS = {
    "via": b"Via: SIP/2.0/UDP unknown.invalid",
    "from": b"From: <sip:anonymous@anonymous.invalid>",
    "to": b"To: <sip:unknown.invalid>",
    "call-id": b"Call-ID: unknown",
    "cseq": b"CSeq: 0 INVITE",
}


def note_unreadable(router: "CallRouter", request: Request, error: RemoteError, flow: Flow) -> None:
    """A request was refused before anybody looked what it is for; of a 911 call from inside, people are told.

    request: as far as it could be read.
    """
    if error.reason not in _UNREADABLE or request.method != b"INVITE":
        return
    source = router.sources.classify(flow.host, flow.port)
    kind = router.rules.kind_of(request, source)
    if source.side is not Side.INSIDE or kind is not CallKind.EMERGENCY:
        return
    legible = legible_part(request)
    if legible.to_tag:
        return  # within a call that is there
    router.emergency.note_refused(legible, flow.host, source, kind, MALFORMED, error)


def legible_part(request: Request) -> Request:
    """The request with what can be read of it, and with stand-ins for the fields that cannot."""
    lines = [b"INVITE %b SIP/2.0" % request.uri]
    for key, stand_in in _STAND_INS.items():
        line = next(iter(request.lines(key)), stand_in)
        lines.append(line if _is_legible(key, line) else stand_in)
    lines += [line for key, line in request.fields if key not in _STAND_INS and key not in ("?", "content-length")]
    legible = parse_message(b"\r\n".join(lines) + b"\r\n\r\n", own=True)
    assert isinstance(legible, Request)
    return legible


def _is_legible(key: str, line: bytes) -> bool:
    lines = [b"INVITE sip:unknown.invalid SIP/2.0", *(_STAND_INS | {key: line}).values()]
    try:
        message: Message = parse_message(b"\r\n".join(lines) + b"\r\n\r\n", own=True)
        if message.oddities:
            return False
        return bool(message.via and message.call_id is not None and message.from_tag is not None)
    except RemoteError:
        return False
