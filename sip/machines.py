"""Transactions, and what each action of the tables in sip.transaction does to them.

The tables are compiled into lists of functions once, so that an event costs two look-ups and a call for each action;
a chain of comparisons cost four times as much.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from sip.flow import Flow
from sip.forgiving import Restores
from sip.headers import split_top
from sip.message import Message, Request, Response
from sip.owners import ClientOwner
from sip.parsing import parse_message
from sip.timers import Entry, cancel_timer
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
)

if TYPE_CHECKING:
    from sip.stack import Stack


# Members of an enumeration are looked up slowly: those of every call once.
_CALLING, _TRYING, _PROCEEDING, _COMPLETED = State.CALLING, State.TRYING, State.PROCEEDING, State.COMPLETED
_RETRANSMIT, _DEADLINE = Event.RETRANSMIT, Event.DEADLINE


class ClientTransaction:
    """One request sent by us (section 17.1)."""

    __slots__ = (
        "ack",
        "branch",
        "data",
        "deadline",
        "durations",
        "flow",
        "forgives",
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
        self.forgives = False
        """True where a response whose body is not as long as it says is taken all the same."""
        self.durations = times
        self.state: State
        self.machine: Machine
        if method == b"INVITE":
            self.state, self.machine = _CALLING, _INVITE_CLIENT
        else:
            self.state, self.machine = _TRYING, _NON_INVITE_CLIENT
        self.interval = 0.0
        self.retransmission: Entry | None = None
        self.deadline: Entry | None = None
        self.ack = b""
        self.unsent = False
        """True while it waits for a connection to be opened."""


class ServerTransaction:
    """One request received (section 17.2)."""

    __slots__ = (
        "cseq",
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
        "restores",
        "retransmission",
        "state",
    )

    def __init__(self, key: bytes, request: Request, flow: Flow, times: Durations) -> None:
        self.key = key
        self.method = request.method
        self.cseq = request.cseq
        self.request: Request | None = request
        self.flow = flow
        self.durations = times
        self.state: State
        self.machine: Machine
        if request.method == b"INVITE":
            self.state, self.machine = _PROCEEDING, _INVITE_SERVER
        else:
            self.state, self.machine = _TRYING, _NON_INVITE_SERVER
        self.response = b""
        self.restores: Restores = ()
        """What responses must say as the sender wrote it, of a request that was forgiven its mistakes."""
        self.interval = 0.0
        self.retransmission: Entry | None = None
        self.deadline: Entry | None = None
        self.owner: object = None

    @property
    def is_answered(self) -> bool:
        """True once a final response was sent."""
        return self.state >= _COMPLETED


Transaction = ClientTransaction | ServerTransaction
Perform = Callable[["Stack", Transaction, Message | None, float], None]
Machine = list[list[tuple[State, tuple[Perform, ...]] | None]]
"""By state, then event: the next state, and what is done; None where the event changes nothing."""


def _deliver(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    if tx.__class__ is ClientTransaction:
        if tx.owner is not None and message.__class__ is Response:
            tx.owner.on_response(tx, message, now)
    elif tx.__class__ is ServerTransaction and message.__class__ is Request:
        stack.user.on_ack(message, tx.flow, tx, now)


def _send(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    if tx.__class__ is ClientTransaction:
        stack.out.append((tx.flow, tx.data, tx))
    elif tx.__class__ is ServerTransaction and tx.response:
        stack.out.append((tx.flow, tx.response, None))


def _resend(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    _send(stack, tx, message, now)
    stack.counts["retransmissions"] += 1


def _send_ack(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    client = cast(ClientTransaction, tx)
    client.ack = _ack_for(client.data, cast(Response, message))
    stack.out.append((client.flow, client.ack, None))


def _resend_ack(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    stack.out.append((tx.flow, cast(ClientTransaction, tx).ack, None))


def _double(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, tx.interval * 2, now)


def _double_to_t2(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, min(tx.interval * 2, stack.timers.t2), now)


def _retransmit_at_t2(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    stack._retransmit_after(tx, stack.timers.t2, now)


def _stop_retransmitting(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    cancel_timer(tx.retransmission)


def _stop_deadline(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    cancel_timer(tx.deadline)


def _report_timeout(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    owner = cast(ClientTransaction, tx).owner
    if owner is not None:
        owner.on_timeout(cast(ClientTransaction, tx), now)


def _report_transport_error(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    owner = cast(ClientTransaction, tx).owner
    if owner is not None:
        owner.on_transport_error(cast(ClientTransaction, tx), now)


def _start_retransmitting(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    seconds = tx.durations.a  # A, E and G are all T1, or not started on a reliable transport
    if seconds is not None:
        stack._retransmit_after(tx, seconds, now)


def _begin(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    """What both client machines start with: send, timers A and B, or E and F (of equal lengths)."""
    client: ClientTransaction = tx  # type: ignore[assignment]
    stack.out.append((client.flow, client.data, client))
    times = client.durations
    if times.a is not None:
        client.interval = times.a
        client.retransmission = stack.queue.set(client, _RETRANSMIT, times.a, now)
    client.deadline = stack.queue.set(client, _DEADLINE, times.b, now)


def _stop_and_deliver(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    """The first provisional response to an INVITE of ours."""
    entry = tx.retransmission
    if entry is not None:
        entry[1] = None
    entry = tx.deadline
    if entry is not None:
        entry[1] = None
    client: ClientTransaction = tx  # type: ignore[assignment]
    if client.owner is not None:
        client.owner.on_response(client, message, now)  # type: ignore[arg-type]


def _start_m(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    cast(ClientTransaction, tx).data = b""  # Accepted (RFC 6026): never sent again, and the transaction lives 32 s
    stack._deadline_after(tx, tx.durations.m, now)


def _ended(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
    stack._end(tx)


def _starting(timer: str) -> Perform:
    """The action that starts one of the timers that end something."""

    def start(stack: "Stack", tx: Transaction, message: Message | None, now: float) -> None:
        seconds = getattr(tx.durations, timer)
        if seconds <= 0:
            stack._deadline_after(tx, seconds, now)
            return
        entry = tx.deadline
        if entry is not None:
            entry[1] = None
        tx.deadline = stack.queue.set(tx, _DEADLINE, seconds, now)

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


# Runs of actions that every call goes through, done by one function instead of several.
_TOGETHER: dict[tuple[Action, ...], tuple[Perform, ...]] = {
    INVITE_CLIENT_START: (_begin,),
    NON_INVITE_CLIENT_START: (_begin,),
    (Action.STOP_RETRANSMITTING, Action.STOP_DEADLINE, Action.DELIVER): (_stop_and_deliver,),
}


def performing(actions: tuple[Action, ...], *, apart: bool = False) -> tuple[Perform, ...]:
    """The functions that do these actions; apart: one for each of them."""
    together = None if apart else _TOGETHER.get(actions)
    return tuple(_PERFORM[action] for action in actions) if together is None else together


def _compiled(table: Table) -> Machine:
    """A table as lists, by state and event."""
    machine: Machine = [[None] * (max(Event) + 1) for _ in range(max(State) + 1)]
    for (state, event), (following, actions) in table.items():
        machine[state][event] = (following, performing(actions))
    return machine


_INVITE_CLIENT = _compiled(INVITE_CLIENT)
_NON_INVITE_CLIENT = _compiled(NON_INVITE_CLIENT)
_INVITE_SERVER = _compiled(INVITE_SERVER)
_NON_INVITE_SERVER = _compiled(NON_INVITE_SERVER)
START_INVITE = performing(INVITE_CLIENT_START)
START_NON_INVITE = performing(NON_INVITE_CLIENT_START)


def top_via(message: Message) -> bytes:
    top, _ = split_top(message.required("via"))
    return b"Via: " + top


def _ack_for(data: bytes, response: Response) -> bytes:
    """The ACK for a final response other than 2xx (section 17.1.1.3)."""
    request = parse_message(data, own=True)
    uri = request.uri if isinstance(request, Request) else b""
    lines = [b"ACK %b SIP/2.0" % uri, top_via(request)]
    lines += request.lines("route")
    lines.append(b"Max-Forwards: 70")
    lines += request.lines("from")
    lines += response.lines("to")[:1]
    lines += request.lines("call-id")
    lines.append(b"CSeq: %d ACK" % request.cseq)
    lines += [b"Content-Length: 0", b"", b""]
    return b"\r\n".join(lines)
