"""A caller, this proxy's core and two far ends, joined by a network that loses, doubles and reorders.

Proved for generated networks: every call ends once, nothing raises, no route of an emergency call is left untried, no
transaction and no timer is left. The ladder is the emergency one of test_proxy; the far ends are stacks of their own.
"""

import heapq
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sip.flow import Flow, ListeningPoint
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.proxy import ResponseContext
from sip.stack import Stack
from tests.sip.test_proxy import EmergencyLadder, Tu
from tests.support.playbook import START, Playbook, RecordingUser, answer_to, cancel_of, own_request

CALLER_POINT = ListeningPoint("udp", "192.0.2.10", 5060)
PROXY = ("192.0.2.1", 5060)
FAR_ENDS = ("198.51.100.1", "198.51.100.2")


class FarEnd(RecordingUser):
    """A provider: 180 after half its delay where it rings, then its status (None: says 100 and no more)."""

    def __init__(self, host: str, script: tuple[int | None, float, bool]) -> None:
        super().__init__()
        self.point = ListeningPoint("udp", host, 5060)
        self.status, self.delay, rings = script
        # One that rings for ever is never ended on an emergency call, by design (test_proxy, timer C).
        self.rings = rings and self.status is not None
        self.book = Playbook(self)
        self.open: list[tuple[ServerTransaction, Request]] = []
        self.acknowledged = 0

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        super().on_request(server, request, now)
        if request.method == b"INVITE":
            self.open.append((server, request))
            self.book.stack.set_timer(self, str(len(self.open) - 1), self.delay, now)
            if self.rings:
                self.book.stack.set_timer(self, f"ring {len(self.open) - 1}", self.delay / 2, now)
        else:
            self.book.stack.answer(server, 200, now)

    def on_timer(self, name: str, now: float) -> None:
        if name.startswith("again "):
            self._send_200(int(name[6:]), now)
            return
        if name.startswith("ring "):
            server, request = self.open[int(name[5:])]
            self.book.stack.respond(server, 180, answer_to(request, 180), now)
            return
        server, request = self.open[int(name)]
        if self.status is None or server.is_answered:
            return
        if self.status == 200:
            self._send_200(int(name), now)
        else:
            self.book.stack.respond(server, self.status, answer_to(request, self.status), now)

    def _send_200(self, which: int, now: float) -> None:
        """A UAS sends its 2xx until it is acknowledged or 32 s have passed (section 13.3.1.4)."""
        server, request = self.open[which]
        answer = answer_to(request, 200, to_tag=self.point.host.encode())
        if self.book.stack.respond(server, 200, answer, now) and not self.acknowledged:
            self.book.stack.set_timer(self, f"again {which}", 4.0, now)

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        self.acknowledged += 1

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        self.book.stack.answer(invite, 487, now)


@dataclass
class Phone:
    """The caller: acknowledges every 2xx, cancels at a moment if told to."""

    book: Playbook = field(default_factory=Playbook)
    finals: list[int] = field(default_factory=list)
    provisional: int = 0

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if response.method != b"INVITE":
            return
        if response.status >= 200:
            self.finals.append(response.status)
        else:
            self.provisional += 1

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        if client.method == b"INVITE":
            self.finals.append(408)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        raise AssertionError("nothing here has transport errors")


class Network:
    """Carries datagrams; `fate` gives for each the delays of its copies (none: lost)."""

    def __init__(self, stacks: dict[str, Stack], fates: list[tuple[float, ...]]) -> None:
        self.stacks = stacks
        self.fates = itertools.cycle(fates)
        self.wire: list[tuple[float, int, str, str, bytes]] = []
        self.number = 0
        self.now = START

    def collect(self) -> None:
        for host, stack in self.stacks.items():
            for flow, data, _ in stack.out:
                for delay in next(self.fates):
                    self.number += 1
                    heapq.heappush(self.wire, (self.now + delay, self.number, host, flow.host, data))
            stack.out.clear()

    def run(self, until: float) -> None:
        """Let everything happen up to a time."""
        for _ in range(20_000):
            self.collect()
            arrival = self.wire[0][0] if self.wire else float("inf")
            alarm, host = min((stack.queue.earliest, host) for host, stack in self.stacks.items())
            if min(arrival, alarm) > until:
                self.now = until
                return
            if arrival <= alarm:
                self.now = max(self.now, arrival)
                _, _, source, target, data = heapq.heappop(self.wire)
                if target in self.stacks:
                    point = ListeningPoint("udp", target, 5060)
                    self.stacks[target].receive(data, Flow(point, source, 5060), self.now)
            else:
                self.now = max(self.now, alarm)
                self.stacks[host].advance(self.now)
        raise AssertionError("it never comes to rest")


