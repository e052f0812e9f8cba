"""How sure a location source's answer is, in three words that people can act on.

high: somebody confirmed it, or the phone's own point of attachment says it. medium: it is seen near there, or said by
somebody who may not know better. low: assumed, or in doubt: ask the caller.
"""

from typing import Final

HIGH: Final = "high"
MEDIUM: Final = "medium"
LOW: Final = "low"

DAY: Final = 86_400.0
"""Seconds: what a phone or a server said longer ago may be of another place."""

_BY_REASON: Final = {
    "conveyed-by-value": HIGH,
    "conveyed-by-reference": HIGH,
    "held-answered": HIGH,
    "held-kept": MEDIUM,
    "wiremap-port": HIGH,
    "wiremap-switch": MEDIUM,
    "wiremap-bssid": MEDIUM,
    "zone-network": MEDIUM,
    "site-network": LOW,
    "registered-device": HIGH,
    "location-unconfirmed": LOW,
    "location-expired": LOW,
    "site-address": LOW,
}
_AGES = frozenset({"conveyed-by-value", "conveyed-by-reference", "held-kept"})
"""Reasons of answers that were made elsewhere, and may be old."""


def confidence_of(reason: str, as_of: float, now: float, *, moves: bool = False, is_doubtful: bool = False) -> str:
    """The confidence of an answer with this reason, from `as_of` (0: not known), at `now`.

    moves: it is the registration of a device that is carried about. is_doubtful: it is in doubt, or
    the location validation function knows no such address.
    """
    if is_doubtful:
        return LOW
    found = _BY_REASON.get(reason, MEDIUM)
    if found is HIGH and moves:
        found = MEDIUM
    if reason in _AGES and as_of and now - as_of > DAY:
        return MEDIUM if found is HIGH else LOW
    return found
