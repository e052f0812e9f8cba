"""From journal lines to notices: who is told what of which call, in which language, and what is folded.

Reads no clock and sends nothing; router.notices feeds it lines and the time.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from config.schema import Config, Contact
from e911.notice import Notice, NoticeKind, write_notice
from e911.record import CallEnded, CallIntent, CallRefused
from router.journal import decode_event
from router.noticelog import NoticeLog, Restored, with_outcome
from router.outbox import Entry, Group, NoticeState, Outbox, StormGate

FOLDED_SHOWN = 50
"""Calls that a folded notice is given to name; its count is of all."""
OPEN_CALLS = 50_000
"""Calls whose end is waited for, at most."""
ENDED_CALLS = 1_000
"""Calls that ended last: a line that is in the journal twice is no call of which nothing is known."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that contacts are told: a call, a test, a failure, a refusal."""

    kind: str
    call: str
    site: str
    contacts: tuple[str, ...]
    is_test: bool
    line: bytes
    """The journal line of the intent or the refusal; of the end, where a failed call's intent is not known."""
    status: int = 0

    def as_data(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"kind": self.kind, "line": self.line.decode(), "status": self.status}


def occurrence_from(line: bytes, *, kind: str = "", status: int = 0) -> Occurrence:
    """The occurrence in the journal line of an intent, a refusal, or an end whose intent is not known.

    Raises ValueError, KeyError or TypeError.
    """
    data = orjson.loads(line)
    is_test = data.get("kind") == "test"
    if not kind:
        refused = data["type"] == "refused"
        kind = (NoticeKind.REFUSED if refused else NoticeKind.TEST if is_test else NoticeKind.CALL).value
    return Occurrence(
        kind=kind,
        call=data["id"],
        site=data.get("site", ""),
        contacts=tuple(data.get("contacts", ()) if data["type"] == "ended" else data["contacts"]),
        is_test=is_test,
        line=line,
        status=status,
    )


