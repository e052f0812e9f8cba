"""EmergencyCall by playbook: the ladder of routes in virtual time, as the issue of a call depends on it.

Proved here: order and times of routes, given-up routes stay alive, first to ring or answer wins, CANCEL in every
state, retry without location, TCP for large requests, late and second answers, what is journalled, what a restart
changes (nothing), what a failed journal changes (nothing). On the wire with real peers: tests/interop.
"""

import gc
from pathlib import Path

import pytest

from e911.record import CallEnded, CallFinished, CallIntent, CallOutcome, CallRefused, RouteEvent, RouteOutcome
from router.emergency.emergency_call import EmergencyCall
from sip.flow import Flow
from tests.support.call_world import (
    CARRIER,
    CONFIG,
    PBX,
    PHONE,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    SDP,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def dial(world: CallWorld, **options: object) -> tuple[bytes, Sent]:
    """An INVITE to 911 and what the first provider got."""
    raw = invite(**options)  # type: ignore[arg-type]  # passed on by name
    out = world.receive(raw)
    assert one(out, 100).to == PHONE
    return raw, one(out, "INVITE", PROVIDER_A)


def answer(
    world: CallWorld, sent: Sent, status: int, *, tag: str = "psap", extra: tuple[str, ...] = ()
) -> list[Sent]:
    return world.receive(response(sent.message, status, tag=tag, extra=extra), sent.to, sent.transport)


def outcomes(world: CallWorld) -> list[tuple[str, RouteOutcome]]:
    return [(event.route, event.outcome) for event in world.events(RouteEvent)]


# The ladder


def test_a_refusal_starts_the_next_route_at_once(world: CallWorld) -> None:
    _, first = dial(world)
    for status in (404, 486, 500, 503, 603):
        world.now += 100
        _, first = dial(world)
        out = answer(world, first, status)
        assert one(out, "ACK").to == PROVIDER_A
        assert one(out, "INVITE").to == PROVIDER_B
        assert not of(out, status), "the caller does not see it"


def test_a_silent_route_costs_its_timeout_and_stays_alive(world: CallWorld) -> None:
    _, first = dial(world)
    assert not of(world.advance(1.99), "INVITE", PROVIDER_B)
    second = one(world.advance(0.02), "INVITE", PROVIDER_B)
    assert one(answer(world, first, 180), 180).to == PHONE
    out = answer(world, second, 100)
    assert one(out, "CANCEL").to == PROVIDER_B, "cancelled as soon as a provisional response allows it"
    assert one(answer(world, first, 200), 200).to == PHONE


def test_stuck_at_100_costs_the_progress_timeout(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 100)
    assert not of(world.advance(5.9), "INVITE", PROVIDER_B)
    second = one(world.advance(0.2), "INVITE", PROVIDER_B)
    out = answer(world, second, 180)
    assert one(out, 180).to == PHONE
    assert one(out, "CANCEL").to == PROVIDER_A
    assert outcomes(world)[1] == ("primary", RouteOutcome.PROGRESS_TIMEOUT)


def test_183_then_503_goes_on(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 100)
    assert one(answer(world, first, 183), 183).to == PHONE
    out = answer(world, first, 503)
    assert one(out, "INVITE").to == PROVIDER_B


def test_ringing_has_no_timeout(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 180)
    assert not of(world.advance(100), "INVITE", PROVIDER_B)


def test_an_unreachable_route_is_left_at_once(world: CallWorld) -> None:
    _, first = dial(world)
    assert one(world.unreachable(first), "INVITE").to == PROVIDER_B


def test_basic_comes_last_and_has_no_location(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(answer(world, first, 503), "INVITE")
    third = one(answer(world, second, 503), "INVITE", RELAY)
    assert third.message.start == "INVITE sip:+12125550140@203.0.113.40:5060 SIP/2.0"
    assert third.message.body == SDP
    assert not third.message.all("geolocation")
    assert "+12125550142" in third.message.get("p-asserted-identity")


def test_everything_failed_is_503_without_retry_after_and_an_alarm(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(answer(world, first, 503, extra=("Retry-After: 30",)), "INVITE")
    third = one(answer(world, second, 486), "INVITE")
    out = answer(world, third, 603)
    assert not of(out, 503), "the first is asked again"
    first = one(world.advance(1.0), "INVITE", PROVIDER_A)
    out = answer(world, first, 503, extra=("Retry-After: 30",))
    final = one(out, 503)
    assert final.to == PHONE
    assert not final.message.all("retry-after")
    (ended,) = world.events(CallEnded)
    assert ended.outcome is CallOutcome.FAILED


def test_a_status_the_caller_can_mend_is_passed_on_when_all_gave_it(world: CallWorld) -> None:
    _, first = dial(world)
    challenge = ('Proxy-Authenticate: Digest realm="e", nonce="1"',)
    second = one(answer(world, first, 407, extra=challenge), "INVITE")
    third = one(answer(world, second, 407, extra=challenge), "INVITE")
    final = one(answer(world, third, 407, extra=challenge), 407)
    assert final.message.get("proxy-authenticate")


def test_the_end_of_the_ladder_comes_when_explain_says(world: CallWorld) -> None:
    dial(world)
    assert not of(world.advance(2 + 2 + 4 - 0.01), 503)
    assert of(world.advance(0.02), 503)


def test_timer_c_starts_the_next_route_before_it_cancels(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 180)
    world.advance(150)
    answer(world, first, 180)
    assert not of(world.advance(150), "INVITE"), "restarted by each 101 to 199"
    out = world.advance(35.2)
    order = [one.message.method for one in out if one.message.is_request]
    assert order.index("INVITE") < order.index("CANCEL")
    assert one(out, "INVITE").to == PROVIDER_B


# Who wins


def test_a_late_200_of_a_given_up_route_is_the_call(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    answer(world, second, 100)
    out = answer(world, first, 200)
    assert one(out, 200).to == PHONE
    assert one(out, "CANCEL").to == PROVIDER_B
    (ended,) = world.events(CallEnded)
    assert (ended.outcome, ended.route) == (CallOutcome.ANSWERED, "primary")


def test_a_second_200_is_forwarded_and_ended_by_us_if_nobody_acknowledges_it(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    one(answer(world, first, 200, tag="a"), 200)
    assert one(answer(world, second, 200, tag="b"), 200).to == PHONE
    out = world.advance(2.1)
    assert one(out, "ACK").to == PROVIDER_B
    ended = one(of(out, "BYE")[:1], "BYE")
    assert ended.to == PROVIDER_B
    assert "tag=b" in ended.message.get("to")
    assert ended.message.start.startswith("BYE sip:psap@203.0.113.31:5060 ")


def test_a_second_200_that_is_acknowledged_is_left_alone(world: CallWorld) -> None:
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    answer(world, first, 200, tag="a")
    forwarded = one(answer(world, second, 200, tag="b"), 200)
    world.receive(in_dialog("ACK", forwarded, 1))
    assert not of(world.advance(5), "BYE")


def test_a_second_phone_behind_the_provider_that_answers_is_hung_up(world: CallWorld) -> None:
    _, first = dial(world)
    success = one(answer(world, first, 200, tag="one"), 200)
    world.receive(in_dialog("ACK", success, 1))
    assert one(answer(world, first, 200, tag="two"), 200), "forwarded like any"
    answer(world, first, 200, tag="two")
    out = world.advance(2.1)
    assert all("tag=two" in sent.message.get("to") for sent in of(out, "ACK") + of(out, "BYE"))
    assert of(out, "ACK")
    assert of(out, "BYE")
    assert world.router.counts["answers_ended_by_us"] == 1


def test_two_providers_that_give_the_same_tag_are_told_apart_by_their_contacts(world: CallWorld) -> None:
    """The ACK of the first answer is not taken for the second's, and each answer nobody takes is hung up."""
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    success = one(answer(world, first, 200, tag="same"), 200)
    raw = response(second.message, 200, tag="same").replace(b"sip:psap@203.0.113.31", b"sip:psap@203.0.113.32")
    assert one(world.receive(raw, second.to), 200).to == PHONE
    world.receive(in_dialog("ACK", success, 1))
    out = world.advance(2.1)
    assert one(of(out, "BYE")[:1], "BYE").message.uri == "sip:psap@203.0.113.32:5060"
    assert {sent.to for sent in of(out, "BYE")} == {PROVIDER_B}


def test_a_silent_route_may_still_ring_when_the_one_that_rang_has_failed(world: CallWorld) -> None:
    """It was to be cancelled at its first word, for the sake of a route that is gone."""
    _, first = dial(world)
    second = one(world.advance(2.1), "INVITE", PROVIDER_B)
    answer(world, second, 180)
    third = one(answer(world, second, 503), "INVITE", RELAY)
    out = answer(world, first, 180)
    assert one(out, 180).to == PHONE
    assert not of(out, "CANCEL")
    assert one(answer(world, third, 100), "CANCEL").to == RELAY, "first to ring wins"
    assert one(answer(world, first, 200), 200).to == PHONE


def test_the_process_stays_until_the_ack_has_passed(world: CallWorld) -> None:
    _, first = dial(world)
    assert world.router.in_progress()
    success = one(answer(world, first, 200), 200)
    assert world.router.in_progress()
    world.receive(in_dialog("ACK", success, 1))
    assert not world.router.in_progress()
    _, second = dial(world)
    answer(world, second, 200)
    world.advance(33)
    assert not world.router.in_progress(), "an ACK that never comes is not waited for for ever"


def test_an_answer_after_the_caller_was_refused_is_hung_up(world: CallWorld) -> None:
    _, first = dial(world)
    world.advance(8.1)
    out = answer(world, first, 200)
    assert one(out, "ACK").to == PROVIDER_A
    assert one(out, "BYE").to == PROVIDER_A
    assert not of(out, 200)


def in_dialog(method: str, success: Sent, cseq: int) -> bytes:
    """A request of the caller in the dialog that a 2xx made."""
    message = success.message
    routes = [value for line in message.all("record-route") for value in line.split(",")]
    target = message.get("contact").strip("<>")
    lines = [
        f"{method} {target} SIP/2.0",
        f"Via: SIP/2.0/UDP {PHONE[0]}:{PHONE[1]};branch=z9hG4bK{method}{cseq}{message.call_id};rport",
        "Max-Forwards: 70",
        *(f"Route: {value.strip()}" for value in reversed(routes)),
        f"From: {message.get('from')}",
        f"To: {message.get('to')}",
        f"Call-ID: {message.call_id}",
        f"CSeq: {cseq} {method}",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


# CANCEL


def test_cancel_while_ringing(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    out = world.receive(cancel_of(raw))
    assert one(out, 200).message.get("cseq") == "1 CANCEL"
    assert one(out, "CANCEL").to == PROVIDER_A
    out = answer(world, first, 487)
    assert one(out, 487).to == PHONE
    assert not of(out, "INVITE")
    (ended,) = world.events(CallEnded)
    assert ended.outcome is CallOutcome.CANCELLED


def test_cancel_before_any_answer_does_not_wait(world: CallWorld) -> None:
    raw, first = dial(world)
    out = world.receive(cancel_of(raw))
    assert one(out, 487).to == PHONE
    assert not of(out, "CANCEL"), "section 9.1"
    assert one(answer(world, first, 180), "CANCEL").to == PROVIDER_A
    assert not of(world.advance(60), "INVITE", PROVIDER_B)


def test_cancel_while_failing_over_reaches_every_route(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 100)
    second = one(world.advance(6.1), "INVITE", PROVIDER_B)
    answer(world, second, 100)
    out = world.receive(cancel_of(raw))
    assert {sent.to for sent in of(out, "CANCEL")} == {PROVIDER_A, PROVIDER_B}


def test_cancel_crossing_the_answer_lets_the_answer_win(world: CallWorld) -> None:
    raw, first = dial(world)
    answer(world, first, 180)
    world.receive(cancel_of(raw))
    assert one(answer(world, first, 200), 200).to == PHONE


# The part we add


@pytest.mark.parametrize("status", [424, 415, 413, 513])
def test_a_provider_that_cannot_take_the_location_is_asked_again_without(world: CallWorld, status: int) -> None:
    _, first = dial(world)
    assert first.message.all("geolocation")
    again = one(answer(world, first, status), "INVITE", PROVIDER_A)
    assert not again.message.all("geolocation")
    assert again.message.body == SDP
    assert again.message.all("via")[0] != first.message.all("via")[0]
    out = answer(world, again, 482)
    assert one(out, "INVITE").to == PROVIDER_B
    assert one(out, "INVITE").message.all("geolocation")


def test_a_provider_that_refuses_the_location_while_it_rings_is_heard_ringing_again(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 183)
    again = one(answer(world, first, 424), "INVITE", PROVIDER_A)
    assert one(answer(world, again, 180), 180).to == PHONE
    second = one(answer(world, again, 503), "INVITE", PROVIDER_B)
    assert one(answer(world, second, 180), 180).to == PHONE


@pytest.mark.parametrize("status", [180, 404, 503])
def test_a_refusal_repeated_over_tcp_does_not_reach_a_caller_whose_call_rings_elsewhere(
    tmp_path: Path, status: int
) -> None:
    """On a stream its transaction ends with the refusal: what comes after that fits none."""
    trunks = {**CONFIG["trunks"], "ers-a": {"target": "sip:203.0.113.31:5060;transport=tcp", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks)
    _, first = dial(world)
    second = one(answer(world, first, 503), "INVITE", PROVIDER_B)
    assert one(answer(world, second, 180), 180)
    assert not answer(world, first, status)
    assert one(answer(world, second, 200), 200)


def test_a_second_424_goes_to_the_next_route(world: CallWorld) -> None:
    _, first = dial(world)
    again = one(answer(world, first, 424), "INVITE", PROVIDER_A)
    assert one(answer(world, again, 424), "INVITE").to == PROVIDER_B


# Large requests


@pytest.fixture
def large(tmp_path: Path) -> CallWorld:
    trunks = {**CONFIG["trunks"], "ers-a": {"target": "sip:203.0.113.31:5060", "probe": "off"}}
    return CallWorld(tmp_path, trunks=trunks)


def test_a_large_invite_to_a_udp_trunk_goes_by_tcp_where_that_can_be_had(large: CallWorld) -> None:
    assert not of(large.receive(invite()), "INVITE")
    sent = one(large.reached(True), "INVITE")
    assert (sent.to, sent.transport) == (PROVIDER_A, "tcp")
    assert "/TCP " in sent.message.all("via")[0]


def test_else_by_udp_after_300_ms_and_the_result_is_remembered(large: CallWorld) -> None:
    large.receive(invite())
    assert not of(large.advance(0.29), "INVITE")
    assert one(large.advance(0.02), "INVITE").transport == "udp"
    assert one(large.receive(invite()), "INVITE").transport == "udp", "not asked again"


def test_a_refused_connection_does_not_cost_300_ms(large: CallWorld) -> None:
    large.receive(invite())
    assert one(large.reached(False), "INVITE").transport == "udp"


def test_the_wait_for_tcp_counts_into_the_routes_timeout(large: CallWorld) -> None:
    large.receive(invite())
    large.advance(0.31)
    assert not of(large.advance(1.6), "INVITE", PROVIDER_B)
    assert of(large.advance(0.12), "INVITE", PROVIDER_B)


def test_no_second_psap_is_rung_while_the_first_rings(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "ers-b": {"target": "sip:203.0.113.32:5060", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks)
    _, first = dial(world)
    world.advance(2.1)
    assert len(world.edge.waiting) == 1, "the second route waits for its TCP connection"
    assert one(answer(world, first, 180), 180)
    assert not of(world.reached(True), "INVITE")
    out = answer(world, first, 503)
    assert of(out, "INVITE", PROVIDER_B) or len(world.edge.waiting) == 1, "it is tried when the first fails"


def test_cancel_while_waiting_for_tcp_ends_the_call(large: CallWorld) -> None:
    raw = invite()
    large.receive(raw)
    assert one(large.receive(cancel_of(raw)), 487)
    assert not of(large.reached(True), "INVITE")


# Tests, and who may call


def test_a_test_call_never_becomes_911(world: CallWorld) -> None:
    out = world.receive(invite("sip:933@10.0.0.5", extra=("Priority: emergency", "Resource-Priority: esnet.1")))
    sent = one(out, "INVITE", PROVIDER_A)
    assert sent.message.start == "INVITE sip:933@203.0.113.31:5060 SIP/2.0"
    assert not sent.message.all("resource-priority")
    assert not sent.message.all("priority")
    second = one(answer(world, sent, 503), "INVITE")
    out = answer(world, second, 503)
    assert not of(out, "INVITE"), "never to basic"
    assert one(out, 503)


@pytest.mark.parametrize(
    ("source", "reason"), [(CARRIER, "from-outside"), (("192.0.2.9", 5060), "from-unlisted-source")]
)
def test_a_911_call_from_elsewhere_is_refused_and_told(
    world: CallWorld, source: tuple[str, int], reason: str
) -> None:
    out = world.receive(invite(source=source), source)
    assert one(out, 403).to == source
    assert not of(out, "INVITE")
    (refused,) = world.events(CallRefused)
    assert (refused.reason, refused.contacts, refused.site) == (reason, ("desk",), "hq")


def test_the_rest_of_an_unlisted_callers_call_is_served_too(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "from_unlisted": "accept"})
    caller = ("192.0.2.9", 5060)
    raw = invite(source=caller)
    first = one(world.receive(raw, caller), "INVITE", PROVIDER_A)
    success = one(answer(world, first, 200), 200)
    assert one(world.receive(in_dialog("ACK", success, 1), caller), "ACK").to == PROVIDER_A
    assert one(world.receive(in_dialog("BYE", success, 2), caller), "BYE").to == PROVIDER_A
    raw = invite(source=caller)
    ringing = one(world.receive(raw, caller), "INVITE", PROVIDER_A)
    answer(world, ringing, 180)
    out = world.receive(cancel_of(raw), caller)
    assert one(out, 200)
    assert one(out, "CANCEL").to == PROVIDER_A


def test_unlisted_sources_are_served_where_the_engineer_says_so(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "from_unlisted": "accept"})
    out = world.receive(invite(source=("192.0.2.9", 5060)), ("192.0.2.9", 5060))
    assert one(out, "INVITE", PROVIDER_A)


# Restart, journal, faults


def test_the_intent_is_written_before_the_invite_leaves(world: CallWorld) -> None:
    world.router.stack.receive(invite(number=1), Flow(world.points.points[0], *PHONE), world.now)
    waiting = [data for _, data, _ in world.router.stack.out if data.startswith(b"INVITE")]
    assert len(waiting) == 1
    assert not world.journal.events
    world.router.before_sending()  # as the edge does, before the first byte leaves (tests/sip/test_transport.py)
    assert isinstance(world.journal.events[0], CallIntent)
    (intent,) = world.events(CallIntent)
    assert intent.contacts == ("desk",)
    assert intent.caller.callback == "+12125550142"
    assert intent.location.civic.room == "312"


def test_a_journal_that_fails_stops_nothing(world: CallWorld) -> None:
    world.journal.fails = True
    _, first = dial(world)
    assert one(answer(world, first, 200), 200)
    assert world.router.counts["journal_failures"] > 0


def test_after_a_restart_the_invite_leaves_with_the_same_branch_and_id(world: CallWorld) -> None:
    raw, first = dial(world)
    world.start()
    again = one(world.receive(raw), "INVITE", PROVIDER_A)
    assert again.message.all("via") == first.message.all("via")
    intents = world.events(CallIntent)
    assert intents[0].id == intents[1].id
    boundary = [line for line in first.message.lines if line.startswith(b"Content-Type")]
    assert boundary == [line for line in again.message.lines if line.startswith(b"Content-Type")]


def test_an_answer_after_a_restart_still_reaches_the_caller(world: CallWorld) -> None:
    _, first = dial(world)
    answer(world, first, 180)
    world.start()
    out = answer(world, first, 200)
    assert one(out, 200).to == PHONE
    forged = response(first.message, 200).replace(b"branch=z9hG4bKe9", b"branch=z9hG4bKe8")
    assert not world.receive(forged, PROVIDER_A), "only for branches of ours"


def test_a_bye_after_a_restart_is_journalled_for_its_call(world: CallWorld) -> None:
    _, first = dial(world)
    success = one(answer(world, first, 200), 200)
    (intent,) = world.events(CallIntent)
    world.start()
    out = world.receive(in_dialog("BYE", success, 2))
    assert one(out, "BYE").to == PROVIDER_A
    (finished,) = world.events(CallFinished)
    assert (finished.id, finished.by) == (intent.id, "caller")


def test_a_reinvite_to_a_contact_of_911_is_no_new_call(world: CallWorld) -> None:
    _, first = dial(world)
    success = one(answer(world, first, 200, extra=()), 200)
    raw = in_dialog("INVITE", success, 2).replace(b"INVITE sip:psap@", b"INVITE sip:911@", 1)
    out = world.receive(raw)
    assert one(out, "INVITE").message.start.startswith("INVITE sip:911@203.0.113.31:5060 ")
    assert len(world.events(CallIntent)) == 1


def test_a_reload_in_the_middle_changes_nothing_for_the_call(world: CallWorld) -> None:
    _, first = dial(world)
    world.router.use(world.setup(trunks={k: v for k, v in CONFIG["trunks"].items() if k in ("pbx", "carrier")},
                                 emergency={"numbers": ["911"], "routes": [], "basic": []}))  # fmt: skip
    second = one(answer(world, first, 503), "INVITE")
    assert second.to == PROVIDER_B


def test_while_stopping_911_is_served_and_ordinary_calls_are_not(world: CallWorld) -> None:
    world.router.draining = True
    out = world.receive(invite("sip:2125550177@10.0.0.5"))
    final = one(out, 503)
    assert not final.message.all("retry-after")
    assert dial(world)


def test_an_invite_malformed_where_it_does_not_matter_still_goes_out(world: CallWorld) -> None:
    raw = invite(extra=("this line has no colon", "Bad Name: x"))
    out = world.receive(raw)
    sent = one(out, "INVITE", PROVIDER_A)
    assert b"this line has no colon" in sent.message.raw


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"Max-Forwards: 70", b"Max-Forwards: many"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\r\nMax-Forwards: 69"),
        (b"Content-Length: 85", b"Content-Length: abc"),
        (b"Content-Length: 85", b"Content-Length: 85\r\nl: 85"),
        (b"Content-Length: 85", b"Content-Length: 9999"),
        (b";rport", b";rport;"),
        (b"INVITE sip:911@", b"INVITE sip:9 11@"),
        (b'From: "Desk" <', b'From: "Desk <'),
    ],
)
def test_an_invite_with_this_mistake_still_goes_out_without_it(world: CallWorld, was: bytes, becomes: bytes) -> None:
    raw = invite()
    assert was in raw
    out = world.receive(raw.replace(was, becomes, 1))
    sent = one(out, "INVITE", PROVIDER_A)
    assert sent.message.get("max-forwards").isdigit()
    assert int(sent.message.get("content-length")) == len(sent.message.body)
    assert one(world.receive(cancel_of(raw)), 487), "and it can be cancelled"


def test_too_many_hops_is_a_loop_also_for_911(world: CallWorld) -> None:
    out = world.receive(invite().replace(b"Max-Forwards: 70", b"Max-Forwards: 0"))
    assert one(out, 483)


def test_a_pbx_address_is_never_a_phones(tmp_path: Path) -> None:
    sites = [{**CONFIG["sites"][0], "networks": ["10.0.0.0/16"]}]
    world = CallWorld(tmp_path, devices=(), sites=sites, locations={"sources": ["network", "site"]})
    world.receive(invite(source=PBX, user="5555"), PBX)
    (intent,) = world.events(CallIntent)
    assert {answer.source: answer.reason for answer in intent.sources}["network"] == "behind-pbx"
    assert intent.location.source == "site"


def test_an_answer_with_an_unreadable_contact_is_hung_up_all_the_same(world: CallWorld) -> None:
    raw, first = dial(world)
    world.receive(cancel_of(raw))
    late = response(first.message, 200).replace(b"Contact: <sip:", b'Contact: "x <sip:')
    out = world.receive(late, PROVIDER_A)
    assert one(out, "ACK").to == PROVIDER_A
    assert one(out, "BYE").to == PROVIDER_A


@pytest.mark.parametrize("via", ["Via: garbage", "Vi", "Via: garbage\r\nVia: more"])
def test_an_answer_that_spoilt_the_callers_via_is_hung_up_all_the_same(world: CallWorld, via: str) -> None:
    raw, first = dial(world)
    world.receive(cancel_of(raw))
    below = f"Via: {first.message.all('via')[1]}"
    spoilt = response(first.message, 200).replace(below.encode(), via.encode())
    if "more" in via:
        spoilt = spoilt.replace(b"Via: SIP/2.0/UDP 10.0.0.5", b"Via: SIP/7.0/UDP 10.0.0.5")
    out = world.receive(spoilt, PROVIDER_A)
    if via == "Vi":
        assert world.router.stack.drops["no-via-below"], "a response that says nobody's way back is nobody's"
        return
    out += world.advance(0.1)
    assert one(out, "ACK").to == PROVIDER_A
    assert one(out, "BYE").to == PROVIDER_A


@pytest.mark.parametrize("broken", ["plan_call", "request_for", "journal", "start"])
def test_a_fault_of_ours_stops_no_emergency_call(
    world: CallWorld, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("a fault made on purpose")

    if broken == "journal":
        monkeypatch.setattr(world.journal, "append_lines", fault)
    elif broken == "start":
        original, faults = EmergencyCall.start, iter([True])

        def start(call: EmergencyCall, now: float) -> None:
            if next(faults, False):
                fault()
            original(call, now)

        monkeypatch.setattr(EmergencyCall, "start", start)
    else:
        where = (
            "router.emergency.emergency_requests.plan_call"
            if broken == "plan_call"
            else "router.emergency.route_ladder.request_for"
        )
        monkeypatch.setattr(where, fault)
    out = world.receive(invite())
    sent = one(out, "INVITE")
    assert sent.to == (RELAY if broken in ("plan_call", "start") else PROVIDER_A)
    assert "fault made on purpose" in caplog.text, "it is loud"
    if broken != "journal":
        assert sent.message.body == SDP
        assert world.events(CallIntent)[0].contacts == ("desk",)


@pytest.mark.parametrize(
    "where",
    [
        "router.emergency.emergency_requests.came_back",
        "router.emergency.emergency_requests.max_forwards",
        "router.emergency.emergency_requests.is_copy",
        "router.emergency.emergency_requests.EmergencyRequests._is_blocked",
        "router.emergency.emergency_requests.EmergencyRequests._watch_for_flood",
        "router.emergency.emergency_requests.EmergencyRequests._plan",
    ],
)
def test_a_fault_anywhere_before_a_call_leaves_stops_it_not(
    world: CallWorld, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("a fault made on purpose")

    raw = invite()
    if where.endswith("is_copy"):  # of a call that has the same Call-ID, tag and CSeq
        world.receive(raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bKother"))
    if where.endswith("_is_blocked"):
        monkeypatch.setattr(world.router, "blocks", ["somebody"])
    monkeypatch.setattr(where, fault)
    sent = one(world.receive(raw), "INVITE")
    assert sent.message.body == SDP
    assert "fault made on purpose" in caplog.text, "it is loud"
    assert len(world.events(CallIntent)) == (2 if where.endswith("is_copy") else 1)
    assert one(answer(world, sent, 200), 200).to == PHONE


def test_answers_that_nobody_ever_acknowledged_hide_none_that_somebody_will(
    world: CallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process told to end waits for the ACK of the newest call."""
    monkeypatch.setattr("router.emergency.acks.UNACKNOWLEDGED_LIMIT", 3)
    for number in range(4):
        world.router.acks.expect(b"call-%d" % number, b"psap", world.now)
    for number in range(3):
        world.router.acks.passed(b"call-%d" % number, b"psap", b"sip:psap@203.0.113.31")
    assert world.router.in_progress()
    world.router.acks.passed(b"call-3", b"psap", b"sip:psap@203.0.113.31")
    assert not world.router.in_progress()


def test_calls_leave_nothing_for_the_garbage_collector(world: CallWorld) -> None:
    def call(refused: bool) -> None:
        _, sent = dial(world)
        if refused:
            sent = one(answer(world, sent, 503), "INVITE")
        answer(world, sent, 180)
        success = one(answer(world, sent, 200), 200)
        world.receive(in_dialog("ACK", success, 1))
        bye = one(world.receive(in_dialog("BYE", success, 2)), "BYE")
        world.receive(response(bye.message, 200), bye.to)
        world.advance(100)

    call(True)
    gc.collect()
    gc.disable()
    try:
        for refused in (True, False) * 5:
            call(refused)
        assert gc.collect() == 0, "a reference cycle would wait for a pass that holds up calls"
    finally:
        gc.enable()


def test_a_quick_succession_of_refused_calls_fills_no_disk(world: CallWorld) -> None:
    stranger = ("192.0.2.9", 5060)
    for _ in range(30):
        assert one(world.receive(invite(source=stranger), stranger), 403)
    assert len(world.events(CallRefused)) == 5
    assert world.router.counts["refused_not_recorded"] == 25
    assert not world.router.stack.servers, "one answer each, nothing sent again"
    world.advance(61)
    world.receive(invite(source=stranger), stranger)
    assert len(world.events(CallRefused)) == 6


def test_a_bye_with_anothers_call_id_ends_no_record(world: CallWorld) -> None:
    _, first = dial(world)
    success = one(answer(world, first, 200), 200)
    raw = in_dialog("BYE", success, 2).replace(success.message.call_id.encode(), b"another-call")
    world.receive(raw)
    assert not world.events(CallFinished)


def test_what_an_untrusted_phone_asserts_is_not_passed_on(tmp_path: Path) -> None:
    sites = [{**CONFIG["sites"][0], "callback": ""}]
    world = CallWorld(tmp_path, devices=(), sites=sites)
    own = "P-Asserted-Identity: <sip:+12125550199@elsewhere.example.com>"
    sent = one(world.receive(invite(user="5555", extra=(own,))), "INVITE", PROVIDER_A)
    assert not sent.message.all("p-asserted-identity")


def test_an_invite_that_waits_for_a_connection_never_leaves_once_the_call_is_over(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "ers-a": {"target": "sip:203.0.113.31:5060;transport=tcp", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks)
    raw = invite()
    world.receive(raw)
    (client,) = world.router.stack.clients.values()
    client.unsent = True
    assert one(world.receive(cancel_of(raw)), 487)
    assert not world.router.stack.clients


def test_a_silent_connection_is_not_trusted_with_the_next_call(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "ers-a": {"target": "sip:203.0.113.31:5060;transport=tcp", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks)
    world.receive(invite())
    world.advance(2.1)
    assert [flow.host for flow in world.edge.distrusted] == ["203.0.113.31"]


def test_mistakes_and_refusals_leave_nothing_for_the_garbage_collector(world: CallWorld) -> None:
    stranger = ("192.0.2.9", 5060)
    messages = [
        (invite(extra=("no colon here",)), PHONE),
        (invite("sip:2125550177@10.0.0.5", extra=("no colon here",)), PHONE),
        (invite("sip:2125550177@10.0.0.5").replace(b"Via: SIP", b"Via: SAP"), PHONE),
        (invite("sip:2125550177@10.0.0.5", source=stranger), stranger),
        (b"garbage", stranger),
    ]
    for raw, source in messages:
        world.receive(raw, source)
    gc.collect()
    gc.disable()
    try:
        for number, (raw, source) in enumerate(messages * 3):
            world.receive(raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bK%dx" % number), source)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "more", ["Call-ID: another", "From: <sip:other@example.com>;tag=x", "CSeq: 2 INVITE", "To: <sip:b@example.com>"]
)
def test_one_mistake_that_is_forgiven_hides_no_other(world: CallWorld, more: str) -> None:
    out = world.receive(invite(extra=("no colon here", more)))
    assert not of(out, "INVITE")
    assert "repeated-field" in one(out, 400).message.get("warning")
    in_dialog = invite("sip:far@203.0.113.50", extra=("no colon here", "Call-ID: another"))
    in_dialog = in_dialog.replace(b"To: <sip:911@pbx.example.com>", b"To: <sip:911@pbx.example.com>;tag=t")
    assert one(world.receive(in_dialog), 400)


def test_a_quote_that_does_not_end_stops_no_911_call_and_nothing_of_its_dialog(world: CallWorld) -> None:
    raw = invite().replace(b'From: "Desk"', b'From: "Desk')
    assert one(world.receive(raw), "INVITE").to == PROVIDER_A
    ack = raw.replace(b"INVITE", b"ACK").replace(b"sip:911@10.0.0.5", b"sip:psap@203.0.113.31")
    ack = ack.replace(b"branch=z9hG4bKt", b"branch=z9hG4bKack")
    ack = ack.replace(b"To: <sip:911@pbx.example.com>", b"To: <sip:911@pbx.example.com>;tag=t")
    assert one(world.receive(ack), "ACK").to == PROVIDER_A


def test_no_proxy_is_asked_to_refuse_a_911_call(world: CallWorld) -> None:
    """Who withholds the number says `Proxy-Require: privacy` (RFC 3323); the BYE of such a call passes, too."""
    required = "Proxy-Require: privacy, foo"
    sent = one(world.receive(invite(extra=("Privacy: id;critical", required))), "INVITE")
    assert not sent.message.all("proxy-require")
    world.receive(response(sent.message, 200), PROVIDER_A)
    routes = sent.message.all("record-route")
    for method in ("INVITE", "BYE"):
        raw = world.in_dialog(sent.message, method, "sip:psap@203.0.113.31:5060", routes)
        onward = one(world.receive(raw.replace(b"Max-Forwards", required.encode() + b"\r\nMax-Forwards")), method)
        assert (onward.to, onward.message.all("proxy-require")) == (PROVIDER_A, [])
    raw = world.in_dialog(sent.message, "BYE", "sip:psap@203.0.113.31:5060", ["<sip:10.0.0.5:5060;lr>"])
    raw = raw.replace(b"Max-Forwards", required.encode() + b"\r\nMax-Forwards")
    assert one(world.receive(raw), 420).message.get("unsupported") == "privacy, foo"


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_caller_who_hangs_up_a_ringing_call_with_bye_is_not_rung_for_elsewhere(
    world: CallWorld, hangs_up: bool
) -> None:
    """BYE ends an early dialog too (RFC 3261 section 15); the provider's 487 is then no reason to try the next."""
    sent = one(world.receive(invite()), "INVITE")
    world.receive(response(sent.message, 180), PROVIDER_A)
    if hangs_up:
        routes = sent.message.all("record-route")
        bye = one(world.receive(world.in_dialog(sent.message, "BYE", "sip:psap@203.0.113.31:5060", routes)), "BYE")
        assert one(world.receive(response(bye.message, 200), PROVIDER_A), 200).to == PHONE
    out = world.receive(response(sent.message, 487), PROVIDER_A)
    if not hangs_up:
        assert one(out, "INVITE").to == PROVIDER_B
        return
    assert one(out, 487).to == PHONE
    assert not of(out, "INVITE")
    (ended,) = world.events(CallEnded)
    assert (ended.outcome, ended.status) == (CallOutcome.CANCELLED, 487)


def test_a_bye_that_crosses_the_answer_ends_nothing_else(world: CallWorld) -> None:
    sent = one(world.receive(invite()), "INVITE")
    world.receive(response(sent.message, 180), PROVIDER_A)
    routes = sent.message.all("record-route")
    world.receive(world.in_dialog(sent.message, "BYE", "sip:psap@203.0.113.31:5060", routes))
    assert one(world.receive(response(sent.message, 200), PROVIDER_A), 200).to == PHONE
    (ended,) = world.events(CallEnded)
    assert ended.outcome is CallOutcome.ANSWERED
    (finished,) = world.events(CallFinished)
    assert (finished.id, finished.by) == (ended.id, "caller")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"Max-Forwards: 70\r\n", b"Max-Forwards: 70\r\nMax-Forwards: 69\r\n"),
        (b"Max-Forwards: 70\r\n", b"Max-Forwards: x\r\n"),
        (b"Content-Length: 0\r\n", b"Content-Length: 0\r\nContent-Length: 0\r\n"),
        (b"Content-Length: 0\r\n", b"Content-Length:\r\n"),
        (b"Content-Length: 0\r\n", b"Content-Length: 20\r\n"),
        (b":5060;branch", b":5060;;branch"),
    ],
)
def test_what_is_forgiven_in_a_911_invite_is_forgiven_in_all_that_follows_it(
    world: CallWorld, right: bytes, wrong: bytes
) -> None:
    """A phone makes the same mistake in its ACK, without which the provider ends the call that it has answered."""
    raw = invite().replace(right, wrong)
    sent = one(world.receive(raw), "INVITE")
    world.receive(response(sent.message, 200), PROVIDER_A)
    routes = sent.message.all("record-route")
    for method in ("ACK", "INVITE", "BYE"):
        request = world.in_dialog(sent.message, method, "sip:psap@203.0.113.31:5060", routes)
        assert one(world.receive(request.replace(right, wrong)), method).to == PROVIDER_A
    other = world.in_dialog(sent.message, "INFO", "sip:psap@203.0.113.31:5060", routes).replace(right, wrong)
    other = other.replace(b"Call-ID: ", b"Call-ID: ordinary-")
    assert one(world.receive(other), 400), "only what belongs to an emergency call"


def test_the_cancel_of_a_911_call_is_forgiven_what_its_invite_was(world: CallWorld) -> None:
    right, wrong = b"Max-Forwards: 70\r\n", b"Max-Forwards: 70\r\nMax-Forwards: 69\r\n"
    raw = invite()
    sent = one(world.receive(raw.replace(right, wrong)), "INVITE")
    world.receive(response(sent.message, 180), PROVIDER_A)
    assert one(world.receive(cancel_of(raw).replace(right, wrong)), "CANCEL").to == PROVIDER_A
