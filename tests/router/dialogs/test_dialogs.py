"""Phones that do not follow their dialog: their ACK, re-INVITE and BYE still reach the PSAP, also after a restart."""

import re
from pathlib import Path

import pytest

from e911.record import CallFinished, CallIntent, DialogFormed
from router.dialogs.emergency_dialogs import DIALOG_SECONDS, DIALOGS_LIMIT, EmergencyDialogs, journalled_dialogs
from router.journal.event_lines import encode_event
from router.journal.writer import JournalWriter
from router.store.records import CallLines, gather
from sip.locating import NOWHERE
from sip.message import Request, Response
from sip.parsing import parse_message
from tests.support.call_world import CARRIER, CLOCK, PHONE, PROVIDER_A, CallWorld, Sent, invite, of, one, response
from tests.support.sip_text import Message

PSAP_CONTACT = "sip:psap@203.0.113.99:5070"
ANSWERING = "sip:psap@203.0.113.31:5060"
SBC = "<sip:203.0.113.31:5060;lr>"


def answered(world: CallWorld, raw: bytes, contact: str = PSAP_CONTACT, *, echoes: bool = True) -> Message:
    """A 911 call that the PSAP behind provider A's border controller answers; what the phone gets."""
    sent = one(world.receive(raw), "INVITE").message
    lines = [
        "SIP/2.0 200 OK",
        *(f"Via: {value}" for value in sent.all("via")),
        *(
            (f"Record-Route: {SBC}", *(f"Record-Route: {value}" for value in sent.all("record-route")))
            if echoes
            else ()
        ),
        f"From: {sent.get('from')}",
        f"To: {sent.get('to')};tag=psap",
        f"Call-ID: {sent.call_id}",
        f"CSeq: {sent.get('cseq')}",
        f"Contact: <{contact}>",
        "Content-Length: 0",
        "",
        "",
    ]
    return one(world.receive("\r\n".join(lines).encode(), PROVIDER_A), 200).message


def request_of(
    raw: bytes,
    method: str,
    *,
    uri: str = "sip:911@10.0.0.5",
    to: str = "<sip:911@pbx.example.com>;tag=made-up",
    cseq: str = "",
    branch: str = "",
    extra: tuple[str, ...] = (),
) -> bytes:
    """A later request of the phone, as careless as can be."""
    first = parse_message(raw)
    assert isinstance(first, Request)
    via = (first.first("via") or b"").decode()
    if branch:
        via = via.partition(";")[0] + f";branch={branch}"
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: {via}",
        "Max-Forwards: 70",
        f"From: {(first.first('from') or b'').decode()}",
        f"To: {to}",
        f"Call-ID: {first.call_id.decode()}",
        f"CSeq: {cseq or ('1 ACK' if method == 'ACK' else f'2 {method}')}",
        *extra,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def assert_follows(sent: Sent, method: str) -> None:
    """It is the request that RFC 3261 section 12.2.1.1 asks for."""
    message = sent.message
    assert sent.to == PROVIDER_A, "the border controller is the next hop"
    assert message.start == f"{method} {PSAP_CONTACT} SIP/2.0"
    assert message.all("route") == [SBC]
    assert "tag=psap" in message.get("to")
    assert message.get("cseq").endswith(method)


def with_contact(raw: bytes, contact: str) -> bytes:
    """A response whose sender says that it is there."""
    return re.sub(rb"Contact: [^\r\n]*", f"Contact: <{contact}>".encode(), raw, count=1)


CARELESS = [
    {"uri": "sip:911@10.0.0.5"},
    {"uri": "911"},
    {"uri": PSAP_CONTACT},
    {"uri": "sip:911@10.0.0.5", "to": "<sip:911@pbx.example.com>"},
    {"uri": "sip:911@10.0.0.5", "to": "sip:911@pbx.example.com;tag=psap"},
    {"uri": "sip:911@10.0.0.5", "extra": ("Route: <sip:10.0.0.5;lr>",)},
]


