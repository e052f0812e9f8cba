"""A SIP user agent of the notices process: it sends MESSAGE to phones and calls desks, apart from the call process.

One thread with an event loop of its own. The transactions are sip.stack's; what is here is the core above them, the
sockets, and nothing else. Texts and calls are asked for by any thread; each gives a future with what came of it.
"""

import asyncio
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from config.channel_urls import SipReceiver
from router.network.sources import parse_address
from router.network.trust import verifying_context
from router.notices.outbox import Attempt
from router.notices.receivers.chat_text import shortened
from router.notices.receivers.redirects import redirected
from sip.answers import build_response
from sip.digest import Credentials, answer, challenges_of
from sip.errors import RemoteError
from sip.flow import Flow, ListeningPoint
from sip.framing import StreamFramer
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.stack import Stack
from sip.uri import bracketed, parse_sip_uri

MESSAGE_SECONDS = 12.0
"""So long a MESSAGE may lack its answer; then it counts as not delivered."""
CONNECT_SECONDS = 5.0
UNHEARD_MS = 5000
"""A connection that takes nothing for so long is dead: a firewall has forgotten it, or the phone was restarted."""
KEEP_ALIVE_SECONDS = 30
NAMES_AT_ONCE = 32
"""Names that are looked up at the same time."""
MESSAGE_BYTES = 1000
"""Text of a MESSAGE: it fits one datagram with its header (RFC 3428 section 8)."""
UDP_BYTES = 1300
TRY_LATER = frozenset({408, 480, 486, 487, 491, 500, 502, 503, 504, 600, 603})
USER_AGENT = b"User-Agent: edge911"
ALLOW = b"Allow: INVITE, ACK, CANCEL, BYE, INFO, OPTIONS, UPDATE"

log = logging.getLogger(__name__)


_StreamKey = tuple[str, str, int]
"""Transport, host and port of the other end."""


class SipError(Exception):
    """A request got no answer, or could not be sent; `reason` is its name."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How one receiver is reached."""

    flow: Flow
    host: str
    """Our address towards it."""
    tls: ssl.SSLContext | None = None
    name: str = ""
    """The name its certificate must carry."""
    port: int = 0
    """Our port of the connection, over TCP and TLS."""

    @property
    def own(self) -> bytes:
        """Our address, for Contact: what a phone asks of us in a dialog is to come back on the connection that we
        have opened, which phones find by the address at its other end. Nothing listens there beside it."""
        point = self.flow.point
        return bracketed(self.host).encode() + b":%d" % self.port if point.reliable else point.sent_by


