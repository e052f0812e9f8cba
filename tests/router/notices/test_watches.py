"""Watches: when somebody is late to acknowledge, when nobody was reached, when a watch ends. Time is a number."""

import pytest

from router.notices.watches import (
    KEEP_SECONDS,
    UNTOLD_SECONDS,
    WATCHED_CALLS,
    Watch,
    Watches,
    next_contacts,
    watch_from,
)


def watched(watches: Watches, call: str = "c1", deadline: float | None = 60.0, at: float = 0.0) -> Watch:
    watch = watches.begin(Watch(call=call, kind="call", site="hq", line=b"{}", at=at))
    watches.tell(watch, "desk", [(call, "call", "desk", 0), (call, "call", "desk", 1)], deadline)
    return watch


def test_who_has_not_acknowledged_in_time_is_due_once() -> None:
    watches = Watches()
    watch = watched(watches)
    watches.settled(("c1", "call", "desk", 0), delivered=True)
    assert watches.due(59.9) == []
    assert [(due.watch, due.contact) for due in watches.due(60.0)] == [(watch, "desk")]
    assert watches.due(1000.0) == []


def test_an_acknowledgement_ends_it_also_where_it_comes_first() -> None:
    watches = Watches()
    watched(watches)
    watches.settled(("c1", "call", "desk", 0), delivered=True)
    assert watches.acknowledge(["c1"], "Ada", 10.0)
    assert not watches.acknowledge(["c1"], "Bob", 11.0)
    assert watches.due(100.0) == []
    assert watches.acknowledge(["c2"], "Ada", 10.0)
    assert watched(watches, "c2").acknowledged_by == "Ada"
    assert all(due.contact is None for due in watches.due(100.0))


@pytest.mark.parametrize("set_by", [-3600.0, 3600.0])
def test_a_clock_that_is_set_puts_nothing_off_and_nothing_forward(set_by: float) -> None:
    watches = Watches()
    watched(watches, at=10_000.0, deadline=10_060.0)
    watches.settled(("c1", "call", "desk", 0), delivered=True)
    assert watches.due(10_020.0) == []
    watches.shift(set_by)
    assert watches.due(10_059.9 + set_by) == []
    assert [due.contact for due in watches.due(10_060.0 + set_by)] == ["desk"]


def test_nobody_reached_is_due_when_all_have_failed_or_the_time_is_over() -> None:
    watches = Watches()
    failed = watched(watches, "c1", deadline=None)
    watched(watches, "c2", deadline=None)
    reached = watched(watches, "c3", deadline=None)
    watches.settled(("c1", "call", "desk", 0), delivered=False)
    watches.settled(("c3", "call", "desk", 0), delivered=False)
    watches.settled(("c3", "call", "desk", 1), delivered=True)
    assert watches.due(1.0) == []
    watches.settled(("c1", "call", "desk", 1), delivered=False)
    assert [(due.watch, due.contact) for due in watches.due(2.0)] == [(failed, None)]
    assert [due.watch.call for due in watches.due(UNTOLD_SECONDS)] == ["c2"]
    assert watches.due(1000.0) == []
    assert reached.is_reached


@pytest.mark.parametrize("trap_is_first", [True, False])
def test_a_trap_is_no_proof_that_somebody_was_reached_where_all_that_answers_has_failed(trap_is_first: bool) -> None:
    watches = Watches()
    watched(watches, "c1", deadline=None)
    mail, trap = ("c1", "call", "desk", 0), ("c1", "call", "desk", 1)
    for key in (trap, mail) if trap_is_first else (mail, trap):
        assert watches.due(1.0) == []
        watches.settled(key, delivered=key == trap, is_answered=key == mail)
    assert [due.contact for due in watches.due(1.0)] == [None]


def test_where_no_channel_answers_what_was_sent_counts() -> None:
    watches = Watches()
    watch = watched(watches, "c1", deadline=None)
    for channel in range(2):
        watches.settled(("c1", "call", "desk", channel), delivered=True, is_answered=False)
    assert watches.due(UNTOLD_SECONDS * 2) == []
    assert watch_from(watch.as_data()) == watch


def test_a_watch_comes_back_from_a_checkpoint_as_it_was() -> None:
    watches = Watches()
    watch = watched(watches)
    assert watch_from(watch.as_data()) == watch


def test_watches_end_by_number_and_by_age_but_not_those_that_are_still_needed() -> None:
    watches = Watches()
    for number in range(WATCHED_CALLS + 10):
        watched(watches, f"c{number}", deadline=None)
    assert len(watches) == WATCHED_CALLS
    assert watches.get("c9") is None
    late = Watches()
    watched(late, "kept", deadline=KEEP_SECONDS * 2)
    watched(late, "old", deadline=None)
    watched(late, "new", deadline=None, at=KEEP_SECONDS)
    late.expire(KEEP_SECONDS + 1)
    assert [watch.call for watch in late.all()] == ["kept", "new"]
    assert late.unconfirmed(KEEP_SECONDS + 1) == ["new", "kept"]


@pytest.mark.parametrize(
    ("contact", "wanted", "order", "everybody", "found"),
    [
        ("a", ["x", "y"], ["a", "b"], "abxy", ["x", "y"]),
        ("a", [], ["a", "b", "c"], "abc", ["b"]),
        ("c", [], ["a", "b", "c"], "abc", ["a"]),
        ("a", [], ["a"], "abc", ["b", "c"]),
        ("a", [], ["a"], "a", ["a"]),
        ("x", [], ["a", "b"], "abx", ["a", "b"]),
    ],
)
def test_who_comes_next(contact: str, wanted: list[str], order: list[str], everybody: str, found: list[str]) -> None:
    assert next_contacts(contact, wanted=wanted, order=order, everybody=everybody) == found


def test_others_are_to_know_of_what_somebody_is_still_to_be_told_and_of_its_end() -> None:
    watches = Watches()
    watched(watches)
    watched(watches, "c2", deadline=None)
    watches.settled(("c2", "call", "desk", 0), delivered=True)
    found = watches.take_changed()
    assert found.keys() == {"c1"}, "nothing is left to be done of c2"
    assert found["c1"] is not None
    assert watch_from(found["c1"]).deadlines == {"desk": 60.0}
    assert watches.take_changed() == {}
    watches.acknowledge(["c1"], "Ada", 10.0)
    watches.settled(("c1", "call", "desk", 0), delivered=True)
    assert watches.take_changed() == {"c1": None}


def test_what_another_node_took_over_is_left_to_it_also_where_the_journal_brings_it_again() -> None:
    watches = Watches()
    watched(watches)
    watches.leave("c1")
    watches.leave("c2")
    watched(watches, "c2")
    assert watches.due(1000.0) == []
    assert watches.take_changed() == {}


def test_what_was_left_to_a_node_that_died_as_well_is_due_here_again() -> None:
    watches = Watches()
    watch = watched(watches)
    taken = watch_from(watch.as_data())
    watches.settled(("c1", "call", "desk", 0), delivered=True)
    watches.leave("c1")
    assert watches.due(100.0) == []
    assert watches.take_over(taken)
    assert [due.contact for due in watches.due(100.0)] == [None, "desk"]


def test_what_a_dead_node_watched_is_due_here() -> None:
    dead, watches = Watches(), Watches()
    watched(dead)
    data = dead.take_changed()["c1"]
    assert data is not None
    assert watches.take_over(watch_from(data))
    assert not watches.take_over(watch_from(data)), "once"
    assert [due.contact for due in watches.due(60.0)] == [None, "desk"]
    assert watches.take_changed() == {"c1": None}, "it is over, and the database shall know"
