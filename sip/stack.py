"""The transaction layer: matches messages to transactions, runs the machines, owns the timers.

Bytes and time go in (`receive`, `advance`); messages to send come out in `out`, events go to the TU. It reads no
clock and touches no socket.
"""

import re
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress

from sip.answers import build_response, warning_line
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.forgiving import LENGTH_FAULTS, Restores, as_meant, in_capitals, restored
from sip.headers import MAGIC_COOKIE, split_top
from sip.keyed_hash import keyed_hash
from sip.machines import START_INVITE, START_NON_INVITE, ClientTransaction, ServerTransaction, Transaction, top_via
from sip.message import Edits, Message, Request, Response
from sip.owners import ClientOwner, TimerOwner, TransactionUser
from sip.parsing import parse_message
from sip.received import maddr_of, with_source
from sip.timers import Entry, TimerQueue, cancel_timer
from sip.transaction import (
    Event,
    State,
    Timers,
    durations,
)
from sip.validation import KNOWN_METHODS, REQUIRED, check_request, faults_of

_BRANCH = re.compile(rb";\s*[Bb][Rr][Aa][Nn][Cc][Hh]\s*=\s*([^;,\s]+)")
_QUOTED_REQUEST = re.compile(rb"([^ \r\n]+) [^\r\n]* SIP/2\.0\r\nVia:[^\r\n]*;branch=([^;,\s]+)")

# Members of an enumeration are looked up slowly, and these several times for each message.
_PROVISIONAL, _SUCCESS, _FAILURE = Event.PROVISIONAL, Event.SUCCESS, Event.FAILURE
_ACCEPTED = State.ACCEPTED

