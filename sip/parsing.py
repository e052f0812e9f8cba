"""Reading one message: a datagram, or one framed message of a stream."""

import re
from collections import Counter
from functools import lru_cache

from sip.errors import Reason, RemoteError
from sip.fields import CACHED_BYTES, KEYS, Field, field_key, value_of
from sip.headers import (
    parse_cseq,
)
from sip.message import Request, Response

MAX_HEADER_BYTES = 65_535
MAX_FIELDS = 512
NEAR_HEADER_BYTES = MAX_HEADER_BYTES * 4 // 5
NEAR_FIELDS = MAX_FIELDS * 4 // 5
near_limits: Counter[str] = Counter()
"""Messages taken that were near a limit, by its name: somebody may need to know before one is refused."""


_names_of = re.compile(rb"\r\n([^:\r\n]*:)").findall
"""The names of all lines but the first, each with its colon; at most one for each line break."""


def parse_message(data: bytes, *, own: bool = False) -> Request | Response:
    """Read one message: a datagram, or one framed message of a stream.

    Bytes after the body that Content-Length gives are dropped (section 18.3). own: the message is one of ours, which
    may be larger than what we take, by the fields that we add. Raises RemoteError with the status that a request
    deserves; status 0 where nothing can be answered.
    """
    if data[:1] <= b" ":
        data = data.lstrip(b"\r\n\0\t ")  # section 7.5, and half a line break or a keep-alive's NUL as well
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return _parse_message_oddly_ended(data)
    if end > NEAR_HEADER_BYTES and not own:
        _check_size("header-bytes", end, MAX_HEADER_BYTES, data)
    lines = data[:end].split(b"\r\n")
    start = lines.pop(0)
    if len(lines) > NEAR_FIELDS and not own:
        _check_size("header-fields", len(lines), MAX_FIELDS - 1, data)
    # The usual message: every line begins with a name seen before. What can be done for all lines at once is a
    # fifth of the price of a loop over them. A line with no colon has no name, and then there are fewer of them.
    keys = list(map(KEYS.get, _names_of(data, 0, end)))
    if None in keys or len(keys) != len(lines):
        return _parse_unusual(start, lines, data, end + 4)
    known: list[str] = keys  # type: ignore[assignment]
    fields = list(zip(known, lines))  # noqa: B905 - of equal length, and asking costs
    known.reverse()
    index = dict(zip(known, range(len(known) - 1, -1, -1)))  # noqa: B905
    return _finish(start, fields, index, data, end + 4, False)


def _check_size(name: str, size: int, most: int, data: bytes) -> None:
    if size > most:
        what = name.partition("-")[2]
        raise RemoteError(Reason.HEADER_TOO_LARGE, 513, f"{size} {what}, {most} at the most", _readable_part(data))
    near_limits[name] += 1


def _readable_part(data: bytes) -> Request | None:
    """What stands within the limits of a request whose header is too large, for the answer to it (section 21.5.7)."""
    lines = data[:MAX_HEADER_BYTES].split(b"\r\n", MAX_FIELDS - 1)[:-1]
    try:
        message = parse_message(b"\r\n".join(lines) + b"\r\n\r\n", own=True)
    except RemoteError as error:
        return error.request if isinstance(error.request, Request) else None
    return message if isinstance(message, Request) else None


def header_within_limits(data: bytes) -> bytes:
    """The whole lines at the beginning of a header that is too large, with an end to it; b"" where there are none."""
    head, line_break, _ = data[:MAX_HEADER_BYTES].rpartition(b"\r\n")
    return head + b"\r\n\r\n" if line_break else b""


def _parse_unusual(start: bytes, lines: list[bytes], data: bytes, body_start: int) -> Request | Response:
    """Lines with folds, with names not seen before, and with what is no name."""
    fields: list[Field] = []
    index: dict[str, int] = {}
    bad_line = False  # no exception is kept: with its traceback it would hold the whole message
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if fields:
                previous = fields[-1]
                fields[-1] = (previous[0], previous[1] + b"\r\n" + line)
            else:
                bad_line = True
            continue
        colon = line.find(b":")
        key = KEYS.get(line[: colon + 1])
        if key is None:
            try:
                key = field_key(line[:colon]) if colon >= 0 else "?"
            except RemoteError:
                key = "?"
            if key == "?":
                # Kept as it came: it stops only messages that policy does not want to save.
                bad_line = True
        if key not in index:
            index[key] = len(fields)
        fields.append((key, line))
    return _finish(start, fields, index, data, body_start, bad_line)


