"""Virtual time for sip.stack: a transaction user and a client owner that write down what they are told.

A test says what arrives and when; `Playbook` moves time from timer to timer, so that each message that goes out is
known with the very moment at which it left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sip.errors import RemoteError
from sip.flow import Flow, ListeningPoint
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.stack import Stack
from sip.transaction import Timers

KEY = b"playbook key 16b"
START = 1000.0
"""The clock at the beginning of every playbook; times in `Sent` count from here."""

UDP = ListeningPoint("udp", "192.0.2.1", 5060)
TCP = ListeningPoint("tcp", "192.0.2.1", 5060)
PHONE = Flow(UDP, "192.0.2.10", 5060)
PHONE_TCP = Flow(TCP, "192.0.2.10", 40_000, 7)
FAR = Flow(UDP, "198.51.100.20", 5060)
FAR_TCP = Flow(TCP, "198.51.100.20", 5060)


class Sent(NamedTuple):
    """One message that went out, seconds after START."""

    at: float
    flow: Flow
    data: bytes
    client: ClientTransaction | None

    @property
    def message(self) -> Request | Response:
        """The message, read."""
        return parse_message(self.data, own=True)

    @property
    def request(self) -> Request:
        """The same, known to be a request."""
        message = self.message
        assert isinstance(message, Request), self.data
        return message

    @property
    def response(self) -> Response:
        """The same, known to be a response."""
        message = self.message
        assert isinstance(message, Response), self.data
        return message


class Owner:
    """Owner of client transactions: writes down what became of them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.responses: list[Response] = []

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        self.events.append(str(response.status))
        self.responses.append(response)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        self.events.append(f"timeout {now - START:g}")

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        self.events.append(f"transport-error {now - START:g}")


