"""The journal: what is appended comes back whole, whatever happened to the file in between."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.record import Caller, JournalEvent
from router import journal
from router.journal import (
    START,
    Cursor,
    JournalReader,
    JournalWriter,
    decode_event,
    encode_event,
    segment_path,
    segments,
)
from tests.router.notice_events import intent, refused, whole_call


def everything(reader: JournalReader, cursor: Cursor = START, limit: int = 1000) -> tuple[list[JournalEvent], Cursor]:
    found: list[JournalEvent] = []
    while True:
        events, cursor = reader.read(cursor, limit)
        if not events:
            return found, cursor
        found += events


@pytest.mark.parametrize("event", [*whole_call(), refused(), intent(location=None, sources=(), contacts=())])
def test_an_event_comes_back_as_it_was(event: JournalEvent) -> None:
    assert decode_event(encode_event(event)) == event


@given(number=st.text(st.characters(), max_size=40), name=st.binary(max_size=20))
def test_whatever_came_from_the_wire_is_one_readable_line(number: str, name: bytes) -> None:
    caller = Caller(number=number, display_name=name.decode("utf-8", "surrogateescape"))
    line = encode_event(intent(caller=caller))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert isinstance(decode_event(line), type(intent()))


def test_keys_of_a_newer_version_are_passed_over() -> None:
    line = (
        encode_event(intent())
        .replace(b'"node":', b'"colour":"red","node":')
        .replace(b'"device":', b'"mood":1,"device":')
    )
    assert decode_event(line) == intent()


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path / "journal", "n"), JournalReader(tmp_path / "journal")
    assert reader.read(START, 10)[0] == []
    for number in range(25):
        assert writer.append(intent(f"c{number}"))
    first, cursor = reader.read(START, 10)
    rest, end = everything(JournalReader(tmp_path / "journal"), cursor, limit=7)
    assert [event.id for event in first + rest] == [f"c{number}" for number in range(25)]
    assert reader.bytes_after(cursor) > 0
    assert reader.bytes_after(end) == 0
    assert end == reader.end()
    writer.append(intent("later"))
    assert [event.id for event in everything(reader, end)[0]] == ["later"]


def test_each_start_has_a_segment_of_its_own_and_rotation_loses_nothing(tmp_path: Path) -> None:
    written = []
    for start in range(3):
        writer = JournalWriter(tmp_path, "n", segment_bytes=4096)
        for number in range(10):
            written.append(f"{start}-{number}")
            assert writer.append(intent(written[-1]))
        writer.close()
    assert len(segments(tmp_path)) >= 6
    assert [event.id for event in everything(JournalReader(tmp_path), limit=3)[0]] == written


def test_a_reader_that_keeps_up_sees_every_rotation(tmp_path: Path) -> None:
    writer, reader, cursor, found = (
        JournalWriter(tmp_path, "n", segment_bytes=3000),
        JournalReader(tmp_path),
        START,
        [],
    )
    for number in range(40):
        writer.append(intent(f"c{number}"))
        events, cursor = reader.read(cursor, 100)
        found += [event.id for event in events]
    assert found == [f"c{number}" for number in range(40)]
    assert reader.torn == 0


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path, "n"), JournalReader(tmp_path)
    writer.append(intent("c1"))
    line = encode_event(intent("c2"))
    path = segment_path(tmp_path, writer.segment)
    with path.open("ab") as file:
        file.write(line[:100])
    events, cursor = everything(reader)
    assert [event.id for event in events] == ["c1"]
    with path.open("ab") as file:
        file.write(line[100:])
    assert [event.id for event in everything(reader, cursor)[0]] == ["c2"]


def test_a_line_torn_by_a_crash_is_passed_over_once_the_next_process_writes(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path, "n"), JournalReader(tmp_path)
    writer.append(intent("c1"))
    with segment_path(tmp_path, writer.segment).open("ab") as file:
        file.write(encode_event(intent("lost"))[:50])
    JournalWriter(tmp_path, "n").append(intent("c2"))
    assert [event.id for event in everything(reader)[0]] == ["c1", "c2"]
    assert reader.torn == 1


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\x00\n", b"{}\n", b"[1]\n", b'{"type":"intent"}\n', b'{"type":"party"}\n', b"\n"]
)
def test_a_corrupt_line_is_skipped_counted_and_named(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = JournalWriter(tmp_path, "n"), JournalReader(tmp_path)
    writer.append(intent("c1"))
    with segment_path(tmp_path, writer.segment).open("ab") as file:
        file.write(garbage)
    writer.append(intent("c2"))
    assert [event.id for event in everything(reader)[0]] == ["c1", "c2"]
    assert reader.corrupt == 1
    assert "journal-line-corrupt" in caplog.text


def test_a_line_longer_than_a_read_is_read_whole(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "n")
    writer.append(intent("long", dialled="9" * 1_000_000))
    writer.append(intent("short"))
    assert [event.id for event in everything(JournalReader(tmp_path))[0]] == ["long", "short"]


def test_consumed_segments_are_deleted_but_never_the_newest(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path, "n", segment_bytes=2000), JournalReader(tmp_path)
    for number in range(20):
        writer.append(intent(f"c{number}"))
    all_segments = segments(tmp_path)
    half, cursor = reader.read(START, 10)
    reader.discard_before(cursor)
    assert segments(tmp_path) == [number for number in all_segments if number >= cursor.segment]
    rest, end = everything(reader, cursor)
    assert len(half) + len(rest) == 20
    reader.discard_before(end)
    reader.discard_before(Cursor(end.segment + 10, 0))
    assert segments(tmp_path) == all_segments[-1:]


def test_a_cursor_of_a_journal_that_was_removed_skips_nothing(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a", "n")
    writer.append(intent("old"))
    _, cursor = everything(JournalReader(tmp_path / "a"))
    for number in segments(tmp_path / "a"):
        segment_path(tmp_path / "a", number).unlink()
    for call in ("new", "newer"):
        JournalWriter(tmp_path / "a", "n").append(intent(call))
    assert [event.id for event in everything(JournalReader(tmp_path / "a"), cursor)[0]] == ["new", "newer"]
    ahead = Cursor(cursor.segment + 10**9, 77)
    assert [event.id for event in everything(JournalReader(tmp_path / "a"), ahead)[0]] == ["new", "newer"]


def test_a_directory_that_cannot_be_made_costs_a_count_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(journal.time, "monotonic", lambda: now)
    (tmp_path / "state").write_text("a file where the directory should be")
    writer = JournalWriter(tmp_path / "state" / "journal", "n")
    assert not writer.append(intent("lost"))
    assert not writer.append(intent("lost too"))
    assert writer.failures == 2
    assert "state" in writer.last_error
    (tmp_path / "state").unlink()
    assert not writer.append(intent("not tried again yet"))
    now = 102.0
    assert writer.append(intent("kept"))
    assert [event.id for event in everything(JournalReader(tmp_path / "state" / "journal"))[0]] == ["kept"]


def test_a_full_disk_costs_a_count_and_no_later_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, "n")
    writer.append(intent("c1"))
    real_write = os.write
    monkeypatch.setattr(journal.os, "write", lambda fd, data: real_write(fd, data[:40]))
    assert not writer.append(intent("torn"))
    monkeypatch.setattr(journal.os, "write", real_write)
    assert writer.append(intent("c2"))
    assert writer.failures == 1
    reader = JournalReader(tmp_path)
    assert [event.id for event in everything(reader)[0]] == ["c1", "c2"]
    assert reader.torn == 1


def test_a_segment_removed_under_the_writer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(journal.time, "monotonic", lambda: now)
    writer = JournalWriter(tmp_path / "journal", "n")
    segment_path(tmp_path / "journal", writer.segment).unlink()
    (tmp_path / "journal").rmdir()
    now = 102.0
    assert writer.append(intent("kept"))
    assert [event.id for event in everything(JournalReader(tmp_path / "journal"))[0]] == ["kept"]
