"""SIP peers made of plain sockets, for messages and orders of events that no well-behaved peer would produce.

A `Peer` keeps everything that comes to it. A test then takes what it expects, answers when and how it likes, and
so plays a race exactly. `Call` builds what a caller sends.
"""

import contextlib
import itertools
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.ports import Endpoint
from tests.support.sip_text import Message, parse

_numbers = itertools.count(1)
PATIENCE = 30.0
"""Seconds that a test waits for what must come; a busy machine may need many of them."""

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    404: "Not Found",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    424: "Bad Location Information",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    500: "Server Internal Error",
    503: "Service Unavailable",
    603: "Decline",
}


def sdp(address: str, port: int = 40000) -> bytes:
    """A session description with bytes that a careless rewrite would not keep."""
    lines = [
        "v=0",
        f"o=desk 7 7 IN IP4 {address}",
        "s=Réception  (two  spaces)",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=X-odd: --boundary--",
        "a=sendrecv",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A message and the way back to where it came from."""

    message: Message
    source: tuple[str, int]
    at: float
    connection: socket.socket | None = None


Rule = Callable[["Peer", Arrived], bool]
"""Called with each arrival as it comes; True where it has been dealt with and is not to be kept for `expect`."""


class Peer:
    """A UDP socket and a TCP listener on one endpoint, read by a thread of its own."""

    def __init__(self, at: Endpoint, *, udp: bool = True, tcp: bool = True, rule: Rule | None = None) -> None:
        self.at, self.rule = at, rule
        self.everything: list[Arrived] = []
        self._inbox: list[Arrived] = []
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._names: dict[socket.socket, tuple[str, int]] = {}
        self._outgoing: dict[tuple[str, int], socket.socket] = {}
        self._udp: socket.socket | None = None
        self._listener: socket.socket | None = None
        family = socket.AF_INET6 if ":" in at.address else socket.AF_INET
        if udp:
            self._udp = socket.socket(family, socket.SOCK_DGRAM)
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_000_000)
            self._udp.bind(at.pair)
            self._udp.setblocking(False)
            self._selector.register(self._udp, selectors.EVENT_READ)
        if tcp:
            self._listener = socket.socket(family, socket.SOCK_STREAM)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(at.pair)
            self._listener.listen(64)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    # --- reading -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._wake_reader:
                    if source.recv(64) != b"+":
                        return
                elif source is self._listener:
                    with contextlib.suppress(OSError):  # reset before we looked
                        self._adopt(source.accept()[0])
                elif source is self._udp:
                    self._read_datagram(source)
                else:
                    self._read_stream(source)

    def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        self._names[connection] = connection.getpeername()  # later it may be gone
        self._buffers[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read_datagram(self, udp: socket.socket) -> None:
        try:
            raw, source = udp.recvfrom(65535)
        except (BlockingIOError, ConnectionRefusedError):
            return
        if raw.strip(b"\r\n\0"):
            self._take(Arrived(message=parse(raw), source=source, at=time.monotonic()))

    def _read_stream(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65535)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            del self._buffers[connection]
            connection.close()
            return
        buffer = (self._buffers[connection] + data).lstrip(b"\r\n")
        while b"\r\n\r\n" in buffer:
            head_end = buffer.index(b"\r\n\r\n") + 4
            head = parse(buffer[:head_end], "tcp")
            end = head_end + int(head.get("content-length") or 0)
            if len(buffer) < end:
                break
            self._take(
                Arrived(
                    message=parse(buffer[:end], "tcp"),
                    source=self._names[connection],
                    at=time.monotonic(),
                    connection=connection,
                )
            )
            buffer = buffer[end:].lstrip(b"\r\n")
        self._buffers[connection] = buffer

    def _take(self, arrived: Arrived) -> None:
        # Kept before it is answered: whoever sees the answer may look here at once.
        with self._changed:
            self.everything.append(arrived)
        dealt_with = False
        with contextlib.suppress(ConnectionError):  # whoever asked is gone
            dealt_with = self.rule is not None and self.rule(self, arrived)
            if not dealt_with and arrived.message.method == "OPTIONS" and arrived.message.is_request:
                self.respond(arrived, 200)
                dealt_with = True
        with self._changed:
            if not dealt_with:
                self._inbox.append(arrived)
            self._changed.notify_all()

    # --- what a test does ----------------------------------------------------------------------------------------

    def send(self, raw: bytes, to: Endpoint, transport: str = "udp") -> None:
        """Send bytes as they are. Over TCP the connection to `to` is opened once and kept."""
        if transport == "udp":
            assert self._udp
            self._udp.sendto(raw, to.pair)
            return
        if to.pair not in self._outgoing:
            connection = socket.create_connection(to.pair, timeout=5, source_address=(self.at.address, 0))
            self._outgoing[to.pair] = connection
            self._adopt(connection)
            self._wake_writer.send(b"+")
        self._outgoing[to.pair].sendall(raw)

    def take(
        self, what: str | int, *, call_id: str | None = None, timeout: float = PATIENCE, method: str = "INVITE"
    ) -> Arrived:
        """The next request of a method ("INVITE") or response with a status (180) to `method`, and remove it.

        Retransmissions of what was taken before are passed over.
        """

        def fits(arrived: Arrived) -> bool:
            message = arrived.message
            if call_id is not None and message.call_id != call_id:
                return False
            if isinstance(what, str):
                return message.is_request and message.method == what
            return message.status == what and message.method == method

        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for arrived in self._inbox:
                    if fits(arrived):
                        raw = arrived.message.raw
                        self._inbox = [one for one in self._inbox if one.message.raw != raw]
                        return arrived
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = "\n".join(one.message.start for one in self.everything[-30:])
                    raise AssertionError(f"no {what} at {self.at} within {timeout} s; so far:\n{seen}")
                self._changed.wait(left)

    def messages(self, what: str | int | None = None, *, call_id: str | None = None) -> list[Message]:
        """All that came, retransmissions included: requests of a method, responses with a status, or everything."""
        with self._changed:
            kept = [one.message for one in self.everything]
        return [
            one
            for one in kept
            if (call_id is None or one.call_id == call_id)
            and (
                what is None or (one.is_request and one.method == what) or (not one.is_request and one.status == what)
            )
        ]

    def respond(
        self,
        arrived: Arrived,
        status: int,
        *,
        extra: tuple[str, ...] = (),
        body: bytes = b"",
        to_tag: str | None = None,
        contact: str | None = None,
    ) -> bytes:
        """Answer a request the way it came; gives back the bytes sent. The To tag is the endpoint's own."""
        request = arrived.message
        lines = [f"SIP/2.0 {status} {REASONS.get(status, 'Because')}"]
        lines += [f"Via: {value}" for value in request.all("via")]
        if status > 100:
            lines += [f"Record-Route: {value}" for value in request.all("record-route")]
        to = request.get("to")
        if status > 100 and not request.tag("to"):
            to += f";tag={to_tag or f'to-{self.at.port}'}"
        lines += [f"From: {request.get('from')}", f"To: {to}", f"Call-ID: {request.call_id}"]
        lines += [f"CSeq: {request.get('cseq')}"]
        if request.method in ("INVITE", "UPDATE") and 100 < status < 300:
            transport = ";transport=tcp" if request.transport == "tcp" else ""
            lines += [f"Contact: <{contact or f'sip:911@{self.at}{transport}'}>"]
        if body and not any(line.lower().startswith("content-type") for line in extra):
            lines += ["Content-Type: application/sdp"]
        lines += [*extra, f"Content-Length: {len(body)}", "", ""]
        raw = "\r\n".join(lines).encode() + body
        if arrived.connection:
            arrived.connection.sendall(raw)
        else:
            assert self._udp
            self._udp.sendto(raw, arrived.source)
        return raw

    def close(self) -> None:
        """Give the endpoint back and end the thread."""
        self._wake_writer.send(b"x")
        self._thread.join(5)
        for one in (*self._buffers, self._udp, self._listener, self._wake_reader, self._wake_writer):
            if one:
                one.close()
        self._selector.close()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answers(*statuses: int, body: bytes = b"", contact: str | None = None) -> Rule:
    """A rule: each INVITE gets these responses at once; CANCEL and BYE get 200, a cancelled INVITE its 487."""
    cancelled: dict[str, Arrived] = {}

    def rule(peer: Peer, arrived: Arrived) -> bool:
        message = arrived.message
        if not message.is_request:
            return False
        if message.method == "INVITE":
            cancelled[message.branch] = arrived
            for status in statuses:
                peer.respond(arrived, status, body=body if 100 < status < 300 else b"", contact=contact)
        elif message.method == "CANCEL":
            peer.respond(arrived, 200)
            if not any(status >= 200 for status in statuses) and message.branch in cancelled:
                peer.respond(cancelled[message.branch], 487)
        elif message.method != "ACK":
            peer.respond(arrived, 200)
        return False

    return rule


@dataclass(kw_only=True)
class Call:
    """One caller's side of one call: builds its requests as bytes, for the test to send."""

    peer: Peer
    router: Endpoint
    user: str = "4102"
    uri: str | None = None
    """The Request-URI; `sip:911@ROUTER` by default."""
    transport: str = "udp"
    name: str = "Desk"
    from_uri: str | None = None
    body: bytes | None = None
    content_type: str = "application/sdp"
    call_id: str = ""
    tag: str = ""
    number: int = field(default_factory=lambda: next(_numbers))
    cseq: int = 1
    """The INVITE's; requests in the dialog count on from it."""
    remote: Message | None = None
    """The response that made the dialog."""
    _branches: dict[tuple[str, int], str] = field(default_factory=dict)
    _later: int = 0

    def __post_init__(self) -> None:
        self.call_id = self.call_id or f"call-{self.number}@{self.peer.at.address}"
        self.tag = self.tag or f"from{self.number}"
        self.uri = self.uri or f"sip:911@{self.router}"
        if self.body is None:
            self.body = sdp(self.peer.at.address)

    def _request(
        self,
        method: str,
        uri: str,
        *,
        cseq: int,
        to: str,
        extra: tuple[str, ...] = (),
        body: bytes = b"",
        content_type: str = "",
    ) -> bytes:
        branch = self._branches.setdefault(
            ("INVITE" if method == "CANCEL" else method, cseq), f"z9hG4bKcall{self.number}-{method}-{cseq}"
        )
        source = self.from_uri or f"sip:{self.user}@pbx.example.com"
        suffix = f";transport={self.transport}" if self.transport != "udp" else ""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport.upper()} {self.peer.at};branch={branch};rport",
            "Max-Forwards: 70",
            f'From: "{self.name}" <{source}>;tag={self.tag}',
            f"To: {to}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {cseq} {method}",
        ]
        if method in ("INVITE", "UPDATE", "REFER"):
            lines.append(f"Contact: <sip:{self.user}@{self.peer.at}{suffix}>")
        lines += extra
        if body:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body

    def invite(self, *extra: str) -> bytes:
        """The INVITE; the same bytes each time for the same `extra`."""
        assert self.uri is not None
        assert self.body is not None
        to = f"<{self.uri.split('@')[0]}@pbx.example.com>" if "@" in self.uri else f"<{self.uri}>"
        return self._request(
            "INVITE",
            self.uri,
            cseq=self.cseq,
            to=to,
            extra=extra,
            body=self.body,
            content_type=self.content_type,
        )

    def cancel(self) -> bytes:
        """The CANCEL of the INVITE."""
        assert self.uri is not None
        to = f"<{self.uri.split('@')[0]}@pbx.example.com>" if "@" in self.uri else f"<{self.uri}>"
        return self._request("CANCEL", self.uri, cseq=self.cseq, to=to)

    def ack(self, response: Message) -> bytes:
        """The ACK of a final response: hop by hop for a refusal, end to end for a 2xx."""
        if response.status >= 300:
            assert self.uri is not None
            return self._request("ACK", self.uri, cseq=self.cseq, to=response.get("to")).replace(
                f"call{self.number}-ACK-".encode(), f"call{self.number}-INVITE-".encode()
            )
        self.remote = response
        return self.in_dialog("ACK", cseq=self.cseq)

    def in_dialog(
        self,
        method: str,
        *extra: str,
        cseq: int | None = None,
        body: bytes = b"",
        content_type: str = "application/sdp",
    ) -> bytes:
        """A request in the dialog that `ack` made: Route from Record-Route, Request-URI from Contact."""
        assert self.remote
        if cseq is None:
            self._later += 1
            cseq = self.cseq + self._later
        routes = [value.strip() for line in self.remote.all("record-route") for value in line.split(",")]
        target = self.remote.get("contact").partition("<")[2].partition(">")[0]
        route_lines = tuple(f"Route: {value}" for value in reversed(routes))
        return self._request(
            method,
            target,
            cseq=cseq,
            to=self.remote.get("to"),
            extra=(*route_lines, *extra),
            body=body,
            content_type=content_type,
        )

    def send(self, raw: bytes) -> None:
        """Send to the router."""
        self.peer.send(raw, self.router, self.transport)

    def dial(self, *extra: str) -> None:
        """Send the INVITE."""
        self.send(self.invite(*extra))

    def answered(self, timeout: float = PATIENCE) -> Message:
        """Wait for the 200 and acknowledge it."""
        response = self.peer.take(200, call_id=self.call_id, timeout=timeout).message
        self.send(self.ack(response))
        return response

    def refused(self, status: int, timeout: float = PATIENCE) -> Message:
        """Wait for that refusal and acknowledge it."""
        response = self.peer.take(status, call_id=self.call_id, timeout=timeout).message
        self.send(self.ack(response))
        return response

    def hang_up(self) -> Message:
        """BYE, and its 200."""
        self.send(self.in_dialog("BYE"))
        return self.peer.take(200, call_id=self.call_id, method="BYE").message
