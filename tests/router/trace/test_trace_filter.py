"""Which messages a trace shows: calls as a whole, methods message by message, and memory that stays small."""

from collections.abc import Iterable

import pytest

from e911.numbers import EmergencyNumbers
from router.trace import filter as trace_filter
from router.trace.filter import TraceFilter, Wanted, parse_network
from router.trace.messages import Traced
from tests.router.traces import PHONE, PROVIDER, answer, invite, received, request, sent

NUMBERS = EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset({"933"}))


def shown(wanted: Wanted, traced: Iterable[Traced]) -> list[bytes]:
    chosen = TraceFilter(wanted, NUMBERS)
    return [one.data for came in traced for one in chosen.feed(came)]


CALL = [
    received(invite(dialled="+12125550199")),
    sent(answer("100 Trying")),
    sent(
        invite(dialled="+12125550199", more=b"P-Asserted-Identity: <sip:+12125550112;npdi@e.example>\r\n"), PROVIDER
    ),
    received(answer(), PROVIDER),
    sent(answer()),
    received(request("ACK")),
    sent(request("BYE"), PROVIDER),
    received(answer(method="BYE"), PROVIDER),
]
OTHER = [
    received(invite(user="4013", dialled="911", call_id="call-2"), ("10.1.9.9", 5060)),
    sent(answer(call_id="call-2", user="4013"), ("10.1.9.9", 5060)),
]
WHOLE = [one.data for one in CALL]


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(call_ids=("call-1",)),
        Wanted(call_ids=("call-9", "call-1")),
        Wanted(numbers=("4012",)),
        Wanted(numbers=("+12125550199",)),
        Wanted(numbers=("(212) 555-0199",)),
        Wanted(numbers=("2125550112",)),  # only in the second leg's P-Asserted-Identity
        Wanted(numbers=("*0112",)),
        Wanted(numbers=("7777", "4012")),
        Wanted(networks=(parse_network("10.1.2.3"),)),
        Wanted(networks=(parse_network("203.0.113.0/24"),)),  # only the second leg goes there
        Wanted(numbers=("4012",), networks=(parse_network("203.0.113.31"),)),
    ],
)
def test_a_call_that_is_wanted_is_shown_from_its_beginning(wanted: Wanted) -> None:
    assert shown(wanted, [*CALL, *OTHER]) == WHOLE
    mixed = [message for pair in zip(CALL, OTHER * 4, strict=True) for message in pair]
    assert shown(wanted, mixed) == WHOLE


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(call_ids=("call",)),
        Wanted(numbers=("401",)),
        Wanted(numbers=("911",), call_ids=("call-1",)),
        Wanted(networks=(parse_network("10.1.2.4"),)),
        Wanted(networks=(parse_network("2001:db8::/32"),)),
        Wanted(numbers=("4012",), networks=(parse_network("10.1.9.9"),)),
        Wanted(methods=("REGISTER",)),
    ],
)
def test_a_call_that_is_not_wanted_is_not_shown(wanted: Wanted) -> None:
    assert shown(wanted, [*CALL, *OTHER]) == []


def test_emergency_and_test_calls_alone() -> None:
    test_call = [received(invite(dialled="933", call_id="call-3"))]
    urn = [received(invite(call_id="call-4").replace(b"sip:911@10.0.0.5:5060 SIP", b"urn:service:sos SIP"))]
    found = shown(Wanted(emergency_only=True), [*CALL, *OTHER, *test_call, *urn])
    assert found == [one.data for one in [*OTHER, *test_call, *urn]]


def test_a_method_is_the_requests_and_the_answers_to_them() -> None:
    byes = [one.data for one in CALL[-2:]]
    assert shown(Wanted(methods=("BYE",)), [*CALL, *OTHER]) == byes
    assert shown(Wanted(methods=("BYE",), numbers=("4012",)), [*CALL, *OTHER]) == byes
    assert shown(Wanted(methods=("ACK", "BYE")), CALL) == [one.data for one in CALL[-3:]]


def test_nothing_asked_for_is_everything_also_what_is_no_sip() -> None:
    noise = received(b"GET / HTTP/1.0\r\n\r\n")
    assert shown(Wanted(), [*CALL, noise]) == [*WHOLE, noise.data]
    assert shown(Wanted(call_ids=("call-1",)), [*CALL, noise]) == WHOLE
    assert shown(Wanted(networks=(parse_network(PHONE[0]),)), [noise]) == [noise.data]
    assert shown(Wanted(methods=("GET",)), [noise]) == []


def test_memory_stays_small_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_filter, "CALLS_PENDING", 10)
    monkeypatch.setattr(trace_filter, "CALLS_WANTED", 10)
    chosen = TraceFilter(Wanted(emergency_only=True), NUMBERS)
    for number in range(200):
        dialled = "911" if number % 2 else "4099"
        for _ in range(trace_filter.HELD_PER_CALL + 5):
            list(chosen.feed(received(invite(dialled=dialled, call_id=f"call-{number}"))))
    assert len(chosen._pending) == len(chosen._wanted_calls) == 10
    assert max(len(one.held) for one in chosen._pending.values()) == trace_filter.HELD_PER_CALL


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match="10"):
        parse_network("10.1.2")
    assert str(parse_network("[2001:db8::1]")) == "2001:db8::1/128"