@dataclass(slots=True)
class Intake:
    """Turns journal lines into entries of the outbox."""

    outbox: Outbox
    notice_log: NoticeLog
    config: Config
    reread: Callable[[], Config]
    """Gives the configuration as it is now on disk, or the old one where that is no good or was just read."""
    restored: Restored = field(default_factory=Restored)
    gate: StormGate[Occurrence] = field(default_factory=StormGate)
    open_calls: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    ended_calls: OrderedDict[str, None] = field(default_factory=OrderedDict)
    folded_total: int = 0
    unknown_contacts: set[str] = field(default_factory=set)
    corrupt: int = 0

    def resume(self, now: float, at: float) -> None:
        """Take up what the notice log says was under way."""
        for call, line in self.restored.open_calls.items():
            self.open_calls[call] = line.encode()
        for entry in self.restored.entries.values():
            self.outbox.add(entry, now)
        for call, kind, contact in self.restored.seen:
            self.outbox.is_new(call, kind, contact)
        for data in self.restored.gathered:
            occurrence = occurrence_from(data["line"].encode(), kind=data["kind"], status=data["status"])
            for contact in data["contacts"]:
                self.outbox.forget_seen(occurrence.call, occurrence.kind, contact)
            self._offer(occurrence, data["contacts"], now, at)

    def take_line(self, line: bytes, now: float, at: float) -> None:
        """One journal line. One that cannot be read is skipped, counted and logged by name."""
        if line.startswith(b'{"type":"route"'):
            return
        try:
            self._take(line, now, at)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.corrupt += 1
            fields = {"reason": type(error).__name__, "bytes": len(line)}
            log.error("journal-line-corrupt", extra={"event_fields": fields})

    def close_windows(self, now: float, at: float) -> None:
        """Send what was gathered where its window is over."""
        for group, gathered in self.gate.ended(now):
            self._fold(group, gathered, now, at)

    def release(self, now: float, at: float) -> None:
        """Send everything gathered, window or not."""
        for group, gathered in self.gate.release():
            self._fold(group, gathered, now, at)

    def gathered_data(self) -> list[dict[str, Any]]:
        """What is being gathered, for a checkpoint."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (contact, _, _), occurrences in self.gate.gathered():
            for occurrence in occurrences:
                data = found.setdefault((occurrence.call, occurrence.kind), {**occurrence.as_data(), "contacts": []})
                data["contacts"].append(contact)
        return list(found.values())

    def _take(self, line: bytes, now: float, at: float) -> None:
        if line.startswith((b'{"type":"intent"', b'{"type":"refused"')):
            occurrence = occurrence_from(line)
            if occurrence.kind != NoticeKind.REFUSED.value:
                self.open_calls[occurrence.call] = line
                if len(self.open_calls) > OPEN_CALLS:
                    self.open_calls.popitem(last=False)
            self._offer(occurrence, occurrence.contacts, now, at)
            return
        event = orjson.loads(line)
        if event["type"] != "ended":
            return
        call = event["id"]
        intent = self.open_calls.pop(call, None)
        if intent is not None:
            self.ended_calls[call] = None
            if len(self.ended_calls) > ENDED_CALLS:
                self.ended_calls.popitem(last=False)
        if event["outcome"] != "failed":
            return
        if intent is None:
            if call not in self.ended_calls:
                log.error("failed-call-unknown", extra={"event_fields": {"call": call}})
                # Who was to be told of it is not known, so everybody is: somebody may still need help.
                occurrence = occurrence_from(line, kind=NoticeKind.FAILED.value, status=event["status"])
                self._offer(occurrence, list(self.config.contacts), now, at)
            return
        occurrence = occurrence_from(intent, kind=NoticeKind.FAILED.value, status=event["status"])
        self._offer(occurrence, occurrence.contacts, now, at)

    def _offer(self, occurrence: Occurrence, contacts: Iterable[str], now: float, at: float) -> None:
        write = self._writer(occurrence)
        contacts = list(contacts)
        if any(name not in self.config.contacts for name in contacts):
            # The call process may have read a newer configuration than we have.
            self.config = self.reread()
        names = dict.fromkeys(contacts)
        if contacts and not any(name in self.config.contacts for name in contacts):
            names |= dict.fromkeys(self.config.contacts)  # told to everybody is better than told to nobody
        for name in names:
            contact = self.config.contacts.get(name)
            if contact is None:
                if name not in self.unknown_contacts:
                    log.error("contact-unknown", extra={"event_fields": {"contact": name}})
                self.unknown_contacts.add(name)
                continue
            if occurrence.is_test and not contact.tests:
                continue
            if not self.outbox.is_new(occurrence.call, occurrence.kind, name):
                continue
            told = (occurrence.call, occurrence.kind, name)
            into = self.restored.folded.pop(told, None)
            if into is not None:
                self._add_folded(occurrence, name, contact, into, now, at)
                continue
            group: Group = (name, occurrence.site, occurrence.kind)
            was_told = any((*told, channel) in self.restored.outcomes for channel in range(len(contact.send)))
            if was_told or self.gate.offer(group, occurrence, now):
                self._queue(occurrence, name, contact, write(contact.language), now, at)

    def _queue(
        self, occurrence: Occurrence, name: str, contact: Contact, notice: Notice, now: float, at: float
    ) -> None:
        for channel in range(len(contact.send)):
            entry = Entry(
                call=occurrence.call,
                kind=occurrence.kind,
                contact=name,
                channel=channel,
                site=occurrence.site,
                queued_at=at,
                next_attempt_at=at,
                subject=notice.subject,
                body=notice.body,
            )
            outcome = self.restored.outcomes.pop(entry.key, None)
            self.outbox.add(with_outcome(entry, outcome) if outcome else entry, now)

    def _add_folded(
        self, occurrence: Occurrence, name: str, contact: Contact, into: str, now: float, at: float
    ) -> None:
        for channel in range(len(contact.send)):
            entry = Entry(
                call=occurrence.call,
                kind=occurrence.kind,
                contact=name,
                channel=channel,
                site=occurrence.site,
                state=NoticeState.FOLDED,
                queued_at=at,
                folded_into=into,
            )
            self.outbox.add(entry, now)

    def _fold(self, group: Group, gathered: list[Occurrence], now: float, at: float) -> None:
        name, site, kind = group
        contact = self.config.contacts.get(name)
        if contact is None:
            log.error("contact-unknown", extra={"event_fields": {"contact": name, "gathered": len(gathered)}})
            return
        first = gathered[0]
        if len(gathered) == 1:
            self._queue(first, name, contact, self._writer(first)(contact.language), now, at)
            return
        self.folded_total += len(gathered)
        notice = self._write(first, contact.language, gathered)
        for channel in range(len(contact.send)):
            entry = Entry(
                call=first.call,
                kind=f"folded-{kind}",
                contact=name,
                channel=channel,
                site=site,
                queued_at=at,
                next_attempt_at=at,
                subject=notice.subject,
                body=notice.body,
            )
            self.outbox.add(entry, now)
            self.notice_log.note(entry, whole=True)
        self.notice_log.note_folded(kind, name, first.call, [occurrence.call for occurrence in gathered])
        for occurrence in gathered:
            self._add_folded(occurrence, name, contact, first.call, now, at)

    def _writer(self, occurrence: Occurrence) -> Callable[[str], Notice]:
        """Writes the notice of one occurrence, once per language."""
        written: dict[str, Notice] = {}

        def write(language: str) -> Notice:
            if language not in written:
                written[language] = self._write(occurrence, language, ())
            return written[language]

        return write

    def _write(self, occurrence: Occurrence, language: str, gathered: Sequence[Occurrence]) -> Notice:
        """The notice of one occurrence, or of all that were gathered."""
        try:
            notice = self._in_words(occurrence, language, gathered)
        except Exception as error:  # a notice in poor words is better than none
            fields = {"call": occurrence.call, "kind": occurrence.kind, "reason": type(error).__name__}
            log.error("notice-not-written", extra={"event_fields": fields}, exc_info=True)
            test = "TEST " if occurrence.is_test else ""
            notice = Notice(
                subject=f"{test}911 {occurrence.kind}: {occurrence.site}",
                body=f"911: {occurrence.kind}\nsite: {occurrence.site}\nrecord: {occurrence.call}\n",
            )
        is_counted = occurrence.kind in (NoticeKind.CALL.value, NoticeKind.TEST.value)
        if not gathered or is_counted:
            return notice
        # Alarms keep their words, or the folded notice would not say that the calls did not go through.
        records = "\n".join(other.call for other in gathered[:FOLDED_SHOWN])
        subject = f"{len(gathered)} × {notice.subject}"
        return Notice(subject=subject, body=f"{subject}\n\n{notice.body}\n{records}\n")

    def _in_words(self, occurrence: Occurrence, language: str, gathered: Sequence[Occurrence]) -> Notice:
        event = decode_event(occurrence.line)
        if isinstance(event, CallEnded):
            return _of_unknown_call(event)
        if not isinstance(event, (CallIntent, CallRefused)):
            raise TypeError("neither an intent nor a refusal")
        site = next((site for site in self.config.sites if site.id == occurrence.site), None)
        zone = event.zone if isinstance(event, CallIntent) else ""
        zones = {item.id: item.name for item in site.zones} if site else {}
        is_folded = bool(gathered) and occurrence.kind in (NoticeKind.CALL.value, NoticeKind.TEST.value)
        shown = [decode_event(other.line) for other in gathered[:FOLDED_SHOWN]] if is_folded else []
        return write_notice(
            NoticeKind.FOLDED if is_folded else NoticeKind(occurrence.kind),
            event,
            language=language,
            site_name=(site.name if site else "") or occurrence.site,
            timezone=site.timezone if site else "UTC",
            zone_name=zones.get(zone, "") or zone,
            status=occurrence.status,
            folded=[found for found in shown if isinstance(found, CallIntent)],
            folded_count=len(gathered),
        )


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


def checkpoint_state(intake: Intake) -> Mapping[str, Any]:
    """What a checkpoint of the notice log holds, by argument name."""
    gathered = intake.gathered_data()
    return {
        "open_calls": {call: line.decode() for call, line in intake.open_calls.items()},
        "entries": list(intake.outbox.entries.values()),
        "seen": intake.outbox.seen(),
        "gathered": gathered,
    }
