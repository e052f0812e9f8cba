"""Identity between trust domains: P-Asserted-Identity (RFC 3325), and what an Identity field signs (RFC 8224)."""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from enum import Enum

import orjson

from e911.numbers import canonical_user
from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Edits, Message, Request, Response
from sip.uri import scheme_of

KEY = "p-asserted-identity"


class Trust(Enum):
    """What the configuration says of a peer's part in our trust domain (RFC 3325 section 2.3)."""

    TRUSTED = "trusted"
    DISTRUSTED = "distrusted"
    NOT_SAID = "unsaid"


def asserted_onward(request: Request, *, source: Trust, target: Trust) -> Request:
    """An ordinary request as it goes on: with P-Asserted-Identity, or without."""
    if _stays(request, source, target):
        return request
    replace: dict[str, Sequence[bytes]] = {KEY: ()}
    drop_unsigned(request, replace)
    return request.edited(Edits(replace=replace))


def asserted_back(response: Response, *, source: Trust, target: Trust) -> Response:
    """The same for a response: who was reached is an identity, too (RFC 3325 section 5, RFC 5876)."""
    if not response.has(KEY) or _stays(response, source, target):
        return response
    return response.edited(Edits(replace={KEY: ()}))


def _stays(message: Message, source: Trust, target: Trust) -> bool:
    """Whether P-Asserted-Identity stays in a message.

    What a source outside the trust domain asserts is removed whoever it goes to (RFC 3325 section 5). Towards a peer
    outside it, it is removed unless `Privacy: none` forbids to (section 7). Where the configuration does not say, it
    goes on as it came, unless its sender asks for privacy: `Privacy: id` (section 9.3).
    """
    if source is Trust.DISTRUSTED:
        return False
    if target is Trust.TRUSTED:
        return True
    if target is Trust.DISTRUSTED:
        return b"none" in _privacy(message)
    return b"id" not in _privacy(message)


def _privacy(message: Message) -> set[bytes]:
    return {item.strip().lower() for line in message.all("privacy") for item in line.replace(b",", b";").split(b";")}


def drop_unsigned(request: Request, replace: dict[str, Sequence[bytes]]) -> None:
    """Have each Identity removed whose signed calling number is no longer in the request once `replace` is done.

    Any other is left as it is, what cannot be read too: a number that was not edited is none of our business.
    """
    if not request.has("identity") or (KEY not in replace and "from" not in replace):
        return
    before, after = set(), set()
    for key in (KEY, "from"):
        numbers = _numbers(request.values(key))
        before |= numbers
        after |= _numbers(line.partition(b":")[2] for line in replace[key]) if key in replace else numbers
    gone = before - after
    is_from_edited = "from" in replace and bool(_numbers(request.values("from")) - after)
    lines = request.lines("identity")
    kept = [line for line in lines if not (_signed_numbers(line) & gone or (is_from_edited and _is_compact(line)))]
    if len(kept) != len(lines):
        replace["identity"] = kept


def _numbers(values: Iterable[bytes]) -> set[str]:
    found = set()
    for value in values:
        try:
            uri = parse_name_addr(value).uri
        except RemoteError:
            continue
        rest = uri.decode("latin-1").partition(":")[2]
        user, at, _ = rest.rpartition("@")
        if at or scheme_of(uri) == "tel":
            found.add(canonical_user(user if at else rest))
    return found


def _is_compact(line: bytes) -> bool:
    """True for the compact form of a PASSporT (RFC 8224 section 4): what it signs is what From says."""
    parts = line.partition(b":")[2].partition(b";")[0].strip().strip(b'"').split(b".")
    return len(parts) == 3 and not parts[1]


def _signed_numbers(line: bytes) -> set[str]:
    """The calling number (`orig`) in the PASSporT of an Identity; none in its compact form, which signs From."""
    parts = line.partition(b":")[2].partition(b";")[0].strip().strip(b'"').split(b".")
    if len(parts) != 3 or not parts[1]:
        return set()
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)))
        number = claims["orig"]["tn"]
    except (ValueError, binascii.Error, KeyError, TypeError):
        return set()
    numbers = number if isinstance(number, list) else [number]
    return {canonical_user(item) for item in numbers if isinstance(item, str)}
