"""From journal lines to notices: nobody who should hear of a failed call is left out because something was lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from config.schema import Config, Contact
from e911.record import CallOutcome, JournalEvent
from router.journal.event_lines import encode_event
from router.notices.intake import CORRUPT_TOLD, FOLDED_SHOWN, WHOLE_INTENTS_BYTES, Intake
from router.notices.noticelog import NoticeLog
from router.notices.outbox import Entry, NoticeState, Outbox
from router.notices.watches import UNTOLD_SECONDS
from tests.router.notice_events import ended, intent, locating, refused

NOW, AT = 100.0, 1_790_000_010.0


class Desk:
    """An intake with these contacts, and what it would send."""

    def __init__(self, folder: Path, *contacts: str) -> None:
        self.config = self.with_contacts(*contacts)
        self.outbox = Outbox()
        self.intake = Intake(self.outbox, NoticeLog(folder / "notices"), self.config, lambda: self.config)

    @staticmethod
    def with_contacts(*names: str) -> Config:
        contacts = {name: Contact.model_validate({"send": ["json://192.0.2.1/911"]}) for name in names}
        given = {"listen": ["udp://127.0.0.1:5060"], "networks": {"inside": ["127.0.0.0/8"]}}
        return Config.model_validate(given).model_copy(update={"contacts": contacts})

    def take(self, *events: JournalEvent) -> None:
        for event in events:
            self.intake.take_line(encode_event(event).rstrip(b"\n"), NOW, AT)

    def restarted(self, folder: Path) -> "Desk":
        """What the next process makes of a checkpoint of this one."""
        after = Desk(folder, *self.config.contacts)
        after.intake.restored.gathered.extend(self.intake.gathered_data())
        after.intake.resume(NOW, AT)
        return after

    @property
    def told(self) -> dict[tuple[str, str], Entry]:
        return {(entry.contact, entry.kind): entry for entry in self.outbox.entries.values()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, "front-desk", "security", "facilities")


def test_a_failed_call_whose_intent_is_lost_is_told_to_everybody_in_plain_words(desk: Desk) -> None:
    desk.take(ended("c77", CallOutcome.FAILED, 503))
    assert set(desk.told) == {(name, "failed") for name in ("front-desk", "security", "facilities")}
    entry = desk.told["security", "failed"]
    assert "911 CALL DID NOT GO THROUGH" in entry.subject
    for words in ("c77", "503", "2026-09-21 14:13:22 UTC", "did NOT go through", "call 911"):
        assert words in entry.body, entry.body
    assert desk.intake.corrupt == 0


@pytest.mark.parametrize("outcome", [outcome for outcome in CallOutcome if outcome is not CallOutcome.FAILED])
def test_a_call_that_did_not_fail_alarms_nobody_where_its_intent_is_lost(desk: Desk, outcome: CallOutcome) -> None:
    desk.take(ended("c77", outcome, 200))
    assert desk.told == {}


def test_a_call_whose_location_is_asked_for_is_told_when_it_goes_out(desk: Desk) -> None:
    desk.take(locating())
    assert (desk.told, desk.intake.corrupt) == ({}, 0)


def test_an_end_that_is_in_the_journal_twice_alarms_its_contacts_once(desk: Desk) -> None:
    end = ended("c1", CallOutcome.FAILED, 503)
    desk.take(intent("c1", contacts=("security",)), end, end)
    assert set(desk.told) == {("security", "call"), ("security", "failed")}
    assert len(desk.outbox.entries) == 2


def test_a_call_none_of_whose_contacts_is_known_is_told_to_everybody(desk: Desk) -> None:
    desk.take(intent("c1", contacts=("gone", "renamed")))
    assert set(desk.told) == {(name, "call") for name in ("front-desk", "security", "facilities")}
    assert desk.intake.unknown_contacts == {"gone", "renamed"}


def test_a_call_with_one_known_contact_is_told_to_that_one(desk: Desk) -> None:
    desk.take(intent("c1", contacts=("gone", "security")))
    assert set(desk.told) == {("security", "call")}


def test_contacts_of_a_newer_configuration_are_found_before_everybody_is_told(desk: Desk) -> None:
    desk.config = desk.with_contacts("front-desk", "new-desk")
    desk.take(intent("c1", contacts=("new-desk",)))
    assert set(desk.told) == {("new-desk", "call")}


def test_a_call_that_names_no_contacts_is_told_to_nobody(desk: Desk) -> None:
    desk.take(intent("c1", contacts=()))
    assert desk.told == {}


def test_gathered_alarms_of_unknown_calls_outlive_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.take(*(ended(f"c{number}", CallOutcome.FAILED, 503) for number in range(30)))
    after = desk.restarted(tmp_path / "after")
    assert {entry.contact for entry in after.outbox.entries.values()} == {"front-desk", "security", "facilities"}
    for entry in after.outbox.entries.values():
        assert entry.kind == "folded-failed"
        assert "10 × 911 CALL DID NOT GO THROUGH" in entry.subject
        assert "c29" in entry.body


def test_gathered_alarms_name_the_callers(desk: Desk, tmp_path: Path) -> None:
    for number in range(30):
        desk.take(intent(f"c{number}", contacts=("security",)), ended(f"c{number}", CallOutcome.FAILED, 503))
    after = desk.restarted(tmp_path / "after")
    (alarm,) = (entry for entry in after.outbox.entries.values() if entry.kind == "folded-failed")
    assert alarm.subject.startswith("10 more 911 CALLS DID NOT GO THROUGH")
    assert len([line for line in alarm.body.splitlines() if " | 911 | " in line]) == 10
    many = Desk(tmp_path / "many", "security")
    many.take(*(refused(f"r{number}", contacts=("security",)) for number in range(25)))
    after = many.restarted(tmp_path / "after-many")
    (alarm,) = (entry for entry in after.outbox.entries.values() if entry.kind == "folded-refused")
    assert alarm.subject.startswith("5 more 911 CALLS REFUSED")


def test_what_was_gathered_is_told_at_once_after_a_restart_and_not_again_after_another(
    desk: Desk, tmp_path: Path
) -> None:
    desk.take(*(intent(f"c{number}", contacts=("security",)) for number in range(20 + FOLDED_SHOWN + 30)))
    checkpoint = desk.intake.gathered_data()
    (group,) = checkpoint
    assert (len(group["shown"]), len(group["calls"])) == (FOLDED_SHOWN, 30)

    after = desk.restarted(tmp_path / "after")
    ((key, fold),) = after.outbox.folds.items()
    assert key == ("c20", "call", "security")
    assert fold.calls == tuple(f"c{number}" for number in range(20, 20 + FOLDED_SHOWN + 30))
    (entry,) = after.outbox.entries.values()
    assert "80 more 911 calls" in entry.body

    # Killed before its next checkpoint, it finds the same one, and the fold in the lines after it.
    again = Desk(tmp_path / "again", "security")
    again.intake.restored.gathered.extend(checkpoint)
    again.intake.restored.folds[key] = fold
    again.intake.restored.folded.update((call, "call", "security") for call in fold.calls)
    again.intake.resume(NOW, AT)
    assert again.outbox.entries == {}
    assert again.outbox.folds == {key: fold}
    again.take(intent("c20", contacts=("security",)))
    assert again.outbox.entries == {}


def test_a_storm_of_alarms_keeps_what_they_say_in_bounds(desk: Desk) -> None:
    desk.intake.open_bytes = WHOLE_INTENTS_BYTES + 1
    desk.take(intent("c1", contacts=("security",)))
    assert len(desk.intake.open_calls["c1"]) < len(encode_event(intent("c1"))) * 0.9
    desk.take(ended("c1", CallOutcome.FAILED, 503))
    assert desk.intake.open_bytes == WHOLE_INTENTS_BYTES + 1
    body = desk.told["security", "failed"].body
    for words in ("350 5th AVE", "+12125550123", "Accueil, 3ᵉ étage", "503"):
        assert words in body


def test_an_alarm_of_no_call_rings_no_telephone_and_is_short_where_messages_are(desk: Desk) -> None:
    sms = "twilio://AC735c307c62944b5a82c6a1b2c3d4e5f6:e2f9a4b2c3d4e5f6a7b8c9d0e1f2a3b4@12125550123/12125550124"
    send = ["sip-call:100@192.0.2.1", sms, "json://192.0.2.1/911"]
    desk.intake.config = desk.config.model_copy(update={"contacts": {"desk": Contact(send=send)}})
    assert desk.intake.tell_alarm("self-test", "933 FAILED: hq", "a long story\n" * 50, ["desk"], NOW, AT) == 1
    told = {entry.channel: entry.body for entry in desk.outbox.entries.values()}
    assert told == {1: "933 FAILED: hq", 2: "a long story\n" * 50}


def test_damaged_lines_are_counted_and_fill_no_log(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        desk.intake.take_line(b'{"type":"intent","id":', NOW, AT)
    assert desk.intake.corrupt == 1000
    assert len(caplog.records) == CORRUPT_TOLD


def test_what_is_damaged_is_passed_on_all_the_same(desk: Desk) -> None:
    from router.notices.passing_on import pass_on
    from router.notices.watches import Watch

    for call, line in (("c1", b"{}"), ("c2", b"no event")):
        watch = desk.intake.watches.begin(Watch(call=call, kind="folded-call", site="hq", line=line, at=0.0))
        desk.intake.watches.tell(watch, "front-desk", [(call, "folded-call", "front-desk", 0)], 1.0)
    assert pass_on(desk.intake, 100.0, 100.0) > 0
    assert {entry.kind for entry in desk.intake.outbox.entries.values()} >= {"escalated"}


def test_who_was_reached_just_before_a_restart_is_known_to_be_reached_after_it(desk: Desk, tmp_path: Path) -> None:
    """The checkpoint has the call's watch as it was before the delivery; the line of the delivery comes after it."""
    desk.take(intent("c1", contacts=("front-desk",)))
    (entry,) = desk.outbox.entries.values()
    after = Desk(tmp_path / "after", *desk.config.contacts)
    after.intake.restored.watches.extend(watch.as_data() for watch in desk.intake.watches.all())
    after.intake.restored.entries[entry.key] = replace(entry, state=NoticeState.DELIVERED)
    after.intake.resume(NOW, AT)
    assert after.intake.watches.due(AT + UNTOLD_SECONDS + 1) == [], "nobody was reached, it would be said"
