"""Header fields as they came: names and their keys, lines and their values."""

from collections.abc import Sequence

from sip.errors import Reason, RemoteError

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

KEYS: dict[bytes, str] = {}
"""Name as written, with its colon → key; grows with the spellings seen, up to a bound."""
KEYS_LIMIT = 4096
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
    if len(KEYS) < KEYS_LIMIT and len(name) <= CACHED_BYTES // 2:
        KEYS[name + b":"] = key
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


def index_of(fields: Sequence[Field]) -> dict[str, int]:
    """Key → position of its first field."""
    index = {field[0]: position for position, field in enumerate(fields)}
    count = len(fields)
    if len(index) != count:
        # A name stands twice: from the last to the first, so that the first one stays.
        return dict(zip([key for key, _ in reversed(fields)], range(count - 1, -1, -1), strict=True))
    return index


def value_of(line: bytes) -> bytes:
    """The value of a field line, without the name and outer white space; folds are unfolded (section 7.3.1)."""
    value = line[line.index(b":") + 1 :].strip()
    if b"\r\n" in value:
        value = b" ".join(part.strip() for part in value.split(b"\r\n"))
    return value


def key_of_line(line: bytes) -> str:
    """The key of a field line that we wrote."""
    colon = line.index(b":")
    return KEYS.get(line[: colon + 1]) or field_key(line[:colon])
