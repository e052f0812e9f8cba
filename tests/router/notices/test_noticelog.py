"""The notice log: what a restart knows of notices that a channel delivered and the outbox had not heard of."""

from pathlib import Path

import pytest

from router.journal.segments import Cursor
from router.notices.noticelog import NoticeLog, restore, with_outcome
from router.notices.outbox import Entry, NoticeState

KEY = ("c1", "call", "desk", 0)


def entry(**changed: object) -> Entry:
    values = {"call": "c1", "kind": "call", "contact": "desk", "channel": 0, "subject": "s", "body": "b"}
    return Entry(**{**values, **changed})  # type: ignore[arg-type]  # by name


def checkpoint(log: NoticeLog, *entries: Entry) -> None:
    assert log.checkpoint(Cursor(7, 8), open_calls={}, entries=entries, seen=[], gathered=[], folds=[])


@pytest.fixture
def log(tmp_path: Path) -> NoticeLog:
    return NoticeLog(tmp_path)


def test_a_delivery_is_known_before_the_outbox_hears_of_it(log: NoticeLog, tmp_path: Path) -> None:
    log.note_delivered(KEY, 5.0, "250 OK")
    outcome = restore(tmp_path).outcomes[KEY]
    made = with_outcome(entry(queued_at=4.0), outcome)
    assert (made.state, made.attempts, made.words, made.body) == (NoticeState.DELIVERED, 1, "250 OK", "b")
    assert (made.first_attempt_at, made.last_attempt_at, made.next_attempt_at) == (5.0, 5.0, None)


def test_it_counts_on_from_the_attempts_that_failed(log: NoticeLog, tmp_path: Path) -> None:
    failed = entry(attempts=2, first_attempt_at=1.0, last_attempt_at=3.0, next_attempt_at=9.0, reason="refused")
    log.note(failed)
    log.note_delivered(KEY, 9.0, "")
    outcome = restore(tmp_path).outcomes[KEY]
    assert (outcome["attempts"], outcome["first_attempt_at"], outcome["last_attempt_at"]) == (3, 1.0, 9.0)
    assert outcome["reason"] == ""
    checkpoint(log, failed)
    known = restore(tmp_path).entries[KEY]
    assert (known.state, known.attempts, known.subject) == (NoticeState.DELIVERED, 3, "s"), "whatever came between"


def test_a_checkpoint_that_comes_between_loses_nothing(log: NoticeLog, tmp_path: Path) -> None:
    log.note_delivered(KEY, 5.0, "")
    checkpoint(log, entry())
    assert restore(tmp_path).entries[KEY].state is NoticeState.DELIVERED


def test_what_the_outbox_knows_is_noted_once(log: NoticeLog, tmp_path: Path) -> None:
    log.note_delivered(KEY, 5.0, "")
    lines = log.lines
    log.note(entry(state=NoticeState.DELIVERED, attempts=1))
    assert log.lines == lines
    checkpoint(log)
    assert not restore(tmp_path).outcomes
    log.note_delivered(KEY, 6.0, "")
    log.forget_delivered(KEY)
    checkpoint(log)
    assert not restore(tmp_path).outcomes


def test_words_that_cannot_be_written_do_not_matter(log: NoticeLog, tmp_path: Path) -> None:
    log.note_delivered(KEY, 5.0, "\ud800")
    assert restore(tmp_path).outcomes[KEY]["state"] == "delivered"