INVITE = own_request().replace(b"192.0.2.1:5060;branch", b"192.0.2.10:5060;branch")
fates = st.lists(
    st.sampled_from([(0.01,), (0.01,), (0.01,), (), (0.01, 0.02), (0.7,), (0.01, 1.3), (3.0,)]),
    min_size=1,
    max_size=25,
)
scripts = st.tuples(
    st.sampled_from([200, 200, 486, 503, 603, None]), st.sampled_from([0.0, 0.3, 1.9, 2.1, 5.5, 12.0]), st.booleans()
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fates, scripts, scripts, st.none() | st.sampled_from([0.05, 1.0, 2.05, 6.0]), st.booleans())
def test_every_call_ends(
    fate: list[tuple[float, ...]],
    first: tuple[int | None, float, bool],
    second: tuple[int | None, float, bool],
    cancel_at: float | None,
    emergency: bool,
) -> None:
    if not any(fate):
        fate = [*fate, (0.01,)]  # a network that delivers nothing has nothing to show
    ends = [FarEnd(host, script) for host, script in zip(FAR_ENDS, (first, second), strict=True)]
    tu = Tu(emergency=emergency, routes=[Flow(ListeningPoint("udp", *PROXY), end.point.host, 5060) for end in ends])
    phone = Phone()
    stacks = {
        "192.0.2.10": phone.book.stack,
        PROXY[0]: tu.book.stack,
        **{end.point.host: end.book.stack for end in ends},
    }
    network = Network(stacks, fate)
    to_proxy = Flow(CALLER_POINT, *PROXY)
    phone.book.stack.send_request(b"INVITE", b"z9hG4bKours1", INVITE, to_proxy, phone, START)
    if cancel_at is not None:
        network.run(START + cancel_at)
        if phone.provisional and not phone.finals:
            phone.book.stack.send_request(b"CANCEL", b"z9hG4bKours1", cancel_of(INVITE), to_proxy, phone, network.now)
    network.run(START + 900)
    arrived = bool(tu.contexts)
    if not arrived:
        assert phone.finals == [408], "the proxy never heard of the call"
        return
    for context in tu.contexts:
        assert isinstance(context, ResponseContext)
        assert context.final_status, context.log
        assert sum(line.startswith("finished") for line in context.log) == 1, context.log
        if isinstance(context, EmergencyLadder) and context.final_status >= 300 and not context.cancelled:
            assert not context.left, "no route was left untried"
    for host, stack in stacks.items():
        if host == "192.0.2.10" and not phone.finals:
            continue  # a phone whose every final response was lost waits in Proceeding (no timer there in 17.1.1)
        assert not stack.clients, host
        assert not stack.cancels, host
        if host == PROXY[0]:
            assert not stack.servers, [server.state for server in stack.servers.values()]
            assert len(stack.queue) == 0
    answered = any(end.acknowledged or (end.status == 200 and end.open) for end in ends)
    assert 200 not in phone.finals or answered


@pytest.mark.parametrize("emergency", [False, True])
def test_a_good_network_and_two_good_far_ends(emergency: bool) -> None:
    ends = [FarEnd(host, (200, 0.3, True)) for host in FAR_ENDS]
    tu = Tu(emergency=emergency, routes=[Flow(ListeningPoint("udp", *PROXY), end.point.host, 5060) for end in ends])
    phone = Phone()
    stacks = {
        "192.0.2.10": phone.book.stack,
        PROXY[0]: tu.book.stack,
        **{end.point.host: end.book.stack for end in ends},
    }
    network = Network(stacks, [(0.01,)])
    phone.book.stack.send_request(b"INVITE", b"z9hG4bKours1", INVITE, Flow(CALLER_POINT, *PROXY), phone, START)
    network.run(START + 2)
    assert phone.finals == [200]
    assert [len(end.requests) for end in ends] == [1, 0]
    sent = ends[0].requests[0][1]
    original = parse_message(INVITE)
    assert sent.lines("from") == original.lines("from")
    assert sent.values("via")[1].endswith(b";branch=z9hG4bKours1;rport=5060;received=192.0.2.10")
