"""Calls as they happen, from journal events."""

from dataclasses import replace

from e911.record import CallbackEvent, CallbackOutcome, CallFinished, CallOutcome, RouteOutcome
from router.notices.confirmations import Confirmation, Step
from router.records.live_calls import LOCATING_SECONDS, MOST_CALLS, LiveCalls, LiveState
from tests.router.notice_events import AT, ended, intent, locating, refused, step, whole_call


def test_a_call_from_its_beginning_to_its_end() -> None:
    calls = LiveCalls()
    seen = []
    for event in [
        intent("c1"),
        step("c1", RouteOutcome.STARTED),
        step("c1", RouteOutcome.RINGING, 0.2),
        step("c1", RouteOutcome.ANSWERED, 1.0, status=200),
        ended("c1"),
        CallFinished(id="c1", at=AT + 60, by="caller"),
    ]:
        call = calls.apply(event)
        seen.append(call.state if call else None)
    assert seen == ["calling", None, "ringing", "answered", None, "ended"]
    call = calls.get("c1")
    assert call is not None
    assert (call.name, call.callback, call.floor, call.zone) == ("Accueil, 3ᵉ étage", "+12125550123", "3", "hq-3e")
    assert call.address == ["350 5th AVE", "New York, NY, US"]
    assert (call.latitude, call.route, call.is_basic, call.ended_at) == (40.7484, "primary", False, AT + 60)


def test_a_call_whose_location_is_asked_for_is_shown_before_it_goes_out() -> None:
    calls = LiveCalls()
    first = calls.apply(locating("c1", site="lab"))
    assert first is not None
    assert (first.state, first.site, first.name, first.floor) == (LiveState.LOCATING, "lab", "Lobby", "")
    assert calls.apply(locating("c1")) is None
    calls.acknowledge("c1", "ada", AT - 1)
    call = calls.apply(intent("c1"))
    assert call is not None
    assert (call.state, call.site, call.floor, call.started_at) == (LiveState.CALLING, "hq", "3", AT)
    assert call.acknowledged_by == "ada", "who has seen it need not say so again"
    assert calls.apply(locating("c1")) is None, "read once more"
    assert not calls.forget_lost(AT + 60)
    calls.apply(locating("r1"))
    assert calls.apply(refused("r1")) is not None, "its caller was blocked meanwhile"
    assert [one.state for one in calls.all()] == ["calling", "refused"]


def test_a_call_that_went_on_under_another_name_does_not_wait_for_ever() -> None:
    calls = LiveCalls()
    calls.apply_all([intent("c1"), locating("c2")])
    assert not calls.forget_lost(AT)
    assert calls.forget_lost(AT + LOCATING_SECONDS)
    assert [one.id for one in calls.all()] == ["c1"]


def test_fewer_lines_tell_the_same() -> None:
    """Where the journal leaves out what follows from the rest."""
    calls = LiveCalls()
    calls.apply_all([intent("c1"), ended("c1")])
    call = calls.get("c1")
    assert call is not None
    assert (call.state, call.route, call.answered_at) == (LiveState.ANSWERED, "primary", AT + 2.5)


def test_basic_911_and_failure_and_refusal() -> None:
    calls = LiveCalls()
    calls.apply_all(
        [
            intent("c1"),
            step("c1", RouteOutcome.REFUSED, status=503),
            step("c1", RouteOutcome.STARTED, route="relay", kind="basic", with_location=False),
            step("c1", RouteOutcome.RINGING, route="relay", kind="basic", with_location=False),
        ]
    )
    call = calls.get("c1")
    assert call is not None
    assert (call.state, call.route, call.is_basic, call.location_sent) == (LiveState.RINGING, "relay", True, False)
    changed = calls.apply_all([ended("c1", CallOutcome.FAILED, 503, ""), refused("r1")])
    assert [(one.id, one.state) for one in changed] == [("c1", "failed"), ("r1", "refused")]
    assert calls.get("r1").reason  # type: ignore[union-attr]


