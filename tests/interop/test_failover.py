"""Routes that refuse, stay silent or break off: the call still ends where someone answers, between real SIPps.

Times are compared with each other (the next route did not start before the timeout), never with a clock's limit.
"""

import time

import pytest

from tests.interop.wire import assert_basic, assert_carries_location, assert_no_location, assert_same_call
from tests.support.blackhole import Blackhole, SynBlackhole
from tests.support.raw_sip import answers
from tests.support.sip_text import parse
from tests.support.sipp import Sipp, running
from tests.support.world import Place, Plan, World

pytestmark = pytest.mark.peers

TIMEOUT = 0.6
PROGRESS_TIMEOUT = 0.9
TCP_WAIT = 0.3
CLOCK = 0.03
"""SIPp's trace and the router's timer queue may differ by this much."""


def impatient(tcp: tuple[str, ...] = ()) -> Plan:
    """The first route is given up soon, the second waits long."""
    return Plan(
        timeout="600ms",
        progress_timeout="900ms",
        route_keys={"provider_b": {"timeout": "10s", "progress_timeout": "10s"}},
        tcp=tcp,
    )


PLANS = {
    "refused": Plan(timeout="30s"),
    "refused-603": Plan(),
    "closed": Plan(timeout="30s"),
    "closed-tcp": Plan(timeout="30s", tcp=("provider_a",)),
    "silent": impatient(),
    "silent-tcp": impatient(tcp=("provider_a",)),
    "trying": impatient(),
    "syn-blackhole": Plan(trunk_keys={"provider_a": {"large_messages": "tcp"}}, timeout="8s"),
    "syn-blackhole-silent": Plan(
        trunk_keys={"provider_a": {"large_messages": "tcp"}},
        timeout="600ms",
        route_keys={"provider_b": {"timeout": "10s", "progress_timeout": "10s"}},
    ),
    "rings-then-fails": Plan(),
    "rings-then-all-fail": Plan(),
    "cancel-ringing": Plan(),
    "cancel-failing-over": impatient(),
    "cancel-silent": Plan(timeout="10s"),
    "424": Plan(routes=("provider_a",)),
    "415": Plan(routes=("provider_a",)),
    "413": Plan(routes=("provider_a",)),
    "513": Plan(routes=("provider_a",)),
    "482": Plan(),
    "late": impatient(),
    "late-ringing": impatient(),
    "two-answers": impatient(),
    "answer-crosses-cancel": Plan(),
    "basic-last": Plan(),
    "all-refuse": Plan(),
    "all-busy": Plan(),
    "all-unauthorized": Plan(),
    "no-basic": Plan(basic=False, routes=("provider_a",)),
}


def gap(first: Sipp, second: Sipp) -> float:
    """Seconds from the first INVITE at one provider to the first at the other."""
    return second.first("INVITE") - first.first("INVITE")


def failed_notice(place: Place) -> str:
    """The notice that says that the call did not go through."""
    found = [text for text in place.notices(2) if "NOT" in text.upper()]
    assert found, f"no notice says that the call failed: {place.notices(2)}"
    return found[0]


def test_a_503_costs_one_round_trip_and_the_next_provider_takes_the_call(the_world: World) -> None:
    place = the_world["refused"]
    first, second = (
        place.sipp("provider_refuses_503", "provider_a"),
        place.sipp("psap_demands_location", "provider_b"),
    )
    phone = place.caller()
    with running(first, second, phone):
        phone.succeed()
        second.succeed()
        first.succeed()  # its 503 was acknowledged
    sent = phone.sent("INVITE")[0]
    assert_carries_location(first.request(), sent, place)
    assert_carries_location(second.request(), sent, place, "provider_b")
    assert first.request().branch != second.request().branch
    assert 503 not in phone.statuses(), "the caller hears nothing of it"
    assert gap(first, second) < 15, "a refusal must not cost a timeout"
    assert len(place.desk.wait_for(place.name)) == 1


@pytest.mark.parametrize("status", [603])
def test_a_6xx_does_not_end_the_ladder(the_world: World, status: int) -> None:
    place = the_world[f"refused-{status}"]
    second, phone = place.sipp("psap_demands_location", "provider_b"), place.caller()
    with place.peer("provider_a", rule=answers(status)), running(second, phone):
        phone.succeed()
        second.succeed()
    assert phone.statuses()[-1] == 200


@pytest.mark.parametrize("name", ["closed", "closed-tcp"])
def test_a_closed_port_is_known_at_once(the_world: World, name: str) -> None:
    place = the_world[name]
    second, phone = place.sipp("psap_demands_location", "provider_b"), place.caller()
    with running(second, phone):
        phone.succeed()
        second.succeed()
    waited = second.first("INVITE") - phone.first("INVITE", sent=True)
    assert waited < 15, f"{waited} s of the route's 30 s were waited for"
    assert_carries_location(second.request(), phone.sent("INVITE")[0], place, "provider_b")


