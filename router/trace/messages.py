"""What a trace is made of: SIP messages as they came and went, and how the call process tells others of them.

The call process listens on a Unix socket, `trace.sock` in its state directory. Who connects sends one JSON line,
what it wants (`{"contains": ""}`: only messages with these bytes in them; `{"emergency": true}`: only those of
emergency and test calls, as far as there is no storm), and gets one JSON line that says who
speaks (`Hello`), then for each message a JSON line with the length of what follows it, and the message. While
nobody is connected nothing is kept. All that is made of it (filters, redaction, pcap, HEP, ladders) is made by
whoever listens, off the way of calls.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from e911.numbers import EmergencyNumbers
from sip.errors import RemoteError
from sip.message import Message
from sip.parsing import parse_message

SOCKET = "trace.sock"
_LONGEST_ADDRESS = 100
"""Bytes of a Unix socket's path that every system takes."""

Endpoint = tuple[str, int]
"""Host (no brackets) and port."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One SIP message, as it was on the wire; over TLS, as it was inside."""

    at: float
    """Seconds since 1970."""
    sent: bool | None
    """True: edge911 sent it; False: edge911 received it; None: read from a capture, where nobody says."""
    transport: str
    """`udp`, `tcp` or `tls`."""
    source: Endpoint
    destination: Endpoint
    """Our own side of a connection is the listening point, whatever port the system gave it."""
    data: bytes
    connection: int = 0
    """Tells connections apart; 0 for UDP."""

    @property
    def peer(self) -> Endpoint:
        """The other side; of a capture, the sender."""
        return self.destination if self.sent else self.source

    @cached_property
    def message(self) -> Message | None:
        """The message read, None where it cannot be."""
        try:
            return parse_message(self.data)
        except RemoteError:
            return None

    @cached_property
    def call_id(self) -> str:
        """The Call-ID, empty where there is none."""
        found = self.message.first("call-id") if self.message is not None else None
        return (found or b"").decode("utf-8", "replace")

    def replaced(self, data: bytes) -> "Traced":
        """The same with another text, as redaction makes it."""
        return Traced(
            at=self.at,
            sent=self.sent,
            transport=self.transport,
            source=self.source,
            destination=self.destination,
            data=data,
            connection=self.connection,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who speaks, and what is needed to make sense of it."""

    node: str = ""
    redact: bool = True
    """What `log.redact` says."""
    trunks: Mapping[str, Sequence[Endpoint]] = field(default_factory=dict)
    """Names of trunks, and where they are."""
    numbers: EmergencyNumbers = field(
        default_factory=lambda: EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset({"933"}))
    )

    def to_line(self) -> bytes:
        """As it is sent."""
        return orjson.dumps(
            {
                "node": self.node,
                "redact": self.redact,
                "trunks": {name: [list(place) for place in places] for name, places in self.trunks.items()},
                "emergency": sorted(self.numbers.emergency),
                "test": sorted(self.numbers.test),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> "Hello":
        """From what was sent."""
        return cls(
            node=said["node"],
            redact=said["redact"],
            trunks={name: [(host, port) for host, port in places] for name, places in said["trunks"].items()},
            numbers=EmergencyNumbers(emergency=frozenset(said["emergency"]), test=frozenset(said["test"])),
        )


def frame(
    at: float, sent: bool, transport: str, own: Endpoint, peer: Endpoint, connection: int, data: bytes
) -> bytes:
    """One message as it is sent to those who listen."""
    head = {
        "at": at,
        "sent": sent,
        "transport": transport,
        "own": own,
        "peer": peer,
        "connection": connection,
        "size": len(data),
    }
    return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE) + data


def lost_frame(count: int) -> bytes:
    """Says how many messages this listener was not told of."""
    return orjson.dumps({"lost": count}, option=orjson.OPT_APPEND_NEWLINE)


class FrameReader:
    """Makes Hello and messages of the bytes that come from the call process."""

    def __init__(self) -> None:
        self.hello: Hello | None = None
        self.lost = 0
        """Messages that the call process had to leave out."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Traced]:
        """Take bytes, give the messages that are now whole."""
        buffer = self._buffer
        buffer += data
        taken = 0
        while (end := buffer.find(b"\n", taken)) >= 0:
            said = orjson.loads(memoryview(buffer)[taken:end])
            size = said.get("size", 0)
            if len(buffer) < end + 1 + size:
                break
            taken = end + 1 + size
            if "lost" in said:
                self.lost += said["lost"]
            elif "node" in said:
                self.hello = Hello.read(said)
            else:
                text = bytes(memoryview(buffer)[end + 1 : taken])
                if text.strip(b"\r\n\0 "):  # else a keep-alive
                    yield _traced(said, text)
        del buffer[:taken]


def _traced(said: Mapping[str, Any], data: bytes) -> Traced:
    own, peer = (said["own"][0], said["own"][1]), (said["peer"][0], said["peer"][1])
    return Traced(
        at=said["at"],
        sent=said["sent"],
        transport=said["transport"],
        source=own if said["sent"] else peer,
        destination=peer if said["sent"] else own,
        data=data,
        connection=said["connection"],
    )


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address for a Unix socket at this path, also where the path is longer than such an address may be."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def connect(state_directory: Path, contains: str = "", *, emergency: bool = False) -> socket.socket:
    """Connect to the call process of this state directory, and ask for messages with this text in them, or for those
    of emergency and test calls.

    Raises OSError where it does not run (FileNotFoundError, ConnectionRefusedError) or is not ours to follow
    (PermissionError).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(state_directory / SOCKET) as address:
            listener.connect(address)
        listener.sendall(
            orjson.dumps({"contains": contains, "emergency": emergency}, option=orjson.OPT_APPEND_NEWLINE)
        )
    except BaseException:
        listener.close()
        raise
    return listener
