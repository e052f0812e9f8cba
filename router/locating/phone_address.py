"""The phone's own address, as far as a PBX in between lets it through (`trunks.*.location_from`).

A PBX (a back-to-back user agent) shows its own address in the top Via and as the source of the packet. Some leave
the phone's where they have no reason to change it: in the SDP of a call whose media goes past them, in Contact, in
the Via at the bottom, or in a field they add. Which of these is true of a PBX only its owner knows, so nothing is
looked for that the configuration does not name. What is found is an address to look up in the networks of the
sites; it decides nothing about who may call.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from router.network.sources import parse_address
from sip.body import leaf_parts
from sip.errors import RemoteError
from sip.headers import parse_name_addr, parse_via
from sip.message import Request

SAYS_NOTHING: Final = "none"
HEADER: Final = "header:"
LONGEST: Final = 512
"""Bytes of a value that are looked at."""

_CONNECTION = re.compile(rb"^c=IN[ \t]+IP[46][ \t]+([^\s/]+)", re.MULTILINE)
_ORIGIN = re.compile(rb"^o=[^\r\n]*[ \t]IN[ \t]+IP[46][ \t]+(\S+)", re.MULTILINE)
_IN_BRACKETS = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\]")
_IN_TEXT = re.compile(
    rb"(?<![0-9A-Za-z.])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?<!:)(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f.]{0,15})"
)


class PhoneAddress(NamedTuple):
    """An address, or the reason why there is none."""

    address: str = ""
    reason: str = ""


NO_PHONE_ADDRESS: Final = PhoneAddress()
_MISSING: Final = PhoneAddress(reason="phone-address-missing")
_UNREADABLE: Final = PhoneAddress(reason="phone-address-unreadable")
_AMBIGUOUS: Final = PhoneAddress(reason="phone-address-ambiguous")
_OF_PBX: Final = PhoneAddress(reason="phone-address-of-pbx")


def phone_address(request: Request, location_from: str, pbx_address: str) -> PhoneAddress:
    """The phone's address that a request from this PBX shows where `location_from` says. Never raises.

    Reasons: `phone-address-missing`, `phone-address-unreadable` (a name, no address, or one that is nobody's),
    `phone-address-of-pbx`, where the PBX shows its own there after all, and `phone-address-ambiguous`, where the
    field stands several times with different addresses: a phone may have written one, and the PBX let it pass.
    """
    if location_from == SAYS_NOTHING:
        return NO_PHONE_ADDRESS
    if location_from.startswith(HEADER):
        lines = request.all(location_from.removeprefix(HEADER))
        if len(lines) > 1:
            shown = {_shown(_in_text(line[:LONGEST]), pbx_address) for line in lines}
            addresses = {found for found in shown if found.address}
            return _AMBIGUOUS if len(addresses) > 1 else (addresses or shown).pop()
    try:
        written = list(_written(request, location_from))
    except (RemoteError, ValueError):
        return _UNREADABLE
    return _shown(written, pbx_address) if written else _MISSING


def _shown(written: Iterable[bytes], pbx_address: str) -> PhoneAddress:
    """The first phone's address among these texts."""
    is_of_pbx = False
    for text in written:
        address = parse_address(text[:LONGEST].decode("latin-1").strip().strip("[]"))
        if address is None or address.is_unspecified or address.is_multicast:
            continue
        if str(address) != str(parse_address(pbx_address)):
            return PhoneAddress(address=str(address))
        is_of_pbx = True
    return _OF_PBX if is_of_pbx else _UNREADABLE


def _written(request: Request, location_from: str) -> Iterable[bytes]:
    """What stands at that place, the likeliest first; nothing where the place itself is missing."""
    if location_from == "sdp":
        return _in_sdp(request)
    if location_from == "contact":
        return [_host(value) for value in request.values("contact")[:1]]
    if location_from == "via":
        return _in_via(request)
    return [found for value in request.all(location_from.removeprefix(HEADER)) for found in _in_text(value[:LONGEST])]


def _in_sdp(request: Request) -> list[bytes]:
    """The connection addresses, of the session and then of the media, and the origin's."""
    for part in leaf_parts(request):
        if part.content_type == b"application/sdp":
            return [*_CONNECTION.findall(part.data)[:4], *_ORIGIN.findall(part.data)[:1]]
    return []


def _host(value: bytes) -> bytes:
    return parse_name_addr(value).sip_uri().host.encode("latin-1")


def _in_via(request: Request) -> list[bytes]:
    """Of the Via at the bottom, below the PBX's own: the address that the PBX saw, else the one the phone wrote."""
    values = request.values("via")
    if len(values) < 2:
        return []
    bottom = parse_via(values[-1])
    return [bottom.received.encode("latin-1")] if bottom.received else [bottom.host]


def _in_text(value: bytes) -> list[bytes]:
    """An address anywhere in a field of the PBX's own: bare, with a port, in brackets, in a URI."""
    return [*_IN_BRACKETS.findall(value), *_IN_TEXT.findall(value)] or [value]
