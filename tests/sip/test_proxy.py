"""ResponseContext: RFC 3261 section 16, with serial routes.

Proved: 16.3 (Max-Forwards read), 16.6 steps 2 to 5 and 8 (forwarded copy, Max-Forwards, Record-Route, Via with a
derived branch), 16.7 steps 2 to 6 and 9 (timer C, Via removal, 100 not forwarded, 18x and 2xx forwarded, best
response, 503 to 500), 16.7 step 5 on 6xx, 16.8, 16.9, 16.10, 9.1 (when a CANCEL may go), RFC 4320 4.2 (no 408 to a
non-INVITE), and the emergency variants of the design: first ring wins, 6xx does not end the ladder, timer C starts
the next route first; 16.7 step 7 (the challenges of all branches), RFC 4320 4.1 and 4.2. Not proved, for it is not
done: parallel forking of a target set, 16.5 location service. Loops: tests/router/calls/test_loops.py.
"""

from collections.abc import Sequence

import pytest

from sip.branch import Branch, Target
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.forwarding import backward_bytes, derive_branch, forward_bytes, is_own_branch, max_forwards
from sip.machines import ServerTransaction
from sip.message import Request, Response
from sip.parsing import MAX_FIELDS, parse_message
from sip.proxy import LONGEST_SILENCE, TIMER_C, ResponseContext
from sip.timers import cancel_timer
from tests.support.playbook import (
    FAR_TCP,
    KEY,
    PHONE,
    PHONE_TCP,
    TCP,
    UDP,
    Playbook,
    RecordingUser,
    Sent,
    ack_to,
    answer_to,
    cancel_of,
    request_bytes,
)

INVITE = request_bytes(branch=b"z9hG4bKcaller", extra=(b"X-Kept:  as it\tcame ",), body=b"v=0\r\n")
ROUTES = tuple(Flow(UDP, f"198.51.100.{number}", 5060) for number in (1, 2, 3))


class Ladder(ResponseContext):
    """Routes in order; what happened is written down."""

    def __init__(self, tu: "Tu", server: ServerTransaction, request: Request) -> None:
        super().__init__(tu.book.stack, server, request, KEY)
        self.tu = tu
        self.left = list(enumerate(tu.routes))
        self.log: list[str] = []

    def select_target(self, now: float) -> Target | None:
        if not self.left:
            return None
        number, flow = self.left.pop(0)
        return Target(
            name=f"r{number}",
            label=b"%d" % number,
            flow=flow,
            request=self.request,
            record_routes=(b"Record-Route: <sip:192.0.2.1:5060;lr>",),
            timeout=self.tu.timeout,
            progress_timeout=self.tu.progress_timeout,
        )

    def on_progress(self, branch: Branch, event: str, status: int, now: float) -> None:
        self.log.append(f"{branch.target.name} {event}" + (f" {status}" if status else ""))

    def on_finished(self, status: int, branch: Branch | None, now: float) -> None:
        self.log.append(f"finished {status}")


class EmergencyLadder(Ladder):
    first_to_ring_wins = True
    ends_on_6xx = False
    keeps_ringing = True

    def tries_next(self, status: int) -> bool:
        return True

    def retry_target(self, branch: Branch, response: Response, now: float) -> Target | None:
        if response.status != 424 or branch.target.label.endswith(b"w"):
            return None
        target = branch.target
        return Target(
            name=target.name,
            label=target.label + b"w",
            flow=target.flow,
            request=self.request,
            timeout=self.tu.timeout,
        )


class Tu(RecordingUser):
    """Makes a Ladder of every request."""

    def __init__(
        self,
        *,
        emergency: bool = False,
        routes: Sequence[Flow] = ROUTES,
        timeout: float | None = 2.0,
        progress_timeout: float | None = 5.0,
    ) -> None:
        super().__init__()
        self.kind = EmergencyLadder if emergency else Ladder
        self.routes = routes
        self.timeout = timeout
        self.progress_timeout = progress_timeout
        self.contexts: list[Ladder] = []
        self.book = Playbook(self)

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        super().on_request(server, request, now)
        context = self.kind(self, server, request)
        self.contexts.append(context)
        context.start(now)

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        super().on_cancel(invite, request, now)
        assert isinstance(invite.owner, ResponseContext)
        invite.owner.on_cancel(request, now)


