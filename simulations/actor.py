"""Actor: one SIP endpoint of a simulated world, on our own transaction layer, that records every message.

It has a UDP socket and a TCP listener on one address and port, and a log of all it sent and received, with times.
What an actor does with a call is in `simulations.calls` and the modules of the single peers.
"""

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from sip.answers import build_response
from sip.errors import LocalError, RemoteError
from sip.flow import Flow, ListeningPoint
from sip.headers import MAGIC_COOKIE
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.stack import Stack
from sip.transport import SipEdge
from sip.uri import bracketed, parse_sip_uri

ALLOW = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS"
_PORT_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One message at one actor, as it was on the wire. `at` is seconds on the event loop's clock."""

    at: float
    actor: str
    sent: bool
    transport: str
    peer: tuple[str, int]
    data: bytes
    message: Request | Response | None
    """None where it cannot be read."""

    @property
    def call_id(self) -> bytes:
        """The Call-ID, or b""."""
        return (self.message.first("call-id") or b"") if self.message is not None else b""


class _Outgoing(list[tuple[Flow, bytes, ClientTransaction | None]]):
    """What the stack hands to the sockets, told of before it goes: retransmissions included, nothing left out."""

    def __init__(self, told: Callable[[Flow, bytes], None]) -> None:
        super().__init__()
        self.told = told

    def append(self, item: tuple[Flow, bytes, ClientTransaction | None]) -> None:
        self.told(item[0], item[1])
        super().append(item)


class _RecordingEdge(SipEdge):
    """The sockets, telling of each message that comes in."""

    def __init__(
        self, stack: Stack, on_error: Callable[[str, bytes], None], told: Callable[[Flow, bytes], None]
    ) -> None:
        super().__init__(stack, on_error)
        self.told = told

    def take(self, data: bytes, flow: Flow) -> None:
        self.told(flow, data)
        super().take(data, flow)