class Exchange:
    """One request of ours and its answers (sip.stack.ClientOwner)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, method: bytes) -> None:
        self.final: asyncio.Future[Response] = loop.create_future()
        self.method = method
        self.is_ringing = False
        """A provisional answer has come."""
        self.client: ClientTransaction | None = None
        self.on_again: Callable[[Response], None] = lambda _: None
        """Called for a 2xx that comes again."""

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        """As sip.stack says."""
        if response.status < 200:
            self.is_ringing = True
        elif not self.final.done():
            self.final.set_result(response)
        elif response.status < 300:
            self.on_again(response)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        """As sip.stack says."""
        self.fail(SipError("timeout", "no answer"))

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        """As sip.stack says."""
        self.fail(SipError("unreachable", "the request could not be sent"))

    def fail(self, error: SipError) -> None:
        """It gets no answer any more."""
        if not self.final.done():
            self.final.set_exception(error)
            self.final.exception()  # whoever waited may be gone


class Dialog:
    """Whoever takes the requests of one dialog."""

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """A request in the dialog."""
        raise NotImplementedError

    def on_ack(self) -> None:
        """An ACK in the dialog."""


class SipAgent:
    """The thread, its sockets and its stack."""

    def __init__(self, *, name: str = "edge911", is_inside: Callable[[str], bool] = lambda _: False) -> None:
        """is_inside: whether a host is an address of `networks.inside`; asked in the agent's thread."""
        self.name = name
        self.is_inside = is_inside
        self.loop = asyncio.new_event_loop()
        self.stack = Stack(self, key=secrets.token_bytes(32))
        self.dialogs: dict[bytes, Dialog] = {}
        """By Call-ID."""
        self._points: dict[tuple[str, str], ListeningPoint] = {}
        self._datagrams: dict[ListeningPoint, asyncio.DatagramTransport] = {}
        self._streams: dict[_StreamKey, asyncio.StreamWriter] = {}
        self._waiting: dict[_StreamKey, set[Exchange]] = {}
        """Requests that went out by a connection and have no final answer yet."""
        self._making_point = asyncio.Lock()
        self._names = ThreadPoolExecutor(NAMES_AT_ONCE, "sip-agent")
        self._asking: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="sip-agent")
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def close(self) -> None:
        """End the thread, and with it whatever is under way."""
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(self._close(), self.loop)
        self._thread.join(5)

    async def _close(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for transport in self._datagrams.values():
            transport.close()
        for writer in self._streams.values():
            writer.close()
        self._names.shutdown(wait=False, cancel_futures=True)
        await self.loop.shutdown_default_executor()
        self.loop.call_soon(self.loop.stop)

    def message(self, receiver: SipReceiver, text: str) -> "Future[Attempt]":
        """Send a MESSAGE with a text; what came of it."""
        return asyncio.run_coroutine_threadsafe(self._message(receiver, text), self.loop)

    async def _message(self, receiver: SipReceiver, text: str) -> Attempt:
        body = shortened(text, MESSAGE_BYTES, in_bytes=True).encode()
        lines = [b"Content-Type: text/plain;charset=UTF-8"]
        if receiver.route:
            lines.insert(0, b"Route: " + receiver.route.encode())
        tried: list[bytes] = []
        try:
            async with asyncio.timeout(MESSAGE_SECONDS):
                while True:
                    tried.append(receiver.uri)
                    way = await self.reach(receiver)
                    response = await self.ask_with_credentials(receiver, way, b"MESSAGE", lines, body)
                    other = redirected(response, receiver, tried, self.is_inside)
                    if other is None:
                        break
                    receiver = other
        except TimeoutError:
            return Attempt(delivered=False, reason="timeout", words="no answer in time")
        except SipError as failure:
            return Attempt(delivered=False, reason=failure.reason, words=failure.words)
        return attempt_of(response, tried)

    # ---- requests ----

    async def reach(self, receiver: SipReceiver) -> Way:
        """Where to send to, and from where. Raises SipError."""
        target = parse_sip_uri(f"sip:{receiver.proxy}".encode()) if receiver.proxy else receiver.parsed
        transport = receiver.parsed.transport if "transport" not in target.parameters else target.transport
        port = target.port or (5061 if transport == "tls" else 5060)
        try:
            family, address = await self._address_of(target.host, port)
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(address)
                own = str(probe.getsockname()[0])
        except OSError as error:
            raise SipError("unreachable", f"{target.host}: {error.strerror or error}") from None
        point = await self._point(transport, own)
        flow = Flow(point, str(address[0]), port)
        tls = verifying_context() if transport == "tls" else None
        port = await self._connect(flow, tls, target.host) if point.reliable else 0
        return Way(flow=flow, host=own, tls=tls, name=target.host, port=port)

    async def _address_of(self, host: str, port: int) -> tuple[int, tuple[Any, ...]]:
        """Family and address of a host. Raises OSError.

        An address asks nobody. Names are asked for by threads of their own, each name by one at a time: where DNS
        does not answer, neither what is given by address nor the making of speech waits behind it.
        """
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM)
        if parse_address(host) is not None:
            found = look_up()
        else:
            asking = self._asking.get((host, port))
            if asking is None:
                asking = self._asking[host, port] = self.loop.run_in_executor(self._names, look_up)
                asking.add_done_callback(partial(self._asked, (host, port)))
            found = await asyncio.shield(asking)
        family, _, _, _, address = found[0]
        return family, address

    def _asked(self, name: tuple[str, int], asking: "asyncio.Future[Any]") -> None:
        del self._asking[name]
        if not asking.cancelled():
            asking.exception()  # whoever waited may be gone

    async def ask_with_credentials(
        self, receiver: SipReceiver, way: Way, method: bytes, lines: Sequence[bytes], body: bytes
    ) -> Response:
        """One request outside a dialog and its final answer; asked who we are, we say so once. Raises SipError."""
        call_id, tag = new_id(way.host), new_tag()
        sender = sender_of(receiver, way, self.name)
        head = (b"From: <%b>;tag=%b" % (sender, tag), b"To: <%b>" % receiver.uri, b"Call-ID: " + call_id)
        exchange = self.send(way, method, receiver.uri, (*head, b"CSeq: 1 " + method, *lines), body)
        response = await exchange.final
        if response.status in (401, 407) and receiver.username:
            proof = authorization(response, receiver, method, receiver.uri, body)
            if proof:
                again = (*head, b"CSeq: 2 " + method, *lines, *proof)
                response = await self.send(way, method, receiver.uri, again, body).final
        return response

    def send(self, way: Way, method: bytes, uri: bytes, lines: Sequence[bytes], body: bytes = b"") -> Exchange:
        """Start a transaction. lines: the fields without Via, Max-Forwards and Content-Length."""
        branch = b"z9hG4bK" + secrets.token_hex(10).encode()
        data = self._request(way, method, uri, branch, lines, body)
        exchange = Exchange(self.loop, method)
        exchange.client = self.stack.send_request(method, branch, data, way.flow, exchange, self.loop.time())
        if way.flow.point.reliable:
            waiting = self._waiting.setdefault(_key_of(way.flow), set())
            waiting.add(exchange)
            exchange.final.add_done_callback(lambda _: waiting.discard(exchange))
        self.flush()
        return exchange

    def send_ack(self, way: Way, uri: bytes, lines: Sequence[bytes]) -> None:
        """The ACK for a 2xx, which is no transaction."""
        branch = b"z9hG4bK" + secrets.token_hex(10).encode()
        self._write(way.flow, self._request(way, b"ACK", uri, branch, lines, b""))

    def _request(
        self, way: Way, method: bytes, uri: bytes, branch: bytes, lines: Sequence[bytes], body: bytes
    ) -> bytes:
        head = (
            b"%b %b SIP/2.0" % (method, uri),
            way.flow.point.via + branch + b";rport",
            b"Max-Forwards: 70",
            *lines,
            USER_AGENT,
            b"Content-Length: %d" % len(body),
            b"",
            b"",
        )
        return b"\r\n".join(head) + body

    def cancel(self, exchange: Exchange) -> None:
        """Take an INVITE back that is ringing."""
        if exchange.client is not None:
            self.stack.cancel(exchange.client, Exchange(self.loop, b"CANCEL"), self.loop.time())
            self.flush()

    def reply(self, server: ServerTransaction, status: int, extra: Sequence[bytes] = (), body: bytes = b"") -> None:
        """Answer a request."""
        request = server.request
        if request is None:
            return
        data = build_response(request, status, to_tag=self.stack.to_tag(request), extra=extra)
        if body:
            data = data[: -len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: %d\r\n\r\n" % len(body) + body
        self.stack.respond(server, status, data, self.loop.time())
        self.flush()

    # ---- sip.stack.TransactionUser ----

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """A request to us: of a dialog, or it is refused; an OPTIONS is answered."""
        dialog = self.dialogs.get(request.call_id)
        if dialog is not None:
            dialog.on_request(server, request, now)
        elif request.method == b"OPTIONS":
            self.reply(server, 200, (ALLOW,))
        else:
            self.reply(server, 481 if request.to_tag else 480)

    def on_ack(self, request: Request, flow: Flow, invite: ServerTransaction | None, now: float) -> None:
        """An ACK for a 2xx of ours."""
        dialog = self.dialogs.get(request.call_id)
        if dialog is not None:
            dialog.on_ack()

    def on_cancel(self, invite: ServerTransaction, request: Request, now: float) -> None:
        """Only for requests that we answer at once anyhow."""

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """A proxy's matter."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """An answer to what is over."""

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> ServerTransaction | None:
        """A CANCEL for nothing of ours."""
        return None

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Nothing is refused before its transaction."""
        return None

    def on_malformed(self, request: Request, error: RemoteError, flow: Flow) -> None:
        """Refused already; who sent it is no receiver of ours."""

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        """Nothing malformed is served."""
        return False

    # ---- sockets ----

    async def _point(self, transport: str, own: str) -> ListeningPoint:
        """The listening point at one of our addresses; made when first needed."""
        async with self._making_point:
            return self._points.get((transport, own)) or await self._make_point(transport, own)

    async def _make_point(self, transport: str, own: str) -> ListeningPoint:
        if transport == "udp":
            agent = self

            class Datagrams(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
                    agent.received(data, Flow(made, peer[0], peer[1]))

            channel, _ = await self.loop.create_datagram_endpoint(Datagrams, local_addr=(own, 0))
            made = ListeningPoint("udp", own, int(channel.get_extra_info("sockname")[1]))
            self._datagrams[made] = channel
        else:
            # Nothing listens: what a phone asks of us later comes on the connection that we opened (Way.own).
            made = ListeningPoint(transport, own, 5061 if transport == "tls" else 5060)
        self._points[transport, own] = made
        return made

    async def _connect(self, flow: Flow, tls: ssl.SSLContext | None, name: str) -> int:
        """Have a connection there; our port of it. Raises SipError."""
        key = _key_of(flow)
        if self._is_connected(key):
            return self._port_of(key)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    flow.host, flow.port, ssl=tls, server_hostname=name if tls else None
                )
        except TimeoutError:
            raise SipError("unreachable", "no connection in time") from None
        except (OSError, ssl.SSLError) as error:
            raise SipError("unreachable", f"{bracketed(flow.host)}:{flow.port}: {error.strerror or error}") from None
        if self._is_connected(key):  # somebody else was quicker
            writer.close()
            return self._port_of(key)
        with suppress(OSError):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
            # It may be hours to the next notice: no firewall is to forget it, and its end is to be known by then.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_SECONDS)
        self._streams[key] = writer
        task = self.loop.create_task(self._read(reader, writer, flow, key))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)
        return self._port_of(key)

    def _port_of(self, key: _StreamKey) -> int:
        return int(self._streams[key].get_extra_info("sockname")[1])

    def _is_connected(self, key: _StreamKey) -> bool:
        writer = self._streams.get(key)
        return writer is not None and not writer.is_closing()

    def _end_stream(self, key: _StreamKey, writer: asyncio.StreamWriter) -> None:
        """A connection is over, and with it what still waits for an answer."""
        writer.close()
        if self._streams.get(key) is not writer:
            return
        del self._streams[key]
        for exchange in list(self._waiting.pop(key, ())):
            if exchange.client is not None and not exchange.final.done():
                self.stack.transport_failed(exchange.client, self.loop.time())
        self.flush()

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: Flow, key: _StreamKey
    ) -> None:
        framer = StreamFramer()
        try:
            while data := await reader.read(65536):
                for message in framer.feed(data):
                    self.received(message, flow)
                if framer.error is not None:
                    break
        except OSError:
            pass
        finally:
            self._end_stream(key, writer)

    def received(self, data: bytes, flow: Flow) -> None:
        """One message from the wire."""
        self.stack.receive(data, flow, self.loop.time())
        self.flush()

    def flush(self) -> None:
        """Send what the stack wants sent, and be there when its next timer fires."""
        while self.stack.out:
            out, self.stack.out = self.stack.out, []
            for flow, data, client in out:
                if not self._write(flow, data) and client is not None:
                    self.stack.transport_failed(client, self.loop.time())
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.stack.queue.earliest != float("inf"):
            self._alarm = self.loop.call_at(self.stack.queue.earliest, self._advance)

    def _advance(self) -> None:
        self._alarm = None
        self.stack.advance(self.loop.time())
        self.flush()

    def _write(self, flow: Flow, data: bytes) -> bool:
        if not flow.point.reliable:
            try:
                self._datagrams[flow.point].sendto(data, (flow.host, flow.port))
            except OSError:
                return False
            return True
        writer = self._streams.get(_key_of(flow))
        if writer is None or writer.is_closing():
            return False
        writer.write(data)
        return True


