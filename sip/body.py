"""Multipart bodies (RFC 2046 section 5.1, RFC 5621): a part is added, every other part keeps its bytes."""

import binascii
import quopri
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sip.fields import value_of
from sip.message import Edits, Message

_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))', re.IGNORECASE)
_BOUNDARY_CHARACTERS = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=? ")

# RFC 3261 sections 20.11 to 20.15: these describe the body, so they move into the part that the body becomes.
MOVED_INTO_PART = (
    "content-type",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPart:
    """A part to add: content type, Content-ID without angle brackets, further header lines, and its bytes."""

    content_type: bytes
    content_id: bytes
    body: bytes
    disposition: bytes = b"render;handling=optional"


class LeafPart(NamedTuple):
    """A body, or a part of one that is itself no multipart: media type in lower case, Content-ID without brackets."""

    content_type: bytes
    content_id: bytes
    data: bytes


PARTS_LIMIT = 32
LARGEST_UNPACKED = 131_072
"""Bytes that a packed part is unpacked to at the most."""
_FULL_NAMES = {b"c": b"content-type", b"e": b"content-encoding"}
DEEPEST_PARTS = 4


def media_type(content_type: bytes) -> bytes:
    """type/subtype in lower case."""
    return content_type.partition(b";")[0].strip().lower()


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary of a multipart Content-Type, or None where it is missing or not allowed."""
    match = _BOUNDARY.search(content_type)
    if not match:
        return None
    boundary = re.sub(rb"\\(.)", rb"\1", match[1]) if match[1] is not None else match[2]
    if not 0 < len(boundary) <= 70 or not _BOUNDARY_CHARACTERS.issuperset(boundary) or boundary.endswith(b" "):
        return None
    return boundary


def add_part(message: Message, part: BodyPart, boundary: bytes) -> Edits:
    """The edits that add a part to a message's body.

    A body without a Content-Type is kept: SDP is known by its first line, anything else is text/plain (RFC 2045 5.2).
    No body: the part becomes the body, with its Content-ID in the SIP field (RFC 8262). A multipart/mixed body
    gets the part before its closing delimiter, all else untouched. Any other body becomes the first part of a new
    multipart/mixed, byte-identical, and the fields that describe it move in with it. boundary is used for the new
    multipart; it is lengthened until it does not occur in the body.
    """
    content_type = message.first("content-type")
    if not message.body:
        return Edits(
            replace={
                "content-type": (b"Content-Type: " + part.content_type,),
                "content-id": (b"Content-ID: <" + part.content_id + b">",),
                "content-disposition": (b"Content-Disposition: " + part.disposition,),
                "content-encoding": (),
                "content-language": (),
            },
            body=part.body,
        )
    kind = media_type(content_type or b"")
    if content_type is not None and kind == b"multipart/mixed" and not message.has("content-encoding"):
        own = boundary_of(content_type)
        joined = None if own is None else _insert_before_close(message.body, own, _part_bytes(part))
        if joined is not None:
            return Edits(body=joined)
    while b"--" + boundary in message.body or b"--" + boundary in part.body:
        boundary += b"x"
    present = message.keys()
    moved = [key for key in MOVED_INTO_PART if key in present]
    head: list[bytes] = []
    for key in moved:
        head += message.lines(key)
    if content_type is None and message.body.startswith(b"v=0"):
        head.append(b"Content-Type: application/sdp")
    body = b"\r\n".join(
        [
            b"--" + boundary,
            *[_full_name(line) for line in head],
            b"",
            message.body,
            b"--" + boundary,
            _part_bytes(part),
            b"--" + boundary + b"--",
            b"",
        ]
    )
    replace: dict[str, Sequence[bytes]] = dict.fromkeys(moved, ())
    replace["content-type"] = (b"Content-Type: multipart/mixed;boundary=" + boundary,)
    if "mime-version" not in present:
        replace["mime-version"] = (b"MIME-Version: 1.0",)
    return Edits(replace=replace, body=body)


def _part_bytes(part: BodyPart) -> bytes:
    return b"\r\n".join(
        [
            b"Content-Type: " + part.content_type,
            b"Content-ID: <" + part.content_id + b">",
            b"Content-Disposition: " + part.disposition,
            b"",
            part.body,
        ]
    )


def _full_name(line: bytes) -> bytes:
    """A compact form has no meaning inside a MIME part: c becomes Content-Type, e Content-Encoding."""
    if line.startswith(b"Content-"):
        return line
    name, colon, value = line.partition(b":")
    full = {b"c": b"Content-Type", b"e": b"Content-Encoding"}.get(name.strip().lower())
    return line if full is None else full + colon + value


def _insert_before_close(body: bytes, boundary: bytes, part: bytes) -> bytes | None:
    """The multipart body with one more part at its end; None where its closing delimiter is not found."""
    close = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"--[ \t]*(?=\r\n|\Z)")
    match = close.search(body)
    if not match:
        return None
    start = match.start()
    lead = b"" if start == 0 and not body.startswith(b"\r\n") else b"\r\n"
    rest = body[start:]
    follow = b"" if rest.startswith(b"\r\n") else b"\r\n"
    return body[:start] + lead + b"--" + boundary + b"\r\n" + part + follow + rest


def split_parts(body: bytes, boundary: bytes) -> list[tuple[list[bytes], bytes]]:
    """Header lines and bytes of each part of a multipart body; preamble and epilogue are left out.

    A body that ends without its closing delimiter has its last part all the same; one whose lines all end with a bare
    line feed is read so.
    """
    return _split(body, boundary, b"\r\n") or _split(body, boundary, b"\n")


def _split(body: bytes, boundary: bytes, end: bytes) -> list[tuple[list[bytes], bytes]]:
    delimiter = re.compile(rb"(?:\A|" + end + rb")--" + re.escape(boundary) + rb"(--)?[ \t]*(?=" + end + rb"|\Z)")
    marks = list(delimiter.finditer(body))
    parts: list[tuple[list[bytes], bytes]] = []
    for mark, following in pairwise([*marks, None]):
        if mark is None or mark[1]:
            break
        # The line break after a delimiter may also begin the next one: between them is an empty part.
        content = body[mark.end() + len(end) : following.start() if following is not None else len(body)]
        if following is None and not content:
            break
        if content.startswith(end):
            parts.append(([], content[len(end) :]))
            continue
        head, separator, data = content.partition(end + end)
        parts.append((head.split(end) if head else [], data if separator else b""))
    return parts


def leaf_parts(message: Message) -> list[LeafPart]:
    """The body's parts, those within parts included (multipart/alternative, related, ...), in order; never raises.

    At most PARTS_LIMIT of them, DEEPEST_PARTS levels down. A body that is no multipart is its only part, its
    Content-ID in the SIP field (RFC 8262).
    """
    if not message.body:
        return []
    lines = [line for key in MOVED_INTO_PART for line in message.lines(key)]
    return list(_leaves(lines, message.body, DEEPEST_PARTS))[:PARTS_LIMIT]


def stands_plainly(message: Message, part: LeafPart) -> bool:
    """False for a part that only lenient readers find as it is here: packed, encoded, or not between delimiters."""
    return part.data == message.body or b"\r\n\r\n" + part.data + b"\r\n--" in message.body


def _leaves(lines: Sequence[bytes], data: bytes, depth: int) -> Iterator[LeafPart]:
    described = _described(lines)
    content_type = described.get(b"content-type", b"text/plain")
    data = _unpacked(data, described.get(b"content-encoding", b""))
    boundary = boundary_of(content_type) if media_type(content_type).startswith(b"multipart/") else None
    if boundary is None:
        content_id = described.get(b"content-id", b"").strip(b"<> \t")
        encoding = described.get(b"content-transfer-encoding", b"")
        yield LeafPart(media_type(content_type), content_id, _decoded(data, encoding))
    elif depth > 0:
        for inner, content in split_parts(data, boundary)[:PARTS_LIMIT]:
            yield from _leaves(inner, content, depth - 1)


def _described(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields that describe a part, by lower-case name; folded lines are joined, the first of a name counts."""
    found: dict[bytes, bytes] = {}
    unfolded: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and unfolded:
            unfolded[-1] += b" " + line.strip()
        else:
            unfolded.append(line)
    for line in unfolded:
        name, colon, _ = line.partition(b":")
        if colon:
            name = name.strip().lower()
            found.setdefault(_FULL_NAMES.get(name, name), value_of(line))
    return found


def _unpacked(data: bytes, encoding: bytes) -> bytes:
    """What was packed (RFC 3261 section 20.12); as it came where it cannot be unpacked, or is larger than we read."""
    if encoding.lower() not in (b"gzip", b"x-gzip", b"deflate"):
        return data
    unpacking = zlib.decompressobj(wbits=47)  # gzip or zlib, as its beginning says
    try:
        unpacked = unpacking.decompress(data, LARGEST_UNPACKED)
    except zlib.error:
        return data
    return unpacked if unpacking.eof else data


def _decoded(data: bytes, encoding: bytes) -> bytes:
    """A part without its Content-Transfer-Encoding, which only mail software adds (RFC 3261 section 27.5)."""
    try:
        match encoding.lower():
            case b"base64":
                return binascii.a2b_base64(data)
            case b"quoted-printable":
                return quopri.decodestring(data)
    except (binascii.Error, ValueError):
        pass
    return data
