"""Where messages come from and go to: listening points, and flows between them and peers."""

from typing import NamedTuple

from sip.uri import bracketed


class ListeningPoint:
    """One transport address of ours, with what Via and Record-Route say of it, ready to be copied.

    name is that of its interface. advertised, host and port, is what others see of it where a NAT stands before us:
    it goes into messages, while host and port are what the socket is bound to.
    """

    __slots__ = (
        "advertised",
        "base",
        "host",
        "name",
        "port",
        "record_route_uri",
        "reliable",
        "secure_record_route_uri",
        "sent_by",
        "transport",
        "via",
        "via_end",
    )

    def __init__(
        self,
        transport: str,
        host: str,
        port: int,
        base: "ListeningPoint | None" = None,
        *,
        name: str = "",
        advertised: tuple[str, int] | None = None,
    ) -> None:
        self.base = base or self
        """The listening point that holds the socket: itself, unless it stands for one address of a wildcard."""
        self.transport = transport
        self.host = host
        self.port = port
        self.name = name
        self.advertised = advertised
        self.reliable = transport != "udp"
        seen_host, seen_port = advertised or (host, port)
        self.sent_by = f"{bracketed(seen_host)}:{seen_port}".encode()
        self.via = b"Via: SIP/2.0/%b %b;branch=" % (transport.upper().encode(), self.sent_by)
        # Not on streams: where the connection is gone, the response goes to the port in sent-by (18.2.2), where we
        # listen. With rport there are proxies that would try the port the connection came from.
        self.via_end = b";rport" if transport == "udp" else b""
        parameter = b"" if transport == "udp" else b";transport=" + transport.encode()
        self.record_route_uri = b"sip:%b%b;lr" % (self.sent_by, parameter)
        self.secure_record_route_uri = b"sips:%b;lr" % self.sent_by if transport == "tls" else self.record_route_uri
        """The same for requests to a sips: URI (section 16.6 step 4, RFC 5630 section 5.3)."""

    @property
    def bound_to(self) -> str:
        """Host and port of the socket."""
        return f"{bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        seen = f" (seen as {self.sent_by.decode()})" if self.advertised else ""
        return f"{self.transport}:{self.bound_to}{seen}"


class TlsPeer(NamedTuple):
    """Whom a TLS connection is to lead to, and what its certificate must prove."""

    name: str
    """The domain or IP address that the certificate must name (RFC 5922), and the SNI where it is a domain."""
    verified: bool = True
    """False where any certificate will do."""
    authorities: str = ""
    """PEM file of the authorities believed; empty: the system's."""


UNCERTIFIED = TlsPeer("", verified=False)
"""Of a TLS connection that a client opened without the certificate asked for."""


class Flow(NamedTuple):
    """Where a message came from or goes to. connection is 0 for UDP, and for "any connection, or a new one"."""

    point: ListeningPoint
    host: str
    port: int
    connection: int = 0
    reply_port: int = 0
    """Of a server transaction on a connection: where to connect if the connection has gone."""
    peer: TlsPeer | None = None
    """Where a TLS connection leads; None: what the edge knows of the address decides. Or UNCERTIFIED."""
