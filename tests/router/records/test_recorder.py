"""The recorder in a storm: a row per call, nothing passed over, whenever it is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e911.record import CallOutcome, JournalEvent
from router.journal.segments import START
from router.journal.writer import JournalWriter
from router.records.record import call_record
from router.records.recorder import BUSY_LINES, HOLD_SECONDS, Recorder
from router.store import records
from router.store.engine import open_store, reading, writing
from tests.router.notice_events import ended, intent, refused, whole_call

CALLS = BUSY_LINES // 4


class Records:
    """A journal, a database, and the recorder between them, a step at a time."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/edge911.db"
        self.journal_folder = folder / "journal"
        self.journal = JournalWriter(self.journal_folder, "hq-1")
        self.recorder = Recorder(self.url, "hq-1", self.journal_folder)

    def killed_and_started(self) -> None:
        self.close()
        self.recorder = Recorder(self.url, "hq-1", self.journal_folder)

    def close(self) -> None:
        """What the system does with the files of a process that ended."""
        self.recorder._close()

    def write(self, *events: JournalEvent) -> None:
        assert self.journal.append_all(events)

    def step(self) -> bool:
        return self.recorder._step()

    @property
    def calls(self) -> set[str]:
        engine = open_store(self.url)
        with reading(engine) as conn:
            found = {call.id for call in records.list_calls(conn, limit=100_000)}
        engine.dispose()
        return found

    def assert_whole(self, call: str) -> None:
        engine = open_store(self.url)
        with reading(engine) as conn:
            assert records.get_call(conn, call) == call_record(whole_call(call), ())
        engine.dispose()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path)
    yield records
    records.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("router.records.recorder.time.monotonic", lambda: now[0])
    return now


def test_when_little_happens_a_call_is_in_the_records_at_once(kept: Records) -> None:
    kept.write(*whole_call("c1")[:2])
    kept.step()
    assert kept.calls == {"c1"}
    assert kept.recorder.cursor == kept.recorder._reader.end()


def test_in_a_storm_a_call_waits_for_its_end_but_not_for_long(kept: Records, clock: list[float]) -> None:
    over = [event for number in range(CALLS) for event in whole_call(f"over-{number}")]
    kept.write(*over, *whole_call("rings")[:2], intent("fails"), ended("fails", CallOutcome.FAILED, 503))
    kept.step()
    assert kept.calls == {*(f"over-{number}" for number in range(CALLS)), "fails"}
    assert kept.recorder.cursor == START, "what is held has been passed over"
    clock[0] += HOLD_SECONDS - 0.1
    kept.step()
    assert "rings" not in kept.calls
    clock[0] += 0.2
    kept.step()
    assert "rings" in kept.calls
    assert kept.recorder.cursor == kept.recorder._reader.end()
    kept.write(*whole_call("rings")[2:])
    kept.step()
    kept.assert_whole("rings")


def test_killed_while_it_holds_calls_it_reads_them_again(kept: Records, clock: list[float]) -> None:
    kept.write(*(event for number in range(CALLS) for event in whole_call(f"over-{number}")))
    kept.write(*whole_call("rings")[:3])
    kept.step()
    kept.killed_and_started()
    kept.write(*whole_call("rings")[3:])
    for _ in range(3):
        kept.step()
        clock[0] += HOLD_SECONDS
    for call in ("rings", "over-0", f"over-{CALLS - 1}"):
        kept.assert_whole(call)
    assert kept.recorder.cursor == kept.recorder._reader.end()


def test_a_call_that_the_database_refuses_holds_up_no_other_for_long(kept: Records) -> None:
    kept.step()
    engine = open_store(kept.url)
    with writing(engine) as conn:
        conn.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON calls WHEN NEW.id = 'c700' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    engine.dispose()
    kept.write(*(refused(f"c{number}") for number in range(1000)))
    steps = 0
    while len(kept.calls) < 999:
        steps += 1
        assert steps < 40
        try:
            kept.step()
        except Exception as error:
            kept.recorder._failed(error)
    assert kept.recorder.unstorable == 1
    assert "c700" not in kept.calls
