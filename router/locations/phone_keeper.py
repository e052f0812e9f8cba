"""The thread of the notices process that stores what the call process noted of phones, and asks users where they are.

Phones without a location are listed. A phone that moves about (kind softphone or nomadic) and registers from another
network than the one its location was confirmed on has its location marked unconfirmed (decision 0042); its user is
sent a link, once in a while, on which to say where it is. On the network it was confirmed on, the location holds
again. Notes are read again until they are stored: a database that is away costs nothing but time.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine

from config.schema import Config
from e911.location import Device
from router.journal.segments import START, Cursor, LineReader
from router.locations.phone_notes import DIRECTORY
from router.locations.self_service import link_text, link_to
from router.notices.links import base_url, secrets_of
from router.store.audit import Author
from router.store.devices import get_device, mark_devices
from router.store.engine import StoreError, open_store, writing
from router.store.phones import NetworkRow, keep_network, network_of, note_phones

LOOK_EVERY = 0.5
RETRY_AFTER = 5.0
DAY = 86_400.0
LINES_AT_ONCE = 500
NEW_NETWORK = "new-network"
"""Why a location is unconfirmed."""
CURSOR_FILE = "cursor.json"

log = logging.getLogger("edge911.phones")


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A link to be sent to the user of a device."""

    device: Device
    url: str
    address: str
    """HOST:PORT the phone registered from; empty where a PBX hides it."""
    transport: str
    contact: str = ""
    """The phone's own URI; empty where nothing is known of a way through us."""
    route: str = ""
    """A Route value with which the call process sends a request on to the phone."""
    proxy: str = ""
    """HOST:PORT and transport at which it takes such a request."""


Invite = Callable[[Invitation], bool]
"""Sends a link, True where it was delivered; may take its time, and must not raise."""


