"""Call records and outbox rows in a real SQLite and a real PostgreSQL."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from e911.record import CallOutcome, JournalEvent, RouteOutcome
from router.journal.event_lines import encode_event
from router.journal.segments import Cursor
from router.notices.outbox import Entry, Fold, NoticeState
from router.records.record import call_record
from router.store import records
from router.store.engine import open_store, reading, writing
from router.store.folds import store_folds
from router.store.outbox import notices_of, queued_entries, store_entries
from tests.router.notice_events import AT, ended, intent, locating, refused, step, whole_call


@pytest.fixture
def store(store_url: str) -> Iterator[Engine]:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def apply(store: Engine, events: list[JournalEvent]) -> int:
    with writing(store) as conn:
        return records.apply_events(conn, events)


def rows(store: Engine) -> list[tuple[object, ...]]:
    with reading(store) as conn:
        return [tuple(row) for row in conn.execute(select(records.calls).order_by(records.calls.c.id))]


def test_a_record_says_who_where_which_way_and_how_it_ended(store: Engine) -> None:
    apply(store, whole_call())
    with reading(store) as conn:
        found = records.get_call(conn, "c1")
    assert found is not None
    assert found == call_record(whole_call(), ())
    assert (found.caller.device_name, found.caller.callback) == ("Accueil, 3ᵉ étage", "+12125550123")
    assert [(source.source, source.reason) for source in found.sources] == [
        ("network", "behind-pbx"),
        ("registered", "device"),
    ]
    assert [(tried.route, tried.outcome, tried.status, tried.after) for tried in found.routes] == [
        ("primary", "started", 0, 0.0),
        ("primary", "refused", 503, 0.25),
        ("backup", "started", 0, 0.25),
        ("backup", "answered", 200, 2.5),
    ]
    assert (found.outcome, found.route, found.finished_by) == ("answered", "backup", "caller")
    assert found.finished_at == AT + 62.5


def test_the_same_events_again_change_nothing(store: Engine) -> None:
    assert apply(store, [*whole_call("c1"), refused("r1")]) == 2
    before = rows(store)
    assert apply(store, [*whole_call("c1"), refused("r1")]) == 0
    assert apply(store, whole_call("c1")[2:4]) == 0
    assert rows(store) == before


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(min_value=1, max_value=27), max_size=6))
def test_however_the_journal_is_cut_into_batches_the_records_are_the_same(store: Engine, cuts: list[int]) -> None:
    events = [event for step_ in zip(*(whole_call(f"c{n}") for n in range(4)), strict=True) for event in step_]
    with writing(store) as conn:
        conn.execute(records.calls.delete())
    edges = sorted({0, *cuts, len(events)})
    for start, end in itertools.pairwise(edges):
        apply(store, events[max(start - 2, 0) : end])
    with reading(store) as conn:
        for number in range(4):
            assert records.get_call(conn, f"c{number}") == call_record(whole_call(f"c{number}"), ())
        assert records.count_calls(conn) == 4


def test_an_intent_journalled_again_after_a_restart_is_the_same_call(store: Engine) -> None:
    apply(store, [intent(), replace(intent(), at=AT + 4, first_route="backup"), ended("c1")])
    with reading(store) as conn:
        found = records.get_call(conn, "c1")
        (listed,) = records.list_calls(conn)
    assert found is not None
    assert (found.intents, found.started_at, listed.started_at) == (2, AT, AT)


def test_a_refused_call_and_a_test_call_are_told_apart(store: Engine) -> None:
    apply(store, [refused("r1"), intent("t1", kind="test", dialled="933"), intent("c1")])
    with reading(store) as conn:
        listed = {call.id: call for call in records.list_calls(conn)}
    assert (listed["r1"].outcome, listed["r1"].status) == ("refused", 403)
    assert listed["t1"].kind == "test"
    assert listed["c1"].outcome == ""


def test_listing_is_newest_first_by_site_and_since(store: Engine) -> None:
    apply(store, [intent(f"c{n}", at=AT + n, site="hq" if n % 2 else "branch") for n in range(10)])
    with reading(store) as conn:
        assert [call.id for call in records.list_calls(conn, limit=3)] == ["c9", "c8", "c7"]
        assert [call.id for call in records.list_calls(conn, site="branch", limit=2)] == ["c8", "c6"]
        assert [call.id for call in records.list_calls(conn, since=AT + 8)] == ["c9", "c8"]
        assert records.find_calls(conn, "c9") == ["c9"]
        assert records.find_calls(conn, "c%") == []


def test_events_of_a_call_whose_intent_is_gone_are_kept(store: Engine) -> None:
    apply(store, [step("x", RouteOutcome.ANSWERED, 1.0), ended("x", CallOutcome.FAILED, 503, "")])
    with reading(store) as conn:
        found = records.get_call(conn, "x")
    assert found is not None
    assert (found.outcome, found.status, found.location) == ("failed", 503, None)


def test_text_that_no_database_keeps_harms_no_other_call(store: Engine) -> None:
    caller = replace(intent().caller, number="41\x0002", device="\ud800")
    apply(store, [intent("bad", caller=caller), intent("good")])
    with writing(store) as conn:
        records.apply_lines(
            conn, [b'{"id":"odd","at":1,"type":"ended"}', b"[]", b"\x00", encode_event(intent("c9"))[:-1]]
        )
        assert {call.id for call in records.list_calls(conn)} >= {"bad", "good", "c9"}


def test_a_call_that_waits_for_its_location_is_no_record_yet(store: Engine) -> None:
    apply(store, [locating()])
    with reading(store) as conn:
        assert records.list_calls(conn) == []
    apply(store, [locating(), intent()])
    with reading(store) as conn:
        assert [call.started_at for call in records.list_calls(conn)] == [AT]


def test_the_cursor_is_stored_with_the_events_or_not_at_all(store: Engine) -> None:
    def fail_half_way() -> None:
        with writing(store) as conn:
            records.apply_events(conn, [intent("undone")])
            records.store_cursor(conn, "hq-1", Cursor(9, 9))
            raise RuntimeError

    with writing(store) as conn:
        assert records.read_cursor(conn, "hq-1") == Cursor(0, 0)
        records.store_cursor(conn, "hq-1", Cursor(1_790_000_000_000_000, 77))
    with pytest.raises(RuntimeError):
        fail_half_way()
    with reading(store) as conn:
        assert records.read_cursor(conn, "hq-1") == Cursor(1_790_000_000_000_000, 77)
        assert records.read_cursor(conn, "hq-2") == Cursor(0, 0)
        assert records.get_call(conn, "undone") is None


def test_outbox_rows_are_written_over_and_show_with_the_call(store: Engine) -> None:
    apply(store, [intent("c1"), intent("c2")])
    queued = Entry(
        call="c1", kind="call", contact="front-desk", channel=0, site="hq", queued_at=AT, subject="é", body="a\0b"
    )
    fold = replace(queued, call="c1", kind="folded-call", queued_at=AT + 9)
    folded = Fold(call="c1", kind="call", contact="front-desk", site="hq", at=AT + 9, calls=("c1", "c2", "x%"))
    with writing(store) as conn:
        store_entries(conn, "hq-1", [entry.as_row() for entry in (queued, fold)])
        store_folds(conn, "hq-1", [folded])
        store_folds(conn, "hq-1", [folded])
        assert {entry.key for entry in queued_entries(conn, "hq-1")} == {queued.key, fold.key}
        assert queued_entries(conn, "hq-2") == []
        done = replace(queued, state=NoticeState.DELIVERED, attempts=2, words="HTTP 200", last_attempt_at=AT + 1)
        store_entries(conn, "hq-1", [done.as_row()])
        store_entries(conn, "hq-1", [])
    with reading(store) as conn:
        assert [entry.key for entry in queued_entries(conn, "hq-1")] == [fold.key]
        own, *in_the_fold = notices_of(conn, "c1")
        assert (own.state, own.attempts, own.subject) == (NoticeState.DELIVERED, 2, "é")
        assert [entry.key for entry in in_the_fold] == [own.key, fold.key]
        assert [entry.kind for entry in notices_of(conn, "c2")] == ["call", "folded-call"]
        assert notices_of(conn, "c%") == notices_of(conn, "") == notices_of(conn, "1") == []
        found = records.get_call(conn, "c2")
    assert found is not None
    assert found.notices[0].folded_into == "c1"
