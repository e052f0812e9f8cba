"""Signed links on which the user of one phone says where it is: no account, one device, an end.

`BASE/where/TOKEN`: the token holds device and end, and is signed with the secret that the nodes of a database share.
Whoever has the link can change that one device's location, and learns nothing about any other. The signature is also
of name and mail address: when a number changes hands, links of whoever had it before are over.
"""

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final

from e911.location import Device

_SIGNATURE: Final = 16
"""Bytes of the signature."""
_LONGEST: Final = 600
_CONTEXT: Final = b"where-is-this-phone\n"


def link_to(base: str, secret: bytes, device: Device, expires_at: float) -> str:
    """The link for a device, good until `expires_at` (seconds since 1970)."""
    return f"{base}/where/{token_of(secret, device, expires_at)}"


def token_of(secret: bytes, device: Device, expires_at: float) -> str:
    """What stands in the link."""
    said = struct.pack(">I", min(int(expires_at), 0xFFFFFFFF)) + device.device.encode("utf-8", "replace")
    return base64.urlsafe_b64encode(_signature(secret, said, device) + said).decode("ascii").rstrip("=")


def device_in(
    secrets: tuple[bytes, ...], token: str, now: float, find: Callable[[str], Device | None]
) -> Device | None:
    """The device that a token is of; None where it is not ours, was changed, or has ended. find: by name."""
    if not token.isascii() or len(token) > _LONGEST:
        return None
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    if base64.urlsafe_b64encode(data).decode("ascii").rstrip("=") != token:
        return None  # one spelling for each token
    signature, said = data[:_SIGNATURE], data[_SIGNATURE:]
    if len(said) <= 4 or struct.unpack(">I", said[:4])[0] <= now:
        return None
    device = find(said[4:].decode("utf-8", "replace"))
    if device is None:
        return None
    good = [hmac.compare_digest(_signature(secret, said, device), signature) for secret in secrets]
    return device if any(good) else None


def _signature(secret: bytes, said: bytes, device: Device) -> bytes:
    owner = f"{device.name}\n{device.email}\n".encode("utf-8", "replace")
    text = _CONTEXT + struct.pack(">I", len(owner)) + owner + said
    return hmac.new(secret, text, hashlib.sha256).digest()[:_SIGNATURE]


def link_text(language: str, name: str, url: str) -> tuple[str, str]:
    """Subject and text that go with a link; in both languages where nobody said which."""
    en = (
        "Where is your phone? 911 needs to know",
        f"Your phone ({name}) was used on a new network. If you dial 911, help is sent to the address on file, which "
        f"may be wrong now. Say where the phone is: {url}",
    )
    fr = (
        "Où est votre téléphone? Le 911 doit le savoir",
        f"Votre téléphone ({name}) a été utilisé sur un nouveau réseau. Si vous composez le 911, les secours sont "
        f"envoyés à l'adresse au dossier, peut-être périmée. Indiquez où il se trouve : {url}",
    )
    if language in ("en", "fr"):
        return en if language == "en" else fr
    return f"{en[0]} / {fr[0]}", f"{en[1]}\n\n{fr[1]}"