def _parse_message_oddly_ended(data: bytes) -> Request | Response:
    """Header without an empty line (RFC 4475 baddn), or with bare line feeds: usable, so used."""
    if b"\n\n" in data and b"\r\n" not in data[: data.index(b"\n\n")]:
        head, _, body = data.partition(b"\n\n")
        return parse_message(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
    if not data.strip(b"\r\n\0 "):
        raise RemoteError(Reason.KEEP_ALIVE, 0)
    if b"SIP/2.0" in data[: data.find(b"\r\n")] and data.endswith(b"\r\n"):
        return parse_message(data + b"\r\n")
    raise RemoteError(Reason.HEADER_INCOMPLETE if b"SIP/" in data[:2048] else Reason.NOT_SIP, 0)


def _finish(
    start: bytes,
    fields: list[Field],
    index: dict[str, int],
    data: bytes,
    body_start: int,
    bad_line: bool,
) -> Request | Response:
    message: Request | Response
    if start[:8] == b"SIP/2.0 ":
        status, reason = _status_of(start) if len(start) <= CACHED_BYTES else _read_status(start)
        message = Response(status, reason, fields, data[body_start:], 0, b"", index)
        if not bad_line:
            message.raw = data
    else:
        message = _parse_request_line(start, fields, index)
        message.body = data[body_start:]
    position = index.get("content-length")
    if position is not None:
        line = fields[position][1]
        length = _length_of(line) if len(line) <= CACHED_BYTES else _read_length(line)
        if length != len(message.body):
            message.raw = b""
            _cut_body(message, length)
    position = index.get("cseq")
    if position is not None:
        line = fields[position][1]
        number, method = _cseq_of(line) if len(line) <= CACHED_BYTES else _read_cseq(line)
        message.cseq = number
        if not method:
            # A CSeq that cannot be read leaves 0; validation refuses it with its name.
            message.oddities += (Reason.BAD_CSEQ,)
        elif message.__class__ is Response:
            message.method = method
        elif method != message.method:
            message.oddities += (Reason.CSEQ_METHOD_MISMATCH,)
    if bad_line:
        message.oddities += (Reason.BAD_FIELD_LINE,)
    return message


# The same few start lines, CSeq and Content-Length lines come again and again: they are read once.


def _read_status(start: bytes) -> tuple[int, bytes]:
    """Status and reason phrase of a status line. Raises RemoteError BAD_STATUS, never to be answered."""
    code, _, reason = start[8:].partition(b" ")
    if len(code) != 3 or not code.isdigit() or not b"100" <= code <= b"699":
        raise RemoteError(Reason.BAD_STATUS, 0, f"status {code[:20]!r}")
    return int(code), reason


def _read_cseq(line: bytes) -> tuple[int, bytes]:
    """Number and method of a CSeq line; 0 and b"" where it cannot be read."""
    try:
        return parse_cseq(value_of(line))
    except RemoteError:
        return 0, b""


def _read_length(line: bytes) -> int:
    """The number in a Content-Length line, or -1."""
    value = value_of(line)
    return int(value) if value.isdigit() and len(value) <= 10 else -1


# Longer lines are read each time: what a peer can make us keep has an end.
_status_of = lru_cache(maxsize=1024)(_read_status)
_cseq_of = lru_cache(maxsize=1024)(_read_cseq)
_length_of = lru_cache(maxsize=1024)(_read_length)


def _cut_body(message: Request | Response, length: int) -> None:
    """The body where Content-Length is not what came: bytes after it are dropped (section 18.3)."""
    if length < 0:
        message.oddities += (Reason.BAD_CONTENT_LENGTH,)
    elif any(_read_length(line) != length for key, line in message.fields if key == "content-length"):
        return  # two of them: neither is believed, and validation names the fault
    elif length > len(message.body):
        message.oddities += (Reason.BODY_INCOMPLETE,)
    else:
        message.body = message.body[:length]


def _parse_request_line(start: bytes, fields: list[Field], index: dict[str, int]) -> Request:
    parts = start.split(b" ")
    if len(parts) != 3:
        # RFC 4475 3.1.2.9 and 3.1.2.10: extra spaces between or after the elements are mended, not refused.
        parts = [part for part in parts if part]
    if len(parts) != 3:
        if len(parts) > 3 and parts[-1][:4].upper() == b"SIP/":
            # A space inside the Request-URI (RFC 4475 3.1.2.8): refused by validation, except for an emergency call.
            request = Request(parts[0], b" ".join(parts[1:-1]), fields, b"", 0, index)
            request.oddities = (Reason.BAD_START_LINE,)
            return request
        raise RemoteError(Reason.NOT_SIP, 0, repr(start[:80]))
    method, uri, version = parts
    request = Request(method, uri, fields, b"", 0, index)
    if version != b"SIP/2.0" and version.upper() != b"SIP/2.0":
        if version[:4].upper() == b"SIP/":
            raise RemoteError(Reason.BAD_VERSION, 505, repr(version[:20]), request)
        raise RemoteError(Reason.NOT_SIP, 0, repr(start[:80]))
    if uri[:1] == b"<" and uri[-1:] == b">":
        request.uri = uri[1:-1]  # RFC 4475 3.1.2.7
    return request
