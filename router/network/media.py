"""Private addresses in SDP towards public trunks: seen and said, never edited (media is not ours)."""

import re

from config.schema import Trunk
from router.network.listening import is_public

PRIVATE_MEDIA = "private-media-address"
"""The reason's name in records, `explain` and metrics."""

# The networks of config.addresses.PRIVATE, as they stand in connection lines (RFC 8866 section 5.7).
_PRIVATE_CONNECTION = re.compile(
    rb"c=IN IP4 (?:10|127|169\.254|192\.168|172\.(?:1[6-9]|2\d|3[01])|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\."
    rb"|c=IN IP6 (?:f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:|::1\s)",
    re.IGNORECASE,
)


def names_private_media(body: bytes) -> bool:
    """True where SDP, alone or as a part, names a private address for media."""
    return _PRIVATE_CONNECTION.search(body) is not None


def warns_of_media(trunk: Trunk, host: str, body: bytes) -> bool:
    """True where a message to this address of a trunk asks for media at an address that means nothing there."""
    return trunk.private_media == "warn" and is_public(host) and names_private_media(body)
