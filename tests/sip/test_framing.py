"""StreamFramer. Proved: RFC 3261 18.3 and 20.14 on streams, 7.5 (CRLF before a start line), RFC 5626 4.4.1."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip.errors import Reason
from sip.framing import MAX_BODY_BYTES, OPEN_BODY_BYTES, StreamFramer
from sip.parsing import MAX_HEADER_BYTES, parse_message
from tests.support.playbook import PHONE_TCP, Playbook, request_bytes

HEAD = b"OPTIONS sip:a SIP/2.0\r\nX: y"


def feed(data: bytes, step: int = 65_536) -> tuple[list[bytes], StreamFramer]:
    framer = StreamFramer()
    messages: list[bytes] = []
    for start in range(0, len(data), step):
        messages += framer.feed(memoryview(data)[start : start + step])
    return messages, framer


@pytest.mark.parametrize(
    "length",
    [
        b"Content-Length: 3",
        b"l:3",
        b"L\t :\t3 ",
        b"CONTENT-LENGTH:003",
        b"Content-Length:\r\n 3",
        b"Content-Length: \r\n\t 3",
        b"l: 3\r\nl: 3",
    ],
)
def test_spellings_of_the_length_agree_with_the_parser(length: bytes) -> None:
    data = HEAD + b"\r\n" + length + b"\r\n\r\nabc"
    messages, framer = feed(data + data)
    assert messages == [data, data]
    assert framer.error is None
    assert parse_message(data).body == b"abc"


@pytest.mark.parametrize(
    "other", [b"X-Content-Length: 3", b"X: y\r\n l: 3", b"ll: 3", b"Subject: a\r\n Content-Length: 3"]
)
def test_what_is_not_the_length(other: bytes) -> None:
    data = HEAD + b"\r\n" + other + b"\r\n\r\n"
    assert feed(data + b"abc")[0] == [data]


@pytest.mark.parametrize("step", [1, 7, 65_536])
def test_a_header_with_bare_line_feeds_ends_too(step: int) -> None:
    """As in a datagram, where it is served; nobody answered it on a stream, as no end of it was seen."""
    body, whole = b"v=0\r\n\r\nx\n\n", HEAD + b"\r\nl: 10\r\n\r\n"
    bare = whole.replace(b"\r\n", b"\n")
    messages, framer = feed(bare + body + whole + body + b"\n" + bare + body, step)
    assert messages == [whole + body] * 3
    assert framer.error is None


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"1 2", b"+3", b"1e3", b"99999999999", b"3\r\nl: 4"])
def test_a_length_that_is_none_ends_the_stream(length: bytes) -> None:
    good = request_bytes(b"OPTIONS")
    messages, framer = feed(good + HEAD + b"\r\nContent-Length: " + length + b"\r\n\r\nabc" + good)
    assert messages == [good]
    assert framer.error is not None
    assert (framer.error.reason, framer.error.status) == (Reason.BAD_CONTENT_LENGTH, 400)
    assert framer.unframed().startswith(HEAD)


def test_too_large_a_body_is_refused_before_it_comes() -> None:
    head = request_bytes(b"MESSAGE").replace(b"Content-Length: 0", b"Content-Length: %d" % (MAX_BODY_BYTES + 1))
    messages, framer = feed(head)
    assert messages == []
    assert framer.error is not None
    assert framer.error.reason is Reason.MESSAGE_TOO_LARGE
    book = Playbook()
    book.stack.refuse_unframed(framer.unframed(), PHONE_TCP, framer.error)
    assert [(item.flow[:4], item.response.status) for item in book.take()] == [(PHONE_TCP[:4], 413)]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("line", [b"X: y\r\n", b"X: " + b"y" * 60_000 + b"\r\n"])
def test_a_request_with_too_large_a_header_is_answered(line: bytes, ends: bool) -> None:
    head = request_bytes(b"INVITE").partition(b"\r\n\r\n")[0] + b"\r\n"
    messages, framer = feed(head + line * (2 * MAX_HEADER_BYTES // len(line) + 1) + b"\r\n" * ends)
    assert messages == []
    assert framer.error is not None
    book = Playbook()
    book.stack.refuse_unframed(framer.unframed(), PHONE_TCP, framer.error)
    (answer,) = book.take()
    assert (answer.flow[:4], answer.response.status) == (PHONE_TCP[:4], 513)
    assert b"header-too-large" in answer.response.required("warning")


@pytest.mark.parametrize("chunk", [b"x" * 1000, b"X: y\r\n" * 100, b"\n" * 997])
def test_a_header_that_never_ends_ends_the_stream(chunk: bytes) -> None:
    framer = StreamFramer()
    for _ in range(MAX_HEADER_BYTES // len(chunk) + 2):
        assert framer.feed(chunk) == []
    assert framer.error is not None
    assert framer.error.reason is Reason.HEADER_TOO_LARGE
    assert len(framer.buffer) < MAX_HEADER_BYTES + 2 * len(chunk)


@pytest.mark.parametrize("step", [1, 2, 3, 65_536])
def test_pings_are_counted_and_stray_line_ends_ignored(step: int) -> None:
    data = request_bytes(b"OPTIONS")
    messages, framer = feed(b"\r\n\r\n" + data + b"\r\n\r\n\r\n\r\n" + data + b"\r\n" + data, step)
    assert messages == [data] * 3
    assert framer.pings == 3


def test_a_framer_lets_go_of_what_it_gave() -> None:
    framer = StreamFramer()
    framer.feed(request_bytes(b"OPTIONS") * 50)
    assert (len(framer.buffer), framer.needed) == (0, 0)


message = st.builds(
    lambda body, name: request_bytes(b"MESSAGE", body=body).replace(b"Content-Length", name, 1),
    st.binary(max_size=80),
    st.sampled_from([b"Content-Length", b"l", b"content-length "]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(message, max_size=5), st.lists(st.integers(1, 97), min_size=1, max_size=8))
def test_however_it_is_cut_it_comes_out_whole(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    framer, found, position, turn = StreamFramer(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        turn += 1
        found += framer.feed(stream[position : position + size])
        position += size
    assert found == messages
    assert framer.error is None


SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
UNSAID = b"INVITE sip:911@a SIP/2.0\r\nCall-ID: 1\r\nc: application/sdp\r\n\r\n"


@pytest.mark.parametrize("step", [1, 3, 65_536])
def test_sdp_whose_length_was_not_said_ends_where_the_next_message_begins(step: int) -> None:
    """RFC 4475 section 3.4.1 on a stream."""
    after = request_bytes(b"OPTIONS")
    messages, framer = feed(UNSAID + SDP + after, step)
    assert messages == [UNSAID + SDP, after]
    assert not framer.is_open


@pytest.mark.parametrize("step", [1, 65_536])
@pytest.mark.parametrize("body", [SDP, SDP[:-2], b""])
def test_sdp_whose_length_was_not_said_ends_where_the_sender_falls_silent(step: int, body: bytes) -> None:
    messages, framer = feed(UNSAID + body, step)
    assert (messages, framer.is_open) == ([], True)
    assert framer.end_body() == [UNSAID + body]
    assert (framer.end_body(), framer.is_open) == ([], False)
    after = request_bytes(b"OPTIONS")
    assert framer.feed(after) == [after]


@pytest.mark.parametrize("line", [b"a=1\r\n", b"a=x"])
def test_a_body_without_a_length_does_not_grow_for_ever(line: bytes) -> None:
    framer = StreamFramer()
    assert framer.feed(UNSAID) == []
    fed = 0
    while framer.is_open:
        framer.feed(line)
        fed += len(line)
        assert fed < OPEN_BODY_BYTES + 100


@pytest.mark.parametrize("step", [1, 65_536])
@pytest.mark.parametrize("rest", [b"a=x\r\n", b"rest of it\r\n\tmore\r\n", b"\0\0\r\n"])
def test_what_follows_a_body_longer_than_it_said_is_passed_over(rest: bytes, step: int) -> None:
    first, after = HEAD + b"\r\nl: 3\r\n\r\nabc", request_bytes(b"OPTIONS")
    messages, framer = feed(first + rest + after + after, step)
    assert messages == [first, after, after]
    assert framer.skipped == len(rest)
    assert framer.error is None