class Call:
    """A caller and its routes."""

    def __init__(self, tu: Tu, data: bytes = INVITE, flow: Flow = PHONE) -> None:
        self.tu = tu
        self.book = tu.book
        self.to_caller: list[int] = []
        self.requests: dict[str, bytes] = {}
        """Last INVITE (or other first request) to each route."""
        self.seen: list[str] = []
        """All that went to the routes, `r0 INVITE`."""
        self.responses: list[Response] = []
        self.note(self.book.receive(data, flow))

    @property
    def log(self) -> list[str]:
        return self.tu.contexts[0].log

    def note(self, sent: Sequence[Sent]) -> None:
        for item in sent:
            message = item.message
            if isinstance(message, Response):
                self.to_caller.append(message.status)
                self.responses.append(message)
                continue
            name = next(f"r{number}" for number, flow in enumerate(self.tu.routes) if flow[:3] == item.flow[:3])
            self.seen.append(f"{name} {message.method.decode()}")
            if message.method not in (b"ACK", b"CANCEL"):
                self.requests[name] = item.data

    def answer(self, route: str, status: int, **more: object) -> None:
        """The route answers its INVITE."""
        flow = self.tu.routes[int(route[1:])]
        self.note(self.book.receive(answer_to(self.requests[route], status, **more), flow))  # type: ignore[arg-type]  # handed on

    def until(self, elapsed: float) -> None:
        self.note(self.book.until(elapsed))

    def cancel(self) -> None:
        self.note(self.book.receive(cancel_of(INVITE)))

    def count(self, what: str) -> int:
        return self.seen.count(what)


def call(**more: object) -> Call:
    return Call(Tu(**more))  # type: ignore[arg-type]  # handed on


def end(it: Call) -> None:
    """Nothing is left when all timers have run out."""
    it.until(it.book.elapsed + 400)
    assert it.book.idle, it.book.stack.__dict__


def test_a_silent_route_counts_as_408_beside_the_503_of_another() -> None:
    it = call(routes=ROUTES[:2], timeout=None)
    it.until(32.1)
    it.answer("r1", 503)
    assert it.to_caller == [100, 408]
    end(it)


def test_the_challenges_of_all_routes_come_back_together() -> None:
    it = call(emergency=True, routes=ROUTES)
    proxy = (b'Proxy-Authenticate: Digest realm="a", nonce="1"',)
    origin = (b'WWW-Authenticate: Digest realm="b", nonce="2"', b'WWW-Authenticate: Basic realm="c"')
    it.answer("r0", 407, extra=proxy)
    it.answer("r1", 401, extra=origin)
    it.answer("r2", 407, extra=proxy)
    assert it.to_caller == [100, 401]
    final = it.responses[-1]
    assert final.lines("www-authenticate") == list(origin)
    assert final.lines("proxy-authenticate") == list(proxy), "the same challenge once"
    end(it)


def test_a_response_with_no_via_below_ours_goes_nowhere() -> None:
    it = call()
    raw = answer_to(it.requests["r0"], 200)
    lines = raw.split(b"\r\n")
    below = next(line for line in lines if line.startswith(b"Via: SIP/2.0/UDP 192.0.2.10"))
    it.note(it.book.receive(raw.replace(below + b"\r\n", b""), ROUTES[0]))
    assert it.to_caller == [100]
    assert it.book.stack.drops == {Reason.NO_VIA_BELOW: 1}
    assert it.tu.contexts[0].log[-2:] == ["r0 unreachable", "r1 started"], "nothing else ends this branch"
    raw = answer_to(it.requests["r1"], 200)
    apart = raw.replace(below + b"\r\n", b"").replace(b"CSeq:", below + b"\r\nCSeq:")
    it.note(it.book.receive(apart, ROUTES[1]))
    assert it.to_caller == [100, 200], "Via fields need not stand together"
    end(it)


