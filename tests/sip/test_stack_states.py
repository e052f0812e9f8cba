"""A caller, this proxy's core and two far ends as a state machine: hypothesis decides what happens next.

Calls are placed, cancelled, answered and refused in any order, while every packet on the wire may be delivered, lost,
doubled, held back or overtaken. Proved: nothing raises at any moment; when the network is well again, every call has
ended once, and no transaction and no timer is left.
"""

import itertools

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sip.flow import Flow, ListeningPoint
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from tests.sip.test_proxy import Tu
from tests.support.playbook import START, Playbook, RecordingUser, answer_to, cancel_of, own_request

CALLER = "192.0.2.10"
PROXY = "192.0.2.1"
FAR = ("198.51.100.1", "198.51.100.2")


def flow(source: str, target: str) -> Flow:
    return Flow(ListeningPoint("udp", source, 5060), target, 5060)


class FarEnd(RecordingUser):
    """Answers when it is told to; hangs up nothing by itself."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.book = Playbook(self)
        self.open: list[tuple[ServerTransaction, Request]] = []

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        if request.method == b"INVITE":
            self.open.append((server, request))
        else:
            self.book.stack.answer(server, 200, now)

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        self.book.stack.answer(invite, 487, now)


class Call:
    """One call of the phone."""

    def __init__(self, number: int) -> None:
        self.data = own_request(branch=b"z9hG4bKcall%d" % number, call_id=b"call-%d" % number).replace(
            b"192.0.2.1:5060;branch", b"192.0.2.10:5060;branch"
        )
        self.branch = b"z9hG4bKcall%d" % number
        self.provisional = 0
        self.finals: list[int] = []

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if response.method == b"INVITE":
            if response.status < 200:
                self.provisional += 1
            else:
                self.finals.append(response.status)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        if client.method == b"INVITE":
            self.finals.append(408)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        raise AssertionError("nothing here has transport errors")


class Pair(RuleBasedStateMachine):
    """What can happen, and what must hold whatever happens."""

    @initialize(emergency=st.booleans())
    def begin(self, emergency: bool) -> None:
        self.now = START
        self.numbers = itertools.count(1)
        self.calls: list[Call] = []
        self.phone = Playbook()
        self.ends = {host: FarEnd(host) for host in FAR}
        self.tu = Tu(emergency=emergency, routes=[flow(PROXY, host) for host in FAR])
        self.stacks = {
            CALLER: self.phone.stack,
            PROXY: self.tu.book.stack,
            **{host: end.book.stack for host, end in self.ends.items()},
        }
        self.wire: list[tuple[str, str, bytes]] = []

    def collect(self) -> None:
        for host, stack in self.stacks.items():
            self.wire += [(host, onward.host, data) for onward, data, _ in stack.out]
            stack.out.clear()

    def deliver(self, packet: tuple[str, str, bytes]) -> None:
        source, target, data = packet
        if target in self.stacks:
            self.stacks[target].receive(data, flow(target, source), self.now)
        self.collect()

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            alarm, host = min((stack.queue.earliest, host) for host, stack in self.stacks.items())
            if alarm > until:
                break
            self.now = max(self.now, alarm)
            self.stacks[host].advance(self.now)
            self.collect()
        self.now = until

    # ---- the callers ----

    @precondition(lambda self: len(self.calls) < 4)
    @rule()
    def place_a_call(self) -> None:
        call = Call(next(self.numbers))
        self.calls.append(call)
        self.phone.stack.send_request(b"INVITE", call.branch, call.data, flow(CALLER, PROXY), call, self.now)
        self.collect()

    @precondition(lambda self: any(call.provisional and not call.finals for call in self.calls))
    @rule(data=st.data())
    def cancel_a_call(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.provisional and not call.finals]))
        if call.branch not in self.phone.stack.cancels:
            self.phone.stack.send_request(
                b"CANCEL", call.branch, cancel_of(call.data), flow(CALLER, PROXY), call, self.now
            )
        self.collect()

    # ---- the far ends ----

    @precondition(lambda self: any(end.open for end in self.ends.values()))
    @rule(data=st.data(), status=st.sampled_from([100, 180, 183, 200, 200, 302, 401, 424, 486, 503, 603]))
    def answer(self, data: st.DataObject, status: int) -> None:
        end = data.draw(st.sampled_from([end for end in self.ends.values() if end.open]))
        server, request = data.draw(st.sampled_from(end.open))
        end.book.stack.respond(server, status, answer_to(request, status, to_tag=end.host.encode()), self.now)
        self.collect()

    # ---- the network ----

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def a_packet_arrives(self, data: st.DataObject) -> None:
        """Any packet: one that was sent later may be there first."""
        self.deliver(self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1))))

    @precondition(lambda self: self.wire)
    @rule()
    def the_oldest_packets_arrive(self) -> None:
        for _ in range(min(4, len(self.wire))):
            self.deliver(self.wire.pop(0))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def a_packet_is_lost(self, data: st.DataObject) -> None:
        del self.wire[data.draw(st.integers(0, len(self.wire) - 1))]

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def a_packet_is_doubled(self, data: st.DataObject) -> None:
        self.deliver(self.wire[data.draw(st.integers(0, len(self.wire) - 1))])

    @rule(seconds=st.sampled_from([0.1, 0.5, 2.1, 5.5, 33.0, 190.0]))
    def time_passes(self, seconds: float) -> None:
        """What is on the wire is held back meanwhile."""
        self.advance(seconds)

    # ---- what must hold ----

    @invariant()
    def no_call_ends_twice_in_two_ways(self) -> None:
        for call in getattr(self, "calls", []):
            failures = [status for status in call.finals if status >= 300]
            assert len(failures) <= 1, call.finals
            assert not (failures and 200 in call.finals[call.finals.index(failures[0]) :]), call.finals

    def teardown(self) -> None:
        """The network is well again, far ends that were asked say no, and time passes."""
        if not hasattr(self, "wire"):
            return
        for _ in range(400):
            while self.wire:
                self.deliver(self.wire.pop(0))
            for end in self.ends.values():
                for server, request in end.open:
                    if not server.is_answered:
                        end.book.stack.respond(server, 480, answer_to(request, 480), self.now)
            self.collect()
            self.advance(0.4 if self.wire else 3.0)
        for host, stack in self.stacks.items():
            if host == CALLER:
                continue  # a caller whose every final response was lost waits in Proceeding (no timer in 17.1.1)
            assert not stack.clients, host
            assert not stack.cancels, host
            assert not stack.servers, host
        assert len(self.tu.book.stack.queue) == 0
        for context in self.tu.contexts:
            assert context.final_status, context.log
            assert sum(line.startswith("finished") for line in context.log) == 1, context.log


Pair.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPair = Pair.TestCase
