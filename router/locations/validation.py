"""Validating locations against the configured LVF (`locations.lvf`): which are due, asking, keeping.

Those of registered devices, and the addresses of sites, which most calls carry.

What is asked about is the whole address as a 911 call would carry it, completed from site and zone. Devices at one
address are one question. An answer is kept with its date only while the device is still where it was asked about; no
answer keeps what was known before. Decision 0043.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine

from config.schema import Config
from e911.locate import registered_location
from e911.location import CivicAddress, Device
from e911.lost import (
    NOT_VALIDATED,
    LostError,
    Validated,
    ValidatedAddresses,
    Validation,
    validation_words,
)
from e911.places import Places
from router.store.audit import Author
from router.store.devices import get_devices, mark_devices, take_turn
from router.store.engine import reading, writing
from router.store.validated_addresses import all_addresses, forget_addresses, keep_addresses

DAY: Final = 86_400.0
MOST_FAILURES: Final = 3
"""In a row; then the server is left alone until the next run."""
KEPT_AT_ONCE: Final = 100
KEEP_SECONDS: Final = 5.0

Ask = Callable[[CivicAddress], Validation]


@dataclass(slots=True, kw_only=True)
class Run:
    """What came of one run, in devices, or in sites and zones."""

    results: dict[str, str] = field(default_factory=dict)
    """Device, SITE or SITE/ZONE → what is kept of it now (`valid`, `invalid: HNO`, `unknown`)."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Which → why it was not asked about."""
    failures: Counter[str] = field(default_factory=Counter)
    """Reason → questions without an answer."""
    words: str = ""
    """Of the last failure."""
    left: int = 0
    """Those not asked about because the server failed or the run was stopped."""
    gave_up: bool = False
    """True where the server failed so often in a row that it is left alone."""
    warnings: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """How many of each verdict."""
        return Counter(text.partition(":")[0] for text in self.results.values())


def is_due(device: Device, every: float, now: float) -> bool:
    """Whether its location is to be validated at `now`; every: seconds. One that is unknown is asked about daily."""
    return _is_due(Validated(device.validation, device.validated_at), every, now)


def _is_due(said: Validated | None, every: float, now: float) -> bool:
    if said is None or not said.validation:
        return True
    return now - said.validated_at >= (min(every, DAY) if said.validation.startswith("unknown") else every)


def due_seconds(config: Config) -> float:
    """The `every` of `is_due`."""
    assert config.locations.lvf is not None
    return config.locations.lvf.every_days * DAY


def address_of(device: Device, places: Places, now: float) -> CivicAddress | None:
    """The address that a 911 call of this device would carry; None where it has none."""
    location = registered_location(device, "", places, now)[0]
    return location.civic if location is not None and location.civic.has_street_address else None


