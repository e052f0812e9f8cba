"""The four transaction machines of RFC 3261 section 17 with RFC 6026, as tables.

Each table maps (state, event) to (next state, actions). A pair that is not in the table changes nothing: the RFC
says nothing of it, or says to ignore it. No machine knows a socket or a clock: time comes in as timer events,
messages go out as actions that sip.stack performs. Two timers can run at once: the one that retransmits (A, E, G)
and the one that ends something (all others); setting either replaces it. DELIVER stands before the timers that are
0 on reliable transports: they end the transaction at once.
"""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Timers:
    """RFC 3261 section 17.1.1.1, seconds."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0


class State(IntEnum):
    """States of all four machines, named as in the figures."""

    CALLING = 1
    TRYING = 2
    PROCEEDING = 3
    COMPLETED = 4
    ACCEPTED = 5
    CONFIRMED = 6
    TERMINATED = 7


class Event(IntEnum):
    """What can happen to a transaction."""

    PROVISIONAL = 1
    """1xx: received by a client, given by the TU to a server."""
    SUCCESS = 2
    """2xx."""
    FAILURE = 3
    """300 to 699."""
    REQUEST = 4
    """The request again (server)."""
    ACK = 5
    """ACK (INVITE server)."""
    RETRANSMIT = 6
    """Timer A, E or G."""
    DEADLINE = 7
    """Timer B, D, F, H, I, J, K, L or M."""
    TRANSPORT_ERROR = 8


class Action(IntEnum):
    """What a machine asks of the stack."""

    SEND = 1
    """Send the message at hand (client: its request; server: the response given)."""
    RESEND = 2
    """Send the last message again."""
    SEND_ACK = 3
    """Client: build the ACK for this response, keep it for retransmissions, send it (section 17.1.1.3)."""
    RESEND_ACK = 4
    DELIVER = 5
    """Give the message to the TU."""
    DOUBLE = 6
    """Set the retransmission timer to twice its last value."""
    DOUBLE_TO_T2 = 7
    """The same, capped at T2."""
    RETRANSMIT_AT_T2 = 8
    STOP_RETRANSMITTING = 9
    REPORT_TIMEOUT = 10
    REPORT_TRANSPORT_ERROR = 11
    START_A = 12
    START_B = 13
    START_D = 14
    START_E = 15
    START_F = 16
    START_G = 17
    START_H = 18
    START_I = 19
    START_J = 20
    START_K = 21
    START_L = 22
    START_M = 23
    STOP_DEADLINE = 24
    ENDED = 25


Table = dict[tuple[State, Event], tuple[State, tuple[Action, ...]]]

# On start: section 17.1.1.2, "the client transaction MUST start timer A ... timer B with a value of 64*T1".
INVITE_CLIENT_START = (Action.SEND, Action.START_A, Action.START_B)

INVITE_CLIENT: Table = {
    # 17.1.1.2: timer A doubles without a cap and the request is sent again.
    (State.CALLING, Event.RETRANSMIT): (State.CALLING, (Action.RESEND, Action.DOUBLE)),
    (State.CALLING, Event.DEADLINE): (State.TERMINATED, (Action.REPORT_TIMEOUT, Action.ENDED)),
    (State.CALLING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Action.REPORT_TRANSPORT_ERROR, Action.ENDED)),
    # "SHOULD NOT retransmit the request any further"; timer B is for Calling only.
    (State.CALLING, Event.PROVISIONAL): (
        State.PROCEEDING,
        (Action.STOP_RETRANSMITTING, Action.STOP_DEADLINE, Action.DELIVER),
    ),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Action.DELIVER,)),
    # Not in the RFC: the connection ended after a 1xx. Answers may come by another one (18.2.2), so nothing ends
    # here; the TU may have the INVITE sent again.
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (State.PROCEEDING, (Action.REPORT_TRANSPORT_ERROR,)),
    # RFC 6026 7.2: a 2xx enters Accepted, timer M; further 2xx go to the TU.
    (State.CALLING, Event.SUCCESS): (
        State.ACCEPTED,
        (Action.STOP_RETRANSMITTING, Action.START_M, Action.DELIVER),
    ),
    (State.PROCEEDING, Event.SUCCESS): (State.ACCEPTED, (Action.START_M, Action.DELIVER)),
    (State.ACCEPTED, Event.SUCCESS): (State.ACCEPTED, (Action.DELIVER,)),
    (State.ACCEPTED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
    # 17.1.1.2: 300 to 699: ACK, timer D (at least 32 s; 0 where reliable).
    (State.CALLING, Event.FAILURE): (
        State.COMPLETED,
        (Action.STOP_RETRANSMITTING, Action.SEND_ACK, Action.DELIVER, Action.START_D),
    ),
    (State.PROCEEDING, Event.FAILURE): (State.COMPLETED, (Action.SEND_ACK, Action.DELIVER, Action.START_D)),
    # "Any retransmissions of the final response ... MUST cause the ACK to be re-passed to the transport layer".
    (State.COMPLETED, Event.FAILURE): (State.COMPLETED, (Action.RESEND_ACK,)),
    (State.COMPLETED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
    (State.COMPLETED, Event.TRANSPORT_ERROR): (State.TERMINATED, (Action.ENDED,)),
}

# 17.1.2.2: timer F 64*T1, timer E T1 on unreliable transports.
NON_INVITE_CLIENT_START = (Action.SEND, Action.START_E, Action.START_F)

NON_INVITE_CLIENT: Table = {
    (State.TRYING, Event.RETRANSMIT): (State.TRYING, (Action.RESEND, Action.DOUBLE_TO_T2)),
    (State.TRYING, Event.DEADLINE): (State.TERMINATED, (Action.REPORT_TIMEOUT, Action.ENDED)),
    (State.TRYING, Event.TRANSPORT_ERROR): (State.TERMINATED, (Action.REPORT_TRANSPORT_ERROR, Action.ENDED)),
    (State.TRYING, Event.PROVISIONAL): (State.PROCEEDING, (Action.DELIVER,)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Action.DELIVER,)),
    # "If Timer E fires while in the Proceeding state, the request MUST be passed to the transport layer ... T2".
    (State.PROCEEDING, Event.RETRANSMIT): (State.PROCEEDING, (Action.RESEND, Action.RETRANSMIT_AT_T2)),
    (State.PROCEEDING, Event.DEADLINE): (State.TERMINATED, (Action.REPORT_TIMEOUT, Action.ENDED)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): (
        State.TERMINATED,
        (Action.REPORT_TRANSPORT_ERROR, Action.ENDED),
    ),
    (State.TRYING, Event.SUCCESS): (
        State.COMPLETED,
        (Action.STOP_RETRANSMITTING, Action.DELIVER, Action.START_K),
    ),
    (State.TRYING, Event.FAILURE): (
        State.COMPLETED,
        (Action.STOP_RETRANSMITTING, Action.DELIVER, Action.START_K),
    ),
    (State.PROCEEDING, Event.SUCCESS): (
        State.COMPLETED,
        (Action.STOP_RETRANSMITTING, Action.DELIVER, Action.START_K),
    ),
    (State.PROCEEDING, Event.FAILURE): (
        State.COMPLETED,
        (Action.STOP_RETRANSMITTING, Action.DELIVER, Action.START_K),
    ),
    (State.COMPLETED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
}

# 17.2.1; the 100 Trying is sent by the stack at once, so there is no timer for it.
INVITE_SERVER: Table = {
    (State.PROCEEDING, Event.REQUEST): (State.PROCEEDING, (Action.RESEND,)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Action.SEND,)),
    # RFC 6026 7.1: a 2xx from the TU enters Accepted, timer L; the TU may send further 2xx.
    (State.PROCEEDING, Event.SUCCESS): (State.ACCEPTED, (Action.SEND, Action.START_L)),
    (State.ACCEPTED, Event.SUCCESS): (State.ACCEPTED, (Action.SEND,)),
    # "While in the Accepted state, any retransmissions of the INVITE ... MUST NOT be passed to the TU".
    (State.ACCEPTED, Event.ACK): (State.ACCEPTED, (Action.DELIVER,)),
    (State.ACCEPTED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
    # 17.2.1: 300 to 699: timer H 64*T1, timer G T1 on unreliable transports.
    (State.PROCEEDING, Event.FAILURE): (State.COMPLETED, (Action.SEND, Action.START_G, Action.START_H)),
    (State.COMPLETED, Event.REQUEST): (State.COMPLETED, (Action.RESEND,)),
    (State.COMPLETED, Event.RETRANSMIT): (State.COMPLETED, (Action.RESEND, Action.DOUBLE_TO_T2)),
    (State.COMPLETED, Event.ACK): (State.CONFIRMED, (Action.STOP_RETRANSMITTING, Action.START_I)),
    (State.COMPLETED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
    (State.CONFIRMED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
}

# 17.2.2
NON_INVITE_SERVER: Table = {
    (State.TRYING, Event.PROVISIONAL): (State.PROCEEDING, (Action.SEND,)),
    (State.PROCEEDING, Event.PROVISIONAL): (State.PROCEEDING, (Action.SEND,)),
    (State.PROCEEDING, Event.REQUEST): (State.PROCEEDING, (Action.RESEND,)),
    (State.TRYING, Event.SUCCESS): (State.COMPLETED, (Action.SEND, Action.START_J)),
    (State.TRYING, Event.FAILURE): (State.COMPLETED, (Action.SEND, Action.START_J)),
    (State.PROCEEDING, Event.SUCCESS): (State.COMPLETED, (Action.SEND, Action.START_J)),
    (State.PROCEEDING, Event.FAILURE): (State.COMPLETED, (Action.SEND, Action.START_J)),
    (State.COMPLETED, Event.REQUEST): (State.COMPLETED, (Action.RESEND,)),
    (State.COMPLETED, Event.DEADLINE): (State.TERMINATED, (Action.ENDED,)),
}


@dataclass(frozen=True, slots=True)
class Durations:
    """How long each timer runs on one kind of transport, seconds; 0 fires at once, None does not start."""

    a: float | None
    b: float
    d: float
    e: float | None
    f: float
    g: float | None
    h: float
    i: float
    j: float
    k: float
    l: float  # noqa: E741 - the RFC's own name of the timer
    m: float


def durations(timers: Timers, reliable: bool) -> Durations:
    """The timer values of RFC 3261 table 4 and RFC 6026 for a transport."""
    long = 64 * timers.t1
    if reliable:
        # L and M stay 64*T1 on every transport (RFC 6026 8.1): they absorb, they do not retransmit.
        return Durations(
            a=None, b=long, d=0, e=None, f=long, g=None, h=long, i=0, j=0, k=0, l=long, m=long
        )  # fmt: skip
    return Durations(
        a=timers.t1,
        b=long,
        d=max(32.0, long),
        e=timers.t1,
        f=long,
        g=timers.t1,
        h=long,
        i=timers.t4,
        j=long,
        k=timers.t4,
        l=long,
        m=long,
    )
