"""The edge's UDP: what came together is treated together, and what must be done before sending is done before."""

import asyncio
import socket
from contextlib import closing
from typing import Any

from sip.message import Request, build_response
from sip.stack import ListeningPoint, Stack
from sip.transport import SipEdge
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
