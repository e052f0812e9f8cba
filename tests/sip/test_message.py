"""Messages and edits. Proved: design rule 3 (what nobody edited leaves as it came), RFC 3261 7.3.1, 7.3.3, 8.2.6,
18.3. Properties: parse(x).to_bytes() == x for every well-formed message; an edit changes the bytes of the fields it
names and no others, whatever their spelling, folds and characters.
"""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip.answers import build_response
from sip.errors import Reason, RemoteError
from sip.fields import COMPACT_FORMS
from sip.message import Edits, Request, Response
from sip.parsing import MAX_FIELDS, MAX_HEADER_BYTES, parse_message
from sip.validation import check_request
from tests.support.playbook import request_bytes

NAMES = [
    b"Via", b"v", b"VIA", b"From", b"f", b"To", b"t", b"Call-ID", b"i", b"call-id", b"CSeq", b"Contact", b"m",
    b"Subject", b"s", b"X-Odd.Name!", b"Route", b"Geolocation", b"k", b"Supported", b"P-Asserted-Identity",
]  # fmt: skip
CSEQ = [b"1 INVITE", b"4294967295 INVITE", b"0 INVITE"]

text = st.lists(
    st.sampled_from(
        [b"a", b"<sip:x@y>", b";tag=1", b'"q,"', b",", b" ", b"\t", b"\xe9", "é".encode(), b":", b"%41", b"\x00"]
    ),
    max_size=8,
).map(b"".join)
folds = st.lists(st.tuples(st.sampled_from([b" ", b"\t", b"   "]), text), max_size=2)


@st.composite
def fields(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(NAMES))
    value = draw(st.sampled_from(CSEQ)) if name == b"CSeq" else draw(text)
    line = name + draw(st.sampled_from([b":", b": ", b" : ", b"\t:  "])) + value
    if name != b"CSeq":
        for blank, more in draw(folds):
            line += b"\r\n" + blank + more
    return line


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    start = draw(
        st.sampled_from(
            [b"INVITE sip:911@x SIP/2.0", b"SIP/2.0 200 OK", b"SIP/2.0 486 Occup\xe9 ici", b"SIP/2.0 180 "]
        )
    )
    lines = draw(st.lists(fields(), max_size=10))
    body = draw(st.binary(max_size=40))
    length = draw(st.sampled_from([None, b"Content-Length: %d", b"l:%d", b"CONTENT-length :  %d"]))
    if length is not None:
        lines.insert(draw(st.integers(0, len(lines))), length % len(body))
    return b"\r\n".join([start, *lines, b"", body]), lines


@settings(max_examples=120, deadline=None)
@given(messages())
def test_what_comes_in_goes_out(made: tuple[bytes, list[bytes]]) -> None:
    data, lines = made
    message = parse_message(data)
    assert message.to_bytes() == data
    assert [line for _, line in message.fields] == lines
    assert parse_message(message.to_bytes()).fields == message.fields


EDITED = ["from", "to", "via", "call-id", "contact", "subject", "route", "geolocation", "x-new"]


