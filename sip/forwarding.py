"""The bytes of forwarded messages, and branches by which their answers are known again (RFC 3261 section 16.6)."""

from binascii import crc32
from collections.abc import Sequence
from functools import lru_cache

from sip.errors import Reason, RemoteError
from sip.fields import CACHED_BYTES, value_of
from sip.flow import Flow
from sip.headers import usual_top_via_end
from sip.keyed_hash import keyed_hash
from sip.message import Edits, Request, Response

DEFAULT_MAX_FORWARDS = 70
BRANCH_PREFIX = b"z9hG4bKe9"
"""How the branches that we derive begin."""


def loop_mark(request: Request) -> bytes:
    """The mark of a request as it arrived: Request-URI and Route, eight hexadecimal digits."""
    digest = crc32(request.uri)
    if "route" in request._first:
        for line in request.lines("route"):
            digest = crc32(line, digest)
    return b"%08x" % digest


def derive_branch(key: bytes, request: Request, label: bytes) -> bytes:
    """The branch of a forwarded request: a keyed hash of what identifies the incoming one, and the route's label.

    After a restart, or on another node with the same key, a retransmitted INVITE so leaves as a retransmission.
    The label stands at the end in clear, so that a response can be checked to answer a request of ours
    (`is_own_branch`) with no transaction left.
    """
    via = request.via
    seed = b"\0".join(
        (
            via.branch or request.uri,
            via.sent_by,
            request.call_id,
            request.from_tag,
            b"%d" % request.cseq,
            b"INVITE" if request.method == b"CANCEL" else request.method,
            label,
        )
    )
    return b"%b%b.%b" % (BRANCH_PREFIX, keyed_hash(key, 12, seed).encode(), label)


def is_own_branch(key: bytes, response: Response) -> bool:
    """True where the top Via's branch was derived by us for the request that this response answers."""
    values = response.values("via")
    if len(values) < 2:
        return False
    branch = response.via.branch
    label = branch.rpartition(b".")[2]
    below = Request(response.method, b"", [("via", b"Via: " + values[1]), *response.fields], b"", response.cseq)
    try:
        return derive_branch(key, below, label) == branch
    except RemoteError:
        return False


def forward_bytes(
    request: Request, flow: Flow, branch: bytes, record_routes: Sequence[bytes] = (), *, without: str = ""
) -> bytes:
    """The request as it leaves (section 16.6): Via on top, Record-Route, Max-Forwards lowered, all else as it is.

    without: a field that stands once, and is left out."""
    parts = [request.start_line(), flow.point.via + branch + flow.point.via_end]
    parts += record_routes
    offset = len(parts)
    parts += [line for _, line in request.fields]
    index = request._first.get("max-forwards")
    if index is None:
        parts.append(b"Max-Forwards: %d" % DEFAULT_MAX_FORWARDS)
    else:
        parts[offset + index] = b"Max-Forwards: %d" % (max_forwards(request) - 1)
    if flow.point.reliable and "content-length" not in request._first:
        parts.append(b"Content-Length: %d" % len(request.body))  # a datagram needs none, a stream does (20.14)
    if without:
        del parts[offset + request._first[without]]
    parts += (b"", request.body)
    return b"\r\n".join(parts)


def backward_bytes(response: Response, flow: Flow) -> bytes:
    """The response as it goes back to the previous hop (section 16.7 steps 3 and 9): without our Via value."""
    index = response._first["via"]
    raw, fields = response.raw, response.fields
    own = fields[index][1]
    second = usual_top_via_end(own) if b"," in own else 0
    if raw and (second or b"," not in own) and not flow.point.reliable:
        # As it came, our Via value left out: its line, or what stands before the second value.
        start = raw.index(b"\r\n")
        via = start
        for _, line in fields[:index]:
            via += 2 + len(line)
        rest = raw[via + 2 + (second or len(own)) :]
        via_name = b"\r\nVia: " if second else b""
        return b"SIP/2.0 %d %b%b%b%b" % (response.status, response.reason, raw[start:via], via_name, rest)
    if b"," in response.fields[index][1] or (flow.point.reliable and not response.has("content-length")):
        below = response.without_top_via()
        if flow.point.reliable and not below.has("content-length"):
            below = below.edited(Edits(append=(b"Content-Length: %d" % len(below.body),)))
        return below.to_bytes()
    lines = [line for _, line in response.fields]
    lines[index] = response.start_line()
    if index:
        lines.insert(0, lines.pop(index))
    lines += (b"", response.body)
    return b"\r\n".join(lines)


def has_way_back(response: Response) -> bool:
    """False where no Via is left below ours: such a response is not forwarded (section 16.7 step 3)."""
    index = response._first["via"]
    fields = response.fields
    if index + 1 < len(fields) and fields[index + 1][0] == "via":
        return True
    return bool(usual_top_via_end(fields[index][1])) or len(response.values("via")) > 1


def max_forwards(request: Request) -> int:
    """Max-Forwards as a number, 70 where it is missing. Raises RemoteError BAD_MAX_FORWARDS (400)."""
    index = request._first.get("max-forwards")
    if index is None:
        return DEFAULT_MAX_FORWARDS
    line = request.fields[index][1]
    return _max_forwards_of(line) if len(line) <= CACHED_BYTES else _read_max_forwards(line)


def _read_max_forwards(line: bytes) -> int:
    value = value_of(line)
    if not value.isdigit() or len(value) > 9 or int(value) > 255:
        raise RemoteError(Reason.BAD_MAX_FORWARDS, 400, f"Max-Forwards {value[:20]!r}")
    return int(value)


_max_forwards_of = lru_cache(maxsize=1024)(_read_max_forwards)
