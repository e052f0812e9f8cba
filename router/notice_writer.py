"""Writes notices: which words, which form, with which links. Whatever goes wrong, there is a text."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from config.schema import Config, Contact
from e911.notice import Notice, NoticeKind, write_notice
from e911.notice_forms import short_form, spoken_form
from e911.record import CallEnded, CallIntent, CallRefused
from router.event_lines import decode_event
from router.outbox import Fold
from router.receivers.forms import Form

FOLDED_SHOWN = 50
"""Calls that a folded notice is given to name; its count is of all."""
_ENDED = b'{"type":"ended"'

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Occurrence:
    """Something that contacts are told: a call, a test, a failure, a refusal."""

    kind: str
    call: str
    site: str
    is_test: bool
    line: bytes
    """The journal line of the intent or the refusal; of the end, where a failed call's intent is not known."""
    status: int = 0

    def as_data(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**asdict(self), "line": self.line.decode()}


def occurrence_from(data: dict[str, Any]) -> Occurrence:
    """The Occurrence that `as_data` gave."""
    return Occurrence(**{**data, "line": data["line"].encode()})


@dataclass(slots=True)
class NoticeWriter:
    """Writes what happened for a contact, in the form that a channel wants."""

    config: Config

    def write(
        self,
        occurrence: Occurrence,
        contact: Contact,
        form: Form,
        gathered: Sequence[Occurrence] = (),
        count: int = 0,
    ) -> Notice:
        """The notice of one occurrence, or of `count`, of which the first were gathered."""
        try:
            return self._in_words(occurrence, contact.language, form, gathered, count)
        except Exception as error:  # a notice in poor words is better than none
            fields = {"call": occurrence.call, "kind": occurrence.kind, "reason": type(error).__name__}
            log.error("notice-not-written", extra={"event_fields": fields}, exc_info=True)
            test = "TEST " if occurrence.is_test else ""
            return Notice(
                subject=f"{test}911 {occurrence.kind}: {occurrence.site}",
                body=f"911: {occurrence.kind}\nsite: {occurrence.site}\nrecord: {occurrence.call}\n",
            )

    def write_fold(self, shown: Sequence[Occurrence], fold: Fold, contact: Contact, form: Form) -> Notice:
        """The notice of all that were gathered."""
        # Those of which more is known than their end say what happened.
        telling = [item for item in shown if not item.line.startswith(_ENDED)]
        if telling:
            return self.write(telling[0], contact, form, telling, len(fold.calls))
        notice = self.write(shown[0], contact, form)
        records = "\n".join(fold.calls[:FOLDED_SHOWN])
        subject = f"{len(fold.calls)} × {notice.subject}"
        return Notice(subject=subject, body=f"{subject}\n\n{notice.body}\n{records}\n")

    def _in_words(
        self, occurrence: Occurrence, language: str, form: Form, gathered: Sequence[Occurrence], count: int
    ) -> Notice:
        event = decode_event(occurrence.line)
        if isinstance(event, CallEnded):
            return _in_form(_of_unknown_call(event), None, form, language)
        if not isinstance(event, (CallIntent, CallRefused)):
            raise TypeError("neither an intent nor a refusal")
        site = next((site for site in self.config.sites if site.id == occurrence.site), None)
        zone = event.zone if isinstance(event, CallIntent) else ""
        zones = {item.id: item.name for item in site.zones} if site else {}
        is_call = occurrence.kind in (NoticeKind.CALL.value, NoticeKind.TEST.value)
        shown = [decode_event(other.line) for other in gathered]
        notice = write_notice(
            NoticeKind.FOLDED if gathered and is_call else NoticeKind(occurrence.kind),
            event,
            language=language,
            site_name=(site.name if site else "") or occurrence.site,
            timezone=site.timezone if site else "UTC",
            zone_name=zones.get(zone, "") or zone,
            status=occurrence.status,
            folded=[found for found in shown if isinstance(found, (CallIntent, CallRefused))],
            folded_count=count,
        )
        return _in_form(notice, None if gathered else event, form, language)


def _in_form(notice: Notice, event: CallIntent | CallRefused | None, form: Form, language: str) -> Notice:
    match form:
        case Form.SHORT:
            return Notice(subject="", body=short_form(notice, event, language))
        case Form.SPOKEN:
            return Notice(subject=notice.subject, body=spoken_form(notice, event, language))
    return notice


def _of_unknown_call(event: CallEnded) -> Notice:
    """The alarm for a failed call of which only the end is in the journal."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(event.at))
    return Notice(
        subject="911 CALL DID NOT GO THROUGH: caller unknown",
        body=(
            "A 911 call did NOT go through. Who called and from where is not known: the journal has lost it.\n"
            "Find out who needs help, and call 911 from another phone. The log of the call process may name the "
            "caller.\n\n"
            f"When: {when}\n"
            + (f"Last answer: {event.status}\n" if event.status else "")
            + f"Call record: {event.id}\n"
        ),
    )