@settings(max_examples=120, deadline=None)
@given(
    messages(),
    st.dictionaries(st.sampled_from(EDITED), st.integers(0, 2), max_size=3),
    st.none() | st.binary(max_size=30),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_an_edit_touches_what_it_names_and_nothing_else(
    made: tuple[bytes, list[bytes]], replaced: dict[str, int], body: bytes | None, first: int, appended: int
) -> None:
    data, _ = made
    message = parse_message(data)
    edits = Edits(
        first=[b"First: %d" % number for number in range(first)],
        replace={
            key: [b"%b: new %d" % (key.encode(), number) for number in range(count)]
            for key, count in replaced.items()
        },
        append=[b"Last: %d" % number for number in range(appended)],
        body=body,
    )
    before = message.to_bytes()
    assert isinstance(message, (Request, Response))
    edited = message.edited(edits)
    assert message.to_bytes() == before, "a new message; the old one is as it was"

    keys = [key for key, _ in message.fields]
    expected: list[bytes] = list(edits.first)
    done: set[str] = set()
    for key, line in message.fields:
        if key == "content-length" and body is not None:
            expected.append(b"Content-Length: %d" % len(body))
        elif key not in replaced:
            expected.append(line)
        elif key not in done:
            done.add(key)
            expected += edits.replace[key]
    expected += [line for key in replaced if key not in keys for line in edits.replace[key]]
    expected += edits.append
    if body is not None and "content-length" not in keys:
        expected.append(b"Content-Length: %d" % len(body))
    assert [line for _, line in edited.fields] == expected
    assert edited.body == (message.body if body is None else body)
    assert edited.start_line() == message.start_line()
    again = parse_message(edited.to_bytes())
    assert (again.fields, again.body) == (edited.fields, edited.body), "it reads back as it was made"
    assert all(edited.first(key) == again.first(key) for key in (*EDITED, *keys))


@pytest.mark.parametrize(("short", "full"), COMPACT_FORMS.items())
def test_compact_forms_read_as_their_full_names_and_stay(short: str, full: str) -> None:
    for name in (short, short.upper(), full, full.upper(), full.title()):
        line = name.encode() + b" : value"
        message = parse_message(b"OPTIONS sip:a SIP/2.0\r\n" + line + b"\r\n\r\n")
        assert message.first(full) == b"value"
        assert message.lines(full) == [line]


def test_folds_are_read_as_one_space() -> None:
    message = parse_message(b"OPTIONS sip:a SIP/2.0\r\nSubject: I know \r\n\t you're  there,\r\n  pick up \r\n\r\n")
    assert message.first("subject") == b"I know you're  there, pick up"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no colon here", Reason.BAD_FIELD_LINE),
        (b": no name", Reason.BAD_FIELD_LINE),
        (b"Bad Name: x", Reason.BAD_FIELD_LINE),
        (b"Caf\xe9: x", Reason.BAD_FIELD_LINE),
        (b"Via", Reason.BAD_FIELD_LINE),
    ],
)
def test_a_broken_line_is_kept_and_named(line: bytes, reason: Reason) -> None:
    data = request_bytes(extra=(line,))
    message = parse_message(data)
    assert message.oddities == (reason,)
    assert message.to_bytes() == data
    assert isinstance(message, Request)
    with pytest.raises(RemoteError) as caught:
        check_request(message)
    assert (caught.value.reason, caught.value.status) == (reason, 400)


@pytest.mark.parametrize("key", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_fields_that_must_be_there(key: bytes) -> None:
    message = parse_message(request_bytes().replace(b"\r\n" + key, b"\r\nX-" + key))
    assert isinstance(message, Request)
    with pytest.raises(RemoteError) as caught:
        check_request(message)
    assert (caught.value.reason, caught.value.status) == (Reason.MISSING_FIELD, 400)


@pytest.mark.parametrize(
    "line", [b"f: <sip:b>;tag=2", b"To: <sip:b>", b"i: 2", b"CSeq: 1 INVITE", b"Max-Forwards: 1", b"l: 0"]
)
def test_fields_that_stand_once(line: bytes) -> None:
    message = parse_message(request_bytes(extra=(line,)))
    assert isinstance(message, Request)
    with pytest.raises(RemoteError) as caught:
        check_request(message)
    assert (caught.value.reason, caught.value.status) == (Reason.REPEATED_FIELD, 400)


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (b"", Reason.KEEP_ALIVE, 0),
        (b"\r\n\r\n", Reason.KEEP_ALIVE, 0),
        (b"\0\0\0\0", Reason.KEEP_ALIVE, 0),
        (b"\x16\x03\x01\x02\x00\x01", Reason.NOT_SIP, 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Reason.NOT_SIP, 0),
        (b"INVITE sip:911@x SIP/2.0\r\nVia: SIP/2.0/UDP x;bra", Reason.HEADER_INCOMPLETE, 0),
        (b"INVITE sip:911@x SIP/3.0\r\n\r\n", Reason.BAD_VERSION, 505),
        (b"INVITE\r\n\r\n", Reason.NOT_SIP, 0),
        (b"SIP/2.0 20 OK\r\n\r\n", Reason.BAD_STATUS, 0),
        (b"SIP/2.0 700 OK\r\n\r\n", Reason.BAD_STATUS, 0),
        (b"SIP/2.0 \xb2\xb2\xb2 OK\r\n\r\n", Reason.BAD_STATUS, 0),
        (b"OPTIONS sip:a SIP/2.0\r\n" + b"X: y\r\n" * MAX_FIELDS + b"\r\n", Reason.HEADER_TOO_LARGE, 513),
        (b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * MAX_HEADER_BYTES + b"\r\n\r\n", Reason.HEADER_TOO_LARGE, 513),
    ],
)
def test_what_is_no_message(data: bytes, reason: Reason, status: int) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_message(data)
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_bare_line_feeds_are_understood() -> None:
    data = request_bytes(b"OPTIONS").replace(b"\r\n", b"\n")
    assert parse_message(data).to_bytes() == request_bytes(b"OPTIONS")


