"""Requests and responses: an ordered list of fields over the received bytes.

Rules of this file:
- What nobody edited leaves as it came, byte for byte: a field is kept as its received line, folds included.
- Values are read on demand. A field we do not need is never parsed, so it cannot be refused.
- An edit is data (`Edits`), and applying it gives a new message that reads back changed.

A fully typed object model costs ten times as much a message; see docs/decisions/0002-messages.md.
"""

from collections import Counter
from collections.abc import KeysView, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, cast

from sip.errors import Reason, RemoteError
from sip.headers import (
    Via,
    parse_cseq,
    parse_usual_via,
    parse_via,
    quotes_balanced,
    split_top,
    split_values,
    tag_of,
)

MAX_HEADER_BYTES = 65_535
MAX_FIELDS = 512
NEAR_HEADER_BYTES = MAX_HEADER_BYTES * 4 // 5
NEAR_FIELDS = MAX_FIELDS * 4 // 5
near_limits: Counter[str] = Counter()
"""Messages taken that were near a limit, by its name: somebody may need to know before one is refused."""

# RFC 3261 section 7.3.3 and the registrations of RFC 3265, 3515, 3892, 3911, 4028, 4474, 6442 and 8224.
COMPACT_FORMS = {
    "i": "call-id",
    "m": "contact",
    "e": "content-encoding",
    "l": "content-length",
    "c": "content-type",
    "f": "from",
    "s": "subject",
    "k": "supported",
    "t": "to",
    "v": "via",
    "o": "event",
    "u": "allow-events",
    "r": "refer-to",
    "b": "referred-by",
    "x": "session-expires",
    "y": "identity",
    "d": "request-disposition",
    "a": "accept-contact",
    "j": "reject-contact",
}

_SINGLE = frozenset({"call-id", "cseq", "from", "to", "max-forwards", "content-length"})

_KEYS: dict[bytes, str] = {}
"""Name as written, with its colon → key; grows with the spellings seen, up to a bound."""
_KEYS_LIMIT = 4096
CACHED_BYTES = 128
"""Lines up to this length are kept once read; names of fields, half of it."""
_NAME_BYTES = frozenset(b"!%'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_`abcdefghijklmnopqrstuvwxyz~")

Field = tuple[str, bytes]
"""Key (lower-case full name) and the whole line as received, without its final CRLF."""


def field_key(name: bytes) -> str:
    """The key of a field name as written; RemoteError BAD_FIELD_LINE (400) where it is no token."""
    stripped = name.rstrip(b" \t")
    if not stripped or not _NAME_BYTES.issuperset(stripped):
        raise RemoteError(Reason.BAD_FIELD_LINE, 400, f"field name {name[:40]!r}")
    key = stripped.decode("ascii").lower()
    key = COMPACT_FORMS.get(key, key)
    if len(_KEYS) < _KEYS_LIMIT and len(name) <= CACHED_BYTES // 2:
        _KEYS[name + b":"] = key
    return key


_USUAL_NAMES = (
    b"Via v To t From f Call-ID i CSeq Max-Forwards Contact m Content-Type c Content-Length l Route Record-Route "
    b"Allow Supported k User-Agent Server Expires Date Require Proxy-Require Unsupported Warning Reason Retry-After "
    b"Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Accept Privacy P-Asserted-Identity "
    b"P-Preferred-Identity Remote-Party-ID Identity Session-Expires Min-SE RSeq RAck Geolocation Geolocation-Routing "
    b"Call-Info Resource-Priority Priority Path Service-Route Event Subscription-State Refer-To Referred-By Replaces"
)
for _name in _USUAL_NAMES.split():
    field_key(_name)  # known from the start, whatever names somebody sends first


@dataclass(slots=True, kw_only=True)
class Edits:
    """A change to a message, as data.

    uri replaces the Request-URI. first are lines put before all fields; replace gives for a key the lines that
    stand in place of its first field (an empty sequence removes), all others of that name go; append are lines
    put after the last field. body replaces the body; Content-Length then follows by itself.
    """

    uri: bytes | None = None
    first: Sequence[bytes] = ()
    replace: dict[str, Sequence[bytes]] = field(default_factory=dict)
    append: Sequence[bytes] = ()
    body: bytes | None = None


