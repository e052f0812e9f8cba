"""Request validation of a proxy (RFC 3261 section 16.3 step 1, RFC 4475): what we need must be there and readable."""

from sip.errors import Reason, RemoteError
from sip.headers import (
    quotes_balanced,
)
from sip.message import Message, Request

_SINGLE = frozenset({"call-id", "cseq", "from", "to", "max-forwards", "content-length"})


REQUIRED = frozenset({"via", "from", "to", "call-id", "cseq"})
"""Fields without which a request cannot be treated at all."""


def check_request(request: Request) -> None:
    """Request validation for a proxy (section 16.3 step 1, RFC 4475): what we need must be there and readable.

    Raises RemoteError with the reason and the status of the answer.
    """
    first = request._first
    if not first.keys() >= REQUIRED:
        missing = next(key for key in ("via", "from", "to", "call-id", "cseq") if key not in first)
        raise RemoteError(Reason.MISSING_FIELD, 400, f"no {missing}")
    if request.via.has_empty_parameter:  # reading it raises BAD_VIA where that cannot be done
        raise RemoteError(Reason.BAD_VIA, 400, "Via has an empty parameter")
    for reason in request.oddities:
        raise _oddity(request, reason)
    fields = request.fields
    if len(first) != len(fields):
        check_single_fields(request)
    for key in ("from", "to"):
        line = fields[first[key]][1]
        if b'"' in line and not quotes_balanced(line):
            raise RemoteError(Reason.BAD_ADDRESS, 400, f"a quote in {key} does not end")


def faults_of(request: Request) -> list[RemoteError]:
    """All that check_request would find in a request whose needed fields are there.

    For whoever forgives one mistake: the others must be forgiven too.
    """
    found = [_oddity(request, reason) for reason in request.oddities]
    try:
        if request.via.has_empty_parameter:
            found.append(RemoteError(Reason.BAD_VIA, 400, "Via has an empty parameter"))
    except RemoteError as error:
        found.append(RemoteError(error.reason, error.status, error.detail))  # without its traceback
    names = [key for key, _ in request.fields]
    found += [RemoteError(Reason.REPEATED_FIELD, 400, key) for key in _SINGLE if names.count(key) > 1]
    for key in ("from", "to"):
        if not quotes_balanced(request.lines(key)[0]):
            found.append(RemoteError(Reason.BAD_ADDRESS, 400, f"a quote in {key} does not end"))
    return found


def _oddity(request: Request, reason: Reason) -> RemoteError:
    not_known = reason is Reason.CSEQ_METHOD_MISMATCH and request.method not in KNOWN_METHODS
    return RemoteError(reason, 501 if not_known else 400, _oddity_words(reason, request))


def _oddity_words(reason: Reason, request: Request) -> str:
    """What is odd about a request, for its sender."""
    if reason is Reason.BAD_CSEQ:
        return f"CSeq {(request.first('cseq') or b'')[:60]!r}"
    if reason is Reason.CSEQ_METHOD_MISMATCH:
        return f"a {request.method[:40]!r} request with CSeq {(request.first('cseq') or b'')[:60]!r}"
    if reason is Reason.BAD_CONTENT_LENGTH:
        return f"Content-Length {', '.join(repr(value[:20]) for value in request.all('content-length')[:2])}"
    if reason is Reason.BODY_INCOMPLETE:
        return f"{len(request.body)} bytes of body, fewer than Content-Length says"
    if reason is Reason.BAD_START_LINE:
        return "a space within the Request-URI"
    return "a line of the header is no field"


def check_single_fields(message: Message) -> None:
    """Fields that may stand once stand once; two equal Content-Lengths included. Raises RemoteError (400)."""
    if len(message._first) == len(message.fields):
        return  # no name stands twice
    seen: set[str] = set()
    for key, _ in message.fields:
        if key in _SINGLE:
            if key in seen:
                raise RemoteError(Reason.REPEATED_FIELD, 400, key)
            seen.add(key)


KNOWN_METHODS = frozenset(
    {
        b"INVITE",
        b"ACK",
        b"CANCEL",
        b"BYE",
        b"OPTIONS",
        b"REGISTER",
        b"PRACK",
        b"SUBSCRIBE",
        b"NOTIFY",
        b"PUBLISH",
        b"INFO",
        b"REFER",
        b"MESSAGE",
        b"UPDATE",
    }
)
