"""The notices process's own log: what it delivered and what it still owes, so that a kill neither loses nor repeats.

A checkpoint line holds everything at one place of the journal; the lines after it say what happened since. Like
the journal it is plain files, one write per line: it needs no database.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from router.journal.segments import START, Cursor, LineReader, LineWriter
from router.notices.channel_identity import channel_id
from router.notices.confirmations import Confirmation, confirmation_from
from router.notices.outbox import Entry, Fold, Key, NoticeState, Told, entry_from

CHANNELS = 16
"""So many channels of a contact are looked at where its list has become shorter."""

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Restored:
    """What the log says. `outcomes` and `folded` are about notices that the journal behind `cursor` will bring."""

    cursor: Cursor = START
    open_calls: dict[str, str] = field(default_factory=dict)
    """Intents (journal lines) of calls that have not ended, by record id."""
    entries: dict[Key, Entry] = field(default_factory=dict)
    seen: list[Told] = field(default_factory=list)
    gathered: list[dict[str, Any]] = field(default_factory=list)
    folds: dict[Told, Fold] = field(default_factory=dict)
    """What may not be stored yet."""
    outcomes: dict[Key, dict[str, Any]] = field(default_factory=dict)
    folded: set[Told] = field(default_factory=set)
    """What was told in a folded notice."""
    watches: list[dict[str, Any]] = field(default_factory=list)
    """Calls that may have to be acknowledged (router.notices.watches)."""
    confirmations: list[Confirmation] = field(default_factory=list)
    """What may not be stored yet, and what came since the checkpoint."""

    def take_outcome(self, entry: Entry, send: Sequence[str]) -> dict[str, Any] | None:
        """What the log says of a notice that the journal has brought again, for the contact's channels as they stand
        now; None where it was not tried. It is given once."""
        if not self.outcomes:
            return None
        at_place = self.outcomes.get(entry.key)
        if at_place is not None and at_place.get("target", "") in ("", entry.target):
            return self.outcomes.pop(entry.key)
        for channel in range(max(len(send), CHANNELS)):
            key = (entry.call, entry.kind, entry.contact, channel)
            found = self.outcomes.get(key)
            if found is not None and found.get("target") == entry.target:
                return self.outcomes.pop(key)
        # Its URL was mended meanwhile, unless that one is now at another place.
        if at_place is not None and at_place.get("target") not in {channel_id(url) for url in send}:
            return self.outcomes.pop(entry.key)
        return None


class NoticeLog:
    """Writes the log. Nothing here raises: a full disk makes a repeated notice possible, not a lost one.

    `note_delivered` may be called by any thread, everything else by one.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = LineWriter(directory, has_spare=True)
        self._reader = LineReader(directory)
        self._lock = threading.Lock()
        self._unsettled: dict[Key, bytes] = {}
        """What channels have delivered and the outbox does not know yet: the lines that say so."""
        self.lines = 0
        """Lines since the last checkpoint."""

    @property
    def failures(self) -> int:
        """Lines that could not be written."""
        return self._writer.failures

    def note_delivered(self, key: Key, started_at: float, words: str, target: str = "") -> None:
        """The receiver took it; target: the id of the channel. Written by the thread that heard so, at once: a kill
        before this line repeats it."""
        data = {"t": "delivered", "key": key, "at": started_at, "words": words, "target": target}
        line = _encoded(data) or _encoded({**data, "words": ""})
        if line is not None:
            with self._lock:
                self._unsettled[key] = line
                self._write(line)

    def forget_delivered(self, key: Key) -> None:
        """The outbox has no use for what was delivered: it knew already."""
        with self._lock:
            self._unsettled.pop(key, None)

    def note(self, entry: Entry, *, whole: bool = False) -> None:
        """An attempt was made. `whole`: with its text, for what cannot be written again from the journal."""
        with self._lock:
            is_noted = self._unsettled.pop(entry.key, None) is not None
        if is_noted and not whole and entry.state is NoticeState.DELIVERED:
            return  # note_delivered has said all of it
        data = entry.as_row()
        if not whole:
            del data["subject"], data["body"]
        self._append({"t": "entry", "entry": data})

    def note_fold(self, fold: Fold) -> None:
        """These calls are told in one notice."""
        self._append({"t": "folded", "fold": fold})

    def note_confirmation(self, confirmation: Confirmation) -> bool:
        """Somebody has seen or acknowledged a notice. False where it could not be written."""
        return self._append({"t": "confirmation", "confirmation": confirmation.as_row()})

    def checkpoint(
        self,
        cursor: Cursor,
        *,
        open_calls: dict[str, str],
        entries: Sequence[Entry],
        seen: Sequence[Told],
        gathered: Sequence[dict[str, Any]],
        folds: Iterable[Fold],
        watches: Sequence[dict[str, Any]] = (),
        confirmations: Iterable[Confirmation] = (),
    ) -> bool:
        """Write everything in one line of a new segment, then drop the older ones. False where that failed."""
        line = _encoded(
            {
                "t": "checkpoint",
                "cursor": [cursor.segment, cursor.offset],
                "open": open_calls,
                "entries": [entry.as_row() for entry in entries],
                "seen": seen,
                "gathered": gathered,
                "folds": list(folds),
                "watches": watches,
                "confirmations": [found.as_row() for found in confirmations],
            }
        )
        with self._lock:
            self._writer.roll()
            written = line is not None and self._write(line)
            # Delivered since the outbox was last told of it: its entry in the checkpoint is still queued.
            for delivered in self._unsettled.values():
                written = self._write(delivered) and written
            if written:
                self._reader.discard_before(Cursor(self._writer.segment, 0))
                self.lines = 0
        return written

    def _append(self, data: dict[str, Any]) -> bool:
        line = _encoded(data)
        with self._lock:
            return line is not None and self._write(line)

    def _write(self, line: bytes) -> bool:
        self.lines += 1
        return self._writer.append_line(line)


