"""What contacts are told after the notice of a call: what became of it; that nobody was reached, or acknowledged."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from config.schema import Contact
from e911.follow_up import FollowUp
from router.journal.brief import brief_of
from router.notices.notice_writer import ESCALATED, UNTOLD, Occurrence
from router.notices.receivers.forms import Form, Thread, form_of, thread_of
from router.notices.watches import Due, Watch, Watches, next_contacts

if TYPE_CHECKING:
    from router.notices.intake import Intake
    from router.records.recorder import Recorder

PASSED_ON = frozenset({ESCALATED, UNTOLD})
"""Kinds of notices that come from no line of the journal."""

log = logging.getLogger(__name__)


def takes_follow_ups(contact: Contact, url: str) -> bool:
    """Whether a channel is told what became of a call: one that keeps a thread; where `follow_ups` is written, any
    but a voice."""
    if form_of(url) is Form.SPOKEN:
        return False
    return "follow_ups" in contact.model_fields_set or thread_of(url) is not Thread.NONE


def follow(intake: "Intake", event: Mapping[str, Any], now: float, at: float) -> None:
    """An event of a call that was told: `route`, `ended`, `finished`."""
    watch = intake.watches.get(event["id"])
    if watch is None or not watch.follows:
        return
    found = _what_became(event, watch)
    if found is None:
        return
    kind, detail = found
    wanted = []
    for name in watch.told:
        contact = intake.config.contacts.get(name)
        if contact is not None and kind.value in contact.follow_ups:
            wanted.append(name)
    if wanted:
        occurrence = Occurrence(
            kind=kind.value,
            call=watch.call,
            site=watch.site,
            is_test=False,
            line=watch.line,
            detail={"at": event["at"], **detail},
        )
        intake.offer(occurrence, wanted, now, at)


def _what_became(event: Mapping[str, Any], watch: Watch) -> tuple[FollowUp, dict[str, Any]] | None:
    match event["type"]:
        case "route":
            if event.get("kind") != "basic" or event.get("outcome") != "started":
                return None
            first = brief_of(watch.line).get("first_route", "")
            # The notice itself says so where the call began with it.
            return None if event["route"] == first else (FollowUp.BASIC, {"route": event["route"]})
        case "ended":
            if event["outcome"] == "answered":
                return FollowUp.ANSWERED, {"route": event.get("route", "")}
            return (FollowUp.ABANDONED, {}) if event["outcome"] == "cancelled" else None
        case "finished":
            return FollowUp.ENDED, {"by": event.get("by", "")}
    return None


def share_watches(watches: Watches, recorder: "Recorder") -> None:
    """What other nodes watch now is left to them, what they left is watched here, and they are to know what is."""
    while not recorder.taken_watches.empty():
        for call in recorder.taken_watches.get():
            watches.leave(call)
    while not recorder.recovered_watches.empty():
        for watch in recorder.recovered_watches.get():
            watches.take_over(watch)
    if changed := watches.take_changed():
        recorder.submit_watches(changed)


def pass_on(intake: "Intake", now: float, at: float) -> int:
    """Tell others what nobody has acknowledged in time, or what reached nobody; how many contacts are told."""
    told = 0
    for due in intake.watches.due(at):
        try:
            told += _pass_on(intake, due, now, at)
        except Exception as error:  # one that cannot be passed on holds up no other notice
            fields = {"call": due.watch.call, "reason": type(error).__name__}
            log.error("notice-not-passed-on", extra={"event_fields": fields}, exc_info=True)
    return told


def _pass_on(intake: "Intake", due: Due, now: float, at: float) -> int:
    watch, contacts = due.watch, intake.config.contacts
    if due.contact is None:
        names = [name for name in contacts if name not in watch.told]
        fields = {"call": watch.call, "contacts": ", ".join(watch.told), "told": ", ".join(names) or "nobody else"}
        log.error("nobody-told", extra={"event_fields": fields})
        intake.nobody_told_total += 1
        kind, detail = UNTOLD, {"contacts": ", ".join(watch.told), "more": watch.more}
    else:
        contact = contacts.get(due.contact)
        order = _contacts_of(watch.line) or watch.told
        names = next_contacts(
            due.contact,
            wanted=contact.escalate_to if contact else (),
            order=[name for name in order if name in contacts],
            everybody=contacts,
        )
        seconds = (contact.escalate_after if contact else None) or at - watch.at
        fields = {"call": watch.call, "contact": due.contact, "told": ", ".join(names)}
        log.warning("notice-escalated", extra={"event_fields": fields})
        intake.escalated_total += 1
        kind, detail = ESCALATED, {"contact": due.contact, "seconds": seconds, "more": watch.more}
    occurrence = Occurrence(
        kind=kind,
        call=watch.call,
        site=watch.site,
        is_test=False,
        line=watch.line,
        status=watch.status,
        root=watch.kind,
        detail=detail,
    )
    return sum(_tell(intake, occurrence, name, watch, now, at) for name in names)


def _contacts_of(line: bytes) -> list[str]:
    """Who was to be told, in the site's order; empty where the line does not say."""
    try:
        return [str(name) for name in brief_of(line).get("contacts", ())]
    except (ValueError, KeyError, TypeError):
        return []


def _tell(intake: "Intake", occurrence: Occurrence, name: str, watch: Watch, now: float, at: float) -> bool:
    contact = intake.config.contacts.get(name)
    if contact is None or not intake.outbox.is_new(occurrence.call, occurrence.kind, name):
        return False
    entries = intake.entries_for(occurrence, name, contact, {}, at)
    for entry in entries:
        intake.outbox.add(entry, now)
        # The journal will not bring it again: the log holds all of it.
        intake.notice_log.note(entry, whole=True)
    after = contact.escalate_after
    is_next = occurrence.kind == ESCALATED and after is not None and not watch.acknowledged_by
    intake.watches.tell(watch, name, [entry.key for entry in entries], at + after if is_next and after else None)
    return True
