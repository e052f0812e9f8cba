"""The four transaction machines through sip.stack, in virtual time.

Proved, by clause of RFC 3261: 17.1.1.2 (INVITE client: timers A, B, D), 17.1.1.3 (the ACK), 17.1.2.2 (E, F, K),
17.1.3 (matching), 17.2.1 (INVITE server: 100 at once, G, H, I), 17.2.2 (J), 17.2.3 (matching, RFC 2543 too), 17.1.4
(transport errors), 9.1 and 9.2 (CANCEL), 8.2.6 and 8.2.7 (To tag, stateless refusals), 18.1.2, 18.2.1 and 18.2.2
(received, sent-by port); RFC 6026 7.1, 7.2, 8.4 to 8.7 (Accepted, L, M, stray responses to the TU); RFC 3581
section 4 (rport). maddr in Via (18.2.2): test_received. Not proved: a response to a closed connection by a new
one to sent-by (18.2.2), DNS (RFC 3263), 17.2.4 (transport errors of responses).
"""

import itertools

import pytest

from sip.answers import build_response
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.stack import Stack
from sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    State,
    Table,
    Timers,
    durations,
)
from tests.support.playbook import (
    FAR,
    FAR_TCP,
    PHONE,
    PHONE_TCP,
    UDP,
    Owner,
    Playbook,
    Sent,
    ack_to,
    answer_to,
    cancel_of,
    own_request,
    request_bytes,
)

INVITE = own_request()
OPTIONS = own_request(b"OPTIONS", b"z9hG4bKours2")


def times(sent: list[Sent], method: bytes) -> list[float]:
    """When requests of a method went out."""
    return [item.at for item in sent if item.data.startswith(method + b" ")]


def statuses(sent: list[Sent]) -> list[tuple[float, int]]:
    return [(item.at, item.response.status) for item in sent if item.data.startswith(b"SIP/2.0")]


# ---- INVITE client ----


def test_timer_a_doubles_until_timer_b() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    sent = book.until(100)
    assert times(sent, b"INVITE") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert {item.data for item in sent} == {INVITE}
    assert owner.events == ["timeout 32"]
    assert book.idle


def test_other_timer_values_scale_everything() -> None:
    book, owner = Playbook(timers=Timers(t1=0.1, t2=0.4, t4=1.0)), Owner()
    book.send(INVITE, owner)
    assert len(book.until(10)) == 7
    assert [event[:7] for event in owner.events] == ["timeout"]


def test_a_stream_is_not_sent_twice_but_timer_b_runs() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner, FAR_TCP)
    assert times(book.until(100), b"INVITE") == [0]
    assert owner.events == ["timeout 32"]
    assert book.idle


def test_a_provisional_response_stops_timers_a_and_b() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.until(0.6)
    book.receive(answer_to(INVITE, 100), FAR)
    assert book.until(600) == []
    book.receive(answer_to(INVITE, 183), FAR)
    book.receive(answer_to(INVITE, 183), FAR)
    assert owner.events == ["100", "183", "183"]
    assert book.stack.clients[b"z9hG4bKours1"].state is State.PROCEEDING


@pytest.mark.parametrize("status", [300, 404, 486, 503, 603])
@pytest.mark.parametrize("proceeding", [False, True])
def test_a_final_failure_is_acknowledged_each_time_and_told_once(status: int, proceeding: bool) -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    if proceeding:
        book.receive(answer_to(INVITE, 180), FAR)
    book.until(0.25)
    acks = []
    for moment in (0.25, 0.75, 10, 32):
        book.until(moment)
        acks += times(book.receive(answer_to(INVITE, status), FAR), b"ACK")
    assert acks == [0.25, 0.75, 10, 32]
    assert owner.events[-1] == str(status)
    assert owner.events.count(str(status)) == 1
    assert not book.idle
    assert book.until(32.25) == []
    assert book.idle, "timer D: 32 s from entering Completed"
    assert book.receive(answer_to(INVITE, status), FAR) == []
    assert len(book.user.strays) == 1


def test_on_a_stream_timer_d_is_zero() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner, FAR_TCP)
    sent = book.receive(answer_to(INVITE, 486), FAR_TCP)
    assert times(sent, b"ACK") == [0]
    assert owner.events == ["486"]
    assert book.idle


