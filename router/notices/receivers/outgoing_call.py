"""A call that we place, as a dialog (RFC 3261 section 12): its fields, its ACK and BYE, its media socket.

What is said or heard in it is for whoever places it: a desk that is told, a test call that listens. All of it runs in
the loop of the SipAgent.
"""

import asyncio
import secrets
import socket
from contextlib import suppress

from config.channel_urls import SipReceiver
from router.notices.receivers.sip_agent import Dialog, SipAgent, SipError, Way
from sip.errors import RemoteError
from sip.flow import Flow
from sip.headers import parse_name_addr, split_values
from sip.message import Response
from sip.uri import parse_sip_uri

BYE_SECONDS = 4.0
"""So long the answer to our BYE is waited for."""


class OutgoingCall(Dialog):
    """One call to a receiver. user: the user part of our Contact."""

    def __init__(self, agent: SipAgent, receiver: SipReceiver, user: str) -> None:
        self.agent = agent
        self.receiver = receiver
        self.over = asyncio.Event()
        """Set when the other end has hung up."""
        self._user = user.encode()
        self._way: Way | None = None
        self._cseq = 0
        self._call_id = self._from = self._to = b""
        self._target = receiver.uri
        self._routes: list[bytes] = []
        self._ack_lines: tuple[bytes, ...] = ()
        self._to_tag = b""
        self._others: set[bytes] = set()
        """Tags of other phones that picked up too."""
        self._media: asyncio.DatagramTransport | None = None
        self._port = 0
        self._session = secrets.randbits(31)

    def heard(self, packet: bytes) -> None:
        """One packet of media."""
        raise NotImplementedError

    def _head(self, method: bytes) -> tuple[bytes, ...]:
        return (
            *self._routes,
            self._from,
            self._to,
            b"Call-ID: " + self._call_id,
            b"CSeq: %d %b" % (self._cseq, method),
        )

    def _contact(self) -> bytes:
        assert self._way is not None
        point = self._way.flow.point
        parameter = b"" if point.transport == "udp" else b";transport=" + point.transport.encode()
        return b"Contact: <sip:%b@%b%b>" % (self._user, self._way.own, parameter)

    def _take_answer(self, response: Response) -> None:
        """The dialog as the 2xx makes it (section 12.1.2), and its ACK."""
        self._to, self._to_tag = response.lines("to")[0], response.to_tag
        self._target = _contact_of(response) or self._target
        self._routes = _routes_of(response)
        self._ack_lines = self._head(b"ACK")
        self._find_next_hop()
        self._acknowledge(response)

    def _find_next_hop(self) -> None:
        """Requests in the dialog go to the first Route, else to the Contact, where that is an address; all of them to
        the receiver's proxy, where it has one."""
        assert self._way is not None
        way = self._way
        if way.flow.point.reliable or self.receiver.proxy:
            return
        with suppress(RemoteError, OSError):
            first = parse_name_addr(self._routes[0][len(b"Route: ") :]).uri if self._routes else self._target
            uri = parse_sip_uri(first)
            family = socket.AF_INET6 if ":" in uri.host else socket.AF_INET
            socket.inet_pton(family, uri.host)
            if uri.transport == "udp":
                flow = Flow(way.flow.point, uri.host, uri.effective_port)
                self._way = Way(flow=flow, host=way.host)

    def _acknowledge(self, response: Response) -> None:
        """Each 2xx gets its ACK; one of another phone, which a proxy rang as well, is a call that is ended at once
        (section 13.2.2.4)."""
        assert self._way is not None
        if not self._ack_lines:
            return  # it comes again
        if response.to_tag == self._to_tag:
            self.agent.send_ack(self._way, self._target, self._ack_lines)
            return
        lines = (*_routes_of(response), *self._ack_lines[-4:])
        other = response.lines("to")[0]
        target = _contact_of(response) or self.receiver.uri
        self.agent.send_ack(self._way, target, tuple(other if line == self._to else line for line in lines))
        if response.to_tag not in self._others:
            self._others.add(response.to_tag)
            bye = (*lines[:-1], lines[-1].replace(b" ACK", b"0 BYE"))
            self.agent.send(self._way, b"BYE", target, tuple(other if line == self._to else line for line in bye))

    async def _bye(self) -> None:
        assert self._way is not None
        self._cseq += 1
        exchange = self.agent.send(self._way, b"BYE", self._target, self._head(b"BYE"))
        with suppress(TimeoutError, SipError):
            await asyncio.wait_for(exchange.final, BYE_SECONDS)

    async def _open_media(self, host: str) -> None:
        """A socket for media at one of our addresses. Raises OSError."""
        call = self

        class Packets(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
                call.heard(data)

        self._media, _ = await self.agent.loop.create_datagram_endpoint(Packets, local_addr=(host, 0))
        self._port = int(self._media.get_extra_info("sockname")[1])


def _contact_of(response: Response) -> bytes | None:
    """Where requests in the dialog of a 2xx go; None where it does not say."""
    for value in response.all("contact")[:1]:
        with suppress(RemoteError):
            return parse_name_addr(split_values(value)[0]).uri
    return None


def _routes_of(response: Response) -> list[bytes]:
    """The Route lines of the dialog of a 2xx, for whoever called (section 12.1.2)."""
    routes = [one for value in response.all("record-route") for one in split_values(value)]
    return [b"Route: " + one for one in reversed(routes)]
