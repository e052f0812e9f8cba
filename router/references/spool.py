"""What location references stand for, handed from the call process to the process that answers them.

Before an INVITE with a reference leaves, one line is appended to a file of numbered segments in `references/` of the
state directory: one write(2) and nothing else, for what is written so survives kill -9 of the process. A thread
opens the next segment ahead, and looks whether the other process lives. That one reads the line when it is asked,
if not before.
Of the reference only a hash is written: who reads the file, or the database, cannot ask in its name.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from router.journal.ready_segments import ReadyLineWriter
from router.journal.segments import segment_path, segments

FOLDER: Final = "references"
ALIVE: Final = "references.alive"
"""File in the state directory whose time says when the answering process last lived."""
ALIVE_SECONDS: Final = 5.0
LOCATION: Final = "location"
"""Name of the document that the reference itself stands for; others are named after their block (RFC 7852)."""
_SEGMENT_BYTES = 4 * 1024 * 1024
_STILL_WRITTEN = 4
"""So many of the newest segments may be written to: one and the one ahead, of this process and of the one before."""


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
        self._writer = ReadyLineWriter(state / FOLDER, segment_bytes=_SEGMENT_BYTES, beside=self._see)
        self._alive = state / ALIVE
        self._lived_at = 0.0
        """When the answering process last lived, seconds since 1970; the writer's thread sees it."""
        self._key = key
        self.is_answered = False
        """True while the answering process lives, as of the last look."""
        self._see()
        self._writer.start()

    def look(self, now: float) -> None:
        """Judge whether the other process lives (now: seconds since 1970). Once a second."""
        self.is_answered = now - self._lived_at < ALIVE_SECONDS

    def _see(self) -> None:
        try:
            self._lived_at = self._alive.stat().st_mtime
        except OSError:
            self._lived_at = 0.0

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
        """End the thread and close the file."""
        self._writer.close()


class SpoolReader:
    """The answering process's end: what was handed over, oldest first.

    The newest segment may be one opened ahead: lines still go to the one before it. Therefore the newest few are
    looked at each time.
    """

    def __init__(self, state: Path) -> None:
        self._directory = state / FOLDER
        self._read: dict[int, int] = {}
        """Segment → bytes read of it, up to the end of a line."""
        self.corrupt = 0

    def read(self) -> list[Referred]:
        """What is new since the last time."""
        present = segments(self._directory)
        wanted = [number for number in present if number not in self._read or number in present[-_STILL_WRITTEN:]]
        found = []
        for number in wanted:
            for line in self._new_lines(number):
                try:
                    found.append(read_line(line))
                except (ValueError, KeyError, TypeError, AttributeError):
                    self.corrupt += 1
        return found

    def _new_lines(self, number: int) -> list[bytes]:
        offset = self._read.get(number, 0)
        try:
            with segment_path(self._directory, number).open("rb") as file:
                file.seek(offset)
                text = file.read()
        except OSError:
            return []  # the next time
        end = text.rfind(b"\n") + 1
        self._read[number] = offset + end
        return text[:end].splitlines()

    def discard_older(self, before: float) -> None:
        """Delete segments that were read, and not written to since `before` (seconds since 1970), but the newest."""
        present = segments(self._directory)
        for number in present[:-_STILL_WRITTEN]:
            path = segment_path(self._directory, number)
            try:
                if number in self._read and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
            except OSError:
                return  # the next time
        self._read = {number: self._read[number] for number in present if number in self._read}


def read_line(line: bytes | str) -> Referred:
    """What one line says. Raises ValueError, KeyError, TypeError."""
    data = orjson.loads(line)
    documents = data["documents"]
    if not isinstance(documents, dict) or not all(isinstance(text, str) for text in documents.values()):
        raise ValueError("documents are texts")
    return Referred(key=str(data["key"]), call=str(data["call"]), expires=float(data["expires"]), documents=documents)
