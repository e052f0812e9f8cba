"""TimerQueue. Proved: order, cancelling, that nothing is kept for what is over. Model: a sorted list."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sip.timers import Entry, TimerQueue, cancel_timer


def test_the_oldest_deadline_fires_first_whatever_its_length() -> None:
    queue = TimerQueue()
    queue.set("a", "long", 4.0, 0.0)
    queue.set("b", "short", 0.5, 1.0)
    queue.set("c", "middle", 2.0, 1.5)
    assert queue.earliest == 1.5
    assert queue.pop_expired(1.4999) == []
    assert [entry[2] for entry in queue.pop_expired(10.0)] == ["short", "middle", "long"]
    assert queue.earliest == float("inf")


def test_a_cancelled_timer_holds_nothing_and_does_not_fire() -> None:
    queue = TimerQueue()
    entry = queue.set(object(), "x", 1.0, 0.0)
    cancel_timer(entry)
    cancel_timer(None)
    assert entry[1] is None
    assert len(queue) == 0
    assert queue.pop_expired(5.0) == []


def test_odd_lengths_leave_nothing_behind() -> None:
    """What is left of a time-out after a wait is a length of its own for every call."""
    queue = TimerQueue()
    now = 0.0
    for number in range(5000):
        now += 0.01
        queue.set(number, "x", 0.1 + number / 1e6, now)
        queue.pop_expired(now)
    queue.pop_expired(now + 10)
    assert len(queue._queues) <= 65


steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "cancel", "pass"]),
        st.sampled_from([0.0, 0.5, 1.0, 4.0, 0.3]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_it_fires_what_a_sorted_list_would(todo: list[tuple[str, float, int]]) -> None:
    queue = TimerQueue()
    model: list[tuple[float, int]] = []
    entries: list[tuple[Entry, tuple[float, int]]] = []
    now = 0.0
    for number, (what, seconds, which) in enumerate(todo):
        if what == "set":
            item = (now + seconds, number)
            model.append(item)
            entries.append((queue.set("owner", number, seconds, now), item))
        elif what == "cancel" and entries:
            entry, item = entries.pop(which % len(entries))
            cancel_timer(entry)
            if item in model:
                model.remove(item)
        elif what == "pass":
            now += seconds
            fired = [(entry[0], entry[2]) for entry in queue.pop_expired(now)]
            due = sorted(item for item in model if item[0] <= now)
            assert sorted(fired) == due
            assert [deadline for deadline, _ in fired] == [deadline for deadline, _ in due]
            model = [item for item in model if item[0] > now]
        assert queue.earliest <= min((deadline for deadline, _ in model), default=float("inf"))
        assert len(queue) == len(model)
