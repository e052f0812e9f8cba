"""Requests with mistakes that are forgiven, made into what was meant, so that the next hop need not forgive them.

The TU says whose mistakes these are (`TransactionUser.forgives`): those of emergency calls. What their sender must
know again in the responses is written back there as it came.
"""

import re
from collections.abc import Sequence

from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.headers import parse_via, split_top, value_end
from sip.message import Edits, Request
from sip.received import with_source
from sip.uri import bracketed
from sip.validation import KNOWN_METHODS

Restores = tuple[tuple[bytes, bytes], ...]
"""Lines of a request as we pass them on, each with the one that its sender wrote."""

LENGTH_FAULTS = frozenset({Reason.BODY_INCOMPLETE, Reason.BAD_CONTENT_LENGTH})
"""What may be wrong with the length of a body that is taken as far as it came."""

_CSEQ = re.compile(rb"\s*([0-9]{1,20})\s+([A-Za-z]+)\s*")
_CSEQ_NUMBERS = 2**31
"""RFC 3261 section 8.1.1.5: a sequence number is less than that where it begins."""
_BRANCH = re.compile(rb";\s*branch\s*=\s*([0-9A-Za-z!%*_+`'~.-]+)", re.IGNORECASE)


def in_capitals(request: Request) -> Request | None:
    """A request whose method is one of SIP's but for its case (methods are case-sensitive, section 7.1), with the
    method in capitals; None for any other."""
    method = request.method.upper()
    if request.method in KNOWN_METHODS or method not in KNOWN_METHODS:
        return None
    meant = Request(method, request.uri, request.fields, request.body, request.cseq)
    meant.oddities = tuple(reason for reason in request.oddities if reason is not Reason.CSEQ_METHOD_MISMATCH)
    written = _CSEQ.fullmatch(request.first("cseq") or b"")
    if written and written[2] != method:
        meant.oddities += (Reason.CSEQ_METHOD_MISMATCH,)
    return meant


def says_one_thing(request: Request, key: str) -> bool:
    """True where all fields of this name have the same value."""
    return len(set(request.all(key))) == 1


def meant_cseq(request: Request) -> tuple[int, bytes] | None:
    """Number and line of a CSeq that is wrong only in the case of its method, or whose number is above 2**32 (a
    clock's milliseconds); None where it cannot be said what was meant."""
    written = _CSEQ.fullmatch(request.first("cseq") or b"")
    if not written or written[2].upper() != request.method:
        return None
    number = int(written[1])
    if number >= 2 * _CSEQ_NUMBERS:
        number %= _CSEQ_NUMBERS
    return number, b"CSeq: %d %b" % (number, request.method)


def as_meant(request: Request, flow: Flow) -> tuple[Request, Restores]:
    """A forgiven request: one of each field, a Content-Length that is true, a CSeq and a top Via that can be read;
    and what responses to it must say instead.

    flow: where it came from, which is where the answer goes when its Via does not tell.
    """
    replace: dict[str, Sequence[bytes]] = {}
    restores: Restores = ()
    for key in ("max-forwards", "from", "to", "call-id", "cseq"):
        lines = request.lines(key)
        if len(lines) > 1:
            replace[key] = lines[:1]
    cseq = request.cseq
    if Reason.BAD_CSEQ in request.oddities or Reason.CSEQ_METHOD_MISMATCH in request.oddities:
        meant = meant_cseq(request)
        if meant is not None:
            cseq, line = meant
            replace["cseq"] = (line,)
            restores += ((line, request.lines("cseq")[0]),)
    vias = request.lines("via")
    via = _meant_via(vias[0], flow)
    if via != vias[0]:
        replace["via"] = (via, *vias[1:])
        restores += ((via, with_source(vias[0], flow.host.encode(), flow.port)),)
    body = (
        request.body
        if not LENGTH_FAULTS.isdisjoint(request.oddities) or len(request.lines("content-length")) > 1
        else None
    )
    if not replace and body is None:
        return request, ()
    made = request.edited(Edits(replace=replace, body=body))
    made.cseq = cseq
    return made, restores


def restored(data: bytes, restores: Restores) -> bytes:
    """A response with the lines as its receiver wrote them."""
    for ours, theirs in restores:
        data = data.replace(b"\r\n%b\r\n" % ours, b"\r\n%b\r\n" % theirs, 1)
    return data


def _meant_via(line: bytes, flow: Flow) -> bytes:
    """A Via line whose first value can be read: it says where the request came from where its own words cannot be."""
    end = value_end(line)
    value = line[line.index(b":") + 1 : end]
    try:
        parse_via(split_top(value)[0])
    except RemoteError:
        pass
    else:
        return line
    name = line[: line.index(b":")]
    sent_by = bracketed(flow.host) if flow.point.reliable else f"{bracketed(flow.host)}:{flow.port}"
    written = _BRANCH.search(value)
    branch = b";branch=" + written[1] if written else b""
    transport = flow.point.transport.upper().encode()
    return b"%b: SIP/2.0/%b %b%b%b" % (name, transport, sent_by.encode(), branch, line[end:])
