"""From journal lines to notices: who is told what of which call, in which language, and what is folded.

Reads no clock and sends nothing; router.notices feeds it lines and the time.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from config.schema import Config, Contact
from e911.notice import Notice, NoticeKind
from e911.notice_forms import short_form
from router.journal.brief import brief_of
from router.notices import callback_notices
from router.notices.channel_identity import channel_id, url_of
from router.notices.links import Links
from router.notices.notice_writer import FOLDED_SHOWN, NoticeWriter, Occurrence, occurrence_from
from router.notices.noticelog import NoticeLog, Restored, with_outcome
from router.notices.outbox import Entry, Fold, Group, Key, NoticeState, Outbox, StormGate
from router.notices.passing_on import PASSED_ON, follow, takes_follow_ups
from router.notices.quiet import quiet_until
from router.notices.receivers.forms import Form, form_of, has_answer
from router.notices.receivers.job import ALARM, CALLBACK, FOLLOW_UPS, base_kind
from router.notices.watches import Watch, Watches, watch_from

OPEN_CALLS = 50_000
"""Calls whose end is waited for, at most."""
WHOLE_INTENTS_BYTES = 8 * 1024 * 1024
"""Intents of open calls kept as they came; beyond it, further ones are kept without what an alarm does not say."""
ENDED_CALLS = 1_000
"""Calls that ended last: a line that is in the journal twice is no call of which nothing is known."""
LIVE_SECONDS = 3.0
"""A node that was silent for less has lost no notice to another."""
LONGEST_AGO = 86_400.0
"""Seconds since a call from which on the time of its notice counts instead."""
CORRUPT_TOLD = 100
"""Log lines about journal lines that cannot be read; further ones are only counted."""
_INTENT = b'{"type":"intent"'
_REFUSED = b'{"type":"refused"'
_ROUTE = b'{"type":"route"'
_FINISHED = b'{"type":"finished"'
_PASSED_OVER = (_ROUTE, _FINISHED, b'{"type":"dialog"', b'{"type":"locating"')
_BASIC = (b'"kind":"basic"', b'"outcome":"started"')
"""What the line of a basic route that is tried holds; what it is really is read then."""

_WATCHED = frozenset({NoticeKind.CALL.value, NoticeKind.FAILED.value, NoticeKind.REFUSED.value})
"""Kinds of notices that somebody must get, and may have to acknowledge. Tests are none."""
ACKNOWLEDGED = _WATCHED | PASSED_ON
"""Kinds that carry a link to acknowledge."""

log = logging.getLogger(__name__)


Written = dict[tuple[str, Form, str], Notice]
"""What has been written of one occurrence: by language, form, and folder of templates."""
Gathered = Occurrence | str
"""What is being folded: the first FOLDED_SHOWN of a group with all that they say, of the others the record id."""


@dataclass(slots=True)
class Intake:
    """Turns journal lines into entries of the outbox."""

    outbox: Outbox
    notice_log: NoticeLog
    config: Config
    reread: Callable[[], Config]
    """Gives the configuration as it is now on disk, or the old one where that is no good or was just read."""
    restored: Restored = field(default_factory=Restored)
    gate: StormGate[Gathered] = field(default_factory=StormGate)
    open_calls: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    open_bytes: int = 0
    ended_calls: OrderedDict[str, None] = field(default_factory=OrderedDict)
    folded_total: int = 0
    escalated_total: int = 0
    nobody_told_total: int = 0
    unknown_contacts: set[str] = field(default_factory=set)
    corrupt: int = 0
    hold_seconds: float = 0.0
    """So long what is older than LIVE_SECONDS waits, while the journal is read again after a restart."""
    watches: Watches = field(default_factory=Watches)
    links: Links = field(default_factory=Links)
    directory: Path = Path()
    """Where relative paths of the configuration begin."""

    def resume(self, now: float, at: float) -> None:
        """Take up what the notice log says was under way. What was being gathered is told at once."""
        for call, line in self.restored.open_calls.items():
            self._open(call, line.encode())
        for data in self.restored.watches:
            with suppress(KeyError, TypeError, ValueError):  # one of another version: its call was told all the same
                watch = watch_from(data)
                # The clock may have been set back meanwhile: nobody waits for longer than if it had begun now.
                watch.at = min(watch.at, at)
                for name, deadline in watch.deadlines.items():
                    after = self.config.contacts[name].escalate_after if name in self.config.contacts else None
                    watch.deadlines[name] = min(deadline, at + after) if after is not None else deadline
                self.watches.begin(watch)
        for call, kind, contact in self.restored.seen:
            self.outbox.is_new(call, kind, contact)
        for entry in self.restored.entries.values():
            self.outbox.add(entry, now + self._hold(entry, at))
            if entry.kind in PASSED_ON:  # the journal does not bring these again
                self.outbox.is_new(*entry.key[:3])
                self.settled(entry.key, delivered=entry.state is NoticeState.DELIVERED)
            elif entry.state is NoticeState.DELIVERED:  # after the checkpoint that has the watch
                self.settled(entry.key, delivered=True)
        self.outbox.folds.update(self.restored.folds)
        for data in self.restored.gathered:
            try:
                self._resume_gathered(data, now, at)
            except (KeyError, TypeError, ValueError) as error:
                log.error("notice-log-line-corrupt", extra={"event_fields": {"reason": type(error).__name__}})
        self.restored.gathered = []

    def _resume_gathered(self, data: dict[str, Any], now: float, at: float) -> None:
        """Fold what was being gathered for one group, but for what the log says was folded since."""
        group: Group = (data["contact"], data["site"], data["kind"])
        found: list[Gathered] = [*map(occurrence_from, data["shown"]), *data["calls"]]
        left = [item for item in found if (_call_of(item), data["kind"], data["contact"]) not in self.restored.folded]
        if left:
            self._fold(group, left, now, at)

    def timezone_of(self, site: str) -> str:
        """The time zone of a site, else of the default site, else of the first."""
        zones = {one.id: one.timezone for one in self.config.sites}
        return (
            zones.get(site)
            or zones.get(self.config.emergency.default.site or "")
            or next(iter(zones.values()), "UTC")
        )

    def tell_alarm(self, name: str, subject: str, body: str, contacts: Sequence[str], now: float, at: float) -> int:
        """Tell contacts of something that is no call; within quiet hours when they end. How many are told."""
        told = 0
        call = f"alarm-{name}"[:200]
        for contact_name in contacts:
            contact = self.config.contacts.get(contact_name)
            if contact is None or not self.outbox.is_new(f"{call}@{at // 60:.0f}", ALARM, contact_name):
                continue
            told += 1
            until = quiet_until(contact.quiet_hours, self.timezone_of(""), at) or at
            for channel, url in enumerate(contact.send):
                form = form_of(url)
                if form is Form.SPOKEN:
                    continue  # no telephone rings for what is no call
                short = short_form(Notice(subject=subject, body=body), None, contact.language)
                entry = Entry(
                    call=f"{call}-{at:.3f}",
                    kind=ALARM,
                    contact=contact_name,
                    channel=channel,
                    target=channel_id(url),
                    queued_at=at,
                    next_attempt_at=until,
                    subject=subject,
                    body=short if form is Form.SHORT else body,
                )
                self.outbox.add(entry, now + until - at)
                self.notice_log.note(entry, whole=True)
        return told

    def _hold(self, entry: Entry, at: float) -> float:
        """Seconds that a notice owed since before a restart waits for word of another node that may have told it."""
        if entry.kind.startswith(ALARM):
            return max((entry.next_attempt_at or at) - at, 0.0)
        return self.hold_seconds if at - entry.queued_at > LIVE_SECONDS else 0.0

    def take_line(self, line: bytes, now: float, at: float) -> None:
        """One journal line. One that cannot be read is skipped, counted and logged by name."""
        if line.startswith(_PASSED_OVER) and not self._is_followed(line):
            return
        try:
            self._take(line, now, at)
        except Exception as error:  # one line must never keep the others from being told
            self.corrupt += 1
            if self.corrupt <= CORRUPT_TOLD:
                fields = {"reason": type(error).__name__, "bytes": len(line)}
                is_damage = isinstance(error, ValueError | KeyError | TypeError | AttributeError)
                log.error("journal-line-corrupt", extra={"event_fields": fields}, exc_info=not is_damage)

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
        return [
            {
                "contact": contact,
                "site": site,
                "kind": kind,
                "shown": [item.as_data() for item in gathered if isinstance(item, Occurrence)],
                "calls": [item for item in gathered if isinstance(item, str)],
            }
            for (contact, site, kind), gathered in self.gate.gathered()
        ]

    def _take(self, line: bytes, now: float, at: float) -> None:
        event = brief_of(line)
        if line.startswith((_INTENT, _REFUSED)):
            call, is_test = event["id"], event.get("kind") == "test"
            if line.startswith(_REFUSED):
                kind = NoticeKind.REFUSED.value
            else:
                kind = NoticeKind.TEST.value if is_test else NoticeKind.CALL.value
                self._open(call, line)
            occurrence = Occurrence(kind=kind, call=call, site=event.get("site", ""), is_test=is_test, line=line)
            occurrence.at = event["at"]
            self.offer(occurrence, event["contacts"], now, at)
            return
        if line.startswith(callback_notices.LINES):
            callback_notices.take(self, line, now, at)
            return
        call = event["id"]
        if event["type"] != "ended":
            follow(self, event, now, at)
            return
        intent = self.open_calls.pop(call, None)
        if intent is not None:
            self.open_bytes -= len(intent)
            self.ended_calls[call] = None
            if len(self.ended_calls) > ENDED_CALLS:
                self.ended_calls.popitem(last=False)
        if event["outcome"] == "failed":
            self._take_failed(event, line, intent, now, at)
        else:
            follow(self, event, now, at)

    def _is_followed(self, line: bytes) -> bool:
        """Whether a line may be about something that a contact wants to hear of after the notice."""
        if not self.watches:
            return False
        if line.startswith(_ROUTE):
            return _BASIC[0] in line and _BASIC[1] in line
        return line.startswith(_FINISHED)

    def _take_failed(self, end: dict[str, Any], line: bytes, intent: bytes | None, now: float, at: float) -> None:
        call, kind, status = end["id"], NoticeKind.FAILED.value, end["status"]
        if intent is not None:
            event = brief_of(intent)
            occurrence = Occurrence(
                kind=kind,
                call=call,
                site=event.get("site", ""),
                is_test=event.get("kind") == "test",
                line=intent,
                status=status,
            )
            self.offer(occurrence, event["contacts"], now, at)
        elif call not in self.ended_calls:
            log.error("failed-call-unknown", extra={"event_fields": {"call": call}})
            # Who was to be told of it is not known, so everybody is: somebody may still need help.
            occurrence = Occurrence(kind=kind, call=call, site="", is_test=False, line=line, status=status)
            self.offer(occurrence, list(self.config.contacts), now, at)

    def _open(self, call: str, line: bytes) -> None:
        """Keep an intent until the call's end tells whether it failed."""
        if self.open_bytes > WHOLE_INTENTS_BYTES:
            line = _slim(line)
        self.open_bytes += len(line) - len(self.open_calls.get(call, b""))
        self.open_calls[call] = line
        if len(self.open_calls) > OPEN_CALLS:
            self.open_bytes -= len(self.open_calls.popitem(last=False)[1])

    def offer(self, occurrence: Occurrence, contacts: Sequence[str], now: float, at: float) -> None:
        """Tell contacts what has happened, or gather it where it comes too fast; each is told the same once."""
        call, kind, site = occurrence.call, occurrence.kind, occurrence.site
        restored = self.restored
        written: Written = {}
        for name in self._known(contacts):
            contact = self.config.contacts[name]
            if occurrence.is_test and not is_told_of_tests(contact, self.config.contacts):
                continue
            if not self.outbox.is_new(call, kind, name):
                continue
            told = (call, kind, name)
            if told in restored.folded:
                restored.folded.discard(told)
                continue
            group: Group = (name, site, kind)
            was_told = bool(restored.outcomes) and any(
                (*told, channel) in restored.outcomes for channel in range(len(contact.send))
            )
            item: Gathered = occurrence if self.gate.count(group) < FOLDED_SHOWN else call
            if was_told or self.gate.offer(group, item, now):
                self._queue(occurrence, name, contact, written, now, at)

    def settled(self, key: Key, *, delivered: bool) -> None:
        """A notice was tried: what it means for whoever watches over its call."""
        contact, entry = self.config.contacts.get(key[2]), self.outbox.entries.get(key)
        is_answered = True
        url = url_of(entry.target if entry else "", key[3], contact.send) if contact is not None else ""
        if url:
            with suppress(ValueError):  # a URL that is no channel delivers nothing
                is_answered = has_answer(url)
        self.watches.settled(key, delivered=delivered, is_answered=is_answered)

    def _writer(self) -> NoticeWriter:
        return NoticeWriter(self.config, self.links, self.directory)

    def _known(self, contacts: Sequence[str]) -> Sequence[str]:
        """Those of the contacts that are in the configuration, each once; everybody, where none of them is."""
        known = self.config.contacts
        for name in contacts:
            if name not in known:
                break
        else:
            return contacts if len(contacts) < 2 else list(dict.fromkeys(contacts))
        # The call process may have read a newer configuration than we have.
        self.config = self.reread()
        known = self.config.contacts
        names = list(dict.fromkeys(contacts))
        for name in names:
            if name not in known and name not in self.unknown_contacts:
                log.error("contact-unknown", extra={"event_fields": {"contact": name}})
                self.unknown_contacts.add(name)
        # Told to everybody is better than told to nobody.
        return [name for name in names if name in known] or list(known)

    def _queue(
        self,
        occurrence: Occurrence,
        name: str,
        contact: Contact,
        written: Written,
        now: float,
        at: float,
    ) -> None:
        """A notice that the journal would bring again."""
        entries = []
        may_wait = occurrence.is_test or occurrence.kind.startswith(ALARM)
        quiet = may_wait and quiet_until(contact.quiet_hours, self.timezone_of(occurrence.site), at)
        for entry in self.entries_for(occurrence, name, contact, written, at):
            if quiet and not occurrence.is_test:
                entry.next_attempt_at = quiet
            elif quiet:
                entry.state, entry.reason, entry.next_attempt_at = NoticeState.SKIPPED, "quiet-hours", None
            outcome = self.restored.take_outcome(entry, contact.send)
            entries.append(with_outcome(entry, outcome) if outcome else entry)
            waited = self.hold_seconds if self.hold_seconds and at - occurrence.at > LIVE_SECONDS else 0.0
            if quiet:
                waited = max(quiet - at, waited)
            self.outbox.add(entries[-1], now + waited)
        if occurrence.kind in _WATCHED:
            self._watch(occurrence, name, contact, entries, at)

    def entries_for(
        self,
        occurrence: Occurrence,
        name: str,
        contact: Contact,
        written: Written,
        at: float,
    ) -> list[Entry]:
        """An entry for each channel; what is written in one form and language is written once for all contacts."""
        writer = self._writer()
        is_told_to_all = occurrence.kind not in FOLLOW_UPS
        is_spoken_too = base_kind(occurrence.kind) not in (CALLBACK, ALARM)
        entries = []
        for channel, url in enumerate(contact.send):
            if not is_told_to_all and not takes_follow_ups(contact, url):
                continue
            form = form_of(url)
            if form is Form.SPOKEN and not is_spoken_too:
                continue  # that telephone is the one that 911 may be calling
            key = (contact.language, form, contact.templates or "")
            notice = written.get(key)
            if notice is None:
                notice = written[key] = writer.write(occurrence, contact, form)
            if occurrence.kind in ACKNOWLEDGED:
                notice = writer.with_link(notice, occurrence.call, name, contact.language, form, at)
            entries.append(_entry(occurrence, occurrence.kind, name, channel, url, notice, at))
        return entries

    def _watch(
        self, occurrence: Occurrence, name: str, contact: Contact, entries: Sequence[Entry], at: float, more: int = 0
    ) -> None:
        """From now on it matters whether somebody is reached, and whether somebody acknowledges."""
        watch = self.watches.begin(
            Watch(
                call=occurrence.call,
                kind=occurrence.kind,
                site=occurrence.site,
                line=occurrence.line,
                status=occurrence.status,
                at=at,
                more=more,
                follows=not more and occurrence.kind == NoticeKind.CALL.value,
            )
        )
        after = contact.escalate_after
        # Counted from the call, so that a restart begins no new count; but not by a clock that was set wrong.
        since = occurrence.at if at - LONGEST_AGO < occurrence.at < at else at
        deadline = since + after if after is not None and not watch.acknowledged_by else None
        self.watches.tell(watch, name, [entry.key for entry in entries], deadline)
        for entry in entries:
            if entry.attempts:
                self.settled(entry.key, delivered=entry.state is NoticeState.DELIVERED)

    def _fold(self, group: Group, gathered: Sequence[Gathered], now: float, at: float) -> None:
        name, site, kind = group
        contact = self.config.contacts.get(name)
        if contact is None:
            log.error("contact-unknown", extra={"event_fields": {"contact": name, "gathered": len(gathered)}})
            return
        shown = [item for item in gathered if isinstance(item, Occurrence)]
        if not shown:  # the log of a process that was killed is damaged: the notice says what is left
            is_test = kind == NoticeKind.TEST.value
            shown = [Occurrence(kind=kind, call=_call_of(gathered[0]), site=site, is_test=is_test, line=b"{}")]
        first = shown[0]
        if len(gathered) == 1:
            self._queue(first, name, contact, {}, now, at)
            return
        self.folded_total += len(gathered)
        fold = Fold(call=first.call, kind=kind, contact=name, site=site, at=at, calls=tuple(map(_call_of, gathered)))
        written: dict[Form, Notice] = {}
        writer = self._writer()
        entries = []
        for channel, url in enumerate(contact.send):
            form = form_of(url)
            if form not in written:
                notice = writer.write_fold(shown, fold, contact, form)
                written[form] = writer.with_link(notice, fold.call, name, contact.language, form, at)
            entry = _entry(first, f"folded-{kind}", name, channel, url, written[form], at)
            entries.append(entry)
            self.outbox.add(entry, now)
            self.notice_log.note(entry, whole=True)
        if kind in _WATCHED:
            self._watch(first, name, contact, entries, at, len(gathered) - 1)
        self.outbox.folds[fold.key] = fold
        self.notice_log.note_fold(fold)