class Message:
    """What requests and responses share."""

    __slots__ = ("_call_id", "_first", "_from_tag", "_to_tag", "_via", "body", "cseq", "fields", "method", "oddities")

    _first: dict[str, int]
    # Read several times for each message, so kept once read.
    _via: Via | None
    _call_id: bytes | None
    _from_tag: bytes | None
    _to_tag: bytes | None
    fields: list[Field]
    body: bytes
    cseq: int
    method: bytes
    """Of a response: the method of its CSeq."""
    oddities: tuple[Reason, ...]
    """What was wrong with fields that we need only sometimes; forwarded or refused by policy."""

    def start_line(self) -> bytes:
        """The first line, as it goes out."""
        raise NotImplementedError

    def first(self, key: str) -> bytes | None:
        """The value of the first field of this name, or None."""
        index = self._first.get(key)
        return None if index is None else value_of(self.fields[index][1])

    def all(self, key: str) -> list[bytes]:
        """The values of all fields of this name, as written (a value may itself be a list)."""
        if key not in self._first:
            return []
        return [value_of(line) for name, line in self.fields if name == key]

    def values(self, key: str) -> list[bytes]:
        """All comma-separated values of all fields of this name."""
        return [value for line in self.all(key) for value in split_values(line)]

    def has(self, key: str) -> bool:
        """True where a field of this name is there."""
        return key in self._first

    def keys(self) -> KeysView[str]:
        """The names of all fields that are there."""
        return self._first.keys()

    def lines(self, key: str) -> list[bytes]:
        """The lines of all fields of this name, as received."""
        if key not in self._first:
            return []
        return [line for name, line in self.fields if name == key]

    def required(self, key: str) -> bytes:
        """The value of a field that must be there; RemoteError MISSING_FIELD (400) otherwise."""
        value = self.first(key)
        if value is None:
            raise RemoteError(Reason.MISSING_FIELD, 400, f"no {key}")
        return value

    @property
    def via(self) -> Via:
        """The top Via value. Raises RemoteError where it is missing or cannot be read."""
        via = self._via
        if via is None:
            index = self._first.get("via")
            if index is None:
                raise RemoteError(Reason.MISSING_FIELD, 400, "no via")
            via = self._via = parse_usual_via(self.fields[index][1]) or parse_via(split_top(self.required("via"))[0])
        return via

    @property
    def call_id(self) -> bytes:
        """The Call-ID."""
        call_id = self._call_id
        if call_id is None:
            call_id = self._call_id = self.required("call-id")
        return call_id

    @property
    def from_tag(self) -> bytes:
        """Tag of From, or b""."""
        tag = self._from_tag
        if tag is None:
            tag = self._from_tag = self._tag("from")
        return tag

    @property
    def to_tag(self) -> bytes:
        """Tag of To, or b""."""
        tag = self._to_tag
        if tag is None:
            tag = self._to_tag = self._tag("to")
        return tag

    def _tag(self, key: str) -> bytes:
        index = self._first.get(key)
        return b"" if index is None else tag_of(value_of(self.fields[index][1]))

    def edited_fields(self, edits: Edits) -> list[Field]:
        """The fields with the edits applied, Content-Length included."""
        replace = edits.replace
        if edits.body is not None and "content-length" not in replace:
            length = b"Content-Length: %d" % len(edits.body)
            if "content-length" in self._first:
                replace = {**replace, "content-length": (length,)}
            else:
                edits = Edits(
                    uri=edits.uri,
                    first=edits.first,
                    replace=replace,
                    append=(*edits.append, length),
                    body=edits.body,
                )
        fields: list[Field] = [(key_of_line(line), line) for line in edits.first] if edits.first else []
        if replace:
            done: set[str] = set()
            for item in self.fields:
                key = item[0]
                lines = replace.get(key)
                if lines is None:
                    fields.append(item)
                elif key not in done:
                    done.add(key)
                    fields += [(key_of_line(line), line) for line in lines]
            if len(done) < len(replace):
                for key, lines in replace.items():
                    if lines and key not in done:
                        fields += [(key_of_line(line), line) for line in lines]
        else:
            fields += self.fields
        fields += [(key_of_line(line), line) for line in edits.append]
        return fields

    def to_bytes(self) -> bytes:
        """The message as it goes on the wire."""
        parts = [self.start_line()]
        parts += [line for _, line in self.fields]
        parts += [b"", self.body]
        return b"\r\n".join(parts)


