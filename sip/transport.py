"""The edge: UDP and TCP sockets under asyncio. The only file of this package that knows an event loop.

UDP is a non-blocking socket on `add_reader`, drained at each wake-up: asyncio's stock datagram protocol costs five
times as much a packet. TCP reads into one buffer of its own for the same reason.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable

from sip.errors import RemoteError
from sip.framing import PONG, StreamFramer
from sip.stack import ClientTransaction, Flow, ListeningPoint, Stack
from sip.transaction import State

log = logging.getLogger("sip.transport")

DATAGRAMS_PER_WAKEUP = 64
"""After so many the loop gets a turn, so that timers and streams are not starved by a flood."""
RECEIVE_BUFFER = 8 * 1024 * 1024
MAX_DATAGRAM = 65_535
STREAM_BUFFER = 65_536
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""A peer that reads this little is cut off; it may never make us hold back others, or run out of memory."""
IDLE_SECONDS = 600.0
MAX_CONNECTIONS = 10_000
CONNECT_SECONDS = 10.0
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

_IP_RECVERR = 11  # linux/in.h; not in the socket module
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_UNREACHABLE = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENONET)
_MESSAGE_TOO_LONG = errno.EMSGSIZE


Tap = Callable[[bytes, Flow, bool], None]
"""Told of each message as plain bytes, with the flow it came or went by, and whether we sent it. It runs on the
way of every call: it only keeps what it is given, and never raises."""