def test_the_ack_for_a_failure() -> None:
    data = own_request(
        extra=(b"Route: <sip:a.example;lr>", b"Route: <sip:b.example;lr>", b"Subject: x"), body=b"v=0\r\n"
    )
    book = Playbook()
    book.send(data, Owner())
    book.take()
    response = answer_to(data, 486).replace(
        b"To: <sip:15550100@192.0.2.1>", b't:  "Bob"\r\n <sip:15550100@192.0.2.1>'
    )
    [sent] = book.receive(response, FAR)
    assert sent.flow == FAR
    ack, invite, answered = sent.request, parse_message(data), parse_message(response)
    assert isinstance(invite, Request)
    assert (ack.method, ack.uri, ack.cseq) == (b"ACK", invite.uri, invite.cseq)
    assert ack.first("cseq") == b"1 ACK"
    assert ack.lines("via") == invite.lines("via")[:1], "one Via, equal to the INVITE's top one"
    assert ack.lines("route") == invite.lines("route")
    assert ack.lines("to") == answered.lines("to"), "with the tag of the response, as it was written"
    for key in ("from", "call-id"):
        assert ack.lines(key) == invite.lines(key)
    assert (ack.body, ack.first("content-length")) == (b"", b"0")
    assert not ack.has("subject")


def test_every_2xx_is_told_for_timer_m_and_none_is_acknowledged() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.take()
    for moment in (0.1, 1, 20, 32):
        book.until(moment)
        assert book.receive(answer_to(INVITE, 200, to_tag=b"a"), FAR) == []
    assert book.receive(answer_to(INVITE, 200, to_tag=b"another fork"), FAR) == []
    assert owner.events == ["200"] * 5
    assert book.receive(answer_to(INVITE, 486), FAR) == [], "RFC 6026: nothing but 2xx counts now"
    assert owner.events == ["200"] * 5
    book.until(32.1)
    assert book.idle
    book.receive(answer_to(INVITE, 200), FAR)
    assert len(book.user.strays) == 1


def test_timer_m_runs_on_streams_too() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner, FAR_TCP)
    book.receive(answer_to(INVITE, 200), FAR_TCP)
    book.until(31.9)
    book.receive(answer_to(INVITE, 200), FAR_TCP)
    assert owner.events == ["200", "200"]
    book.until(32)
    assert book.idle


def test_responses_are_matched_by_branch_and_method() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.receive(answer_to(INVITE, 200, cseq_method=b"OPTIONS"), FAR)
    book.receive(answer_to(INVITE, 200).replace(b"z9hG4bKours1", b"z9hG4bKours9"), FAR)
    book.receive(answer_to(INVITE, 200).replace(b"CSeq: 1 INVITE\r\n", b""), FAR)
    assert owner.events == []
    assert len(book.user.strays) == 3
    folded = answer_to(INVITE, 180).replace(b";branch=", b"\r\n ;branch =\r\n  ")
    book.receive(folded, FAR)
    assert owner.events == ["180"]


def test_a_response_with_a_broken_line_that_nobody_needs_counts() -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.receive(answer_to(INVITE, 200, extra=(b"this line has no colon",)), FAR)
    assert owner.events == ["200"], "the answer to a 911 call is not lost for a line we do not read"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"Content-Length: 0", b"Content-Length: 5"), Reason.BODY_INCOMPLETE),
        ((b"Content-Length: 0", b"Content-Length: x"), Reason.BAD_CONTENT_LENGTH),
        ((b"CSeq: 1 INVITE", b"CSeq: 4294967296 INVITE"), Reason.BAD_CSEQ),
        ((b"SIP/2.0 200", b"SIP/2.0 099"), Reason.BAD_STATUS),
    ],
)
def test_a_response_that_cannot_be_read_is_dropped(change: tuple[bytes, bytes], reason: Reason) -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.take()
    assert book.receive(answer_to(INVITE, 200).replace(*change), FAR) == []
    assert owner.events == []
    assert book.stack.drops == {reason: 1}


# ---- non-INVITE client ----


