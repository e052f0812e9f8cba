"""One TCP or TLS connection under asyncio, from where it stands to its end."""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

from sip import stream_limits as limits
from sip.errors import Reason, RemoteError
from sip.flow import UNCERTIFIED, Flow, ListeningPoint, TlsPeer
from sip.framing import PONG, StreamFramer
from sip.machines import ClientTransaction
from sip.server_identity import identifies

if TYPE_CHECKING:
    from sip.transport_streams import Key, Streams

# A peer that has vanished (a firewall forgot the connection) is noticed in seconds, not after a quarter of an hour.
KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            ("TCP_KEEPIDLE", 30),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 4000),
            ("TCP_NODELAY", 1),
        )
        if hasattr(socket, name)
    ),
]


class Connection(asyncio.BufferedProtocol):
    """One connection, accepted or opened, once its handshake is done."""

    def __init__(
        self, streams: "Streams", point: ListeningPoint, *, accepted: bool = False, peer: TlsPeer | None = None
    ) -> None:
        self.streams = streams
        self.edge = streams.edge
        self.point = point
        self.accepted = accepted
        self.peer = peer
        """Of a connection opened by TLS: what the certificate was to prove."""
        self.host = ""
        self.is_stranger = False
        self.is_admitted = False
        self.framer = StreamFramer()
        self.transport: asyncio.Transport | None = None
        self.failure = ""
        """Of a connection opened by TLS: why it is not used after all."""
        self.flow = Flow(point, "", 0)
        self.last_used = 0.0
        self.held_until = 0.0
        """Until then it is not closed for being idle."""
        self.begun_at: float | None = None
        """Since when a message is incomplete."""
        self.unread_since: float | None = None
        """Since when the peer lets our bytes pile up."""
        self.keys: list[Key] = []
        """What it is found by."""
        self.has_spoken = False
        self.waiting: dict[bytes, ClientTransaction] = {}
        """Requests sent here that have no answer yet: they fail when the connection does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A TCP connection stands; or the handshake on one is done."""
        self.transport = cast(asyncio.Transport, transport)  # not a subclass of it under every loop
        host, port = address_of(transport)
        if self.accepted and not self.is_admitted and not self.streams.admit(self, host):
            self.transport.abort()
            return
        shaken: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if shaken is not None and not self._is_whom_we_want(shaken):
            self.transport.abort()
            return
        self.host = host
        set_options(transport)
        self.flow = self.streams.adopt(self, host, port, scoped_host(transport))

    def _is_whom_we_want(self, shaken: ssl.SSLObject) -> bool:
        """False where the peer we called is another than its certificate should name. Of who called us it is noted
        whether the certificate asked for was shown."""
        shown = shaken.getpeercert(binary_form=True)
        if self.accepted:
            if shaken.context.verify_mode is not ssl.CERT_NONE and not shown:
                self.peer = UNCERTIFIED
            return True
        assert self.peer is not None
        self.streams.note_certificate(self.peer, shown or b"")
        self.streams.note_cipher(self.peer, shaken.cipher())
        if self.peer.verified and not identifies(shaken.getpeercert() or {}, self.peer.name):
            self.failure = "certificate-name"
        return not self.failure

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.streams.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.last_used = self.edge.now()
        self._deliver(self.framer.feed(self.streams.buffer[:nbytes]))

    def _deliver(self, messages: list[bytes]) -> None:
        if self.framer.pings:
            self.edge.counts["keep_alives"] += self.framer.pings
            self.write(PONG * self.framer.pings)
            self.framer.pings = 0
        if messages:
            self.begun_at = None
            if not self.has_spoken:
                self.has_spoken = True
                self.streams.learn_alias(self, messages[0])
            self.edge.on_messages(messages, self.flow)
        if self.framer.skipped:
            self.framer.skipped = 0
            self.edge.counts["streams_resynchronised"] += 1
        if self.framer.error is not None:
            self._give_up(self.framer.error)
        elif self.framer.has_begun:
            self.streams.note_begun(self)
            if self.framer.is_open:
                self.edge.loop.call_later(limits.SILENCE_SECONDS, self._end_open_body, self.last_used)
            elif self.framer.lacks_body and self._is_urgent():
                self.edge.loop.call_later(limits.CUT_BODY_SECONDS, self._cut_body, self.last_used)

    def _end_open_body(self, since: float) -> None:
        """A body without Content-Length ends where nothing more comes."""
        if self.last_used == since and self.transport is not None and not self.transport.is_closing():
            self._deliver(self.framer.end_body())

    def _is_urgent(self) -> bool:
        method, _, rest = self.framer.start_line().partition(b" ")
        return self.edge.is_urgent(method, rest.rpartition(b" ")[0], self.flow)

    def _cut_body(self, since: float) -> None:
        """Nothing more comes of an urgent request, whatever its Content-Length says."""
        if self.last_used == since and self.transport is not None and not self.transport.is_closing():
            self._deliver(self.framer.cut_body())

    def end_stalled(self) -> None:
        """A message was begun long ago and is not whole: answer what can be answered, and close."""
        if not self.framer.lacks_body or self.framer.error is not None:
            self.cut_off("connections_stalled")
            return
        self.edge.counts["connections_stalled"] += 1
        missing = self.framer.needed - len(self.framer.buffer)
        self._give_up(RemoteError(Reason.BODY_INCOMPLETE, 400, f"{missing} bytes of its body never came"))

    def _give_up(self, error: RemoteError) -> None:
        """The stream cannot be framed any more: answer what can be answered, and close."""
        self.edge.on_unframed(self.framer.unframed(), self.flow, error)
        if self.transport is not None:
            self.transport.close()

    def write(self, data: bytes) -> None:
        """Send; a peer that does not read is cut off."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(data)
        if self.unread_since is not None and self.unsent > limits.MAX_UNSENT_BYTES:
            self.cut_off("connections_cut_off")

    @property
    def unsent(self) -> int:
        """Bytes that the peer has not taken yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write. Nobody waits for it; it has MAX_UNSENT_SECONDS to go on."""
        self.unread_since = self.edge.now()
        self.streams.slow.add(self)

    def resume_writing(self) -> None:
        self.unread_since = None
        self.streams.slow.discard(self)

    def cut_off(self, why: str) -> None:
        """End at once, counted under this name; what was not sent is lost."""
        self.edge.counts[why] += 1
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.streams.forget(self)


def address_of(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """The peer's address, without an IPv6 scope, and port."""
    name = transport.get_extra_info("peername")
    if not name:  # gone already
        return "", 0
    return name[0].partition("%")[0], name[1]


def scoped_host(transport: asyncio.BaseTransport) -> str:
    """The peer's address; one that is link-local with the number of its interface, `fe80::20%2` (RFC 4007)."""
    name = transport.get_extra_info("peername")
    if not name:
        return ""
    host = str(name[0].partition("%")[0])
    return f"{host}%{name[3]}" if len(name) == 4 and name[3] else host


def set_options(connection: asyncio.BaseTransport | socket.socket) -> None:
    """No delay, and keep-alives."""
    sock = connection if isinstance(connection, socket.socket) else connection.get_extra_info("socket")
    if sock is not None:
        for level, option, value in KEEP_ALIVE:
            try:
                sock.setsockopt(level, option, value)
            except OSError:  # closed already
                return
