"""Mutations of the torture messages and of ordinary calls: only RemoteError inside, nothing out of Stack.receive and
StreamFramer.feed, and no message that takes long. Bounded in time, seeded, so that a failure can be had again.
"""

import contextlib
import random
import time

import pytest

from sip.body import BodyPart, add_part
from sip.errors import RemoteError
from sip.framing import StreamFramer
from sip.message import Request
from sip.parsing import parse_message
from sip.routing import process_routes
from sip.validation import check_request
from tests.fuzz.mutation import mutated
from tests.sip.test_proxy import INVITE, Call, Tu
from tests.sip.torture import EXPECTED, read
from tests.support.playbook import (
    PHONE,
    PHONE_TCP,
    Playbook,
    RecordingUser,
    answer_to,
    cancel_of,
    own_request,
    request_bytes,
)

SECONDS = 1.0
"""Of each test here."""
SLOWEST = 0.25
"""Processor seconds that one message may take; every one of them is a few kilobytes."""


def seeds() -> list[bytes]:
    call = Call(Tu())
    ours = call.requests["r0"]
    samples = [
        INVITE,
        cancel_of(INVITE),
        request_bytes(b"ACK"),
        request_bytes(b"BYE", extra=(b"Route: <sip:192.0.2.1;lr>, <sip:p2.example;lr>",), to=b"<sip:a@b>;tag=far"),
        ours,
        answer_to(ours, 180),
        answer_to(ours, 200),
        answer_to(ours, 486),
        answer_to(own_request(), 200),
    ]
    return samples + [read(name) for name in EXPECTED]


class Reading(RecordingUser):
    """Reads what a core would read of every request."""

    def on_request(self, server: object, request: Request, now: float) -> None:
        self.requests.clear()
        process_routes(request, lambda uri: uri.host == "192.0.2.1")
        part = BodyPart(content_type=b"application/pidf+xml", content_id=b"a@b", body=b"<x/>")
        edited = request.edited(add_part(request, part, b"edge911"))
        again = parse_message(edited.to_bytes(), own=True)
        assert again.body == edited.body


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_but_remote_errors(seed: int) -> None:
    chance = random.Random(seed)
    samples = seeds()
    ladder = Tu(emergency=seed == 1)
    reading = Playbook(Reading())
    ends = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < ends:
        data = mutated(chance, chance.choice(samples), samples)
        count += 1
        started = time.process_time()
        with contextlib.suppress(RemoteError):
            message = parse_message(data)
            if isinstance(message, Request):
                check_request(message)
        flow = chance.choice((PHONE, PHONE_TCP))
        for book in (reading, ladder.book):
            try:
                book.receive(data, flow)
            except Exception as error:
                raise AssertionError(f"seed {seed}, message {count}: {data!r}") from error
        if time.process_time() - started > SLOWEST:
            # Python's own housekeeping, or this message? It alone, on a fresh stack, tells.
            fresh = Playbook(Reading())
            started = time.process_time()
            fresh.receive(data, flow)
            assert time.process_time() - started < SLOWEST, f"seed {seed}, message {count}: {data!r}"
        if count % 50 == 0:
            ladder.book.until(ladder.book.elapsed + chance.choice((0.4, 3.0, 40.0)))
    assert count > 100


def test_a_stream_of_anything() -> None:
    chance = random.Random(3)
    samples = seeds()
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        framer = StreamFramer()
        book = Playbook(Reading())
        stream = b"".join(mutated(chance, chance.choice(samples), samples) for _ in range(4))
        position = 0
        while position < len(stream):
            size = chance.choice((1, 50, 500, 5000))
            for message in framer.feed(stream[position : position + size]):
                book.receive(message, PHONE_TCP)
            position += size
        if framer.error is not None:
            assert framer.feed(INVITE) == []
            book.stack.refuse_unframed(framer.unframed(), PHONE_TCP, framer.error)
