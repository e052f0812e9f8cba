"""Who has seen a notice or acknowledged it: each said once, kept until stored, and the watches of the call told."""

import logging
import queue
import time
from functools import partial
from typing import Any

from router.notices.channels import privacy_url
from router.notices.confirmations import Confirmation, Step
from router.notices.intake import Intake
from router.notices.noticelog import NoticeLog
from router.notices.outbox import Key, Outbox
from router.process.telemetry import say

CONFIRMATIONS_REMEMBERED = 20_000

_say = partial(say, logging.getLogger("router.notices"))


class Confirming:
    """What people did with notices, by whatever way the word comes: link, console, command, or a key of a phone."""

    def __init__(self, intake: Intake, outbox: Outbox, log: NoticeLog) -> None:
        self._intake = intake
        self._outbox = outbox
        self._log = log
        self._keys: queue.SimpleQueue[tuple[Key, str]] = queue.SimpleQueue()
        """What happened to calls to desks: picked up (an empty key), or a key pressed."""
        self._confirmed: set[tuple[str, str, str, int, str]] = set()
        self.unstored: dict[tuple[str, str, str, int, str], Confirmation] = {}
        """Those that may not be stored yet."""

    def note_key(self, token: Any, key: str) -> None:
        """In the thread of the phones."""
        self._keys.put((token, key))

    def take_keys(self) -> None:
        """What was pressed since."""
        while not self._keys.empty():
            (call, _, contact, channel), key = self._keys.get()
            told = self._intake.config.contacts.get(contact)
            url = told.send[channel] if told is not None and channel < len(told.send) else ""
            self.take(
                Confirmation(
                    call=call,
                    step=Step.ACKNOWLEDGED if key else Step.SEEN,
                    contact=contact,
                    channel=channel,
                    by=privacy_url(url) if url else contact,
                    how=f"phone, key {key}" if key else "phone, picked up",
                    at=time.time(),
                )
            )

    def take(self, confirmation: Confirmation, *, is_restored: bool = False) -> None:
        """Somebody has seen or acknowledged a notice; the same again changes nothing."""
        if confirmation.key in self._confirmed:
            return
        self._confirmed.add(confirmation.key)
        if len(self._confirmed) > CONFIRMATIONS_REMEMBERED:
            self._confirmed = set(self.unstored)
        self.unstored[confirmation.key] = confirmation
        if not is_restored:
            self._log.note_confirmation(confirmation)
        if confirmation.step is Step.ACKNOWLEDGED:
            self._intake.watches.acknowledge(self._calls_of(confirmation), confirmation.by, confirmation.at)
        if not is_restored:
            fields = {"call": confirmation.call, "contact": confirmation.contact, "how": confirmation.how}
            _say(logging.INFO, f"notice-{confirmation.step.value}", by=confirmation.by, **fields)

    def _calls_of(self, confirmation: Confirmation) -> list[str]:
        """The call, and those told in one notice with it."""
        calls = [confirmation.call]
        for fold in self._outbox.folds.values():
            if fold.call == confirmation.call:
                calls += [call for call in fold.calls if call != fold.call]
        return calls
