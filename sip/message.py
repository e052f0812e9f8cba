"""Requests and responses: an ordered list of fields over the received bytes.

Rules of this file:
- What nobody edited leaves as it came, byte for byte: a field is kept as its received line, folds included.
- Values are read on demand. A field we do not need is never parsed, so it cannot be refused.
- An edit is data (`Edits`), and applying it gives a new message that reads back changed.

A fully typed object model costs ten times as much a message; see docs/decisions/0002-messages.md.
"""

from collections.abc import KeysView, Sequence
from dataclasses import dataclass, field

from sip.errors import Reason, RemoteError
from sip.fields import KEYS, Field, index_of, key_of_line, value_of
from sip.headers import (
    Via,
    parse_usual_via,
    parse_via,
    split_top,
    split_values,
    tag_of_line,
    value_end,
)


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

    __slots__ = (
        "_call_id",
        "_first",
        "_from_tag",
        "_to_tag",
        "_via",
        "body",
        "cseq",
        "fields",
        "method",
        "oddities",
        "raw",
    )

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
    raw: bytes
    """A response as it came, where fields and body are exactly its bytes; empty where they are not known to be."""
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
        return [value_of(line) for line in self.lines(key)]

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
        index = self._first.get(key)
        if index is None:
            return []
        if len(self._first) == len(self.fields):  # no name stands twice
            return [self.fields[index][1]]
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
            index = self._first.get("call-id")
            if index is None:
                raise RemoteError(Reason.MISSING_FIELD, 400, "no call-id")
            call_id = self._call_id = value_of(self.fields[index][1])
        return call_id

    @property
    def from_tag(self) -> bytes:
        """Tag of From, or b""."""
        tag = self._from_tag
        if tag is None:
            index = self._first.get("from")
            tag = self._from_tag = b"" if index is None else tag_of_line(self.fields[index][1])
        return tag

    @property
    def to_tag(self) -> bytes:
        """Tag of To, or b""."""
        tag = self._to_tag
        if tag is None:
            index = self._first.get("to")
            tag = self._to_tag = b"" if index is None else tag_of_line(self.fields[index][1])
        return tag

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
            missing = set(replace)
            for item in self.fields:
                key = item[0]
                if key not in replace:
                    fields.append(item)
                elif key in missing:
                    missing.discard(key)
                    for line in replace[key]:
                        fields.append((key_of_line(line), line))
            if missing:
                for key, lines in replace.items():
                    if lines and key in missing:
                        fields += [(key_of_line(line), line) for line in lines]
        else:
            fields += self.fields
        known = KEYS.get
        for line in edits.append:
            fields.append((known(line[: line.find(b":") + 1]) or key_of_line(line), line))
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
        index: dict[str, int] | None = None,
    ) -> None:
        self.raw = b""
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
        index: dict[str, int] | None = None,
    ) -> None:
        self.raw = b""
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
            rest = line[value_end(line) + 1 :].lstrip()
            if rest.strip():
                fields[index] = ("via", b"Via: " + rest)
                return Response(self.status, self.reason, fields, self.body, self.cseq, self.method)
        del fields[index]
        return Response(self.status, self.reason, fields, self.body, self.cseq, self.method)
