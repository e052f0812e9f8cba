"""TCP and TLS connections of the edge, against plain sockets: framing, reuse, limits, and peers that behave badly."""

import asyncio
import ctypes
import functools
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sip import stream_limits, transport_connection
from sip.errors import RemoteError
from sip.flow import UNCERTIFIED, Flow, ListeningPoint, TlsPeer
from sip.machines import ServerTransaction
from sip.message import Request, Response
from sip.stack import Stack
from sip.transport import SipEdge
from tests.support.certificates import Authority, Pair

PATIENCE = 100.0
HOST = "127.0.0.1"
_open: list["Node | Client"] = []
"""What a test has made, to be closed at its end."""


class Contexts:
    """Certificates of a test: the server's own, and one authority."""

    def __init__(self, authority: Authority, own: Pair, *, asks: bool = False) -> None:
        self.own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.own.load_cert_chain(own.certificate, own.key)
        if asks:
            self.own.verify_mode = ssl.CERT_OPTIONAL
            self.own.load_verify_locations(authority.certificate)
        self.authority = authority.certificate
        self.shown: list[TlsPeer] = []

    def server(self) -> ssl.SSLContext | None:
        return self.own

    def client(self, peer: TlsPeer) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if peer.verified else ssl.CERT_NONE
        context.load_verify_locations(self.authority)
        return context

    def seen(self, peer: TlsPeer, certificate: bytes) -> None:
        assert certificate
        self.shown.append(peer)


class Node:
    """An edge whose TU answers every request with 200, and keeps what came."""

    def __init__(self, transport: str, tls: Contexts, **options: object) -> None:
        self.requests: list[tuple[Request, Flow]] = []
        self.responses: list[Response] = []
        self.faults: list[str] = []
        self.stack = Stack(self, key=b"k" * 32)  # type: ignore[arg-type]  # only the methods needed here
        self.edge = SipEdge(
            self.stack,
            lambda error, _: self.faults.append(error),
            tls=tls,
            **options,  # type: ignore[arg-type]
        )
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        self.point = ListeningPoint(transport, HOST, port)
        _open.append(self)

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        return None

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        return False

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        self.requests.append((request, server.flow))
        self.stack.answer(server, 200, now)

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        self.responses.append(response)

    def flow_to(self, other: "Node", peer: TlsPeer | None = None) -> Flow:
        return Flow(self.point, HOST, other.point.port, peer=peer)

    def send(self, flow: Flow, *messages: bytes) -> None:
        self.stack.out += [(flow, message, None) for message in messages]
        self.edge.flush()

    async def close(self) -> None:
        await self.edge.close()

    async def reach(self, flow: Flow) -> str:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.edge.connect(flow, told.set_result)
        return await told


