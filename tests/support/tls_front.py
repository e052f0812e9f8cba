"""TLS in front of a raw peer: takes connections at the peer's address, and hands the bytes on to it in the clear.

The peer stays what it is; what was negotiated on the way is kept for the test to look at.
"""

import contextlib
import selectors
import socket
import ssl
import threading
from dataclasses import dataclass
from types import TracebackType

from router.network.trust import verifying_context
from tests.support.certificates import Authority, Pair
from tests.support.ports import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """One connection, as negotiated."""

    version: str
    cipher: str
    server_name: str
    """The SNI, empty where there was none."""
    shown: str
    """The common name of the certificate that the client showed; empty where it showed none."""
    source: tuple[str, int]


class TlsFront:
    """A TLS server at one endpoint, and behind it a TCP server at another.

    clients: the authority whose certificates a client must show. silent: takes connections and never says a word.
    """

    def __init__(
        self, at: Endpoint, behind: Endpoint, pair: Pair, *, clients: Authority | None = None, silent: bool = False
    ) -> None:
        self.behind = behind
        self.silent = silent
        self.handshakes: list[Handshake] = []
        self.failed = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients.certificate)
        self._names: dict[ssl.SSLObject, str] = {}
        self._context.sni_callback = self._note_name
        self._listener = socket.create_server(at.pair)
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _note_name(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self._names[connection] = name or ""

    def _accept(self) -> None:
        while True:
            try:
                connection, source = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            if not self.silent:
                thread = threading.Thread(target=self._serve, args=(connection, source), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket, source: tuple[str, int]) -> None:
        try:
            plain.settimeout(40)
            connection = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            self.failed += 1
            return
        self._sockets.append(connection)
        connection.settimeout(None)
        certificate = connection.getpeercert() or {}
        subject = dict(pair[0] for pair in certificate.get("subject", ()))
        cipher = connection.cipher()
        self.handshakes.append(
            Handshake(
                version=connection.version() or "",
                cipher=cipher[0] if cipher else "",
                server_name=self._names.pop(connection, ""),  # type: ignore[call-overload]  # an SSLSocket here
                shown=str(subject.get("commonName", "")),
                source=source,
            )
        )
        try:
            onward = socket.create_connection(self.behind.pair, timeout=30)
        except OSError:
            connection.close()
            return
        onward.settimeout(None)
        self._sockets.append(onward)
        with contextlib.suppress(OSError, ValueError):
            relay(connection, onward)

    def close(self) -> None:
        """End all."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)  # it takes no more connections
        for one in self._sockets[1:]:
            with contextlib.suppress(OSError):
                # The socket itself: an SSLSocket would first say goodbye to a peer that may be gone.
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def __enter__(self) -> "TlsFront":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def relay(one: ssl.SSLSocket, other: socket.socket) -> None:
    """Bytes both ways until either side ends."""
    with selectors.DefaultSelector() as selector, one, other:
        selector.register(one, selectors.EVENT_READ)
        selector.register(other, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                here = key.fileobj
                assert isinstance(here, socket.socket)
                here.setblocking(False)
                try:
                    data = here.recv(65_536)
                    while isinstance(here, ssl.SSLSocket) and here.pending():
                        data += here.recv(65_536)
                except ssl.SSLWantReadError:
                    continue  # a record of TLS itself
                finally:
                    here.setblocking(True)
                if not data:
                    return
                (other if here is one else one).sendall(data)


class TlsTunnel:
    """The way out: takes a plain connection and goes on by TLS, as socat does; for peers that speak no TLS."""

    def __init__(self, at: Endpoint, to: Endpoint, authority: Authority, pair: Pair | None = None) -> None:
        self.to = to
        self.context = verifying_context(str(authority.certificate))
        self.context.check_hostname = False
        if pair is not None:
            self.context.load_cert_chain(pair.certificate, pair.key)
        self.at = at
        self._listener = socket.create_server(at.pair)
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                plain, source = self._listener.accept()
            except OSError:
                return
            self._sockets.append(plain)
            thread = threading.Thread(target=self._serve, args=(plain, source), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, source: tuple[str, int]) -> None:
        with contextlib.suppress(OSError, ValueError):
            out = socket.create_connection(self.to.pair, timeout=30, source_address=(source[0], 0))
            connection = self.context.wrap_socket(out)
            connection.settimeout(None)
            self._sockets.append(connection)
            relay(connection, plain)

    close = TlsFront.close
    __exit__ = TlsFront.__exit__

    def __enter__(self) -> "TlsTunnel":
        return self
