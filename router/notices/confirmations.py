"""Who has seen a notice, and who has acknowledged it; and the way such word takes to the notices process.

Other processes (the console, a command) leave a file in `state_directory/requests`: it needs no database, and is
there after a kill. The notices process takes the files several times a second.
"""

import itertools
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

FOLDER = "requests"
LONGEST = 200
FILES_AT_ONCE = 500
MOST_BYTES = 65_536
_numbers = itertools.count()


class Step(StrEnum):
    """What somebody did with a notice."""

    SEEN = "seen"
    """Opened its link, or picked the phone up: it may have been a machine."""
    ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Somebody has seen or acknowledged the notice of a call."""

    call: str
    step: Step
    contact: str = ""
    """The contact whose notice it was; empty where it was none's (the console, a command)."""
    channel: int = -1
    """Index among the contact's `send`; -1 where that is not known."""
    by: str = ""
    """A user's name, or the phone."""
    how: str = ""
    """`link`, `console`, `api`, `command`, or `phone` with the key pressed."""
    at: float = 0.0
    """Seconds since 1970."""

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What makes it this one: the same again changes nothing."""
        return self.call, self.step.value, self.contact, self.channel, self.by

    def as_row(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "step": self.step.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOutcome:
    """What came of the last thing that went over a channel of a contact. Times are seconds since 1970."""

    contact: str
    channel: str
    """`channel_id` of its URL: another URL is another channel, another place in the list is not."""
    at: float
    is_delivered: bool
    proven_at: float | None
    """When something was delivered last."""
    reason: str = ""
    words: str = ""
    by: str = ""
    """`test` where somebody asked for it; empty where it was a notice."""


def confirmation_from(data: Mapping[str, Any]) -> Confirmation:
    """The Confirmation that `as_row` gave. Raises TypeError, ValueError or KeyError where it is none."""
    known = {name: data[name] for name in _NAMES if name in data}
    for name in ("call", "contact", "by", "how"):
        known[name] = _plain(str(known.get(name, "")))
    return Confirmation(
        **{**known, "step": Step(data["step"]), "channel": int(data.get("channel", -1)), "at": float(data["at"])}
    )


_NAMES = tuple(field.name for field in fields(Confirmation))


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:LONGEST])


def confirm(state_directory: Path, confirmation: Confirmation) -> None:
    """Tell the notices process of this node. Raises OSError where the state directory cannot be written."""
    leave(state_directory, {"type": "confirmation", **confirmation.as_row()})


def request_alarm(
    state_directory: Path, *, name: str, subject: str, body: str, contacts: list[str] | None = None
) -> None:
    """Have contacts told of something that is no 911 call (None: all of them); quiet hours apply. Raises OSError.

    name says which alarm it is: the same again within a minute is not told again.
    """
    data = {"type": "alarm", "name": name, "subject": subject, "body": body, "contacts": contacts, "at": time.time()}
    leave(state_directory, data)


def leave(state_directory: Path, data: Mapping[str, Any]) -> None:
    """Leave a request. Raises OSError."""
    folder = state_directory / FOLDER
    folder.mkdir(mode=0o770, parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}"
    written = folder / f"{name}.new"
    written.write_bytes(orjson.dumps(dict(data)))
    written.rename(folder / f"{name}.json")


class Requests:
    """The requests that others left, as the notices process takes them."""

    def __init__(self, state_directory: Path) -> None:
        self._folder = state_directory / FOLDER
        self.unreadable = 0
        self._taken: list[Path] = []

    def take(self) -> list[dict[str, Any]]:
        """Those there are, oldest first; they stay until `done`. Never raises."""
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".json"))[:FILES_AT_ONCE]
        except OSError:
            return []
        found = []
        for name in names:
            path = self._folder / name
            self._taken.append(path)
            try:
                if path.stat().st_size > MOST_BYTES:
                    raise ValueError("too large")
                data = orjson.loads(path.read_bytes())
                if not isinstance(data, dict):
                    raise TypeError("not a request")
                found.append(data)
            except (OSError, ValueError, TypeError):
                self.unreadable += 1
        return found

    def done(self) -> None:
        """Those that were taken are written down elsewhere."""
        for path in self._taken:
            with suppress(OSError):
                path.unlink()
        self._taken.clear()
