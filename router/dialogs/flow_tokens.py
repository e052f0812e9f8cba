"""Flow tokens (RFC 5626 section 5.2): a flow in a URI of ours, so that what comes back with it goes to that flow.

A token holds transport, the listening point's own address and the peer's address and port, and for a connection its
number and that of this process; and a keyed hash of it all. A datagram's flow is so known again after a restart and
on another node; a connection's flow ends with the connection.
"""

import base64
import binascii
import hashlib
import hmac
import socket
import struct
from typing import NamedTuple

from router.dialogs.token_keys import TokenKeys
from sip.flow import Flow

_TRANSPORTS = ("udp", "tcp", "tls")
_VERSION = 0x10
_SIX, _OUTBOUND = 0x04, 0x08
_MAC_BYTES = 8
MAX_TOKEN = 4096
"""Longer ones are not read; characters."""


class FlowToken(NamedTuple):
    """What a token says."""

    transport: str
    point_host: str
    """Of the listening point, as bound."""
    point_port: int
    host: str
    port: int
    """The peer's; 0 where the token stands for whatever connection the peer has."""
    process: int = 0
    """Number of the process that had the connection; 0 for datagrams."""
    connection: int = 0
    outbound: bool = False
    """True where the phone keeps its flows as RFC 5626 says, and has others if this one fails."""


class FlowTokens:
    """Makes and reads tokens. process: a number of this process, other than those of earlier ones."""

    def __init__(self, keys: TokenKeys, process: int) -> None:
        self.keys = keys
        self.process = process & 0xFFFFFFFF

    def make(self, flow: Flow, *, outbound: bool = False) -> bytes:
        """The token of a flow, fit for the user part of a URI."""
        return self._seal(b"flow token", self._pack(flow, outbound=outbound))

    def read(self, text: bytes) -> FlowToken | None:
        """What a token of ours says; None where it is none."""
        data = self._open(b"flow token", text)
        found = None if data is None else _unpack(data)
        return None if found is None else found[0]

    def make_contact(self, flow: Flow, uri: bytes) -> bytes:
        """The token of a flow and the Contact URI of the phone behind it, fit for a URI parameter.

        The same for every connection of one peer's address: a phone that connects again is the same contact.
        """
        if flow.point.reliable:
            flow = flow._replace(port=0, connection=0)
        return self._seal(b"contact token", self._pack(flow) + uri)

    def read_contact(self, text: bytes) -> tuple[FlowToken, bytes] | None:
        """The flow and the URI of such a token of ours; None where it is none."""
        data = self._open(b"contact token", text)
        return None if data is None else _unpack(data)

    def is_alive(self, token: FlowToken) -> bool:
        """False where the token's connection was another process's, and so has ended."""
        return token.transport == "udp" or token.process == self.process

    def _pack(self, flow: Flow, *, outbound: bool = False) -> bytes:
        base = flow.point.base
        six = ":" in flow.host
        family = socket.AF_INET6 if six else socket.AF_INET
        head = _VERSION | _TRANSPORTS.index(base.transport) | _SIX * six | _OUTBOUND * outbound
        packed = struct.pack("!BH", head, base.port) + socket.inet_pton(family, base.host)
        packed += struct.pack("!H", flow.port) + socket.inet_pton(family, flow.host)
        if base.reliable:
            packed += struct.pack("!II", self.process if flow.connection else 0, flow.connection & 0xFFFFFFFF)
        return packed

    def _seal(self, purpose: bytes, data: bytes) -> bytes:
        sealed = data + _mac(self.keys.signing, purpose, data)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=")

    def _open(self, purpose: bytes, text: bytes) -> bytes | None:
        if not text or len(text) > MAX_TOKEN:
            return None
        try:
            sealed = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        data, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
        if any(hmac.compare_digest(_mac(key, purpose, data), mac) for key in self.keys.keys):
            return data
        return None


def _unpack(data: bytes) -> tuple[FlowToken, bytes] | None:
    """What sealed data says; None where an earlier version of edge911 wrote it otherwise."""
    head = data[0] if data else 0
    if head & 0xF0 != _VERSION or head & 0x03 >= len(_TRANSPORTS):
        return None
    transport = _TRANSPORTS[head & 0x03]
    family, length = (socket.AF_INET6, 16) if head & _SIX else (socket.AF_INET, 4)
    process = connection = 0
    end = 1 + 2 + length + 2 + length
    try:
        (point_port,) = struct.unpack_from("!H", data, 1)
        (port,) = struct.unpack_from("!H", data, 3 + length)
        point_host = socket.inet_ntop(family, data[3 : 3 + length])
        host = socket.inet_ntop(family, data[5 + length : end])
        if transport != "udp":
            process, connection = struct.unpack_from("!II", data, end)
            end += 8
    except (struct.error, ValueError):
        return None
    outbound = bool(head & _OUTBOUND)
    return FlowToken(transport, point_host, point_port, host, port, process, connection, outbound), data[end:]


def _mac(key: bytes, purpose: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=key, digest_size=_MAC_BYTES, person=purpose).digest()
