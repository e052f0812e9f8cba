"""Streams: TCP and TLS connections under asyncio, accepted and opened; their reuse, their limits, their end.

A handshake runs in a task of its own with a deadline; nothing and nobody waits for it but the messages to be sent on
that very connection.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from sip.errors import RemoteError
from sip.framing import PONG, StreamFramer
from sip.server_identity import identifies
from sip.stack import UNCERTIFIED, ClientTransaction, Flow, ListeningPoint, TlsPeer
from sip.transaction import State

log = logging.getLogger("sip.transport")

STREAM_BUFFER = 65_536
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""A peer that reads this little is cut off; it may never make us hold back others, or run out of memory."""
MAX_UNSENT_SECONDS = 10.0
"""So long a peer may read nothing of what waits for it."""
MAX_BUFFERED_BYTES = 64 * 1024 * 1024
"""Of all connections together: messages begun and not whole yet, and bytes not sent yet. Beyond it the largest go."""
MESSAGE_SECONDS = 20.0
"""So long a message may take from its first byte to its last."""
IDLE_SECONDS = 600.0
STRANGER_IDLE_SECONDS = 30.0
MAX_CONNECTIONS = 10_000
MAX_CONNECTIONS_PER_HOST = 2_500
"""Of one address: a PBX, or a whole branch behind one NAT."""
SPARE_IDLE_SECONDS = 10.0
"""Where there is no room for a new connection, the one idle longest goes, if it is idle for so long."""
SILENCE_SECONDS = 0.2
"""After so long without a byte, a body whose length was not said is taken as it came."""
CONNECT_SECONDS = 10.0
HANDSHAKE_SECONDS = 5.0
"""For a TLS handshake, of either side."""
SHUTDOWN_SECONDS = 1.0
"""For a peer to answer our close_notify."""
BACKLOG = 1024
ACCEPTED_PER_WAKEUP = 16
MAX_STRANGERS = 64
"""Connections from sources in no listed network, all together: enough for a 911 call to be refused politely."""
STRANGER_MESSAGE_BYTES = 65_536

