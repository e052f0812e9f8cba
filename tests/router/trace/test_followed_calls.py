"""The messages of emergency calls, for those who want just these."""

from pathlib import Path

import pytest

from router.trace.followed_calls import FOLLOWED, REMEMBERED, STORM, STORM_SECONDS, FollowedCalls, Seen, call_id_of
from router.trace.messages import FrameReader, connect
from router.trace.server import TraceServer
from sip.flow import Flow, ListeningPoint
from sip.transport import SipEdge
from tests.router.trace.test_trace_server import in_a_loop, read, until

FLOW = Flow(ListeningPoint("udp", "127.0.0.1", 5060), "127.0.0.1", 5070)


def message(call: str, start: str = "INVITE sip:911@example.com SIP/2.0") -> bytes:
    return f"{start}\r\nVia: SIP/2.0/UDP 127.0.0.1\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\r\n".encode()


def seen(call: str, at: float, start: str = "INVITE sip:911@example.com SIP/2.0") -> Seen:
    return (at, message(call, start), FLOW, False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"X\r\nCall-ID: a@b\r\n\r\n", b"a@b"),
        (b"X\r\ncall-id  :\ta@b \r\n\r\n", b"a@b"),
        (b"X\r\nI: a@b\r\n\r\n", b"a@b"),
        (b"X\nCALL-ID:a@b\n\n", b"a@b"),
        (b"X\r\nVia: x\r\n\r\n", b""),
        (b"", b""),
        (b"\r\n\r\n", b""),
    ],
)
def test_the_call_id_in_any_spelling(text: bytes, found: bytes) -> None:
    assert call_id_of(text) == found


def test_a_call_is_followed_with_what_came_before_its_intent() -> None:
    followed = FollowedCalls()
    invite, trying = seen("one", 1.0), seen("one", 1.0, "SIP/2.0 100 Trying")
    assert not followed.feed(seen("ordinary", 1.0))
    assert not followed.feed(invite)
    assert not followed.feed(trying)
    assert list(followed.begin(b"one", 1.0)) == [invite, trying]
    assert followed.feed(seen("one", 1.1, "SIP/2.0 180 Ringing"))
    assert not followed.feed(seen("ordinary", 1.1, "SIP/2.0 180 Ringing"))
    # The same INVITE once more (a copy, a restart's retransmission): nothing is told twice.
    assert list(followed.begin(b"one", 1.2)) == []


def test_what_passed_long_before_is_forgotten() -> None:
    followed = FollowedCalls()
    followed.feed(seen("one", 1.0))
    for number in range(REMEMBERED):
        followed.feed(seen(f"ordinary-{number}", 1.0))
    assert list(followed.begin(b"one", 1.0)) == []
    assert followed.feed(seen("one", 1.1))


def test_in_a_storm_nothing_is_followed_and_afterwards_new_calls_are() -> None:
    followed = FollowedCalls()
    for number in range(STORM + 10):
        followed.feed(seen(f"call-{number}", 5.0))
        list(followed.begin(f"call-{number}".encode(), 5.0))
    assert followed.not_followed == 10
    assert not followed.feed(seen("call-0", 5.1))
    after = 5.0 + STORM_SECONDS + 0.1
    followed.feed(seen("later", after))
    assert len(list(followed.begin(b"later", after))) == 1


def test_the_oldest_call_is_given_up_where_there_are_too_many() -> None:
    followed = FollowedCalls()
    for number in range(FOLLOWED + 1):
        list(followed.begin(f"call-{number}".encode(), float(number)))
    assert not followed.feed(seen("call-0", 1000.0))
    assert followed.feed(seen("call-1", 1000.0))
    assert followed.feed(seen(f"call-{FOLLOWED}", 1000.0))


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    followed = FollowedCalls()
    list(followed.begin(b"one", 1000.0))
    followed.feed(seen("two", 10.0))
    assert len(list(followed.begin(b"two", 10.0))) == 1


def test_who_asks_for_emergency_calls_gets_these_and_others_get_all(tmp_path: Path) -> None:
    async def work(edge: SipEdge, server: TraceServer) -> None:
        console = connect(tmp_path, emergency=True)
        await until(lambda: server.listeners == 1)
        assert edge.tap is not None
        edge.tap(message("ordinary"), FLOW, False)
        edge.tap(message("one"), FLOW, False)
        server.call_began("one")
        edge.tap(message("one", "SIP/2.0 180 Ringing"), FLOW, True)
        edge.tap(message("ordinary", "SIP/2.0 180 Ringing"), FLOW, True)
        reader = FrameReader()
        found = await read(console, 2, reader)
        assert [(one.call_id, one.data.split(b" ")[1]) for one in found] == [
            ("one", b"sip:911@example.com"),
            ("one", b"180"),
        ]
        everything = connect(tmp_path)
        await until(lambda: server.listeners == 2)
        edge.tap(message("other"), FLOW, False)
        edge.tap(message("two"), FLOW, False)
        server.call_began("two")
        edge.tap(message("two", "SIP/2.0 200 OK"), FLOW, True)
        assert [one.call_id for one in await read(everything, 3)] == ["other", "two", "two"]
        assert [one.call_id for one in await read(console, 2, reader)] == ["two", "two"]
        everything.close()
        await until(lambda: server.listeners == 1)
        edge.tap(message("two", "BYE sip:x@example.com SIP/2.0"), FLOW, False)
        assert [one.call_id for one in await read(console, 1, reader)] == ["two"]
        console.close()
        await until(lambda: server.listeners == 0)
        assert edge.tap is None

    in_a_loop(tmp_path, work)
