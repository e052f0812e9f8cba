"""SIP messages as the tests read them: a small parser of its own, so that it can judge the product's.

It keeps every byte: `Message.lines` are the header lines as they came, folded ones joined by their CRLF.
"""

import re
from dataclasses import dataclass
from email.message import Message as MimeHeaders
from xml.etree import ElementTree

COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "c": "content-type",
    "l": "content-length",
    "e": "content-encoding",
    "s": "subject",
    "k": "supported",
}
PIDF = "application/pidf+xml"
CIVIC = "{urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr}"


def _fields(head: bytes) -> tuple[tuple[bytes, ...], tuple[tuple[str, str], ...]]:
    lines = tuple(re.split(rb"\r\n(?![ \t])", head)) if head else ()
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        key = name.decode("utf-8", "replace").strip().lower()
        text = re.sub(r"\r\n[ \t]+", " ", value.decode("utf-8", "replace")).strip()
        fields.append((COMPACT.get(key, key), text))
    return lines, tuple(fields)


@dataclass(frozen=True, slots=True)
class _Headed:
    raw: bytes
    lines: tuple[bytes, ...]
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every header line of that name, in order, not split at commas."""
        return [value for key, value in self.fields if key == name.lower()]

    def get(self, name: str) -> str:
        """The only value of that name; empty where there is none. AssertionError where there are two."""
        values = self.all(name)
        assert len(values) < 2, f"{name} stands {len(values)} times: {values}"
        return values[0] if values else ""

    @property
    def content_type(self) -> str:
        """Media type without parameters, lower case."""
        return self.get("content-type").split(";")[0].strip().lower()

    @property
    def parts(self) -> list["Part"]:
        """The parts of a multipart body (RFC 2046 5.1); empty for any other body."""
        if not self.content_type.startswith("multipart/"):
            return []
        headers = MimeHeaders()
        headers["Content-Type"] = self.get("content-type")
        boundary = str(headers.get_param("boundary")).encode()
        delimiter = re.compile(rb"(?:^|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|$)")
        parts, start = [], None
        position = 0
        while match := delimiter.search(self.body, position):
            if start is not None:
                parts.append(parse_part(self.body[start : match.start()]))
            if match[1]:
                return parts
            start = match.end()
            # The CRLF after a delimiter line may also begin the next delimiter (an empty part).
            position = max(match.end() - 2, match.start() + 1)
        raise AssertionError(f"no closing delimiter for {boundary!r} in {self.body!r}")


@dataclass(frozen=True, slots=True)
class Part(_Headed):
    """One part of a multipart body; `body` without the line break before the next delimiter."""


def parse_part(raw: bytes) -> Part:
    """A MIME part from its bytes."""
    if raw.startswith(b"\r\n"):
        return Part(raw, (), (), raw[2:])
    head, _, body = raw.partition(b"\r\n\r\n")
    return Part(raw, *_fields(head), body)


@dataclass(frozen=True, slots=True)
class Message(_Headed):
    """A SIP request or response, as received."""

    start: str
    transport: str = "udp"

    @property
    def is_request(self) -> bool:
        """True for a request."""
        return not self.start.startswith("SIP/2.0 ")

    @property
    def method(self) -> str:
        """The request's method, or that of the request a response answers (CSeq)."""
        return self.start.split(" ")[0] if self.is_request else self.get("cseq").split()[-1]

    @property
    def uri(self) -> str:
        """The Request-URI."""
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        """The status code; 0 for a request."""
        return 0 if self.is_request else int(self.start.split(" ")[1])

    @property
    def call_id(self) -> str:
        """Call-ID."""
        return self.get("call-id")

    @property
    def vias(self) -> list[str]:
        """Via values, topmost first, split at commas."""
        return [value.strip() for line in self.all("via") for value in line.split(",")]

    @property
    def branch(self) -> str:
        """The branch of the topmost Via."""
        match = re.search(r";\s*branch\s*=\s*([^;,\s]+)", self.vias[0])
        assert match, f"no branch in {self.vias[0]}"
        return match[1]

    def tag(self, name: str) -> str:
        """The tag of From or To; empty where there is none."""
        match = re.search(r";\s*tag\s*=\s*([^;,\s]+)", self.get(name).rpartition(">")[2] or self.get(name))
        return match[1] if match else ""

    def part(self, content_type: str) -> Part:
        """The only part of that media type."""
        found = [part for part in self.parts if part.content_type == content_type]
        assert len(found) == 1, f"{len(found)} parts of type {content_type} in {self.raw!r}"
        return found[0]

    def without(self, *names: str) -> list[bytes]:
        """The header lines as they came, without those named."""
        hidden = {name.lower() for name in names}
        return [line for line, (key, _) in zip(self.lines, self.fields, strict=True) if key not in hidden]


def parse(raw: bytes, transport: str = "udp") -> Message:
    """A message from its bytes; ValueError where there is no start line or no end of the header."""
    head, end, body = raw.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not end:
        raise ValueError(f"no empty line in {raw!r}")
    start, _, rest = head.partition(b"\r\n")
    if b"SIP/2.0" not in start:
        raise ValueError(f"no start line in {raw!r}")
    lines, fields = _fields(rest)
    return Message(raw, lines, fields, body, start.decode("utf-8", "replace"), transport)


def geolocation(message: Message) -> list[str]:
    """The URIs of every Geolocation value, in order."""
    return re.findall(r"<([^>]*)>", ", ".join(message.all("geolocation")))


def location_part(message: Message) -> Part:
    """The PIDF-LO part that the last Geolocation value names by its cid: URI (RFC 6442)."""
    shown = geolocation(message)
    assert shown, f"no Geolocation in {message.raw!r}"
    assert shown[-1].startswith("cid:"), f"the last Geolocation is {shown[-1]}"
    wanted = re.sub(r"%([0-9A-Fa-f]{2})", lambda hex_pair: chr(int(hex_pair[1], 16)), shown[-1][4:])
    # A body that is the PIDF-LO alone carries its Content-ID as a SIP header field (RFC 8262).
    candidates = message.parts or [Part(message.raw, message.lines, message.fields, message.body)]
    found = [part for part in candidates if part.get("content-id").strip("<>") == wanted]
    assert len(found) == 1, f"{len(found)} parts have the Content-ID {wanted}: {message.raw!r}"
    assert found[0].content_type == PIDF
    return found[0]


def civic(part: Part) -> dict[str, str]:
    """The civic elements of a PIDF-LO part (RFC 5139 names), in document order."""
    root = ElementTree.fromstring(part.body)
    addresses = root.findall(f".//{CIVIC}civicAddress")
    assert len(addresses) == 1, f"{len(addresses)} civic addresses in {part.body!r}"
    return {element.tag.removeprefix(CIVIC): element.text or "" for element in addresses[0]}


def texts(part: Part, name: str) -> list[str]:
    """The texts of every element with that local name, in document order."""
    root = ElementTree.fromstring(part.body)
    return [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == name]
