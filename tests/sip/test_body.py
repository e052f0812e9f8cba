"""add_part. Proved: RFC 2046 5.1 (delimiters, preamble, epilogue), RFC 5621 (multipart), RFC 8262 (Content-ID),
RFC 3261 20.11 to 20.15 moving into the part; every part that was there byte-identical. Judge: email's own parser."""

import email
import email.policy
import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sip.body import BodyPart, add_part, boundary_of, leaf_parts, media_type, split_parts
from sip.fields import key_of_line
from sip.message import Message, Request
from sip.parsing import parse_message
from tests.support.playbook import request_bytes

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
PART = BodyPart(content_type=b"application/pidf+xml", content_id=b"loc@example.com", body=b"<presence/>\r\n")


def with_part(*extra: bytes, body: bytes = SDP, boundary: bytes = b"edge911-b") -> Request:
    request = parse_message(request_bytes(extra=extra, body=body))
    assert isinstance(request, Request)
    edited = request.edited(add_part(request, PART, boundary))
    again = parse_message(edited.to_bytes())
    assert isinstance(again, Request)
    assert again.first("content-length") == b"%d" % len(edited.body)
    assert len(again.all("content-type")) == 1
    return again


def parts_of(request: Request) -> list[tuple[list[bytes], bytes]]:
    boundary = boundary_of(request.required("content-type"))
    assert boundary is not None
    parts = split_parts(request.body, boundary)
    judged = email.message_from_bytes(
        b"Content-Type: " + request.required("content-type") + b"\r\n\r\n" + request.body, policy=email.policy.SMTP
    )
    assert len(judged.get_payload()) == len(parts), "another parser sees as many"
    assert not judged.defects
    return parts


def assert_our_part(part: tuple[list[bytes], bytes]) -> None:
    head, body = part
    assert body == PART.body
    assert head == [
        b"Content-Type: application/pidf+xml",
        b"Content-ID: <loc@example.com>",
        b"Content-Disposition: render;handling=optional",
    ]


def test_no_body() -> None:
    request = with_part(body=b"")
    assert request.body == PART.body
    assert request.lines("content-type") == [b"Content-Type: application/pidf+xml"]
    assert request.lines("content-id") == [b"Content-ID: <loc@example.com>"]


def test_no_body_but_fields_about_one() -> None:
    request = with_part(b"c: application/sdp", b"e: gzip", b"Content-Disposition: session", body=b"")
    assert request.body == PART.body
    assert request.first("content-type") == b"application/pidf+xml"
    assert not request.has("content-encoding")
    assert len(request.all("content-disposition")) == 1


@pytest.mark.parametrize("name", [b"Content-Type", b"c", b"C", b"CONTENT-TYPE ", b"c\t"])
def test_a_plain_body(name: bytes) -> None:
    request = with_part(name + b": application/sdp;x=1")
    first, second = parts_of(request)
    assert first[1] == SDP
    assert [line.split(b":")[0].strip().lower() for line in first[0]] == [b"content-type"], "no compact form in MIME"
    assert_our_part(second)
    assert request.first("mime-version") == b"1.0"
    assert media_type(request.required("content-type")) == b"multipart/mixed"


def test_fields_about_the_body_move_in_with_it() -> None:
    request = with_part(
        b"Content-Language: fr",
        b"c: application/sdp",
        b"X-Kept: between",
        b"e: gzip",
        b"Content-Disposition: session;\r\n handling=required",
        b"Content-ID: <caller@example.com>",
        b"MIME-Version: 1.0",
    )
    first, _ = parts_of(request)
    assert sorted(first[0]) == sorted(
        [
            b"Content-Type: application/sdp",
            b"Content-Disposition: session;",
            b" handling=required",
            b"Content-Encoding: gzip",
            b"Content-Language: fr",
            b"Content-ID: <caller@example.com>",
        ]
    )
    for key in ("content-disposition", "content-encoding", "content-language", "content-id"):
        assert not request.has(key), key
    assert request.lines("x-kept") == [b"X-Kept: between"]
    assert len(request.all("mime-version")) == 1


def test_a_body_without_a_type_is_not_thrown_away() -> None:
    first, second = parts_of(with_part())
    assert first == ([b"Content-Type: application/sdp"], SDP)
    assert_our_part(second)
    assert parts_of(with_part(body=b"hello"))[0] == ([], b"hello")


