"""Files that somebody sent and whose plan they look at: kept until they say yes, packed, in memory of the console.

A restart of the console forgets them, and another node does not have them: the file is then sent once more.
"""

import secrets
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_BYTES = 128 * 1024 * 1024
"""So much is kept, packed; the oldest goes first."""
SECONDS = 3600.0
"""How long one is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as it was sent."""

    username: str
    table: str
    file_name: str
    is_yaml: bool
    replace: bool
    """Also take away what is not in the file."""
    packed: bytes
    at: float
    """By the monotonic clock, in seconds."""

    @classmethod
    def of(
        cls,
        username: str,
        table: str,
        file_name: str,
        data: bytes,
        *,
        is_yaml: bool,
        replace: bool,
        at: float | None = None,
    ) -> "Upload":
        """A file that has just come, `data` not packed."""
        return cls(
            username=username,
            table=table,
            file_name=file_name,
            is_yaml=is_yaml,
            replace=replace,
            packed=zlib.compress(data, 1),
            at=time.monotonic() if at is None else at,
        )

    @property
    def data(self) -> bytes:
        """What is in it."""
        return zlib.decompress(self.packed)


class Uploads:
    """Those that wait, one for each user and table. For many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, made: Upload) -> str:
        """Keep a file; gives the word it is asked for with."""
        word = secrets.token_urlsafe(18)
        with self._lock:
            earlier = [key for key, one in self._kept.items() if _whose(one) == _whose(made)]
            for key in [*earlier, *self._expired()]:
                self._kept.pop(key, None)
            self._kept[word] = made
            while len(self._kept) > 1 and sum(len(one.packed) for one in self._kept.values()) > MOST_BYTES:
                self._kept.popitem(last=False)
        return word

    def find(self, word: str, username: str, table: str) -> Upload | None:
        """The file of that word, where it is this user's and still kept."""
        with self._lock:
            for key in self._expired():
                self._kept.pop(key, None)
            found = self._kept.get(word)
        return found if found is not None and _whose(found) == (username, table) else None

    def forget(self, word: str) -> None:
        """It is not needed any more."""
        with self._lock:
            self._kept.pop(word, None)

    def _expired(self) -> list[str]:
        return [key for key, one in self._kept.items() if one.at + SECONDS <= self._clock()]


def _whose(upload: Upload) -> tuple[str, str]:
    return upload.username, upload.table
