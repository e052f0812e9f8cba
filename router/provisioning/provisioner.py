"""Provisioning: every registered device is told to the providers that keep addresses (`provisioning`), and told again
when it changes.

A thread of the notices process. What is to be said waits in the database (router.store.provisioning) until it was
taken or refused; after an error it is said again, with growing pauses, also after a restart. Nothing waits for it:
calls use the ids that a provider knows a device by only once it has taken them, and never after the device changed.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine

from config.schema import Config, ProvisioningTarget
from e911.location import Device
from router.provisioning.provisioning_calls import Outcome, TargetCalls
from router.provisioning.taken_rows import TakenRows
from router.provisioning.told_documents import Teller, basis_of
from router.store.audit import Author
from router.store.devices import (
    StaleRevisionError,
    all_devices,
    changes_since,
    current_revision,
    get_device,
    mark_devices,
)
from router.store.engine import StoreError, open_store, reading, writing
from router.store.provisioning import (
    ACTIVE,
    PENDING,
    REFUSED,
    Told,
    cursor_of,
    forget,
    is_due,
    keep,
    keep_cursor,
    names_told,
    of_device,
    release,
    take_due,
    told,
)

log = logging.getLogger("router.provisioning")

LOOK_SECONDS: Final = 1.0
PAUSES: Final = (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""After an error, before the same is said again."""
ORDER_PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
"""Between two questions about an order that is not done."""
QUIET: Final = (5.0, 15.0, 60.0, 300.0)
"""So long a target that gave no answer of use to one device is not asked about others, by how often in a row."""
LEASE_SECONDS: Final = 120.0
AT_ONCE: Final = 20
TURN_SECONDS: Final = 30.0
"""So long one target is told, before it is the next one's turn."""
NOTED_AT_ONCE: Final = 200