def _entry(occurrence: Occurrence, kind: str, name: str, channel: int, url: str, notice: Notice, at: float) -> Entry:
    return Entry(
        call=occurrence.call,
        kind=kind,
        contact=name,
        channel=channel,
        target=channel_id(url),
        site=occurrence.site,
        queued_at=at,
        next_attempt_at=at,
        subject=notice.subject,
        body=notice.body,
    )


def _call_of(item: Gathered) -> str:
    """The record id."""
    return item if isinstance(item, str) else item.call


def _slim(line: bytes) -> bytes:
    """An intent without what the notice of its failure does not need."""
    event = orjson.loads(line)
    event["sources"] = ()
    location = event.get("location")
    if location:
        location["civic"] = {name: value for name, value in location["civic"].items() if value}
    return orjson.dumps(event)


def checkpoint_state(intake: Intake) -> Mapping[str, Any]:
    """What a checkpoint of the notice log holds, by argument name."""
    return {
        "open_calls": {call: line.decode() for call, line in intake.open_calls.items()},
        "entries": list(intake.outbox.entries.values()),
        "seen": intake.outbox.seen(),
        "gathered": intake.gathered_data(),
        "folds": list(intake.outbox.folds.values()),
        "watches": [watch.as_data() for watch in intake.watches.all()],
    }


def is_told_of_tests(contact: Contact, contacts: Mapping[str, Contact]) -> bool:
    """Whether a contact hears of 933: those who asked for tests; where nobody asked, those who did not decline."""
    if contact.tests is not None:
        return contact.tests
    return not any(other.tests for other in contacts.values())
