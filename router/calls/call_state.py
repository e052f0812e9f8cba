"""What the call process says of itself, every two seconds, in a file of the state directory: never asked for."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

FILE = "calls-state.json"
STALE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkPlace:
    """One address of a trunk. Times are seconds since 1970, None for never."""

    place: str
    state: str
    """`up`, `down` or `unknown`."""
    reason: str
    asked_at: float | None
    answered_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkState:
    """One trunk as the call process sees it."""

    name: str
    state: str
    """`up`, `down`, `unknown`, `no-address` or `not-probed`."""
    places: tuple[TrunkPlace, ...]

    @property
    def asked_at(self) -> float | None:
        """When one of its addresses was probed last."""
        return max((place.asked_at for place in self.places if place.asked_at), default=None)

    @property
    def answered_at(self) -> float | None:
        """When one of its addresses answered last."""
        return max((place.answered_at for place in self.places if place.answered_at), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """The call process; `at` is when it said so, None where it never did."""

    at: float | None
    is_serving: bool
    database: str
    devices: int
    trunks: tuple[TrunkState, ...]

    def is_stale(self, now: float, seconds: float = STALE_SECONDS) -> bool:
        """True where it has said nothing for so long that it may not be running; a time to come says nothing."""
        return self.at is None or abs(now - self.at) > seconds


NOTHING = CallState(at=None, is_serving=False, database="", devices=0, trunks=())


class StateFile:
    """The call process's side: writes it in a thread of its own, so that no call waits for a disk."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._thread: threading.Thread | None = None

    def write(self, document: dict[str, Any]) -> None:
        """Replace what was said; returns at once. Passed over while the disk has not taken the last one."""
        if self._thread is not None and self._thread.is_alive():
            return
        content = orjson.dumps({"at": time.time(), **document})
        self._thread = threading.Thread(target=self._write, args=(content,), name="state", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: the next time
            self._thread.start()

    def _write(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        with suppress(OSError):  # the console sees that it grows old
            temporary.write_bytes(content)
            temporary.replace(self._path)


def read_state(directory: Path) -> CallState:
    """What was said last; NOTHING where it cannot be read."""
    try:
        found = orjson.loads((directory / FILE).read_bytes())
        return CallState(
            at=found["at"],
            is_serving=found["serving"],
            database=found["database"],
            devices=found["devices"],
            trunks=tuple(
                TrunkState(
                    name=name,
                    state=trunk["state"],
                    places=tuple(TrunkPlace(**place) for place in trunk["places"]),
                )
                for name, trunk in found["trunks"].items()
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return NOTHING