class Actor:
    """A SIP endpoint. Port 0 picks a port that is free for both UDP and TCP.

    A bare actor answers OPTIONS with 200 and any other request with 501; a subclass says what else it can do.
    """

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.log: list[Seen] = []
        self.faults: list[str] = []
        """Faults of the actor's own code: an actor with any of these proves nothing."""
        self.listeners: list[Callable[[Seen], None]] = []
        """Called with every message as it comes or goes."""
        self.stack = Stack(self, key=secrets.token_bytes(16))
        self.stack.out = _Outgoing(lambda flow, data: self._record(flow, data, sent=True))
        self.points: dict[str, ListeningPoint] = {}
        self._edge: _RecordingEdge | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- life ----

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        for left in reversed(range(_PORT_TRIES)):
            port = self.port or free_port(self.host)
            self.points = {name: ListeningPoint(name, self.host, port) for name in ("udp", "tcp")}
            self._edge = _RecordingEdge(self.stack, self._on_fault, lambda f, data: self._record(f, data, sent=False))
            try:
                self._edge.listen_udp(self.points["udp"], self.host)
                await self._edge.listen_stream(self.points["tcp"], self.host)
            except OSError:
                await self._edge.close()
                if self.port or not left:
                    raise
                continue  # somebody took the port meanwhile: another one
            self.port = port
            return

    async def stop(self) -> None:
        """Close every socket: from now on the port is closed."""
        for task in self._tasks:
            task.cancel()
        if self._edge is not None:
            await self._edge.close()
            self._edge = None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside; it is given up when the actor stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def is_running(self) -> bool:
        """True while it listens."""
        return self._edge is not None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def hostport(self) -> str:
        """`host:port` as it stands in a URI."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def now(self) -> float:
        """Seconds on the event loop's clock."""
        return asyncio.get_running_loop().time()

    # ---- sending ----

    def flow_to(self, uri: bytes) -> Flow:
        """Where a request to this URI goes. Raises RemoteError for no SIP URI, LocalError without such a socket."""
        parsed = parse_sip_uri(uri)
        point = self.points.get(parsed.transport)
        if point is None:
            raise LocalError(f"{self.name} has no {parsed.transport} socket; use udp or tcp")
        return Flow(point, parsed.host, parsed.effective_port)

    def request_bytes(
        self, method: bytes, uri: bytes, flow: Flow, branch: bytes, lines: Sequence[bytes], body: bytes = b""
    ) -> bytes:
        """A request as it goes on the wire; `lines` are all fields but Via, Max-Forwards and Content-Length."""
        return b"\r\n".join(
            [
                b"%b %b SIP/2.0" % (method, uri),
                flow.point.via + branch + b";rport",
                b"Max-Forwards: 70",
                *lines,
                b"Content-Length: %d" % len(body),
                b"",
                body,
            ]
        )

    def flush(self) -> None:
        """Send what the stack has ready. To be called after anything that is not an answer to a message."""
        if self._edge is not None:
            self._edge.flush()

    async def options(self, host: str, port: int, *, seconds: float) -> int:
        """Ask a peer for its options over UDP; the status of the answer, 0 where none came in time."""
        uri = f"sip:{bracketed(host)}:{port}".encode()
        flow = self.flow_to(uri)
        branch = new_branch()
        own = f"<sip:{self.name}@{self.hostport}>".encode()
        lines = [
            b"From: %b;tag=%b" % (own, new_token()),
            b"To: <%b>" % uri,
            b"Call-ID: %b@%b" % (new_token(), self.host.encode()),
            b"CSeq: 1 OPTIONS",
            b"Contact: " + own,
        ]
        answer = Answer()
        data = self.request_bytes(b"OPTIONS", uri, flow, branch, lines)
        client = self.stack.send_request(b"OPTIONS", branch, data, flow, answer, self.now)
        self.flush()
        try:
            async with asyncio.timeout(seconds):
                response = await answer.future
        except TimeoutError:
            self.stack.abandon_client(client)
            return 0
        return response.status if response else 0

    # ---- the transaction user: what a bare endpoint answers ----

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """A new request."""
        self.stack.answer(server, 200 if request.method == b"OPTIONS" else 501, now, extra=(ALLOW,))

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        """The ACK for a 2xx."""

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        """A CANCEL; its own 200 has gone already."""
        self.stack.answer(invite, 487, now)

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """Nothing here forks."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction: recorded, otherwise nothing."""

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """Nothing here has an earlier process."""

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Everybody may call."""
        return None

    def on_malformed(self, request: Request, error: RemoteError, flow: Flow) -> None:
        """Refused already."""

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        """What is malformed is refused: a peer in a simulation should be strict."""
        return False

    # ---- inside ----

    def _record(self, flow: Flow, data: bytes, *, sent: bool) -> None:
        message: Request | Response | None
        try:
            message = parse_message(data)  # an object of its own: the stack notes things in its copy
        except RemoteError:
            message = None
        seen = Seen(
            at=self.now,
            actor=self.name,
            sent=sent,
            transport=flow.point.transport,
            peer=(flow.host, flow.port),
            data=data,
            message=message,
        )
        self.log.append(seen)
        for listener in self.listeners:
            listener(seen)

    def _on_fault(self, error: str, data: bytes) -> None:
        self.faults.append(error)
        print(f"{self.name}: a fault of the simulation itself: {error}; message {data[:60]!r}", file=sys.stderr)


class Answer:
    """Owner of a request that waits for its final response; None where there will be none."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if response.status >= 200:
            self._settle(response)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        self._settle(None)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        self._settle(None)

    def _settle(self, response: Response | None) -> None:
        if not self.future.done():
            self.future.set_result(response)


def response_bytes(
    request: Request, status: int, reason: bytes, *, to_tag: bytes, lines: Sequence[bytes] = (), body: bytes = b""
) -> bytes:
    """A response with a body and further field lines, as bytes (RFC 3261 section 8.2.6)."""
    bare = build_response(request, status, reason=reason, to_tag=to_tag, extra=lines)
    if not body:
        return bare
    head, _, _ = bare.partition(b"Content-Length: 0")
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def new_branch() -> bytes:
    """A branch of our own making (section 8.1.1.7)."""
    return MAGIC_COOKIE + secrets.token_hex(8).encode()


def new_token() -> bytes:
    """A tag or the left part of a Call-ID."""
    return secrets.token_hex(6).encode()


def free_port(host: str) -> int:
    """A port that nobody holds on `host`, neither for UDP nor for TCP. Raises OSError where there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(100):
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family, socket.SOCK_STREAM) as tcp:
            udp.bind((host, 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {host} is free for both UDP and TCP")
