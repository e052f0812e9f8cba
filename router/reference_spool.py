"""What location references stand for, handed from the call process to the process that answers them.

Before an INVITE with a reference leaves, one line is appended to a file of numbered segments in `references/` of the
state directory: one write(2), as with the journal. The other process reads it when it is asked, if not before.
Of the reference only a hash is written: who reads the file, or the database, cannot ask in its name.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from router.segments import START, LineReader, LineWriter, segment_path, segments

FOLDER: Final = "references"
ALIVE: Final = "references.alive"
"""File in the state directory whose time says when the answering process last lived."""
ALIVE_SECONDS: Final = 5.0
LOCATION: Final = "location"
"""Name of the document that the reference itself stands for; others are named after their block (RFC 7852)."""
_SEGMENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """What one reference stands for."""

    key: str
    """Hash of the reference."""
    call: str
    """Record id of the call."""
    expires: float
    """Seconds since 1970."""
    documents: Mapping[str, str]
    """LOCATION, or the name of a block of RFC 7852 → the document."""


def reference_of(key: bytes, call: str) -> str:
    """The reference of a call: derived, so that an INVITE repeated across a restart is the same, and with the node's
    key, so that nobody can guess it; 144 bits in 24 characters."""
    digest = hashlib.blake2b(call.encode(), key=key, digest_size=18, person=b"reference").digest()
    return urlsafe_b64encode(digest).decode()


def key_of(reference: str) -> str:
    """What a reference is kept under."""
    return hashlib.sha256(reference.encode("utf-8", "replace")).hexdigest()


class ReferenceSpool:
    """The call process's end."""

    def __init__(self, state: Path, key: bytes) -> None:
        self._writer = LineWriter(state / FOLDER, segment_bytes=_SEGMENT_BYTES)
        self._alive = state / ALIVE
        self._key = key
        self.is_answered = False
        """True while the answering process lives, as of the last look."""

    def look(self, now: float) -> None:
        """See whether the other process lives (now: seconds since 1970). Once a second."""
        try:
            self.is_answered = now - self._alive.stat().st_mtime < ALIVE_SECONDS
        except OSError:
            self.is_answered = False

    def reference_of(self, call: str) -> str:
        """The reference of a call."""
        return reference_of(self._key, call)

    def hand_over(self, call: str, documents: Mapping[str, bytes], expires: float) -> bool:
        """Have a call's reference answered. False where that could not be written; never raises."""
        try:
            line = orjson.dumps(
                {
                    "key": key_of(self.reference_of(call)),
                    "call": call,
                    "expires": expires,
                    "documents": {name: text.decode("utf-8", "replace") for name, text in documents.items()},
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
            return self._writer.append_line(line)
        except Exception:  # whatever it is, the location goes along by value
            return False

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class SpoolReader:
    """The answering process's end: what was handed over, oldest first."""

    def __init__(self, state: Path) -> None:
        self._reader = LineReader(state / FOLDER)
        self._cursor = START
        self.corrupt = 0

    def read(self) -> list[Referred]:
        """What is new since the last time."""
        lines, self._cursor = self._reader.read_lines(self._cursor, 10_000)
        found = []
        for line in lines:
            try:
                found.append(read_line(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.corrupt += 1
        return found

    def discard_older(self, before: float) -> None:
        """Delete segments that were read, and not written to since `before` (seconds since 1970), but the newest."""
        directory = self._reader.directory
        for number in segments(directory)[:-1]:
            path = segment_path(directory, number)
            try:
                if number < self._cursor.segment and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
            except OSError:
                return  # the next time


def read_line(line: bytes | str) -> Referred:
    """What one line says. Raises ValueError, KeyError, TypeError."""
    data = orjson.loads(line)
    documents = data["documents"]
    if not isinstance(documents, dict) or not all(isinstance(text, str) for text in documents.values()):
        raise ValueError("documents are texts")
    return Referred(key=str(data["key"]), call=str(data["call"]), expires=float(data["expires"]), documents=documents)
