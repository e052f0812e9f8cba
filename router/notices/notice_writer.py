"""Writes notices: which words, which form, with which links. Whatever goes wrong, there is a text."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from config.schema import Config, Contact
from e911.callback_words import write_alarm, write_callback
from e911.follow_up import FollowUp, passed_on, untold, write_follow_up
from e911.notice import Notice, NoticeKind, write_notice
from e911.notice_forms import notice_facts, short_form, spoken_form
from e911.record import AlarmRaised, CallbackEvent, CallEnded, CallIntent, CallRefused
from router.journal.event_lines import decode_event
from router.notices.links import Links, links_words
from router.notices.outbox import Fold
from router.notices.receivers.forms import Form
from router.notices.receivers.job import FOLLOW_UPS, base_kind

FOLDED_SHOWN = 50
"""Calls that a folded notice is given to name; its count is of all."""
ESCALATED = "escalated"
"""Told because somebody has not acknowledged."""
UNTOLD = "untold"
"""Told because nobody else could be reached."""
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
    at: float = 0.0
    """When it happened, seconds since 1970."""
    root: str = ""
    """Of what is passed on to somebody else: the kind of the notice that is."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Of what became of a call, or of why it is passed on: what the words need beside the line."""

    @property
    def told_as(self) -> str:
        """The kind whose words are used."""
        return base_kind(self.root or self.kind)

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
    links: Links
    directory: Path = Path()
    """Where relative paths of the configuration begin."""

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
            return self._in_words(occurrence, contact, form, gathered, count)
        except Exception as error:  # a notice in poor words is better than none
            fields = {"call": occurrence.call, "kind": occurrence.kind, "reason": type(error).__name__}
            log.error("notice-not-written", extra={"event_fields": fields}, exc_info=True)
            test = "TEST " if occurrence.is_test else ""
            return Notice(
                subject=f"{test}911 {occurrence.kind}: {occurrence.site}",
                body=f"911: {occurrence.kind}\nsite: {occurrence.site}\nrecord: {occurrence.call}\n",
            )

    def with_link(self, notice: Notice, call: str, contact: str, language: str, form: Form, at: float) -> Notice:
        """The same with the contact's own link by which it is acknowledged, where the form has room for it."""
        if form is not Form.FULL:
            return notice
        url = self.links.acknowledge_url(call, contact, at)
        if not url:
            return notice
        return Notice(subject=notice.subject, body=f"{notice.body}{links_words(language).acknowledge} {url}\n")

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
        self, occurrence: Occurrence, contact: Contact, form: Form, gathered: Sequence[Occurrence], count: int
    ) -> Notice:
        language = contact.language
        event = decode_event(occurrence.line)
        if isinstance(event, CallEnded):
            return _in_form(_of_unknown_call(event), None, form, language)
        if isinstance(event, (CallbackEvent, AlarmRaised)):
            place = self._place(occurrence.site, "")
            keys = {"language": language, "site_name": place.site_name, "timezone": place.timezone}
            notice = write_callback(event, **keys) if isinstance(event, CallbackEvent) else write_alarm(event, **keys)
            return self._finished(notice, None, occurrence, contact, form)
        if not isinstance(event, (CallIntent, CallRefused)):
            raise TypeError("neither an intent nor a refusal")
        place = self._place(occurrence.site, event.zone if isinstance(event, CallIntent) else "")
        if occurrence.kind in FOLLOW_UPS:
            notice = write_follow_up(
                FollowUp(occurrence.kind),
                event,
                language=language,
                site_name=place.site_name,
                zone_name=place.zone_name,
                timezone=place.timezone,
                **occurrence.detail,
            )
            return self._finished(notice, event, occurrence, contact, form)
        kind = occurrence.told_as
        is_call = kind in (NoticeKind.CALL.value, NoticeKind.TEST.value)
        shown = [decode_event(other.line) for other in gathered]
        notice = write_notice(
            NoticeKind.FOLDED if gathered and is_call else NoticeKind(kind),
            event,
            language=language,
            site_name=place.site_name,
            timezone=place.timezone,
            zone_name=place.zone_name,
            status=occurrence.status,
            folded=[found for found in shown if isinstance(found, (CallIntent, CallRefused))],
            folded_count=count,
        )
        if occurrence.kind == ESCALATED:
            notice = passed_on(notice, language, **occurrence.detail)
        elif occurrence.kind == UNTOLD:
            notice = untold(notice, language, **occurrence.detail)
        return self._finished(notice, None if gathered else event, occurrence, contact, form)

    def _finished(
        self,
        notice: Notice,
        event: CallIntent | CallRefused | None,
        occurrence: Occurrence,
        contact: Contact,
        form: Form,
    ) -> Notice:
        language = contact.language
        if contact.templates:
            own = self._by_template(notice, event, occurrence, contact, form)
            if own is not None:
                return own
        if form is Form.FULL and (url := self.links.call_url(occurrence.call)):
            notice = Notice(subject=notice.subject, body=f"{notice.body}{links_words(language).call} {url}\n")
        return _in_form(notice, event, form, language)

    def _by_template(
        self,
        notice: Notice,
        event: CallIntent | CallRefused | None,
        occurrence: Occurrence,
        contact: Contact,
        form: Form,
    ) -> Notice | None:
        """The notice in the contact's own words; None where there are none for this form, or they fail."""
        from router.notices.templates import render

        language = contact.language
        facts = self.facts(notice, event, occurrence, contact)
        folder = self.directory / (contact.templates or "")
        kind = base_kind(occurrence.kind)
        if form is not Form.FULL:
            text = render(folder, language, kind, form.value, facts)
            subject = notice.subject if form is Form.SPOKEN else ""
            return Notice(subject=subject, body=text) if text else None
        subject = render(folder, language, kind, "subject", facts) or notice.subject
        body = render(folder, language, kind, "body", facts)
        if body is None and subject == notice.subject:
            return None
        return Notice(subject=subject, body=body or notice.body)

    def facts(
        self, notice: Notice, event: CallIntent | CallRefused | None, occurrence: Occurrence, contact: Contact
    ) -> dict[str, object]:
        """All that a template of the contact may say of an occurrence; `notice` is it in the supplied words."""
        place = self._place(occurrence.site, event.zone if isinstance(event, CallIntent) else "")
        return {
            **notice_facts(
                notice, event, contact.language, site=place.site_name, zone=place.zone_name, zone_of=place.timezone
            ),
            "kind": occurrence.kind,
            "count": occurrence.detail.get("more", 0) + 1,
            "record": occurrence.call,
            "node": self.config.node,
            "call_url": self.links.call_url(occurrence.call),
        }

    def _place(self, site_id: str, zone: str) -> "_Place":
        site = next((site for site in self.config.sites if site.id == site_id), None)
        zones = {item.id: item.name for item in site.zones} if site else {}
        return _Place(
            site_name=(site.name if site else "") or site_id,
            zone_name=zones.get(zone, "") or zone,
            timezone=site.timezone if site else "UTC",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    site_name: str
    zone_name: str
    timezone: str


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
