"""UserAgent: an actor that makes and takes calls (RFC 3261 sections 12 to 15), and the calls themselves."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulations.actor import ALLOW, Actor, Answer, new_branch, new_token, response_bytes
from sip.flow import Flow
from sip.headers import parse_name_addr, tag_of
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response

SDP = b"Content-Type: application/sdp"
REASONS = {
    180: b"Ringing",
    183: b"Session Progress",
    200: b"OK",
    424: b"Bad Location Information",
    486: b"Busy Here",
    487: b"Request Terminated",
    488: b"Not Acceptable Here",
    503: b"Service Unavailable",
    603: b"Decline",
}
T1 = 0.5
T2 = 4.0


@dataclass(slots=True, kw_only=True)
class Dialog:
    """What both sides of an established call know (section 12.1). Values are as they stand in the messages."""

    call_id: bytes
    local: bytes
    remote: bytes
    target: bytes
    routes: list[bytes]
    cseq: int

    @property
    def next_hop(self) -> bytes:
        """The URI that says where in-dialog requests are sent; every router of a simulation is a loose one."""
        return parse_name_addr(self.routes[0]).uri if self.routes else self.target

    def lines(self, method: bytes) -> list[bytes]:
        """The fields of a request in this dialog, but for Via, Max-Forwards and body."""
        return [
            *(b"Route: " + route for route in self.routes),
            b"From: " + self.local,
            b"To: " + self.remote,
            b"Call-ID: " + self.call_id,
            b"CSeq: %d %b" % (self.cseq, method),
        ]


@dataclass(slots=True, eq=False)
class Call:
    """What incoming and outgoing calls share. The events are set as things happen and never cleared."""

    agent: "UserAgent"
    dialog: Dialog | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """A BYE was received or sent and answered, or the call never came about."""
    failure: str = ""
    """Why it never came about: the final status, or what went wrong."""
    told: Callable[["Call", str], None] = lambda call, what: None
    """Called when something happens: `ringing`, `answered`, `acknowledged`, `failed`, `bye`, `cancelled`."""

    def fail(self, why: str) -> None:
        """The call did not come about."""
        if not self.ended.is_set():
            self.failure = why
            self.ended.set()
            self.told(self, "failed")

    async def hang_up(self, *, seconds: float = 5.0) -> bool:
        """Send BYE; True where it was answered with a 2xx in time."""
        dialog = self.dialog
        if dialog is None or self.ended.is_set():
            return False
        dialog.cseq += 1
        answer = Answer()
        self.agent.send_in_dialog(dialog, b"BYE", answer)
        try:
            async with asyncio.timeout(seconds):
                response = await answer.future
        except TimeoutError:
            response = None
        self.ended.set()
        return response is not None and 200 <= response.status < 300


@dataclass(slots=True, eq=False)
class OutgoingCall(Call):
    """A call that we make."""

    request: Request | None = None
    client: ClientTransaction | None = None
    ringing: asyncio.Event = field(default_factory=asyncio.Event)
    last: Response | None = None
    """The last response above 100."""
    delays_ack: bool = False
    """True where somebody else decides when the 2xx is acknowledged (a B2BUA)."""
    _ack: tuple[Flow, bytes] | None = None

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        """A response to our INVITE."""
        if response.status == 100:
            return
        self.last = response
        if response.status < 200:
            if response.status in (180, 183):
                self.ringing.set()
                self.told(self, "ringing")
        elif response.status >= 300:
            self.fail(f"{response.status} {response.reason.decode('latin-1')}")
        elif self._ack is not None:
            self.agent.send_ack(*self._ack)  # section 13.2.2.4: the ACK is sent again for each 2xx
        elif self.dialog is None:
            self._establish(response)

    def _establish(self, response: Response) -> None:
        assert self.request is not None
        self.dialog = Dialog(
            call_id=response.call_id,
            local=self.request.required("from"),
            remote=response.required("to"),
            target=parse_name_addr(response.required("contact")).uri,
            routes=response.values("record-route")[::-1],
            cseq=response.cseq,
        )
        self.agent.remember(self)
        if not self.delays_ack:
            self.acknowledge()
        self.answered.set()
        self.told(self, "answered")

    def acknowledge(self) -> None:
        """Send the ACK for the 2xx."""
        if self.dialog is not None and self._ack is None:
            self._ack = self.agent.make_ack(self.dialog)
            self.agent.send_ack(*self._ack)

    def cancel(self) -> None:
        """Give up before the answer; the far end's 487 then ends the call."""
        if self.client is not None and self.last is not None and self.last.status < 200:
            self.agent.stack.cancel(self.client, Answer(), self.agent.now)
            self.agent.flush()

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        """Timer B."""
        self.fail("no answer at all")

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        """The INVITE could not be delivered."""
        self.fail("unreachable")


