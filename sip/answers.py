"""Responses of our own making (RFC 3261 section 8.2.6)."""

from collections.abc import Sequence
from typing import Protocol

from sip.fields import value_of
from sip.headers import (
    tag_of,
)
from sip.message import Request

_NOT_IN_WARNING = {ord('"'): "'", ord("\\"): "/"} | dict.fromkeys([*range(32), 127], " ")


class HasSentBy(Protocol):
    """A listening point, as far as a Warning names it."""

    @property
    def sent_by(self) -> bytes:
        """host:port of ours."""


REASON_PHRASES = {
    100: b"Trying",
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Request Entity Too Large",
    414: b"Request-URI Too Long",
    416: b"Unsupported URI Scheme",
    420: b"Bad Extension",
    430: b"Flow Failed",
    440: b"Max-Breadth Exceeded",
    480: b"Temporarily Unavailable",
    481: b"Call/Transaction Does Not Exist",
    482: b"Loop Detected",
    483: b"Too Many Hops",
    487: b"Request Terminated",
    488: b"Not Acceptable Here",
    500: b"Server Internal Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Server Time-out",
    505: b"Version Not Supported",
    513: b"Message Too Large",
}


def warning_line(point: "HasSentBy", text: str) -> bytes:
    """A Warning field that says why a request was refused (section 20.43); whatever the text, one line."""
    clean = text.translate(_NOT_IN_WARNING).encode("latin-1", "replace")
    return b'Warning: 399 %b "%b"' % (point.sent_by, clean)


_COPIED = frozenset({"via", "from", "call-id", "cseq"})
_COPIED_INTO_TRYING = _COPIED | {"to", "timestamp"}


def build_response(
    request: Request, status: int, *, reason: bytes = b"", to_tag: bytes = b"", extra: Sequence[bytes] = ()
) -> bytes:
    """A response of our own to a request (section 8.2.6), as bytes.

    extra are further field lines. A To tag is added where the request had none and the status is above 100.
    """
    if status == 100 and not reason and not extra:
        # One for each INVITE: what is copied is known without a look at each field.
        lines = [line for key, line in request.fields if key in _COPIED_INTO_TRYING]
        return b"SIP/2.0 100 Trying\r\n%b\r\nContent-Length: 0\r\n\r\n" % b"\r\n".join(lines)
    parts = [b"SIP/2.0 %d %b" % (status, reason or REASON_PHRASES.get(status, b""))]
    for key, line in request.fields:
        if key in _COPIED:
            parts.append(line)
        elif key == "to":
            parts.append(line + b";tag=" + to_tag if to_tag and status > 100 and not tag_of(value_of(line)) else line)
        elif key == "timestamp" and status == 100:
            parts.append(line)
    parts += extra
    parts += [b"Content-Length: 0", b"", b""]
    return b"\r\n".join(parts)