def _encoded(data: dict[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:  # a receiver's words with lone surrogates, say
        log.error("notice-log-line-not-encodable %s", error)
        return None


def restore(directory: Path) -> Restored:
    """What the log in a directory says; an empty Restored where there is none."""
    reader = LineReader(directory)
    restored = Restored()
    cursor = Cursor()
    while True:
        lines, cursor = reader.read_lines(cursor, 1000)
        if not lines:
            break
        for line in lines:
            try:
                restored = _applied(restored, orjson.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                log.error("notice-log-line-corrupt %s: %s", directory, type(error).__name__)
    reader.close()
    return restored


def _applied(restored: Restored, data: dict[str, Any]) -> Restored:
    match data["t"]:
        case "checkpoint":
            entries = [entry_from(entry) for entry in data["entries"]]
            return Restored(
                cursor=Cursor(*data["cursor"]),
                open_calls=data["open"],
                entries={entry.key: entry for entry in entries},
                seen=[(call, kind, contact) for call, kind, contact in data["seen"]],
                gathered=data["gathered"],
                folds={fold.key: fold for fold in map(_fold, data.get("folds", ()))},
                watches=data.get("watches", []),
                confirmations=[confirmation_from(found) for found in data.get("confirmations", ())],
            )
        case "confirmation":
            restored.confirmations.append(confirmation_from(data["confirmation"]))
        case "entry":
            found = data["entry"]
            key: Key = (found["call"], found["kind"], found["contact"], found["channel"])
            known = restored.entries.get(key)
            if known is not None:
                restored.entries[key] = entry_from({**known.as_row(), **found})
            elif "subject" in found:
                restored.entries[key] = entry_from(found)
            else:
                restored.outcomes[key] = found
        case "delivered":
            call, kind, contact, channel = data["key"]
            key = (call, kind, contact, channel)
            known = restored.entries.get(key)
            before = known.as_row() if known is not None else restored.outcomes.get(key, {})
            outcome = _delivered(key, before, data)
            if known is not None:
                restored.entries[key] = entry_from({**before, **outcome})
            else:
                restored.outcomes[key] = {**before, **outcome}
        case "folded":
            fold = _fold(data["fold"])
            restored.folds[fold.key] = fold
            restored.folded.update((call, fold.kind, fold.contact) for call in fold.calls)
    return restored


def _delivered(key: Key, before: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What becomes of an entry, as it was before, by the attempt that delivered it."""
    return {
        **dict(zip(("call", "kind", "contact", "channel"), key, strict=True)),
        "state": NoticeState.DELIVERED.value,
        "attempts": before.get("attempts", 0) + 1,
        "first_attempt_at": before.get("first_attempt_at") or data["at"],
        "last_attempt_at": data["at"],
        "next_attempt_at": None,
        "reason": "",
        "words": data["words"],
        "target": data.get("target") or before.get("target", ""),
    }


def _fold(data: dict[str, Any]) -> Fold:
    return Fold(**{**data, "calls": tuple(data["calls"])})


def with_outcome(entry: Entry, outcome: dict[str, Any]) -> Entry:
    """A freshly written entry with what the log says became of it."""
    kept = {"subject": entry.subject, "body": entry.body, "channel": entry.channel, "target": entry.target}
    return entry_from({**entry.as_row(), **outcome, **kept})
