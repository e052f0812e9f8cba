"""RFC 4475 and RFC 5118 through the whole router: a message comes in, and what leaves is looked at.

Proved for each of the 61: what the table of the reference data says of a proxy, as one datagram, with bytes after it,
and over a stream in pieces of one byte; that a refusal names its reason in a Warning and makes no transaction; that a
request leaves once, each line as it came but for those that a proxy must write; that a response leaves with its
status line as it came.
"""

import re
from pathlib import Path

import pytest

from sip.errors import Reason
from sip.flow import ListeningPoint
from sip.framing import StreamFramer
from sip.locating import Located, Server, Weighted
from tests.sip.torture import EXPECTED, SDP_LENGTHS_SHORT, read
from tests.support.call_world import CARRIER, CallWorld, Sent, invite, of, one, response

OURS = (b"via", b"v", b"max-forwards", b"record-route", b"path")
"""Fields that a proxy writes."""
MENDED = {
    # Section 16.6 step 6: the Route names a strict router.
    "rfc4475/mpart01": {b"Route: <sip:127.0.0.1:5080>": b"Route: <sip:kumiko@example.org>"},
    # "MUST NOT propagate": display names get the quotes they lack.
    "rfc4475/baddn": {
        b"From:    Bell, Alexander <sip:a.g.bell@example.com>;tag=43": (
            b'From: "Bell, Alexander" <sip:a.g.bell@example.com>;tag=43'
        ),
        b"To:      Watson, Thomas <sip:t.watson@example.org>": b'To: "Watson, Thomas" <sip:t.watson@example.org>',
    },
}
START_LINES = {
    "rfc4475/ltgtruri": b"INVITE sip:user@example.com SIP/2.0",
    "rfc4475/lwsstart": b"INVITE sip:user@example.com SIP/2.0",
    "rfc4475/trws": b"OPTIONS sip:remote-target@example.com SIP/2.0",
    "rfc4475/escruri": b"INVITE sip:user@example.com SIP/2.0",
    "rfc4475/mpart01": b"MESSAGE sip:127.0.0.1:5080 SIP/2.0",
}
UNFINISHED = {"rfc4475/clerr", "rfc4475/baddn"}
"""A datagram ends them, a stream waits for more."""
RESPONSES = {name for name in EXPECTED if read(name).startswith(b"SIP/2.0")}
REQUESTS = [name for name in EXPECTED if name not in RESPONSES]


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    world = CallWorld(tmp_path)
    world.points.points.append(ListeningPoint("udp", "2001:db8::5", 5060))
    located = Located(((Weighted(0, (Server("udp", *CARRIER),)),),))
    world.router.resolve = lambda where, told: told(located)
    world.router.use(world.router.setup)
    return world


def lines_of(data: bytes) -> list[bytes]:
    """Start line and fields, folds kept."""
    return re.split(rb"\r\n(?![ \t])", data.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n"))


def name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].strip().lower()


def body_of(name: str, data: bytes) -> bytes:
    """What belongs to the message of what follows its header."""
    body = data.partition(b"\r\n\r\n")[2]
    length = re.search(rb"\r\n(?:content-length|l)\s*:\s*(\d+)", data, re.IGNORECASE)
    return body[: int(length[1])] if length else body


def assert_forwarded_as_it_came(name: str, data: bytes, sent: list[Sent]) -> None:
    requests = [item for item in sent if item.message.is_request]
    assert len(requests) == 1, "one request, whatever follows it"
    gone = requests[0].message
    came = lines_of(data)
    assert gone.start.encode("utf-8", "surrogateescape") == START_LINES.get(name, came[0])
    mended = MENDED.get(name, {})
    assert [line for line in gone.lines if name_of(line) not in OURS] == [
        mended.get(line, line) for line in came[1:] if name_of(line) not in OURS
    ]
    vias = [line for line in gone.lines if name_of(line) in (b"via", b"v")]
    before = [line for line in came if name_of(line) in (b"via", b"v")]
    assert vias[0].startswith((b"Via: SIP/2.0/UDP 10.0.0.5:5060;", b"Via: SIP/2.0/UDP [2001:db8::5]:5060;"))
    top = vias[1].replace(b";received=10.1.3.7", b"")
    assert re.sub(rb";rport(=\d+)?", b"", top) == re.sub(rb";rport|;received=[^;,\s]+", b"", before[0]), (
        "but for received and rport"
    )
    assert vias[2:] == before[1:]
    hops = next((int(line.partition(b":")[2]) for line in came if name_of(line) == b"max-forwards"), 71)
    assert gone.get("max-forwards") == str(hops - 1)
    assert gone.body == body_of(name, data)
    provisional = [item for item in sent if not item.message.is_request]
    assert [item.message.start for item in provisional] == (
        ["SIP/2.0 100 Trying"] if data.startswith(b"INVITE") else []
    )


def assert_as_the_table_says(world: CallWorld, name: str, data: bytes, sent: list[Sent]) -> None:
    expected = EXPECTED[name]
    drops = dict(world.router.stack.drops)
    if expected.verdict == "A":
        assert not drops
        assert_forwarded_as_it_came(name, data, sent)
        return
    assert [item.message.status for item in sent] == [expected.status]
    answer = sent[0].message
    assert drops == {expected.reason: 1}
    assert str(expected.reason) in answer.get("warning")
    if name == "rfc4475/bext01":
        assert answer.get("unsupported") == "noProxiesSupportThis, norDoAnyProxiesSupportThis"
    # All that has a transaction is done with its answer (section 8.2.7 allows both).
    assert all(server.is_answered for server in world.router.stack.servers.values())