@dataclass
class RecordingUser:
    """A transaction user that does nothing but remember."""

    requests: list[tuple[ServerTransaction, Request]] = field(default_factory=list)
    acks: list[tuple[Request, ServerTransaction | None]] = field(default_factory=list)
    cancels: list[ServerTransaction] = field(default_factory=list)
    strays: list[Response] = field(default_factory=list)
    refusal: RemoteError | None = None
    forgiving: bool = False

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        self.requests.append((server, request))

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        self.acks.append((request, invite))

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        self.cancels.append(invite)

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """Nothing here forks."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        self.strays.append(response)

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> ServerTransaction | None:
        """Nothing here has an earlier process."""
        return None

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        return self.refusal

    def on_malformed(self, request: Request, error: RemoteError, flow: Flow) -> None:
        """Refused already; nothing here tells anybody."""

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        return self.forgiving


class Playbook:
    """A stack, its clock, and all that it sent."""

    def __init__(self, user: object | None = None, timers: Timers | None = None, key: bytes = KEY) -> None:
        self.user = RecordingUser()
        self.stack = Stack(user or self.user, key=key, timers=timers)  # type: ignore[arg-type]  # any user of a test
        self.now = START
        self.sent: list[Sent] = []

    @property
    def elapsed(self) -> float:
        """Seconds since START."""
        return round(self.now - START, 9)

    def collect(self) -> None:
        """Take what the stack wants sent."""
        out, self.stack.out = self.stack.out, []
        self.sent += [Sent(self.elapsed, *item) for item in out]

    def take(self) -> list[Sent]:
        """What was sent since the last take."""
        self.collect()
        sent, self.sent = self.sent, []
        return sent

    def receive(self, data: bytes, flow: Flow = PHONE) -> list[Sent]:
        """A message arrives now; gives all that was sent since the last take."""
        self.stack.receive(data, flow, self.now)
        return self.take()

    def until(self, elapsed: float) -> list[Sent]:
        """Let time pass, stopping at every timer; gives all that was sent since the last take."""
        self.collect()
        target = START + elapsed
        while self.stack.queue.earliest <= target:
            self.now = max(self.now, self.stack.queue.earliest)
            self.stack.advance(self.now)
            self.collect()
        self.now = target
        return self.take()

    def send(self, data: bytes, owner: Owner, flow: Flow = FAR) -> ClientTransaction:
        """Start a client transaction with a whole request."""
        request = parse_message(data)
        assert isinstance(request, Request)
        return self.stack.send_request(request.method, request.via.branch, data, flow, owner, self.now)

    @property
    def idle(self) -> bool:
        """True where no transaction and no live timer is left."""
        stack = self.stack
        return not (stack.clients or stack.cancels or stack.servers or len(stack.queue))


def request_bytes(
    method: bytes = b"INVITE",
    *,
    uri: bytes = b"sip:15550100@192.0.2.1",
    branch: bytes = b"z9hG4bKphone1",
    via: bytes | None = None,
    call_id: bytes = b"call-1@192.0.2.10",
    from_tag: bytes = b"caller",
    to: bytes = b"<sip:15550100@192.0.2.1>",
    cseq: int = 1,
    cseq_method: bytes | None = None,
    extra: Sequence[bytes] = (),
    body: bytes = b"",
) -> bytes:
    """A whole request as a phone at 192.0.2.10 sends it."""
    lines = [
        b"%b %b SIP/2.0" % (method, uri),
        b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=%b" % branch if via is None else via,
        b"Max-Forwards: 70",
        b'From: "Alice" <sip:1001@192.0.2.1>' + (b";tag=" + from_tag if from_tag else b""),
        b"To: " + to,
        b"Call-ID: " + call_id,
        b"CSeq: %d %b" % (cseq, cseq_method or method),
        *extra,
        b"Content-Length: %d" % len(body),
        b"",
        body,
    ]
    return b"\r\n".join(lines)


def own_request(method: bytes = b"INVITE", branch: bytes = b"z9hG4bKours1", **more: object) -> bytes:
    """A whole request of ours, as it goes to FAR."""
    via = UDP.via + branch + b";rport"
    return request_bytes(method, via=via, branch=branch, **more)  # type: ignore[arg-type]  # handed on as they came


def answer_to(
    request: bytes | Request,
    status: int,
    *,
    to_tag: bytes = b"far",
    extra: Sequence[bytes] = (),
    cseq_method: bytes | None = None,
    body: bytes = b"",
) -> bytes:
    """The far end's response to a request: its Via, From, To, Call-ID and CSeq copied (section 8.2.6)."""
    message = parse_message(request, own=True) if isinstance(request, bytes) else request
    lines = [b"SIP/2.0 %d Some Reason" % status]
    for key in ("via", "from", "to", "call-id", "cseq", "record-route"):
        for line in message.lines(key):
            if key == "to" and to_tag and status > 100 and not message.to_tag:
                line += b";tag=" + to_tag
            if key == "cseq" and cseq_method is not None:
                line = b"CSeq: %d %b" % (message.cseq, cseq_method)
            lines.append(line)
    lines += [*extra, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def ack_to(invite: bytes, response: Response) -> bytes:
    """The caller's ACK for a final response other than 2xx (section 17.1.1.3): the INVITE's branch."""
    message = parse_message(invite)
    assert isinstance(message, Request)
    lines = [b"ACK %b SIP/2.0" % message.uri, *message.lines("via")[:1], b"Max-Forwards: 70"]
    lines += [*message.lines("from"), *response.lines("to"), *message.lines("call-id")]
    lines += [b"CSeq: %d ACK" % message.cseq, b"Content-Length: 0", b"", b""]
    return b"\r\n".join(lines)


def cancel_of(invite: bytes) -> bytes:
    """The caller's CANCEL (section 9.1)."""
    message = parse_message(invite)
    assert isinstance(message, Request)
    lines = [b"CANCEL %b SIP/2.0" % message.uri, *message.lines("via")[:1], b"Max-Forwards: 70"]
    lines += [*message.lines("from"), *message.lines("to"), *message.lines("call-id")]
    lines += [b"CSeq: %d CANCEL" % message.cseq, b"Content-Length: 0", b"", b""]
    return b"\r\n".join(lines)
