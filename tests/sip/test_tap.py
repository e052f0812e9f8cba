"""The tap in the edge: it is told of each message that came or went, as it was on the wire, on every transport."""

import asyncio

import pytest

from simulations.actor import Actor, Answer
from sip.flow import Flow


class _Tapped(Actor):
    """An actor whose edge keeps what its tap is told."""

    def tap(self) -> list[tuple[bytes, Flow, bool]]:
        told: list[tuple[bytes, Flow, bool]] = []
        assert self._edge is not None
        self._edge.tap = lambda data, flow, sent: told.append((data, flow, sent))
        return told

    def untap(self) -> None:
        assert self._edge is not None
        self._edge.tap = None


async def _ask(caller: Actor, callee: Actor, transport: str, branch: bytes = b"z9hG4bK-first") -> None:
    uri = f"sip:{callee.hostport};transport={transport}".encode()
    lines = [b"From: <sip:a@b>;tag=1", b"To: <sip:c@d>", b"Call-ID: tap", b"CSeq: 1 OPTIONS"]
    flow = caller.flow_to(uri)
    answer = Answer()
    data = caller.request_bytes(b"OPTIONS", uri, flow, branch, lines)
    caller.stack.send_request(b"OPTIONS", branch, data, flow, answer, caller.now)
    caller.flush()
    assert await answer.future is not None


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_both_ends_see_the_same_messages_the_other_way_round(transport: str) -> None:
    async def work() -> None:
        caller, callee = _Tapped("caller"), _Tapped("callee")
        await caller.start()
        await callee.start()
        seen, other = caller.tap(), callee.tap()
        await _ask(caller, callee, transport)
        assert [(data, sent) for data, _, sent in seen] == [(data, not sent) for data, _, sent in other]
        assert [data.split(b" ")[0] for data, _, _ in seen] == [b"OPTIONS", b"SIP/2.0"]
        assert {(flow.host, flow.port) for _, flow, _ in seen} == {callee.address}
        assert {flow.point.transport for _, flow, _ in seen} == {transport}
        if transport == "tcp":
            assert len({flow.connection for _, flow, _ in seen}) == 1
            assert seen[0][1].connection
        caller.untap()
        await _ask(caller, callee, transport, b"z9hG4bK-second")
        assert len(seen) == 2
        await caller.stop()
        await callee.stop()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_message_that_is_no_sip_and_a_stream_that_cannot_be_framed_are_seen_too() -> None:
    async def work() -> None:
        callee = _Tapped("callee")
        await callee.start()
        seen = callee.tap()
        _, writer = await asyncio.open_connection(*callee.address)
        writer.write(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n")
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=callee.address)
        transport.sendto(b"GET / HTTP/1.0")
        while len([one for one in seen if not one[2]]) < 2:
            await asyncio.sleep(0.005)
        assert {data for data, _, sent in seen if not sent} == {
            b"GET / HTTP/1.0",
            b"OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n",
        }
        transport.close()
        writer.close()
        await callee.stop()

    asyncio.run(asyncio.wait_for(work(), 20))
