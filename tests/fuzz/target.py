"""One mutated message against everything that reads it, with nothing caught: what escapes, takes long or piles up is
found.

The whole router reads it, in virtual time: parser, validation, transactions, routing, the location in it, the INVITE
that leaves to a provider. Beside it, alone: framing of streams, multipart, and the PIDF-LO reader.
"""

import contextlib
import gc
import random
import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import NoReturn

from e911.pidf_reader import UnreadableError, read_location
from sip.body import BodyPart, add_part, leaf_parts
from sip.errors import RemoteError
from sip.flow import Flow
from sip.framing import StreamFramer
from sip.locating import NOWHERE, Located, Server, Weighted
from sip.message import Request
from sip.parsing import parse_message
from sip.validation import check_request
from tests.fuzz.mutation import mutated
from tests.fuzz.seeds import SOURCES, sent, torture, traffic
from tests.support.call_world import CallWorld, response
from tests.support.sip_text import parse

SLOWEST = 0.05
"""Processor seconds that one message may take."""
PART = BodyPart(content_type=b"application/pidf+xml", content_id=b"a@b", body=b"<x/>")


class FindingError(AssertionError):
    """What was found, and with which message."""

    def __init__(self, what: str, data: bytes) -> None:
        super().__init__(f"{what}: {data[:4000]!r}{' and so on' if len(data) > 4000 else ''}")
        self.data = data


class DiscardingJournal:
    """Takes every event, and keeps nothing."""

    def append_lines(self, lines: list[bytes]) -> bool:
        return all(lines)

    def note_not_encodable(self, error: Exception) -> None:
        raise error


def _raise(doing: str) -> NoReturn:
    """In place of CallRouter.on_fault: the fault that was caught goes on."""
    fault = sys.exception()
    assert fault is not None, doing
    raise fault


def new_world() -> CallWorld:
    """A router that catches nothing and keeps nothing."""
    with tempfile.TemporaryDirectory() as folder:
        world = CallWorld(Path(folder), locations={"sources": ["conveyed", "registered", "network", "site"]})
    world.journal = DiscardingJournal()  # type: ignore[assignment]  # as much of a journal as the router needs
    world.router.journal = world.journal
    world.router.on_fault = _raise  # type: ignore[method-assign,assignment]
    world.edge.reach = lambda flow, told: told("")  # type: ignore[method-assign]
    server = Weighted(1, (Server("udp", "203.0.113.50", 5060), Server("tcp", "203.0.113.51", 5060)))
    world.router.resolve = lambda where, told: told(Located(((server,),)) if len(where.host) % 2 else NOWHERE)
    world.router.use(world.router.setup)
    return world


class Fuzz:
    """A world that mutated messages run into, one after another."""

    def __init__(self, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.world = new_world()
        self.traffic = traffic()
        self.seeds = [*self.traffic, *sent(), *torture()]
        self.live: deque[bytes] = deque(maxlen=60)
        """Responses to what the router sent last: mutated, they get to the depths of its transactions."""
        self.count = 0
        self.slowest = 0.0

    def next_message(self) -> bytes:
        """A mutated message."""
        kind = self.chance.random()
        if kind < 0.05 and self.live:
            return self.live[-1]  # as it is: so that calls ring, are answered, fail over
        if kind < 0.2 and self.live:
            data = self.live[self.chance.randrange(len(self.live))]
        elif kind < 0.6:
            data = self.chance.choice(self.traffic)
            data = data.replace(b";branch=z9hG4bKt", b";branch=z9hG4bKt%d." % self.count)  # no retransmission
        else:
            data = self.chance.choice(self.seeds)
        return mutated(self.chance, data, self.seeds)

    def run(self, many: int) -> None:
        """So many mutated messages. Raises FindingError."""
        for _ in range(many):
            self.check(self.next_message())

    def check(self, data: bytes) -> None:
        """One message. Raises FindingError where an exception escapes, or where it took too long."""
        self.count += 1
        which = self.count
        started = time.process_time()
        try:
            treat(self.world, data, which, self.live)
        except Exception as error:
            raise FindingError(f"message {which} raised {type(error).__name__}: {error}", data) from error
        took = time.process_time() - started
        if took > SLOWEST:
            took = min(self._alone(data, which) for _ in range(3))  # Python's own housekeeping, or this message?
            if took > SLOWEST:
                raise FindingError(f"message {which} took {took * 1000:.0f} ms", data)
        self.slowest = max(self.slowest, took)
        if which % 25 == 0:
            self._pass_time(data)

    def _alone(self, data: bytes, which: int) -> float:
        world = new_world()
        gc.collect()
        started = time.process_time()
        treat(world, data, which, deque())
        return time.process_time() - started

    def _pass_time(self, data: bytes) -> None:
        try:
            self.world.advance(self.chance.choice((0.01, 0.3, 1.0)))
            self.world.router.write_waiting()
        except Exception as error:
            raise FindingError(f"a timer raised {type(error).__name__}: {error}, last message", data) from error


def treat(world: CallWorld, data: bytes, which: int, live: deque[bytes]) -> None:
    """Everything that reads a message reads this one."""
    source = SOURCES[which % len(SOURCES)]
    router = world.router
    if which % 4:
        router.stack.receive(data, Flow(world.points.points[0], *source), world.now)
    else:
        point = next(one for one in world.points.points if one.reliable)
        framer = StreamFramer()
        step = (len(data), 7, 100, 1000)[which // 4 % 4] or 1
        for start in range(0, len(data), step):
            for message in framer.feed(data[start : start + step]):
                router.stack.receive(message, Flow(point, *source, which), world.now)
        for message in framer.end_body():
            router.stack.receive(message, Flow(point, *source, which), world.now)
        if framer.error is not None:
            router.stack.refuse_unframed(framer.unframed(), Flow(point, *source, which), framer.error)
    out = router.stack.out
    if out and which % 3 == 0:
        gone = parse(out[-1][1])
        if gone.is_request and gone.method != "ACK":
            with contextlib.suppress(AssertionError):  # the tests' own reader takes no field twice
                live.append(response(gone, (100, 180, 200, 424, 486, 503)[which // 3 % 6]))
    out.clear()
    with contextlib.suppress(RemoteError):
        read = parse_message(data)
        if read.body:
            leaf_parts(read)
            edited = read.edited(add_part(read, PART, b"edge911"))
            assert parse_message(edited.to_bytes(), own=True).body == edited.body
        if isinstance(read, Request):
            check_request(read)
    with contextlib.suppress(UnreadableError):
        start = data.find(b"<")
        if start >= 0 and b"presence" in data:
            read_location(data[start:])


def resident_mib() -> float:
    """Memory of this process now, MiB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 1_048_576