@pytest.mark.parametrize("before", [b"\r\n", b"\n", b"\r\n\n", b"\0", b" ", b"\0\r\n\t"])
def test_what_stands_before_a_start_line_is_no_part_of_the_method(before: bytes) -> None:
    assert parse_message(before + request_bytes(b"OPTIONS")).to_bytes() == request_bytes(b"OPTIONS")


def test_a_response_of_ours_copies_what_it_must() -> None:
    data = request_bytes(
        via=b"v: SIP/2.0/UDP a;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP b,\r\n SIP/2.0/UDP c",
        extra=(b"Timestamp: 54", b"Route: <sip:x>"),
    )
    request = parse_message(data)
    assert isinstance(request, Request)
    trying = parse_message(build_response(request, 100, to_tag=b"t"))
    assert trying.lines("timestamp") == [b"Timestamp: 54"]
    assert trying.to_tag == b"", "no tag in 100"
    busy = parse_message(build_response(request, 486, reason=b"Busy", to_tag=b"t", extra=(b"Reason: x",)))
    assert isinstance(busy, Response)
    assert (busy.status, busy.reason, busy.to_tag, busy.body) == (486, b"Busy", b"t", b"")
    for key in ("via", "from", "call-id", "cseq"):
        assert busy.lines(key) == request.lines(key)
    assert not busy.has("route")
    assert busy.lines("timestamp") == []


def test_the_top_via_comes_off_and_the_others_stay() -> None:
    below = b'Via: SIP/2.0/UDP b;x="1,2", SIP/2.0/UDP c'
    for top, left in (
        (b"Via: SIP/2.0/UDP a;branch=1", [below]),
        (b"v: SIP/2.0/UDP a;branch=1,SIP/2.0/UDP z", [b"Via: SIP/2.0/UDP z", below]),
        (b"Via: SIP/2.0/UDP a,\r\n SIP/2.0/UDP z", [b"Via: SIP/2.0/UDP z", below]),
    ):
        response = parse_message(b"SIP/2.0 200 OK\r\nX: 1\r\n" + top + b"\r\nY: 2\r\n" + below + b"\r\n\r\n")
        assert isinstance(response, Response)
        bare = response.without_top_via()
        assert bare.lines("via") == left
        assert [line for key, line in bare.fields if key != "via"] == [b"X: 1", b"Y: 2"]


def test_what_a_peer_can_make_us_keep_has_an_end() -> None:
    """Names and lines are kept once read, but not long ones, and the usual names whatever came before."""
    from sip import fields, parsing

    before = dict(fields.KEYS)
    try:
        for number in range(6000):
            name = b"X-%d" % number
            parse_message(b"OPTIONS sip:a SIP/2.0\r\n%b: 1\r\n%b: 2\r\n\r\n" % (name, name + b"y" * 500))
        assert len(fields.KEYS) <= fields.KEYS_LIMIT
        assert max(map(len, fields.KEYS)) <= fields.CACHED_BYTES
        assert all(name in fields.KEYS for name in (b"Via:", b"v:", b"Call-ID:", b"Contact:", b"Route:"))
    finally:
        fields.KEYS.clear()
        fields.KEYS.update(before)
    for function in (parsing._cseq_of, parsing._length_of, parsing._status_of):
        size = function.cache_info().currsize
        for number in range(50):
            long = b"9" * 500 + b"%d" % number
            with contextlib.suppress(RemoteError):
                parse_message(b"OPTIONS sip:a SIP/2.0\r\nCSeq: %b A\r\nContent-Length: %b\r\n\r\n" % (long, long))
            with contextlib.suppress(RemoteError):
                parse_message(b"SIP/2.0 200 %b\r\n\r\n" % long)
        assert function.cache_info().currsize == size