def test_a_silent_provider_costs_its_timeout(the_world: World) -> None:
    place = the_world["silent"]
    first, second = place.sipp("provider_is_silent", "provider_a"), place.sipp("psap_demands_location", "provider_b")
    phone = place.caller()
    with running(first, second, phone):
        phone.succeed()
        second.succeed()
        assert gap(first, second) >= TIMEOUT - CLOCK, "the route was given up before its timeout"
        assert len({one.branch for one in first.requests("INVITE")}) == 1
        assert first.requests("CANCEL") == [], "no CANCEL before a provisional response (RFC 3261 9.1)"
    assert_carries_location(second.request(), phone.sent("INVITE")[0], place, "provider_b")


def test_a_provider_that_accepts_the_connection_and_says_nothing_costs_its_timeout(the_world: World) -> None:
    place = the_world["silent-tcp"]
    second, phone = place.sipp("psap_demands_location", "provider_b"), place.caller()
    with Blackhole(place.street["provider_a"], udp=False) as first, running(second, phone):
        phone.succeed()
        second.succeed()
        assert first.connections() >= 1
    assert second.first("INVITE") - phone.first("INVITE", sent=True) >= TIMEOUT - CLOCK


def test_a_large_invite_goes_by_udp_where_tcp_is_dropped_and_that_is_remembered(the_world: World) -> None:
    """RFC 3261 18.1.1; 300 ms within the route's timeout, once."""
    place = the_world["syn-blackhole"]
    waited = []
    with (
        SynBlackhole(place.street["provider_a"]),
        place.peer("provider_a", tcp=False) as provider,
        place.peer("provider_b") as other,
        place.peer("phone") as phone,
    ):
        for _ in range(2):
            call = place.call(phone)
            begun = time.monotonic()
            call.dial()
            invite = provider.take("INVITE", call_id=call.call_id)
            waited.append(invite.at - begun)
            assert_carries_location(invite.message, parse(call.invite()), place)
            provider.respond(invite, 200)
            call.answered()
        assert other.messages("INVITE") == []
    assert waited[0] >= TCP_WAIT - CLOCK, "TCP was not tried"
    assert waited[1] < waited[0], "tried again although it was known"


