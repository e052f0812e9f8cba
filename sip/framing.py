"""From a byte stream to messages (RFC 3261 section 18.3): framed by Content-Length, keep-alives taken out."""

import re
from dataclasses import dataclass, field

from sip.errors import Reason, RemoteError
from sip.parsing import MAX_HEADER_BYTES, header_within_limits, near_limits

MAX_BODY_BYTES = 1_048_576
"""Larger than any body with a location in it; a stream that announces more is not a phone."""

OPEN_BODY_BYTES = 16_384
"""The longest body taken from a message that does not say how long it is."""

_START_LINE = re.compile(rb"\r\n(?=SIP/2\.0 \d{3}[ \r]|[!-~]+ [!-~]+ SIP/2\.0\r\n)", re.IGNORECASE)
_CONTENT_TYPE = re.compile(rb"\r\n(?:content-type|c)[ \t]*:", re.IGNORECASE)
_SDP_LINES = re.compile(rb"(?:[A-Za-z]=[^\r\n]*\r\n)*")
_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(?:\r\n[ \t]+)*([^\r\n]*)", re.IGNORECASE)

PING = b"\r\n\r\n"
PONG = b"\r\n"


@dataclass(slots=True)
class StreamFramer:
    """Cuts one connection's bytes into messages.

    feed() returns whole messages and sets `pings` to the number of CRLF CRLF keep-alives seen (RFC 5626 section
    4.4.1; each wants a CRLF back). A RemoteError ends the connection: after it nothing in the stream can be
    trusted; what could be framed was returned before.
    """

    buffer: bytearray = field(default_factory=bytearray)
    needed: int = 0
    """Bytes until the message being received is whole; 0 while its header is not."""
    pings: int = 0
    max_body: int = MAX_BODY_BYTES
    error: RemoteError | None = None
    skipped: int = 0
    """Bytes passed over before a start line: what followed a body that was longer than its Content-Length."""
    _open: int = 0
    """Where a body begins whose length was not said, 0 otherwise."""
    _scanned: int = 0
    """So far such a body was looked through."""

    @property
    def is_open(self) -> bool:
        """True while a body arrives whose length was not said: it ends where the sender falls silent (`end_body`)."""
        return self._open > 0

    @property
    def lacks_body(self) -> bool:
        """True while the header is whole, and less of the body has come than its Content-Length says."""
        return self.needed > 0

    def start_line(self) -> bytes:
        """Of the message that is being received, as far as it has come."""
        return bytes(self.buffer[: max(0, self.buffer.find(b"\r\n"))])

    @property
    def has_begun(self) -> bool:
        """True where part of a message has come; a line break alone is a keep-alive, or half of one."""
        return len(self.buffer) > 3 or bool(self.buffer.strip(b"\r\n"))

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes, give the messages that are now whole. After an error (see `error`) gives nothing more."""
        if self.error is not None:
            return []
        self.buffer += data
        messages: list[bytes] = []
        while True:
            if self.needed:
                if len(self.buffer) < self.needed:
                    return messages
                messages.append(bytes(self.buffer[: self.needed]))
                del self.buffer[: self.needed]
                self.needed = 0
                continue
            if self._open:
                if not self._has_ended():
                    return messages
                messages += self.end_body()
                continue
            self._take_keep_alives()
            self._mend_line_feeds()
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > MAX_HEADER_BYTES:
                    self.error = _too_large(len(self.buffer))
                return messages
            head = bytes(self.buffer[: end + 2])
            if b"SIP/" not in head[: head.index(b"\r\n")].upper() and (start := _START_LINE.search(head)):
                del self.buffer[: start.end()]
                self.skipped += start.end()
                continue
            try:
                length = _body_length(head, self.max_body)
            except RemoteError as error:
                # The header is whole, so a request in it can still be answered before the connection closes.
                self.error = error
                return messages
            if length is None:
                self._open = self._scanned = end + 4
            else:
                self.needed = end + 4 + length

    def end_body(self) -> list[bytes]:
        """The message whose body had no length, as far as it came; nothing where there is none."""
        if not self._open:
            return []
        if self.buffer[self._scanned + 1 : self._scanned + 2] == b"=":
            self._scanned = len(self.buffer)  # the last line has no end
        message = bytes(self.buffer[: self._scanned])
        del self.buffer[: self._scanned]
        self._open = 0
        return [message]

    def cut_body(self) -> list[bytes]:
        """The message that lacks part of its body, as far as it came. What comes of the rest is passed over."""
        if not self.needed:
            return []
        message = bytes(self.buffer)
        self.buffer.clear()
        self.needed = 0
        return [message]

    def _has_ended(self) -> bool:
        """True where what has come after the SDP so far is no further line of it."""
        lines = _SDP_LINES.match(self.buffer, self._scanned)
        self._scanned = lines.end() if lines else self._scanned
        if self._scanned - self._open > OPEN_BODY_BYTES:
            return True
        rest = self.buffer[self._scanned : self._scanned + 2]
        return len(rest) == 2 and (rest[1:] != b"=" or len(self.buffer) - self._scanned > OPEN_BODY_BYTES)

    def unframed(self) -> bytes:
        """After an error: the header that could not be framed, for an answer to it; as much as is taken of one."""
        end = self.buffer.find(b"\r\n\r\n")
        if 0 <= end <= MAX_HEADER_BYTES:
            return bytes(self.buffer[: end + 4])
        return header_within_limits(bytes(self.buffer[: MAX_HEADER_BYTES + 1])) if self.error is not None else b""

    def _mend_line_feeds(self) -> None:
        """A header with bare line feeds only gets the line breaks it should have: datagrams are read so, too."""
        before = self.buffer[:4]
        if rest := before.lstrip(b"\n"):
            del self.buffer[: len(before) - len(rest)]
        first = self.buffer.find(b"\n")
        if first <= 0 or self.buffer[first - 1] == 0x0D:
            return
        end = self.buffer.find(b"\n\n", first, MAX_HEADER_BYTES)
        if end >= 0 and b"\r\n" not in self.buffer[:end]:
            self.buffer[: end + 2] = self.buffer[:end].replace(b"\n", b"\r\n") + b"\r\n\r\n"

    def _take_keep_alives(self) -> None:
        while self.buffer[:2] == b"\r\n":
            if self.buffer[:4] == PING:
                self.pings += 1
                del self.buffer[:4]
            elif len(self.buffer) == 2 or self.buffer[2:3] == b"\r":
                if len(self.buffer) < 4:
                    return  # perhaps half a ping
                del self.buffer[:2]
            else:
                del self.buffer[:2]


def _too_large(size: int) -> RemoteError:
    return RemoteError(Reason.HEADER_TOO_LARGE, 513, f"{size} bytes, {MAX_HEADER_BYTES} at the most")


def _body_length(head: bytes, max_body: int) -> int | None:
    """What Content-Length says. Without it 0, or None where a Content-Type says that there is a body all the same."""
    if len(head) > MAX_HEADER_BYTES:
        raise _too_large(len(head))
    lengths = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
    if not lengths:
        # Section 20.14 demands it on streams. Without it a body can only be SDP, which is known by its lines: a call
        # is not to fail for this (RFC 4475 section 3.4.1), least of all one to 911.
        return None if _CONTENT_TYPE.search(head) else 0
    if len(lengths) > 1:
        raise RemoteError(Reason.BAD_CONTENT_LENGTH, 400, "two different values")
    text = lengths.pop()
    if not text.isdigit() or len(text) > 10:
        raise RemoteError(Reason.BAD_CONTENT_LENGTH, 400, repr(text[:20]))
    length = int(text)
    if length > max_body:
        raise RemoteError(Reason.MESSAGE_TOO_LARGE, 413, f"{length} bytes")
    if length > max_body * 4 // 5:
        near_limits["body-bytes"] += 1
    return length
