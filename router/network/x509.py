"""The one thing we must know of a certificate that Python's ssl tells only of verified peers: when it ends."""

from datetime import UTC, datetime

_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18


def not_after(certificate: bytes) -> float:
    """When a certificate (DER) ends, seconds since 1970 (RFC 5280 section 4.1.2.5).

    Raises ValueError where it is none.

    Certificate ::= SEQUENCE {tbsCertificate SEQUENCE {[0] version OPTIONAL, serialNumber, signature, issuer,
    validity SEQUENCE {notBefore Time, notAfter Time}, ...}, ...}
    """
    _, start, _ = _element(certificate, 0, _SEQUENCE)
    _, at, _ = _element(certificate, start, _SEQUENCE)
    tag, _, end = _element(certificate, at)
    for _ in range(4 if tag == _VERSION else 3):  # version, serialNumber, signature, issuer
        at = end
        _, _, end = _element(certificate, at)
    _, at, _ = _element(certificate, at, _SEQUENCE)
    _, _, at = _element(certificate, at)
    tag, start, end = _element(certificate, at)
    text = certificate[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits: 50 to 99 are of the last century
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time where notAfter should be")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(data: bytes, at: int, wanted: int | None = None) -> tuple[int, int, int]:
    """Tag, beginning of the content and its end, of the DER element at a position."""
    if len(data) < at + 2:
        raise ValueError("cut off")
    tag, length, start = data[at], data[at + 1], at + 2
    if length >= 0x80:
        size = length - 0x80
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if len(data) < start + length or (wanted is not None and tag != wanted):
        raise ValueError("not a certificate")
    return tag, start, start + length
