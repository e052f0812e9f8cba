"""TLS under asyncio: accepting it, opening it, and the names of what goes wrong."""

import asyncio
import asyncio.sslproto
import logging
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Protocol

from sip import stream_limits as limits
from sip.flow import ListeningPoint, TlsPeer
from sip.transport_connection import Connection, set_options

if TYPE_CHECKING:
    from sip.transport_streams import Streams

log = logging.getLogger("sip.transport")

# asyncio reads each TLS connection into a buffer of its own, of 256 KiB: some GiB for the connections that we allow.
# Two TLS records do. (A class attribute, not documented: where another Python has none, nothing is lost but memory.)
asyncio.sslproto.SSLProtocol.max_size = limits.TLS_BUFFER


class TlsContexts(Protocol):
    """Where the certificates are; those of the moment, for they change while we run."""

    def server(self) -> ssl.SSLContext | None:
        """For connections to us; None where we have no usable certificate."""

    def client(self, peer: TlsPeer) -> ssl.SSLContext:
        """For a connection to a peer. Raises OSError (ssl.SSLError is one) where its authorities cannot be read."""

    def seen(self, peer: TlsPeer, certificate: bytes) -> None:
        """A peer showed this certificate, DER."""


class PeerNameError(Exception):
    """A certificate that is good, and another's."""


class TlsListener:
    """Accepts TCP connections for TLS: who may connect is decided before a handshake costs anything."""

    def __init__(self, streams: "Streams", point: ListeningPoint, bind_host: str) -> None:
        """Raises OSError where the address cannot be had."""
        self.streams = streams
        self.loop = streams.edge.loop
        self.point = point
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
        self.socket = socket.create_server((bind_host, point.port), family=family, backlog=limits.BACKLOG)
        self.socket.setblocking(False)
        self.loop.add_reader(self.socket, self.on_readable)

    def on_readable(self) -> None:
        """Take what waits, some at a time."""
        for _ in range(limits.ACCEPTED_PER_WAKEUP):
            try:
                taken, address = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory is left: others have to go first
                self.streams.edge.counts["accept_failed"] += 1
                log.error("cannot accept a connection: %s; tried again in a second", error)
                self.loop.remove_reader(self.socket)
                self.loop.call_later(1.0, self._go_on)
                return
            taken.setblocking(False)
            self.streams.accept_tls(taken, address[0].partition("%")[0], self.point)

    def _go_on(self) -> None:
        if self.socket.fileno() >= 0:
            self.loop.add_reader(self.socket, self.on_readable)

    def close(self) -> None:
        """Stop and close."""
        if self.socket.fileno() >= 0:
            self.loop.remove_reader(self.socket)
            self.socket.close()


class Pace:
    """Lets a few go on at once, and the next few a moment later: a handshake is a millisecond of arithmetic, and when
    the phones of a branch all come back in one moment, calls are to be served in between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._is_going = False

    async def turn(self) -> None:
        """Wait for one's turn."""
        waiter = self.loop.create_future()
        self.waiting.append(waiter)
        if not self._is_going:
            self._is_going = True
            self.loop.call_soon(self._go)
        await waiter

    def _go(self) -> None:
        for _ in range(min(limits.HANDSHAKES_AT_ONCE, len(self.waiting))):
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
        self._is_going = bool(self.waiting)
        if self._is_going:
            self.loop.call_later(limits.HANDSHAKE_PAUSE, self._go)


async def accept_handshake(pace: Pace, taken: socket.socket, connection: Connection, context: ssl.SSLContext) -> bool:
    """TLS on an accepted TCP connection; False where nothing came of it, and the socket is closed."""
    loop = pace.loop
    set_options(taken)
    try:
        # Who has said nothing yet keeps nobody from his turn.
        async with asyncio.timeout(limits.HANDSHAKE_SECONDS):
            await _first_byte(loop, taken)
        await pace.turn()
        await loop.connect_accepted_socket(
            lambda: connection,
            taken,
            ssl=context,
            ssl_handshake_timeout=limits.HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=limits.SHUTDOWN_SECONDS,
        )
    except (OSError, TimeoutError) as error:
        log.debug("TLS handshake of %s: %s", connection.host, error)
    finally:
        if connection.transport is None:
            taken.close()
    return connection.transport is not None


async def _first_byte(loop: asyncio.AbstractEventLoop, taken: socket.socket) -> None:
    """Wait until there is something to read."""
    readable = loop.create_future()

    def told() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(taken, told)
    try:
        await readable
    finally:
        loop.remove_reader(taken)


async def open_tls(
    loop: asyncio.AbstractEventLoop,
    connection: Connection,
    remote: tuple[str, int],
    local: tuple[str, int] | None,
    context: ssl.SSLContext,
    name: str,
) -> None:
    """Connect by TLS; name: whom the certificate must name, and the SNI where it is a domain.

    Raises OSError (ssl.SSLError is one), TimeoutError or PeerNameError; `failure_of` names them.
    """
    raw = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        if local is not None:
            raw.bind(local)
        await loop.sock_connect(raw, remote)
        set_options(raw)
        try:
            await loop.create_connection(
                lambda: connection,
                sock=raw,
                ssl=context,
                server_hostname="" if name.startswith("*") else name,
                ssl_handshake_timeout=limits.HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=limits.SHUTDOWN_SECONDS,
            )
        except (TimeoutError, ConnectionAbortedError):  # asyncio makes the one of the other
            raise _HandshakeTimeoutError from None
        except ConnectionError as error:
            raise ssl.SSLError(0, f"closed during the handshake: {error}") from None
    finally:
        if connection.transport is None:
            raw.close()
    if connection.failure:
        raise PeerNameError(f"the certificate does not name {name}")


class _HandshakeTimeoutError(TimeoutError):
    """The peer takes a TCP connection and says nothing in TLS."""


def failure_of(error: Exception) -> str:
    """The name of what stopped a connection from being opened, as in docs/reasons.md."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_FAILURES.get(error.verify_code, "certificate-invalid")
    if isinstance(error, PeerNameError):
        return "certificate-name"
    if isinstance(error, ssl.SSLError | _HandshakeTimeoutError):
        return "handshake-timeout" if isinstance(error, TimeoutError) else "handshake-failed"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "no-answer" if isinstance(error, TimeoutError) else "unreachable"


# The X509_V_ERR_… of OpenSSL's x509_vfy.h.
_VERIFY_FAILURES = {
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "certificate-untrusted",
    19: "certificate-untrusted",
    20: "certificate-untrusted",
    21: "certificate-untrusted",
    23: "certificate-revoked",
}
