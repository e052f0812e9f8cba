"""The journal: what is appended comes back whole, whatever happened to the file in between."""

import os
import time
from dataclasses import fields, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.elin import Lease, LeaseKind
from e911.location import DispatchableLocation
from e911.record import (
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallOutcome,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
)
from router.journal import segments as segments_module
from router.journal import spare
from router.journal import writer as journal
from router.journal.event_lines import decode_event, encode_event
from router.journal.reserve import reserve
from router.journal.segments import START, Cursor, segment_path, segments
from router.journal.writer import JournalReader, JournalWriter
from tests.router.notice_events import intent, locating, refused, whole_call


@pytest.fixture(autouse=True)
def memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /dev/shm."""
    folder = tmp_path_factory.mktemp("memory")
    monkeypatch.setattr(spare, "MEMORY", folder)
    return folder


def everything(reader: JournalReader, cursor: Cursor = START, limit: int = 1000) -> tuple[list[JournalEvent], Cursor]:
    found: list[JournalEvent] = []
    while True:
        events, cursor = reader.read(cursor, limit)
        if not events:
            return found, cursor
        found += events


@pytest.mark.parametrize(
    "event", [*whole_call(), locating(), refused(), intent(location=None, sources=(), contacts=())]
)
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


def a_lease() -> Lease:
    return Lease(number="+12125550191", caller="4102", call="c1", kind=LeaseKind.ELIN, since=1.0, until=2.0)


def test_what_is_encoded_by_hand_lacks_no_field() -> None:
    events: list[JournalEvent] = [
        replace(intent("c1"), lease=a_lease()),
        RouteEvent(id="c1", at=1.5, route="r", kind="e911", attempt=1, outcome=RouteOutcome.REFUSED, status=503,
                   reason="no", with_location=True, label="1w", sent_to="udp 192.0.2.1 5060",
                   request_uri="sip:911@192.0.2.1"),
        CallEnded(id="c1", at=2.5, outcome=CallOutcome.FAILED, status=503, route="r"),
        CallFinished(id="c1", at=3.5, by="caller"),
    ]  # fmt: skip
    for event in events:
        assert decode_event(encode_event(event)) == event
        assert set(orjson.loads(encode_event(event))) == {field.name for field in fields(event)}
    written = orjson.loads(encode_event(events[0]))
    assert set(written["caller"]) == {field.name for field in fields(Caller)}
    assert set(written["location"]) == {field.name for field in fields(DispatchableLocation)}


def test_when_a_place_was_validated_comes_back_and_of_older_lines_it_is_not_known() -> None:
    place = intent().location
    assert place is not None
    line = encode_event(intent(location=replace(place, validation="valid", validated_at=1_789_000_000.5)))
    event = decode_event(line)
    assert isinstance(event, CallIntent)
    assert event.location is not None
    assert (event.location.validation, event.location.validated_at) == ("valid", 1_789_000_000.5)
    older = decode_event(line.replace(b',"validated_at":1789000000.5', b""))
    assert isinstance(older, CallIntent)
    assert older.location == replace(place, validation="valid")


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
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(spare, "MEMORY", tmp_path / "no memory either")
    (tmp_path / "state").write_text("a file where the directory should be")
    writer = JournalWriter(tmp_path / "state" / "journal", "n")
    assert not writer.append(intent("late"))
    assert not writer.append(intent("late too"))
    assert writer.failures == 2
    assert "state" in writer.last_error
    (tmp_path / "state").unlink()
    assert not writer.append(intent("not tried again yet"))
    now = 102.0
    assert writer.append(intent("kept"))
    found = [event.id for event in everything(JournalReader(tmp_path / "state" / "journal"))[0]]
    assert found == ["late", "late too", "not tried again yet", "kept"]
    assert (writer.failures, writer.waiting, writer.lost) == (3, 0, 0)


def test_room_for_a_thousand_calls_is_kept_and_given_back(tmp_path: Path) -> None:
    """A disk that something else fills must not keep people from being told."""
    with (tmp_path / "probe").open("wb") as probe:
        if not reserve(probe.fileno(), 0, 4096):
            pytest.skip("this file system keeps no room")
    writer = JournalWriter(tmp_path / "journal", "n")
    first = segment_path(tmp_path / "journal", writer.segment)
    for number in range(3):
        assert writer.append(intent(f"c{number}"))
        status = first.stat()
        assert status.st_blocks * 512 - status.st_size >= journal.RESERVE_BYTES // 2
    written = first.stat().st_size
    writer.roll()
    assert first.stat().st_size == written
    assert first.stat().st_blocks * 512 < written + 65_536
    events, _ = JournalReader(tmp_path / "journal").read()
    assert [event.id for event in events] == ["c0", "c1", "c2"]


def test_room_is_kept_on_as_lines_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[int, int]] = []

    def note(_descriptor: int, offset: int, size: int) -> bool:
        kept.append((offset, size))
        return True

    monkeypatch.setattr(segments_module, "reserve", note)
    monkeypatch.setattr(segments_module, "REOPEN_SECONDS", 0.0)
    writer = segments_module.LineWriter(tmp_path, reserve_bytes=1000)
    for _ in range(30):
        writer.append_line(b"x" * 99 + b"\n")
    assert kept[:3] == [(0, 1000), (600, 1000), (1200, 1000)]
    segments_module.LineWriter(tmp_path / "other").append_line(b"y\n")
    assert len(kept) == 5, "no room where none is asked for"


def test_a_full_disk_costs_a_count_and_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, "n")
    writer.append(intent("c1"))
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:40]))
    assert not writer.append(intent("torn"))
    monkeypatch.setattr(os, "write", real_write)
    assert writer.append(intent("c2"))
    assert writer.failures == 1
    reader = JournalReader(tmp_path)
    assert [event.id for event in everything(reader)[0]] == ["c1", "torn", "c2"]
    assert reader.torn == 3  # the first try, the second in a new segment, the third in memory


def test_a_write_that_fails_once_succeeds_in_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, "n")
    writer.append(intent("c1"))
    first, real_write = writer.segment, os.write
    bad = writer._fd

    def write(descriptor: int, data: bytes) -> int:
        if descriptor == bad and writer.segment == first:
            raise OSError(5, "Input/output error")
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    assert writer.append(intent("c2"))
    assert writer.segment > first
    assert [event.id for event in everything(JournalReader(tmp_path))[0]] == ["c1", "c2"]
    assert writer.failures == 0


def test_what_could_not_be_written_is_written_later_in_order_and_said_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer, real_write = JournalWriter(tmp_path, "n"), os.write

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for number in range(50):
        assert not writer.append_all([intent(f"a{number}"), intent(f"b{number}")])
        assert not writer.retry()
        now += 0.1
    assert caplog.text.count("journal-not-written") == 1
    assert (writer.failures, writer.waiting) == (100, 100)
    assert len(segments(tmp_path)) <= 2
    now += 60.0
    assert not writer.retry()
    assert caplog.text.count("journal-not-written") == 2
    monkeypatch.setattr(os, "write", real_write)
    assert writer.retry()
    assert writer.append(intent("last"))
    expected = [f"{letter}{number}" for number in range(50) for letter in "ab"]
    assert [event.id for event in everything(JournalReader(tmp_path))[0]] == [*expected, "last"]
    assert (writer.waiting, writer.lost, writer.last_error) == (0, 0, "")


def test_events_that_wait_are_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "WAITING_LIMIT", 3)
    monkeypatch.setattr(spare, "MEMORY", tmp_path / "no memory either")
    (tmp_path / "state").write_text("a file where the directory should be")
    writer = JournalWriter(tmp_path / "state" / "journal", "n")
    for number in range(5):
        writer.append(intent(f"c{number}"))
    assert (writer.waiting, writer.lost) == (3, 2)
    (tmp_path / "state").unlink()
    writer._check_at = 0.0
    assert writer.retry()
    found = everything(JournalReader(tmp_path / "state" / "journal"))[0]
    assert [event.id for event in found] == ["c2", "c3", "c4"]


def test_a_close_that_fails_forgets_the_descriptor_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, real_close = JournalWriter(tmp_path, "n", segment_bytes=1), os.close

    def close(descriptor: int) -> None:
        real_close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "close", close)
    for number in range(3):
        assert writer.append(intent(f"c{number}"))
    writer.close()
    writer.close()
    monkeypatch.setattr(os, "close", real_close)
    assert [event.id for event in everything(JournalReader(tmp_path))[0]] == ["c0", "c1", "c2"]


def test_an_append_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, "n")

    def fault(*_: object) -> bytes:
        raise RuntimeError("a fault")

    real_encode = journal.encode_event
    monkeypatch.setattr(journal, "encode_event", fault)
    assert not writer.append(intent("c1"))
    assert not writer.append_all([intent("c2")])
    monkeypatch.setattr(journal, "encode_event", real_encode)
    real_write = os.write
    monkeypatch.setattr(os, "write", fault)
    assert not writer.append(intent("c3"))
    monkeypatch.setattr(os, "write", real_write)
    assert writer.append(intent("c4"))
    assert [event.id for event in everything(JournalReader(tmp_path))[0]] == ["c3", "c4"]
    assert writer.lost == 2


def test_a_segment_removed_under_the_writer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer = JournalWriter(tmp_path / "journal", "n")
    segment_path(tmp_path / "journal", writer.segment).unlink()
    (tmp_path / "journal").rmdir()
    now = 102.0
    assert writer.append(intent("kept"))
    assert [event.id for event in everything(JournalReader(tmp_path / "journal"))[0]] == ["kept"]


def disk_refuses(monkeypatch: pytest.MonkeyPatch, disk: Path) -> None:
    """What lies below `disk` takes no byte and no new file, as after a fault made the file system read-only."""
    real_write, real_open = os.write, os.open

    def write(descriptor: int, data: bytes) -> int:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(disk):
            raise OSError(30, "Read-only file system")
        return real_write(descriptor, data)

    def open_(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT and Path(path).is_relative_to(disk):
            raise OSError(30, "Read-only file system")
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "open", open_)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the fault is made by way of /proc")
def test_while_the_disk_takes_nothing_readers_find_the_events_in_memory(
    tmp_path: Path, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "journal"
    writer, reader = JournalWriter(directory, "n"), JournalReader(directory)
    assert writer.append(intent("before"))
    _, cursor = reader.read(START, 10)
    with pytest.MonkeyPatch.context() as patch:
        disk_refuses(patch, directory)
        assert writer.append(intent("first"))
        assert writer.append(intent("second"))
        assert "Read-only file system; kept in memory" in writer.last_error
        more, cursor = reader.read(cursor, 10)
        writer._return_at = writer._check_at = 0.0
        assert writer.append(intent("third")), "the disk is still away"
    assert [event.id for event in more] == ["first", "second"]
    assert (writer.failures, writer.waiting) == (0, 0)
    assert caplog.text.count("journal-in-memory") == 1
    writer._return_at = writer._check_at = 0.0
    assert writer.append(intent("after"))
    assert (writer.is_spare, writer.last_error) == (False, "")
    last, cursor = reader.read(cursor, 10)
    assert [event.id for event in last] == ["third", "after"]
    assert [event.id for event in everything(JournalReader(directory))[0]] == [
        "before",
        "first",
        "second",
        "third",
        "after",
    ]
    writer.close()
    assert JournalWriter(directory, "n").append(intent("next start"))
    assert everything(reader, cursor)[0][0].id == "next start"
    reader.discard_before(reader.end())
    assert [path for path in memory.rglob("*") if path.is_file()] == [], "what was read is gone from memory too"


def test_memory_that_belongs_to_somebody_else_is_not_used(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    (tmp_path / "elsewhere").mkdir()
    spare.spare_of(directory).symlink_to(tmp_path / "elsewhere")
    assert spare.make_spare(directory) is None
    assert spare.spare_to_read(directory) is None
    spare.spare_of(directory).unlink()
    assert spare.make_spare(directory) is not None
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert spare.make_spare(directory) is None