# A peer that has vanished (a firewall forgot the connection) is noticed in seconds, not after a quarter of an hour.
_KEEP_ALIVE = [
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

_TOP_VIA = re.compile(
    rb"\r\n(?:via|v)[ \t]*:[ \t]*SIP *\/ *2\.0 *\/ *T(?:CP|LS)[ \t]+([^;,\s]+)([^,\r\n]*)", re.IGNORECASE
)
_SENT_BY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")

Key = tuple[str, str, int, TlsPeer | None]
"""What a connection is found by: transport, host, port, and for TLS what its certificate was to prove."""

Told = Callable[[str], None]
"""Told how opening a connection ended: with an empty string, or the name of the failure."""


class TlsContexts(Protocol):
    """Where the certificates are; those of the moment, for they change while we run."""

    def server(self) -> ssl.SSLContext | None:
        """For connections to us; None where we have no usable certificate."""

    def client(self, peer: TlsPeer) -> ssl.SSLContext:
        """For a connection to a peer. Raises OSError (ssl.SSLError is one) where its authorities cannot be read."""

    def seen(self, peer: TlsPeer, certificate: bytes) -> None:
        """A peer showed this certificate, DER."""


class Edge(Protocol):
    """What streams need of the edge they belong to."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    counts: Counter[str]
    is_known: Callable[[str], bool]
    localise: Callable[[ListeningPoint, str], ListeningPoint]
    closed: bool
    tap: Callable[[bytes, Flow, bool], None] | None

    def on_message(self, data: bytes, flow: Flow) -> None:
        """One message came."""

    def on_unframed(self, head: bytes, flow: Flow, error: RemoteError) -> None:
        """A stream cannot be framed any more."""

    def failed(self, client: ClientTransaction) -> None:
        """A request was not delivered."""

    def tell(self, told: Callable[[str], None], failure: str) -> None:
        """Call this; a fault in it stops nobody else."""

    def flush(self) -> None:
        """Send what the stack has ready."""


class PeerNameError(Exception):
    """A certificate that is good, and another's."""


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
        self.flow = self.streams.adopt(self, host, port)

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
            for message in messages:
                self.edge.on_message(message, self.flow)
        if self.framer.skipped:
            self.framer.skipped = 0
            self.edge.counts["streams_resynchronised"] += 1
        if self.framer.error is not None:
            self._give_up(self.framer.error)
        elif self.framer.has_begun:
            self.streams.note_begun(self)
            if self.framer.is_open:
                self.edge.loop.call_later(SILENCE_SECONDS, self._end_open_body, self.last_used)

    def _end_open_body(self, since: float) -> None:
        """A body without Content-Length ends where nothing more comes."""
        if self.last_used == since and self.transport is not None and not self.transport.is_closing():
            self._deliver(self.framer.end_body())

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
        if self.unread_since is not None and self.unsent > MAX_UNSENT_BYTES:
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


class TlsListener:
    """Accepts TCP connections for TLS: who may connect is decided before a handshake costs anything."""

    def __init__(self, streams: "Streams", point: ListeningPoint, bind_host: str) -> None:
        """Raises OSError where the address cannot be had."""
        self.streams = streams
        self.loop = streams.edge.loop
        self.point = point
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        self.socket = socket.create_server((bind_host, point.port), family=family, backlog=BACKLOG)
        self.socket.setblocking(False)
        self.loop.add_reader(self.socket, self.on_readable)

    def on_readable(self) -> None:
        """Take what waits, some at a time."""
        for _ in range(ACCEPTED_PER_WAKEUP):
            try:
                taken, address = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory is left: others have to go first
                self.streams.edge.counts["accept_failed"] += 1
                log.error("cannot accept a connection: %s; tried again in a second", error)
                self.loop.remove_reader(self.socket)
                self.loop.call_later(1.0, self._go_on)
                return
            taken.setblocking(False)
            self.streams.accept_tls(taken, address[0].partition("%")[0], self.point)

    def _go_on(self) -> None:
        if self.socket.fileno() >= 0:
            self.loop.add_reader(self.socket, self.on_readable)

    def close(self) -> None:
        """Stop and close."""
        if self.socket.fileno() >= 0:
            self.loop.remove_reader(self.socket)
            self.socket.close()


class Opening:
    """A connection being opened, and what is to be sent on it."""

    def __init__(self) -> None:
        self.queue: list[tuple[bytes, ClientTransaction | None]] = []
        self.listeners: list[Told] = []


class Streams:
    """All connections of an edge.

    peer_of says for a flow to a TLS address without a TlsPeer what is to be proven there; may_alias whether requests
    may go to an address over a connection that it opened to us from another port (RFC 5923).
    """

    def __init__(
        self,
        edge: Edge,
        tls: TlsContexts | None = None,
        peer_of: Callable[[Flow], TlsPeer] = lambda flow: TlsPeer(flow.host, verified=False),
        may_alias: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.edge = edge
        self.tls = tls
        self.peer_of = peer_of
        self.may_alias = may_alias
        self.servers: list[asyncio.Server | TlsListener] = []
        self.connections: dict[int, Connection] = {}
        self.by_address: dict[Key, int] = {}
        self.opening: dict[Key, Opening] = {}
        self.buffer = memoryview(bytearray(STREAM_BUFFER))
        self.hosts: Counter[str] = Counter()
        """Accepted connections by the peer's address, those in a handshake included."""
        self.accepted = 0
        self.strangers = 0
        self.begun: set[Connection] = set()
        """Connections on which a message has begun and is not whole."""
        self.slow: set[Connection] = set()
        """Connections whose peer lets our bytes pile up."""
        self._next_connection = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- accepting ----

    async def listen(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a listener for TCP or TLS. Raises OSError where the address cannot be had."""

        if point.transport == "tls":
            self.servers.append(TlsListener(self, point, bind_host))
            return
        server = await self.edge.loop.create_server(
            lambda: Connection(self, point, accepted=True), bind_host, point.port, backlog=BACKLOG, reuse_address=True
        )
        self.servers.append(server)

    def admit(self, connection: Connection, host: str) -> bool:
        """Whether an accepted connection may stay; strangers are few, and never take a place of those we know."""
        known = self.edge.is_known(host)
        if known:
            full = self.hosts[host] >= MAX_CONNECTIONS_PER_HOST
            room = not full and (self.accepted - self.strangers < MAX_CONNECTIONS or self._make_room())
        else:
            room = self.strangers < MAX_STRANGERS
        if not room:
            self.edge.counts["connections_refused"] += 1
            return False
        connection.is_admitted = True
        connection.host = host
        self.hosts[host] += 1
        self.accepted += 1
        if not known:
            connection.is_stranger = True
            connection.framer.max_body = STRANGER_MESSAGE_BYTES
            self.strangers += 1
        return True

    def _make_room(self) -> bool:
        """End the accepted connection that nobody used for longest; False where none is idle."""
        limit = self.edge.now() - SPARE_IDLE_SECONDS
        idle = [one for one in self.connections.values() if one.accepted and not one.is_stranger]
        oldest = min(idle, key=lambda one: one.last_used, default=None)
        if oldest is None or oldest.last_used > limit:
            return False
        self._release(oldest)
        oldest.cut_off("connections_made_room")
        return True

    def _release(self, connection: Connection) -> None:
        """An admitted connection gives its place back."""
        if not connection.is_admitted:
            return
        connection.is_admitted = False
        host = connection.host
        self.hosts[host] -= 1
        if not self.hosts[host]:
            del self.hosts[host]
        self.accepted -= 1
        self.strangers -= connection.is_stranger

    def accept_tls(self, taken: socket.socket, host: str, point: ListeningPoint) -> None:
        """A TCP connection was accepted for TLS: begin its handshake, or close it."""
        context = self.tls.server() if self.tls is not None else None
        connection = Connection(self, point, accepted=True)
        if context is None:
            self.edge.counts["tls_without_certificate"] += 1
        elif self.admit(connection, host):
            self._start(self._shake_accepted(taken, connection, context))
            return
        taken.close()

    async def _shake_accepted(self, taken: socket.socket, connection: Connection, context: ssl.SSLContext) -> None:
        set_options(taken)
        try:
            await self.edge.loop.connect_accepted_socket(
                lambda: connection,
                taken,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except (OSError, TimeoutError) as error:
            self.edge.counts["tls_handshakes_failed"] += 1
            log.debug("TLS handshake of %s: %s", connection.host, error)
        finally:
            if connection.transport is None:
                self._release(connection)
                taken.close()

    def note_certificate(self, peer: TlsPeer, certificate: bytes) -> None:
        """A peer we called showed this certificate."""
        if self.tls is not None:
            self.tls.seen(peer, certificate)

    # ---- sending ----

    def send(self, flow: Flow, data: bytes, client: ClientTransaction | None) -> None:
        """Send on this very connection, else on one to the same address, else on a new one."""
        connection = self.connections.get(flow.connection) if flow.connection else None
        if connection is None and flow.reply_port:
            flow = flow._replace(port=flow.reply_port)
        if connection is None:
            connection = self.connection_to(flow)
        if connection is not None:
            self._send_on(connection, data, client)
            return
        opening = self.open(flow)
        if client is not None:
            client.unsent = True
        opening.queue.append((data, client))

    def _send_on(self, connection: Connection, data: bytes, client: ClientTransaction | None) -> None:
        connection.last_used = self.edge.now()
        if client is not None:
            if len(connection.waiting) > 1000:
                connection.waiting = {key: tx for key, tx in connection.waiting.items() if tx.owner is not None}
            connection.waiting[client.branch + client.method] = client
        connection.write(data)
        if self.edge.tap is not None:
            self.edge.tap(data, connection.flow, True)

    def connection_to(self, flow: Flow) -> Connection | None:
        """A living connection to the flow's address, or None; a verified one does also where any would."""
        for key in _keys(flow):
            connection = self.connections.get(self.by_address.get(key, 0))
            if connection is not None and connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    def keep(self, flow: Flow) -> None:
        """A connection that stands to this address is not idle."""
        connection = self.connection_to(flow)
        if connection is not None:
            connection.last_used = self.edge.now()

    def is_connected(self, identifier: int) -> bool:
        """True while the connection of this number lives."""
        connection = self.connections.get(identifier)
        return connection is not None and connection.transport is not None and not connection.transport.is_closing()

    def hold(self, flow: Flow, seconds: float) -> None:
        """Keep a connection for so long although nobody uses it."""
        connection = self.connections.get(flow.connection)
        if connection is not None and not connection.is_stranger:
            connection.held_until = self.edge.now() + seconds

    def distrust(self, flow: Flow) -> None:
        """Nothing came back over the connection to this address: the next request gets a new one."""
        connection = self.connection_to(flow)
        if connection is not None:
            self._unlist(connection)
            self.edge.counts["connections_distrusted"] += 1

    # ---- opening ----

    def open(self, flow: Flow) -> Opening:
        """Open a connection to the flow's address, or join the one being opened."""
        peer = flow.peer
        if flow.point.transport == "tls" and (peer is None or peer is UNCERTIFIED):
            peer = self.peer_of(flow)
        key = (flow.point.transport, flow.host, flow.port, peer)
        opening = self.opening.get(key)
        if opening is None:
            opening = self.opening[key] = Opening()
            self._start(self._open(key, flow.point, opening))
        return opening

    def reach(self, flow: Flow, told: Told) -> None:
        """Find out whether a connection to the flow's address can be had; told at once where there is one."""
        if self.connection_to(flow) is not None:
            told("")
            return
        self.open(flow).listeners.append(told)

    async def _open(self, key: Key, point: ListeningPoint, opening: Opening) -> None:
        connection: Connection | None = None
        failure = ""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect(key, point)
        except Exception as error:  # whatever it is, who waits must be told
            failure = failure_of(error)
            self.edge.counts["connect_failed"] += 1
            log.debug("no connection to %s:%s: %s: %s", key[1], key[2], failure, error)
        finally:
            self.opening.pop(key, None)
        if self.edge.closed:
            return
        for data, client in opening.queue:
            if connection is None:
                if client is not None:
                    self.edge.failed(client)
                continue
            if client is not None:
                if client.state is State.TERMINATED:
                    continue  # withdrawn while the connection was being opened
                client.unsent = False
            self._send_on(connection, data, client)
        for told in opening.listeners:
            self.edge.tell(told, failure)
        self.edge.flush()

    async def _connect(self, key: Key, point: ListeningPoint) -> Connection:
        """Raises OSError, TimeoutError or PeerNameError."""
        _, host, port, peer = key
        loop = self.edge.loop
        # From the address that our Via names: the peer may know us by it.
        local = None if point.base is not point or point.host in ("0.0.0.0", "::") else (point.host, 0)
        if peer is None:
            _, plain = await loop.create_connection(lambda: Connection(self, point), host, port, local_addr=local)
            return plain
        if self.tls is None:
            raise OSError("no TLS here")
        context = self.tls.client(peer)
        raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        connection = Connection(self, point, peer=peer)
        try:
            raw.setblocking(False)
            if local is not None:
                raw.bind(local)
            await loop.sock_connect(raw, (host, port))
            set_options(raw)
            try:
                await loop.create_connection(
                    lambda: connection,
                    sock=raw,
                    ssl=context,
                    server_hostname="" if peer.name.startswith("*") else peer.name,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )
            except (TimeoutError, ConnectionAbortedError):  # asyncio makes the one of the other
                raise _HandshakeTimeoutError from None
            except ConnectionError as error:
                raise ssl.SSLError(0, f"closed during the handshake: {error}") from None
        finally:
            if connection.transport is None:
                raw.close()
        if connection.failure:
            raise PeerNameError(f"the certificate does not name {peer.name}")
        return connection

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.edge.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- standing connections ----

    def adopt(self, connection: Connection, host: str, port: int) -> Flow:
        """A connection stands: give it a number, so that answers find it."""
        self._next_connection += 1
        identifier = self._next_connection
        self.connections[identifier] = connection
        connection.last_used = self.edge.now()
        transport = connection.point.transport
        self._list(connection, (transport, host, port, None), identifier)
        if connection.peer is not None and connection.peer is not UNCERTIFIED:
            self._list(connection, (transport, host, port, connection.peer), identifier)
        peer = connection.peer if connection.peer is UNCERTIFIED else None
        return Flow(self.edge.localise(connection.point, host), host, port, identifier, 0, peer)

    def learn_alias(self, connection: Connection, message: bytes) -> None:
        """RFC 5923: requests to the port that a peer's Via names go back over the connection it opened.

        Where it asks for it (;alias), or where may_alias says that nobody answers there anyway (phones). Only for the
        very address the connection comes from, so that nobody can draw another's requests to himself.
        """
        found = _TOP_VIA.search(message)
        if not connection.accepted or found is None:
            return
        sent_by = _SENT_BY.fullmatch(found[1])
        if sent_by is None or sent_by[1].strip(b"[]") != connection.host.encode():
            return
        if b";alias" not in found[2].replace(b" ", b"").lower() and not self.may_alias(connection.host):
            return
        transport = connection.point.transport
        port = int(sent_by[2] or (5061 if transport == "tls" else 5060))
        self._list(connection, (transport, connection.host, port, None), connection.flow.connection)

    def _list(self, connection: Connection, key: Key, identifier: int) -> None:
        self.by_address[key] = identifier
        if key not in connection.keys:
            connection.keys.append(key)

    def _unlist(self, connection: Connection) -> None:
        """Nobody finds it any more; what came over it is still answered there."""
        for key in connection.keys:
            if self.by_address.get(key) == connection.flow.connection:
                del self.by_address[key]
        connection.keys.clear()

    def forget(self, connection: Connection) -> None:
        """A connection ended: requests on it that have no answer fail."""
        self._release(connection)
        self.begun.discard(connection)
        self.slow.discard(connection)
        if connection.flow.connection not in self.connections:
            return
        del self.connections[connection.flow.connection]
        self._unlist(connection)
        if self.edge.closed:
            return
        for client in connection.waiting.values():
            if client.owner is not None:
                self.edge.failed(client)
        connection.waiting.clear()
        self.edge.flush()

    # ---- limits ----

    def note_begun(self, connection: Connection) -> None:
        """A message has begun on this connection and is not whole yet."""
        if connection.begun_at is None:
            connection.begun_at = self.edge.now()
            self.begun.add(connection)

    def sweep(self) -> None:
        """Once a second: end connections whose peer neither finishes what it began nor reads what we sent."""
        now = self.edge.now()
        for connection in [one for one in self.begun if one.begun_at is None]:
            self.begun.discard(connection)
        for connection in list(self.begun):
            if connection.begun_at is not None and now - connection.begun_at > MESSAGE_SECONDS:
                connection.cut_off("connections_stalled")
        for connection in list(self.slow):
            if connection.unread_since is not None and now - connection.unread_since > MAX_UNSENT_SECONDS:
                connection.cut_off("connections_cut_off")
        held = {one: len(one.framer.buffer) + one.unsent for one in self.begun | self.slow}
        excess = sum(held.values()) - MAX_BUFFERED_BYTES
        for connection in sorted(held, key=held.__getitem__, reverse=True):
            if excess <= 0:
                break
            excess -= held[connection]
            connection.cut_off("connections_cut_off")

    def close_idle(self) -> None:
        """Close connections that nobody used for IDLE_SECONDS (strangers sooner); called now and then."""
        now = self.edge.now()
        for connection in list(self.connections.values()):
            limit = STRANGER_IDLE_SECONDS if connection.is_stranger else IDLE_SECONDS
            idle = now - connection.last_used > limit and now > connection.held_until
            if idle and connection.transport is not None:
                self.edge.counts["connections_idle_closed"] += 1
                connection.transport.close()

    def close(self) -> None:
        """Close every listener and connection."""
        for server in self.servers:
            server.close()
        for connection in list(self.connections.values()):
            if connection.transport is not None:
                connection.transport.abort()
        for task in list(self._tasks):
            task.cancel()


class _HandshakeTimeoutError(TimeoutError):
    """The peer takes a TCP connection and says nothing in TLS."""


def failure_of(error: Exception) -> str:
    """The name of what stopped a connection from being opened, as in docs/reasons.md."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_FAILURES.get(error.verify_code, "certificate-invalid")
    if isinstance(error, PeerNameError):
        return "certificate-name"
    if isinstance(error, ssl.SSLError | _HandshakeTimeoutError):
        return "handshake-timeout" if isinstance(error, TimeoutError) else "handshake-failed"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "no-answer" if isinstance(error, TimeoutError) else "unreachable"


# The X509_V_ERR_… of OpenSSL's x509_vfy.h.
_VERIFY_FAILURES = {
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "certificate-untrusted",
    19: "certificate-untrusted",
    20: "certificate-untrusted",
    21: "certificate-untrusted",
    23: "certificate-revoked",
}


def _keys(flow: Flow) -> tuple[Key, ...]:
    transport, host, port, peer = flow.point.transport, flow.host, flow.port, flow.peer
    if peer is None or peer is UNCERTIFIED:
        return ((transport, host, port, None),)
    if peer.verified:
        return ((transport, host, port, peer),)
    return ((transport, host, port, peer._replace(verified=True)), (transport, host, port, peer))


def address_of(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """The peer's address, without an IPv6 scope, and port."""
    name = transport.get_extra_info("peername")
    if not name:  # gone already
        return "", 0
    return name[0].partition("%")[0], name[1]


def set_options(connection: asyncio.BaseTransport | socket.socket) -> None:
    """No delay, and keep-alives."""
    sock = connection if isinstance(connection, socket.socket) else connection.get_extra_info("socket")
    if sock is not None:
        for level, option, value in _KEEP_ALIVE:
            try:
                sock.setsockopt(level, option, value)
            except OSError:  # closed already
                return