def test_timer_e_doubles_up_to_t2_until_timer_f() -> None:
    book, owner = Playbook(), Owner()
    book.send(OPTIONS, owner)
    assert times(book.until(100), b"OPTIONS") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert owner.events == ["timeout 32"]
    assert book.idle


def test_in_proceeding_timer_e_is_t2_and_timer_f_goes_on() -> None:
    book, owner = Playbook(), Owner()
    book.send(OPTIONS, owner)
    book.until(0.6)
    book.receive(answer_to(OPTIONS, 100), FAR)
    assert times(book.until(100), b"OPTIONS") == [1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5]
    assert owner.events == ["100", "timeout 32"]


@pytest.mark.parametrize("flow", [FAR, FAR_TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("status", [200, 404, 603])
def test_a_final_answer_is_told_once_and_timer_k_absorbs_the_rest(flow: Flow, status: int) -> None:
    book, owner = Playbook(), Owner()
    book.send(OPTIONS, owner, flow)
    book.until(0.1)
    book.receive(answer_to(OPTIONS, status), flow)
    assert book.idle is flow.point.reliable
    if not flow.point.reliable:
        book.until(5.0)
        book.receive(answer_to(OPTIONS, status), flow)
        book.until(5.1)
    assert book.idle
    assert owner.events == [str(status)]
    assert book.until(100) == []


# ---- transport errors (17.1.4, 18.4) ----


@pytest.mark.parametrize("method", [b"INVITE", b"OPTIONS", b"x-lower.token"])
def test_an_icmp_error_quotes_our_request(method: bytes) -> None:
    data = own_request(method, b"z9hG4bKquoted.1")
    book, owner = Playbook(), Owner()
    book.send(data, owner)
    book.until(0.1)
    book.stack.unreachable(data[:90], book.now)
    assert owner.events == [], "a branch that is cut off names nobody"
    book.stack.unreachable(data[: data.index(b"Max-Forwards")], book.now)
    assert owner.events == ["transport-error 0.1"]
    assert book.until(100) == []
    assert book.idle


@pytest.mark.parametrize(
    "quoted", [b"", b"\0" * 40, INVITE[:60], b"SIP/2.0 200 OK\r\nVia: x;branch=z9hG4bKours1\r\n"]
)
def test_icmp_errors_about_anything_else_are_nothing(quoted: bytes) -> None:
    book, owner = Playbook(), Owner()
    book.send(INVITE, owner)
    book.stack.unreachable(quoted, book.now)
    assert owner.events == []


def test_in_proceeding_a_transport_error_is_told_and_ends_nothing() -> None:
    book, owner = Playbook(), Owner()
    client = book.send(INVITE, owner)
    book.receive(answer_to(INVITE, 180), FAR)
    book.stack.transport_failed(client, book.now)
    book.receive(answer_to(INVITE, 200), FAR)
    assert owner.events == ["180", "transport-error 0", "200"]


# ---- INVITE server ----

CALL = request_bytes()


def arrived(book: Playbook, data: bytes = CALL, flow: Flow = PHONE) -> list[Sent]:
    return book.receive(data, flow)


def test_100_goes_at_once_and_again_for_each_retransmission() -> None:
    book = Playbook()
    assert statuses(arrived(book)) == [(0, 100)]
    book.until(0.5)
    assert statuses(arrived(book)) == [(0.5, 100)]
    server, _ = book.user.requests[0]
    book.stack.answer(server, 180, book.now)
    book.take()
    assert statuses(arrived(book)) == [(0.5, 180)], "the last provisional response"
    assert len(book.user.requests) == 1
    assert book.stack.counts["request_retransmissions"] == 2
    assert book.until(500) == [], "in Proceeding nothing runs"


def test_timer_g_doubles_up_to_t2_until_timer_h() -> None:
    book = Playbook()
    arrived(book)
    server, _ = book.user.requests[0]
    book.stack.answer(server, 486, book.now)
    sent = book.until(100)
    assert [at for at, _ in statuses(sent)] == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert len({item.data for item in sent}) == 1
    assert book.idle


def test_the_ack_ends_timer_g_and_timer_i_absorbs_more_of_them() -> None:
    book = Playbook()
    arrived(book)
    server, _ = book.user.requests[0]
    book.stack.answer(server, 486, book.now)
    [final] = book.take()
    assert statuses(arrived(book)) == [(0, 486)]
    book.until(0.2)
    ack = ack_to(CALL, final.response)
    for moment in (0.2, 1, 5.1):
        book.until(moment)
        assert book.receive(ack) == []
    assert book.user.acks == []
    assert arrived(book) == [], "Confirmed: a late retransmission is not answered"
    assert not book.idle
    book.until(5.2)
    assert book.idle, "timer I: T4 after the first ACK"


def test_on_streams_no_timer_g_and_timer_i_is_zero() -> None:
    book = Playbook()
    arrived(book, CALL, PHONE_TCP)
    server, _ = book.user.requests[0]
    book.stack.answer(server, 486, book.now)
    [final] = book.until(20)
    assert final.flow[:4] == PHONE_TCP[:4]
    book.receive(ack_to(CALL, final.response), PHONE_TCP)
    assert book.idle
    assert book.user.acks == []


def test_on_streams_timer_h_ends_a_transaction_without_ack() -> None:
    book = Playbook()
    arrived(book, CALL, PHONE_TCP)
    book.stack.answer(book.user.requests[0][0], 486, book.now)
    book.until(31.9)
    assert not book.idle
    book.until(32)
    assert book.idle


def test_after_a_2xx_the_transaction_swallows_the_invite_and_passes_more_2xx() -> None:
    book = Playbook()
    arrived(book)
    server, request = book.user.requests[0]
    ok = answer_to(request, 200)
    assert book.stack.respond(server, 200, ok, book.now)
    assert [item.data for item in book.take()] == [ok]
    assert book.until(1) == [], "a 2xx is sent again by the far end, not by us"
    assert arrived(book) == []
    assert book.stack.respond(server, 200, ok, book.now)
    assert [item.data for item in book.take()] == [ok]
    assert not book.stack.respond(server, 486, build_response(request, 486), book.now)
    assert not book.stack.respond(server, 180, build_response(request, 180), book.now)
    book.until(31.9)
    assert not book.idle
    book.until(32)
    assert book.idle, "timer L"


def test_the_ack_for_a_2xx_is_the_tus() -> None:
    book = Playbook()
    arrived(book)
    server, request = book.user.requests[0]
    book.stack.respond(server, 200, answer_to(request, 200), book.now)
    book.receive(request_bytes(b"ACK", branch=b"z9hG4bKackbranch", to=b"<sip:15550100@192.0.2.1>;tag=far"))
    book.receive(request_bytes(b"ACK", to=b"<sip:15550100@192.0.2.1>;tag=far"))
    assert [invite for _, invite in book.user.acks] == [None, server], "the second: an RFC 2543 phone"


def test_an_ack_before_any_final_response_is_ignored() -> None:
    book = Playbook()
    arrived(book)
    assert book.receive(request_bytes(b"ACK")) == []
    assert (book.user.acks, len(book.stack.servers)) == ([], 1)


# ---- non-INVITE server ----


@pytest.mark.parametrize("flow", [PHONE, PHONE_TCP], ids=["udp", "tcp"])
def test_a_request_again_gets_its_answer_again_for_timer_j(flow: Flow) -> None:
    book = Playbook()
    data = request_bytes(b"OPTIONS")
    assert book.receive(data, flow) == []
    assert book.receive(data, flow) == [], "Trying: nothing to send yet"
    server, _ = book.user.requests[0]
    assert book.stack.answer(server, 200, book.now)
    assert statuses(book.take()) == [(0, 200)]
    assert not book.stack.answer(server, 404, book.now)
    if flow.point.reliable:
        assert book.idle, "timer J is 0"
        return
    book.until(31.9)
    assert statuses(book.receive(data, flow)) == [(31.9, 200)]
    book.until(32)
    assert book.idle
    assert len(book.user.requests) == 1


def test_a_provisional_response_is_sent_again_too() -> None:
    book = Playbook()
    data = request_bytes(b"OPTIONS")
    book.receive(data)
    book.stack.answer(book.user.requests[0][0], 183, book.now)
    book.take()
    assert statuses(book.receive(data)) == [(0, 183)]


# ---- matching of requests (17.2.3) ----


def test_what_makes_another_transaction() -> None:
    book = Playbook()
    same_branch = [
        request_bytes(b"OPTIONS"),
        request_bytes(b"INFO"),
        request_bytes(b"OPTIONS", via=b"Via: SIP/2.0/UDP 192.0.2.10:5070;branch=z9hG4bKphone1"),
        request_bytes(b"OPTIONS", via=b"Via: SIP/2.0/UDP 192.0.2.11;branch=z9hG4bKphone1"),
        request_bytes(b"OPTIONS", branch=b"z9hG4bKphone2"),
    ]
    for data in same_branch:
        book.receive(data)
    assert len(book.user.requests) == len(same_branch)
    book.receive(request_bytes(b"OPTIONS", via=b"v:SIP / 2.0 / UDP 192.0.2.10 : 5060 ; Branch = z9hG4bKphone1"))
    assert len(book.user.requests) == len(same_branch), "the same Via, written otherwise"
    book.receive(request_bytes(b"OPTIONS", call_id=b"another"))
    assert len(book.user.requests) == len(same_branch) + 1, "a phone with one branch for all that it sends"


@pytest.mark.parametrize("branch", [b"", b";branch=1", b";branch=z9hG4bK"])
def test_without_the_magic_cookie_rfc_2543_matching(branch: bytes) -> None:
    via = b"Via: SIP/2.0/UDP 192.0.2.10" + branch
    book = Playbook()
    invite = request_bytes(via=via)
    arrived(book, invite)
    arrived(book, invite)
    assert len(book.user.requests) == 1
    for other in (
        request_bytes(via=via, cseq=2),
        request_bytes(via=via, call_id=b"another"),
        request_bytes(via=via, from_tag=b"another"),
        request_bytes(via=via, uri=b"sip:another@192.0.2.1"),
        request_bytes(via=via + b";x=y"),
    ):
        arrived(book, other)
    assert len(book.user.requests) == 6
    server, request = book.user.requests[0]
    book.stack.answer(server, 486, book.now)
    assert [item.response.status for item in book.take() if item.data.startswith(b"SIP/2.0 486")] == [486]
    final = parse_message(build_response(request, 486, to_tag=book.stack.to_tag(request)))
    assert isinstance(final, Response)
    book.receive(ack_to(invite, final))
    assert server.state is State.CONFIRMED
    cancelled = request_bytes(via=via, cseq=2)
    assert statuses(book.receive(cancel_of(cancelled)))[0][1] == 200
    assert len(book.user.cancels) == 1


# ---- CANCEL (9.2) ----


def test_cancel_is_answered_and_told() -> None:
    book = Playbook()
    arrived(book)
    sent = book.receive(cancel_of(CALL))
    assert statuses(sent) == [(0, 200)]
    assert sent[0].response.method == b"CANCEL"
    assert book.user.cancels == [book.user.requests[0][0]]
    assert statuses(book.receive(cancel_of(CALL))) == [(0, 200)], "again, the answer again"
    assert len(book.user.cancels) == 1
    book.stack.answer(book.user.requests[0][0], 487, book.now)
    assert book.take()[-1].response.to_tag == sent[0].response.to_tag, "9.2: the same To tag"


def test_cancel_for_nothing_is_481() -> None:
    book = Playbook()
    assert statuses(book.receive(cancel_of(CALL))) == [(0, 481)]
    book.receive(request_bytes(b"OPTIONS"))
    assert statuses(book.receive(cancel_of(request_bytes(b"INVITE", branch=b"z9hG4bKelse")))) == [(0, 481)]
    assert book.stack.counts["cancel_unknown"] == 2


@pytest.mark.parametrize("status", [200, 486])
def test_cancel_after_the_final_answer_is_answered_and_changes_nothing(status: int) -> None:
    book = Playbook()
    arrived(book)
    server, request = book.user.requests[0]
    book.stack.respond(server, status, answer_to(request, status), book.now)
    book.take()
    assert statuses(book.receive(cancel_of(CALL))) == [(0, 200)]
    assert book.user.cancels == []


def test_our_cancel_is_a_transaction_of_its_own() -> None:
    book, owner = Playbook(), Owner()
    client = book.send(INVITE, owner)
    book.receive(answer_to(INVITE, 180), FAR)
    book.stack.cancel(client, owner, book.now)
    book.stack.cancel(client, owner, book.now)
    [sent] = book.take()
    assert sent.request.via.branch == b"z9hG4bKours1"
    book.receive(answer_to(sent.data, 200), FAR)
    book.receive(answer_to(INVITE, 487), FAR)
    assert owner.events == ["180", "200", "487"]
    book.until(100)
    assert book.idle


# ---- where answers go (18.2.1, 18.2.2, RFC 3581) ----


@pytest.mark.parametrize(
    ("via", "source", "port", "received", "rport"),
    [
        (b"192.0.2.10:5060;branch=z9hG4bK1", ("192.0.2.10", 5060), 5060, "", None),
        (b"192.0.2.10:5062;branch=z9hG4bK1", ("192.0.2.10", 34567), 5062, "", None),
        (b"192.0.2.10;branch=z9hG4bK1", ("192.0.2.10", 34567), 5060, "", None),
        (b"10.0.0.5:5064;branch=z9hG4bK1", ("192.0.2.10", 34567), 5064, "192.0.2.10", None),
        (b"phone.example.com;branch=z9hG4bK1", ("192.0.2.10", 34567), 5060, "192.0.2.10", None),
        (b"10.0.0.5:5064;rport;branch=z9hG4bK1", ("192.0.2.10", 34567), 34567, "192.0.2.10", 34567),
        (b"192.0.2.10:5060;branch=z9hG4bK1;rport", ("192.0.2.10", 34567), 34567, "192.0.2.10", 34567),
        (b"192.0.2.10:5060;branch=z9hG4bK1;RPort = 1 ;x", ("192.0.2.10", 34567), 34567, "192.0.2.10", 34567),
        (b"192.0.2.10;received=203.0.113.9;branch=z9hG4bK1", ("192.0.2.10", 5060), 5060, "192.0.2.10", None),
        (b"[2001:db8::5]:5070;branch=z9hG4bK1", ("2001:db8::5", 5070), 5070, "", None),
        (b"[2001:db8::6];branch=z9hG4bK1;rport", ("2001:db8::5", 999), 999, "2001:db8::5", 999),
    ],
)
def test_where_the_answer_goes(
    via: bytes, source: tuple[str, int], port: int, received: str, rport: int | None
) -> None:
    book = Playbook()
    below = b"Via: SIP/2.0/UDP 198.51.100.77;branch=z9hG4bKbelow"
    data = request_bytes(via=b"Via: SIP/2.0/UDP " + via + b"\r\n" + below)
    [sent] = book.receive(data, Flow(UDP, *source))
    assert (sent.flow.host, sent.flow.port) == (source[0], port)
    top = sent.response.via
    assert (top.received, top.rport, top.branch) == (received, rport, b"z9hG4bK1")
    assert sent.response.lines("via")[1] == below
    assert book.user.requests[0][1].via.received == received, "the next hop sees it too"


def test_only_the_top_value_of_a_line_is_edited() -> None:
    book = Playbook()
    via = b"v: SIP/2.0/UDP a.example;branch=z9hG4bK1;rport, SIP/2.0/UDP b.example;branch=z9hG4bK2;rport"
    [sent] = book.receive(request_bytes(via=via))
    assert sent.response.values("via") == [
        b"SIP/2.0/UDP a.example;branch=z9hG4bK1;rport=5060;received=192.0.2.10",
        b"SIP/2.0/UDP b.example;branch=z9hG4bK2;rport",
    ]


def test_on_a_stream_rport_is_filled_in_and_the_answer_stays_on_the_connection() -> None:
    book = Playbook()
    [sent] = book.receive(request_bytes(via=b"Via: SIP/2.0/TCP 192.0.2.10;branch=z9hG4bK1;rport"), PHONE_TCP)
    assert sent.flow[:4] == PHONE_TCP[:4]
    assert (sent.response.via.rport, sent.response.via.received) == (PHONE_TCP.port, "192.0.2.10")


# ---- refusals and To tags (8.2.6, 8.2.7) ----


def test_to_tags_are_stable_also_after_a_restart() -> None:
    tags = set()
    for _ in range(2):
        book = Playbook()
        arrived(book)
        book.stack.answer(book.user.requests[0][0], 486, book.now)
        tags.add(book.take()[-1].response.to_tag)
    other = Playbook(key=b"another key 16 b")
    arrived(other)
    other.stack.answer(other.user.requests[0][0], 486, other.now)
    assert len(tags) == 1
    assert other.take()[-1].response.to_tag not in tags
    assert b"" not in tags


def test_a_to_tag_that_is_there_stays() -> None:
    book = Playbook()
    arrived(book, request_bytes(to=b"<sip:15550100@192.0.2.1>;tag=kept"))
    book.stack.answer(book.user.requests[0][0], 486, book.now)
    assert book.take()[-1].response.lines("to") == [b"To: <sip:15550100@192.0.2.1>;tag=kept"]


def test_a_refusal_makes_no_transaction_and_its_ack_goes_no_further() -> None:
    book = Playbook()
    book.user.refusal = RemoteError(Reason.SHUTTING_DOWN, 503, 'said "no"\r\nEvil: yes')
    for _ in range(2):
        [sent] = arrived(book)
        assert sent.response.status == 503
        assert not sent.response.has("evil")
        assert not sent.response.has("retry-after")
        book.receive(ack_to(CALL, sent.response))
    assert book.user.acks == [], "or the ACK would be forwarded as one for a 2xx"
    assert book.stack.counts["acks_of_refusals"] == 2
    assert book.idle
    assert book.stack.drops == {Reason.SHUTTING_DOWN: 2}


def test_what_is_forgiven_is_served_with_a_length_that_is_true() -> None:
    book = Playbook()
    data = request_bytes(extra=(b"broken line",), body=b"v=0\r\n").replace(b"Content-Length: 5", b"l: 9999")
    book.user.forgiving = True
    arrived(book, data)
    _, request = book.user.requests[0]
    assert request.lines("content-length") == [b"Content-Length: 5"]
    assert b"\r\nbroken line\r\n" in request.to_bytes()
    assert request.body == b"v=0\r\n"


def test_a_malformed_ack_is_never_answered() -> None:
    book = Playbook()
    assert book.receive(request_bytes(b"ACK", cseq_method=b"INVITE")) == []
    assert book.receive(request_bytes(b"ACK").replace(b"Call-ID", b"X-ID")) == []
    assert sum(book.stack.drops.values()) == 2


# ---- the tables themselves ----


@pytest.mark.parametrize(
    ("table", "reliable"),
    list(itertools.product((INVITE_CLIENT, NON_INVITE_CLIENT, INVITE_SERVER, NON_INVITE_SERVER), (False, True))),
)
def test_nothing_leaves_the_end_and_every_way_there_says_so(table: Table, reliable: bool) -> None:
    for (state, _), (following, actions) in table.items():
        assert state is not State.TERMINATED
        assert (following is State.TERMINATED) == (actions[-1] is Action.ENDED)
    values = durations(Timers(), reliable)
    assert (values.d, values.i, values.j, values.k) == ((0, 0, 0, 0) if reliable else (32, 5, 32, 5))
    assert (values.b, values.f, values.h, values.l, values.m) == (32, 32, 32, 32, 32)


def test_a_fault_of_one_timers_owner_loses_no_other_timer() -> None:
    class Faulty:
        def on_timer(self, name: str, now: float) -> None:
            raise ZeroDivisionError

    fired: list[str] = []

    class Sound:
        def on_timer(self, name: str, now: float) -> None:
            fired.append(name)

    book = Playbook()
    stack: Stack = book.stack
    stack.set_timer(Faulty(), "bad", 1.0, book.now)
    stack.set_timer(Sound(), "good", 1.0, book.now)
    with pytest.raises(ZeroDivisionError):
        stack.advance(book.now + 1)
    stack.advance(book.now + 1)
    assert fired == ["good"]
