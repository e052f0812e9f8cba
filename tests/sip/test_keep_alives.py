"""What only keeps a NAT or a connection open: line breaks and STUN on UDP, line breaks on streams (RFC 5626, 4.4)."""

import asyncio
import socket

from sip import stream_limits
from sip.flow import ListeningPoint
from tests.sip.test_streams import HOST, Client, Node, options, until, within
from tests.sip.test_stun import REQUEST, TRANSACTION


def udp_node(*, known: bool = True) -> tuple[Node, socket.socket]:
    node = Node("udp", None, is_known=lambda _: known)  # type: ignore[arg-type]  # no TLS here
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        node.point = ListeningPoint("udp", HOST, probe.getsockname()[1])
    node.edge.listen_udp(node.point, HOST)
    phone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    phone.bind((HOST, 0))
    phone.setblocking(False)
    phone.connect((HOST, node.point.port))
    return node, phone


@within
async def test_datagrams_that_say_nothing_are_keep_alives_and_no_drops() -> None:
    node, phone = udp_node()
    with phone:
        for data in (b"\r\n\r\n", b"\r\n", b"\0\0\0\0", b""):
            phone.send(data)
        phone.send(b"\r\n" + options(1).replace(b"/TCP", b"/UDP").replace(b";branch", b";rport;branch"))
        await until(lambda: node.requests)
        answer = await asyncio.get_running_loop().sock_recv(phone, 4096)
    assert node.edge.counts["keep_alives"] == 4
    assert answer.startswith(b"SIP/2.0 200"), "line breaks before a request are none (section 7.5)"
    assert not node.stack.drops
    assert not node.faults


@within
async def test_stun_tells_a_phone_where_it_is_seen() -> None:
    node, phone = udp_node()
    with phone:
        phone.send(REQUEST)
        answer = await asyncio.get_running_loop().sock_recv(phone, 4096)
        port = phone.getsockname()[1]
    assert answer[8:20] == TRANSACTION
    assert int.from_bytes(answer[26:28]) ^ 0x2112 == port
    assert bytes(a ^ b for a, b in zip(answer[28:32], b"\x21\x12\xa4\x42", strict=True)) == socket.inet_aton(HOST)
    assert node.edge.counts["keep_alives"] == 1


@within
async def test_strangers_get_no_answer_to_stun() -> None:
    node, phone = udp_node(known=False)
    with phone:
        phone.send(REQUEST)
        phone.send(options(1).replace(b"/TCP", b"/UDP").replace(b";branch", b";rport;branch"))
        assert (await asyncio.get_running_loop().sock_recv(phone, 4096)).startswith(b"SIP/2.0 200")
    assert not node.edge.counts["keep_alives"]


@within
async def test_what_is_dropped_unread_of_a_flood_is_counted() -> None:
    node, phone = udp_node(known=False)
    with phone:
        phone.send(options(1).replace(b"/TCP", b"/UDP").replace(b";branch", b";rport;branch"))
        await asyncio.get_running_loop().sock_recv(phone, 4096)
        flow = next(iter(node.edge.udp[node.point].flows.values()))
        node.edge.shun(flow, 60.0)
        for _ in range(3):
            phone.send(options(2).replace(b"/TCP", b"/UDP"))
        await until(lambda: node.edge.counts["shunned"] == 3)
    assert len(node.requests) == 1


@within
async def test_a_ping_on_a_stream_is_answered_and_a_line_break_alone_is_no_message_begun() -> None:
    node = Node("tcp", None)  # type: ignore[arg-type]  # no TLS here
    await node.edge.listen_stream(node.point, HOST)
    client = await Client.to(node)
    client.writer.write(b"\r\n\r\n")
    assert await client.reader.readexactly(2) == b"\r\n"
    client.writer.write(b"\r\n")
    await asyncio.sleep(0.05)
    assert not node.edge.streams.begun, "else it would be cut off as stalled"
    client.writer.write(options(1))
    assert b"z9hG4bK1" in await client.answer()
    assert node.edge.counts["keep_alives"] == 1


@within
async def test_a_phones_connection_is_kept_while_it_is_registered() -> None:
    node = Node("tcp", None)  # type: ignore[arg-type]  # no TLS here
    await node.edge.listen_stream(node.point, HOST)
    phone, other = await Client.to(node), await Client.to(node)
    for number, client in enumerate((phone, other)):
        client.writer.write(options(number))
        await client.answer()
    flow = node.requests[0][1]
    assert node.edge.is_connected(flow.connection)
    start = node.edge.now()
    later = {"now": start}
    node.edge.now = lambda: later["now"]
    node.edge.hold(flow, 3600)
    later["now"] = start + stream_limits.IDLE_SECONDS + 60
    node.edge.streams.close_idle()
    assert await other.ended()
    assert node.edge.is_connected(flow.connection)
    later["now"] = start + 3601
    node.edge.streams.close_idle()
    assert await phone.ended()
    await until(lambda: not node.edge.is_connected(flow.connection))


def test_the_least_of_sip_is_above_what_keeps_alive() -> None:
    from sip.transport import _LEAST_SIP

    assert all(data[0] < _LEAST_SIP for data in (b"\r\n\r\n", b"\n", b"\0", REQUEST))
    assert not any(data[0] < _LEAST_SIP for data in (b"INVITE", b"SIP/2.0", b"*", b"!"))