@dataclass(slots=True, eq=False)
class IncomingCall(Call):
    """A call that we are offered; 100 Trying has gone already."""

    server: ServerTransaction | None = None
    request: Request | None = None
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    tag: bytes = field(default_factory=new_token)
    """Our tag of this dialog, in every response that has one."""

    def ring(self, status: int = 180) -> None:
        """Send 180 (or 183)."""
        self._respond(status, b"")

    def answer(self, body: bytes) -> None:
        """Take the call: 200 with this SDP, again and again until it is acknowledged (section 13.3.1.4)."""
        if self._respond(200, body):
            self.answered.set()
            self._again(body, T1, 0.0)

    def refuse(self, status: int, reason: bytes = b"") -> None:
        """Do not take it."""
        if self._respond(status, b"", reason):
            self.failure = str(status)
            self.ended.set()

    def _respond(self, status: int, body: bytes, reason: bytes = b"") -> bool:
        server, request = self.server, self.request
        if server is None or request is None or not self.agent.is_running:
            return False
        transport = server.flow.point.transport
        lines = [*request.lines("record-route"), b"Contact: <%b>" % self.agent.contact_uri(transport), ALLOW]
        if body:
            lines.append(SDP)
        data = response_bytes(
            request,
            status,
            reason or REASONS.get(status, b""),
            to_tag=self.tag,
            lines=lines,
            body=body,
        )
        sent = self.agent.stack.respond(server, status, data, self.agent.now)
        self.agent.flush()
        return sent

    def _again(self, body: bytes, interval: float, waited: float) -> None:
        def check() -> None:
            if self.acknowledged.is_set() or self.ended.is_set():
                return
            if waited + interval >= 64 * T1:
                self.failure = "the 200 was never acknowledged"
                return
            self._respond(200, body)
            self._again(body, min(interval * 2, T2), waited + interval)

        asyncio.get_running_loop().call_later(interval, check)


class UserAgent(Actor):
    """An actor with calls. Override `on_call` to take them; it refuses them otherwise."""

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0, *, user: str = "") -> None:
        super().__init__(name, host, port)
        self.user = user or name
        self.calls: dict[tuple[bytes, bytes], Call] = {}
        """By Call-ID and our own tag."""

    def on_call(self, call: IncomingCall) -> None:
        """A call is offered."""
        call.refuse(486)

    def contact_uri(self, transport: str) -> bytes:
        """Our own URI."""
        parameter = "" if transport == "udp" else f";transport={transport}"
        return f"sip:{self.user}@{self.hostport}{parameter}".encode()

    def call(
        self,
        uri: bytes,
        *,
        via: bytes,
        caller: bytes,
        body: bytes,
        lines: Sequence[bytes] = (),
        told: Callable[[Call, str], None] = lambda call, what: None,
        delays_ack: bool = False,
    ) -> OutgoingCall:
        """Send an INVITE for `uri` to the URI `via`. `caller` is the From value without its tag.

        Raises RemoteError or LocalError where `via` cannot be used.
        """
        flow = self.flow_to(via)
        branch = new_branch()
        fields = [
            b"From: %b;tag=%b" % (caller, new_token()),
            b"To: <%b>" % uri,
            b"Call-ID: %b@%b" % (new_token(), self.host.encode()),
            b"CSeq: 1 INVITE",
            b"Contact: <%b>" % self.contact_uri(flow.point.transport),
            ALLOW,
            *lines,
        ]
        if body:
            fields.append(SDP)
        data = self.request_bytes(b"INVITE", uri, flow, branch, fields, body)
        request = Request(b"INVITE", uri, [(line.partition(b":")[0].lower().decode(), line) for line in fields], body)
        made = OutgoingCall(self, request=request, told=told, delays_ack=delays_ack)
        made.client = self.stack.send_request(b"INVITE", branch, data, flow, made, self.now)
        self.flush()
        return made

    def remember(self, call: Call) -> None:
        """In-dialog requests find this call from now on."""
        if call.dialog is not None:
            self.calls[call.dialog.call_id, tag_of(call.dialog.local)] = call

    def send_in_dialog(self, dialog: Dialog, method: bytes, answer: Answer) -> None:
        """A request of ours within a call."""
        flow = self.flow_to(dialog.next_hop)
        branch = new_branch()
        data = self.request_bytes(method, dialog.target, flow, branch, dialog.lines(method))
        self.stack.send_request(method, branch, data, flow, answer, self.now)
        self.flush()

    def make_ack(self, dialog: Dialog) -> tuple[Flow, bytes]:
        """The ACK for a 2xx, and where it goes (section 13.2.2.4)."""
        flow = self.flow_to(dialog.next_hop)
        return flow, self.request_bytes(b"ACK", dialog.target, flow, new_branch(), dialog.lines(b"ACK"))

    def send_ack(self, flow: Flow, data: bytes) -> None:
        """Send it, outside of any transaction."""
        self.stack.out.append((flow, data, None))
        self.flush()

    # ---- the transaction user ----

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """INVITE and BYE; all else as a bare actor."""
        if request.method == b"BYE":
            call = self.calls.get((request.call_id, request.to_tag))
            self.stack.answer(server, 200 if call is not None else 481, now)
            if call is not None and not call.ended.is_set():
                call.ended.set()
                call.told(call, "bye")
        elif request.method == b"INVITE" and not request.to_tag:
            self._offer(server, request, now)
        elif request.method == b"INVITE":
            self.stack.answer(server, 488, now)  # no re-INVITE in these simulations
        else:
            super().on_request(server, request, now)

    def _offer(self, server: ServerTransaction, request: Request, now: float) -> None:
        call = IncomingCall(self, server=server, request=request)
        call.dialog = Dialog(
            call_id=request.call_id,
            local=b"%b;tag=%b" % (request.required("to"), call.tag),
            remote=request.required("from"),
            target=parse_name_addr(request.required("contact")).uri,
            routes=request.values("record-route"),
            cseq=0,
        )
        self.remember(call)
        server.owner = call
        self.on_call(call)

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        """The ACK for a 200 of ours."""
        call = self.calls.get((request.call_id, request.to_tag))
        if isinstance(call, IncomingCall) and not call.acknowledged.is_set():
            call.acknowledged.set()
            call.told(call, "acknowledged")

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        """The caller gave up."""
        call = invite.owner
        if not isinstance(call, IncomingCall):
            super().on_cancel(invite, request, now)
            return
        call.refuse(487)
        call.told(call, "cancelled")
