"""The edge's UDP: what came together is treated together, and what must be done before sending is done before."""

import asyncio
import errno
import socket
import struct
from contextlib import closing
from typing import Any

import pytest

from sip.answers import build_response
from sip.flow import ListeningPoint
from sip.message import Request
from sip.stack import Stack
from sip.transport import SipEdge, UdpEndpoint
from tests.support.ports import free_port

REQUEST = (
    b"OPTIONS sip:edge@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKt%d\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@example.com>;tag=a\r\nTo: <sip:edge@example.com>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


class Answering:
    """A transaction user that answers 200 to everything."""

    def __init__(self) -> None:
        self.stack = Stack(self, key=b"k" * 32)
        self.events: list[str] = []

    def refuses(self, request: Request, flow: Any) -> None:
        return None

    def on_request(self, server: Any, request: Request, now: float) -> None:
        self.events.append("request")
        self.stack.respond(server, 200, build_response(request, 200, to_tag=b"b"), now)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_what_came_together_is_treated_before_anything_is_sent() -> None:
    asyncio.run(asyncio.wait_for(_three_at_once(), 20))


async def _three_at_once() -> None:
    user = Answering()
    edge = SipEdge(user.stack, lambda error, _: user.events.append(error))  # type: ignore[arg-type]
    point = ListeningPoint("udp", "127.0.0.1", free_port("127.0.0.1"))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(5)
        own = phone.getsockname()[1]

        def before_sending() -> None:
            phone.setblocking(False)
            try:
                phone.recv(65_535)
                user.events.append("sent too early")
            except BlockingIOError:
                user.events.append("about to send")
            phone.settimeout(5)

        edge.before_sending = before_sending
        edge.listen_udp(point, "127.0.0.1")
        for number in range(3):  # all are in the socket before the loop looks at it
            phone.sendto(REQUEST % (own, number, number), ("127.0.0.1", point.port))
        answers = [await asyncio.to_thread(phone.recv, 65_535) for _ in range(3)]
        await edge.close()
    assert user.events == ["request"] * 3 + ["about to send"]
    assert [answer.partition(b"\r\n")[0] for answer in answers] == [b"SIP/2.0 200 OK"] * 3


class Unreachable(Answering):
    """A transaction layer that is told which datagrams did not arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.quoted: list[bytes] = []
        self.stack.unreachable = lambda quoted, now: self.quoted.append(quoted)  # type: ignore[method-assign]


def udp_edge(user: Answering, address: str) -> tuple[SipEdge, UdpEndpoint]:
    edge = SipEdge(user.stack, lambda error, _: user.events.append(error))  # type: ignore[arg-type]
    point = ListeningPoint("udp", address, free_port("127.0.0.1"))
    edge.listen_udp(point, address)
    return edge, edge.udp[point]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_closed_port_is_known_by_its_icmp_error(address: str) -> None:
    async def test() -> None:
        user = Unreachable()
        edge, endpoint = udp_edge(user, address)
        with closing(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)) as peer:
            peer.bind((address, 0))
            closed = peer.getsockname()[1]
        assert endpoint.send(b"INVITE of ours", address, closed) == 0
        async with asyncio.timeout(20):
            while not user.quoted:
                await asyncio.sleep(0.01)
        assert user.quoted == [b"INVITE of ours"]
        assert edge.counts["icmp_errors"] == 1
        await edge.close()

    asyncio.run(test())


class ErrorQueue:
    """A socket whose error queue holds one error of this number."""

    def __init__(self, number: int, level: int, kind: int) -> None:
        self.errors = [(b"quoted", [(level, kind, struct.pack("=IBBBBII", number, 2, 3, 10, 0, 0, 0))], 0, None)]

    def recvmsg(self, *_: object) -> object:
        if not self.errors:
            raise BlockingIOError
        return self.errors.pop()


@pytest.mark.parametrize(
    ("number", "has_not_arrived"),
    [
        (errno.ECONNREFUSED, True),
        (errno.EHOSTUNREACH, True),
        (errno.ENETUNREACH, True),
        (errno.EHOSTDOWN, True),
        (errno.ENONET, True),
        (errno.ENOPROTOOPT, True),
        (errno.EACCES, True),
        (errno.EMSGSIZE, False),
        (errno.EPROTO, False),
        (errno.EOPNOTSUPP, False),
    ],
)
@pytest.mark.parametrize(("level", "kind"), [(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)])
def test_which_icmp_errors_say_that_a_datagram_has_not_arrived(
    number: int, has_not_arrived: bool, level: int, kind: int
) -> None:
    async def test() -> None:
        user = Unreachable()
        edge, endpoint = udp_edge(user, "127.0.0.1")
        real, endpoint.socket = endpoint.socket, ErrorQueue(number, level, kind)  # type: ignore[assignment]
        assert endpoint.read_errors() == 1
        endpoint.socket = real
        assert bool(user.quoted) is has_not_arrived
        await edge.close()

    asyncio.run(test())


def test_a_wildcard_finds_out_when_its_address_has_changed() -> None:
    async def test() -> None:
        user = Answering()
        address = "192.0.2.1"
        edge = SipEdge(
            user.stack,  # type: ignore[arg-type]
            lambda error, _: user.events.append(error),
            lambda point, _peer: ListeningPoint("udp", address, point.port, point),
        )
        wildcard = ListeningPoint("udp", "0.0.0.0", free_port("127.0.0.1"))
        fixed = ListeningPoint("udp", "127.0.0.1", free_port("127.0.0.1"))
        for point in (wildcard, fixed):
            edge.listen_udp(point, point.host)
        peer = ("192.0.2.77", 5060)
        before = [edge.udp[point].flow_of(peer) for point in (wildcard, fixed)]
        address = "192.0.2.2"
        edge.forget_sources()
        assert peer not in edge.udp[wildcard].flows
        assert edge.udp[wildcard].flow_of(peer).point.host == "192.0.2.2"
        assert before[0].point.host == "192.0.2.1"
        assert edge.udp[fixed].flows[peer] is before[1], "an address of its own does not change"
        await edge.close()

    asyncio.run(test())