MULTIPART = (
    b"preamble\r\n--outer\r\nContent-Type: application/sdp\r\n\r\n"
    + SDP
    + b"\r\n--outer \t\r\nContent-Type: multipart/alternative;boundary=inner\r\n\r\n"
    b"--inner\r\n\r\nx\r\n--inner--\r\n\r\n--outer--  \r\nepilogue\r\n--outer--\r\n"
)


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/mixed;boundary=outer",
        b'Multipart/MIXED ; charset=x; BOUNDARY = "outer"',
        b'multipart/mixed;boundary="out\\er";x=y',
        b"multipart/mixed;\r\n boundary=outer",
    ],
)
def test_a_multipart_body_gets_one_more_part_before_its_end(content_type: bytes) -> None:
    request = with_part(b"c: " + content_type, body=MULTIPART)
    assert request.lines("content-type") == [b"c: " + content_type]
    close = MULTIPART.index(b"\r\n--outer--")
    assert request.body.startswith(MULTIPART[:close])
    assert request.body.endswith(MULTIPART[close:])
    parts = split_parts(request.body, b"outer")
    assert len(parts) == 3
    assert parts[0][1] == SDP
    assert_our_part(parts[2])
    assert not request.has("mime-version")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"multipart/mixed", MULTIPART),
        (b"multipart/mixed;boundary=other", MULTIPART),
        (b"multipart/mixed;boundary=outer", MULTIPART.replace(b"\r\n--outer--", b"\r\n--outer-")),
        (b"multipart/mixed;boundary=outer", MULTIPART.replace(b"\r\n", b"\n")),
        (b"multipart/alternative;boundary=outer", MULTIPART),
        (b'multipart/mixed;boundary="' + b"x" * 71 + b'"', MULTIPART),
    ],
)
def test_a_multipart_body_that_cannot_be_joined_is_kept_whole_in_a_new_one(content_type: bytes, body: bytes) -> None:
    request = with_part(b"Content-Type: " + content_type, body=body)
    first, second = split_parts(request.body, boundary_of(request.required("content-type")) or b"")
    assert first == ([b"Content-Type: " + content_type], body)
    assert_our_part(second)


def test_a_compressed_multipart_is_not_read() -> None:
    request = with_part(b"Content-Type: multipart/mixed;boundary=outer", b"Content-Encoding: gzip", body=MULTIPART)
    assert split_parts(request.body, b"edge911-b")[0][1] == MULTIPART


@pytest.mark.parametrize("body", [b"--outer--\r\n", b"\r\n--outer--", b"--outer--"])
def test_a_multipart_of_no_parts(body: bytes) -> None:
    request = with_part(b"Content-Type: multipart/mixed;boundary=outer", body=body)
    parts = split_parts(request.body, b"outer")
    assert len(parts) == 1
    assert_our_part(parts[0])


def test_a_boundary_in_the_body_is_avoided() -> None:
    body = b"--edge911-b\r\n--edge911-bx--\r\n"
    request = with_part(b"c: text/plain", body=body)
    assert boundary_of(request.required("content-type")) == b"edge911-bxx"
    assert split_parts(request.body, b"edge911-bxx")[0][1] == body


