"""RFC 4475 and RFC 5118: every message, whole, byte by byte over a stream, and with bytes after it.

Proved: the verdict, the status and the named reason of each file; that nothing raises; that what is forwarded keeps
its bytes; that what cannot be framed ends the stream. Not proved: the UA rows (501, 406, 415), which a proxy has not.
"""

import hashlib

import pytest

from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.forwarding import max_forwards
from sip.framing import StreamFramer
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.uri import parse_sip_uri, scheme_of
from sip.validation import check_request
from tests.sip.torture import DATA, EXPECTED, RFC4475, SDP_LENGTHS_SHORT, read
from tests.support.playbook import FAR, PHONE_TCP, Playbook, RecordingUser

START_LINE_MENDED = {"rfc4475/ltgtruri", "rfc4475/lwsstart", "rfc4475/trws"}
UNFRAMED = {
    "rfc4475/ncl": Reason.BAD_CONTENT_LENGTH,
    "rfc4475/mcl01": Reason.BAD_CONTENT_LENGTH,
}
INCOMPLETE_ON_A_STREAM = {"rfc4475/clerr", "rfc4475/baddn"}


class ProxyChecks(RecordingUser):
    """Section 16.3 as far as it needs no policy: scheme, Max-Forwards, Proxy-Require."""

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        try:
            if scheme_of(request.uri) in ("tel", "urn"):
                return None
            parse_sip_uri(request.uri)
            if max_forwards(request) <= 0:
                return RemoteError(Reason.TOO_MANY_HOPS, 483)
        except RemoteError as error:
            return error
        return RemoteError(Reason.BAD_EXTENSION, 420) if request.has("proxy-require") else None


def verdict_of(data: bytes) -> tuple[int, Reason | None, str]:
    """Status, reason and finder, without a stack."""
    try:
        message = parse_message(data)
    except RemoteError as error:
        return error.status, error.reason, "parse"
    if isinstance(message, Response):
        return 0, message.oddities[0] if message.oddities else None, "check"
    try:
        check_request(message)
    except RemoteError as error:
        return error.status, error.reason, "check"
    error = ProxyChecks().refuses(message, FAR)
    return (error.status, error.reason, "proxy") if error else (0, None, "parse")


def test_the_files_are_the_rfcs_bytes_and_all_are_in_the_table() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in DATA.glob("rfc*/*.dat")}
    assert found == set(EXPECTED)
    joined = b"".join(read(f"rfc4475/{name}") for name in sorted(f"{name}.dat"[:-4] for name in RFC4475))
    assert hashlib.sha256(joined).hexdigest() == "c130abdedde20f53b7f1c70181dc8fc115afd568a12977d7db3d597f39a21378"


@pytest.mark.parametrize("name", EXPECTED)
def test_verdict(name: str) -> None:
    expected = EXPECTED[name]
    status, reason, by = verdict_of(read(name))
    assert (status, reason) == (expected.status, expected.reason)
    if reason is not None:
        assert by == expected.by


TRAILING = (b"", b"\r\n", b"\0\0\0\0", b"INVITE sip:x@example.com SIP/2.0\r\n\r\n")
ENDS_WITH_THE_DATAGRAM = {"rfc4475/inv2543", "rfc4475/clerr", "rfc4475/baddn"}
"""Without Content-Length, or unfinished: what follows belongs to the message."""


@pytest.mark.parametrize(
    ("name", "trailing"),
    [
        (name, trailing)
        for name in EXPECTED
        for trailing in TRAILING
        if not trailing or name not in ENDS_WITH_THE_DATAGRAM
    ],
)
def test_through_a_stack(name: str, trailing: bytes) -> None:
    expected = EXPECTED[name]
    data = read(name)
    user = ProxyChecks()
    book = Playbook(user)
    sent = book.receive(data + trailing)
    if name == "rfc4475/scalarlg" or expected.verdict == "D":
        assert not sent
        assert book.stack.drops == {expected.reason: 1}
        assert not user.strays
    elif expected.verdict == "R":
        assert [item.response.status for item in sent] == [expected.status]
        assert book.stack.drops == {expected.reason: 1}
        assert not user.requests, "a refused request makes no transaction"
        assert not book.stack.servers
    elif data.startswith(b"SIP/2.0"):
        # A response whose top Via is not ours: never sent anywhere (bcast: least of all to 255.255.255.255).
        assert not sent
        assert len(user.strays) == 1
    else:
        assert len(user.requests) == 1, "one request, whatever follows it"
        assert [item.response.status for item in sent] == ([100] if data.startswith(b"INVITE") else [])
        assert not book.stack.drops
        request = user.requests[0][1]
        whole, _, _ = data.partition(b"\r\n\r\n")
        kept = whole.split(b"\r\n", 1)[1]
        lines = b"\r\n".join(line for key, line in request.fields if key != "via")
        assert lines == b"\r\n".join(
            line for line in _unfolded_lines(kept) if line.split(b":")[0].strip().lower() not in (b"via", b"v")
        )


