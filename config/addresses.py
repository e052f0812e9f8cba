"""Addresses: which are private, and what `advertise` may say."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

PRIVATE = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "127.0.0.0/8",
            "fc00::/7",
            "fe80::/10",
            "::1/128",
        ),
    )
)
"""Networks whose addresses mean nothing elsewhere: RFC 1918, 6598 (carrier-grade NAT), 3927, 4193, 4291, loopback."""

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_REMEDY = "write 203.0.113.10, 203.0.113.10:5060, [2001:db8::10]:5060 or a host name"


def is_private(address: IPv4Address | IPv6Address) -> bool:
    """True where an address is of use in its own network only."""
    return any(network.version == address.version and address in network for network in PRIVATE)


def parse_advertised(text: str) -> tuple[str, int | None]:
    """Host (lower case, without brackets) and port of an `advertise` value; ValueError where it is none."""
    value = text.strip().lower()
    host, port = value, ""
    if value.startswith("["):
        host, closed, rest = value[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address; {_REMEDY}")
        port = rest[1:]
    elif value.count(":") == 1:
        host, _, port = value.partition(":")
    if port and (not port.isdigit() or not 0 < int(port) < 65536):
        raise ValueError(f"port {port} does not exist; {_REMEDY}")
    try:
        address = ip_address(host)
    except ValueError:
        if re.fullmatch(r"[0-9.:]*", host) or not _HOST_NAME.fullmatch(host):
            raise ValueError(f"{text!r} is neither an address nor a host name; {_REMEDY}") from None
    else:
        if address.is_unspecified:
            raise ValueError(f"{text!r} is no address others can send to; {_REMEDY}")
        host = str(address)
    return host, int(port) if port else None
