"""Phones with nothing but a link-local IPv6 address (RFC 4007), at a router that listens on [::] and has several
interfaces."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from router.network.listening import ListeningPoints
from sip.flow import ListeningPoint
from sip.transport import SipEdge
from tests.sip.test_transport import Answering
from tests.support.netns import Host, Networks
from tests.support.ports import free_port

pytestmark = pytest.mark.peers("ip", "root")


@dataclass(frozen=True, slots=True)
class Links:
    """A router with two interfaces, and a phone at the second."""

    router: Host
    phone: Host


@pytest.fixture
def links() -> Iterator[Links]:
    with Networks() as nets:
        first, second = nets.network("first"), nets.network("second")
        router = nets.host("router", (first, "fe80::5/64"), (second, "fe80::6/64"))
        yield Links(router, nets.host("phone", (second, "fe80::20/64")))


def test_a_link_local_phone_is_answered_where_it_was_heard_and_sees_an_address_it_can_reach(links: Links) -> None:
    async def test() -> None:
        user = Answering()
        point = ListeningPoint("udp", "::", free_port("127.0.0.1"))
        points = ListeningPoints([point])
        edge = SipEdge(user.stack, lambda error, _: user.events.append(error), points.localise)
        with links.phone.inside():
            phone = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            interface = socket.if_nametoindex("eth0")
            phone.bind(("fe80::20", 0, 0, interface))
        phone.settimeout(30)
        with phone, links.router.inside():
            edge.listen_udp(point, "::")
            endpoint = edge.udp[point]
            await asyncio.to_thread(phone.sendto, b"to be heard", ("fe80::6", point.port, 0, interface))
            async with asyncio.timeout(30):
                while not endpoint.flows:
                    await asyncio.sleep(0.01)
            (flow,) = endpoint.flows.values()
            assert flow.host == "fe80::20", "in messages stands the address alone"
            assert flow.point.host.startswith("fe80::"), "in Record-Route stands ours, not the wildcard"
            assert points.is_own(flow.point.host, point.port), "and what is sent there is for us"
            chosen = points.choose("udp", "fe80::20")
            assert chosen is not None
            assert chosen.host == flow.point.host, "a request to it says the same"
            assert endpoint.send(b"an answer", flow.host, flow.port) == 0
            assert await asyncio.to_thread(phone.recv, 100) == b"an answer"
            await edge.close()

    asyncio.run(test())
