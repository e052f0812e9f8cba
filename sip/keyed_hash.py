"""Keyed hashes, begun once: BLAKE2b reads its key first, which costs half of hashing a short text.

Tokens, branches and record ids are such hashes, several for each call.
"""

import hashlib
from functools import lru_cache


@lru_cache(maxsize=64)
def _begun(key: bytes, size: int, purpose: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(key=key, digest_size=size, person=purpose)


def keyed_hash(key: bytes, size: int, data: bytes, purpose: bytes = b"") -> str:
    """BLAKE2b of data (RFC 7693) with this key, `size` bytes as hexadecimal digits. purpose, up to 16 bytes, keeps
    hashes of different things apart."""
    digest = _begun(key, size, purpose).copy()
    digest.update(data)
    return digest.hexdigest()
