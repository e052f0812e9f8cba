"""STUN Binding requests on a SIP port (RFC 5389): how phones keep their NAT open on UDP (RFC 5626 section 4.4.2)."""

import struct
from ipaddress import ip_address

_BINDING_REQUEST, _BINDING_SUCCESS = 0x0001, 0x0101
_COOKIE = 0x2112A442
_XOR_MAPPED_ADDRESS = 0x0020
_HEADER_BYTES = 20


def binding_response(data: bytes, host: str, port: int) -> bytes | None:
    """The answer to a Binding request from a host and port; None where the datagram is none."""
    if len(data) < _HEADER_BYTES:
        return None
    kind, length, cookie = struct.unpack_from("!HHI", data)
    if kind != _BINDING_REQUEST or cookie != _COOKIE or length != len(data) - _HEADER_BYTES:
        return None
    transaction = data[8:_HEADER_BYTES]
    address = ip_address(host).packed
    mask = struct.pack("!I", _COOKIE) + transaction
    hidden = bytes(one ^ other for one, other in zip(address, mask, strict=False))
    value = struct.pack("!BBH", 0, 2 if len(address) == 16 else 1, port ^ (_COOKIE >> 16)) + hidden
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return struct.pack("!HHI", _BINDING_SUCCESS, len(attribute), _COOKIE) + transaction + attribute