def _unfolded_lines(head: bytes) -> list[bytes]:
    lines: list[bytes] = []
    for line in head.removesuffix(b"\r\n").split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            lines[-1] += b"\r\n" + line
        else:
            lines.append(line)
    return lines


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected.verdict == "A"])
def test_what_is_accepted_keeps_its_bytes(name: str) -> None:
    data = read(name)
    message = parse_message(data)
    again = message.to_bytes()
    if name in START_LINE_MENDED:
        assert again.split(b"\r\n", 1)[1] == data.split(b"\r\n", 1)[1]
        assert again.startswith(b"%b %b SIP/2.0\r\n" % (message.method, getattr(message, "uri", b"")))
    elif name == "rfc4475/baddn":
        assert again == data + b"\r\n"
    else:
        assert data.startswith(again), "a message is a beginning of its datagram"
        if name not in SDP_LENGTHS_SHORT and name != "rfc4475/dblreq":
            assert again == data


NOT_FOR_A_STREAM = {"rfc4475/inv2543", *SDP_LENGTHS_SHORT}
"""Their body would be the next message: section 20.14 demands a right Content-Length on streams."""


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in NOT_FOR_A_STREAM])
@pytest.mark.parametrize("step", [1, 7, 65_536])
def test_over_a_stream(name: str, step: int) -> None:
    data = read(name)
    framer = StreamFramer()
    messages: list[bytes] = []
    for start in range(0, len(data), step):
        messages += framer.feed(data[start : start + step])
    if name in UNFRAMED:
        assert messages == []
        assert framer.error is not None
        assert framer.error.reason is UNFRAMED[name]
        assert framer.feed(b"OPTIONS sip:a SIP/2.0\r\n\r\n") == [], "nothing after the error can be trusted"
        book = Playbook()
        book.stack.refuse_unframed(framer.unframed(), PHONE_TCP, framer.error)
        assert [item.response.status for item in book.take()] == [400]
    elif name in INCOMPLETE_ON_A_STREAM:
        assert (messages, framer.error) == ([], None), "waits for the rest"
    elif name == "rfc4475/dblreq":
        assert messages[0] == parse_message(data).to_bytes()
        assert messages[1].startswith(b"INVITE "), "on a stream the second request is one of its own"
    else:
        assert messages == [data]
        assert framer.error is None
        assert verdict_of(messages[0])[:2] == (EXPECTED[name].status, EXPECTED[name].reason)


def test_all_that_can_be_framed_on_one_stream_in_order() -> None:
    names = [
        name
        for name in EXPECTED
        if name not in {*UNFRAMED, *INCOMPLETE_ON_A_STREAM, *NOT_FOR_A_STREAM, "rfc4475/dblreq"}
    ]
    stream = b"\r\n\r\n".join(read(name) for name in names) + b"\r\n\r\n"
    framer = StreamFramer()
    messages: list[bytes] = []
    for start in range(0, len(stream), 101):
        messages += framer.feed(stream[start : start + 101])
    assert messages == [read(name) for name in names]
    assert framer.pings == len(names)


def test_wsinv_is_read_as_the_rfc_says() -> None:
    message = parse_message(read("rfc4475/wsinv"))
    assert isinstance(message, Request)
    assert message.uri == b"sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert (message.cseq, message.method) == (9, b"INVITE")
    assert message.from_tag == b"98asjd8"
    assert message.to_tag == b"1918181833n"
    assert max_forwards(message) == 68
    assert message.via.branch == b"390skdjuw"
    assert len(message.values("via")) == 3
    assert len(message.body) == 150


def test_port_ambiguous_is_an_address_without_a_port() -> None:
    message = parse_message(read("rfc5118/port-ambiguous"))
    assert isinstance(message, Request)
    uri = parse_sip_uri(message.uri)
    assert (uri.host, uri.port) == ("2001:db8::10:5070", None)
    unambiguous = parse_message(read("rfc5118/port-unambiguous"))
    assert isinstance(unambiguous, Request)
    assert (parse_sip_uri(unambiguous.uri).host, parse_sip_uri(unambiguous.uri).port) == ("2001:db8::10", 5070)


@pytest.mark.parametrize("form", ["with-delim", "no-delim"])
def test_received_with_and_without_brackets(form: str) -> None:
    message = parse_message(read(f"rfc5118/via-received-param-{form}"))
    assert message.via.received == "2001:db8::9:255"


def test_a_response_whose_way_back_is_the_broadcast_address_goes_nowhere() -> None:
    book = Playbook()
    assert book.receive(read("rfc4475/bcast"), FAR) == []
    assert len(book.user.strays) == 1