@pytest.mark.parametrize("method", [b"OPTIONS", b"INVITE"])
@pytest.mark.parametrize("status", [183, 200, 486])
def test_a_response_with_no_via_below_ours_leaves_nothing_for_ever(method: bytes, status: int) -> None:
    it = Call(Tu(routes=ROUTES[:1], timeout=None), request_bytes(method, branch=b"z9hG4bKcaller"))
    raw = answer_to(it.requests["r0"], status)
    below = next(line for line in raw.split(b"\r\n") if line.startswith(b"Via: SIP/2.0/UDP 192.0.2.10"))
    it.note(it.book.receive(raw.replace(below + b"\r\n", b""), ROUTES[0]))
    it.until(2 * TIMER_C)
    assert it.tu.contexts[0].final_status >= 400
    end(it)


@pytest.mark.parametrize("status", [180, 183])
def test_no_provisional_response_to_a_non_invite_goes_back(status: int) -> None:
    """RFC 4320 section 4.1."""
    it = Call(Tu(), request_bytes(b"OPTIONS"))
    it.answer("r0", status)
    assert it.to_caller == []
    it.answer("r0", 200)
    assert it.to_caller == [200]
    end(it)


def test_a_408_to_a_non_invite_is_not_passed_on() -> None:
    """RFC 4320 section 4.2."""
    it = Call(Tu(routes=ROUTES[:1]), request_bytes(b"OPTIONS"))
    it.answer("r0", 408)
    assert it.to_caller == []
    assert not it.book.stack.servers
    end(it)


# ---- forwarding (16.6) ----


