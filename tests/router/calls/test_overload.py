"""Overload, in a world whose time is a number: each message costs what it costs, callers send again as RFC 3261 says.

Proved: the goodput levels off at 2 and 4 times of what can be served; a 911 call waits less than 10 ms while ordinary
calls flood the router, which are refused with 503 and no Retry-After; what was begun is finished; queues have ends;
and in the router itself: what is refused, what is not, and that all of it is counted. Beside it the limits: sources,
strangers, transactions, and the word before one is reached.
"""

import heapq
import itertools
import logging
from collections import Counter
from pathlib import Path

import pytest

from router.calls.limits import NEAR, Limit, Rates, Strangers, warn, warn_of_sizes
from router.calls.overload import FRESH_WAIT, MOST, Overload
from sip.flow import Flow, ListeningPoint
from sip.framing import StreamFramer
from sip.parsing import MAX_FIELDS, MAX_HEADER_BYTES, near_limits, parse_message
from tests.support.call_world import CARRIER, PBX, PHONE, PROVIDER_A, CallWorld, invite, of, one
from tests.support.playbook import PHONE as FROM

INVITE_COST = 250e-6
"""Seconds of treating an INVITE, a copy of one that is known, and any other message."""
COPY_COST = 30e-6
OTHER_COST = 80e-6
READ_COST = 5e-6
PER_CALL = INVITE_COST + 6 * OTHER_COST + 7 * READ_COST
CAPACITY = 1 / PER_CALL
"""Calls a second that fit into one processor."""
DATAGRAMS = 400