TRAILING = (b"", b"\r\n", b"\0\0\0\0", b"INVITE sip:x@example.com SIP/2.0\r\n\r\n")


@pytest.mark.parametrize("trailing", TRAILING, ids=["whole", "crlf", "nul", "invite"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_datagram(world: CallWorld, name: str, trailing: bytes) -> None:
    data = read(name)
    if name == "rfc4475/inv2543":
        data, trailing = data + trailing, b""  # without Content-Length its body runs to the end of the datagram
    elif name in UNFINISHED:
        trailing = b""
    assert_as_the_table_says(world, name, data, world.receive(data + trailing))


@pytest.mark.parametrize("step", [1, 65_536], ids=["bytes", "whole"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_stream(world: CallWorld, name: str, step: int) -> None:
    data = read(name)
    framer = StreamFramer()
    sent: list[Sent] = []
    after = invite("sip:2125550177@10.0.0.5", transport="TCP")

    def feed(stream: bytes) -> None:
        for start in range(0, len(stream), step):
            for message in framer.feed(stream[start : start + step]):
                sent.extend(world.receive(message, transport="tcp"))

    feed(data)
    for message in framer.end_body():
        sent.extend(world.receive(message, transport="tcp"))
    if framer.error is not None:
        # What cannot be framed ends the connection; the request whose header is there is answered.
        assert name in ("rfc4475/ncl", "rfc4475/mcl01")
        assert not sent
        world.refuse_unframed(framer)
        assert [item.message.status for item in world.sent()] == [400]
        feed(after)
        assert not sent, "nothing after it can be trusted"
        return
    if name in UNFINISHED:
        assert not sent, "it waits for the rest"
        return
    first, rest = sent[:2], sent[2:]
    if name == "rfc4475/dblreq":
        # On a stream the second request is one of its own.
        assert [item.message.method for item in sent if item.message.is_request] == ["REGISTER", "INVITE"]
        first, rest = sent[:1], []
        world.router.stack.drops.clear()  # of what follows the second
    assert not rest
    assert_as_the_table_says(world, name, data, first)
    world.router.stack.drops.clear()
    sent.clear()
    feed(after if framer.buffer else b"\r\n" + after)
    assert (framer.skipped > 0) is (name in SDP_LENGTHS_SHORT)
    assert one(sent, "INVITE").message.start.startswith("INVITE sip:2125550177@"), "the next message is found"
    assert set(world.router.stack.drops) <= {Reason.NOT_SIP}


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_a_response_to_nothing_goes_nowhere(world: CallWorld, name: str) -> None:
    """bcast: least of all to 255.255.255.255."""
    assert world.receive(read(name), CARRIER) == []
    assert sum(world.router.stack.drops.values()) == 1


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_a_response_to_a_request_of_ours(world: CallWorld, name: str) -> None:
    """Its status line leaves as it came, where it leaves."""
    request = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE").message
    line = read(name).partition(b"\r\n")[0]
    if line == b"SIP/2.0 100 ":
        line = b"SIP/2.0 200 "  # a 100 goes no further, and proves nothing of an empty reason phrase
    answer = response(request, 200).partition(b"\r\n")[2]
    if name == "rfc4475/scalarlg":
        answer = answer.replace(b"CSeq: 1 INVITE", b"CSeq: 9292394834772304023312 OPTIONS")
    sent = world.receive(line + b"\r\n" + answer, CARRIER)
    if EXPECTED[name].verdict == "D":
        assert not sent
        assert dict(world.router.stack.drops) == {EXPECTED[name].reason: 1}
    else:
        assert sent[0].message.raw.startswith(line + b"\r\n")
        assert len(sent) == 1


IN_A_DIALOG = {
    "rfc4475/wsinv",
    "rfc4475/lwsruri",
    "rfc5118/via-received-param-with-delim",
    "rfc5118/mult-ip-in-header",
}
REFUSED_911 = {
    "rfc4475/insuf": 400,  # no Call-ID, From, To
    "rfc4475/multi01": 400,  # several: which is the call's?
    "rfc4475/zeromf": 483,
}


@pytest.mark.parametrize("name", [name for name in REQUESTS if name not in IN_A_DIALOG])
def test_a_911_call_with_the_same_oddities_goes_out(world: CallWorld, name: str) -> None:
    """The lenient branch of every row."""
    data = read(name)
    rest = data.partition(b"\r\n")[2]
    rest = re.sub(rb"(?im)^(cseq\s*:\s*(?:\r\n\s)?\s*\d+\s+)\S+", rb"\1INVITE", rest)
    sent = world.receive(b"INVITE sip:911@10.0.0.5 SIP/2.0\r\n" + rest)
    calls = of(sent, "INVITE")
    if name in REFUSED_911:
        assert [item.message.status for item in sent][-1:] == [REFUSED_911[name]]
        assert not calls
        return
    assert len(calls) == 1
    assert calls[0].message.start == "INVITE sip:911@203.0.113.31:5060 SIP/2.0"
