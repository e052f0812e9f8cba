"""Links in notices: to a call in the console, and to acknowledge it without an account.

The second is signed and ends by itself. Opening it acknowledges nothing: mail scanners open links. A button does.
"""

import base64
import hashlib
import hmac
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from config.schema import Config
from router.process.key import load_key

VALID_SECONDS = 7 * 86_400
SECRET_FILE = "link-secret"
"""The secret that nodes sharing a database share, as last read from it."""
_SIGNATURE_BYTES = 15
_DAY = 3600


@dataclass(frozen=True, slots=True)
class LinksWords:
    """What stands before a link."""

    call: str
    acknowledge: str


_WORDS = {
    "en": LinksWords(call="In the console:", acknowledge="Acknowledge:"),
    "fr": LinksWords(call="Dans la console :", acknowledge="Confirmer :"),
}


def links_words(language: str) -> LinksWords:
    """The words in a language."""
    return _WORDS.get(language, _WORDS["en"])


class Claim(NamedTuple):
    """What a signed link says."""

    call: str
    contact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes links and reads signed ones. Without a console there are none."""

    base: str = ""
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    """The first signs; all are believed."""

    def call_url(self, call: str) -> str:
        """The page of a call; empty without a console."""
        return f"{self.base}/calls/{quote(call, safe='')}" if self.base else ""

    def acknowledge_url(self, call: str, contact: str, now: float) -> str:
        """The signed link of a contact; the same within an hour, valid for VALID_SECONDS after it. Empty without a
        console or a secret."""
        if not self.base or not self.secrets:
            return ""
        expires = (int(now) // _DAY + 1) * _DAY + VALID_SECONDS
        signature = _signature(self.secrets[0], call, contact, expires)
        return f"{self.base}/ack/{quote(call, safe='')}/{quote(contact, safe='')}/{expires:x}/{signature}"

    def read(self, call: str, contact: str, expires: str, signature: str, now: float) -> Claim | str:
        """What a signed link says, from its parts; or `link-invalid` or `link-expired`."""
        try:
            until = int(expires, 16) if len(expires) <= 12 else -1
        except ValueError:
            return "link-invalid"
        given = signature.encode("utf-8", "surrogatepass")
        good = [
            hmac.compare_digest(_signature(secret, call, contact, until).encode(), given) for secret in self.secrets
        ]
        if not any(good):
            return "link-invalid"
        return Claim(call, contact) if now < until else "link-expired"


def links_for(config: Config, state_directory: Path) -> Links:
    """The links of this node. Never raises."""
    return Links(base=base_url(config), secrets=secrets_of(state_directory, config.node))


def base_url(config: Config) -> str:
    """How browsers reach the console: `console.public_url`, else where it listens; empty without a console."""
    console = config.console
    if console is None:
        return ""
    if console.public_url:
        return console.public_url.rstrip("/")
    parts = urlsplit(console.listen)
    host = parts.hostname or ""
    try:
        everywhere = ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    if everywhere:
        host = socket.gethostname()
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def secrets_of(state_directory: Path, node: str) -> tuple[bytes, ...]:
    """The secret shared with other nodes where it is known, and the one of this node alone."""
    key, _ = load_key(state_directory, node)
    own = hashlib.blake2b(b"links", key=key[:64], digest_size=32).digest()
    try:
        shared = (state_directory / SECRET_FILE).read_bytes()
    except OSError:
        shared = b""
    return (shared, own) if len(shared) >= 16 else (own,)


def keep_secret(state_directory: Path, secret: bytes) -> None:
    """Keep the shared secret for when there is no database. Never raises."""
    path = state_directory / SECRET_FILE
    written = path.with_suffix(".new")
    with suppress(OSError):
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(secret)
        written.replace(path)


def _signature(secret: bytes, call: str, contact: str, expires: int) -> str:
    text = "\n".join((call, contact, str(expires))).encode("utf-8", "surrogatepass")
    digest = hmac.new(secret, text, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
    return base64.urlsafe_b64encode(digest).decode()