def test_what_comes_twice_or_late_changes_nothing() -> None:
    calls = LiveCalls()
    calls.apply_all(whole_call())
    before = [call.as_document() for call in calls.all()]
    assert calls.apply_all([*whole_call(), step("c1", RouteOutcome.RINGING, 90.0, route="other")]) == []
    assert [call.as_document() for call in calls.all()] == before
    assert calls.apply(step("unknown", RouteOutcome.RINGING)) is None
    assert calls.apply("no event at all") is None


def test_who_acknowledges_first_is_shown() -> None:
    calls = LiveCalls()
    calls.apply(intent("c1"))
    assert calls.acknowledge("c1", "ann", AT + 5) is not None
    assert calls.acknowledge("c1", "bob", AT + 6) is None
    assert calls.acknowledge("c2", "bob", AT + 6) is None
    assert calls.get("c1").acknowledged_by == "ann"  # type: ignore[union-attr]


def test_an_acknowledgement_from_elsewhere_is_one_and_merely_seeing_is_none() -> None:
    calls = LiveCalls()
    calls.apply(intent("c1"))
    assert calls.apply(Confirmation(call="c1", step=Step.SEEN, contact="desk", at=AT)) is None
    changed = calls.apply(Confirmation(call="c1", step=Step.ACKNOWLEDGED, contact="desk", how="phone", at=AT + 9))
    assert changed is not None
    assert (changed.acknowledged_by, changed.acknowledged_at) == ("desk", AT + 9)
    assert calls.apply(Confirmation(call="gone", step=Step.ACKNOWLEDGED, at=AT)) is None


def test_calls_that_are_up_stay_where_there_are_too_many() -> None:
    calls = LiveCalls()
    calls.apply(intent("up"))
    for number in range(MOST_CALLS + 10):
        calls.apply(replace(refused(f"r{number}"), at=AT + number))
    assert len(calls) == MOST_CALLS
    assert calls.get("up") is not None
    assert calls.get("r0") is None


def test_what_a_phone_calls_itself_turns_nothing_around_and_fills_no_page() -> None:
    calls = LiveCalls()
    event = intent("c1")
    caller = replace(event.caller, device_name="", display_name="\u202e555\u2067\x1b[2J" + "x" * 10_000)
    call = calls.apply(replace(event, caller=caller))
    assert call is not None
    shown = call.as_document()["name"]
    assert shown.startswith("\ufffd555\ufffd\ufffd[2Jxxx")
    assert len(shown) < 250


def test_a_storm_at_one_site_takes_no_place_from_another() -> None:
    calls = LiveCalls()
    calls.apply_all([replace(intent("lab-1"), site="lab"), replace(intent("lab-2"), site="lab")])
    calls.apply_all([ended("lab-1"), CallFinished(id="lab-1", at=AT + 60, by="caller")])
    calls.apply_all([intent(f"hq-{number}") for number in range(MOST_CALLS + 50)])
    assert len(calls) == MOST_CALLS
    assert {"lab-1", "lab-2"} <= {call.id for call in calls.all()}
    assert calls.get("hq-0") is None


def test_somebody_who_calls_back_is_shown_and_what_became_of_it() -> None:
    calls = LiveCalls()
    calls.apply_all([intent("c1"), ended("c1"), CallFinished(id="c1", at=AT + 60, by="caller")])
    seen = []
    for seconds, outcome in ((90, "received"), (91, "ringing"), (120, "no-answer"), (121, "failed")):
        event = CallbackEvent(
            id="c1",
            at=AT + seconds,
            node="hq-1",
            callback="b1",
            number="+12125550191",
            caller="+12125550111",
            trunk="carrier",
            outcome=CallbackOutcome(outcome),
        )
        changed = calls.apply(event)
        assert changed is not None
        seen.append((changed.callback_at, changed.callback_outcome))
        assert calls.apply(event) is None, "the same once more"
    assert seen == [(AT + 90, word) for word in ("received", "ringing", "no-answer", "failed")]