body_bytes = st.lists(
    st.sampled_from(
        [
            b"v=0",
            b"\r\n",
            b"\n",
            b"\r",
            b"--",
            b"--b",
            b"--bx",
            b"--b--",
            b"--c",
            b"--c--",
            b" ",
            b"\xff",
            b"\x00",
            b"a=x",
        ]
    ),
    min_size=1,
    max_size=30,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(
    body_bytes,
    st.sampled_from([b"application/sdp", b"text/plain; charset=utf-8", b"multipart/mixed;boundary=c", None]),
)
def test_what_was_there_is_byte_identical(body: bytes, content_type: bytes | None) -> None:
    extra = () if content_type is None else (b"Content-Type: " + content_type,)
    request = with_part(*extra, body=body, boundary=b"b")
    if request.first("content-type") == content_type:  # joined
        added = request.body.index(b"Content-Type: application/pidf+xml")
        assert body.startswith(request.body[:added].removesuffix(b"--c\r\n").removesuffix(b"\r\n"))
        assert_our_part(split_parts(request.body, b"c")[-1])
        return
    boundary = boundary_of(request.required("content-type"))
    assert boundary is not None
    first, second = split_parts(request.body, boundary)
    assert first[1] == body
    assert_our_part(second)


# Parts within parts

NESTED = (
    b"--o\r\nContent-Type: multipart/alternative;boundary=i\r\n\r\n"
    b"--i\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n"
    b"--i\r\nContent-Type: text/plain\r\n\r\nhello\r\n--i--\r\n\r\n"
    b"--o\r\nc: application/PIDF+XML; charset=utf-8\r\n"
    b"Content-ID:\r\n <a@b>\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
    b"PHAv\r\nPg==\r\n--o--\r\n"
)


def message(content_type: str, body: bytes, *extra: str) -> Message:
    lines = [line.encode() for line in (f"Content-Type: {content_type}", *extra)]
    return Request(b"INVITE", b"sip:911@x", [(key_of_line(line), line) for line in lines], body)


def test_leaf_parts_of_nested_multiparts() -> None:
    found = leaf_parts(message("multipart/mixed;boundary=o", NESTED))
    assert found == [
        (b"application/sdp", b"", b"v=0"),
        (b"text/plain", b"", b"hello"),
        (b"application/pidf+xml", b"a@b", b"<p/>"),
    ]


def test_a_body_that_is_no_multipart_is_its_only_part() -> None:
    assert leaf_parts(message("application/sdp", b"v=0\r\n", "Content-ID: <x@y>")) == [
        (b"application/sdp", b"x@y", b"v=0\r\n")
    ]
    assert leaf_parts(message("application/sdp", b"")) == []


def test_parts_as_careless_products_write_them() -> None:
    two = b"--o\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--o\r\nContent-Type: application/pidf+xml\r\n\r\n<p/>"
    found = [(b"application/sdp", b"", b"v=0"), (b"application/pidf+xml", b"", b"<p/>")]
    whole = two + b"\r\n--o--\r\n"
    assert leaf_parts(message("multipart/mixed;boundary=o", whole)) == found
    assert leaf_parts(message("multipart/mixed;boundary=o", two)) == found, "no closing delimiter"
    assert leaf_parts(message("multipart/mixed;boundary=o", whole.replace(b"\r\n", b"\n"))) == found
    assert leaf_parts(message("multipart/mixed;boundary=o", b"--o\r\n")) == [], "a delimiter alone is no part"


def test_an_empty_part_before_the_end_is_one() -> None:
    request = with_part(b"Content-Type: multipart/mixed;boundary=c", body=b"--c\r\n--c--")
    first, second = split_parts(request.body, b"c")
    assert first == ([], b"")
    assert_our_part(second)


@pytest.mark.parametrize("name", ["Content-Encoding: gzip", "e: GZIP", "Content-Encoding: deflate"])
def test_what_is_packed_is_unpacked(name: str) -> None:
    packed = zlib.compress(b"<p/>") if name.endswith("deflate") else gzip.compress(b"<p/>")
    part = b"--o\r\nContent-Type: application/pidf+xml\r\n" + name.encode() + b"\r\n\r\n" + packed + b"\r\n--o--"
    assert leaf_parts(message("multipart/mixed;boundary=o", part)) == [(b"application/pidf+xml", b"", b"<p/>")]


def test_a_whole_body_that_is_packed_is_unpacked() -> None:
    packed = gzip.compress(NESTED)
    found = leaf_parts(message("multipart/mixed;boundary=o", packed, "Content-Encoding: gzip"))
    assert [part.data for part in found] == [b"v=0", b"hello", b"<p/>"]


def test_what_cannot_be_unpacked_or_is_too_large_stays_as_it_came() -> None:
    for data in (b"no gzip", gzip.compress(bytes(1_000_000)), gzip.compress(b"<p/>")[:-9]):
        (found,) = leaf_parts(message("application/pidf+xml", data, "Content-Encoding: gzip"))
        assert found.data == data


def test_leaf_parts_are_bounded() -> None:
    many = b"".join(b"--o\r\n\r\nx\r\n" for _ in range(500)) + b"--o--"
    assert len(leaf_parts(message("multipart/mixed;boundary=o", many))) == 32
    deep = b"end"
    for level in range(40):
        boundary = b"b%d" % level
        deep = b"--%b\r\nContent-Type: multipart/mixed;boundary=b%d\r\n\r\n%b\r\n--%b--" % (
            boundary,
            level - 1,
            deep,
            boundary,
        )
    assert leaf_parts(message("multipart/mixed;boundary=b39", deep)) == []
