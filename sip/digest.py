"""Answering digest challenges (RFC 3261 section 22, RFC 7616, RFC 8760): bytes in, header lines out.

The client nonce is given by the caller, so that the same challenge gets the same answer again.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sip.message import Response

_PARAMETER = re.compile(rb'([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]*)')
_HASHES: dict[str, Callable[[bytes], "hashlib._Hash"]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "SHA-256": hashlib.sha256,
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data),
}
_FIELDS = (("www-authenticate", b"Authorization"), ("proxy-authenticate", b"Proxy-Authorization"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a peer."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge that we can answer. Texts are as in the quoted strings, escapes included."""

    answer_field: bytes
    """Name of the field that the answer goes in."""
    realm: bytes
    nonce: bytes
    opaque: bytes | None
    algorithm: str
    """`MD5`, `SHA-256` or `SHA-512-256`, with `-sess` where the challenge says so; as RFC 8760 writes it."""
    names_algorithm: bool
    qop: bytes
    """`auth`, `auth-int`, or empty: a challenge in the form of RFC 2069."""
    stale: bool
    """True where the credentials were good and only the nonce was too old."""


def challenges_of(response: Response) -> list[Challenge]:
    """The challenges of a 401 or 407 to be answered: of each realm the topmost that we can (RFC 8760 section 2.4)."""
    found: dict[tuple[bytes, bytes], Challenge] = {}
    for key, answer_field in _FIELDS:
        for value in response.all(key):
            challenge = _challenge(value, answer_field)
            if challenge is not None:
                found.setdefault((answer_field, challenge.realm), challenge)
    return list(found.values())


def answer(
    challenge: Challenge, credentials: Credentials, *, method: bytes, uri: bytes, body: bytes, cnonce: bytes
) -> bytes:
    """The header line that answers a challenge, for a request with this method, Request-URI and body.

    It is the first request with this nonce (nc=00000001).
    """
    base = challenge.algorithm.removesuffix("-sess")
    is_session = challenge.algorithm != base

    def hashed(data: bytes) -> bytes:
        return _HASHES[base](data).hexdigest().encode()

    username, password = _quoted(credentials.username), credentials.password.encode()
    secret = hashed(b"%b:%b:%b" % (username, challenge.realm, password))
    if is_session:
        secret = hashed(b"%b:%b:%b" % (secret, challenge.nonce, cnonce))
    request = b"%b:%b" % (method, uri)
    if challenge.qop == b"auth-int":
        request += b":" + hashed(body)
    count = b"00000001"
    middle = b"%b:%b:%b" % (count, cnonce, challenge.qop) if challenge.qop else b""
    parts = [secret, challenge.nonce, *([middle] if middle else []), hashed(request)]
    items = [
        b'username="%b"' % username,
        b'realm="%b"' % challenge.realm,
        b'nonce="%b"' % challenge.nonce,
        b'uri="%b"' % uri,
        b'response="%b"' % hashed(b":".join(parts)),
    ]
    if challenge.names_algorithm:
        items.append(b"algorithm=" + challenge.algorithm.encode())
    if challenge.qop or is_session:
        items.append(b'cnonce="%b"' % cnonce)
    if challenge.qop:
        items += [b"qop=" + challenge.qop, b"nc=" + count]
    if challenge.opaque is not None:
        items.append(b'opaque="%b"' % challenge.opaque)
    return b"%b: Digest %b" % (challenge.answer_field, b", ".join(items))


def _challenge(value: bytes, answer_field: bytes) -> Challenge | None:
    """A challenge, where it is one for Digest that we can answer."""
    scheme, _, rest = value.strip().partition(b" ")
    if scheme.lower() != b"digest":
        return None
    parameters: dict[bytes, bytes] = {}
    for name, text in _PARAMETER.findall(rest):
        parameters.setdefault(name.lower(), text[1:-1] if text.startswith(b'"') else text)
    realm, nonce = parameters.get(b"realm"), parameters.get(b"nonce")
    algorithm = _algorithm(parameters.get(b"algorithm", b"MD5"))
    qop = _qop(parameters.get(b"qop"))
    if realm is None or nonce is None or algorithm is None or qop is None:
        return None
    return Challenge(
        answer_field=answer_field,
        realm=realm,
        nonce=nonce,
        opaque=parameters.get(b"opaque"),
        algorithm=algorithm,
        names_algorithm=b"algorithm" in parameters,
        qop=qop,
        stale=parameters.get(b"stale", b"").lower() == b"true",
    )


def _algorithm(text: bytes) -> str | None:
    name = text.decode("latin-1").upper()
    base = name.removesuffix("-SESS")
    if base not in _HASHES or (base == "SHA-512-256" and "sha512_256" not in hashlib.algorithms_available):
        return None
    return base + ("-sess" if name != base else "")


def _qop(text: bytes | None) -> bytes | None:
    """The quality of protection to use; None where the challenge offers none that we know."""
    if text is None:
        return b""
    offered: Sequence[bytes] = [item.strip().lower() for item in text.split(b",")]
    return next((known for known in (b"auth", b"auth-int") if known in offered), None)


def _quoted(text: str) -> bytes:
    """Text as it stands in a quoted string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').encode()
