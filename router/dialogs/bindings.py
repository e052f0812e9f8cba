"""Bindings of a registration (RFC 3261 section 10): whether a registrar took the one that was asked for.

A REGISTER proves nothing when it comes in, for anybody can send one in another's name, and neither does just any 2xx:
it may be of a server of the sender's own, or list what others have registered.
"""

from collections.abc import Iterator, Sequence

from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Request, Response
from sip.uri import parse_sip_uri


def is_bound(request: Request, response: Response, seen_at: str = "") -> bool:
    """True where a registrar's 2xx lists an address that the REGISTER asked for, and not as ended (section 10.3).

    seen_at: the address the REGISTER came from, which a registrar that rewrites Contacts for NAT may list instead.
    """
    asked = set(_bindings(request.values("contact")))
    return bool(asked) and any(
        binding in asked or binding[1] == seen_at for binding in _bindings(response.values("contact"))
    )


def _bindings(contacts: Sequence[bytes]) -> Iterator[tuple[bytes, str, int]]:
    """User, host and port of each Contact that has not ended."""
    for contact in contacts:
        try:
            named = parse_name_addr(contact)
            uri = parse_sip_uri(named.uri)
        except RemoteError:  # *, or another scheme
            continue
        if named.parameters.get("expires", b"").strip() != b"0":
            yield uri.user, uri.host.lower(), uri.port or (5061 if uri.scheme == "sips" else 5060)
