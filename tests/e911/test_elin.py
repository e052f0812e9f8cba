"""Leases of ELINs: who gets which, when one is shared, and what is known after others told."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from e911.elin import (
    SHARED,
    Choice,
    Lease,
    LeaseKind,
    Leases,
    Pool,
    Pools,
    PoolState,
    PoolUse,
    WayBack,
    lease_data,
    lease_from,
    released,
)

A, B, C, D = "+12125550191", "+12125550192", "+12125550193", "+12125550194"
HOUR = 3600.0
T = 1_900_000_000.0


def leases_of(*site: str, zone: tuple[str, ...] = ()) -> Leases:
    return Leases(
        Pools(
            [
                Pool(name="hq", site="hq", zone="", numbers=site),
                Pool(name="hq/3e", site="hq", zone="3e", numbers=zone),
            ]
        )
    )


def lend(leases: Leases, caller: str, at: float, *, zone: str = "", seconds: float = 3 * HOUR, **keys: Any) -> Choice:
    """Choose and lend, as a call does."""
    choice = leases.choose("hq", zone, caller, at, **keys)
    assert choice is not None
    leases.put(lease(choice.number, caller, at, seconds, **{"pool": choice.pool, "reason": choice.reason, **keys}))
    return choice


def lease(number: str, caller: str, at: float, seconds: float = 3 * HOUR, **keys: Any) -> Lease:
    keys.pop("prefers", None)
    return Lease(
        number=number,
        caller=caller,
        call=f"call of {caller}",
        kind=LeaseKind.ELIN,
        since=at,
        until=at + seconds,
        **keys,
    )


def test_the_zone_lends_before_the_site() -> None:
    leases = leases_of(A, B, zone=(C,))
    assert lend(leases, "one", T, zone="3e").number == C
    assert lend(leases, "two", T, zone="3e") == (A, "hq", "", T)
    assert lend(leases, "three", T).number == B


def test_none_is_shared_while_another_is_free_and_then_it_has_a_name() -> None:
    leases = leases_of(A, B, zone=(C, D))
    given = [lend(leases, f"phone {number}", T + number, zone="3e") for number in range(4)]
    assert {choice.number for choice in given} == {A, B, C, D}
    assert {choice.reason for choice in given} == {""}
    fifth = lend(leases, "phone 5", T + 5, zone="3e")
    assert fifth.reason == SHARED
    assert fifth.number in (C, D), "of the zone, whose address the provider knows it by"


def test_fewest_in_use_then_longest_idle() -> None:
    leases = leases_of(A, B, C)
    lend(leases, "one", T, seconds=10)
    lend(leases, "two", T, seconds=30)
    lend(leases, "three", T, seconds=20)
    at = T + 100
    assert [lend(leases, who, at).number for who in ("x", "y", "z")] == [A, C, B]
    shared = lend(leases, "w", at + 1)
    assert shared.reason == SHARED
    again = lend(leases, "v", at + 2)
    assert again.number != shared.number, "that one has two callers, the others one"


def test_who_never_had_one_comes_before_who_did() -> None:
    leases = leases_of(A, B)
    lend(leases, "one", T, seconds=1)
    assert lend(leases, "two", T + HOUR).number == B


def test_the_same_caller_has_the_same_one_while_it_lasts() -> None:
    leases = leases_of(A, B, C)
    first = lend(leases, "one", T)
    lend(leases, "two", T + 1)
    assert lend(leases, "one", T + HOUR).number == first.number
    assert leases.find(first.number, T + 4 * HOUR - 1) is not None, "prolonged by the second call"
    later = lend(leases, "one", T + 10 * HOUR)
    assert later.number == C, "the one idle longest, when it was over"


def test_a_caller_who_moved_to_a_zone_with_elins_of_its_own_gets_one_of_those() -> None:
    leases = leases_of(A, zone=(C,))
    pools = Pools([*leases.pools.all, Pool(name="hq/4w", site="hq", zone="4w", numbers=(D,))])
    leases.with_pools(pools)
    assert lend(leases, "one", T, zone="3e").number == C
    assert lend(leases, "one", T + 60, zone="4w").number == D
    assert lend(leases, "one", T + 120, zone="4w").number == D


def test_who_shares_one_gets_another_as_soon_as_one_is_free() -> None:
    """A callback to a shared number may ring at the other caller."""
    leases = leases_of(A, B)
    assert lend(leases, "one", T, seconds=HOUR).number == A
    assert lend(leases, "two", T).number == B
    assert lend(leases, "three", T) == (A, "hq", SHARED, T)
    assert lend(leases, "three", T + 60) == (A, "hq", SHARED, T), "none is free: it keeps the one it has"
    assert leases.put(released(leases.live(B, T + 90)[0], T + 90))
    assert lend(leases, "three", T + 120) == (B, "hq", "", T + 120)
    assert lend(leases, "one", T + HOUR - 1).number == A


def test_one_that_nobody_shares_any_more_is_kept_and_not_called_shared() -> None:
    leases = leases_of(A, zone=())
    lend(leases, "one", T, seconds=HOUR)
    assert lend(leases, "two", T + 1).reason == SHARED
    assert lend(leases, "two", T + HOUR + 1) == (A, "hq", "", T + 1)


def test_a_test_call_takes_none_from_a_911_call() -> None:
    leases = leases_of(A, B)
    assert lend(leases, "tester 1", T, is_test=True).number == A
    assert lend(leases, "tester 2", T, is_test=True).number == B
    real = lend(leases, "one", T + 1)
    assert (real.number, real.reason) == (A, "")
    assert lend(leases, "two", T + 2) == (B, "hq", "", T + 2)
    assert lend(leases, "three", T + 3).reason == SHARED
    assert leases.find(A, T + 4).caller in ("one", "three")  # type: ignore[union-attr]


def test_nodes_that_share_a_pool_begin_at_different_places() -> None:
    first, second = leases_of(A, B, C, D), leases_of(A, B, C, D)
    one = [lend(first, f"one {n}", T, prefers=lambda number: number in (A, C)).number for n in range(4)]
    two = [lend(second, f"two {n}", T, prefers=lambda number: number in (B, D)).number for n in range(4)]
    assert one == [A, C, B, D]
    assert two == [B, D, A, C]


def test_no_pool_lends_nothing() -> None:
    assert Leases().choose("hq", "", "one", T) is None
    assert leases_of(A).choose("branch", "", "one", T) is None


def test_a_callback_finds_who_called_last() -> None:
    leases = leases_of(A)
    lend(leases, "one", T)
    lend(leases, "two", T + 60)
    found = leases.find(A, T + 120)
    assert found is not None
    assert (found.caller, found.reason) == ("two", SHARED)
    lend(leases, "one", T + 180)
    assert leases.find(A, T + 200).caller == "one"  # type: ignore[union-attr]
    assert leases.find(A, T + 180 + 3 * HOUR) is None
    assert leases.last(A).caller == "one"  # type: ignore[union-attr]


def test_who_called_last_also_where_a_test_call_ends_sooner() -> None:
    leases = leases_of(A)
    lend(leases, "one", T)
    lend(leases, "tester", T + 60, seconds=600, is_test=True)
    assert leases.find(A, T + 120).caller == "one"  # type: ignore[union-attr]


def test_older_news_of_the_same_lease_change_nothing() -> None:
    leases = leases_of(A, B)
    new, old = lease(A, "one", T + HOUR), lease(A, "one", T)
    leases.put(new)
    leases.put(old)
    assert leases.find(A, T + HOUR) is new


def test_a_lease_ended_by_hand_stays_ended_until_the_next_call() -> None:
    leases = leases_of(A, B)
    old = lease(A, "one", T)
    leases.put(old)
    ended = released(old, T + 60)
    leases.put(ended)
    assert leases.find(A, T + 61) is None
    leases.put(old)
    assert leases.find(A, T + 61) is None, "the journal is read again after a restart"
    assert lend(leases, "one", T + 120).number == B, "the other one has been idle longer"
    leases.put(lease(A, "one", T + 200))
    assert leases.find(A, T + 201) is not None
    leases.put(ended)
    assert leases.find(A, T + 201) is not None


def test_leases_over_long_ago_are_forgotten() -> None:
    leases = leases_of(A, B)
    lend(leases, "one", T)
    leases.prune(T + 6 * 86_400)
    assert len(leases) == 1
    leases.prune(T + 8 * 86_400)
    assert len(leases) == 0
    assert not leases
    assert leases.choose("hq", "", "one", T) == (A, "hq", "", T)


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e911.elin.LEASES_KEPT", 100)
    leases = Leases()
    for number in range(250):
        leases.put(lease(f"+1212555{number:04d}", f"phone {number}", T + number))
    assert len(leases) == 100
    assert leases.find("+12125550249", T + 300) is not None
    assert leases.find("+12125550000", T + 300) is None


def test_the_callers_of_a_number_have_a_bound_and_test_calls_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e911.elin.CALLERS_KEPT", 3)
    leases = Leases()
    leases.put(lease(A, "first", T))
    for number in range(20):
        leases.put(lease(A, f"tester {number}", T + number, is_test=True))
    assert len(leases) == 3
    assert leases.of(A, "first") is not None
    for number in range(5):
        leases.put(lease(A, f"phone {number}", T + 100 + number))
    assert sorted(one.caller for one in leases.all()) == ["phone 2", "phone 3", "phone 4"]
    assert leases.find(A, T + 200).caller == "phone 4"  # type: ignore[union-attr]


def test_leases_of_test_calls_are_forgotten_at_their_end() -> None:
    leases = leases_of(A, B)
    lend(leases, "tester", T, seconds=600, is_test=True)
    lend(leases, "one", T, seconds=600)
    leases.prune(T + 601)
    assert [one.caller for one in leases.all()] == ["one"]


def test_the_number_lent_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e911.elin.LEASES_KEPT", 3)
    leases = Leases()
    for number, caller in ((A, "one"), (B, "two"), (C, "three"), (A, "one"), (D, "four")):
        leases.put(lease(number, caller, T))
    assert {one.number for one in leases.all()} == {A, C, D}


def test_what_is_read_again_changes_nothing_and_a_call_does() -> None:
    leases = leases_of(A, B)
    known = lease(A, "one", T, way_back=WayBack(host="10.0.0.9"))
    leases.put(known)
    again = replace(known, way_back=WayBack(host="10.0.0.8"))
    assert not leases.merge(again)
    assert leases.find(A, T) is known
    assert leases.merge(released(known, T + 1))
    assert not leases.merge(released(known, T + 1))
    assert leases.put(lease(A, "one", T + 2))
    assert leases.put(lease(A, "one", T + 2)), "an INVITE retransmitted after a restart"


def test_who_is_vouched_for_comes_before_who_called_last() -> None:
    leases = Leases()
    leases.put(replace(lease(A, "owner", T), kind=LeaseKind.OWN, is_vouched=True))
    leases.put(replace(lease(A, "another", T + 60), kind=LeaseKind.OWN))
    assert leases.find(A, T + 70).caller == "owner"  # type: ignore[union-attr]
    assert leases.find(A, T + 3 * HOUR + 30).caller == "another"  # type: ignore[union-attr]


def test_a_pool_is_low_before_it_is_empty() -> None:
    assert [PoolUse(pool="p", total=10, free=free).state for free in (3, 2, 1, 0)] == [
        PoolState.OK,
        PoolState.LOW,
        PoolState.LOW,
        PoolState.EMPTY,
    ]
    assert PoolUse(pool="p", total=2, free=1).state is PoolState.LOW
    assert PoolUse(pool="p", total=1, free=1).state is PoolState.OK
    assert PoolUse(pool="p", total=1, free=0).state is PoolState.EMPTY


def test_a_lease_as_data_and_back() -> None:
    way = WayBack(trunk="pbx", user="4102", aor="<sip:4102@pbx>", transport="tcp", host="10.0.0.10", port=5060)
    made = replace(lease(A, "4102", T), way_back=way, contacts=("desk",), released_at=T + 1)
    assert lease_from(lease_data(made)) == made
    assert lease_from({**lease_data(made), "of_a_newer_version": 1}) == made
    with pytest.raises(KeyError):
        lease_from({"number": A})
    with pytest.raises(ValueError, match="nothing"):
        lease_from({**lease_data(made), "kind": "nothing"})


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4000)), max_size=60))
@example([(0, 0), (2, 0), (3, 0), (4, 0), (1, 1), (0, 1), (0, 3598), (0, 1)])
def test_whatever_happens_none_is_shared_while_another_is_free(calls: list[tuple[int, int]]) -> None:
    leases = leases_of(A, B, zone=(C, D))
    at = T
    for caller, pause in calls:
        at += pause
        name = f"phone {caller}"
        last = leases.elin_of(name)
        had = last if last is not None and last.is_live(at) else None
        choice = lend(leases, name, at, zone="3e", seconds=HOUR)
        others = {one.number for one in leases.all() if one.is_live(at) and one.caller != name}
        if choice.number in others:
            assert others >= {A, B, C, D}
            assert choice.reason == SHARED
        if had is not None and (had.number not in others or others >= {A, B, C, D}):
            assert choice.number == had.number