@pytest.mark.parametrize("shape", CARELESS)
def test_ack_reinvite_and_bye_reach_the_psap(tmp_path: Path, shape: dict[str, object]) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    assert_follows(one(world.receive(request_of(raw, "ACK", **shape)), "ACK"), "ACK")
    if "tag=" in str(shape.get("to", "tag=")):
        again = request_of(raw, "INVITE", branch="z9hG4bKre", **shape)
        held = one(world.receive(again), "INVITE")
        assert_follows(held, "INVITE")
        answer = with_contact(response(held.message, 200), PSAP_CONTACT)
        assert one(world.receive(answer, PROVIDER_A), 200).to == PHONE
        assert_follows(
            one(world.receive(request_of(raw, "ACK", cseq="2 ACK", branch="z9hG4bKre", **shape)), "ACK"), "ACK"
        )
    bye = request_of(raw, "BYE", cseq="3 BYE", **shape)
    ended = one(world.receive(bye), "BYE")
    assert_follows(ended, "BYE")
    assert one(world.receive(response(ended.message, 200), PROVIDER_A), 200).to == PHONE
    assert len(world.events(CallIntent)) == 1, "none of these is a new call"
    assert [event.by for event in world.events(CallFinished)] == ["caller"]
    assert not world.router.dialogs


MOVED = "sip:taker-7@203.0.113.98:5071"


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("method", "status", "moves"), [("INVITE", 200, True), ("UPDATE", 200, True), ("INVITE", 488, False)]
)
def test_a_psap_that_moves_is_followed(tmp_path: Path, method: str, status: int, moves: bool, restarts: bool) -> None:
    """Transferred to another call taker: re-INVITE or UPDATE with a new Contact, which counts with its 2xx."""
    world = CallWorld(tmp_path)
    raw = invite()
    arrived = answered(world, raw)
    assert_follows(one(world.receive(request_of(raw, "ACK")), "ACK"), "ACK")
    phone_uri = arrived.get("contact")
    assert phone_uri
    route = arrived.all("record-route")[1:]
    lines = [
        f"{method} sip:4102@{PHONE[0]}:{PHONE[1]} SIP/2.0",
        "Via: SIP/2.0/UDP 203.0.113.31:5060;branch=z9hG4bKmove",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in route),
        f"From: {arrived.get('to')}",
        f"To: {arrived.get('from')}",
        f"Call-ID: {arrived.call_id}",
        f"CSeq: 50 {method}",
        f"Contact: <{MOVED}>",
        "Content-Length: 0",
        "",
        "",
    ]
    sent = one(world.receive("\r\n".join(lines).encode(), PROVIDER_A), method)
    assert sent.to == PHONE
    one(world.receive(response(sent.message, status), PHONE), status)
    if restarts:
        world.router.write_waiting()
        formed = world.events(DialogFormed)
        world.start()
        world.router.dialogs.restore(formed, [])
    ended = one(world.receive(request_of(raw, "BYE", cseq="3 BYE")), "BYE")
    assert ended.message.uri == (MOVED if moves else PSAP_CONTACT)
    assert ended.message.all("route") == [SBC], "the route set stays what the first 2xx made it"


