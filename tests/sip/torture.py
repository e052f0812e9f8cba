"""The messages of RFC 4475 and RFC 5118, and what this router makes of each (table of the reference data).

`A` forwarded (for a response: handed to the TU, or dropped where its top Via is not ours); `R` refused with a status
and a reason; `D` dropped without an answer. Lenient branches taken, each cheap and safe for an emergency call:
ltgtruri (brackets taken off), lwsstart and trws (spaces mended), badaspec, baddate, regbadct (fields that a proxy
does not read), baddn (quotes put), badbranch (RFC 2543 matching), escruri (the header part is dropped; it never
becomes a header), ipv6-bug-abnf-3-colons. Everything else marked R in the reference is refused.
"""

from pathlib import Path
from typing import NamedTuple

from sip.errors import Reason

DATA = Path(__file__).parents[1] / "data" / "torture"


class Expected(NamedTuple):
    """What becomes of one message. status: of our answer; 0 where it is forwarded, delivered or dropped."""

    verdict: str
    status: int = 0
    reason: Reason | None = None
    by: str = "parse"
    """Who finds it: `parse` (parse_message), `check` (check_request), `proxy` (section 16.3 in the TU)."""


A = Expected("A")


def _r(status: int, reason: Reason, by: str = "check") -> Expected:
    return Expected("R" if status else "D", status, reason, by)


RFC4475 = {
    "wsinv": A,
    "intmeth": A,
    "esc01": A,
    "escnull": A,
    "esc02": A,
    "lwsdisp": A,
    "longreq": A,
    "dblreq": A,
    "semiuri": A,
    "transports": A,
    "mpart01": A,
    "unreason": A,
    "noreason": A,
    "badinv01": _r(400, Reason.BAD_VIA),
    "clerr": _r(400, Reason.BODY_INCOMPLETE),
    "ncl": _r(400, Reason.BAD_CONTENT_LENGTH),
    "scalar02": _r(400, Reason.BAD_CSEQ),
    "scalarlg": _r(0, Reason.BAD_CSEQ),
    "quotbal": _r(400, Reason.BAD_ADDRESS),
    "ltgtruri": A,
    "lwsruri": _r(400, Reason.BAD_START_LINE, "check"),
    "lwsstart": A,
    "trws": A,
    "escruri": A,
    "baddate": A,
    "regbadct": A,
    "badaspec": A,
    "baddn": A,
    "badvers": _r(505, Reason.BAD_VERSION, "parse"),
    "mismatch01": _r(400, Reason.CSEQ_METHOD_MISMATCH),
    "mismatch02": _r(501, Reason.CSEQ_METHOD_MISMATCH),
    "bigcode": _r(0, Reason.BAD_STATUS, "parse"),
    "badbranch": A,
    "insuf": _r(400, Reason.MISSING_FIELD),
    "unkscm": _r(416, Reason.UNSUPPORTED_SCHEME, "proxy"),
    "novelsc": _r(416, Reason.UNSUPPORTED_SCHEME, "proxy"),
    "unksm2": A,
    "bext01": _r(420, Reason.BAD_EXTENSION, "proxy"),
    "invut": A,
    "regaut01": A,
    "multi01": _r(400, Reason.REPEATED_FIELD),
    "mcl01": _r(400, Reason.REPEATED_FIELD),
    "bcast": A,
    "zeromf": _r(483, Reason.TOO_MANY_HOPS, "proxy"),
    "cparam01": A,
    "cparam02": A,
    "regescrt": A,
    "sdp01": A,
    "inv2543": A,
}
RFC5118 = {
    "ipv6-good": A,
    "ipv6-bad": _r(400, Reason.BAD_REQUEST_URI, "proxy"),
    "port-ambiguous": A,
    "port-unambiguous": A,
    "via-received-param-with-delim": A,
    "via-received-param-no-delim": A,
    "ipv6-in-sdp": A,
    "mult-ip-in-header": A,
    "mult-ip-in-sdp": A,
    "ipv4-mapped-ipv6": A,
    "ipv6-bug-abnf-3-colons": A,
    "ipv6-correct-abnf-2-colons": A,
}

EXPECTED: dict[str, Expected] = {
    **{f"rfc4475/{name}": expected for name, expected in RFC4475.items()},
    **{f"rfc5118/{name}": expected for name, expected in RFC5118.items()},
}

SDP_LENGTHS_SHORT = {"rfc5118/ipv6-in-sdp", "rfc5118/mult-ip-in-sdp", "rfc5118/ipv4-mapped-ipv6"}
"""Their Content-Length is shorter than the body: what follows is trailing bytes."""


def read(name: str) -> bytes:
    """The bytes of one message, `rfc4475/wsinv` for instance."""
    return (DATA / f"{name}.dat").read_bytes()