class PhoneKeeper(threading.Thread):
    """Reads notes and stores them until stopped. settings: the configuration in use; invite: sends a link."""

    def __init__(
        self, settings: Callable[[], Config], database_url: str, state_directory: Path, invite: Invite
    ) -> None:
        super().__init__(daemon=True, name="phone-keeper")
        self._settings = settings
        self._url = database_url
        self._state = state_directory
        self._directory = state_directory / DIRECTORY
        self._invite = invite
        self._reader = LineReader(self._directory)
        self._stopping = threading.Event()
        self._engine: Engine | None = None
        self._is_ok = True
        self._cursor = self._read_cursor()
        self._due: dict[str, Invitation] = {}
        """Links that are to be sent, by device."""

    def stop(self, timeout: float = 1.0) -> None:
        """End; waits at most `timeout` seconds."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)
        else:
            self._close()

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                more = self.look(time.time())
                self._is_ok = True
                pause = 0.0 if more else LOOK_EVERY
            except Exception as error:  # whatever it is, it is tried again
                if self._is_ok:
                    reason = error.reason if isinstance(error, StoreError) else type(error).__name__
                    log.warning("phones-not-stored", extra={"event_fields": {"reason": reason, "detail": str(error)}})
                self._is_ok, pause = False, RETRY_AFTER
                self._close()
            self._stopping.wait(pause)
        self._close()

    def look(self, now: float) -> bool:
        """Store the notes that are there, send one link; True where there may be more to do. Raises StoreError."""
        lines, after = self._reader.read_lines(self._cursor, LINES_AT_ONCE)
        if not lines and not self._due:
            return False
        notes = [note for line in lines if (note := _parsed(line)) is not None]
        if self._engine is None:
            self._engine = open_store(self._url, wait=5.0)
        if notes:
            with writing(self._engine) as conn:
                note_phones(conn, [note for note in notes if note["kind"] == "unlocated"])
                for note in notes:
                    if note["kind"] == "moving" and (found := self._moved(conn, note, now)) is not None:
                        self._due[found.device.device] = found
        if lines:
            self._cursor = after
            self._write_cursor()
        self._send_one(self._engine, now)
        return len(lines) == LINES_AT_ONCE or bool(self._due)

    def _send_one(self, engine: Engine, now: float) -> None:
        """One at a time: where phones and mail servers do not answer, what others moved to must not wait for all.

        It counts as sent when it is delivered: a mail server that is down must not cost its user half a day without.
        """
        if not self._due:
            return
        device = next(iter(self._due))
        if self._invite(self._due.pop(device)):
            with writing(engine) as conn:
                row = network_of(conn, device)
                if row is not None:
                    keep_network(conn, replace(row, link_sent_at=now))

    def _moved(self, conn: Connection, note: Mapping[str, Any], now: float) -> Invitation | None:
        """A phone that moves about has registered: is its location still of the network it is on?"""
        device = get_device(conn, str(note.get("device", "")))
        network = str(note.get("network", ""))
        if device is None or not network:
            return None
        row, is_elsewhere = placed(network_of(conn, device.device), device, network)
        config = self._settings()
        unconfirmed = NEW_NETWORK if is_elsewhere else ""
        if device.unconfirmed != unconfirmed and device.unconfirmed in ("", NEW_NETWORK):
            author = Author(who=f"registered from {network}", via="registration")
            mark_devices(conn, {device.device: {"unconfirmed": unconfirmed}}, author)
            fields = {"device": device.device, "network": network, "unconfirmed": bool(unconfirmed)}
            log.info("location-of-phone", extra={"event_fields": fields})
        if not is_elsewhere:
            self._due.pop(device.device, None)
        invitation = None
        policy = config.locations.unconfirmed
        base = base_url(config)
        if is_elsewhere and base and (not row.link_sent_at or now - row.link_sent_at >= policy.again_after):
            secret = secrets_of(self._state, config.node)[0]
            invitation = Invitation(
                device=device,
                url=link_to(base, secret, device, now + policy.link_days * DAY),
                address=str(note.get("address", "")) if note.get("is_direct") else "",
                transport=str(note.get("transport", "udp")),
                **{name: str(note.get(name, "")) for name in ("contact", "route", "proxy")},
            )
        keep_network(conn, row)
        return invitation

    def _read_cursor(self) -> Cursor:
        try:
            data = orjson.loads((self._directory / CURSOR_FILE).read_bytes())
            return Cursor(int(data["segment"]), int(data["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            return START

    def _write_cursor(self) -> None:
        """Without fsync: notes read twice do no harm."""
        with contextlib.suppress(OSError):
            path = self._directory / CURSOR_FILE
            written = path.with_suffix(".new")
            written.write_bytes(orjson.dumps({"segment": self._cursor.segment, "offset": self._cursor.offset}))
            written.replace(path)
            self._reader.discard_before(self._cursor)

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()


def placed(row: NetworkRow | None, device: Device, network: str) -> tuple[NetworkRow, bool]:
    """What is kept after a device registered from a network, and whether that is not where its location holds.

    A location given since then holds where the phone was when it was asked for, else where it is now.
    """
    if row is None or row.location_at < device.confirmed_at:
        home = row.pending if row is not None and row.pending else network
        row = NetworkRow(
            device=device.device,
            network=home,
            pending="",
            location_at=device.confirmed_at,
            link_sent_at=row.link_sent_at if row is not None and home != network else 0.0,
        )
    is_elsewhere = network != row.network
    return replace(row, pending=network if is_elsewhere else ""), is_elsewhere


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        note = orjson.loads(line)
        if not isinstance(note, dict) or not note.get("phone") or note.get("kind") not in ("unlocated", "moving"):
            return None
        note["at"] = float(note["at"])
        note["phone"] = str(note["phone"])[:300]
    except (ValueError, TypeError, KeyError):
        return None
    return note


def invitation_text(config: Config, invitation: Invitation) -> tuple[str, str]:
    """Subject and text of an invitation, in the language of its device."""
    return link_text(invitation.device.language, invitation.device.name or invitation.device.device, invitation.url)
