"""SIP and SIPS URIs (RFC 3261 section 19.1), read leniently, never re-printed unless we made them."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from sip.errors import Reason, RemoteError

_HOST = rb"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?"
_HOST_NAME = re.compile(_HOST)
_HOST_AND_REST = re.compile(
    rb"(?P<host>" + _HOST + rb")(?::(?P<port>\d{1,5}))?(?P<parameters>(?:;[^\s<>?]*)?)(?P<headers>(?:\?[^\s<>]*)?)",
)
_NOT_IN_USER = re.compile(rb"[\s<>\"]")
_PARAMETERS = re.compile(rb"(?:;[^\s<>?]*)?")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):")

MAX_URI_BYTES = 4096
"""Longer ones are refused; results are kept, so this also bounds what a peer can make us keep."""


class SipUri(NamedTuple):
    """A SIP or SIPS URI, in parts. host has no brackets; port is None where none is written.

    parameters are the URI parameters with lower-case names; a flag parameter has the value b"".
    """

    scheme: str
    user: bytes
    host: str
    port: int | None
    parameters: dict[str, bytes]
    has_headers: bool = False

    @property
    def transport(self) -> str:
        """The transport to use (RFC 3263 section 4.1 for a numeric host): the parameter, else tls for sips, udp."""
        named = self.parameters.get("transport", b"").decode("latin-1").lower()
        if self.scheme == "sips":
            return "tls"
        return named or "udp"

    @property
    def destination(self) -> str:
        """The host to send to (RFC 3263 section 4): maddr, where it names one host, else host."""
        maddr = self.parameters.get("maddr")
        return (_one_host(maddr) if maddr else "") or self.host

    @property
    def effective_port(self) -> int:
        """The port to send to: as written, else 5061 for TLS, else 5060."""
        if self.port is not None:
            return self.port
        return 5061 if self.transport == "tls" else 5060


def scheme_of(uri: bytes) -> str:
    """The scheme in lower case, or "" where there is none."""
    match = _SCHEME.match(uri)
    return match[1].decode("latin-1").lower() if match else ""


@lru_cache(maxsize=2048)
def parse_sip_uri(uri: bytes) -> SipUri:
    """Read a sip: or sips: URI.

    Raises RemoteError: UNSUPPORTED_SCHEME (416) for another scheme, BAD_REQUEST_URI (400) where it cannot be read
    and (414) where it is longer than MAX_URI_BYTES.
    """
    if len(uri) > MAX_URI_BYTES:
        raise RemoteError(Reason.BAD_REQUEST_URI, 414, f"{len(uri)} bytes")
    # Scheme, user and host come again and again; parameters (a token, a transport) are read each time. userinfo may
    # itself hold ; and ? (RFC 3261 25.1 user-unreserved), so it ends at the last @.
    end = uri.find(b";", uri.rfind(b"@") + 1)
    if end < 0:
        return _parse_head(uri)
    parameters = uri[end:]
    if not _PARAMETERS.fullmatch(parameters):
        return _parse_whole(uri)
    head = _parse_head(uri[:end])
    if head.has_headers:
        return _parse_whole(uri)
    return SipUri(head.scheme, head.user, head.host, head.port, parse_parameters(parameters))


@lru_cache(maxsize=2048)
def _parse_head(uri: bytes) -> SipUri:
    return _parse_whole(uri)


def _parse_whole(uri: bytes) -> SipUri:
    scheme = scheme_of(uri)
    if scheme not in ("sip", "sips"):
        if scheme:
            raise RemoteError(Reason.UNSUPPORTED_SCHEME, 416, f"scheme {scheme[:40]}")
        raise RemoteError(Reason.BAD_REQUEST_URI, 400, f"URI {uri[:80]!r}")
    user, _, rest = uri[len(scheme) + 1 :].rpartition(b"@")
    match = _HOST_AND_REST.fullmatch(rest)
    if not match or _NOT_IN_USER.search(user):
        raise RemoteError(Reason.BAD_REQUEST_URI, 400, f"URI {uri[:80]!r}")
    port = match["port"]
    if port is not None and not 0 < int(port) < 65536:
        raise RemoteError(Reason.BAD_REQUEST_URI, 400, f"port {port.decode()}")
    return SipUri(
        scheme,
        user,
        match["host"].decode("latin-1").strip("[]").rstrip(".").lower(),
        int(port) if port else None,
        parse_parameters(match["parameters"]),
        bool(match["headers"]),
    )


def parse_parameters(text: bytes) -> dict[str, bytes]:
    """`;name=value;flag` as a dictionary; names in lower case, the first of equal names counts."""
    found: dict[str, bytes] = {}
    if not text:
        return found
    for item in text.split(b";"):
        if item:
            name, _, value = item.partition(b"=")
            key = _NAMES.get(name) or _parameter_name(name)
            if key and key not in found:
                found[key] = value.strip()
    return found


_NAMES = {
    name.encode(): name for name in ("lr", "transport", "t", "call", "user", "ob", "tag", "maddr", "ttl", "method")
}


def _parameter_name(name: bytes) -> str:
    return name.strip().decode("latin-1").lower()


def _one_host(maddr: bytes) -> str:
    """The host that a maddr names, as in SipUri; "" for what is none, and for addresses of many: a request is never
    multiplied."""
    if not _HOST_NAME.fullmatch(maddr):
        return ""
    host = maddr.decode("latin-1").strip("[]").rstrip(".").lower()
    try:
        address = ip_address(host)
    except ValueError:
        return "" if host[-1:].isdigit() else host
    is_many = address.is_multicast or address.is_unspecified or host == "255.255.255.255"
    return "" if is_many else host


def bracketed(host: str) -> str:
    """The host as it stands in a URI or Via: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