def validate_devices(
    engine: Engine,
    devices: Sequence[Device],
    places: Places,
    ask: Ask,
    *,
    clock: Callable[[], float] = time.time,
    stopping: threading.Event | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Run:
    """Ask about these devices and keep what is answered; progress is told how many are done.

    Raises StoreError; what was kept before it stays. Never raises for what the server does.
    """
    run = Run()
    addresses: dict[CivicAddress, list[Device]] = {}
    for device in devices:
        civic = address_of(device, places, clock())
        if civic is None:
            run.skipped[device.device] = "no-civic-address"
        else:
            addresses.setdefault(civic, []).append(device)
    done = len(run.skipped)
    found: dict[str, tuple[Device, str]] = {}
    kept_at = clock()
    names = {civic: [device.device for device in there] for civic, there in addresses.items()}
    try:
        for civic, text in _answers(names, ask, run, stopping):
            there = addresses[civic]
            if text:
                found |= {device.device: (device, text) for device in there}
            done += len(there)
            progress(done)
            if len(found) >= KEPT_AT_ONCE or (found and abs(clock() - kept_at) >= KEEP_SECONDS):
                _keep(engine, found, run, clock())
                found, kept_at = {}, clock()
    finally:
        # Also where the command is interrupted: what was answered was answered.
        if found:
            _keep(engine, found, run, clock())
    return run


def validate_places(
    engine: Engine,
    places: Places,
    ask: Ask,
    every: float,
    *,
    everything: bool = False,
    clock: Callable[[], float] = time.time,
    stopping: threading.Event | None = None,
) -> Run:
    """Ask about the street addresses of sites that are due, and keep what is answered.

    every: seconds, as for `is_due`. everything: also those that are not due. Raises StoreError.
    """
    run = Run()
    with reading(engine) as conn:
        known = all_addresses(conn)
    due = {
        civic: whose
        for civic, whose in places.street_addresses().items()
        if everything or _is_due(known.get(civic), every, clock())
    }
    found: dict[CivicAddress, str] = {}
    try:
        for civic, text in _answers(due, ask, run, stopping):
            if text:
                found[civic] = text
    finally:
        if found:
            with writing(engine) as conn:
                keep_addresses(conn, found, clock())
                forget_addresses(conn, clock() - 2 * every)
            run.results |= {name: text for civic, text in found.items() for name in due[civic]}
    return run


def _answers(
    addresses: Mapping[CivicAddress, Sequence[str]], ask: Ask, run: Run, stopping: threading.Event | None
) -> Iterator[tuple[CivicAddress, str]]:
    """Each address that was asked about, with what is to be kept of it; empty, and noted in `run` for those it is the
    address of, where nothing is."""
    in_a_row = 0
    for civic, names in addresses.items():
        if run.gave_up or (stopping is not None and stopping.is_set()):
            run.left += len(names)
            continue
        text = ""
        try:
            answer = ask(civic)
        except ValueError as error:
            run.skipped |= dict.fromkeys(names, str(error))
        except LostError as error:
            in_a_row += 1
            run.failures[error.reason] += 1
            run.words = error.words
            run.left += len(names)
            run.gave_up = in_a_row >= MOST_FAILURES
        else:
            in_a_row = 0
            run.warnings.update(answer.warnings)
            text = answer.text
        yield civic, text


def _keep(engine: Engine, found: Mapping[str, tuple[Device, str]], run: Run, at: float) -> None:
    with writing(engine) as conn:
        kept = keep_validations(conn, found, at)
    run.results |= {name: found[name][1] for name in kept}
    run.skipped |= dict.fromkeys(found.keys() - kept, "changed-meanwhile")


def keep_validations(conn: Connection, found: Mapping[str, tuple[Device, str]], at: float) -> set[str]:
    """Keep results (device as it was asked about, text) of those that are where they were; gives their names."""
    take_turn(conn)
    known = get_devices(conn, found)
    names = [
        name
        for name, (device, _) in found.items()
        if (now := known.get(name)) is not None and _where(now) == _where(device)
    ]
    marks: dict[str, dict[str, str | float | None]] = {
        name: {"validation": found[name][1], "validated_at": at} for name in names
    }
    mark_devices(conn, marks, Author(who="address validation", via="lost"))
    return set(names)


def not_validated(devices: Iterable[Device], places: Places, every: float, now: float) -> Counter[str]:
    """Site → devices with an address that is not called valid, or was so too long ago; a day's grace for asking."""
    return Counter(
        device.site
        for device in devices
        if (device.validation != "valid" or now - device.validated_at >= every + DAY)
        and address_of(device, places, now) is not None
    )


def places_not_validated(
    places: Places, validated: ValidatedAddresses, every: float, now: float
) -> dict[str, list[tuple[str, str]]]:
    """Site → (SITE or SITE/ZONE, what was said) of its addresses that are not called valid, or were too long ago."""
    found: dict[str, list[tuple[str, str]]] = {}
    for civic, whose in places.street_addresses().items():
        said = validated.get(civic)
        if said is None or said.validation != "valid" or now - said.validated_at >= every + DAY:
            words = validation_words(said.validation, said.validated_at) if said is not None else NOT_VALIDATED
            for name in whose:
                found.setdefault(name.partition("/")[0], []).append((name, words))
    return found


def _where(device: Device) -> tuple[object, ...]:
    return device.site, device.zone, device.civic