def test_the_forwarded_request_is_the_callers_but_for_three_fields() -> None:
    it = call()
    assert it.to_caller == [100], "the caller hears from us at once"
    lines = it.requests["r0"].split(b"\r\n")
    original = INVITE.split(b"\r\n")
    assert lines[0] == original[0]
    assert lines[1].startswith(b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK")
    assert lines[2] == b"Record-Route: <sip:192.0.2.1:5060;lr>"
    assert lines[3:] == [b"Max-Forwards: 69" if line == b"Max-Forwards: 70" else line for line in original[1:]]


def test_max_forwards_is_added_where_it_is_missing() -> None:
    it = Call(Tu(), INVITE.replace(b"Max-Forwards: 70\r\n", b""))
    assert it.requests["r0"].count(b"\r\nMax-Forwards: 70\r\n") == 1


@pytest.mark.parametrize("value", [b"x", b"-1", b"256", b"1 2", b"9" * 5000, b""])
def test_a_max_forwards_that_is_no_number(value: bytes) -> None:
    request = parse_message(INVITE.replace(b"Max-Forwards: 70", b"Max-Forwards: " + value))
    assert isinstance(request, Request)
    with pytest.raises(RemoteError) as caught:
        max_forwards(request)
    assert caught.value.reason is Reason.BAD_MAX_FORWARDS


def test_a_request_that_ended_with_its_datagram_gets_a_length_on_a_stream() -> None:
    request = parse_message(INVITE.replace(b"Content-Length: 5\r\n", b""))
    assert isinstance(request, Request)
    assert b"Content-Length" not in forward_bytes(request, ROUTES[0], b"z9hG4bKx")
    assert b"\r\nContent-Length: 5\r\n\r\nv=0\r\n" in forward_bytes(request, FAR_TCP, b"z9hG4bKx")
    response = parse_message(
        answer_to(forward_bytes(request, ROUTES[0], b"z9hG4bKx"), 200).replace(b"Content-Length: 0\r\n", b"")
    )
    assert isinstance(response, Response)
    assert b"Content-Length" not in backward_bytes(response, PHONE)
    assert b"\r\nContent-Length: 0\r\n\r\n" in backward_bytes(response, PHONE_TCP)


# ---- responses (16.7) ----


def test_a_call_that_is_answered() -> None:
    it = call()
    it.answer("r0", 100)
    it.answer("r0", 180)
    it.answer("r0", 200, body=b"v=0\r\n")
    assert it.to_caller == [100, 180, 200], "100 is hop by hop"
    assert it.responses[-1].lines("via") == [b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKcaller"]
    assert it.responses[-1].body == b"v=0\r\n"
    assert it.log == ["r0 started", "r0 trying 100", "r0 ringing 180", "r0 answered 200", "finished 200"]
    end(it)
    assert it.seen == ["r0 INVITE"], "an ACK for a 2xx is the caller's"


def test_every_copy_of_a_2xx_is_forwarded() -> None:
    it = call()
    it.answer("r0", 180)
    for moment in (0.5, 1.5, 3.5, 30.0):
        it.until(moment)
        it.answer("r0", 200)
    assert it.to_caller == [100, 180, 200, 200, 200, 200]
    it.until(70)
    it.answer("r0", 200)
    assert it.to_caller.count(200) == 4, "after timers L and M nobody waits"
    assert len(it.tu.strays) == 1
    end(it)


@pytest.mark.parametrize("status", [404, 486, 480, 401, 302])
def test_an_answer_of_the_far_end_ends_an_ordinary_call(status: int) -> None:
    it = call()
    it.answer("r0", status)
    assert it.to_caller == [100, status]
    assert it.seen == ["r0 INVITE", "r0 ACK"]
    end(it)


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_a_trunk_that_does_not_serve_sends_an_ordinary_call_on(status: int) -> None:
    it = call()
    it.answer("r0", status)
    assert it.seen == ["r0 INVITE", "r0 ACK", "r1 INVITE"]
    it.answer("r1", 180)
    it.answer("r1", 200)
    assert it.to_caller == [100, 180, 200]
    end(it)


def test_503_is_not_forwarded_and_its_retry_after_neither() -> None:
    it = call(routes=ROUTES[:2])
    it.answer("r0", 503, extra=(b"Retry-After: 3600",))
    it.answer("r1", 503, extra=(b"Retry-After: 3600",))
    assert it.to_caller == [100, 500]
    assert not it.responses[-1].has("retry-after")
    end(it)


@pytest.mark.parametrize(
    ("statuses", "best"),
    [
        ((503, 504), 500),
        ((504, 502), 502),
        ((503, 486), 486),
        ((504, 404), 404),
        ((502, 603), 603),
        ((408, 504), 408),
        ((503, 408), 408),
    ],
)
def test_the_best_response_of_several(statuses: tuple[int, int], best: int) -> None:
    it = call(routes=ROUTES[:2])
    it.answer("r0", statuses[0])
    it.answer("r1", statuses[1])
    assert it.to_caller == [100, best]
    end(it)


def test_the_best_of_the_4xx_is_one_that_the_caller_can_mend() -> None:
    class Forward(EmergencyLadder):
        send_failure = ResponseContext.send_failure

    tu = Tu()
    tu.kind = Forward
    it = Call(tu)
    for route, status in (("r0", 403), ("r1", 407), ("r2", 404)):
        it.answer(route, status)
    assert it.to_caller == [100, 407]


def test_a_6xx_ends_an_ordinary_call() -> None:
    it = call()
    it.answer("r0", 603)
    assert it.to_caller == [100, 603]
    assert it.count("r1 INVITE") == 0
    end(it)


def test_no_answer_at_all_is_408() -> None:
    it = call(routes=ROUTES[:1], timeout=None)
    it.until(31.9)
    assert it.to_caller == [100]
    it.until(32.0)
    assert it.to_caller == [100, 408], "timer B"
    end(it)


def test_no_answer_to_another_request_gets_no_408() -> None:
    it = Call(Tu(routes=ROUTES[:1], timeout=None), request_bytes(b"MESSAGE"))
    it.until(40)
    assert it.to_caller == []
    assert "finished 408" in it.log
    end(it)


def test_a_transport_error_is_known_at_once() -> None:
    it = call()
    client = it.tu.contexts[0].branches[0].client
    assert client is not None
    it.book.stack.transport_failed(client, it.book.now)
    it.note(it.book.take())
    assert it.seen == ["r0 INVITE", "r1 INVITE"]
    assert it.log == ["r0 started", "r0 unreachable", "r1 started"]
    end(it)


# ---- giving up, and late answers ----


@pytest.mark.parametrize("emergency", [False, True])
def test_a_silent_route_costs_its_timeout_and_stays_alive(emergency: bool) -> None:
    it = call(emergency=emergency)
    it.until(1.999)
    assert it.count("r1 INVITE") == 0
    it.until(2.0)
    assert it.count("r1 INVITE") == 1
    it.answer("r1", 100)
    it.answer("r0", 200)
    assert it.to_caller == [100, 200], "a late 200 is never lost"
    assert it.count("r1 CANCEL") == 1
    it.answer("r1", 487)
    assert it.to_caller == [100, 200]
    end(it)


def test_a_route_stuck_at_100_costs_its_progress_timeout() -> None:
    it = call(emergency=True)
    it.until(1.0)
    it.answer("r0", 100)
    it.until(5.999)
    assert it.count("r1 INVITE") == 0
    it.until(6.0)
    assert it.count("r1 INVITE") == 1
    assert it.count("r0 CANCEL") == 0, "given up, not ended"
    end(it)


@pytest.mark.parametrize("emergency", [False, True])
@pytest.mark.parametrize("routes", [2, 3])
def test_a_given_up_route_that_rings_counts_as_any_other(emergency: bool, routes: int) -> None:
    """The route that was given up rings after all; the one started since then ends: the ringing one is the call."""
    it = call(emergency=emergency, routes=ROUTES[:routes])
    it.until(2.0)
    it.answer("r1", 100)
    it.answer("r0", 180)
    assert it.to_caller == [100, 180]
    if emergency:
        assert it.count("r1 CANCEL") == 1, "first to ring wins"
        it.answer("r1", 487)
    else:
        it.answer("r1", 486)
    assert it.to_caller == [100, 180], "it rings: no failure may end it"
    assert it.count("r2 INVITE") == 0
    it.answer("r0", 200)
    assert it.to_caller == [100, 180, 200]
    end(it)


def test_a_given_up_route_that_rings_and_then_fails_sends_the_ladder_on() -> None:
    it = call(emergency=True)
    it.until(2.0)
    it.answer("r1", 100)
    it.answer("r0", 183)
    it.answer("r1", 487)
    it.answer("r0", 503)
    assert it.seen[-2:] == ["r0 ACK", "r2 INVITE"]
    it.answer("r2", 200)
    assert it.to_caller == [100, 183, 200]
    end(it)


def test_183_then_503_goes_on() -> None:
    it = call(emergency=True)
    it.answer("r0", 183)
    it.answer("r0", 503)
    it.answer("r1", 183)
    it.answer("r1", 200)
    assert it.to_caller == [100, 183, 183, 200]
    end(it)


def test_the_first_to_ring_wins_and_the_others_are_cancelled_when_they_allow_it() -> None:
    it = call(emergency=True)
    it.until(2.0)
    it.answer("r1", 180)
    assert it.count("r0 CANCEL") == 0, "section 9.1: no CANCEL before a provisional response"
    it.answer("r0", 100)
    assert it.count("r0 CANCEL") == 1
    it.answer("r0", 180)
    assert it.to_caller == [100, 180], "the loser's ringing is not shown"
    assert it.count("r0 CANCEL") == 1
    it.answer("r0", 487)
    it.answer("r1", 200)
    assert it.to_caller == [100, 180, 200]
    end(it)


def test_a_6xx_does_not_end_the_ladder_of_an_emergency_call() -> None:
    it = call(emergency=True)
    it.answer("r0", 603)
    assert it.count("r1 INVITE") == 1
    end(it)


def test_a_second_try_at_the_same_place_has_its_own_branch() -> None:
    it = call(emergency=True)
    first = it.requests["r0"]
    it.answer("r0", 424)
    assert it.count("r0 INVITE") == 2
    assert parse_message(first).via.branch != parse_message(it.requests["r0"]).via.branch
    it.answer("r0", 424)
    assert it.count("r1 INVITE") == 1
    end(it)


def test_an_answer_after_the_failure_was_sent_is_forwarded_past_the_transaction() -> None:
    it = call(routes=ROUTES[:1], timeout=2.0)
    it.until(2.0)
    assert it.to_caller[-1] >= 400
    it.answer("r0", 200)
    assert it.to_caller[-1] == 200
    end(it)


# ---- timer C (16.7 step 2, 16.8) ----


def test_timer_c_is_restarted_by_each_provisional_and_then_cancels() -> None:
    it = call(routes=ROUTES[:1])
    it.answer("r0", 180)
    for moment in (100.0, 200.0, 300.0):
        it.until(moment)
        it.answer("r0", 183)
    it.until(300 + TIMER_C - 0.001)
    assert it.count("r0 CANCEL") == 0
    it.until(300 + TIMER_C)
    assert it.count("r0 CANCEL") == 1
    assert it.to_caller[-1] == 408
    end(it)


def test_timer_c_is_not_restarted_by_100() -> None:
    it = call(routes=ROUTES[:1], progress_timeout=None)
    it.answer("r0", 100)
    it.until(100)
    it.answer("r0", 100)
    it.until(TIMER_C)
    assert it.count("r0 CANCEL") == 1


def test_on_an_emergency_call_timer_c_starts_the_next_route_before_it_cancels() -> None:
    it = call(emergency=True)
    it.answer("r0", 180)
    it.until(TIMER_C)
    assert it.seen == ["r0 INVITE", "r1 INVITE", "r0 CANCEL"]
    it.answer("r1", 180)
    it.answer("r0", 487)
    it.answer("r1", 200)
    assert it.to_caller == [100, 180, 180, 200]
    end(it)


def test_on_an_emergency_call_timer_c_does_not_end_the_last_route_that_rings() -> None:
    it = call(emergency=True, routes=ROUTES[:1])
    it.answer("r0", 180)
    it.until(5 * TIMER_C)
    assert it.seen == ["r0 INVITE"]
    it.answer("r0", 200)
    assert it.to_caller == [100, 180, 200]
    end(it)


def test_an_emergency_call_that_rings_ends_after_an_hour_without_a_word() -> None:
    it = call(emergency=True, routes=ROUTES[:1])
    it.answer("r0", 180)
    it.until(1000.0)
    it.answer("r0", 180)
    it.until(1000.0 + LONGEST_SILENCE)
    assert it.seen == ["r0 INVITE"], "an hour from the last word"
    it.until(1000.0 + LONGEST_SILENCE + TIMER_C)
    assert it.seen[:2] == ["r0 INVITE", "r0 CANCEL"]
    assert it.to_caller[-1] >= 400
    it.answer("r0", 487)
    end(it)


# ---- CANCEL (16.10, 9.1) ----


def test_cancel_while_ringing() -> None:
    it = call()
    it.answer("r0", 180)
    it.note(it.book.receive(cancel_of(INVITE).replace(b"CSeq:", b'Reason: SIP;cause=200;text="x"\r\nCSeq:')))
    assert it.to_caller == [100, 180, 200], "200 for the CANCEL"
    assert it.count("r0 CANCEL") == 1
    it.answer("r0", 487)
    assert it.to_caller == [100, 180, 200, 487]
    assert it.responses[-1].to_tag == b"far", "the far end's own answer"
    assert "finished 487" in it.log
    end(it)


def test_a_cancel_carries_the_callers_reason_and_the_invites_branch() -> None:
    it = call()
    it.answer("r0", 180)
    sent = it.book.receive(cancel_of(INVITE).replace(b"CSeq:", b"Reason: SIP;cause=200\r\nCSeq:"))
    cancel = next(item.request for item in sent if item.data.startswith(b"CANCEL"))
    invite = parse_message(it.requests["r0"])
    assert isinstance(invite, Request)
    assert cancel.lines("via") == invite.lines("via")[:1]
    assert (cancel.uri, cancel.cseq, cancel.method) == (invite.uri, invite.cseq, b"CANCEL")
    for key in ("from", "to", "call-id"):
        assert cancel.lines(key) == invite.lines(key)
    assert cancel.lines("reason") == [b"Reason: SIP;cause=200"]


def test_cancel_before_any_answer_waits_for_one_but_the_caller_does_not() -> None:
    it = call()
    it.cancel()
    assert it.to_caller == [100, 200, 487]
    assert it.seen == ["r0 INVITE"]
    it.until(1.0)
    it.answer("r0", 100)
    assert it.count("r0 CANCEL") == 1
    before = list(it.to_caller)
    it.answer("r0", 487)
    assert it.to_caller == before, "one final response"
    assert it.count("r1 INVITE") == 0
    end(it)


def test_cancel_crossing_a_200() -> None:
    it = call()
    it.answer("r0", 180)
    it.cancel()
    it.answer("r0", 200)
    assert it.to_caller == [100, 180, 200, 200]
    assert it.responses[-1].method == b"INVITE", "the call was answered: the caller must know, and end it by BYE"
    assert "finished 200" in it.log
    end(it)


def test_cancel_after_the_answer_changes_nothing() -> None:
    it = call()
    it.answer("r0", 200)
    it.cancel()
    assert it.to_caller == [100, 200, 200]
    assert it.count("r0 CANCEL") == 0
    end(it)


def test_cancel_to_a_route_that_never_ends_is_over_after_64_t1() -> None:
    it = call()
    it.answer("r0", 180)
    it.until(10)
    it.cancel()
    it.until(41.9)
    assert 487 not in it.to_caller
    it.until(42.0)
    assert it.to_caller[-1] == 487
    end(it)


def test_cancel_while_failing_over_starts_no_further_route() -> None:
    it = call(emergency=True)
    it.until(2.0)
    it.answer("r1", 100)
    it.cancel()
    assert it.count("r1 CANCEL") == 1
    it.answer("r1", 487)
    assert it.to_caller[-1] == 487
    it.until(20)
    assert it.count("r2 INVITE") == 0
    end(it)


# ---- all 2xx (16.7 step 5) ----


def test_a_second_2xx_of_another_route_is_forwarded_too() -> None:
    seconds: list[str] = []

    class Watching(EmergencyLadder):
        def on_second_success(self, branch: Branch, response: Response, now: float) -> None:
            seconds.append(branch.target.name)

    tu = Tu()
    tu.kind = Watching
    it = Call(tu)
    it.until(2.0)
    it.answer("r1", 200, to_tag=b"one")
    it.answer("r0", 200, to_tag=b"two")
    it.answer("r0", 200, to_tag=b"two")
    assert it.to_caller == [100, 200, 200, 200]
    assert [item.to_tag for item in it.responses[-3:]] == [b"one", b"two", b"two"]
    assert seconds == ["r0"], "told once"
    end(it)


# ---- derived branches (design rule 6) ----


def test_after_a_restart_a_retransmission_leaves_as_a_retransmission() -> None:
    before, after = call(emergency=True), call(emergency=True)
    for it in (before, after):
        it.answer("r0", 503)
    assert before.requests == after.requests


def test_another_key_gives_other_branches_and_each_route_its_own() -> None:
    request = parse_message(INVITE)
    assert isinstance(request, Request)
    assert derive_branch(KEY, request, b"0") != derive_branch(KEY, request, b"1")
    assert derive_branch(KEY, request, b"0") != derive_branch(b"another key 16 b", request, b"0")
    for changed in (
        request_bytes(branch=b"z9hG4bKother"),
        request_bytes(branch=b"z9hG4bKcaller", cseq=2),
        request_bytes(branch=b"z9hG4bKcaller", call_id=b"other"),
        request_bytes(branch=b"z9hG4bKcaller", from_tag=b"other"),
        request_bytes(b"OPTIONS", branch=b"z9hG4bKcaller"),
    ):
        other = parse_message(changed)
        assert isinstance(other, Request)
        assert derive_branch(KEY, request, b"0") != derive_branch(KEY, other, b"0")


def test_own_branches_are_known_without_a_transaction_whatever_the_order_of_fields() -> None:
    it = call()
    data = answer_to(it.requests["r0"], 200)
    response = parse_message(data)
    assert isinstance(response, Response)
    assert is_own_branch(KEY, response)
    assert not is_own_branch(b"another key 16 b", response)
    head, _, rest = data.partition(b"\r\n")
    lines = rest.removesuffix(b"\r\n\r\n").split(b"\r\n")
    for moved in range(len(lines)):
        order = [lines[moved], *(line for number, line in enumerate(lines) if number != moved)]
        if order[0].startswith(b"Via") and moved == 1:
            continue  # that would be another top Via
        shuffled = parse_message(head + b"\r\n" + b"\r\n".join(order) + b"\r\n\r\n")
        assert isinstance(shuffled, Response)
        assert is_own_branch(KEY, shuffled), order[0]
    for forged in (
        data.replace(b"call-1@", b"call-2@"),
        data.replace(b"branch=z9hG4bKcaller", b"branch=z9hG4bKvictim"),
        data.replace(b"192.0.2.10:5060;branch", b"203.0.113.66:5060;branch"),
        data.replace(b"CSeq: 1 ", b"CSeq: 2 "),
        data.replace(b"tag=caller", b"tag=forged"),
    ):
        assert forged != data
        other = parse_message(forged)
        assert isinstance(other, Response)
        assert not is_own_branch(KEY, other)


def test_a_call_with_all_the_fields_we_take_fails_over_like_any() -> None:
    """What we add must not make our own request too large for ourselves when it is acknowledged or cancelled."""
    fewer = request_bytes(branch=b"z9hG4bKcaller").count(b"\r\n") - 1
    many = tuple(b"X-%d: y" % number for number in range(MAX_FIELDS - fewer))
    data = request_bytes(branch=b"z9hG4bKcaller", extra=many)
    it = Call(Tu(), data)
    it.answer("r0", 503)
    assert it.seen == ["r0 INVITE", "r0 ACK", "r1 INVITE"]
    it.answer("r1", 180)
    it.note(it.book.receive(cancel_of(data)))
    assert it.count("r1 CANCEL") == 1
    end(it)


def test_ack_for_a_failure_stays_with_us() -> None:
    it = call(routes=ROUTES[:1])
    it.answer("r0", 486)
    it.note(it.book.receive(ack_to(INVITE, it.responses[-1])))
    assert it.seen == ["r0 INVITE", "r0 ACK"]
    assert not it.tu.acks
    it.until(20)
    assert it.to_caller == [100, 486], "no retransmission after the ACK"
    end(it)


def test_a_response_goes_back_over_the_connection_it_came_by() -> None:
    via = b"Via: SIP/2.0/TCP 192.0.2.10:5060;branch=z9hG4bKcaller"
    it = Call(Tu(), request_bytes(via=via), PHONE_TCP)
    sent = it.book.receive(answer_to(it.requests["r0"], 180), ROUTES[0])
    assert [item.flow[:4] for item in sent] == [PHONE_TCP[:4]]
    assert sent[0].flow.reply_port == 5060, "where to connect if the connection is gone by then"
    assert PHONE_TCP.point is TCP


def test_cancel_timer_twice_is_harmless() -> None:
    it = call()
    entry = it.book.stack.set_timer(it.tu.contexts[0].branches[0], "x", 1.0, it.book.now)
    cancel_timer(entry)
    cancel_timer(entry)
    end(it)
