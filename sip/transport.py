"""The edge: the sockets of a node under asyncio. Only the files called transport… know an event loop.

UDP is a non-blocking socket on `add_reader`, drained at each wake-up: asyncio's stock datagram protocol costs five
times as much a packet. TCP and TLS begin in sip/transport_streams.py.
"""

import asyncio
import errno
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from sip.errors import RemoteError
from sip.flow import Flow, ListeningPoint, TlsPeer
from sip.machines import ClientTransaction
from sip.stack import Stack
from sip.stun import binding_response
from sip.transport_streams import Streams, Told
from sip.transport_tls import TlsContexts

log = logging.getLogger("sip.transport")

DATAGRAMS_PER_WAKEUP = 32
"""After so many the loop gets a turn, so that timers and streams are not starved by a flood."""
RECEIVE_BUFFER = 8 * 1024 * 1024
MAX_DATAGRAM = 65_535

_IP_RECVERR = 11  # linux/in.h; not in the socket module
_IPV6_RECVERR = 25
_MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_UNREACHABLE = frozenset(
    {
        errno.ECONNREFUSED,  # a closed port
        errno.EHOSTUNREACH,  # no such host; an IPv4 firewall that says no; a routing loop
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.ENOPROTOOPT,  # a host without UDP
        errno.EACCES,  # an IPv6 firewall that says no, or a route that rejects
    }
)
"""What the kernel makes of ICMP errors that say a datagram has not arrived (Linux net/ipv4/icmp.c, net/ipv6/icmp.c).
The others, EMSGSIZE above all, are about how, not whether."""
_MESSAGE_TOO_LONG = errno.EMSGSIZE


READ_AT_ONCE = 400
"""Datagrams of one wake-up while there is an overload: they are only sorted, and treated by turns."""
FULL_READS = 8
"""After so many full wake-ups in a row there is one."""

BUSY_SECONDS = 0.05
"""Streams that keep the loop busy for so long without a pause, with BUSY_MESSAGES, are an overload, too."""
BUSY_MESSAGES = 32
PAUSE_SECONDS = 0.0005
"""Less time than this between two messages is no pause: the loop looks after its sockets meanwhile."""
BATCH = 8
"""So many messages of one read have waited for it, and so less than BATCH_PAUSE_SECONDS before it was no pause."""
BATCH_PAUSE_SECONDS = 0.02
READS_AHEAD = 10
"""So often streams that bring batches are read before the next turn: what comes last may be the 911 call."""
FLUSHED_AFTER = 16
"""Messages of one read of a stream, of which what they ask is sent together."""

SHUNNED = Flow(ListeningPoint("udp", "", 0), "", 0)
"""In place of the flow of a source whose datagrams are dropped unread for a moment."""


class Waiting(Protocol):
    """Where messages wait for their turn while more comes than can be treated (router.calls.overload)."""

    is_on: bool

    @property
    def is_urgent(self) -> bool:
        """True where an emergency call waits."""
        ...

    def begin(self) -> None:
        """The sockets hold more than can be treated at once."""

    def end(self) -> None:
        """All has been treated."""

    def add(self, data: bytes, flow: Flow) -> None:
        """One message that waits."""

    def turn(self) -> bool:
        """Treat what is due, for some milliseconds; True where something is left."""


Tap = Callable[[bytes, Flow, bool], None]
"""Told of each message as plain bytes, with the flow it came or went by, and whether we sent it. It runs on the
way of every call: it only keeps what it is given, and never raises."""