def options(number: int, *, port: int = 5070, alias: str = "", body: bytes = b"") -> bytes:
    lines = [
        "OPTIONS sip:edge@127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/TCP 127.0.0.1:{port};branch=z9hG4bK{number}{alias}",
        "From: <sip:a@example.com>;tag=1",
        "To: <sip:b@example.com>",
        f"Call-ID: c{number}",
        "CSeq: 1 OPTIONS",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("edge", "DNS:edge.example.com", f"IP:{HOST}")


@pytest.fixture(params=["tcp", "tls"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tls(authority: Authority, own: Pair) -> Contexts:
    return Contexts(authority, own)


Run = Callable[[Callable[[], Awaitable[None]]], None]


def within(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test, within PATIENCE."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        async def body() -> None:
            try:
                async with asyncio.timeout(PATIENCE):
                    await test(**fixtures)
            finally:
                while _open:
                    await _open.pop().close()
                await asyncio.sleep(0.01)

        asyncio.run(body())

    return run


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


class Client:
    """The other end of a connection, as a plain stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        _open.append(self)

    @classmethod
    async def to(cls, node: Node, certificate: Pair | None = None) -> "Client":
        context = None
        if node.point.transport == "tls":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if certificate is not None:
                context.load_cert_chain(certificate.certificate, certificate.key)
        return cls(*await asyncio.open_connection(HOST, node.point.port, ssl=context))

    async def answer(self) -> bytes:
        """One response without a body."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def ended(self) -> bool:
        """Wait until the other side has ended the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    async def close(self) -> None:
        self.writer.transport.abort()


@within
async def test_a_body_whose_length_was_not_said_ends_in_silence(transport: str, tls: Contexts) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    whole = options(1, body=b"v=0\r\ns=-\r\n").replace(b"Content-Length: 10", b"Content-Type: application/sdp")
    assert b"Content-Length" not in whole
    client.writer.write(whole[:-3])
    await asyncio.sleep(0)
    client.writer.write(whole[-3:])
    assert b"z9hG4bK1" in await client.answer()
    client.writer.write(b"rest of a body\r\n" + options(2))
    assert b"z9hG4bK2" in await client.answer()
    assert [request.body for request, _ in node.requests] == [b"v=0\r\ns=-\r\n", b""]
    assert node.edge.counts["streams_resynchronised"] == 1
    assert not node.faults


@within
async def test_pipelined_and_split_messages(transport: str, tls: Contexts) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(b"".join(options(n, body=b"x" * n) for n in range(1, 60)) + b"\r\n\r\n" + options(60))
    for n in range(1, 61):
        assert f"z9hG4bK{n}".encode() in await client.answer()
    whole = options(61, body=b"0123456789")
    for at in range(len(whole)):
        client.writer.write(whole[at : at + 1])
        await client.writer.drain()
        if at % 40 == 0:
            await asyncio.sleep(0)
    assert b"z9hG4bK61" in await client.answer()
    assert [request.call_id for request, _ in node.requests] == [b"c%d" % n for n in range(1, 62)]
    assert not node.faults


@within
async def test_one_connection_serves_requests_answers_and_requests_back(transport: str, tls: Contexts) -> None:
    ours, theirs = Node(transport, tls), Node(transport, tls)
    for node in (ours, theirs):
        await node.edge.listen_stream(node.point, HOST)
    flow = ours.flow_to(theirs)
    ours.send(flow, *(options(n, port=ours.point.port) for n in range(20)))
    await until(lambda: len(ours.responses) == 20)
    arrived = theirs.requests[0][1]
    # The port it came from names the connection, and so does the one in Via (RFC 5923).
    theirs.send(Flow(theirs.point, HOST, arrived.port), options(100))
    theirs.send(Flow(theirs.point, HOST, ours.point.port), options(101))
    await until(lambda: len(theirs.responses) == 2)
    assert len(ours.edge.streams.connections) == len(theirs.edge.streams.connections) == 1


@within
async def test_a_doubtful_connection_is_used_until_a_new_one_stands(transport: str, tls: Contexts) -> None:
    here, there = Node(transport, tls), Node(transport, tls)
    await there.edge.listen_stream(there.point, HOST)
    peer = TlsPeer(HOST, verified=True, authorities="") if transport == "tls" else None
    flow = here.flow_to(there, peer)
    assert here.edge.line_seconds(flow) == 0, "nothing is known yet"
    assert await here.reach(flow) == ""
    assert 0 < here.edge.line_seconds(flow) < PATIENCE
    old = here.edge.streams.connection_to(flow)
    here.edge.renew(flow)
    assert here.edge.streams.connection_to(flow) is old
    await until(lambda: here.edge.streams.connection_to(flow) is not old)
    assert here.edge.streams.connection_to(flow) is not None
    assert old is not None
    assert here.edge.is_connected(old.flow.connection), "what came over it is answered there"


@within
async def test_a_doubtful_connection_goes_where_no_new_one_is_to_be_had(transport: str, tls: Contexts) -> None:
    here, there = Node(transport, tls), Node(transport, tls)
    await there.edge.listen_stream(there.point, HOST)
    peer = TlsPeer(HOST, verified=True, authorities="") if transport == "tls" else None
    flow = here.flow_to(there, peer)
    assert await here.reach(flow) == ""
    for server in there.edge.streams.servers:
        server.close()
    here.edge.renew(flow)
    await until(lambda: here.edge.streams.connection_to(flow) is None)
    assert here.edge.line_seconds(flow) > 0, "what it took is kept"


@within
async def test_requests_to_a_trunk_go_over_a_connection_of_its_own_making_only_where_it_asks(
    transport: str, tls: Contexts
) -> None:
    ours, theirs = Node(transport, tls, may_alias=lambda _: False), Node(transport, tls)
    for node in (ours, theirs):
        await node.edge.listen_stream(node.point, HOST)
    theirs.send(theirs.flow_to(ours), options(1, port=theirs.point.port))
    await until(lambda: theirs.responses)
    assert ours.edge.streams.connection_to(ours.flow_to(theirs)) is None
    asking = await Client.to(ours)
    asking.writer.write(options(2, port=theirs.point.port, alias=";rport;alias"))
    await asking.answer()
    assert ours.edge.streams.connection_to(ours.flow_to(theirs)) is not None


@within
async def test_nobody_draws_anothers_requests_to_himself(transport: str, tls: Contexts) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(options(1, port=5070, alias=";alias").replace(b"TCP 127.0.0.1:5070", b"TCP 127.0.0.9:5070"))
    await client.answer()
    assert node.edge.streams.connection_to(Flow(node.point, "127.0.0.9", 5070)) is None


@within
async def test_a_slow_reader_is_cut_off_and_stalls_nobody(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "MAX_UNSENT_BYTES", 1_000_000)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    slow, brisk = await Client.to(node), await Client.to(node)
    slow.writer.transport.pause_reading()
    slow.writer.write(options(0))
    await until(lambda: node.requests)
    flow = node.requests[0][1]
    for n in range(1, 200):
        node.send(flow, options(n, body=b"x" * 60_000))
        brisk.writer.write(options(1000 + n))
        assert b"200 OK" in await brisk.answer()
        if node.edge.counts["connections_cut_off"]:
            break
    assert node.edge.counts["connections_cut_off"] == 1
    await until(lambda: len(node.edge.streams.connections) == 1)
    assert not node.edge.streams.slow


@within
async def test_who_reads_nothing_for_long_is_cut_off_however_little_waits(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    slow = await Client.to(node)
    slow.writer.transport.pause_reading()
    slow.writer.write(options(0))
    await until(lambda: node.requests)
    flow = node.requests[0][1]
    streams = node.edge.streams
    while not streams.slow:
        node.send(flow, options(1, body=b"x" * 50_000))
        await asyncio.sleep(0)
    streams.sweep()
    assert streams.connections
    monkeypatch.setattr(stream_limits, "MAX_UNSENT_SECONDS", -1.0)
    streams.sweep()
    await until(lambda: not streams.connections)
    assert node.edge.counts["connections_cut_off"] == 1


@within
async def test_a_peer_that_chooses_a_shorter_key_is_named_once(
    transport: str, tls: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = Node(transport, tls), Node(transport, tls)
    if transport == "tls":
        tls.own.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.own.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    await theirs.edge.listen_stream(theirs.point, HOST)
    for _ in range(2):
        flow = ours.flow_to(theirs)
        assert not await ours.reach(flow)
        ours.edge.distrust(flow)
    expected = 2 if transport == "tls" else 0
    assert ours.edge.counts["tls_below_256_bits"] == expected
    assert caplog.text.count("asks for AES-256") == (1 if expected else 0)


@within
async def test_an_urgent_request_is_served_with_as_much_of_its_body_as_has_come(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a phone that announces more than it sends; what follows on the connection is understood."""
    monkeypatch.setattr(stream_limits, "CUT_BODY_SECONDS", 0.05)
    node = Node(transport, tls, is_urgent=lambda method, uri, _: (method, uri[:4]) == (b"OPTIONS", b"sip:"))
    monkeypatch.setattr(node, "forgives", lambda *_: True)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(options(1, body=b"v=0\r\n").replace(b"Content-Length: 5", b"Content-Length: 12"))
    assert b"z9hG4bK1" in await client.answer()
    client.writer.write(options(2))
    assert b"z9hG4bK2" in await client.answer()
    assert [request.body for request, _ in node.requests] == [b"v=0\r\n", b""]
    client.writer.write(options(3, body=b"v=0\r\n")[:-2])
    assert b"z9hG4bK3" in await client.answer()
    client.writer.write(b"\r\n" + options(4))
    assert b"z9hG4bK4" in await client.answer()
    assert not node.faults


@within
async def test_another_whose_body_never_comes_is_refused_in_the_end(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "CUT_BODY_SECONDS", 0.0)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(options(1, body=b"v=0\r\n").replace(b"Content-Length: 5", b"Content-Length: 12"))
    await until(lambda: node.edge.streams.begun)
    monkeypatch.setattr(stream_limits, "MESSAGE_SECONDS", -1.0)
    node.edge.streams.sweep()
    answer = await client.answer()
    assert answer.startswith(b"SIP/2.0 400 ")
    assert b"body-incomplete: 7 bytes of its body never came" in answer
    assert await client.ended()
    assert node.edge.counts["connections_stalled"] == 1
    assert not node.requests


@within
async def test_a_message_that_never_ends_is_given_up(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    half, whole = await Client.to(node), await Client.to(node)
    half.writer.write(options(1)[:-10])
    whole.writer.write(options(2)[:-10])
    await until(lambda: len(node.edge.streams.begun) == 2)
    whole.writer.write(options(2)[-10:])
    await whole.answer()
    monkeypatch.setattr(stream_limits, "MESSAGE_SECONDS", -1.0)
    node.edge.streams.sweep()
    assert await half.ended()
    assert node.edge.counts["connections_stalled"] == 1
    whole.writer.write(options(3))
    await whole.answer()


@within
async def test_what_all_hold_together_is_bounded(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "MAX_BUFFERED_BYTES", 300_000)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    clients = [await Client.to(node) for _ in range(4)]
    for size, client in zip((200_000, 90_000, 90_000, 10_000), clients, strict=True):
        client.writer.write(options(size, body=b"x" * size)[:-1])
    streams = node.edge.streams
    await until(lambda: sum(len(one.framer.buffer) for one in streams.begun) > 390_000)
    streams.sweep()
    assert await clients[0].ended()
    await until(lambda: len(streams.connections) == 3)
    streams.sweep()
    assert node.edge.counts["connections_cut_off"] == 1


@within
async def test_connections_of_one_address_and_of_all_are_bounded(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "MAX_CONNECTIONS_PER_HOST", 3)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    clients = [await Client.to(node) for _ in range(3)]
    await until(lambda: node.edge.streams.accepted == 3)
    refused = asyncio.create_task(Client.to(node))
    await until(lambda: node.edge.counts["connections_refused"])
    with_nothing = (await asyncio.gather(refused, return_exceptions=True))[0]
    if isinstance(with_nothing, Client):
        assert await with_nothing.ended()
    clients[1].writer.write(options(1))
    assert await clients[1].answer()
    # A place is given back, and where all are taken the one idle longest makes room.
    await clients.pop(0).close()
    await until(lambda: node.edge.streams.accepted == 2)
    monkeypatch.setattr(stream_limits, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(stream_limits, "SPARE_IDLE_SECONDS", -1.0)
    clients[1].writer.write(options(2))
    await clients[1].answer()
    newest = await Client.to(node)
    newest.writer.write(options(3))
    assert await newest.answer()
    assert await clients[0].ended()
    assert node.edge.counts["connections_made_room"] == 1
    assert node.edge.streams.accepted == 2
    for client in (clients[1], newest):
        await client.close()
    await until(lambda: not node.edge.streams.hosts)
    assert node.edge.streams.accepted == 0


@within
async def test_many_connections_are_said_before_they_are_too_many(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_limits, "MAX_CONNECTIONS", 5)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    for count in (1, 2, 3, 4):
        await Client.to(node)
        await until(lambda: node.edge.streams.accepted == count)  # noqa: B023 - awaited at once
        node.edge.streams.sweep()
        node.edge.streams.sweep()
    assert node.edge.counts["connections_nearly_full"] == 1
    (said,) = [text for text in caplog.messages if "connections are open" in text]
    assert said.startswith("4 connections are open, 5 may be")
    assert HOST in said


@within
async def test_strangers_are_few_also_before_a_handshake(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "MAX_STRANGERS", 2)
    node = Node(transport, tls, is_known=lambda _: False)
    await node.edge.listen_stream(node.point, HOST)
    silent = [await asyncio.open_connection(HOST, node.point.port) for _ in range(5)]
    await until(lambda: node.edge.counts["connections_refused"] == 3)
    assert node.edge.streams.strangers == 2
    for _, writer in silent:
        writer.transport.abort()
    await until(lambda: node.edge.streams.strangers == 0)


@within
async def test_idle_connections_are_closed_and_used_ones_are_not(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    idle, used = await Client.to(node), await Client.to(node)
    idle.writer.write(options(1))
    await idle.answer()
    await asyncio.sleep(0.05)
    used.writer.write(options(2))
    await used.answer()
    monkeypatch.setattr(stream_limits, "IDLE_SECONDS", 0.04)
    node.edge.streams.close_idle()
    assert await idle.ended()
    used.writer.write(options(3))
    assert await used.answer()
    assert node.edge.counts["connections_idle_closed"] == 1


@within
async def test_a_request_on_a_connection_that_breaks_fails_at_once(transport: str, tls: Contexts) -> None:
    ours, theirs = Node(transport, tls), Node(transport, tls)
    await theirs.edge.listen_stream(theirs.point, HOST)
    theirs.on_request = lambda *_: None  # type: ignore[method-assign]  # says nothing

    failed: list[bool] = []

    class Owner:
        def on_response(self, *_: object) -> None: ...
        def on_timeout(self, *_: object) -> None: ...
        def on_transport_error(self, *_: object) -> None:
            failed.append(True)

    flow = ours.flow_to(theirs)
    now = ours.edge.now()
    ours.stack.send_request(b"OPTIONS", b"z9hG4bK1", options(1), flow, Owner(), now)
    ours.edge.flush()
    await until(lambda: theirs.edge.streams.connections)
    await asyncio.sleep(0.02)
    assert not failed
    await theirs.edge.close()
    await until(lambda: failed)
    assert await ours.reach(flow) == "refused"


# ---- TLS alone ----


@within
async def test_the_server_is_who_its_certificate_names(authority: Authority, own: Pair) -> None:
    tls = Contexts(authority, own)
    ours, theirs = Node("tls", tls), Node("tls", tls)
    await theirs.edge.listen_stream(theirs.point, HOST)
    assert await ours.reach(ours.flow_to(theirs, TlsPeer("edge.example.com"))) == ""
    assert await ours.reach(ours.flow_to(theirs, TlsPeer(HOST))) == ""
    assert await ours.reach(ours.flow_to(theirs, TlsPeer("other.example.com"))) == "certificate-name"
    other = TlsPeer("other.example.com", verified=False)
    assert ours.edge.streams.connection_to(ours.flow_to(theirs, other)) is None
    assert await ours.reach(ours.flow_to(theirs, other)) == ""
    # A verified connection serves where any would; never the other way round.
    unverified = TlsPeer(HOST, verified=False)
    found = ours.edge.streams.connection_to(ours.flow_to(theirs, unverified))
    assert found is not None
    assert found.peer == TlsPeer(HOST)
    assert ours.edge.streams.connection_to(ours.flow_to(theirs, other._replace(verified=True))) is None


@pytest.mark.parametrize(
    ("days", "trusted", "failure"),
    [(-2, True, "certificate-expired"), (30, False, "certificate-untrusted"), (30, True, "")],
)
def test_a_certificate_that_cannot_be_verified(
    authority: Authority, tmp_path: Path, days: int, trusted: bool, failure: str
) -> None:
    @within
    async def test() -> None:
        issuer = authority if trusted else Authority(tmp_path, "another")
        theirs = Node("tls", Contexts(authority, issuer.issue("peer", f"IP:{HOST}", days=days)))
        ours = Node("tls", Contexts(authority, authority.issue("ours")))
        await theirs.edge.listen_stream(theirs.point, HOST)
        assert await ours.reach(ours.flow_to(theirs, TlsPeer(HOST))) == failure
        assert await ours.reach(ours.flow_to(theirs, TlsPeer(HOST, verified=False))) == ""
        await ours.edge.close()
        await theirs.edge.close()

    test()


@within
async def test_a_handshake_that_is_never_finished_holds_up_nobody(
    authority: Authority, own: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node("tls", Contexts(authority, own))
    await node.edge.listen_stream(node.point, HOST)
    silent = [await asyncio.open_connection(HOST, node.point.port) for _ in range(20)]
    for _, writer in silent[:10]:
        writer.write(b"\x16\x03\x01")  # the beginning of a ClientHello
    brisk = await Client.to(node)
    brisk.writer.write(options(1))
    assert await brisk.answer()
    assert node.edge.streams.accepted == 21, "served while the others still wait"
    for _, writer in silent:
        writer.transport.abort()
    monkeypatch.setattr(stream_limits, "HANDSHAKE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection(HOST, node.point.port)
    assert await reader.read() == b""
    writer.transport.abort()
    await until(lambda: node.edge.streams.accepted == 1)
    assert node.edge.counts["tls_handshakes_failed"] == 21


@pytest.mark.long
@within
async def test_many_handshakes_at_once_leave_time_between_them(authority: Authority, own: Pair) -> None:
    node = Node("tls", Contexts(authority, own))
    await node.edge.listen_stream(node.point, HOST)
    pace, begun = node.edge.streams.pace, 0
    waited: list[int] = []
    turn = pace.turn

    async def counted() -> None:
        nonlocal begun
        await turn()
        begun += 1

    pace.turn = counted  # type: ignore[method-assign]  # counts
    clients = [asyncio.create_task(Client.to(node)) for _ in range(50)]
    while begun < 50:
        before = begun
        await asyncio.sleep(0)
        assert begun - before <= stream_limits.HANDSHAKES_AT_ONCE
        waited.append(len(pace.waiting))
    await asyncio.gather(*clients)
    assert max(waited) > stream_limits.HANDSHAKES_AT_ONCE
    await until(lambda: len(node.edge.streams.connections) == 50)
    assert not pace.waiting


@within
async def test_what_stops_a_handshake_has_a_name(
    authority: Authority, own: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_limits, "HANDSHAKE_SECONDS", 0.2)
    ours = Node("tls", Contexts(authority, own))

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        writer.close()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    found = {}
    for kind in (plain, closing, silent):
        server = await asyncio.start_server(kind, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        found[kind.__name__] = await ours.reach(Flow(ours.point, HOST, port, peer=TlsPeer(HOST)))
        server.close()
    assert found == {"plain": "handshake-failed", "closing": "handshake-failed", "silent": "handshake-timeout"}


@within
async def test_a_client_without_the_certificate_asked_for_is_marked(authority: Authority, own: Pair) -> None:
    node = Node("tls", Contexts(authority, own, asks=True))
    await node.edge.listen_stream(node.point, HOST)
    with_one, without = await Client.to(node, authority.issue("phone")), await Client.to(node)
    for number, client in enumerate((with_one, without)):
        client.writer.write(options(number))
        await client.answer()
    assert [flow.peer for _, flow in node.requests] == [None, UNCERTIFIED]
    stranger = Authority(authority.folder / "stranger", "stranger").issue("phone")
    bad = await Client.to(node, stranger)
    bad.writer.write(options(3))
    assert await bad.ended()
    assert len(node.requests) == 2
    await node.edge.close()


# ---- half-open connections ----


def goes_dead(client: Client) -> None:
    """Whatever comes to this socket is dropped unseen, as by a firewall that forgot the connection: nothing is
    acknowledged any more (a socket filter that keeps no byte of any packet)."""
    sock = client.writer.get_extra_info("socket")
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))  # BPF_RET | BPF_K, 0
    sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(program)))  # SO_ATTACH_FILTER


def with_times(monkeypatch: pytest.MonkeyPatch, **times: int) -> None:
    """Shorter times for the kernel to notice."""
    options = [(getattr(socket, name), value) for name, value in times.items()]
    changed = [
        (level, option, dict(options).get(option, value)) for level, option, value in transport_connection.KEEP_ALIVE
    ]
    monkeypatch.setattr(transport_connection, "KEEP_ALIVE", changed)


@within
async def test_a_peer_that_acknowledges_nothing_is_noticed_and_what_was_sent_there_fails(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_times(monkeypatch, TCP_USER_TIMEOUT=400)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(options(1))
    await client.answer()
    goes_dead(client)
    failed: list[bool] = []

    class Owner:
        def on_response(self, *_: object) -> None: ...
        def on_timeout(self, *_: object) -> None: ...
        def on_transport_error(self, *_: object) -> None:
            failed.append(True)

    flow = node.requests[0][1]
    node.stack.send_request(b"OPTIONS", b"z9hG4bK9", options(9), flow, Owner(), node.edge.now())
    node.edge.flush()
    assert node.edge.streams.connections
    await until(lambda: failed)
    assert not node.edge.streams.connections


@within
async def test_an_idle_connection_whose_peer_is_gone_is_noticed(
    transport: str, tls: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_times(monkeypatch, TCP_KEEPIDLE=1, TCP_KEEPINTVL=1, TCP_KEEPCNT=1, TCP_USER_TIMEOUT=500)
    node = Node(transport, tls)
    await node.edge.listen_stream(node.point, HOST)
    alive, dead = await Client.to(node), await Client.to(node)
    for number, client in enumerate((alive, dead)):
        client.writer.write(options(number))
        await client.answer()
    goes_dead(dead)
    await until(lambda: len(node.edge.streams.connections) == 1)
    alive.writer.write(options(3))
    assert await alive.answer()
