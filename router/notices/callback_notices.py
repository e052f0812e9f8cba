"""Journal lines of callbacks and alarms made into what contacts are told."""

from typing import TYPE_CHECKING, Final

import orjson

from router.notices.notice_writer import Occurrence
from router.notices.receivers.job import ALARM, CALLBACK

if TYPE_CHECKING:
    from router.notices.intake import Intake

LINES: Final = (b'{"type":"callback"', b'{"type":"alarm"')
_MOST = 20
"""Callbacks of one call that are told; what comes after them is in the record."""


def take(intake: "Intake", line: bytes, now: float, at: float) -> None:
    """Tell the contacts of one such line. Raises ValueError, KeyError or TypeError where it is none."""
    event = orjson.loads(line)
    contacts = [str(name) for name in event.get("contacts", ())]
    call, site = event["id"], event.get("site", "")
    if event["type"] == ALARM:
        kind = f"{ALARM}-{event['reason']}"
        intake.offer(_occurrence(kind, call, site, line, event["at"]), contacts or _all(intake), now, at)
        return
    if event["outcome"] != "received":
        return
    wanted = [
        name
        for name in contacts or _all(intake)
        if (contact := intake.config.contacts.get(name)) is None or CALLBACK in contact.follow_ups
    ]
    # Each is told by itself: a PSAP that calls back again has still not spoken with anybody.
    for number in range(1, _MOST + 1):
        kind = CALLBACK if number == 1 else f"{CALLBACK}-{number}"
        if not any(intake.outbox.was_told(call, kind, name) for name in wanted):
            occurrence = _occurrence(kind, call, site, line, event["at"])
            occurrence.is_test = bool(event.get("is_test"))
            intake.offer(occurrence, wanted, now, at)
            return


def _all(intake: "Intake") -> list[str]:
    return list(intake.config.contacts)


def _occurrence(kind: str, call: str, site: str, line: bytes, at: float) -> Occurrence:
    return Occurrence(kind=kind, call=call, site=site, is_test=False, line=line, at=at)