_LEAST_SIP = 0x0E
"""SIP begins with a letter; the first bytes of line breaks, zeros and STUN are below this."""


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
        self.sendto = self.socket.sendto if family == socket.AF_INET else self._send_in_scope
        self.scopes: dict[str, int] = {}
        """By link-local address: the interface it was heard at (RFC 4007). No SIP URI names one."""
        self.flows: dict[tuple[str, int] | tuple[str, int, int, int], Flow] = {}
        self.buffer = memoryview(bytearray(MAX_DATAGRAM))
        self.full_reads = 0
        """Wake-ups in a row that left something unread."""

    def _ask_for_errors(self, level: int, option: int) -> None:
        # ICMP errors then come with the datagram they are about: a closed port is known in one round trip.
        try:
            self.socket.setsockopt(level, option, 1)
        except OSError:
            log.warning("no ICMP errors on this system; a closed UDP port costs its time-out")

    def on_readable(self) -> None:
        """Take what has come, up to DATAGRAMS_PER_WAKEUP, then send all that it asks for.

        What came together is treated before anything is sent: one journal write does for all of it.
        """
        receive = self.socket.recvfrom_into
        buffer = self.buffer
        edge = self.edge
        flows = self.flows
        waiting = edge.waiting
        if waiting is not None and waiting.is_on:
            take, most = waiting.add, READ_AT_ONCE
        else:
            take, most = edge.take, DATAGRAMS_PER_WAKEUP
        for _ in range(most):
            try:
                size, address = receive(buffer)
            except BlockingIOError:
                self.full_reads = 0
                break
            except OSError:
                self.read_errors()
                continue
            flow = flows.get(address)
            if flow is SHUNNED:
                edge.counts["shunned"] += 1
                continue
            may_be_none = not size or buffer[0] < _LEAST_SIP
            if may_be_none and self.is_keep_alive(buffer[:size].tobytes(), address[0], address[1]):
                continue
            if flow is None:
                flow = self.flow_of(address)
            take(buffer[:size].tobytes(), flow)
        else:
            self.full_reads += 1
        edge.after_reading(self)

    def is_keep_alive(self, data: bytes, host: str, port: int) -> bool:
        """True for what only keeps a NAT open (RFC 5626 section 4.4): line breaks, zeros, nothing, or STUN, which is
        answered where we know the source."""
        if not data.strip(b"\r\n\0"):
            self.edge.counts["keep_alives"] += 1
            return True
        host = host.partition("%")[0]
        answer = binding_response(data, host, port)
        if answer is None:
            return False
        if self.edge.is_known(host):
            self.edge.counts["keep_alives"] += 1
            self.send(answer, host, port)
        return True

    def flow_of(self, address: tuple[str, int] | tuple[str, int, int, int]) -> Flow:
        """The flow of a source address; the usual ones are kept."""
        if len(self.flows) > 20_000:
            self.flows.clear()
        host = scoped = address[0].partition("%")[0]
        if len(address) == 4 and address[3]:
            if len(self.scopes) > 20_000:
                self.scopes.clear()
            self.scopes[host] = address[3]
            scoped = f"{host}%{address[3]}"
        flow = self.flows[address] = Flow(self.edge.localise(self.point, scoped), host, address[1])
        return flow

    def _send_in_scope(self, data: bytes, address: tuple[str, int]) -> int:
        """Send by IPv6; what is link-local by the interface it was heard at: a host with several has no other way to
        know."""
        scope = self.scopes.get(address[0])
        return self.socket.sendto(data, address if scope is None else (*address, 0, scope))

    def shun(self, host: str, port: int, seconds: float) -> None:
        """Drop what comes from this address and port unread, for so long."""
        for address in [one for one in self.flows if one[0].partition("%")[0] == host and one[1] == port]:
            self.flows[address] = SHUNNED
            self.edge.loop.call_later(seconds, self.flows.pop, address, None)

    def forget_sources(self) -> None:
        """Of a wildcard: the address that a peer sees of us may have changed since its flow was made."""
        if self.point.host in ("0.0.0.0", "::"):
            self.flows.clear()

    def send(self, data: bytes, host: str, port: int) -> int:
        """Send a datagram. Returns 0, or the errno of an error that is about this datagram."""
        try:
            self.sendto(data, (host, port))
        except OSError as error:
            return self.send_again(error, data, host, port)
        return 0

    def send_again(self, error: OSError, data: bytes, host: str, port: int) -> int:
        """The same where it was tried, and this error came."""
        for _ in range(3):
            if isinstance(error, BlockingIOError):
                self.edge.counts["udp_send_buffer_full"] += 1
                return errno.EAGAIN
            if not self.read_errors():
                return error.errno or errno.EIO
            # It was an ICMP error about an earlier datagram (any error number); this one was not sent.
            try:
                self.sendto(data, (host, port))
            except OSError as again:
                error = again
            else:
                return 0
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
        *,
        tls: TlsContexts | None = None,
        peer_of: Callable[[Flow], TlsPeer] = lambda flow: TlsPeer(flow.host, verified=False),
        may_alias: Callable[[str], bool] = lambda _: True,
        is_urgent: Callable[[bytes, bytes, Flow], bool] = lambda *_: False,
    ) -> None:
        self.is_urgent = is_urgent
        """By method, Request-URI and source: a request that is served with as much of its body as came."""
        self.is_known = is_known
        self.stack = stack
        self.localise = localise
        self.loop = asyncio.get_running_loop()
        # The standard loop's clock, without the two functions of Python around it.
        is_standard = getattr(type(self.loop), "time", None) is asyncio.BaseEventLoop.time
        self.now: Callable[[], float] = time.monotonic if is_standard else self.loop.time
        self.on_error = on_error
        self.counts: Counter[str] = Counter()
        self.udp: dict[ListeningPoint, UdpEndpoint] = {}
        self.before_sending: Callable[[], None] = lambda: None
        """Called before what is ready is sent: what must be on the disk first is written once for all of it."""
        self.tap: Tap | None = None
        """Who follows the messages; None, as nearly always, costs one test per message."""
        self.waiting: Waiting | None = None
        """Where messages wait while there is an overload; None treats each as it comes, whatever comes."""
        self._has_turn = False
        self._busy_since = self._busy_until = 0.0
        self._busy_messages = 0
        """Since when, until when and with how many messages streams have kept the loop busy."""
        self._brought_batch = False
        self._reads_ahead = 0
        self.streams = Streams(self, tls, peer_of, may_alias)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self.closed = False

    # ---- listening ----

    def listen_udp(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a UDP socket. Raises OSError where the address cannot be had."""
        endpoint = UdpEndpoint(self, point, bind_host)
        self.udp[point] = endpoint
        self.loop.add_reader(endpoint.socket, endpoint.on_readable)

    async def listen_stream(self, point: ListeningPoint, bind_host: str) -> None:
        """Open a TCP or TLS listener. Raises OSError where the address cannot be had."""
        await self.streams.listen(point, bind_host)

    def forget_sources(self) -> None:
        """Have flows made anew where our own address is not fixed; called every few seconds."""
        for endpoint in self.udp.values():
            endpoint.forget_sources()

    async def close(self) -> None:
        """Close every socket."""
        self.closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for endpoint in self.udp.values():
            endpoint.close()
        self.streams.close()

    # ---- in ----

    def take(self, data: bytes, flow: Flow) -> None:
        """One message from the network, to the stack; what it asks is sent by the next `flush`."""
        if self.tap is not None:
            self.tap(data, flow, False)
        try:
            self.stack.receive(data, flow, self.now())
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", data)

    def after_reading(self, endpoint: UdpEndpoint) -> None:
        """Send what the messages read asked for; where there is an overload, treat some first."""
        waiting = self.waiting
        if waiting is not None:
            if waiting.is_on:
                if not self._has_turn:
                    self._take_turn()
                return
            if endpoint.full_reads >= FULL_READS:
                waiting.begin()
        self.flush()
        if self._busy_messages:
            self._busy_until = self.now()

    def on_messages(self, messages: list[bytes], flow: Flow) -> None:
        """What one read of a stream brought: to the stack, then send what it asks; in an overload it waits for its
        turn. Of one connection, too, a 911 call goes before what came before it."""
        waiting = self.waiting
        began = self.now()
        if began - self._busy_until > (PAUSE_SECONDS if len(messages) < BATCH else BATCH_PAUSE_SECONDS):
            self._busy_since, self._busy_messages = began, 0
        for number, message in enumerate(messages, 1):
            if waiting is not None and waiting.is_on:
                waiting.add(message, flow)
                continue
            self.take(message, flow)
            self._busy_messages += 1
            if not number % FLUSHED_AFTER:
                self.flush()
            if waiting is not None and self._busy_messages >= BUSY_MESSAGES:
                self._busy_until = self.now()
                if self._busy_until - self._busy_since > BUSY_SECONDS:
                    self._busy_messages = 0
                    waiting.begin()
        if waiting is not None and waiting.is_on:
            self._brought_batch = len(messages) >= BATCH
            if not self._has_turn:
                self._take_turn()
            return
        self.flush()
        self._busy_until = self.now()

    def _take_turn(self) -> None:
        """A turn of what waits; then the sockets and timers have theirs, and so on until nothing waits."""
        self._has_turn = False
        waiting = self.waiting
        if waiting is None or self.closed:
            return
        if self._brought_batch and self._reads_ahead < READS_AHEAD and not waiting.is_urgent:
            self._brought_batch = False
            self._reads_ahead += 1
            self._has_turn = True
            self.loop.call_soon(self._take_turn)
            return
        self._reads_ahead = 0
        try:
            is_left = waiting.turn()
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", b"")
            is_left = True
        if is_left:
            self._has_turn = True
            self.loop.call_soon(self._take_turn)
        elif not any(endpoint.full_reads for endpoint in self.udp.values()):
            waiting.end()
        self.flush()

    def shun(self, flow: Flow, seconds: float) -> None:
        """Drop what comes from a flow's address unread, for so long; of datagrams only."""
        endpoint = self.udp.get(flow.point.base)
        if endpoint is not None:
            endpoint.shun(flow.host, flow.port, seconds)

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
            self.before_sending()
            batch = out.copy()
            out.clear()
            udp = self.udp
            for flow, data, client in batch:
                point = flow.point
                if not point.reliable:
                    failed = 0
                    endpoint = udp.get(point.base)
                    if endpoint is None:
                        failed = errno.ENETUNREACH
                    else:
                        try:
                            endpoint.sendto(data, (flow.host, flow.port))
                        except OSError as error:
                            failed = endpoint.send_again(error, data, flow.host, flow.port)
                    if failed and client is not None and failed != errno.EAGAIN:
                        self.failed(client)
                    elif failed:
                        self.counts[f"udp_send_{errno.errorcode.get(failed, failed)}"] += 1
                    elif self.tap is not None:
                        self.tap(data, flow, True)
                else:
                    self.streams.send(flow, data, client)
        earliest = self.stack.queue.earliest
        if earliest < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = earliest
            self._alarm = self.loop.call_at(earliest, self.on_alarm)

    def failed(self, client: ClientTransaction) -> None:
        """Tell the stack that a request was not delivered; a fault in its owner loses no other message."""
        try:
            self.stack.transport_failed(client, self.now())
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", client.data)

    def tell(self, told: Told, failure: str) -> None:
        """Tell who waits for a connection; a fault in what follows from it loses nobody else's."""
        try:
            told(failure)
        except Exception as error:
            self.on_error(f"{type(error).__name__}: {error}", b"")

    # ---- streams, for the TU ----

    def connect(self, flow: Flow, told: Told) -> None:
        """Find out whether a connection to the flow's address can be had; told at once where there is one: an empty
        string, or the name of what stopped it."""
        self.streams.reach(flow, told)

    def keep(self, flow: Flow) -> None:
        """A connection that stands to this address is not idle: it is held for what may come."""
        self.streams.keep(flow)

    def is_connected(self, connection: int) -> bool:
        """True while the connection of this number lives."""
        return self.streams.is_connected(connection)

    def hold(self, flow: Flow, seconds: float) -> None:
        """Keep a connection for so long although nobody uses it: a phone is reached by it."""
        self.streams.hold(flow, seconds)

    def distrust(self, flow: Flow) -> None:
        """Nothing came back over the connection to this address: the next request gets a new one."""
        self.streams.distrust(flow)

    def renew(self, flow: Flow) -> None:
        """The same, but the connection is used until a new one stands."""
        self.streams.renew(flow)

    def line_seconds(self, flow: Flow) -> float:
        """How much of the time to an answer the line to this address takes, as far as that is known."""
        return self.streams.line_seconds(flow)
