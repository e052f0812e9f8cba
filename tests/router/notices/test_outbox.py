"""The outbox's schedule and the folding of storms; time is a number."""

from hypothesis import given
from hypothesis import strategies as st

from router.notices.outbox import (
    GIVE_UP_ATTEMPTS,
    GIVE_UP_SECONDS,
    PERMANENT_RETRY_SECONDS,
    RETRY_SECONDS,
    Attempt,
    Entry,
    NoticeState,
    Outbox,
    StormGate,
    delay_after,
)

AT = 1_790_000_000.0
GROUP = ("front-desk", "hq", "call")
NO = Attempt(delivered=False, reason="unreachable", words="Connection refused")
YES = Attempt(delivered=True, words="HTTP 200 OK")


def entry(call: str = "c1", channel: int = 0) -> Entry:
    return Entry(call=call, kind="call", contact="front-desk", channel=channel, site="hq", queued_at=AT)


def settle(outbox: Outbox, key: tuple[str, str, str, int], attempt: Attempt, now: float) -> Entry | None:
    return outbox.settle(key, attempt, now=now, at=AT + now, started_at=AT + now)


def test_a_new_notice_is_due_at_once_and_only_once_while_it_is_under_way() -> None:
    outbox = Outbox()
    outbox.add(entry(), now=5.0)
    assert [found.call for found in outbox.due(5.0)] == ["c1"]
    assert outbox.due(1000.0) == []


def test_back_off_is_1_2_5_10_30_then_60_seconds() -> None:
    outbox, now, waited = Outbox(), 0.0, []
    outbox.add(entry(), now)
    for _ in range(8):
        assert len(outbox.due(now)) == 1
        settle(outbox, entry().key, NO, now)
        due = outbox.next_due()
        assert due is not None
        assert outbox.due(due - 0.001) == []
        waited.append(due - now)
        now = due
    assert waited == [1, 2, 5, 10, 30, 60, 60, 60]


def test_a_permanent_no_is_tried_again_but_slower() -> None:
    assert delay_after(1, permanent=True) == delay_after(1)
    assert delay_after(50, permanent=True) == PERMANENT_RETRY_SECONDS > RETRY_SECONDS


def test_it_is_given_up_only_after_24_hours_and_enough_attempts() -> None:
    outbox, now, last = Outbox(), 0.0, 0.0
    outbox.add(entry(), now)
    while (due := outbox.next_due()) is not None:
        last = due
        assert len(outbox.due(due)) == 1
        found = settle(outbox, entry().key, NO, due)
        assert found is not None
        assert found.state is NoticeState.QUEUED or due >= GIVE_UP_SECONDS
    assert GIVE_UP_SECONDS <= last < GIVE_UP_SECONDS + 61
    found = outbox.entries[entry().key]
    assert found.state is NoticeState.REFUSED
    assert found.attempts >= GIVE_UP_ATTEMPTS
    assert outbox.queued == 0


def test_a_clock_set_a_year_ahead_gives_nothing_up() -> None:
    outbox = Outbox()
    outbox.add(entry(), 0.0)
    for now in (0.0, 1.0):
        outbox.due(now)
        outbox.settle(entry().key, NO, now=now, at=AT + now * 365 * 86400, started_at=AT + now * 365 * 86400)
    assert outbox.entries[entry().key].state is NoticeState.QUEUED


def test_an_unusable_channel_is_refused_at_once() -> None:
    outbox = Outbox()
    outbox.add(entry(), 0.0)
    outbox.due(0.0)
    found = settle(outbox, entry().key, Attempt(delivered=False, unusable=True, reason="channel-not-available"), 0.0)
    assert found is not None
    assert (found.state, found.reason, outbox.queued) == (NoticeState.REFUSED, "channel-not-available", 0)


def test_a_success_after_the_time_out_counts_and_ends_the_retries() -> None:
    outbox = Outbox()
    outbox.add(entry(), 0.0)
    outbox.due(0.0)
    outbox.settle(entry().key, NO, now=15.0, at=AT + 15, started_at=AT, not_before=60.0)
    assert outbox.due(59.0) == []
    late = settle(outbox, entry().key, YES, 20.0)
    assert late is not None
    assert late.state is NoticeState.DELIVERED
    assert outbox.due(10_000.0) == []


def test_what_is_settled_is_kept_until_it_is_stored_as_it_is() -> None:
    outbox = Outbox()
    outbox.add(entry(), 0.0)
    before = outbox.take_rows()
    assert outbox.take_rows() == []
    outbox.due(0.0)
    settle(outbox, entry().key, YES, 0.0)
    outbox.mark_stored(before)
    assert entry().key in outbox.entries
    outbox.mark_stored(outbox.take_rows())
    assert outbox.entries == {}


def test_the_same_call_kind_and_contact_is_new_only_once() -> None:
    outbox = Outbox()
    assert outbox.is_new("c1", "call", "front-desk")
    assert not outbox.is_new("c1", "call", "front-desk")
    assert outbox.is_new("c1", "failed", "front-desk")
    assert outbox.is_new("c1", "call", "security")


def test_200_at_once_are_20_and_one_of_180() -> None:
    gate: StormGate[int] = StormGate()
    alone = [number for number in range(200) if gate.offer(GROUP, number, 100.0 + number / 1000)]
    assert alone == list(range(20))
    assert gate.ended(109.9) == []
    assert gate.ended(110.0) == [(GROUP, list(range(20, 200)))]
    assert gate.ended(500.0) == []


def test_after_a_burst_a_single_call_goes_out_at_once() -> None:
    gate: StormGate[int] = StormGate()
    for number in range(200):
        gate.offer(GROUP, number, 100.0)
    gate.ended(110.0)
    assert gate.offer(GROUP, 999, 112.0)


def test_while_a_storm_lasts_each_window_is_one_notice() -> None:
    gate: StormGate[int] = StormGate()
    alone, told = 0, []
    for number in range(6000):
        now = number / 100
        told += [len(items) for _, items in gate.ended(now)]
        alone += gate.offer(GROUP, number, now)
    told += [len(items) for _, items in gate.ended(1000.0)]
    assert alone == 20
    assert len(told) == 6
    assert alone + sum(told) == 6000


def test_other_contacts_sites_and_kinds_are_not_folded_along() -> None:
    gate: StormGate[int] = StormGate()
    for number in range(50):
        gate.offer(GROUP, number, 0.0)
    for other in (("security", "hq", "call"), ("front-desk", "branch", "call"), ("front-desk", "hq", "failed")):
        assert gate.offer(other, 0, 0.0)


@given(st.lists(st.floats(min_value=0.0, max_value=3.0), max_size=400))
def test_no_notice_is_lost_and_never_more_than_20_go_out_alone_within_10_seconds(gaps: list[float]) -> None:
    gate: StormGate[int] = StormGate()
    now, alone, folded = 0.0, [], []
    for number, gap in enumerate(gaps):
        now += gap
        folded += [item for _, items in gate.ended(now) for item in items]
        if gate.offer(GROUP, number, now):
            alone.append((now, number))
    folded += [item for _, items in gate.ended(now + 20) for item in items]
    assert sorted([number for _, number in alone] + folded) == list(range(len(gaps)))
    for first, later in zip(alone, alone[20:], strict=False):
        assert later[0] - first[0] >= 10.0 - 1e-9