class Provisioner(threading.Thread):
    """config: the configuration in force now. ca: the path of a CA file as written. state: the state directory."""

    def __init__(
        self,
        url: str,
        config: Callable[[], Config],
        ca: Callable[[str], str],
        state: Path,
        *,
        clock: Callable[[], float] = time.time,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        super().__init__(daemon=True, name="provisioner")
        self._url = url
        self._config = config
        self._ca = ca
        self._taken = TakenRows(state)
        self._clock = clock
        self._pauses = pauses
        self._stopping = threading.Event()
        self._engine: Engine | None = None
        self._calls: dict[str, tuple[ProvisioningTarget, TargetCalls]] = {}
        self._bases: dict[str, tuple[Config, str]] = {}
        self._problem = ""
        self._quiet: dict[str, tuple[float, int]] = {}
        """Until when a target is left alone, and how often in a row it gave no answer of use."""

    def stop(self, timeout: float = 1.0) -> None:
        """End; a request on its way is made again after the next start."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                self.look()
                self._problem = ""
            except Exception as error:  # whatever it is, it is tried again
                reason = error.reason if isinstance(error, StoreError) else type(error).__name__
                if reason != self._problem:
                    fields = {"reason": reason, "detail": str(error)[:500]}
                    log.warning("provisioning-failed", extra={"event_fields": fields})
                self._problem = reason
                self._close()
            self._stopping.wait(LOOK_SECONDS)
        self.close()

    def close(self) -> None:
        """Let go of database and connections."""
        self._close()
        for _, calls in self._calls.values():
            calls.close()
        self._calls.clear()

    def look(self) -> None:
        """See what changed, and say what is due."""
        config = self._config()
        if not config.provisioning:
            return
        if self._engine is None:
            self._engine = open_store(self._url, wait=2.0)
            with writing(self._engine) as conn:
                # Nothing of this node is on its way now: it was killed, or lost the database, in the middle of it.
                release(conn, self._taken.left(), self._clock())
        for name, section in config.provisioning.items():
            self._note_changes(config, name, section)
            self._say_due(config, name, section)

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    # ---- what is to be said ----

    def _note_changes(self, config: Config, name: str, section: ProvisioningTarget) -> None:
        assert self._engine is not None
        basis = self._basis_of(config, name, section)
        with reading(self._engine) as conn:
            revision, seen = cursor_of(conn, name)
            newest = current_revision(conn)
            if revision == newest and seen == basis:
                return
            try:
                if revision is None or seen != basis:
                    raise StaleRevisionError
                newest, changed, removed = changes_since(conn, revision)
            except StaleRevisionError:
                changed = all_devices(conn)
                removed = sorted(set(names_told(conn, name)) - {device.device for device in changed})
        teller = Teller(config, section)
        # In short transactions: others write to this database, too.
        for start in range(0, len(changed), NOTED_AT_ONCE):
            if self._stopping.is_set():
                return
            with writing(self._engine) as conn:
                self._note_some(conn, name, teller, changed[start : start + NOTED_AT_ONCE])
        with writing(self._engine) as conn:
            for gone in removed:
                self._note_gone(conn, name, gone, self._clock())
            keep_cursor(conn, name, newest, basis)

    def _basis_of(self, config: Config, name: str, section: ProvisioningTarget) -> str:
        found = self._bases.get(name)
        if found is None or found[0] is not config:
            found = self._bases[name] = (config, basis_of(config, section))
        return found[1]

    def _note_some(self, conn: Connection, name: str, teller: Teller, changed: Sequence[Device]) -> None:
        now = self._clock()
        marks: dict[str, Mapping[str, str]] = {}
        for device in changed:
            if teller.section.sites and device.site not in teller.section.sites:
                self._note_gone(conn, name, device.device, now)
                continue
            ids = self._note(conn, name, teller, device, now)
            if ids is not None:
                marks[device.device] = ids
        self._show(conn, marks, name)

    def _note(
        self, conn: Connection, name: str, teller: Teller, device: Device, now: float
    ) -> Mapping[str, str] | None:
        """The ids by which it is known where it is to be shown anew what became of a device; None where it is not."""
        document, problem = teller.document_of(device)
        before = told(conn, name, device.device)
        if before is not None and before.wanted == document["id"] and before.action != "delete":
            ids = self._ids_now(conn, before)
            if device.provisioning and all(getattr(device, column) == text for column, text in ids.items()):
                return None
            # It was changed, and changed back; or somebody wrote another id than the provider's own (decision 0058).
            return ids
        one = Told(target=name, device=device.device, wanted=document["id"], next_at=now, updated_at=now)
        one.document = _stored(document, before, f"upsert {device.updated_at}")
        one.location_id, one.endpoint_id = document["location_id"], document["endpoint_id"]
        if before is not None:
            one.old_endpoint_id = " ".join(old for old in _known_endpoints(before) if old != one.endpoint_id)
        if problem:
            one.state, one.words = REFUSED, f"not said: {problem}"
        keep(conn, one)
        # Another program may have changed the row with plain SQL: what the provider knows is not where it is.
        return {
            column: "" for column, text in (_ids(before) if before else {}).items() if getattr(device, column) == text
        }

    def _note_gone(self, conn: Connection, name: str, device: str, now: float) -> None:
        before = told(conn, name, device)
        if before is None or before.action == "delete":
            return
        endpoints = _known_endpoints(before)
        section = self._config().provisioning.get(name)
        if section is not None and section.kind == "webhook":
            endpoints = endpoints[:1]  # it knows the device by its name
        self._delete(conn, before, endpoints, now)

    def _delete(self, conn: Connection, one: Told, endpoints: Sequence[str], now: float) -> None:
        """Have the first of these deleted, then the others; where there is none nobody has heard of the device."""
        if not endpoints:
            forget(conn, one)
            return
        one.endpoint_id, one.old_endpoint_id = endpoints[0], " ".join(endpoints[1:])
        one.action, one.state, one.order_id = "delete", PENDING, ""
        one.attempts, one.words, one.next_at, one.updated_at = 0, "", now, now
        document = orjson.loads(one.document) | {"endpoint_id": one.endpoint_id}
        one.document = _stored(document, one, "delete")
        keep(conn, one)

    # ---- saying it ----

    def _say_due(self, config: Config, name: str, section: ProvisioningTarget) -> None:
        """Say what is due, for a while: other targets wait. A target that is away is left alone for a while."""
        assert self._engine is not None
        ends = time.monotonic() + TURN_SECONDS
        while not self._stopping.is_set() and time.monotonic() < ends:
            if self._clock() < self._quiet.get(name, (0.0, 0))[0]:
                return
            with reading(self._engine) as conn:
                if not is_due(conn, name, self._clock()):
                    return
            with writing(self._engine) as conn:
                taken = take_due(conn, name, self._clock(), AT_ONCE, LEASE_SECONDS)
                self._taken.keep(taken)
            teller = Teller(config, section)
            while taken:
                is_time_up = self._stopping.is_set() or time.monotonic() > ends
                if is_time_up or self._clock() < self._quiet.get(name, (0.0, 0))[0]:
                    with writing(self._engine) as conn:
                        release(conn, taken, self._clock())
                    return
                one = taken.pop(0)
                outcome = self._say(name, section, one)
                with writing(self._engine) as conn:
                    self._settle(conn, teller, one, outcome)
                self._note_presence(name, outcome)

    def _note_presence(self, name: str, outcome: Outcome) -> None:
        if not outcome.is_away:
            self._quiet.pop(name, None)
            return
        _, times = self._quiet.get(name, (0.0, 0))
        pause = outcome.wait or QUIET[min(times, len(QUIET) - 1)]
        self._quiet[name] = self._clock() + pause, times + 1

    def _say(self, name: str, section: ProvisioningTarget, one: Told) -> Outcome:
        document: dict[str, Any] = orjson.loads(one.document)
        if one.action == "retire":
            document |= {"endpoint_id": one.old_endpoint_id.split()[0]}
        try:
            calls = self._calls_of(name, section)
            if one.order_id:
                return calls.ask(one.order_id, document)
            return calls.tell("upsert" if one.action == "upsert" else "delete", document)
        except Exception as error:  # a fault of ours: it must not stop the others
            log.exception("provisioning-fault")
            return Outcome(words=f"{type(error).__name__}: {error}")

    def _calls_of(self, name: str, section: ProvisioningTarget) -> TargetCalls:
        found = self._calls.get(name)
        if found is None or found[0] != section:
            if found is not None:
                found[1].close()
            found = (section, TargetCalls(name, section, self._ca(section.ca) if section.ca else None))
            self._calls[name] = found
        return found[1]

    def _settle(self, conn: Connection, teller: Teller, one: Told, outcome: Outcome) -> None:
        """Note what came of it, unless the device changed meanwhile."""
        now = self._clock()
        current = told(conn, one.target, one.device)
        if current is None or (current.wanted, current.action) != (one.wanted, one.action):
            return
        one.updated_at, one.words = now, outcome.words
        if outcome.done:
            self._settle_done(conn, teller, one, outcome)
            return
        if outcome.refused:
            self._settle_refused(conn, one)
        else:
            pauses = ORDER_PAUSES if outcome.order_id else self._pauses
            if outcome.order_id and not one.order_id:
                one.attempts = 0
            one.order_id = "" if outcome.is_lost else outcome.order_id or one.order_id
            one.next_at = now + max(outcome.wait, pauses[min(one.attempts, len(pauses) - 1)])
            one.attempts += 1
            keep(conn, one)
        self._show(conn, {one.device: {}}, one.target)

    def _settle_refused(self, conn: Connection, one: Told) -> None:
        fields = {"target": one.target, "device": one.device, "action": one.action, "words": one.words}
        log.warning("provisioning-refused", extra={"event_fields": fields})
        if one.action == "upsert":
            one.state = REFUSED
            keep(conn, one)
        else:
            self._settle_deleted(conn, one)  # the provider does not know it, or will not let it go

    def _settle_deleted(self, conn: Connection, one: Told) -> None:
        """One endpoint is gone; the next one's turn."""
        if one.action == "delete":
            self._delete(conn, one, one.old_endpoint_id.split(), self._clock())
            return
        _, *others = one.old_endpoint_id.split()
        one.words, one.order_id, one.attempts, one.old_endpoint_id = "", "", 0, " ".join(others)
        if others:
            one.next_at = self._clock()
        else:
            one.action, one.state = "upsert", ACTIVE
        keep(conn, one)

    def _settle_done(self, conn: Connection, teller: Teller, one: Told, outcome: Outcome) -> None:
        if one.action != "upsert":
            self._settle_deleted(conn, one)
            return
        one.words, one.order_id, one.attempts = "", "", 0
        one.location_id, one.endpoint_id = outcome.location_id, outcome.endpoint_id
        one.state = ACTIVE
        if teller.section.kind == "webhook":
            one.old_endpoint_id = ""  # whoever is told by device knows it in one place
        if one.old_endpoint_id:
            one.state, one.action, one.next_at = PENDING, "retire", self._clock()
        keep(conn, one)
        device = get_device(conn, one.device)
        if device is None or teller.document_of(device)[0]["id"] != one.wanted:
            return  # it moved meanwhile: these ids would stand for where it was
        self._show(conn, {one.device: self._ids_now(conn, one)}, one.target)

    def _ids_now(self, conn: Connection, one: Told) -> dict[str, str]:
        """The ids that its device is known by where it is. Of several targets that give some, those of the first in
        the configuration stand: else each would put its own back, for ever."""
        targets = self._config().provisioning
        rows = [one] if len(targets) == 1 else of_device(conn, one.device)
        known = {row.target: row for row in rows if row.wanted == one.wanted and _is_taken(row)}
        return {k: v for name in reversed(targets) if name in known for k, v in _ids(known[name]).items()}

    def _show(self, conn: Connection, marks: Mapping[str, Mapping[str, str]], target: str) -> None:
        """Have the devices say what became of it, and their ids where these are known."""
        author = Author(who=target, via="provisioning")
        alike: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
        for device, ids in marks.items():
            shown = {"provisioning": _shown(of_device(conn, device)), **ids}
            alike.setdefault(tuple(shown), {})[device] = shown
        for rows in alike.values():
            mark_devices(conn, rows, author)


def _stored(document: Mapping[str, Any], before: Told | None, change: str) -> str:
    """What is to be said, as JSON, with the `id` of this change: the same words said again after others (a move, and
    back) are news, and whoever knows requests by Idempotency-Key must not take them for a repetition. Two nodes that
    note the same change give it the same id."""
    known = before.document if before is not None else ""
    key = hashlib.blake2b(f"{document['id']} {change} {known}".encode(), digest_size=15, person=b"provisioning")
    return orjson.dumps({**document, "id": key.hexdigest()}).decode()


def _known_endpoints(one: Told) -> list[str]:
    """What the target knows the device by, or may know it by: an answer may have been lost."""
    was_said = one.state == ACTIVE or one.action != "upsert" or one.order_id or one.attempts
    # A webhook that gives no ids was told those that we made.
    own = one.endpoint_id or orjson.loads(one.document)["endpoint_id"]
    return [*dict.fromkeys(([own] if was_said else []) + one.old_endpoint_id.split())]


def _is_taken(one: Told) -> bool:
    return one.state == ACTIVE or one.action == "retire"


def _ids(one: Told) -> dict[str, str]:
    return {name: value for name in ("location_id", "endpoint_id") if (value := getattr(one, name))}


def _shown(found: list[Told]) -> str:
    """`active`; with several targets, one after the other, each with its name."""
    said = []
    for one in found:
        state = ACTIVE if one.action == "retire" else one.state
        text = f"{state}: {one.words}" if one.words else state
        said.append(text if len(found) == 1 else f"{one.target} {text}")
    return "; ".join(said)
