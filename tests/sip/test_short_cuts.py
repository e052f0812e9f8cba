"""What is done quickly for the usual message gives what the long way gives."""

import hashlib
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.calls.ordinary import routed_request
from sip import parsing
from sip.answers import build_response
from sip.errors import RemoteError
from sip.fields import index_of, value_of
from sip.flow import Flow, ListeningPoint
from sip.forwarding import backward_bytes, forward_bytes
from sip.headers import tag_of, tag_of_line
from sip.keyed_hash import keyed_hash
from sip.machines import _TOGETHER, ClientTransaction, performing
from sip.message import Request, Response
from sip.parsing import parse_message
from sip.routing import RouteDecision
from sip.stack import Stack
from sip.transaction import Action, Timers, durations

POINT = ListeningPoint("udp", "10.0.0.5", 5060)
FLOW = Flow(POINT, "10.1.3.7", 5060)

_LINES = st.lists(
    st.sampled_from(
        [
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0;rport",
            b"Via: SIP/2.0/UDP 10.1.3.7:5060;branch=z9hG4bK1",
            b"v: SIP/2.0/UDP 10.1.3.7:5060;branch=z9hG4bK1, SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK2",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0;rport, SIP/2.0/UDP 10.1.3.7;branch=z9hG4bK1",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0,SIP/2.0/TLS h;branch=z9hG4bK1 , SIP/2.0/UDP i ",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0,SIP/2.0/UDP\r\n h;branch=z9hG4bK1",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0, ",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKe9a.0,,SIP/2.0/UDP h",
            b"Via: SIP/2.0/UDP 10.0.0.5:5060\r\n ;branch=z9hG4bKe9a.0",
            b"Contact: <sip:a@b>",
            b"X-Odd:\r\n\tfolded",
            b"not a field",
            b" begins with a blank",
            b"Content-Length: 4",
            b"l: 4",
            b"Content-Length: 2",
            b"CSeq: 1 INVITE",
            b"To: <sip:a@b>;tag=1",
        ]
    ),
    max_size=8,
)


@given(
    start=st.sampled_from([b"SIP/2.0 180 Ringing", b"SIP/2.0 200", b"SIP/2.0 200 ", b"SIP/2.0 486 Busy  Here"]),
    lines=_LINES,
    body=st.sampled_from([b"", b"v=0\n", b"v=0\nmore"]),
    lead=st.sampled_from([b"", b"\r\n\r\n"]),
    transport=st.sampled_from(["udp", "tcp"]),
)
def test_a_response_that_is_cut_is_the_one_that_is_rebuilt(
    start: bytes, lines: list[bytes], body: bytes, lead: bytes, transport: str
) -> None:
    response = parse_message(lead + b"\r\n".join([start, *lines, b"", b""]) + body)
    assert isinstance(response, Response)
    if not response.has("via"):
        return
    flow = Flow(ListeningPoint(transport, "10.0.0.5", 5060), "10.1.3.7", 5060)
    as_it_came = backward_bytes(response, flow)
    response.raw = b""
    assert as_it_came == backward_bytes(response, flow)


@given(
    start=st.sampled_from([b"SIP/2.0 180 Ringing", b"BYE sip:a@b SIP/2.0", b"BYE  sip:a b SIP/2.0"]),
    lines=st.lists(
        st.one_of(
            st.sampled_from(
                [b"CSeq: 1 BYE", b"CSeq:1 BYE", b"no colon", b" fold: ed", b"\tfold", b"", b":", b"To : a"]
            ),
            st.lists(st.sampled_from([b"Via", b"To", b":", b"\r", b"\n", b" ", b"\0", b"\xff", b"x"])).map(b"".join),
            st.sampled_from([b"l: 2", b"Content-Length: 9", b"To: c", b"to: d"]),
        ),
        max_size=7,
    ),
    body=st.sampled_from([b"", b"v=", b"\r\nA: b"]),
)
def test_lines_read_together_are_what_each_is_by_itself(start: bytes, lines: list[bytes], body: bytes) -> None:
    data = b"\r\n".join([start, *lines, b"", b""]) + body

    def read() -> object:
        try:
            found = parse_message(data)
        except RemoteError as error:
            return error.reason, error.status, error.detail
        names = ("fields", "_first", "body", "cseq", "method", "oddities", "raw")
        return found.start_line(), [getattr(found, name) for name in names]

    together = read()
    with mock.patch.object(parsing, "_names_of", return_value=[None]):
        assert read() == together


