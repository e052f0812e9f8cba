"""Which calls are emergency calls, and when two spellings of a number are the same number.

Everything here is text in, text out, and never raises: it runs on the Request-URI of every INVITE, whatever
the sender put there.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

VISUAL_SEPARATORS = "-.() "
"""RFC 3966 section 5.1.1 visual separators, and the blank that people type between digits."""

_WITHOUT_SEPARATORS = str.maketrans("", "", VISUAL_SEPARATORS)
_DIALLED_SCHEMES = frozenset({"sip", "sips", "tel"})
_URN_END = re.compile(r"[;?#@/\s]")
_NANP = re.compile(r"(?:\+?1)?([2-9][0-9]{2}[2-9][0-9]{6})")
_DIGITS = re.compile(r"\+?[0-9]+")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_LONGEST_NEAR_MISS = 12
_E164 = re.compile(r"\+[1-9][0-9]{7,14}")


class CallKind(StrEnum):
    """What an INVITE is for."""

    EMERGENCY = "emergency"
    TEST = "test"
    ORDINARY = "ordinary"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyNumbers:
    """The dial strings that make an emergency call, and those that make a test of one (digits, * and #)."""

    emergency: frozenset[str]
    test: frozenset[str]


def classify(request_uri: str, numbers: EmergencyNumbers) -> CallKind:
    """What the INVITE with this Request-URI (text, as received) is for.

    An emergency is a user part, resolved, that is one of `numbers.emergency`, in a sip, sips or tel URI or
    where the scheme is missing, or the service URN `sos` and its children (RFC 5031); `urn:service:test.sos`
    (RFC 6881 section 15) is a test. A number in both lists is an emergency. `sip:911` without a host counts:
    911 cannot be a host name. Never raises.
    """
    dial_string = dialled(request_uri)
    if dial_string in numbers.emergency:
        return CallKind.EMERGENCY
    if dial_string in numbers.test:
        return CallKind.TEST
    if dial_string.startswith("urn:service:"):
        labels = dial_string[12:].split(".")
        if labels[0] == "sos":
            return CallKind.EMERGENCY
        if labels[:2] == ["test", "sos"]:
            return CallKind.TEST
    return CallKind.ORDINARY


def near_miss(dial_string: str, numbers: EmergencyNumbers) -> str:
    """The emergency number that an ordinary dial string may mean, with what some phones and PBXs put around it: up to
    three of digits, `*`, `#` and pauses before it, `#` and pauses behind it (`911#`, `1911`, `*911`, `9,911`). Else
    an empty string. The call is ordinary all the same: 1911 may be somebody's extension; only its engineer knows.
    """
    if len(dial_string) > _LONGEST_NEAR_MISS:
        return ""
    bare = dial_string.rstrip("#,pwPW")
    if bare in numbers.emergency and bare != dial_string:
        return bare
    for length in (1, 2, 3):
        before, number = bare[:length], bare[length:]
        if number in numbers.emergency and not before.strip("0123456789*#,pwPW"):
            return number
    return ""


def dialled(request_uri: str) -> str:
    """The dial string in a Request-URI: `911`, `urn:service:sos.fire`, or the user part as it resolves.

    Escapes are resolved once, user parameters and a password dropped; of a number also the visual separators
    and the leading +. A URN is lower-cased and cut at its parameters. Empty where there is no user part.
    """
    scheme, colon, rest = request_uri.partition(":")
    if not colon or scheme not in _DIALLED_SCHEMES:
        rest = _after_unusual_scheme(request_uri)
        if rest.startswith("urn:"):
            return rest
    user, at, _ = rest.partition("@")
    if user.isdigit():
        return user
    # The common number: +12125550123. Its canonical dial string is what follows the +.
    if user[1:].isdigit() and user[0] == "+":
        return user[1:]
    return _resolve(user, is_userinfo=bool(at))


def _after_unusual_scheme(request_uri: str) -> str:
    """What follows the scheme: of `SIP:`, of `<sip:…>`, of no scheme; a whole lower-case URN; else empty."""
    text = request_uri.strip().lstrip("<").partition(">")[0].strip()
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if colon and scheme in _DIALLED_SCHEMES:
        return rest
    if colon and scheme == "urn":
        urn = unquote(text, encoding="latin-1").lower()
        return _URN_END.split(urn, maxsplit=1)[0]
    if colon and scheme[:1].isalpha() and "@" not in scheme:
        return ""  # another scheme (or host:port): not a dial string
    return text


def _resolve(user: str, *, is_userinfo: bool) -> str:
    if not is_userinfo:
        # A host or a tel number: RFC 3261 puts parameters after ";" and headers after "?".
        user = user.partition("?")[0]
    user = user.removeprefix("//").partition(";")[0].partition(":")[0]
    if "%" in user:
        # Once only: %2539 is a literal %39. A client that escaped the ";" of its parameters is forgiven.
        user = unquote(user, encoding="latin-1").partition(";")[0]
    number = user.translate(_WITHOUT_SEPARATORS)
    if not is_userinfo and number != user and _is_host_name(user):
        return user
    if number[:1] == "+":
        number = number[1:]
    if number and not number.strip("0123456789*#"):
        return number
    return user


def _is_host_name(text: str) -> bool:
    """True for what has no user part and reads as an address: 9.1.1.0 is a host, 9.1.1. and 9-1-1 are not."""
    return _IPV4.fullmatch(text) is not None


def canonical_user(user: str) -> str:
    """The key under which a user part is matched: equal keys mean the same user.

    Escapes are resolved once and user parameters dropped. Of digits, with visual separators and perhaps a
    leading +, the separators go, and every spelling of a NANP number (10 digits, 1 and 10, +1 and 10) becomes
    `+1NXXNXXXXXX`. Anything else is text, lower-cased.
    """
    nanp = _NANP.fullmatch(user)
    if nanp:
        return "+1" + nanp[1]
    if user.isdigit():
        return user
    if ";" in user:
        user = user.partition(";")[0]
    if "%" in user:
        user = unquote(user, encoding="latin-1")
    number = user.translate(_WITHOUT_SEPARATORS)
    if not _DIGITS.fullmatch(number):
        return user.lower()
    nanp = _NANP.fullmatch(number)
    return "+1" + nanp[1] if nanp else number


def dialable(number: str) -> str:
    """The number as +E.164 where a PSAP can call it back, else an empty string.

    NANP numbers may come in any spelling, those of other countries only with their +. Area codes N11 do not
    exist, so neither 911 nor a number made of it ever passes.
    """
    number = canonical_user(number)
    if number.startswith("+1"):
        return number if len(number) == 12 and _NANP.fullmatch(number) and number[3:5] != "11" else ""
    return number if _E164.fullmatch(number) else ""