def test_a_psap_whose_answer_to_a_reinvite_names_another_place_is_followed(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    one(world.receive(request_of(raw, "ACK")), "ACK")
    held = one(world.receive(request_of(raw, "INVITE", branch="z9hG4bKre")), "INVITE")
    one(world.receive(with_contact(response(held.message, 200), MOVED), PROVIDER_A), 200)
    ack = one(world.receive(request_of(raw, "ACK", cseq="2 ACK", branch="z9hG4bKre")), "ACK")
    assert ack.message.uri == MOVED
    assert one(world.receive(request_of(raw, "BYE", cseq="3 BYE")), "BYE").message.uri == MOVED


def test_somebody_else_does_not_move_the_dialog(tmp_path: Path) -> None:
    """A 2xx of another leg that shares the Call-ID: the tag is not the PSAP's."""
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    held = one(world.receive(request_of(raw, "INVITE", branch="z9hG4bKre")), "INVITE")
    other = with_contact(response(held.message, 200), MOVED).replace(b"tag=psap", b"tag=other")
    world.receive(other, PROVIDER_A)
    assert one(world.receive(request_of(raw, "BYE", cseq="3 BYE")), "BYE").message.uri == PSAP_CONTACT


def test_an_ack_that_says_invite(tmp_path: Path) -> None:
    """aiosip: CSeq `1 INVITE` in its ACK, and `2 BYE` in one for the answer to its BYE."""
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    ack = request_of(raw, "ACK", cseq="1 INVITE", to="<sip:911@pbx.example.com>;tag=psap")
    first = one(world.receive(ack), "ACK")
    assert_follows(first, "ACK")
    assert one(world.receive(ack), "ACK").message.raw == first.message.raw, "repeated, it is the same"
    assert one(world.receive(request_of(raw, "BYE")), "BYE")
    assert not world.receive(request_of(raw, "ACK", cseq="2 BYE"))
    assert world.router.stack.drops["cseq-method-mismatch"] == 1


def test_the_same_after_a_restart(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw, other = invite(), invite()
    answered(world, raw)
    answered(world, other)
    assert one(world.receive(request_of(other, "BYE")), "BYE")
    world.router.write_waiting()
    formed = world.events(DialogFormed)
    ended = [event.id for event in world.events(CallFinished)]
    world.start()
    assert one(world.receive(request_of(raw, "BYE", branch="z9hG4bKq")), 481), "nobody knows it"
    world.start()
    assert len(world.router.dialogs.restore(formed, ended)) == 1
    assert_follows(one(world.receive(request_of(raw, "ACK")), "ACK"), "ACK")
    assert_follows(one(world.receive(request_of(raw, "BYE")), "BYE"), "BYE")


def test_a_careless_phones_dialog_is_in_the_journal_before_its_ack_leaves(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    assert not any(isinstance(event, DialogFormed) for event in world.journal.events), "others can wait a moment"
    world.receive(request_of(raw, "ACK"))
    assert any(isinstance(event, DialogFormed) for event in world.journal.events)


def test_the_journal_tells_of_dialogs(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw)
    answered(world, invite())
    world.receive(request_of(raw, "BYE"))
    world.router.write_waiting()
    journal = JournalWriter(tmp_path / "journal", "test")
    assert journal.append_all(world.journal.events)
    with (tmp_path / "journal" / f"{journal.segment:08d}.jsonl").open("ab") as file:
        file.write(b'{"type":"dialog","id":"torn')
    formed, ended = journalled_dialogs(tmp_path / "journal")
    assert formed == world.events(DialogFormed)
    assert ended == [formed[0].id]
    assert journalled_dialogs(tmp_path / "nowhere") == ([], [])


def test_a_phone_that_follows_its_route_is_left_alone(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    told = answered(world, raw)
    routes = tuple(f"Route: {value}" for value in reversed(told.all("record-route")))
    to = told.get("to")
    bye = one(world.receive(request_of(raw, "BYE", uri=PSAP_CONTACT, to=to, extra=routes)), "BYE")
    assert_follows(bye, "BYE")
    assert not world.router.dialogs


def test_a_provider_that_keeps_no_route(tmp_path: Path) -> None:
    """SIPp's own callee: its 200 has no Record-Route, so what follows goes to its Contact."""
    world = CallWorld(tmp_path)
    raw = invite()
    answered(world, raw, echoes=False)
    bye = one(world.receive(request_of(raw, "BYE")), "BYE")
    assert bye.to == ("203.0.113.99", 5070)
    assert bye.message.all("route") == []
    assert [event.by for event in world.events(CallFinished)] == ["caller"]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("is_careless", [False, True])
def test_a_psap_that_names_itself_so_that_nobody_finds_it_is_reached_where_it_answered(
    tmp_path: Path, is_restarted: bool, is_careless: bool
) -> None:
    """A name of the provider's own network, or DNS is down. Without ACK the call would be hung up after 32 s."""
    world = CallWorld(tmp_path)
    raw = invite()
    sent = one(world.receive(raw), "INVITE").message
    ok = response(sent, 200).replace(b"psap@203.0.113.31:5060", b"psap@psap-7.provider.internal")
    world.receive(ok, PROVIDER_A)
    if is_restarted:
        dialogs = list(world.events(DialogFormed))
        world.restart()
        world.router.dialogs.restore(dialogs, [])
    world.router.next_hops.resolve = lambda where, told: told(NOWHERE)
    routes = [] if is_careless else sent.all("record-route")
    for method in ("ACK", "INFO", "INVITE", "BYE"):
        request = world.in_dialog(sent, method, "sip:psap@psap-7.provider.internal", routes)
        onward = one(world.receive(request), method)
        assert (onward.to, onward.message.uri) == (PROVIDER_A, "sip:psap@psap-7.provider.internal")
    gone = world.in_dialog(sent, "INFO", "sip:psap@psap-7.provider.internal", routes)
    assert one(world.receive(gone), 480), "the call is over"


def test_nobody_else_is_sent_there(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    sent = one(world.receive(invite()), "INVITE").message
    world.receive(response(sent, 200), PROVIDER_A)
    world.router.next_hops.resolve = lambda where, told: told(NOWHERE)
    routes = sent.all("record-route")
    request = world.in_dialog(sent, "BYE", "sip:4102@desk.example.internal", routes, from_far=True)
    assert one(world.receive(request, PROVIDER_A), 480), "not back to whoever asks"


def test_a_new_call_is_a_new_call_whatever_its_call_id(tmp_path: Path) -> None:
    """pyVoIP gives the same Call-ID after each start; a phone that lost its call must get through again."""
    world = CallWorld(tmp_path)
    raw = invite(number=77)
    answered(world, raw)
    again = raw.replace(b"branch=z9hG4bKt77", b"branch=z9hG4bKnew").replace(b"CSeq: 1 INVITE", b"CSeq: 2 INVITE")
    assert one(world.receive(again), "INVITE").message.get("geolocation")
    assert len(world.events(CallIntent)) == 2


def test_ordinary_calls_are_not_followed(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    raw = invite("sip:+12125550199@10.0.0.5")
    sent = one(world.receive(raw), "INVITE")
    world.receive(response(sent.message, 200), sent.to)
    assert not world.router.dialogs
    assert one(world.receive(request_of(raw, "BYE", uri="sip:+12125550199@10.0.0.5")), 481)


def test_a_stranger_whose_call_was_accepted_may_end_it(tmp_path: Path) -> None:
    from tests.support.call_world import CONFIG

    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "from_unlisted": "accept"})
    stranger = ("198.51.100.7", 5060)
    raw = invite(source=stranger)
    sent = one(world.receive(raw, stranger), "INVITE").message
    world.receive(response(sent, 200), PROVIDER_A)
    assert of(world.receive(request_of(raw, "BYE", branch="z9hG4bKx"), ("198.51.100.8", 5060)), 403)
    assert one(world.receive(request_of(raw, "BYE"), stranger), "BYE")


def formed(number: int, at: float) -> DialogFormed:
    return DialogFormed(
        id=f"{number}",
        at=at,
        call_id=f"c{number}",
        from_tag="f",
        cseq=1,
        to="<sip:911@x>;tag=p",
        contact="<sip:p@x>",
        uri="sip:911@x",
        routes=(),
        source="10.1.3.7",
    )


def test_the_table_is_bounded_in_number_and_time() -> None:
    steady = [50.0]
    dialogs = EmergencyDialogs(lambda: CLOCK, lambda: steady[0])
    for number in range(DIALOGS_LIMIT + 10):
        dialogs.add(formed(number, CLOCK + number / 1000))
    assert len(dialogs) == DIALOGS_LIMIT
    steady[0] += DIALOG_SECONDS + 1
    dialogs.add(formed(-1, CLOCK))
    assert len(dialogs) == 1
    old = EmergencyDialogs(lambda: CLOCK)
    assert [dialog.id for dialog in old.restore([formed(1, CLOCK - DIALOG_SECONDS - 1), formed(2, CLOCK)], [])] == [
        "2"
    ]


@pytest.mark.parametrize("jump", [-30 * 86_400.0, 13 * 3600.0, 6 * 365 * 86_400.0])
def test_a_clock_that_is_set_forgets_no_call_that_is_up(jump: float) -> None:
    """A machine without a clock of its own begins in another year, until NTP answers."""
    clock = [CLOCK]
    dialogs = EmergencyDialogs(lambda: clock[0], lambda: 50.0)
    dialogs.add(formed(1, clock[0]))
    clock[0] += jump
    dialogs.add(formed(2, clock[0]))
    assert len(dialogs) == 2


def test_an_answer_without_a_contact_that_can_be_read() -> None:
    dialogs = EmergencyDialogs(lambda: CLOCK)
    first = parse_message(invite())
    assert isinstance(first, Request)
    ok = Response(200, b"OK", [("to", b"To: <sip:911@x>;tag=p"), ("contact", b'Contact: "open')], b"", 1, b"INVITE")
    dialogs.form("id", first, ok, b"sip:911@203.0.113.31", "10.1.3.7")
    bye = Request(b"BYE", b"911", first.fields, b"", 2)
    assert dialogs.repaired(bye).uri == b"sip:911@203.0.113.31"


def test_a_dialog_is_no_part_of_the_record() -> None:
    found: dict[str, CallLines] = {}
    gather([encode_event(formed(1, CLOCK)).rstrip(b"\n")], found)
    assert found == {}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("with_route", [True, False])
def test_a_provider_that_takes_us_for_the_phone_reaches_the_phone(
    tmp_path: Path, restart: bool, with_route: bool
) -> None:
    """It put the address that the INVITE came from into the phone's Contact, which is a private one."""
    world = CallWorld(tmp_path)
    ok = answered(world, invite(number=4713))
    if restart:
        formed = world.events(DialogFormed)
        world.restart()
        world.router.dialogs.restore(formed, ())
    for method in ("INVITE", "ACK", "BYE"):
        lines = [
            f"{method} sip:4102@10.0.0.5:5060 SIP/2.0",
            f"Via: SIP/2.0/UDP 203.0.113.31:5060;branch=z9hG4bK{method}",
            "Max-Forwards: 70",
            *(f"Route: {value}" for value in ok.all("record-route") if with_route and "203.0.113.31" not in value),
            f"From: {ok.get('to')}",
            f"To: {ok.get('from')}",
            "Call-ID: call-4713",
            f"CSeq: {8 if method == 'BYE' else 7} {method}",
            "Contact: <sip:psap@203.0.113.31:5060>",
            "Content-Length: 0",
            "",
            "",
        ]
        sent = one(world.receive("\r\n".join(lines).encode(), PROVIDER_A), method)
        assert sent.to == PHONE
        assert sent.message.start == f"{method} sip:4102@{PHONE[0]}:{PHONE[1]} SIP/2.0"
        assert not sent.message.all("route")


@pytest.mark.parametrize(
    ("left_out", "uri", "expected"),
    [
        (b";tag=psap", ANSWERING, ANSWERING),  # a gateway of RFC 2543
        (b"Contact: <sip:psap@203.0.113.31:5060>\r\n", "sip:911@10.0.0.5", "sip:911@203.0.113.31:5060"),
        (b"", "sip:911@10.0.0.5", ANSWERING),  # the phone keeps to what it dialled, and to the Route
    ],
    ids=["no-tag", "no-contact", "dialled"],
)
def test_a_call_lives_and_ends_where_the_answer_or_the_phone_leaves_something_out(
    tmp_path: Path, left_out: bytes, uri: str, expected: str
) -> None:
    world = CallWorld(tmp_path)
    raw = invite()
    sent = one(world.receive(raw), "INVITE").message
    ok = response(sent, 200).replace(left_out, b"")
    answer = one(world.receive(ok, PROVIDER_A), 200).message
    route = tuple(f"Route: {value}" for value in answer.all("record-route"))
    for method in ("ACK", "BYE"):
        later = request_of(raw, method, uri=uri, to=answer.get("to"), branch=f"z9hG4bK{method}", extra=route)
        gone = one(world.receive(later), method)
        assert gone.to == PROVIDER_A
        assert gone.message.start.split()[1].removesuffix(":5060") == expected.removesuffix(":5060")


GUARD = ("10.1.3.9", 5060)


@pytest.mark.parametrize("header", ["Replaces", "Join"])
def test_a_phone_that_takes_the_call_over_is_brought_to_where_the_call_is(tmp_path: Path, header: str) -> None:
    """Its INVITE goes to the Contact of a PSAP, behind the border controller of the provider that answered."""
    world = CallWorld(tmp_path)
    raw = invite(number=4711)
    answered(world, raw)
    named = f"{header}: call-4711;to-tag=psap;from-tag=f4711"
    taken = invite(PSAP_CONTACT, user="4110", extra=(named, f"Require: {header.lower()}"), source=GUARD)
    sent = one(world.receive(taken, GUARD), "INVITE")
    assert sent.to == PROVIDER_A
    assert sent.message.start == f"INVITE {PSAP_CONTACT} SIP/2.0"
    assert named.encode() in sent.message.raw, "with nothing edited"


@pytest.mark.parametrize(
    "named",
    [
        "Replaces: call-4712;to-tag=f4712;from-tag=psap",
        "Replaces: call-4712;to-tag=psap;from-tag=guessed",
        "Replaces: call-4712",
        "Replaces: ;;=",
        "Replaces: another;to-tag=psap;from-tag=f4712",
    ],
)
def test_a_call_that_is_not_named_rightly_is_taken_over_by_nobody(tmp_path: Path, named: str) -> None:
    world = CallWorld(tmp_path)
    answered(world, invite(number=4712))
    taken = invite(PSAP_CONTACT, user="4110", extra=(named,), source=GUARD)
    assert one(world.receive(taken, GUARD), "INVITE").to == CARRIER