@given(st.lists(st.sampled_from(["via", "to", "from", "route"])))
def test_the_first_field_of_a_name_is_found(names: list[str]) -> None:
    assert index_of([(name, b"") for name in names]) == {name: names.index(name) for name in names}


@given(
    st.lists(
        st.sampled_from([b"To: a", b"Max-Forwards: 9", b"Content-Length: 0", b"X-A: b", b"Via: c"]), unique=True
    ),
    st.integers(0, 5),
    st.sampled_from(["udp", "tcp"]),
)
def test_an_ack_without_its_route_is_the_same_either_way(lines: list[bytes], position: int, transport: str) -> None:
    lines.insert(position, b"Route: <sip:10.0.0.5;lr>")
    request = parse_message(b"\r\n".join([b"ACK sip:a@b SIP/2.0", *lines, b"", b""]))
    assert isinstance(request, Request)
    flow = Flow(ListeningPoint(transport, "10.0.0.5", 5060), "10.1.3.7", 5060)
    routed = routed_request(request, RouteDecision(request.uri, [], [], None))
    assert forward_bytes(request, flow, b"z9hG4bK1", without="route") == forward_bytes(routed, flow, b"z9hG4bK1")


@given(st.binary(min_size=1, max_size=64), st.integers(1, 64), st.binary(), st.sampled_from([b"", b"call record"]))
def test_a_hash_begun_once_is_the_whole_hash(key: bytes, size: int, data: bytes, purpose: bytes) -> None:
    whole = hashlib.blake2b(data, key=key, digest_size=size, person=purpose)
    assert keyed_hash(key, size, data, purpose) == keyed_hash(key, size, data, purpose) == whole.hexdigest()


@given(lines=_LINES)
def test_trying_is_what_any_response_of_ours_is(lines: list[bytes]) -> None:
    head = [b"INVITE sip:a@b SIP/2.0", b"Via: SIP/2.0/UDP a;branch=z9hG4bK1", b"f: <sip:c@d>;tag=1", b"timestamp: 5"]
    request = parse_message(b"\r\n".join([*head, *lines, b"t: <sip:a@b>", b"", b""]))
    assert isinstance(request, Request)
    assert build_response(request, 100) == build_response(request, 100, reason=b"Trying")


def test_most_responses_are_cut() -> None:
    data = b"SIP/2.0 180 Ringing\r\nVia: a\r\nVia: b\r\nContent-Length: 0\r\n\r\n"
    response = parse_message(data)
    assert isinstance(response, Response)
    assert response.raw == data
    assert backward_bytes(response, FLOW) == b"SIP/2.0 180 Ringing\r\nVia: b\r\nContent-Length: 0\r\n\r\n"


@given(
    st.sampled_from([b"From", b"To", b"f", b"TO", b"From "]),
    st.lists(
        st.sampled_from(
            [
                b" ",
                b'"',
                b"<",
                b">",
                b";tag=",
                b";TAG=",
                b"a",
                b"1.b-~",
                b"sip:a@b",
                b'"A B" ',
                b";x=",
                b"\\",
                b",",
                b"\t",
            ]
        ),
        max_size=9,
    ),
)
def test_a_tag_is_the_same_either_way(name: bytes, pieces: list[bytes]) -> None:
    line = name + b":" + b"".join(pieces)
    assert tag_of_line(line) == tag_of(value_of(line))


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        self.told.append((response.status, now))


@pytest.mark.parametrize("actions", list(_TOGETHER), ids=lambda actions: "+".join(action.name for action in actions))
@pytest.mark.parametrize("reliable", [False, True])
def test_actions_done_together_do_what_each_does(actions: Any, reliable: bool) -> None:
    ends = []
    for apart in (False, True):
        stack = Stack(None, key=b"k")  # type: ignore[arg-type]
        owner = Owner()
        client = ClientTransaction(b"INVITE", b"b", b"data", FLOW, owner, durations(Timers(), reliable))  # type: ignore[arg-type]
        if Action.SEND not in actions:  # what begins a transaction finds no timer of it
            client.retransmission = stack.queue.set(client, "old", 1.0, 5.0)
            client.deadline = stack.queue.set(client, "old", 2.0, 5.0)
        response = Response(180, b"", [], b"")
        for perform in performing(actions, apart=apart):
            perform(stack, client, response, 7.0)
        timers = sorted((entry[0], entry[2]) for queue in stack.queue._queues.values() for entry in queue if entry[1])
        sent = [(flow, data, sender is client) for flow, data, sender in stack.out]
        ends.append((timers, sent, owner.told, client.state, client.interval, client.data))
    assert ends[0] == ends[1]
