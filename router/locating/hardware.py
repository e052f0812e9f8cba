"""The hardware address (MAC) that a phone tells of itself, where its makers put it.

A field of its own (Yealink, Grandstream and Snom send `Mac:` or `X-MAC:` where told to), the node of the UUID in the
Contact's +sip.instance (RFC 5626 section 4.1, RFC 9562: many phones make that UUID of their address), or the last
word of User-Agent (Poly, Yealink). What is found counts only where a registered device has that very address.
"""

import re
from typing import Final

from sip.message import Request

_FIELDS: Final = tuple(name.lower() for name in ("Mac", "X-MAC", "X-MAC-Address", "X-Grandstream-MAC"))
_ALONE = re.compile(rb"[0-9A-Fa-f]{2}([:-]?)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")
_INSTANCE = re.compile(
    rb"\+sip\.instance\s*=\s*\"?<urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-([0-9a-f]{12})>",
    re.IGNORECASE,
)
_IN_USER_AGENT = re.compile(
    rb"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}([:-]?)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![0-9A-Za-z:-])"
)


def hardware_address(request: Request) -> str:
    """The address as 12 lower-case hexadecimal digits; empty where the phone tells none."""
    for name in _FIELDS:
        value = request.first(name)
        if value is not None and _ALONE.fullmatch(value.strip()):
            return _digits(value)
    contact = request.first("contact")
    if contact is not None and (found := _INSTANCE.search(contact)):
        return _digits(found[1])
    agent = request.first("user-agent")
    if agent is not None and (found := _IN_USER_AGENT.search(agent)):
        return _digits(found[0])
    return ""


def _digits(text: bytes) -> str:
    return text.strip().translate(None, b":-").decode("ascii").lower()
