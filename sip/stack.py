"""The transaction layer: matches messages to transactions, runs the machines, owns the timers.

Bytes and time go in (`receive`, `advance`); messages to send come out in `out`, events go to the TU. It reads no
clock and touches no socket.
"""

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

from sip.errors import Reason, RemoteError
from sip.headers import MAGIC_COOKIE, split_top
from sip.message import (
    Edits,
    Message,
    Request,
    Response,
    build_response,
    check_request,
    faults_of,
    parse_message,
    warning_line,
)
from sip.received import maddr_of, with_source
from sip.timers import Entry, TimerQueue, cancel_timer
from sip.transaction import (
    INVITE_CLIENT,
    INVITE_CLIENT_START,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_CLIENT_START,
    NON_INVITE_SERVER,
    Action,
    Durations,
    Event,
    State,
    Table,
    Timers,
    durations,
)
from sip.uri import bracketed

_BRANCH = re.compile(rb";\s*[Bb][Rr][Aa][Nn][Cc][Hh]\s*=\s*([^;,\s]+)")
_QUOTED_REQUEST = re.compile(rb"([^ \r\n]+) [^\r\n]* SIP/2\.0\r\nVia:[^\r\n]*;branch=([^;,\s]+)")

_TAG_MARK = b"e9"
"""How our own To tags begin, so that others are told from them at a glance."""


class ListeningPoint:
    """One transport address of ours, with what Via and Record-Route say of it, ready to be copied.

    name is that of its interface. advertised, host and port, is what others see of it where a NAT stands before us:
    it goes into messages, while host and port are what the socket is bound to.
    """

    __slots__ = (
        "advertised",
        "base",
        "host",
        "name",
        "port",
        "record_route_uri",
        "reliable",
        "secure_record_route_uri",
        "sent_by",
        "transport",
        "via",
    )

    def __init__(
        self,
        transport: str,
        host: str,
        port: int,
        base: "ListeningPoint | None" = None,
        *,
        name: str = "",
        advertised: tuple[str, int] | None = None,
    ) -> None:
        self.base = base or self
        """The listening point that holds the socket: itself, unless it stands for one address of a wildcard."""
        self.transport = transport
        self.host = host
        self.port = port
        self.name = name
        self.advertised = advertised
        self.reliable = transport != "udp"
        seen_host, seen_port = advertised or (host, port)
        self.sent_by = f"{bracketed(seen_host)}:{seen_port}".encode()
        self.via = b"Via: SIP/2.0/%b %b;branch=" % (transport.upper().encode(), self.sent_by)
        parameter = b"" if transport == "udp" else b";transport=" + transport.encode()
        self.record_route_uri = b"sip:%b%b;lr" % (self.sent_by, parameter)
        self.secure_record_route_uri = b"sips:%b;lr" % self.sent_by if transport == "tls" else self.record_route_uri
        """The same for requests to a sips: URI (section 16.6 step 4, RFC 5630 section 5.3)."""

    @property
    def bound_to(self) -> str:
        """Host and port of the socket."""
        return f"{bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        seen = f" (seen as {self.sent_by.decode()})" if self.advertised else ""
        return f"{self.transport}:{self.bound_to}{seen}"


class TlsPeer(NamedTuple):
    """Whom a TLS connection is to lead to, and what its certificate must prove."""

    name: str
    """The domain or IP address that the certificate must name (RFC 5922), and the SNI where it is a domain."""
    verified: bool = True
    """False where any certificate will do."""
    authorities: str = ""
    """PEM file of the authorities believed; empty: the system's."""


UNCERTIFIED = TlsPeer("", verified=False)
"""Of a TLS connection that a client opened without the certificate asked for."""


class Flow(NamedTuple):
    """Where a message came from or goes to. connection is 0 for UDP, and for "any connection, or a new one"."""

    point: ListeningPoint
    host: str
    port: int
    connection: int = 0
    reply_port: int = 0
    """Of a server transaction on a connection: where to connect if the connection has gone."""
    peer: TlsPeer | None = None
    """Where a TLS connection leads; None: what the edge knows of the address decides. Or UNCERTIFIED."""


