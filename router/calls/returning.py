"""Requests that come back to us: loops, as the routes of this router understand them (RFC 5393)."""

import logging

from e911.numbers import CallKind
from sip.forwarding import loop_mark
from sip.loops import labels_of_passes
from sip.message import Request

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_ORDINARY = CallKind.ORDINARY

log = logging.getLogger(__name__)


def came_back(key: bytes, request: Request, kind: CallKind) -> bool:
    """True where the request left us before, and would go the same way again (RFC 5393).

    An emergency call goes by its ladder whatever its Request-URI says, so for it each return is a loop.
    """
    labels = labels_of_passes(key, request)
    if not labels:
        return False
    if kind is not _ORDINARY:
        return any(label[:1].isdigit() for label in labels)
    mark = loop_mark(request)
    return any(label.endswith(mark) for label in labels)
