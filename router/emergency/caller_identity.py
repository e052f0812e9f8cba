"""Who calls, as the request says, and the record id of a call."""

import re

from e911.locate import CallerIdentity
from router.network.sources import Source
from sip.errors import RemoteError
from sip.headers import NameAddr, parse_name_addr
from sip.keyed_hash import keyed_hash
from sip.message import Request
from sip.uri import scheme_of


def identify(request: Request, source: Source) -> tuple[CallerIdentity, str]:
    """Who calls: P-Asserted-Identity where the source is trusted, else From, else Contact (RFC 3325, design)."""
    key = "p-asserted-identity" if source.trust_identity and request.has("p-asserted-identity") else "from"
    first = request.first(key)
    usual = None if first is None else _usual_identity(first, key)
    if usual is not None:
        return usual, key
    candidates: list[tuple[str, list[bytes]]] = []
    if source.trust_identity:
        candidates.append(("p-asserted-identity", request.values("p-asserted-identity")))
    candidates.append(("from", request.all("from")))
    candidates.append(("contact", request.values("contact")))
    fallback: CallerIdentity | None = None
    for name, values in candidates:
        for value in values:
            identity = _identity(value, name)
            if identity is None:
                continue
            if identity.user and identity.user.lower() != "anonymous":
                return identity, name
            fallback = fallback or identity
    return fallback or CallerIdentity(user="", host="", display_name="", source="from"), "from"


# "Name" <sip:user@host>;... as nearly every phone writes it: read at a fifth of the price.
_USUAL_IDENTITY = re.compile(
    rb'(?:"([ -!#-\[\]-~]*)" *)?<sip:([0-9A-Za-z+._-]+)@([0-9A-Za-z.-]*[0-9A-Za-z])(?::[0-9]{1,5})?'
    rb'(?:;[^<>?" ]*)?>(?:;[^"<>,]*)?'
)


def _usual_identity(value: bytes, source: str) -> CallerIdentity | None:
    match = _USUAL_IDENTITY.fullmatch(value)
    if match is None:
        return None
    name, user, host = match.groups()
    if user[:9].lower() == b"anonymous":
        return None
    return CallerIdentity(
        user=user.decode("ascii"),
        host=host.decode("ascii").lower(),
        display_name="" if name is None else name.decode("ascii"),
        source=source,
    )


def _identity(value: bytes, source: str) -> CallerIdentity | None:
    try:
        address = parse_name_addr(value)
    except RemoteError:
        return None
    user, host = _user_and_host(address)
    return CallerIdentity(user=user, host=host, display_name=address.display_name, source=source)


def _user_and_host(address: NameAddr) -> tuple[str, str]:
    if scheme_of(address.uri) == "tel":
        return address.uri[4:].partition(b";")[0].decode("latin-1"), ""
    try:
        uri = address.sip_uri()
    except RemoteError:
        user, at, host = address.uri.rpartition(b":")[2].rpartition(b"@")
        return (user if at else host).decode("latin-1"), ""
    return uri.user.decode("latin-1"), uri.host


def call_id_of(key: bytes, request: Request) -> str:
    """The record id: derived, so that an INVITE retransmitted to a restarted router is the same call."""
    via = request.via
    seed = b"\0".join((request.call_id, request.from_tag, b"%d" % request.cseq, via.branch, via.sent_by))
    return keyed_hash(key, 10, seed, b"call record")
