"""The node's key: secret bytes from which branches, tags and record ids are derived; kept for good."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

KEY_BYTES = 32


def load_key(directory: Path, node: str) -> tuple[bytes, str]:
    """The key in `key` of the state directory, made at the first start; and what is wrong, or an empty string.

    Where it can be neither read nor made, a key derived from the node's name serves: it is the same after a
    restart, which is what an emergency call in progress needs, but it is no secret.
    """
    path = directory / "key"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        key = path.read_bytes()
        if len(key) >= 16:
            return key[:64], ""
        problem = f"{path} holds fewer than 16 bytes; remove it to have a new one made"
    except OSError as error:
        problem = f"{path}: {error.strerror or error}; make the state directory writable"
    return hashlib.blake2b(node.encode(), digest_size=KEY_BYTES, person=b"edge911 no key").digest(), problem


def _make(path: Path) -> None:
    """Write a new key, whole and on the disk, then give it its name: a crash or a full disk leaves no half of one.

    Where another process is first, its key stays. Raises OSError.
    """
    written = path.with_name(f"key.{os.getpid()}.new")
    written.unlink(missing_ok=True)
    try:
        with open(written, "xb", opener=_private) as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(written, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                written.rename(path)
    finally:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