class UdpEndpoint:
    """One UDP socket."""

    def __init__(self, edge: "SipEdge", point: ListeningPoint, bind_host: str) -> None:
        self.edge = edge
        self.point = point
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        for option in (getattr(socket, "SO_RCVBUFFORCE", 33), socket.SO_RCVBUF):
            try:
                self.socket.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER)
                break
            except OSError:
                continue  # SO_RCVBUFFORCE needs a privilege
        if family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._ask_for_errors(socket.IPPROTO_IPV6, _IPV6_RECVERR)
        else:
            self._ask_for_errors(socket.IPPROTO_IP, _IP_RECVERR)
        self.socket.bind((bind_host, point.port))
        self.flows: dict[tuple[str, int], Flow] = {}

    def _ask_for_errors(self, level: int, option: int) -> None:
        # ICMP errors then come with the datagram they are about: a closed port is known in one round trip.
        try:
            self.socket.setsockopt(level, option, 1)
        except OSError:
            log.warning("no ICMP errors on this system; a closed UDP port costs its time-out")

    def on_readable(self) -> None:
        """Drain what has come, up to DATAGRAMS_PER_WAKEUP."""
        receive = self.socket.recvfrom
        edge = self.edge
        for _ in range(DATAGRAMS_PER_WAKEUP):
            try:
                data, address = receive(MAX_DATAGRAM)
            except BlockingIOError:
                break
            except OSError:
                self.read_errors()
                continue
            key = (address[0], address[1])
            flow = self.flows.get(key)
            if flow is None:
                flow = self.flow_of(key)
            edge.on_message(data, flow)

    def flow_of(self, key: tuple[str, int]) -> Flow:
        """The flow of a source address; the usual ones are kept."""
        if len(self.flows) > 20_000:
            self.flows.clear()
        host = key[0].partition("%")[0]
        flow = self.flows[key] = Flow(self.edge.localise(self.point, host), host, key[1])
        return flow

    def send(self, data: bytes, host: str, port: int) -> int:
        """Send a datagram. Returns 0, or the errno of an error that is about this datagram."""
        for _ in range(4):
            try:
                self.socket.sendto(data, (host, port))
                return 0
            except BlockingIOError:
                self.edge.counts["udp_send_buffer_full"] += 1
                return errno.EAGAIN
            except OSError as error:
                if self.read_errors():
                    continue  # an ICMP error about an earlier datagram (any error number); this one was not sent
                return error.errno or errno.EIO
        return errno.EIO

    def read_errors(self) -> int:
        """Read the socket's error queue; tell the stack which of our requests could not be delivered."""
        count = 0
        while _MSG_ERRQUEUE:
            try:
                quoted, ancillary, _, _ = self.socket.recvmsg(2048, 1024, _MSG_ERRQUEUE)
            except OSError:
                break
            count += 1
            for level, kind, data in ancillary:
                if (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                    number = struct.unpack_from("=I", data)[0]
                    if number in _UNREACHABLE:
                        self.edge.on_unreachable(quoted)
        return count

    def close(self) -> None:
        """Stop and close."""
        self.edge.loop.remove_reader(self.socket)
        self.socket.close()


class Connection(asyncio.BufferedProtocol):
    """One TCP connection, accepted or opened."""

    def __init__(self, edge: "SipEdge", point: ListeningPoint, *, accepted: bool = False) -> None:
        self.edge = edge
        self.point = point
        self.accepted = accepted
        self.is_stranger = False
        self.framer = StreamFramer()
        self.transport: asyncio.Transport | None = None
        self.flow = Flow(point, "", 0)
        self.last_used = 0.0
        self.waiting: dict[bytes, ClientTransaction] = {}
        """Requests sent here that have no answer yet: they fail when the connection does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        self.flow = self.edge.adopt(self, host.partition("%")[0], port)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            for level, option, value in _KEEP_ALIVE:
                sock.setsockopt(level, option, value)
        if self.accepted and not self.edge.admits(self):
            self.edge.counts["connections_refused"] += 1
            transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.edge.stream_buffer

    def buffer_updated(self, nbytes: int) -> None:
        edge = self.edge
        self.last_used = edge.now()
        messages = self.framer.feed(edge.stream_buffer[:nbytes])
        if self.framer.pings:
            self.write(PONG * self.framer.pings)
            self.framer.pings = 0
        for message in messages:
            edge.on_message(message, self.flow)
        if self.framer.error is not None:
            self._give_up(self.framer.error)

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
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.edge.counts["connections_cut_off"] += 1
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.edge.forget(self)


class Opening:
    """A connection being opened, and what is to be sent on it."""

    def __init__(self) -> None:
        self.queue: list[tuple[bytes, ClientTransaction | None]] = []
        self.listeners: list[Callable[[bool], None]] = []


class SipEdge:
    """All sockets of a node, and the stack behind them.

    on_error is told of exceptions that our own code raised while it treated a message: the process goes on, the
    message is lost, the fault is loud. is_known says whether an address is in a listed network: strangers get few
    connections and little memory. localise gives for a wildcard listening point and a peer's address the point
    with the address that the peer sees.
    """

    def __init__(
        self,
        stack: Stack,
        on_error: Callable[[str, bytes], None],
        localise: Callable[[ListeningPoint, str], ListeningPoint] = lambda point, _: point,
        is_known: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.is_known = is_known
        self.stack = stack
        self.localise = localise
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.on_error = on_error
        self.counts: Counter[str] = Counter()
        self.udp: dict[ListeningPoint, UdpEndpoint] = {}
        self.servers: list[asyncio.Server] = []
        self.connections: dict[int, Connection] = {}
        self.by_address: dict[tuple[str, str, int], int] = {}
        self.opening: dict[tuple[str, str, int], Opening] = {}
        self.tap: Tap | None = None
        """Who follows the messages; None, as nearly always, costs one test per message."""
        self.stream_buffer = memoryview(bytearray(STREAM_BUFFER))
        self._next_connection = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    # ---- listening ----

    def listen_udp(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a UDP socket. Raises OSError where the address cannot be had."""
        endpoint = UdpEndpoint(self, point, bind_host)
        self.udp[point] = endpoint
        self.loop.add_reader(endpoint.socket, endpoint.on_readable)

    async def listen_tcp(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a TCP listener. Raises OSError where the address cannot be had."""
        server = await self.loop.create_server(
            lambda: Connection(self, point, accepted=True), bind_host, point.port, backlog=1024, reuse_address=True
        )
        self.servers.append(server)

    async def close(self) -> None:
        """Close every socket."""
        self.closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for endpoint in self.udp.values():
            endpoint.close()
        for server in self.servers:
            server.close()
        for connection in list(self.connections.values()):
            if connection.transport is not None:
                connection.transport.abort()
        for task in list(self._tasks):
            task.cancel()

    # ---- in ----

    def on_message(self, data: bytes, flow: Flow) -> None:
        """One message from the network: to the stack, then send what it asks, then wait for its next timer."""
        if self.tap is not None:
            self.tap(data, flow, False)
        try:
            self.stack.receive(data, flow, self.now())
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", data)
        self.flush()

    def on_unreachable(self, quoted: bytes) -> None:
        """An ICMP error about a datagram of ours."""
        self.counts["icmp_errors"] += 1
        try:
            self.stack.unreachable(quoted, self.now())
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", quoted)
        self.loop.call_soon(self.flush)

    def on_unframed(self, head: bytes, flow: Flow, error: RemoteError) -> None:
        """A stream that cannot be framed any more."""
        if self.tap is not None and head:
            self.tap(head, flow, False)
        try:
            self.stack.refuse_unframed(head, flow, error)
        except Exception as fault:
            self.on_error(f"{type(fault).__name__}: {fault}", head)
        self.flush()

    def on_alarm(self) -> None:
        """The next timer is due."""
        self._alarm = None
        self._alarm_at = float("inf")
        # What has come already may make a timer needless: under load an answer waits in the socket while its request
        # would be sent again.
        for endpoint in list(self.udp.values()):
            endpoint.on_readable()
        for _ in range(100):
            try:
                self.stack.advance(self.now())
                break
            except Exception as error:
                self.on_error(f"{type(error).__name__}: {error}", b"")
        self.flush()

    # ---- out ----

    def flush(self) -> None:
        """Send all that the stack has ready, then set the alarm."""
        out = self.stack.out
        while out:
            batch = out.copy()
            out.clear()
            for flow, data, client in batch:
                if not flow.point.reliable:
                    endpoint = self.udp.get(flow.point.base)
                    failed = endpoint.send(data, flow.host, flow.port) if endpoint else errno.ENETUNREACH
                    if failed and client is not None and failed != errno.EAGAIN:
                        self._failed(client)
                    elif failed:
                        self.counts[f"udp_send_{errno.errorcode.get(failed, failed)}"] += 1
                    elif self.tap is not None:
                        self.tap(data, flow, True)
                else:
                    self.send_stream(flow, data, client)
        earliest = self.stack.queue.earliest
        if earliest < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = earliest
            self._alarm = self.loop.call_at(earliest, self.on_alarm)

    def _failed(self, client: ClientTransaction) -> None:
        """Tell the stack that a request was not delivered; a fault in its owner loses no other message."""
        try:
            self.stack.transport_failed(client, self.now())
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", client.data)

    def send_stream(self, flow: Flow, data: bytes, client: ClientTransaction | None) -> None:
        """Send on this very connection, else on one to the same address, else on a new one."""
        connection = self.connections.get(flow.connection) if flow.connection else None
        if connection is None and flow.reply_port:
            flow = flow._replace(port=flow.reply_port)
        if connection is None:
            connection = self.connection_to(flow)
        if connection is not None:
            connection.last_used = self.now()
            connection.write(data)
            if self.tap is not None:
                self.tap(data, connection.flow, True)
            if client is not None:
                if len(connection.waiting) > 1000:
                    connection.waiting = {key: tx for key, tx in connection.waiting.items() if tx.owner is not None}
                connection.waiting[client.branch + client.method] = client
            return
        opening = self.open(flow)
        if client is not None:
            client.unsent = True
        opening.queue.append((data, client))

    def admits(self, connection: Connection) -> bool:
        """Whether an accepted connection may stay; strangers are few, and never take a place of those we know."""
        if self.is_known(connection.flow.host):
            return sum(other.accepted for other in self.connections.values()) <= MAX_CONNECTIONS
        connection.is_stranger = True
        connection.framer.max_body = STRANGER_MESSAGE_BYTES
        return sum(other.is_stranger for other in self.connections.values()) <= MAX_STRANGERS

    def distrust(self, flow: Flow) -> None:
        """Nothing came back over the connection to this address: the next request gets a new one."""
        if self.by_address.pop((flow.point.transport, flow.host, flow.port), None) is not None:
            self.counts["connections_distrusted"] += 1

    def connection_to(self, flow: Flow) -> Connection | None:
        """A living connection to the flow's address, or None."""
        identifier = self.by_address.get((flow.point.transport, flow.host, flow.port))
        return self.connections.get(identifier) if identifier is not None else None

    def open(self, flow: Flow) -> Opening:
        """Open a connection to the flow's address, or join the one being opened."""
        key = (flow.point.transport, flow.host, flow.port)
        opening = self.opening.get(key)
        if opening is None:
            opening = self.opening[key] = Opening()
            task = self.loop.create_task(self._open(key, flow.point, opening))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return opening

    def reach(self, flow: Flow, told: Callable[[bool], None]) -> None:
        """Find out whether a connection to the flow's address can be had; told at once where there is one."""
        if self.connection_to(flow) is not None:
            told(True)
            return
        self.open(flow).listeners.append(told)

    async def _open(self, key: tuple[str, str, int], point: ListeningPoint, opening: Opening) -> None:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # From the address that our Via names: the peer may know us by it.
                local = None if point.base is not point or point.host in ("0.0.0.0", "::") else (point.host, 0)
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self, point), key[1], key[2], local_addr=local
                )
        except (OSError, TimeoutError) as error:
            self.counts["connect_failed"] += 1
            log.debug("no connection to %s:%s: %s", key[1], key[2], error)
        finally:
            self.opening.pop(key, None)
        if self.closed:
            return
        for data, client in opening.queue:
            if connection is None:
                if client is not None:
                    self._failed(client)
                continue
            if client is not None:
                if client.state is State.TERMINATED:
                    continue  # withdrawn while the connection was being opened
                client.unsent = False
                connection.waiting[client.branch + client.method] = client
            connection.write(data)
            if self.tap is not None:
                self.tap(data, connection.flow, True)
        for told in opening.listeners:
            told(connection is not None)
        self.flush()

    def adopt(self, connection: Connection, host: str, port: int) -> Flow:
        """A connection stands: give it a number, so that answers find it."""
        self._next_connection += 1
        identifier = self._next_connection
        self.connections[identifier] = connection
        self.by_address[(connection.point.transport, host, port)] = identifier
        connection.last_used = self.now()
        return Flow(self.localise(connection.point, host), host, port, identifier)

    def forget(self, connection: Connection) -> None:
        """A connection ended: requests on it that have no answer fail."""
        flow = connection.flow
        self.connections.pop(flow.connection, None)
        key = (flow.point.transport, flow.host, flow.port)
        if self.by_address.get(key) == flow.connection:
            del self.by_address[key]
        if self.closed:
            return
        for client in connection.waiting.values():
            if client.owner is not None:
                self._failed(client)
        connection.waiting.clear()
        self.flush()

    def close_idle(self) -> None:
        """Close connections that nobody used for IDLE_SECONDS; called now and then."""
        limit = self.now() - IDLE_SECONDS
        for connection in list(self.connections.values()):
            if connection.last_used < limit and connection.transport is not None:
                self.counts["connections_idle_closed"] += 1
                connection.transport.close()
