"""Leases on this node's disk: a snapshot now and then, and since then the journal. They survive kill -9 and restart.

Read at a start, before calls are served; written in a thread, of leases that the loop never changes in place.
"""

import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import orjson

from e911.elin import Lease, lease_from
from e911.record import CallIntent
from router.journal.event_lines import decode_event
from router.journal.segments import Cursor, LineReader, segments

FILE = "callback-leases.jsonl"
LINES_BETWEEN_PAUSES = 100
PAUSE = 0.001
SEGMENTS_READ = 3
"""Of the journal, the newest ones, where there is no snapshot: up to 48 MiB."""
_INTENT = b'{"type":"intent"'
_LEASE = b',"lease":{'

log = logging.getLogger(__name__)


def read_leases(state_directory: Path) -> list[Lease]:
    """What the snapshot and the journal say, the oldest first; never raises."""
    journal = state_directory / "journal"
    found: list[Lease] = []
    segment = 0
    try:
        first, *lines = (state_directory / FILE).read_bytes().splitlines()
        segment = int(orjson.loads(first)["segment"])
        found = [lease_from(orjson.loads(line)) for line in lines]
    except FileNotFoundError:
        pass
    except (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        log.warning("leases-not-read %s: %s; the journal is read", state_directory / FILE, error)
    if not segment:
        segment = next(iter(segments(journal)[-SEGMENTS_READ:]), 0)
    try:
        found += _journalled(journal, Cursor(segment, 0))
    except OSError as error:
        log.warning("leases-not-read %s: %s", journal, error)
    return found


def _journalled(journal: Path, cursor: Cursor) -> list[Lease]:
    found: list[Lease] = []
    reader = LineReader(journal)
    try:
        while True:
            lines, cursor = reader.read_lines(cursor, 10_000)
            if not lines:
                return found
            for line in lines:
                # Of the many lines only these are decoded.
                if line.startswith(_INTENT) and _LEASE in line:
                    try:
                        event = decode_event(line)
                    except (KeyError, TypeError, ValueError, AttributeError):
                        continue  # torn by the crash that this start follows
                    if isinstance(event, CallIntent) and event.lease is not None:
                        found.append(event.lease)
    finally:
        reader.close()


def write_leases(state_directory: Path, leases: Iterable[Lease], segment: int) -> None:
    """Replace the snapshot. segment: of the journal, in which what came later is. Raises OSError."""
    path = state_directory / FILE
    written = path.with_suffix(".new")
    # Where people are, and how they are reached, is nobody else's business.
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(orjson.dumps({"segment": segment}) + b"\n")
        for count, lease in enumerate(leases, start=1):
            file.write(orjson.dumps(lease) + b"\n")
            if count % LINES_BETWEEN_PAUSES == 0:
                time.sleep(PAUSE)  # the loop, which has calls to serve, waits for the interpreter meanwhile
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
