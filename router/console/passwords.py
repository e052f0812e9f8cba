"""Passwords: argon2id (RFC 9106), so slow that guessing is dear, and few at a time: guessers cost us little."""

import threading
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE = 2
MEMORY_KIB = 65_536
WAIT_SECONDS = 3.0

_turns = threading.BoundedSemaphore(AT_ONCE)


class BusyError(Exception):
    """Too many passwords are being looked at; try again in some seconds."""


def hash_password(password: str) -> str:
    """The hash to keep."""
    return _hasher().hash(password)


def is_password(password: str, password_hash: str) -> bool:
    """True where it is the one that was hashed. Takes as long where there is no hash. Raises BusyError."""
    if not _turns.acquire(timeout=WAIT_SECONDS):
        raise BusyError
    try:
        _hasher().verify(password_hash or _hash_of_nothing(), password)
        return bool(password_hash)
    except (VerificationError, InvalidHashError):
        return False
    finally:
        _turns.release()


def is_outdated(password_hash: str) -> bool:
    """True where it was made with other parameters than today's."""
    return _hasher().check_needs_rehash(password_hash)


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=3, memory_cost=MEMORY_KIB, parallelism=1)


@cache
def _hash_of_nothing() -> str:
    return _hasher().hash("nobody has this one")