def _key_of(flow: Flow) -> _StreamKey:
    return flow.point.transport, flow.host, flow.port


def attempt_of(response: Response, tried: Sequence[bytes] = ()) -> Attempt:
    """What an answer to a MESSAGE or INVITE means for the notice. tried: who was asked, one after the other."""
    words = f"SIP {response.status} {response.reason.decode('utf-8', 'replace')}".strip()[:200]
    words += sent_on(tried)
    if 200 <= response.status < 300:
        return Attempt(delivered=True, words=words)
    permanent = 300 <= response.status < 700 and response.status not in TRY_LATER
    return Attempt(delivered=False, permanent=permanent, reason="refused", words=words)


def sent_on(tried: Sequence[bytes]) -> str:
    """In words, where a receiver has sent us on to; empty where it was the first that was asked."""
    return f" (sent on to {tried[-1].decode('utf-8', 'replace')[:200]})" if len(tried) > 1 else ""


def authorization(
    response: Response, receiver: SipReceiver, method: bytes, uri: bytes, body: bytes
) -> tuple[bytes, ...]:
    """The header lines that answer a challenge; none where it asks for what we do not know."""
    credentials = Credentials(receiver.username, receiver.password)
    return tuple(
        answer(challenge, credentials, method=method, uri=uri, body=body, cnonce=secrets.token_hex(8).encode())
        for challenge in challenges_of(response)
    )


def sender_of(receiver: SipReceiver, way: Way, name: str) -> bytes:
    """The address in From."""
    if receiver.sender:
        return receiver.sender.encode()
    user = receiver.username or name
    host = receiver.parsed.host if receiver.username else way.host
    return b"sip:%b@%b" % (_user(user), bracketed(host).encode())


def _user(name: str) -> bytes:
    return "".join(character if character.isalnum() or character in "-_.+" else "-" for character in name).encode()


def new_id(host: str) -> bytes:
    """A Call-ID."""
    return secrets.token_hex(12).encode() + b"@" + bracketed(host).encode()


def new_tag() -> bytes:
    """A tag for From."""
    return secrets.token_hex(6).encode()
