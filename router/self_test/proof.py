"""How the call process knows a test call of our own: a header field that says which site and route are tried.

Only who can read the state directory can make one: it carries a keyed hash, of this call alone and for a minute. It
is taken off before the call goes on, and means nothing on any call but one to a test number.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

from sip.message import Request

FIELD = "Edge911-Self-Test"
KEY = FIELD.lower()
VALID_SECONDS = 60.0
_VALUE = re.compile(r"site=([^;=\s]*);route=([^;=\s]*);at=(\d{1,12});proof=([0-9a-f]{40})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be tried; an empty name leaves the choice to the usual rules."""

    site: str
    route: str


def field_value(key: bytes, asked: Asked, call_id: str, from_tag: str, at: float) -> str:
    """The value of the field. at: now, seconds since 1970."""
    proof = _proof(key, asked.site, asked.route, str(int(at)), call_id, from_tag)
    return f"site={asked.site};route={asked.route};at={int(at)};proof={proof}"


def asked_by(key: bytes, request: Request, now: float) -> Asked | None:
    """What a test call of our own asks for; None for anybody else's, an old one, and one that was changed."""
    value = request.first(KEY)
    if value is None:
        return None
    match = _VALUE.fullmatch(value.decode("latin-1").strip())
    if match is None or abs(now - int(match[3])) > VALID_SECONDS:
        return None
    site, route, at, proof = match.groups()
    wanted = _proof(key, site, route, at, request.call_id.decode("latin-1"), request.from_tag.decode("latin-1"))
    return Asked(site=site, route=route) if hmac.compare_digest(proof, wanted) else None


def _proof(key: bytes, *parts: str) -> str:
    data = "\0".join(parts).encode("latin-1", "replace")
    return hashlib.blake2b(data, key=key[:64], digest_size=20, person=b"edge911 selftest").hexdigest()