class Request(Message):
    """A SIP request."""

    __slots__ = ("uri",)

    def __init__(
        self,
        method: bytes,
        uri: bytes,
        fields: list[Field],
        body: bytes,
        cseq: int = 0,
        *,
        index: dict[str, int] | None = None,
    ) -> None:
        self.method = method
        self.uri = uri
        self.fields = fields
        self.body = body
        self.cseq = cseq
        self.oddities = ()
        self._first = index_of(fields) if index is None else index
        self._via = self._call_id = self._from_tag = self._to_tag = None

    def start_line(self) -> bytes:
        return b"%b %b SIP/2.0" % (self.method, self.uri)

    def edited(self, edits: Edits) -> "Request":
        """A new request with the edits applied."""
        return Request(
            self.method,
            self.uri if edits.uri is None else edits.uri,
            self.edited_fields(edits),
            self.body if edits.body is None else edits.body,
            self.cseq,
        )


class Response(Message):
    """A SIP response."""

    __slots__ = ("reason", "status")

    def __init__(
        self,
        status: int,
        reason: bytes,
        fields: list[Field],
        body: bytes,
        cseq: int = 0,
        method: bytes = b"",
        *,
        index: dict[str, int] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = body
        self.cseq = cseq
        self.method = method
        self.oddities = ()
        self._first = index_of(fields) if index is None else index
        self._via = self._call_id = self._from_tag = self._to_tag = None

    def start_line(self) -> bytes:
        return b"SIP/2.0 %d %b" % (self.status, self.reason)

    def edited(self, edits: Edits) -> "Response":
        """A new response with the edits applied."""
        return Response(
            self.status,
            self.reason,
            self.edited_fields(edits),
            self.body if edits.body is None else edits.body,
            self.cseq,
            self.method,
        )

    def without_top_via(self) -> "Response":
        """The response as it goes back to the previous hop: our Via value removed (section 16.7 step 3)."""
        index = self._first["via"]
        line = self.fields[index][1]
        fields = self.fields.copy()
        if b"," in line:
            _, rest = split_top(value_of(line))
            if rest:
                fields[index] = ("via", b"Via: " + rest)
                return Response(self.status, self.reason, fields, self.body, self.cseq, self.method)
        del fields[index]
        return Response(self.status, self.reason, fields, self.body, self.cseq, self.method)


def index_of(fields: Sequence[Field]) -> dict[str, int]:
    """Key → position of its first field."""
    count = len(fields)
    # From the last to the first, so that the first one stays; no loop of ours, for it is made several times a call.
    return dict(zip([key for key, _ in reversed(fields)], range(count - 1, -1, -1), strict=True))


def value_of(line: bytes) -> bytes:
    """The value of a field line, without the name and outer white space; folds are unfolded (section 7.3.1)."""
    value = line[line.index(b":") + 1 :].strip()
    if b"\r\n" in value:
        value = b" ".join(part.strip() for part in value.split(b"\r\n"))
    return value


def key_of_line(line: bytes) -> str:
    """The key of a field line that we wrote."""
    colon = line.index(b":")
    return _KEYS.get(line[: colon + 1]) or field_key(line[:colon])


def parse_message(data: bytes, *, own: bool = False) -> Request | Response:
    """Read one message: a datagram, or one framed message of a stream.

    Bytes after the body that Content-Length gives are dropped (section 18.3). own: the message is one of ours, which
    may be larger than what we take, by the fields that we add. Raises RemoteError with the status that a request
    deserves; status 0 where nothing can be answered.
    """
    if data[:2] == b"\r\n":
        data = data.lstrip(b"\r\n")
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return _parse_message_oddly_ended(data)
    if end > NEAR_HEADER_BYTES and not own:
        _check_size("header-bytes", end, MAX_HEADER_BYTES)
    lines = data[:end].split(b"\r\n")
    start = lines.pop(0)
    if len(lines) > NEAR_FIELDS and not own:
        _check_size("header-fields", len(lines), MAX_FIELDS - 1)
    # The usual message: every line begins with a name seen before. What can be done for all lines at once is a
    # fifth of the price of a loop over them; a line with no colon has the name b"", which is never known.
    get = _KEYS.get
    keys = [get(line[: line.find(b":") + 1]) for line in lines]
    if None not in keys:
        count = len(keys)
        known = cast(list[str], keys)
        return _finish(
            start,
            list(zip(known, lines, strict=True)),
            dict(zip(known[::-1], range(count - 1, -1, -1), strict=True)),
            data,
            end + 4,
            False,
        )
    return _parse_unusual(start, lines, data, end + 4)


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise RemoteError(Reason.HEADER_TOO_LARGE, 0, f"{size} {name.partition('-')[2]}")
    near_limits[name] += 1


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
        key = _KEYS.get(line[: colon + 1])
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
        message = Response(status, reason, fields, b"", index=index)
    else:
        message = _parse_request_line(start, fields, index)
    position = index.get("content-length")
    message.body = data[body_start:]
    if position is not None:
        line = fields[position][1]
        length = _length_of(line) if len(line) <= CACHED_BYTES else _read_length(line)
        if length != len(message.body):
            _cut_body(message, length)
    position = index.get("cseq")
    if position is not None:
        line = fields[position][1]
        number, method = _cseq_of(line) if len(line) <= CACHED_BYTES else _read_cseq(line)
        message.cseq = number
        if not method:
            # A CSeq that cannot be read leaves 0; validation refuses it with its name.
            message.oddities += (Reason.BAD_CSEQ,)
        elif isinstance(message, Response):
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
            request = Request(parts[0], b" ".join(parts[1:-1]), fields, b"", index=index)
            request.oddities = (Reason.BAD_START_LINE,)
            return request
        raise RemoteError(Reason.NOT_SIP, 0, repr(start[:80]))
    method, uri, version = parts
    request = Request(method, uri, fields, b"", index=index)
    if version != b"SIP/2.0" and version.upper() != b"SIP/2.0":
        if version[:4].upper() == b"SIP/":
            raise RemoteError(Reason.BAD_VERSION, 505, repr(version[:20]), request)
        raise RemoteError(Reason.NOT_SIP, 0, repr(start[:80]))
    if uri[:1] == b"<" and uri[-1:] == b">":
        request.uri = uri[1:-1]  # RFC 4475 3.1.2.7
    return request


_REQUIRED = frozenset({"via", "from", "to", "call-id", "cseq"})


def check_request(request: Request) -> None:
    """Request validation for a proxy (section 16.3 step 1, RFC 4475): what we need must be there and readable.

    Raises RemoteError with the reason and the status of the answer.
    """
    first = request._first
    if not first.keys() >= _REQUIRED:
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
    """All that check_request would find in a request whose needed fields are there and whose Via can be read.

    For whoever forgives one mistake: the others must be forgiven too.
    """
    found = [_oddity(request, reason) for reason in request.oddities]
    if request.via.has_empty_parameter:
        found.append(RemoteError(Reason.BAD_VIA, 400, "Via has an empty parameter"))
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


def build_response(
    request: Request, status: int, *, reason: bytes = b"", to_tag: bytes = b"", extra: Sequence[bytes] = ()
) -> bytes:
    """A response of our own to a request (section 8.2.6), as bytes.

    extra are further field lines. A To tag is added where the request had none and the status is above 100.
    """
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