class ClientOwner(Protocol):
    """Who sent a request, and hears what became of it."""

    def on_response(self, client: "ClientTransaction", response: Response, now: float) -> None:
        """A response that the transaction passes up (every 1xx and 2xx, the first other final)."""

    def on_timeout(self, client: "ClientTransaction", now: float) -> None:
        """Timer B or F: no answer."""

    def on_transport_error(self, client: "ClientTransaction", now: float) -> None:
        """The request could not be delivered."""


class TimerOwner(Protocol):
    """Who set a timer of its own."""

    def on_timer(self, name: str, now: float) -> None:
        """The timer of this name fired."""


class TransactionUser(Protocol):
    """The core above the transaction layer (RFC 3261 section 5)."""

    def on_request(self, server: "ServerTransaction", request: Request, now: float) -> None:
        """A new request; for an INVITE, 100 Trying has gone already."""

    def on_ack(self, request: Request, flow: Flow, invite: "ServerTransaction | None", now: float) -> None:
        """An ACK that belongs to no failed INVITE: the one for a 2xx."""

    def on_cancel(self, invite: "ServerTransaction", request: Request, now: float) -> None:
        """A CANCEL for a transaction that has no final answer yet; the CANCEL is answered already."""

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """A second 2xx of one forwarded INVITE, with another To tag; it is forwarded already. flow: of the INVITE."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction of ours."""

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """A CANCEL of an INVITE that is not known; the TU may know better and adopt it. flow: where answers go."""

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Asked before a transaction is made: a reason to refuse the request, or None."""

    def forgives(self, request: Request, error: RemoteError) -> bool:
        """True where a malformed request is to be served all the same (an emergency call)."""


class ClientTransaction:
    """One request sent by us (section 17.1)."""

    __slots__ = (
        "ack",
        "branch",
        "data",
        "deadline",
        "durations",
        "flow",
        "interval",
        "machine",
        "method",
        "owner",
        "retransmission",
        "state",
        "unsent",
    )

    def __init__(
        self, method: bytes, branch: bytes, data: bytes, flow: Flow, owner: ClientOwner, times: Durations
    ) -> None:
        self.method = method
        self.branch = branch
        self.data = data
        self.flow = flow
        self.owner: ClientOwner | None = owner
        self.durations = times
        self.machine: Machine = _INVITE_CLIENT if method == b"INVITE" else _NON_INVITE_CLIENT
        self.state = State.CALLING if method == b"INVITE" else State.TRYING
        self.interval = 0.0
        self.retransmission: Entry | None = None
        self.deadline: Entry | None = None
        self.ack = b""
        self.unsent = False
        """True while it waits for a connection to be opened."""


class ServerTransaction:
    """One request received (section 17.2)."""

    __slots__ = (
        "deadline",
        "durations",
        "flow",
        "interval",
        "key",
        "machine",
        "method",
        "owner",
        "request",
        "response",
        "retransmission",
        "state",
    )

    def __init__(self, key: bytes, request: Request, flow: Flow, times: Durations) -> None:
        self.key = key
        self.method = request.method
        self.request: Request | None = request
        self.flow = flow
        self.durations = times
        self.machine: Machine = _INVITE_SERVER if request.method == b"INVITE" else _NON_INVITE_SERVER
        self.state = State.PROCEEDING if request.method == b"INVITE" else State.TRYING
        self.response = b""
        self.interval = 0.0
        self.retransmission: Entry | None = None
        self.deadline: Entry | None = None
        self.owner: object = None

    @property
    def is_answered(self) -> bool:
        """True once a final response was sent."""
        return self.state >= State.COMPLETED


Transaction = ClientTransaction | ServerTransaction
Perform = Callable[["Stack", Transaction, Message | None, float], None]
Machine = list[list[tuple[State, tuple[Perform, ...]] | None]]
"""By state, then event: the next state, and what is done; None where the event changes nothing."""


class Stack:
    """All transactions of one node.

    key is secret bytes for To tags of our own answers. `out` collects (flow, bytes, client transaction or None)
    in the order in which they are to be sent; `counts` counts events by name.
    """

    def __init__(self, user: TransactionUser, *, key: bytes, timers: Timers | None = None) -> None:
        timers = timers or Timers()
        self.user = user
        self.key = key
        self.timers = timers
        self.queue = TimerQueue()
        self._expired: deque[Entry] = deque()
        self.clients: dict[bytes, ClientTransaction] = {}
        self.cancels: dict[bytes, ClientTransaction] = {}
        self.servers: dict[bytes, ServerTransaction] = {}
        self.out: list[tuple[Flow, bytes, ClientTransaction | None]] = []
        self.drops: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._unreliable = durations(timers, reliable=False)
        self._reliable = durations(timers, reliable=True)

    # ---- in ----

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram or framed message. Never raises for what a peer sent."""
        try:
            message = parse_message(data)
            if isinstance(message, Request):
                self._receive_request(message, flow, now)
            else:
                self.receive_response(message, flow, now)
        except RemoteError as error:
            self.refuse(error, flow)

    def refuse(self, error: RemoteError, flow: Flow) -> None:
        """Count a refused message by its reason, and answer it where a status is due and an answer possible."""
        self.drops[error.reason] += 1
        request = error.request
        if not error.status or not isinstance(request, Request) or request.method == b"ACK":
            return
        try:
            for key in ("from", "to", "call-id", "cseq"):
                request.required(key)
            answer_to = self._answer_flow(request, flow)
        except RemoteError:
            if not request.has("via"):
                return
            answer_to = flow
        warning = warning_line(flow.point, str(error))
        self.out.append(
            (
                answer_to,
                build_response(request, error.status, to_tag=self.to_tag(request), extra=(warning,)),
                None,
            )
        )

    def refuse_unframed(self, head: bytes, flow: Flow, error: RemoteError) -> None:
        """A stream could not be framed (section 18.3): answer the request whose header is there, count it."""
        if head and error.status:
            try:
                message = parse_message(head)
            except RemoteError as unreadable:
                error.request = unreadable.request
            else:
                error.request = message if isinstance(message, Request) else None
        self.refuse(error, flow)

    def advance(self, now: float) -> None:
        """Fire every timer whose time has come."""
        expired = self._expired
        expired.extend(self.queue.pop_expired(now))
        while expired:
            # Taken off before it runs: a fault in one owner loses no other's timer.
            entry = expired.popleft()
            _, owner, name = entry
            if owner is None:
                continue  # cancelled by a timer that fired just before it
            entry[1] = None
            if owner.__class__ is ClientTransaction or owner.__class__ is ServerTransaction:
                self._run(owner, name, None, now)
            else:
                owner.on_timer(name, now)

    def transport_failed(self, client: ClientTransaction, now: float) -> None:
        """A request could not be sent, or its connection ended before an answer."""
        self._run(client, Event.TRANSPORT_ERROR, None, now)

    def unreachable(self, quoted: bytes, now: float) -> None:
        """An ICMP error quoted this message of ours: fail the transaction that sent it."""
        match = _QUOTED_REQUEST.match(quoted)
        if match:
            client = (self.cancels if match[1] == b"CANCEL" else self.clients).get(match[2])
            if client is not None:
                self.transport_failed(client, now)

    # ---- requests of ours ----

    def send_request(
        self, method: bytes, branch: bytes, data: bytes, flow: Flow, owner: ClientOwner, now: float
    ) -> ClientTransaction:
        """Start a client transaction: data is the whole request, its top Via carrying branch."""
        times = self._reliable if flow.point.reliable else self._unreliable
        client = ClientTransaction(method, branch, data, flow, owner, times)
        (self.cancels if method == b"CANCEL" else self.clients)[branch] = client
        for perform in _START_INVITE if method == b"INVITE" else _START_NON_INVITE:
            perform(self, client, None, now)
        return client

    def cancel(
        self, invite: ClientTransaction, owner: ClientOwner, now: float, reasons: Sequence[bytes] = ()
    ) -> None:
        """Send the CANCEL for an INVITE of ours (section 9.1); the caller saw a provisional response to it."""
        if invite.branch in self.cancels:
            return
        request = parse_message(invite.data, own=True)
        lines = [
            b"CANCEL %b SIP/2.0" % request.uri if isinstance(request, Request) else b"",
            _top_via(request),
        ]
        lines += request.lines("route")
        lines.append(b"Max-Forwards: 70")
        for key in ("from", "to", "call-id"):
            lines += request.lines(key)
        lines.append(b"CSeq: %d CANCEL" % request.cseq)
        lines += reasons
        lines += [b"Content-Length: 0", b"", b""]
        self.send_request(b"CANCEL", invite.branch, b"\r\n".join(lines), invite.flow, owner, now)

    # ---- transactions of an earlier process ----

    def adopt_server(self, request: Request, flow: Flow) -> ServerTransaction:
        """The server transaction of an INVITE that was received and answered provisionally before we were started.

        request need hold no more than Via, From, To, Call-ID and CSeq; flow: where answers go.
        """
        key = self._server_key(request, b"INVITE")
        server = ServerTransaction(key, request, flow, self._reliable if flow.point.reliable else self._unreliable)
        self.servers[key] = server
        return server

    def adopt_client(self, branch: bytes, data: bytes, flow: Flow, owner: ClientOwner) -> ClientTransaction:
        """The client transaction of an INVITE that was sent then; data: the INVITE, its body apart."""
        times = self._reliable if flow.point.reliable else self._unreliable
        client = ClientTransaction(b"INVITE", branch, data, flow, owner, times)
        client.state = State.PROCEEDING
        self.clients[branch] = client
        return client

    # ---- responses of ours ----

    def respond(self, server: ServerTransaction, status: int, data: bytes, now: float) -> bool:
        """Send a response through its transaction; False where the state does not allow it (any more)."""
        event = Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE
        if server.machine[server.state][event] is None:
            return False
        server.response = data
        self._run(server, event, None, now)
        if server.state is State.ACCEPTED:
            server.response = b""  # nothing is sent again from here on (RFC 6026), and the transaction lives 32 s
        return True

    def answer(
        self,
        server: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: bytes = b"",
        extra: Sequence[bytes] = (),
    ) -> bool:
        """Send a response of our own making."""
        request = server.request
        if request is None:
            return False
        data = build_response(request, status, reason=reason, to_tag=self.to_tag(request), extra=extra)
        return self.respond(server, status, data, now)

    def refuse_in(
        self, server: ServerTransaction, error: RemoteError, now: float, extra: Sequence[bytes] = ()
    ) -> None:
        """Answer a request with the error's status and a Warning that says why, and count it by its reason."""
        self.drops[error.reason] += 1
        warning = warning_line(server.flow.point, str(error))
        self.answer(server, error.status or 400, now, extra=(warning, *extra))

    def abandon(self, server: ServerTransaction) -> None:
        """End a server transaction without an answer (RFC 4320 section 4.2: no 408 to a non-INVITE)."""
        self._end(server)

    def abandon_client(self, client: ClientTransaction) -> None:
        """End a client transaction that will get no answer any more."""
        self._end(client)

    def to_tag(self, request: Request) -> bytes:
        """The tag of our own answers: derived, so that a retransmission after a restart gets the same one."""
        digest = hashlib.blake2b(
            (request.first("call-id") or b"") + b"\0" + request.from_tag, key=self.key, digest_size=8
        )
        return _TAG_MARK + digest.hexdigest().encode()

    # ---- inside ----

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        try:
            check_request(request)
        except RemoteError as error:
            error.request = request
            if not self.user.forgives(request, error):
                raise
            request = self._forgiven(request)
        method = request.method
        key = self._server_key(request, method)
        server = self.servers.get(key)
        if method == b"ACK":
            if server is None and request.to_tag.startswith(_TAG_MARK) and request.to_tag == self.to_tag(request):
                # For a final response that we gave without a transaction (section 8.2.7): it is not to go further.
                self.counts["acks_of_refusals"] += 1
            elif server is None or server.state is State.ACCEPTED:
                self.user.on_ack(request, flow, server, now)
            else:
                self._run(server, Event.ACK, request, now)
            return
        if server is not None:
            self.counts["request_retransmissions"] += 1
            self._run(server, Event.REQUEST, request, now)
            return
        refusal = self.user.refuses(request, flow)
        if refusal is not None:
            # Refused without a transaction: the same request gets the same answer again (section 8.2.7).
            refusal.request = request
            try:
                raise refusal
            finally:
                del refusal  # the traceback refers to this frame: a cycle that would keep the request
        answer_to = self._answer_flow(request, flow)
        times = self._reliable if flow.point.reliable else self._unreliable
        server = ServerTransaction(key, request, answer_to, times)
        self.servers[key] = server
        if method == b"INVITE":
            # Section 17.2.1, and design: the caller hears from us at once, whatever is asked next.
            self.respond(server, 100, build_response(request, 100), now)
        elif method == b"CANCEL":
            self._receive_cancel(server, request, now)
            return
        self.user.on_request(server, request, now)

    def _forgiven(self, request: Request) -> Request:
        """A request with a mistake that is forgiven; raises RemoteError where another one is not."""
        for fault in faults_of(request):
            if not self.user.forgives(request, fault):
                fault.request = request
                raise fault
            self.counts[f"forgiven_{fault.reason}"] += 1
        return _mended(request)

    def _receive_cancel(self, server: ServerTransaction, request: Request, now: float) -> None:
        key = self._server_key(request, b"INVITE")
        invite = self.servers.get(key)
        if invite is None:
            self.user.on_stray_cancel(request, server.flow, now)
            invite = self.servers.get(key)
        if invite is None:
            self.counts["cancel_unknown"] += 1
            unknown = RemoteError(Reason.UNKNOWN_TRANSACTION, 481, "no INVITE with the branch of this CANCEL")
            self.refuse_in(server, unknown, now)
            return
        self.answer(server, 200, now)
        if not invite.is_answered:
            self.user.on_cancel(invite, request, now)

    def receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response, read already: to its transaction, or to the TU as a stray one. Raises RemoteError."""
        if response.oddities:
            for reason in response.oddities:
                if reason is not Reason.BAD_FIELD_LINE:  # a broken line that we do not need is not ours to judge
                    raise RemoteError(reason, 0)
        index = response._first.get("via")
        if index is None:
            raise RemoteError(Reason.BAD_VIA, 0, "response without Via")
        match = _BRANCH.search(response.fields[index][1])
        client = None
        if match:
            client = (self.cancels if response.method == b"CANCEL" else self.clients).get(match[1])
        if client is None or client.method != response.method:
            self.user.on_stray_response(response, flow, now)
            return
        status = response.status
        event = Event.PROVISIONAL if status < 200 else Event.SUCCESS if status < 300 else Event.FAILURE
        self._run(client, event, response, now)

    def _answer_flow(self, request: Request, flow: Flow) -> Flow:
        """Where responses go (section 18.2.2, RFC 3581), and the top Via as it must read for the next hops."""
        via = request.via
        if flow.point.reliable:
            with_port = via.rport is not None
            if with_port or via.host.strip(b"[]") != flow.host.encode() or via.received:
                self._note_source(request, flow, with_port=with_port)
            # Section 18.2.2: where this connection is gone by then, a new one to the port of sent-by.
            return flow._replace(reply_port=via.port or (5061 if flow.point.transport == "tls" else 5060))
        if b"maddr" in via.parameters.lower() and (maddr := maddr_of(via.parameters)):
            self._note_source(request, flow, with_port=via.rport is not None)
            return flow._replace(host=maddr, port=via.port or 5060)
        if via.rport is not None:
            self._note_source(request, flow, with_port=True)
            return flow
        if via.host.strip(b"[]") != flow.host.encode() or via.received:
            self._note_source(request, flow, with_port=False)
        port = via.port or 5060
        return flow if port == flow.port else flow._replace(port=port)

    def _note_source(self, request: Request, flow: Flow, *, with_port: bool) -> None:
        """Add received and rport to the top Via (section 18.2.1, RFC 3581 section 4)."""
        index = request._first["via"]
        line = with_source(request.fields[index][1], flow.host.encode(), flow.port if with_port else None)
        request.fields[index] = ("via", line)
        request._via = None

    def _server_key(self, request: Request, method: bytes) -> bytes:
        """Section 17.2.3: branch, sent-by and method; without the cookie, the fields of RFC 2543."""
        via = request.via
        branch = via.branch
        name = b"INVITE" if method == b"ACK" else method
        if branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE):
            return b"%b|%b|%b" % (branch, via.sent_by, name)
        top, _ = split_top(request.required("via"))
        top = re.sub(rb";\s*(received|rport)[^;,]*", b"", top, flags=re.IGNORECASE)
        return b"|".join([request.uri, request.from_tag, request.call_id, b"%d" % request.cseq, top, name])

    def _run(self, tx: Transaction, event: Event, message: Message | None, now: float) -> None:
        entry = tx.machine[tx.state][event]
        if entry is not None:
            tx.state, actions = entry
            for perform in actions:
                perform(self, tx, message, now)

    def _retransmit_after(self, tx: Transaction, seconds: float, now: float) -> None:
        tx.interval = seconds
        entry = tx.retransmission
        if entry is not None:
            cancel_timer(entry)
        tx.retransmission = self.queue.set(tx, Event.RETRANSMIT, seconds, now)

    def _deadline_after(self, tx: Transaction, seconds: float, now: float) -> None:
        entry = tx.deadline
        if entry is not None:
            cancel_timer(entry)
        if seconds <= 0:
            self._run(tx, Event.DEADLINE, None, now)
        else:
            tx.deadline = self.queue.set(tx, Event.DEADLINE, seconds, now)

    def _end(self, tx: Transaction) -> None:
        tx.state = State.TERMINATED
        cancel_timer(tx.retransmission)
        cancel_timer(tx.deadline)
        if isinstance(tx, ClientTransaction):
            table = self.cancels if tx.method == b"CANCEL" else self.clients
            if table.get(tx.branch) is tx:
                del table[tx.branch]
            tx.owner = None
        else:
            self.servers.pop(tx.key, None)
            tx.owner = None
            tx.request = None

    # ---- timers for the TU ----

    def set_timer(self, owner: TimerOwner, name: str, seconds: float, now: float) -> Entry:
        """Call owner.on_timer(name, now) after some seconds; sip.timers.cancel_timer stops it."""
        return self.queue.set(owner, name, seconds, now)


# What each action of the tables in sip.transaction does. They are compiled into lists of these functions once, so
# that an event costs two look-ups and a call for each action: a chain of comparisons cost four times as much.


def _deliver(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    if tx.__class__ is ClientTransaction:
        if tx.owner is not None and message.__class__ is Response:
            tx.owner.on_response(tx, message, now)
    elif tx.__class__ is ServerTransaction and message.__class__ is Request:
        stack.user.on_ack(message, tx.flow, tx, now)


def _send(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    if tx.__class__ is ClientTransaction:
        stack.out.append((tx.flow, tx.data, tx))
    elif tx.__class__ is ServerTransaction and tx.response:
        stack.out.append((tx.flow, tx.response, None))


def _resend(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    _send(stack, tx, message, now)
    stack.counts["retransmissions"] += 1


def _send_ack(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    client = cast(ClientTransaction, tx)
    client.ack = _ack_for(client.data, cast(Response, message))
    stack.out.append((client.flow, client.ack, None))


def _resend_ack(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    stack.out.append((tx.flow, cast(ClientTransaction, tx).ack, None))


def _double(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, tx.interval * 2, now)


def _double_to_t2(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, min(tx.interval * 2, stack.timers.t2), now)


def _retransmit_at_t2(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, stack.timers.t2, now)


def _stop_retransmitting(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    cancel_timer(tx.retransmission)


def _stop_deadline(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    cancel_timer(tx.deadline)


def _report_timeout(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    owner = cast(ClientTransaction, tx).owner
    if owner is not None:
        owner.on_timeout(cast(ClientTransaction, tx), now)


def _report_transport_error(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    owner = cast(ClientTransaction, tx).owner
    if owner is not None:
        owner.on_transport_error(cast(ClientTransaction, tx), now)


def _start_retransmitting(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    seconds = tx.durations.a  # A, E and G are all T1, or not started on a reliable transport
    if seconds is not None:
        stack._retransmit_after(tx, seconds, now)


def _start_m(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    cast(ClientTransaction, tx).data = b""  # Accepted (RFC 6026): never sent again, and the transaction lives 32 s
    stack._deadline_after(tx, tx.durations.m, now)


def _ended(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
    stack._end(tx)


def _starting(timer: str) -> Perform:
    """The action that starts one of the timers that end something."""

    def start(stack: Stack, tx: Transaction, message: Message | None, now: float) -> None:
        stack._deadline_after(tx, getattr(tx.durations, timer), now)

    return start


_PERFORM: dict[Action, Perform] = {
    Action.SEND: _send,
    Action.RESEND: _resend,
    Action.SEND_ACK: _send_ack,
    Action.RESEND_ACK: _resend_ack,
    Action.DELIVER: _deliver,
    Action.DOUBLE: _double,
    Action.DOUBLE_TO_T2: _double_to_t2,
    Action.RETRANSMIT_AT_T2: _retransmit_at_t2,
    Action.STOP_RETRANSMITTING: _stop_retransmitting,
    Action.REPORT_TIMEOUT: _report_timeout,
    Action.REPORT_TRANSPORT_ERROR: _report_transport_error,
    Action.START_A: _start_retransmitting,
    Action.START_B: _starting("b"),
    Action.START_D: _starting("d"),
    Action.START_E: _start_retransmitting,
    Action.START_F: _starting("f"),
    Action.START_G: _start_retransmitting,
    Action.START_H: _starting("h"),
    Action.START_I: _starting("i"),
    Action.START_J: _starting("j"),
    Action.START_K: _starting("k"),
    Action.START_L: _starting("l"),
    Action.START_M: _start_m,
    Action.STOP_DEADLINE: _stop_deadline,
    Action.ENDED: _ended,
}


def _compiled(table: Table) -> Machine:
    """A table as lists, by state and event."""
    machine: Machine = [[None] * (max(Event) + 1) for _ in range(max(State) + 1)]
    for (state, event), (following, actions) in table.items():
        machine[state][event] = (following, tuple(_PERFORM[action] for action in actions))
    return machine


_INVITE_CLIENT = _compiled(INVITE_CLIENT)
_NON_INVITE_CLIENT = _compiled(NON_INVITE_CLIENT)
_INVITE_SERVER = _compiled(INVITE_SERVER)
_NON_INVITE_SERVER = _compiled(NON_INVITE_SERVER)
_START_INVITE = tuple(_PERFORM[action] for action in INVITE_CLIENT_START)
_START_NON_INVITE = tuple(_PERFORM[action] for action in NON_INVITE_CLIENT_START)


def _mended(request: Request) -> Request:
    """A forgiven request, so that the next hop need not forgive it: one Max-Forwards, one right Content-Length."""
    replace: dict[str, Sequence[bytes]] = {}
    hops = request.lines("max-forwards")
    if len(hops) > 1:
        replace["max-forwards"] = hops[:1]
    wrong = Reason.BODY_INCOMPLETE in request.oddities or Reason.BAD_CONTENT_LENGTH in request.oddities
    if wrong or len(request.lines("content-length")) > 1:
        return request.edited(Edits(replace=replace, body=request.body))
    return request.edited(Edits(replace=replace)) if replace else request


def _top_via(message: Message) -> bytes:
    top, _ = split_top(message.required("via"))
    return b"Via: " + top


def _ack_for(data: bytes, response: Response) -> bytes:
    """The ACK for a final response other than 2xx (section 17.1.1.3)."""
    request = parse_message(data, own=True)
    uri = request.uri if isinstance(request, Request) else b""
    lines = [b"ACK %b SIP/2.0" % uri, _top_via(request)]
    lines += request.lines("route")
    lines.append(b"Max-Forwards: 70")
    lines += request.lines("from")
    lines += response.lines("to")[:1]
    lines += request.lines("call-id")
    lines.append(b"CSeq: %d ACK" % request.cseq)
    lines += [b"Content-Length: 0", b"", b""]
    return b"\r\n".join(lines)