_TAG_MARK = b"e9"
"""How our own To tags begin, so that others are told from them at a glance."""


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
            if message.__class__ is Request:
                self._receive_request(message, flow, now)
            elif message.__class__ is Response:
                self.receive_response(message, flow, now)
        except RemoteError as error:
            self.refuse(error, flow)

    def refuse(self, error: RemoteError, flow: Flow) -> None:
        """Count a refused message by its reason, and answer it where a status is due and an answer possible."""
        self.drops[error.reason] += 1
        request = error.request
        if not isinstance(request, Request):
            return
        if error.status and request.method != b"ACK" and request.has("via"):
            self._answer_refused(request, error, flow)
        self.user.on_malformed(request, error, flow)

    def _answer_refused(self, request: Request, error: RemoteError, flow: Flow) -> None:
        answer_to = flow
        with suppress(RemoteError):
            for key in ("from", "to", "call-id", "cseq"):
                request.required(key)
            answer_to = self._answer_flow(request, flow)
        warning = warning_line(flow.point, str(error))
        response = build_response(request, error.status, to_tag=self.to_tag(request), extra=(warning,))
        self.out.append((answer_to, response, None))

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
        for perform in START_INVITE if method == b"INVITE" else START_NON_INVITE:
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
            top_via(request),
        ]
        lines += request.lines("route")
        lines.append(b"Max-Forwards: 70")
        for key in ("from", "to", "call-id"):
            lines += request.lines(key)
        lines.append(b"CSeq: %d CANCEL" % request.cseq)
        lines += reasons
        lines += [b"Content-Length: 0", b"", b""]
        self.send_request(b"CANCEL", invite.branch, b"\r\n".join(lines), invite.flow, owner, now)

    def knows(self, below: Response) -> bool:
        """True where the INVITE that this response answers, our own Via taken off, has a server transaction here."""
        invite = Request(b"INVITE", b"sip:unknown", list(below.fields), b"", below.cseq)
        return self._server_key(invite, b"INVITE") in self.servers

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
        entry = server.machine[server.state][_PROVISIONAL if status < 200 else _SUCCESS if status < 300 else _FAILURE]
        if entry is None:
            return False
        server.response = restored(data, server.restores) if server.restores else data
        server.state, actions = entry
        for perform in actions:
            perform(self, server, None, now)
        if server.state is _ACCEPTED:
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
        who = (request.first("call-id") or b"") + b"\0" + request.from_tag
        return _TAG_MARK + keyed_hash(self.key, 8, who).encode()

    # ---- inside ----

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        restores: Restores = ()
        if request.method not in KNOWN_METHODS:
            request = self._in_capitals(request, flow)
        try:
            check_request(request)
        except RemoteError as error:
            error.request = request
            if not self.user.forgives(request, error, flow):
                raise
            request, restores = self._forgiven(request, flow)
        method = request.method
        key = self._server_key(request, method)
        server = self.servers.get(key)
        if method == b"ACK":
            if server is None and request.to_tag.startswith(_TAG_MARK) and request.to_tag == self.to_tag(request):
                # For a final response that we gave without a transaction (section 8.2.7): it is not to go further.
                self.counts["acks_of_refusals"] += 1
            elif server is None or server.state is _ACCEPTED:
                self.user.on_ack(request, flow, server, now)
            else:
                self._run(server, Event.ACK, request, now)
            return
        if server is not None and method == b"INVITE" and server.is_answered and server.cseq != request.cseq:
            self._end(server)  # one branch for all requests again: the next INVITE of a call, whose last one is over
            server = None
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
        server.restores = restores
        self.servers[key] = server
        if method == b"INVITE":
            # Section 17.2.1, and design: the caller hears from us at once, whatever is asked next.
            self.respond(server, 100, build_response(request, 100), now)
        elif method == b"CANCEL":
            self._receive_cancel(server, request, now)
            return
        self.user.on_request(server, request, now)

    def _in_capitals(self, request: Request, flow: Flow) -> Request:
        """The request with its method in capitals, where that is forgiven; else it is one of an unknown method."""
        meant = in_capitals(request)
        if meant is None or not request.keys() >= REQUIRED:
            return request
        error = RemoteError(Reason.BAD_START_LINE, 400, "the method is not in capitals")
        if not self.user.forgives(meant, error, flow):
            return request
        self.counts["forgiven_method-case"] += 1
        return meant

    def _forgiven(self, request: Request, flow: Flow) -> tuple[Request, Restores]:
        """A request with a mistake that is forgiven; raises RemoteError where another one is not."""
        for fault in faults_of(request):
            if not self.user.forgives(request, fault, flow):
                fault.request = request
                raise fault
            self.counts[f"forgiven_{fault.reason}"] += 1
        return as_meant(request, flow)

    def _receive_cancel(self, server: ServerTransaction, request: Request, now: float) -> None:
        key = self._server_key(request, b"INVITE")
        invite = self.servers.get(key)
        if invite is None:
            invite = self.user.on_stray_cancel(request, server.flow, now) or self.servers.get(key)
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
        index = response._first.get("via")
        match = _BRANCH.search(response.fields[index][1]) if index is not None else None
        client = None
        if match:
            client = (self.cancels if response.method == b"CANCEL" else self.clients).get(match[1])
        if response.oddities:
            response = self._with_oddities(response, client)
        if index is None:
            raise RemoteError(Reason.BAD_VIA, 0, "response without Via")
        if client is None or client.method != response.method:
            self.user.on_stray_response(response, flow, now)
            return
        status = response.status
        entry = client.machine[client.state][_PROVISIONAL if status < 200 else _SUCCESS if status < 300 else _FAILURE]
        if entry is not None:
            client.state, actions = entry
            for perform in actions:
                perform(self, client, response, now)

    def _with_oddities(self, response: Response, client: ClientTransaction | None) -> Response:
        """A response that is taken in spite of what is wrong with it; raises RemoteError where that may not be.

        A body that is cut off, or of a length that is none, makes a datagram one to discard (section 18.3); not so
        where the TU forgives it (an emergency call): then its length is what came. A broken line that we do not need
        is not ours to judge.
        """
        wrong = [reason for reason in response.oddities if reason is not Reason.BAD_FIELD_LINE]
        if not wrong:
            return response
        if client is None or not LENGTH_FAULTS.issuperset(wrong) or not client.forgives:
            raise RemoteError(wrong[0], 0)
        for reason in wrong:
            self.counts[f"forgiven_{reason}"] += 1
        return response.edited(Edits(body=response.body))

    def _answer_flow(self, request: Request, flow: Flow) -> Flow:
        """Where responses go (section 18.2.2, RFC 3581), and the top Via as it must read for the next hops."""
        via = request.via
        if via.is_usual and not flow.point.reliable and via.rport is None and via.host == flow.host.encode():
            return flow if via.port == flow.port else flow._replace(port=via.port or 5060)
        if flow.point.reliable:
            with_port = via.rport is not None
            if with_port or via.host.strip(b"[]") != flow.host.encode() or via.received:
                self._note_source(request, flow, with_port=with_port)
            # Section 18.2.2: where this connection is gone by then, a new one to the port of sent-by.
            return flow._replace(reply_port=via.port or (5061 if flow.point.transport == "tls" else 5060))
        maddr = maddr_of(via.parameters) if b"maddr" in via.parameters.lower() else ""
        if maddr and (":" in maddr) == (":" in flow.host):  # another family's cannot be had from this socket
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
            # The Call-ID too: there are phones that give all of their requests one branch, and their next call is no
            # retransmission of the last. A true retransmission, an ACK and a CANCEL have the INVITE's own.
            return b"%b|%b|%b|%b" % (branch, via.sent_by, name, request.call_id)
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
            if self.servers.get(tx.key) is tx:
                del self.servers[tx.key]
            tx.owner = None
            tx.request = None

    # ---- timers for the TU ----

    def set_timer(self, owner: TimerOwner, name: str, seconds: float, now: float) -> Entry:
        """Call owner.on_timer(name, now) after some seconds; sip.timers.cancel_timer stops it."""
        return self.queue.set(owner, name, seconds, now)
