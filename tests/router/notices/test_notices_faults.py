"""Faults of the notices process itself: one part that fails keeps no notice from being told."""

from pathlib import Path
from typing import Any

import pytest

from router.notices.intake import Intake
from router.notices.notice_settings import load_settings
from router.notices.process import NoticesProcess
from tests.router.notice_events import intent
from tests.router.notices_runner import NoticesRunner


def fault(*_: Any, **__: Any) -> None:
    raise RuntimeError("a fault made on purpose")


@pytest.fixture
def desk(tmp_path: Path) -> NoticesRunner:
    return NoticesRunner(tmp_path, {"desk": "json://127.0.0.1:9/never"})


@pytest.fixture
def process(desk: NoticesRunner) -> NoticesProcess:
    return NoticesProcess(load_settings(desk.config_file), desk.config_file)


@pytest.mark.parametrize(
    "where",
    [
        (Intake, "close_windows"),
        (NoticesProcess, "_take_requests"),
        (NoticesProcess, "_store"),
        (NoticesProcess, "_every_second"),
    ],
    ids=lambda where: str(where[1]),
)
def test_a_part_that_fails_keeps_no_notice_from_being_told(
    desk: NoticesRunner,
    process: NoticesProcess,
    where: tuple[type, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(process._channels, "send", lambda job: told.append(job.call))
    monkeypatch.setattr(*where, fault)
    desk.journal.append(intent("c1", contacts=("desk",)))
    process._tick()
    desk.journal.append(intent("c2", contacts=("desk",)))
    process._next_store = process._next_second = 0.0
    process._tick()
    assert told == ["c1", "c2"]
    assert caplog.text.count("notices-fault\n") == 1, "it is loud, and not each time"


def test_a_line_that_nobody_can_treat_keeps_no_other_from_being_told(
    desk: NoticesRunner, process: NoticesProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts anew would meet it again, and never come to what follows."""
    told: list[str] = []
    take = Intake._take

    def poisoned(intake: Intake, line: bytes, now: float, at: float) -> None:
        if b'"c1"' in line:
            fault()
        take(intake, line, now, at)

    monkeypatch.setattr(Intake, "_take", poisoned)
    monkeypatch.setattr(process._channels, "send", lambda job: told.append(job.call))
    for call in ("c1", "c2"):
        desk.journal.append(intent(call, contacts=("desk",)))
    process._tick()
    assert told == ["c2"]


def test_a_notice_that_cannot_be_sent_is_tried_again(
    desk: NoticesRunner, process: NoticesProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process._channels, "send", fault)
    desk.journal.append(intent("c1", contacts=("desk",)))
    process._tick()
    (entry,) = process._outbox.entries.values()
    assert (entry.attempts, entry.reason, entry.is_settled) == (1, "channel-fault", False)
    assert process._outbox.next_due() is not None
    assert not process._outbox.in_flight
