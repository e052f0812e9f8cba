"""From a byte stream to messages (RFC 3261 section 18.3): framed by Content-Length, keep-alives taken out."""

import re
from dataclasses import dataclass, field

from sip.errors import Reason, RemoteError
from sip.message import MAX_HEADER_BYTES

MAX_BODY_BYTES = 1_048_576
"""Larger than any body with a location in it; a stream that announces more is not a phone."""

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
            self._take_keep_alives()
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > MAX_HEADER_BYTES:
                    self.error = RemoteError(Reason.HEADER_TOO_LARGE, 0, f"{len(self.buffer)} bytes")
                return messages
            try:
                self.needed = end + 4 + _body_length(bytes(self.buffer[: end + 2]), self.max_body)
            except RemoteError as error:
                # The header is whole, so a request in it can still be answered before the connection closes.
                self.error = error
                return messages

    def unframed(self) -> bytes:
        """After an error: the header that could not be framed, for an answer to it."""
        end = self.buffer.find(b"\r\n\r\n")
        return bytes(self.buffer[: end + 4]) if end >= 0 else b""

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


def _body_length(head: bytes, max_body: int) -> int:
    if len(head) > MAX_HEADER_BYTES:
        raise RemoteError(Reason.HEADER_TOO_LARGE, 0, f"{len(head)} bytes")
    lengths = {value.strip() for value in _CONTENT_LENGTH.findall(head)}
    if not lengths:
        # Section 20.14 demands it on streams; without it the next message cannot be found. None is read as 0,
        # which serves every request without a body.
        return 0
    if len(lengths) > 1:
        raise RemoteError(Reason.BAD_CONTENT_LENGTH, 400, "two different values")
    text = lengths.pop()
    if not text.isdigit() or len(text) > 10:
        raise RemoteError(Reason.BAD_CONTENT_LENGTH, 400, repr(text[:20]))
    length = int(text)
    if length > max_body:
        raise RemoteError(Reason.MESSAGE_TOO_LARGE, 413, f"{length} bytes")
    return length
