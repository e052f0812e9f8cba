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
from typing import Any, Protocol

from sip import stream_limits as limits
from sip.errors import RemoteError
from sip.flow import UNCERTIFIED, Flow, ListeningPoint, TlsPeer
from sip.machines import ClientTransaction
from sip.transaction import State
from sip.transport_connection import Connection
from sip.transport_tls import Pace, TlsContexts, TlsListener, accept_handshake, failure_of, open_tls

log = logging.getLogger("sip.transport")

_TOP_VIA = re.compile(
    rb"\r\n(?:via|v)[ \t]*:[ \t]*SIP *\/ *2\.0 *\/ *T(?:CP|LS)[ \t]+([^;,\s]+)([^,\r\n]*)", re.IGNORECASE
)
_SENT_BY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")

Key = tuple[str, str, int, TlsPeer | None]
"""What a connection is found by: transport, host, port, and for TLS what its certificate was to prove."""

Told = Callable[[str], None]
"""Told how opening a connection ended: with an empty string, or the name of the failure."""


class Edge(Protocol):
    """What streams need of the edge they belong to."""

    loop: asyncio.AbstractEventLoop
    now: Callable[[], float]
    counts: Counter[str]
    is_known: Callable[[str], bool]
    is_urgent: Callable[[bytes, bytes, Flow], bool]
    localise: Callable[[ListeningPoint, str], ListeningPoint]
    closed: bool
    tap: Callable[[bytes, Flow, bool], None] | None

    def on_messages(self, messages: list[bytes], flow: Flow) -> None:
        """Messages came, by one read."""

    def on_unframed(self, head: bytes, flow: Flow, error: RemoteError) -> None:
        """A stream cannot be framed any more."""

    def failed(self, client: ClientTransaction) -> None:
        """A request was not delivered."""

    def tell(self, told: Callable[[str], None], failure: str) -> None:
        """Call this; a fault in it stops nobody else."""

    def flush(self) -> None:
        """Send what the stack has ready."""


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
        self.weak_peers: set[str] = set()
        """Names of peers that were said to choose a shorter key than they might."""
        self.opening: dict[Key, Opening] = {}
        self.took: dict[tuple[str, str, int], float] = {}
        """Seconds that the last connection to an address took to be opened, its handshake included."""
        self.buffer = memoryview(bytearray(limits.STREAM_BUFFER))
        self.hosts: Counter[str] = Counter()
        """Accepted connections by the peer's address, those in a handshake included."""
        self.accepted = 0
        self.strangers = 0
        self.begun: set[Connection] = set()
        """Connections on which a message has begun and is not whole."""
        self.slow: set[Connection] = set()
        """Connections whose peer lets our bytes pile up."""
        self.pace = Pace(edge.loop)
        self._next_connection = 0
        self._warned_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- accepting ----

    async def listen(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a listener for TCP or TLS. Raises OSError where the address cannot be had."""

        if point.transport == "tls":
            self.servers.append(TlsListener(self, point, bind_host))
            return
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        listening = socket.create_server((bind_host, point.port), family=family, backlog=limits.BACKLOG)
        # asyncio takes up to its backlog of connections in one turn of the loop, and where no descriptor is left it
        # fails, and says so, as often: calls would wait for that. So many wait in the kernel all the same.
        server = await self.edge.loop.create_server(
            lambda: Connection(self, point, accepted=True), sock=listening, backlog=limits.ACCEPTED_PER_WAKEUP
        )
        listening.listen(limits.BACKLOG)
        self.servers.append(server)

    def admit(self, connection: Connection, host: str) -> bool:
        """Whether an accepted connection may stay; strangers are few, and never take a place of those we know."""
        known = self.edge.is_known(host)
        if known:
            full = self.hosts[host] >= limits.MAX_CONNECTIONS_PER_HOST
            room = not full and (self.accepted - self.strangers < limits.MAX_CONNECTIONS or self._make_room())
        else:
            room = self.strangers < limits.MAX_STRANGERS
        if not room:
            self.edge.counts["connections_refused"] += 1
            return False
        connection.is_admitted = True
        connection.host = host
        self.hosts[host] += 1
        self.accepted += 1
        if not known:
            connection.is_stranger = True
            connection.framer.max_body = limits.STRANGER_MESSAGE_BYTES
            self.strangers += 1
        return True

    def _make_room(self) -> bool:
        """End the accepted connection that nobody used for longest; False where none is idle."""
        limit = self.edge.now() - limits.SPARE_IDLE_SECONDS
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
        done = False
        try:
            done = await accept_handshake(self.pace, taken, connection, context)
        finally:
            if not done:
                self.edge.counts["tls_handshakes_failed"] += 1
                self._release(connection)

    def note_certificate(self, peer: TlsPeer, certificate: bytes) -> None:
        """A peer we called showed this certificate."""
        if self.tls is not None:
            self.tls.seen(peer, certificate)

    def note_cipher(self, peer: TlsPeer, cipher: tuple[str, str, int] | None) -> None:
        """A peer that we called chose this one of ours: name, protocol and bits of its key."""
        if cipher is None or cipher[2] >= limits.FULL_KEY_BITS:
            return
        self.edge.counts["tls_below_256_bits"] += 1
        if peer.name not in self.weak_peers:
            self.weak_peers.add(peer.name)
            log.warning(
                "TLS to %s goes by %s, a key of %d bits: NG9-1-1 (NENA i3) asks for AES-256, which is offered first",
                *(peer.name, cipher[0], cipher[2]),
            )

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
            client.unsent = client.state is not State.PROCEEDING  # an INVITE sent again has left before
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

    def renew(self, flow: Flow) -> None:
        """Nothing came back over the connection to this address: a new one takes its place as soon as it stands, and
        until then the old one is used. The peer may only be one that does not answer what it was asked."""
        old = self.connection_to(flow)
        if old is None:
            return

        def told(failure: str) -> None:
            if failure:
                self._unlist(old)

        self.edge.counts["connections_distrusted"] += 1
        self.open(flow).listeners.append(told)

    def line_seconds(self, flow: Flow) -> float:
        """How much of the time to an answer the line takes: a round trip, and where no connection stands its opening,
        as long as the last one took. 0 for UDP, and where none was ever opened."""
        transport = flow.point.transport
        took = self.took.get((transport, flow.host, flow.port), 0.0)
        round_trip = took / 2 if transport == "tls" else took  # TCP costs one round trip, TLS at least one more
        return round_trip if self.connection_to(flow) is not None else took + round_trip

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
        began = self.edge.now()
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                connection = await self._connect(key, point)
            if len(self.took) >= limits.KNOWN_LINES:
                self.took.clear()
            self.took[key[:3]] = self.edge.now() - began
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
        connection = Connection(self, point, peer=peer)
        await open_tls(loop, connection, (host, port), local, self.tls.client(peer), peer.name)
        return connection

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.edge.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- standing connections ----

    def adopt(self, connection: Connection, host: str, port: int, scoped: str) -> Flow:
        """A connection stands: give it a number, so that answers find it. scoped: the host with its interface."""
        self._next_connection += 1
        identifier = self._next_connection
        self.connections[identifier] = connection
        connection.last_used = self.edge.now()
        transport = connection.point.transport
        self._list(connection, (transport, host, port, None), identifier)
        if connection.peer is not None and connection.peer is not UNCERTIFIED:
            self._list(connection, (transport, host, port, connection.peer), identifier)
        peer = connection.peer if connection.peer is UNCERTIFIED else None
        return Flow(self.edge.localise(connection.point, scoped), host, port, identifier, 0, peer)

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
        self._warn_when_full(now)
        for connection in [one for one in self.begun if one.begun_at is None]:
            self.begun.discard(connection)
        for connection in list(self.begun):
            if connection.begun_at is not None and now - connection.begun_at > limits.MESSAGE_SECONDS:
                connection.end_stalled()
        for connection in list(self.slow):
            if connection.unread_since is not None and now - connection.unread_since > limits.MAX_UNSENT_SECONDS:
                connection.cut_off("connections_cut_off")
        held = self._held()
        excess = sum(held.values()) - limits.MAX_BUFFERED_BYTES
        for connection in sorted(held, key=held.__getitem__, reverse=True):
            if excess <= 0:
                break
            excess -= held[connection]
            connection.cut_off("connections_cut_off")

    def _warn_when_full(self, now: float) -> None:
        """Loud before the limit is reached, once a minute."""
        if self.accepted - self.strangers < limits.MAX_CONNECTIONS * limits.NEARLY or now < self._warned_until:
            return
        self._warned_until = now + 60.0
        self.edge.counts["connections_nearly_full"] += 1
        host, most = self.hosts.most_common(1)[0]
        log.error(
            "%d connections are open, %d may be; then each new one ends the one idle longest; most (%d) are of %s",
            self.accepted,
            limits.MAX_CONNECTIONS,
            most,
            host,
        )

    def _held(self) -> dict[Connection, int]:
        return {one: len(one.framer.buffer) + one.unsent for one in self.begun | self.slow}

    def held_bytes(self) -> int:
        """Bytes of messages begun and not whole yet, and of those not sent yet, of all connections."""
        return sum(self._held().values())

    def close_idle(self) -> None:
        """Close connections that nobody used for IDLE_SECONDS (strangers sooner); called now and then."""
        now = self.edge.now()
        for connection in list(self.connections.values()):
            limit = limits.STRANGER_IDLE_SECONDS if connection.is_stranger else limits.IDLE_SECONDS
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


def _keys(flow: Flow) -> tuple[Key, ...]:
    transport, host, port, peer = flow.point.transport, flow.host, flow.port, flow.peer
    if peer is None or peer is UNCERTIFIED:
        return ((transport, host, port, None),)
    if peer.verified:
        return ((transport, host, port, peer),)
    return ((transport, host, port, peer._replace(verified=True)), (transport, host, port, peer))
