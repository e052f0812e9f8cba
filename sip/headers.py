"""Typed values of the header fields a proxy reads: Via, CSeq, name-addr, tags, Route.

Values are read on demand and never used to re-print a field that nobody edited.
"""

import re
from dataclasses import dataclass, field

from sip.errors import Reason, RemoteError
from sip.fields import value_of
from sip.uri import SipUri, parse_parameters, parse_sip_uri

# Anybody may send us a header of 64 KB before we know who it is, so every pattern here matches in linear time: white
# space is folded to single spaces first; what could be left open (a quote, a bracket) may also end with the value.
# RFC 3261 section 25.1: via-parm = sent-protocol LWS sent-by *( SEMI via-params ); LWS is allowed around SLASH.
_VIA = re.compile(
    rb"SIP ?/ ?2\.0 ?/ ?(?P<transport>[!#$%&'*+.^_`|~0-9A-Za-z-]+) "
    rb"(?P<host>\[[^\] ]*\]|[^ :;,\[\]]+) ?(?:: ?(?P<port>\d{1,5}))? ?(?P<parameters>(?:;[^,]*)?)",
    re.IGNORECASE,
)
# The form that nearly every Via has, name included: read at a third of the price.
_USUAL_VIA = re.compile(
    rb"Via: SIP/2\.0/([A-Z]{2,5}) ([0-9A-Za-z.-]+)(?::([0-9]{1,5}))?"
    rb"(;(rport;)?branch=([0-9A-Za-z.!%*_+`'~-]+)(;rport)?)"
)
# In front of further values in the same line, as SIPp and some stacks send back what were several lines.
_USUAL_TOP_VIA = re.compile(_USUAL_VIA.pattern + rb",[ ]?(?=[^\s,])")
_BRANCH = re.compile(rb"; ?branch ?= ?([^;, ]+)", re.IGNORECASE)
_RPORT = re.compile(rb"; ?rport ?(?:= ?(\d*))? ?(?=;|$)", re.IGNORECASE)
_RECEIVED = re.compile(rb"; ?received ?= ?([^;, ]+)", re.IGNORECASE)
_TAG = re.compile(rb";\s*tag\s*=\s*([^;,\s]+)", re.IGNORECASE)
_TOKEN = re.compile(rb"[!%'*+.^_`|~0-9A-Za-z-]+")
_CSEQ = re.compile(rb"\s*(\d+)\s+([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_QUOTED_OR_OPEN = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
# The pieces of a list of values: plain text, a quoted string, an address in brackets, or a comma that separates.
_PIECE = re.compile(rb'[^",<]+|"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)|<[^>]*(?:>|\Z)|,', re.DOTALL)

MAGIC_COOKIE = b"z9hG4bK"
CSEQ_LIMIT = 2**32


@dataclass(slots=True)
class Via:
    """The top Via value of a message. parameters keep their bytes, starting with the semicolon.

    branch is b"" where there is none (RFC 2543). rport (RFC 3581): None where absent, 0 where asked for but not
    filled in, else the port. received stands without brackets (RFC 5118 section 4.5), or is an empty string.
    sent_by: host:port as written, lower case, half of the transaction key (section 17.2.3).
    """

    transport: bytes
    host: bytes
    port: int | None
    parameters: bytes
    branch: bytes
    rport: int | None
    received: str
    sent_by: bytes
    has_empty_parameter: bool = False
    """True for `;;` and for a semicolon at the end (RFC 4475 3.1.2.1): readable, but not well formed."""
    is_usual: bool = field(default=False, compare=False)
    """True where there are no parameters but branch and an empty rport."""


def split_top(value: bytes) -> tuple[bytes, bytes]:
    """The first of a comma-separated list of values, and the rest (b"" where there is none).

    Commas in quotes and in angle brackets do not separate.
    """
    if b"," not in value:
        return value.strip(), b""
    for piece in _PIECE.finditer(value):
        if piece[0] == b",":
            return value[: piece.start()].strip(), value[piece.end() :].strip()
    return value.strip(), b""


def value_end(line: bytes) -> int:
    """Where the first of a field line's comma-separated values ends: the position of its comma, or the line's end."""
    if b"," not in line:
        return len(line)
    for piece in _PIECE.finditer(line, line.index(b":") + 1):
        if piece[0] == b",":
            return piece.start()
    return len(line)


def split_values(value: bytes) -> list[bytes]:
    """All of a comma-separated list of values."""
    if b"," not in value:
        value = value.strip()
        return [value] if value else []
    values = []
    start = 0
    for piece in _PIECE.finditer(value):
        if piece[0] == b",":
            values.append(value[start : piece.start()].strip())
            start = piece.end()
    values.append(value[start:].strip())
    return [item for item in values if item]


def usual_top_via_end(line: bytes) -> int:
    """Where the second value begins in a Via line with several, the first being as nearly everybody writes it.

    0 where there is no second, or the line needs a closer look."""
    match = _USUAL_TOP_VIA.match(line)
    return 0 if match is None else match.end()


def parse_usual_via(line: bytes) -> Via | None:
    """The first Via value of a field line as nearly everybody writes it; None where it needs a closer look."""
    match = _USUAL_VIA.fullmatch(line) or _USUAL_TOP_VIA.match(line)
    if match is None:
        return None
    transport, host, port, parameters, before, branch, after = match.groups()
    rport = 0 if before or after else None
    if port is None:
        return Via(transport, host, None, parameters, branch, rport, "", host.lower(), False, True)
    number = int(port)
    if not 0 < number < 65536:
        return None
    return Via(transport, host, number, parameters, branch, rport, "", b"%b:%d" % (host.lower(), number), False, True)


def parse_via(value: bytes) -> Via:
    """Read one Via value. Raises RemoteError BAD_VIA (400)."""
    match = _VIA.fullmatch(b" ".join(value.split()))
    if not match:
        raise RemoteError(Reason.BAD_VIA, 400, f"Via {value[:80]!r}")
    port = int(match["port"]) if match["port"] is not None else None
    if port is not None and not 0 < port < 65536:
        raise RemoteError(Reason.BAD_VIA, 400, f"Via port {port}")
    host = match["host"]
    parameters = match["parameters"]
    branch = _BRANCH.search(parameters)
    received = _RECEIVED.search(parameters)
    packed = parameters.replace(b" ", b"")
    return Via(
        match["transport"],
        host,
        port,
        parameters,
        branch=branch[1] if branch else b"",
        rport=_rport(parameters),
        received=received[1].decode("latin-1").strip("[]") if received else "",
        sent_by=host.lower() if port is None else b"%b:%d" % (host.lower(), port),
        has_empty_parameter=b";;" in packed or packed.endswith(b";"),
    )


def _rport(parameters: bytes) -> int | None:
    match = _RPORT.search(parameters)
    if not match:
        return None
    if not match[1] or len(match[1]) > 5:
        return 0
    port = int(match[1])
    return port if port < 65536 else 0


def parse_cseq(value: bytes) -> tuple[int, bytes]:
    """Number and method of a CSeq. Raises RemoteError BAD_CSEQ (400), also for 2**32 and above (section 8.1.1.5)."""
    match = _CSEQ.fullmatch(value)
    if not match or len(match[1]) > 20 or int(match[1]) >= CSEQ_LIMIT:
        raise RemoteError(Reason.BAD_CSEQ, 400, f"CSeq {value[:60]!r}")
    return int(match[1]), match[2]


def tag_of(value: bytes) -> bytes:
    """The tag of a From or To value, or b"".

    Parameters of the URI stand inside the angle brackets and do not count (section 20.10).
    """
    end = value.rfind(b">")
    start = value.find(b";tag=", end + 1)
    if start == end + 1 and end > 0:
        # The usual form, <...>;tag=... and nothing behind it.
        tag = value[start + 5 :]
        if _TOKEN.fullmatch(tag):
            return tag
    elif start < 0 and end == len(value) - 1:
        return b""
    if value.rfind(b'"') > end >= 0:
        # A quoted parameter after the address: neither > nor ;tag= in it counts.
        value = _QUOTED_OR_OPEN.sub(b'""', value)
        end = value.rfind(b">")
    match = _TAG.search(value, end + 1)
    return match[1] if match else b""


# A From or To line as nearly everybody writes it: its tag is found in one step.
_USUAL_TAG = re.compile(
    rb'(?:From|To): (?:"[^"\\<>]*" ?|[0-9A-Za-z ._-]*)<[^<>"]*>(?:;tag=([!%\'*+.^_`|~0-9A-Za-z-]+))?'
)


def tag_of_line(line: bytes) -> bytes:
    """The tag of a From or To line, or b""."""
    match = _USUAL_TAG.fullmatch(line)
    return tag_of(value_of(line)) if match is None else match[1] or b""


def quotes_balanced(value: bytes) -> bool:
    """True where every quoted string in a value ends."""
    if b"\\" in value:
        value = _ESCAPED.sub(b"", value)
    return value.count(b'"') % 2 == 0


@dataclass(slots=True)
class NameAddr:
    """A name-addr or addr-spec: display name (unquoted), URI text, and the header parameters."""

    display_name: str
    uri: bytes
    parameters: dict[str, bytes]

    def sip_uri(self) -> SipUri:
        """The URI in parts; RemoteError where it is no SIP URI."""
        return parse_sip_uri(self.uri)


def parse_name_addr(value: bytes) -> NameAddr:
    """Read a From, To, Contact, Route or P-Asserted-Identity value (one).

    Lenient as RFC 4475 advises: display names need no quotes, spaces around the addr-spec are ignored.
    Raises RemoteError BAD_ADDRESS (400) for an unterminated quote or bracket.
    """
    value = value.strip()
    if value[:1] == b"<" and value[-1:] == b">" and value.count(b">") == 1:
        return NameAddr("", value[1:-1].strip(), {})
    display = ""
    rest = value
    if value.startswith(b'"'):
        match = _QUOTED.match(value)
        if not match:
            raise RemoteError(Reason.BAD_ADDRESS, 400, "a quoted display name does not end")
        display = re.sub(rb"\\(.)", rb"\1", match[0][1:-1], flags=re.DOTALL).decode("utf-8", "replace")
        rest = value[match.end() :].lstrip()
    start = rest.find(b"<")
    if start < 0:
        # addr-spec: every parameter belongs to the header field, not to the URI (section 20.10).
        uri, semicolon, parameters = rest.partition(b";")
        return NameAddr(display, uri.strip(), parse_parameters(semicolon + parameters))
    end = rest.find(b">", start)
    if end < 0:
        raise RemoteError(Reason.BAD_ADDRESS, 400, "an address in angle brackets does not end")
    if not display:
        display = rest[:start].strip().strip(b'"').decode("utf-8", "replace")
    return NameAddr(display, rest[start + 1 : end].strip(), parse_parameters(rest[end + 1 :]))
