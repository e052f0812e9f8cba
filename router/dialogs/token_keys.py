"""The keys of the tokens that we put into messages and must know again: Record-Route, Path, Contact.

They stand in `token-keys` in the state directory, one to a line: `now HEX DATE` signs; `next` and `old` only verify,
so that a change of key loses no call and no registration. Without the file one key serves, derived from the
node's own. Nodes that stand in for each other have the same `key` and the same `token-keys`.
"""

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

FILE = "token-keys"
KEPT = 2
"""So many old keys still verify: registrations and calls of the day before yesterday are over."""
_STATES = ("now", "next", "old")
_TITLE = '# edge911 token keys: `now` signs, `next` and `old` only verify. See docs/operations.md, "Keys".\n'


class TokenKeysError(Exception):
    """The file cannot be used or written; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key, and since when it has its state (a date as text)."""

    state: str
    """`now`, `next` or `old`."""
    key: bytes
    since: str = ""

    @property
    def fingerprint(self) -> str:
        """What the key may be called aloud."""
        return hashlib.blake2b(self.key, digest_size=4, person=b"fingerprint").hexdigest()


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Those in use: the first signs, all verify."""

    keys: tuple[bytes, ...]

    @property
    def signing(self) -> bytes:
        """The key of new tokens."""
        return self.keys[0]


def derived_key(node_key: bytes) -> bytes:
    """The key of a node that has no `token-keys` file."""
    return hashlib.blake2b(b"", key=node_key, digest_size=32, person=b"token keys").digest()


def load_token_keys(directory: Path, node_key: bytes) -> tuple[TokenKeys, str]:
    """The keys in use; and what is wrong with the file, or an empty string: then the derived key serves."""
    problem = ""
    found: list[TokenKey] = []
    try:
        found = read_token_keys(directory, node_key)
    except TokenKeysError as error:
        problem = str(error)
    if not found:
        return TokenKeys((derived_key(node_key),)), problem
    ordered = sorted(found, key=lambda one: one.state != "now")
    return TokenKeys(tuple(one.key for one in ordered)), ""


def read_token_keys(directory: Path, node_key: bytes) -> list[TokenKey]:
    """Every key, as the file has them; the derived one where there is none. Raises TokenKeysError."""
    path = directory / FILE
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return [TokenKey("now", derived_key(node_key))]
    except (OSError, UnicodeError) as error:
        raise TokenKeysError(f"{path}: {error}") from None
    found = [_read_line(path, number, line) for number, line in enumerate(text.splitlines(), 1) if _has_key(line)]
    if [one.state for one in found].count("now") != 1:
        raise TokenKeysError(f"{path}: exactly one line must begin with `now`")
    return found


def _has_key(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _read_line(path: Path, number: int, line: str) -> TokenKey:
    state, _, rest = line.strip().partition(" ")
    text, _, since = rest.strip().partition(" ")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if state not in _STATES or not 16 <= len(key) <= 64:
        raise TokenKeysError(f"{path}:{number}: not `now`, `next` or `old` and 16 to 64 bytes in hexadecimal")
    return TokenKey(state, key, since.strip())


def prepared(found: list[TokenKey], today: str) -> list[TokenKey]:
    """With a key that verifies and does not sign yet: the first of two steps where several nodes share their keys."""
    if any(one.state == "next" for one in found):
        return found
    return [*found, TokenKey("next", secrets.token_bytes(32), today)]


def rotated(found: list[TokenKey], today: str) -> list[TokenKey]:
    """The prepared key, or a new one, signs; the one until now only verifies; the oldest go."""
    now = next(one for one in found if one.state == "now")
    following = next((one for one in found if one.state == "next"), None)
    new = following.key if following is not None else secrets.token_bytes(32)
    old = [TokenKey("old", now.key, today), *(one for one in found if one.state == "old")]
    return [TokenKey("now", new, today), *old[:KEPT]]


def write_token_keys(directory: Path, keys: list[TokenKey]) -> None:
    """Write the file whole, readable by its user alone. Raises TokenKeysError."""
    path = directory / FILE
    written = path.with_name(f"{FILE}.{os.getpid()}.new")
    lines = [f"{one.state} {one.key.hex()} {one.since}".rstrip() + "\n" for one in keys]
    try:
        with open(written, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(_TITLE + "".join(lines))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            owner = path.stat()
            with contextlib.suppress(OSError):
                os.chown(written, owner.st_uid, owner.st_gid)
        written.replace(path)
    except OSError as error:
        raise TokenKeysError(f"{path}: {error.strerror or error}; make the state directory writable") from None
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)
