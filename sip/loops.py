"""Loop detection (RFC 3261 section 16.3 step 4, RFC 5393) and Max-Breadth (RFC 5393 section 5).

Each branch of ours ends in a mark (sip.proxy.loop_mark): a digest of what decided where the request went. A request
that comes back with a Via of ours loops where its mark now is the mark then; where it differs, somebody in between
has retargeted it, and it only passes through us twice (a spiral).
"""

from collections.abc import Sequence

from sip.errors import Reason, RemoteError
from sip.forwarding import BRANCH_PREFIX, derive_branch
from sip.message import Edits, Request


def labels_of_passes(key: bytes, request: Request) -> list[bytes]:
    """The labels (route, and mark) of the branches under which this request left us before; none in most cases.

    Only Via values that hold a branch derived by us, with this key, for this very request are believed.
    """
    if len(request._first) == len(request.fields) and b"," not in request.fields[request._first["via"]][1]:
        return []  # one Via
    values = request.values("via")
    labels = []
    for position in range(len(values) - 1):
        if BRANCH_PREFIX not in values[position]:
            continue
        ours = Request(b"", b"", [("via", b"Via: " + values[position])], b"")
        fields = [("via", b"Via: " + values[position + 1]), *(item for item in request.fields if item[0] != "via")]
        before = Request(request.method, request.uri, fields, b"", request.cseq)
        try:
            branch = ours.via.branch
            label = branch.rpartition(b".")[2]
            if derive_branch(key, before, label) == branch:
                labels.append(label)
        except RemoteError:
            continue
    return labels


MAX_BREADTH_DEFAULT = 60


def max_breadth(request: Request) -> int | None:
    """Max-Breadth, at most 60; None where it is missing or cannot be read.

    Raises RemoteError MAX_BREADTH_EXCEEDED (440) for 0.
    """
    value = request.first("max-breadth")
    if value is None or not value.isdigit() or len(value) > 9:
        return None
    if int(value) == 0:
        raise RemoteError(Reason.MAX_BREADTH_EXCEEDED, 440, "Max-Breadth is 0")
    return min(int(value), MAX_BREADTH_DEFAULT)


def with_share_of_breadth(request: Request, breadth: int, copies: int) -> Request:
    """The request with the Max-Breadth that each of several copies gets; at least 1."""
    line = b"Max-Breadth: %d" % max(1, breadth // max(1, copies))
    replace: dict[str, Sequence[bytes]] = {"max-breadth": (line,)}
    return request.edited(Edits(replace=replace))