class Server:
    """A router's edge around Overload; peers answer at once, callers send again after 0.5, 1.5, 3.5, … seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = itertools.count()
        self.wire: list[tuple[float, int, bytes]] = []
        self.counts: Counter[str] = Counter()
        self.overload = Overload(
            lambda method, uri, _: uri.startswith(b"sip:911"), self.take, self.refuse, lambda: self.now, self.counts
        )
        self.placed: dict[bytes, float] = {}
        self.heard: dict[bytes, float] = {}
        """When a caller first heard from the server."""
        self.refused: set[bytes] = set()
        self.done: set[bytes] = set()

    def arrive(self, at: float, data: bytes) -> None:
        heapq.heappush(self.wire, (at, next(self.order), data))

    def call(self, at: float, number: int, uri: bytes) -> None:
        name = b"%d" % number
        data = b"INVITE %b SIP/2.0\r\nTo: <sip:x>\r\nCall-ID: %b" % (uri, name)
        self.placed[name] = at
        for again in (0, 0.5, 1.5, 3.5, 7.5):
            self.arrive(at + again, data)

    def take(self, data: bytes, flow: Flow) -> None:
        kind, _, name = data.partition(b" ")[0], 0, data.rpartition(b" ")[2]
        if kind == b"INVITE":
            if name in self.heard:
                self.now += COPY_COST
                return
            self.now += INVITE_COST
            self.heard[name] = self.now
            for step in range(3):
                self.arrive(self.now + 0.001, b"SIP/2.0 200 OK\r\nStep: %d %b" % (step, name))
            return
        self.now += OTHER_COST
        step = int(data.rsplit(b" ", 2)[1])
        if step in (2, 3, 4):
            self.arrive(self.now + 0.001, b"ACK sip:x SIP/2.0\r\nStep: %d %b" % (step + 1, name))
        elif step == 5:
            self.done.add(name)

    def refuse(self, data: bytes, flow: Flow) -> None:
        name = data.rpartition(b" ")[2]
        self.now += COPY_COST
        if name not in self.heard:
            self.heard[name] = self.now
            self.refused.add(name)

    def waits(self, name: bytes) -> bool:
        """True where the caller still sends its INVITE again."""
        return name not in self.heard or self.heard[name] > self.now

    def run(self, until: float) -> None:
        self.overload.begin()
        while self.now < until:
            for _ in range(DATAGRAMS):
                if not self.wire or self.wire[0][0] > self.now:
                    break
                at, _, data = heapq.heappop(self.wire)
                name = data.rpartition(b" ")[2]
                if data.startswith(b"INVITE") and at > self.placed[name] and self.heard.get(name, at) < at:
                    continue  # answered before it was sent again
                self.now += READ_COST
                self.overload.add(data, FROM)
            if not self.overload.turn():
                following = self.wire[0][0] if self.wire else until
                self.now = max(self.now, min(following, until))


@pytest.mark.parametrize("times", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("uri", [b"sip:911@x", b"sip:1@x"])
def test_the_load_levels_off(uri: bytes, times: float) -> None:
    server, seconds = Server(), 3.0
    rate = CAPACITY * times * 0.98
    for number in range(int(rate * seconds)):
        server.call(number / rate, number, uri)
    server.run(seconds)
    done = len(server.done) / seconds
    assert done > CAPACITY * (0.9 if times == 1.0 else 0.75)
    begun = len(server.heard) - len(server.refused)
    assert len(server.done) > 0.85 * begun, "what was begun is finished"
    if uri.startswith(b"sip:911"):
        assert not server.refused


@pytest.mark.parametrize("times", [2.0, 5.0])
def test_911_does_not_wait_for_a_flood_of_ordinary_calls(times: float) -> None:
    server, seconds = Server(), 2.0
    rate = CAPACITY * times
    for number in range(int(rate * seconds)):
        server.call(number / rate, number, b"sip:1@x")
    emergencies = [b"%d" % (10**6 + number) for number in range(int(20 * seconds))]
    for number, name in enumerate(emergencies):
        server.call(0.013 + number / 20, int(name), b"sip:911@x")
    server.run(seconds + 0.5)
    waits = sorted(server.heard[name] - server.placed[name] for name in emergencies)
    assert waits[-1] < 0.012, "reading, the rest of a turn, and its own treatment"
    assert waits[len(waits) // 2] < 0.010
    assert all(name in server.done for name in emergencies)
    assert len(server.refused) > rate * seconds * (1 - 1.3 / times) * 0.5, "who cannot be served is told so"
    assert not server.counts["overload_dropped_urgent"]


def test_a_flood_of_anything_else_leaves_911_its_share() -> None:
    server = Server()
    for number in range(40_000):
        server.arrive(number / 40_000, b"SIP/2.0 200 OK\r\nStep: 9 %d" % number)
    server.call(0.5, 10**6, b"sip:911@x")
    server.run(0.6)
    assert server.heard[b"1000000"] - 0.5 < 0.012


def test_one_that_is_sent_again_is_treated_once_and_as_new() -> None:
    taken: list[bytes] = []
    overload = Overload(lambda *_: True, lambda data, _: taken.append(data), lambda *_: None, lambda: 0.0, Counter())
    for name in (b"a", b"b", b"a", b"c", b"b"):
        overload.add(b"INVITE sip:911@x SIP/2.0\r\nTo: x\r\nCall-ID: " + name, FROM)
    assert len(overload) == 3
    assert not overload.turn()
    assert [data[-1:] for data in taken] == [b"b", b"c", b"a"], "the newest first"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"SIP/2.0 180 Ringing\r\nTo: x\r\n\r\n", "onward"),
        (b"ACK sip:911@x SIP/2.0\r\nTo: x\r\n\r\n", "onward"),
        (b"CANCEL sip:911@x SIP/2.0\r\nTo: x\r\n\r\n", "onward"),
        (b"INVITE sip:911@x SIP/2.0\r\nt : <sip:x>; tag = 1\r\n\r\n", "onward"),
        (b"BYE sip:x SIP/2.0\r\nFROM: y;tag=1\r\nTO: <sip:x>;tag=2\r\n\r\n", "onward"),
        (b"INVITE sip:911@x SIP/2.0\r\nFrom: y;tag=1\r\nTo: <sip:x>\r\n\r\n", "urgent"),
        (b"MESSAGE urn:service:sos SIP/2.0\r\nTo: <sip:x>\r\n\r\n", "urgent"),
        (b"INVITE 911 SIP/2.0\r\nTo: <sip:x>\r\n\r\n", "urgent"),
        (b"INVITE sip:9%31%31@x SIP/2.0\r\nTo: <sip:x>\r\n\r\n", "urgent"),
        (b"INVITE sip:2125550177@x SIP/2.0\r\nFrom: y;tag=1\r\nTo: <sip:x>\r\n\r\n", "fresh"),
        (b"OPTIONS sip:911@x SIP/2.0\r\nTo: <sip:x>\r\n\r\n", "fresh"),
        (b"garbage", "fresh"),
        (b"", "fresh"),
    ],
)
def test_what_waits_where(tmp_path: Path, data: bytes, kind: str) -> None:
    world = CallWorld(tmp_path)
    overload = Overload(
        world.router.admission.looks_like_emergency, lambda *_: None, lambda *_: None, lambda: 0.0, Counter()
    )
    overload.add(data, Flow(world.points.points[0], *PHONE))
    assert {name for name in MOST if getattr(overload, name)} == {kind}


@pytest.mark.parametrize("kind", MOST)
def test_no_queue_grows_without_end(kind: str) -> None:
    counts: Counter[str] = Counter()
    overload = Overload(lambda method, *_: method == b"urgent", lambda *_: None, lambda *_: None, lambda: 0.0, counts)
    start = {"onward": b"ACK", "urgent": b"urgent", "fresh": b"fresh"}[kind]
    for number in range(MOST[kind] + 7):
        overload.add(b"%b %d" % (start, number), FROM)
    assert len(overload) == MOST[kind]
    assert counts == {f"overload_dropped_{kind}": 7}


def test_what_waited_too_long_is_refused_with_503_and_911_never(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    router = world.router
    flow = Flow(world.points.points[0], *PHONE)

    def take(data: bytes, source: Flow) -> None:
        router.stack.receive(data, source, world.now)

    overload = Overload(
        router.admission.looks_like_emergency,
        take,
        lambda data, source: router.admission.refuse_if_new(take, data, source),
        lambda: world.now,
        router.counts,
    )
    ordinary = invite("sip:2125550177@10.0.0.5")
    known = invite("sip:2125550178@10.0.0.5")
    world.receive(known)
    hidden = invite("sip:2125550179@10.0.0.5").replace(b"sip:2125550179@10.0.0.5", b"SIP:%39%31%31@10.0.0.5", 1)
    for data in (ordinary, known, invite(), hidden):
        overload.add(data, flow)
    world.now += 2 * FRESH_WAIT
    assert not overload.turn()
    out = world.sent()
    refused = one(out, 503).message
    assert refused.call_id in ordinary.decode()
    assert not refused.all("retry-after")
    assert "overloaded: " in refused.get("warning")
    assert router.stack.drops == {"overloaded": 1}
    assert len(of(out, "INVITE", PROVIDER_A)) == 2, "911 calls, however they are written"
    assert router.stack.counts["request_retransmissions"] == 1, "one that is under way is no new one"
    assert one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE").to == CARRIER, "and then all is as before"


# ---- limits ----


def test_a_source_above_its_rate_gets_503_and_its_911_calls_are_served(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, limits={"per_source": 5})
    statuses = Counter(
        sent.message.status if not sent.message.is_request else 0
        for _ in range(30)
        for sent in world.receive(invite("sip:2125550177@10.0.0.5"))
    )
    assert statuses[503] == 20
    assert world.router.stack.drops == {"rate-limited": 20}
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A
    in_dialog = invite("sip:x@203.0.113.50").replace(b"To: <sip:911@pbx.example.com>", b"To: <sip:x>;tag=t")
    assert of(world.receive(in_dialog), "INVITE"), "nor is what was begun limited"
    other = ("10.1.3.8", 5060)
    assert of(world.receive(invite("sip:2125550177@10.0.0.5", source=other), other), "INVITE")
    for _ in range(30):
        assert of(world.receive(invite("sip:2125550177@10.0.0.5", source=PBX), PBX), "INVITE"), "a trunk is many"
    world.now += 1.0
    again = [world.receive(invite("sip:2125550177@10.0.0.5")) for _ in range(10)]
    assert sum(bool(of(out, "INVITE")) for out in again) == 5


def test_rates_forget_and_refill() -> None:
    rates = Rates(2)
    assert [rates.allows("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [rates.allows("a", 1.0) for _ in range(3)] == [True, True, False]
    strangers = Strangers()
    assert sum(strangers.hears("a", 0.0) for _ in range(1000)) == 40
    assert sum(strangers.hears(f"host {number}", 0.0) for number in range(1000)) == 360


def test_strangers_that_flood_are_not_answered_and_then_not_read(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    shunned: list[tuple[str, float]] = []
    world.edge.shun = lambda flow, seconds: shunned.append((flow.host, seconds))  # type: ignore[attr-defined]
    stranger = ("192.0.2.66", 5060)
    answers = sum(len(world.receive(invite("sip:1@10.0.0.5", source=stranger), stranger)) for _ in range(100))
    assert answers == 40
    assert world.router.stack.drops == {"source-not-listed": 100}
    assert set(shunned) == {("192.0.2.66", 1.0)}
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A


def test_too_many_transactions_leave_911_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.calls.admission.MOST_TRANSACTIONS", 3)
    world = CallWorld(tmp_path)
    for _ in range(3):
        world.receive(invite("sip:2125550177@10.0.0.5"))
    world.router.admission.look_at_limits()
    assert one(world.receive(invite("sip:2125550177@10.0.0.5")), 503)
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A
    world.advance(400)
    world.router.admission.look_at_limits()
    assert one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")


def test_what_nears_its_limit_is_said_before_it_is_reached(caplog: pytest.LogCaptureFixture) -> None:
    used = [0]
    limit = Limit("connections", 100, lambda: used[0])
    with caplog.at_level(logging.WARNING):
        for used[0] in (10, 79):
            warn([limit], 0.0)
        assert not caplog.messages
        used[0] = int(100 * NEAR)
        for at in (1.0, 2.0, 30.0, 62.0):
            warn([limit], at)
    assert caplog.messages == ["limit-near: connections: 80 of 100"] * 2


def test_sizes_near_their_limit_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    before = Counter(near_limits)
    plain = invite(number=1)
    parse_message(plain.replace(b"Contact:", b"X: " + b"y" * (MAX_HEADER_BYTES * 9 // 10) + b"\r\nContact:"))
    parse_message(plain.replace(b"Contact:", b"X: y\r\n" * (MAX_FIELDS * 9 // 10) + b"Contact:"))
    StreamFramer(max_body=1000).feed(b"OPTIONS sip:a SIP/2.0\r\nl: 900\r\n\r\n")
    parse_message(plain)
    StreamFramer(max_body=1000).feed(b"OPTIONS sip:a SIP/2.0\r\nl: 700\r\n\r\n")
    assert near_limits - before == {"header-bytes": 1, "header-fields": 1, "body-bytes": 1}
    said: dict[str, int] = {}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            warn_of_sizes({"header-bytes": 3}, said)
    assert caplog.messages == ["limit-near: header-bytes: 3 messages so far"]


def test_what_came_by_a_stream_and_cannot_be_kept_is_refused_and_not_dropped() -> None:
    """Nobody sends it again: silence would cost its caller 32 s."""
    server = Server()
    stream = FROM._replace(point=ListeningPoint("tcp", "10.0.0.5", 5060))
    for number in range(MOST["fresh"] + 3):
        server.overload.add(b"INVITE sip:1@x SIP/2.0\r\nCall-ID: %d" % number, stream)
    assert server.refused == {b"0", b"1", b"2"}
    assert server.counts["overload_dropped_fresh"] == 3
