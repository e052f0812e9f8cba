"""The node's key: secret bytes from which branches, tags and record ids are derived; kept for good."""

import hashlib
import logging
import os
import secrets
from pathlib import Path

log = logging.getLogger(__name__)

KEY_BYTES = 32


def load_key(directory: Path, node: str) -> tuple[bytes, str]:
    """The key in `key` of the state directory, made at the first start; and what is wrong, or an empty string.

    Where it can be neither read nor made, a key derived from the node's name serves: it is the same after a
    restart, which is what an emergency call in progress needs, but it is no secret.
    """
    path = directory / "key"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
        if len(key) >= 16:
            return key[:64], ""
        problem = f"{path} holds fewer than 16 bytes; remove it to have a new one made"
    except OSError as error:
        problem = f"{path}: {error.strerror or error}; make the state directory writable"
    return hashlib.blake2b(node.encode(), digest_size=KEY_BYTES, person=b"edge911 no key").digest(), problem