def test_where_tcp_is_dropped_and_udp_is_silent_the_next_route_takes_the_call(the_world: World) -> None:
    place = the_world["syn-blackhole-silent"]
    with (
        SynBlackhole(place.street["provider_a"]),
        Blackhole(place.street["provider_a"], tcp=False) as first,
        place.peer("provider_b", rule=answers(200)) as second,
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        begun = time.monotonic()
        call.dial()
        call.answered()
        waited = second.everything[0].at - begun
        assert first.datagrams()
    assert waited >= TIMEOUT - CLOCK


def test_100_and_then_nothing_costs_the_progress_timeout(the_world: World) -> None:
    place = the_world["trying"]
    first = place.sipp("provider_tries_then_is_silent", "provider_a")
    second, phone = place.sipp("psap_demands_location", "provider_b"), place.caller()
    with running(first, second, phone):
        phone.succeed()
        second.succeed()
        first.succeed()  # cancelled, 487 acknowledged
        assert gap(first, second) >= PROGRESS_TIMEOUT - CLOCK, "the route was given up before its progress_timeout"
        assert first.first("CANCEL") > second.first("INVITE"), "the route given up stays alive at first"
    assert phone.statuses() == [100, 180, 200]


def test_183_then_503_goes_on_with_the_next_provider(the_world: World) -> None:
    place = the_world["rings-then-fails"]
    first = place.sipp("provider_rings_then_fails", "provider_a", pause_ms=150)
    second, phone = place.sipp("psap_demands_location", "provider_b"), place.caller()
    with running(first, second, phone):
        phone.succeed()
        second.succeed()
        first.succeed()
    assert phone.statuses() == [100, 183, 180, 200]
    assert_carries_location(second.request(), phone.sent("INVITE")[0], place, "provider_b")


def test_every_route_may_ring_and_fail_and_the_relay_centre_still_gets_the_call(the_world: World) -> None:
    place = the_world["rings-then-all-fail"]
    first = place.sipp("provider_rings_then_fails", "provider_a", pause_ms=50)
    second = place.sipp("provider_rings_then_fails", "provider_b", pause_ms=50)
    relay, phone = place.sipp("psap_answers", "relay"), place.caller()
    with running(first, second, relay, phone):
        phone.succeed()
        relay.succeed()
    assert_basic(relay.request(), phone.sent("INVITE")[0], place)


def test_the_caller_cancels_while_it_rings(the_world: World) -> None:
    place = the_world["cancel-ringing"]
    psap = place.sipp("provider_rings_until_cancelled", "provider_a")
    next_ones = [place.sipp("psap_answers", name, calls=None) for name in ("provider_b", "relay")]
    phone = place.caller("caller_cancels_while_ringing", pause_ms=50)
    with running(psap, phone, *next_ones):
        phone.succeed()  # 200 to its CANCEL, 487 to its INVITE
        psap.succeed()  # CANCEL received, its 487 acknowledged
        assert [one.requests() for one in next_ones] == [[], []], "a cancelled call tries no more routes"
    assert psap.request("CANCEL").branch == psap.request("INVITE").branch
    assert psap.request("CANCEL").uri == psap.request("INVITE").uri
    place.notices()


def test_the_caller_cancels_while_routes_are_tried(the_world: World) -> None:
    place = the_world["cancel-failing-over"]
    first = place.sipp("provider_tries_then_is_silent", "provider_a")
    second = place.sipp("provider_tries_then_is_silent", "provider_b")
    relay = place.sipp("psap_answers", "relay", calls=None)
    phone = place.caller("caller_cancels_while_failing_over", pause_ms=1800)
    with running(first, second, relay, phone):
        phone.succeed()
        first.succeed()
        second.succeed()
        assert relay.requests() == []
        cancelled = phone.first("CANCEL", sent=True)
        assert second.first("INVITE") < cancelled <= second.first("CANCEL") + CLOCK
        assert cancelled <= first.first("CANCEL") + CLOCK, "given up is not cancelled while nobody else rings"


def test_the_caller_cancels_and_a_silent_provider_is_cancelled_when_it_speaks(the_world: World) -> None:
    """RFC 3261 9.1: the CANCEL waits for a provisional response; the caller need not."""
    place = the_world["cancel-silent"]
    with place.peer("provider_a") as provider, place.peer("phone") as phone:
        call = place.call(phone)
        call.dial()
        invite = provider.take("INVITE")
        call.send(call.cancel())
        phone.take(200, call_id=call.call_id, method="CANCEL")
        time.sleep(0.2)
        assert provider.messages("CANCEL") == []
        provider.respond(invite, 100)
        cancel = provider.take("CANCEL")
        assert cancel.message.branch == invite.message.branch
        provider.respond(cancel, 200)
        provider.respond(invite, 487)
        call.refused(487)
        provider.take("ACK")


def test_424_is_answered_by_the_same_call_without_location(the_world: World) -> None:
    place = the_world["424"]
    provider, phone = place.sipp("provider_cannot_read_location", "provider_a"), place.caller()
    relay = place.sipp("psap_answers", "relay", calls=None)
    with running(provider, relay, phone):
        phone.succeed()
        provider.succeed()
        assert relay.requests() == []
    sent = phone.sent("INVITE")[0]
    first, second = {one.raw: one for one in provider.requests("INVITE")}.values()
    assert_carries_location(first, sent, place)
    assert_same_call(second, sent, place)
    assert_no_location(second)
    assert second.body == sent.body
    assert second.content_type == sent.content_type
    assert second.branch != first.branch
    assert phone.statuses() == [100, 180, 200], "an intermediary handles the 424 to its own location (RFC 6442 4.3)"


@pytest.mark.parametrize("status", [413, 415, 513])
def test_what_a_provider_says_of_our_part_is_not_the_callers_affair(the_world: World, status: int) -> None:
    place = the_world[str(status)]
    with place.peer("provider_a") as provider, place.peer("phone") as phone:
        call = place.call(phone)
        call.dial()
        provider.respond(provider.take("INVITE"), status)
        again = provider.take("INVITE")
        assert_no_location(again.message)
        assert again.message.body == call.body
        provider.respond(again, 200)
        call.answered()
        call_id = call.call_id
    assert phone.messages(status, call_id=call_id) == []


def test_482_to_the_same_call_without_location_means_the_next_route(the_world: World) -> None:
    place = the_world["482"]
    with (
        place.peer("provider_a") as provider,
        place.peer("provider_b", rule=answers(200)) as second,
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        call.dial()
        provider.respond(provider.take("INVITE"), 424)
        provider.respond(provider.take("INVITE"), 482)
        call.answered()
        assert second.messages("INVITE")


def test_an_answer_from_the_route_given_up_is_the_call(the_world: World) -> None:
    place = the_world["late"]
    first = place.sipp("provider_answers_late", "provider_a", pause_ms=1500)
    second = place.sipp("provider_rings_until_cancelled", "provider_b")
    phone = place.caller()
    with running(first, second, phone):
        phone.succeed()
        first.succeed()  # it got the ACK and the BYE
        second.succeed()  # it was cancelled
    assert phone.statuses() == [100, 180, 200]
    answer = next(one for one in phone.responses("INVITE") if one.status == 200)
    assert f"{place.street['provider_a']}" in answer.get("contact")


def test_ringing_from_the_route_given_up_ends_the_others(the_world: World) -> None:
    """First to ring or answer wins: the next route has only said 100, so it is cancelled."""
    place = the_world["late-ringing"]
    with (
        place.peer("provider_a") as first,
        place.peer("provider_b") as second,
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        call.dial()
        slow = first.take("INVITE")
        other = second.take("INVITE")
        second.respond(other, 100)
        first.respond(slow, 180)
        phone.take(180, call_id=call.call_id)
        cancel = second.take("CANCEL")
        second.respond(cancel, 200)
        second.respond(other, 487)
        second.take("ACK")
        first.respond(slow, 200)
        answer = call.answered()
        assert f"{place.street['provider_a']}" in answer.get("contact")
        assert first.messages("CANCEL") == []
        first.take("ACK")


def test_a_second_answer_that_nobody_acknowledges_is_ended_by_the_router(the_world: World) -> None:
    """Both routes answer: the caller hears of both, keeps the first, and the second PSAP is not left on the line."""
    place = the_world["two-answers"]
    with (
        place.peer("provider_a") as first,
        place.peer("provider_b") as second,
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        call.dial()
        slow = first.take("INVITE")
        other = second.take("INVITE")
        second.respond(other, 200, to_tag="second")
        call.answered()
        second.take("ACK")
        first.respond(slow, 200, to_tag="first")
        phone.take(200, call_id=call.call_id)
        first.take("ACK")
        bye = first.take("BYE")
        assert bye.message.tag("to") == "first"
        first.respond(bye, 200)
        assert second.messages("BYE") == []


def test_an_answer_that_crosses_the_cancel_is_not_lost(the_world: World) -> None:
    place = the_world["answer-crosses-cancel"]
    with place.peer("provider_a") as provider, place.peer("phone") as phone:
        call = place.call(phone)
        call.dial()
        invite = provider.take("INVITE")
        provider.respond(invite, 180)
        phone.take(180, call_id=call.call_id)
        call.send(call.cancel())
        cancel = provider.take("CANCEL")
        provider.respond(invite, 200)
        provider.respond(cancel, 200)
        call.answered()
        provider.take("ACK")
        assert phone.messages(487) == []


def test_basic_911_takes_the_call_that_no_provider_took(the_world: World) -> None:
    place = the_world["basic-last"]
    refusing = [place.sipp("provider_refuses_503", name) for name in ("provider_a", "provider_b")]
    relay, phone = place.sipp("psap_answers", "relay"), place.caller()
    with running(*refusing, relay, phone):
        phone.succeed()
        relay.succeed()
    assert_basic(relay.request(), phone.sent("INVITE")[0], place)
    assert refusing[0].first("INVITE") <= refusing[1].first("INVITE") <= relay.first("INVITE")


def test_everything_failed_is_503_without_retry_after_and_the_desk_knows(the_world: World) -> None:
    place = the_world["all-refuse"]
    refusing = [place.sipp("provider_refuses_503", name) for name in ("provider_a", "provider_b", "relay")]
    phone = place.caller("caller_is_refused_503")
    with running(*refusing, phone):
        phone.succeed()
        for one in refusing:
            one.succeed()
    assert phone.statuses() == [100, 503]
    assert "911" in failed_notice(place)


def test_everything_failed_in_different_ways_is_503(the_world: World) -> None:
    place = the_world["all-busy"]
    with (
        place.peer("provider_a", rule=answers(486)),
        place.peer("provider_b", rule=answers(603)),
        place.peer("relay", rule=answers(404)),
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        call.dial()
        assert not call.refused(503).all("retry-after")
    failed_notice(place)


def test_a_status_that_all_gave_and_the_caller_can_mend_is_passed_on(the_world: World) -> None:
    place = the_world["all-unauthorized"]
    with (
        place.peer("provider_a", rule=answers(488)),
        place.peer("provider_b", rule=answers(488)),
        place.peer("relay", rule=answers(488)),
        place.peer("phone") as phone,
    ):
        call = place.call(phone)
        call.dial()
        call.refused(488)
    failed_notice(place)


def test_without_a_basic_route_the_ladder_ends_in_503(the_world: World) -> None:
    place = the_world["no-basic"]
    with place.peer("provider_a", rule=answers(500)), place.peer("phone") as phone:
        call = place.call(phone)
        call.dial()
        call.refused(503)
    failed_notice(place)
