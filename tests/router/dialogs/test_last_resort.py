"""Requests in an answered emergency call whose PSAP names a place that is not there."""

from pathlib import Path

import pytest

from tests.support.call_world import PHONE, PROVIDER_A, CallWorld, Sent, invite, of, one, response

CLOSED = b"Contact: <sip:psap@203.0.113.31:5999;transport=tcp>"
URI = "sip:psap@203.0.113.31:5999;transport=tcp"


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def answered(world: CallWorld) -> Sent:
    """A call by UDP whose PSAP names a TCP port."""
    sent = one(world.receive(invite()), "INVITE", PROVIDER_A)
    ok = response(sent.message, 200).replace(b"Contact: <sip:psap@203.0.113.31:5060>", CLOSED)
    assert one(world.receive(ok, PROVIDER_A), 200).to == PHONE
    return sent


def dialog_request(world: CallWorld, sent: Sent, method: str, *, cseq: int = 2) -> list[Sent]:
    routes = sent.message.all("record-route")
    return world.receive(world.in_dialog(sent.message, method, URI, routes, cseq=cseq))


def fails(world: CallWorld, sent: Sent) -> list[Sent]:
    """Its connection cannot be had."""
    (client,) = [one for one in world.router.stack.clients.values() if sent.message.branch.encode() == one.branch]
    world.router.stack.transport_failed(client, world.now)
    return world.sent()


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO"])
def test_a_request_goes_where_the_call_was_answered_once_the_named_port_is_closed(
    world: CallWorld, method: str
) -> None:
    sent = answered(world)
    first = one(dialog_request(world, sent, method), method)
    assert (first.to, first.transport) == (("203.0.113.31", 5999), "tcp")
    again = one(fails(world, first), method)
    assert (again.to, again.transport) == (PROVIDER_A, "udp")
    assert again.message.start == f"{method} {URI} SIP/2.0"
    assert one(world.receive(response(again.message, 200), PROVIDER_A), 200).to == PHONE


def test_and_so_does_the_next_one(world: CallWorld) -> None:
    """The way that was found before is no way."""
    sent = answered(world)
    for cseq in (2, 3):
        first = one(dialog_request(world, sent, "INFO", cseq=cseq), "INFO")
        assert one(fails(world, first), "INFO").to == PROVIDER_A
    first = one(dialog_request(world, sent, "BYE", cseq=4), "BYE")
    assert one(fails(world, first), "BYE").to == PROVIDER_A


def test_where_nobody_is_there_either_the_phone_hears_of_it(world: CallWorld) -> None:
    sent = answered(world)
    again = one(fails(world, one(dialog_request(world, sent, "BYE"), "BYE")), "BYE")
    assert one(world.unreachable(again), 503).to == PHONE


def test_the_ack_too(world: CallWorld) -> None:
    """Without it the PSAP would hang up after half a minute."""
    sent = answered(world)
    assert not of(dialog_request(world, sent, "ACK", cseq=1), "ACK")
    assert [flow.port for flow in world.edge.asked] == [5999]
    assert one(world.reached(False), "ACK").to == PROVIDER_A
    dialog_request(world, sent, "ACK", cseq=1)
    assert one(world.reached(True), "ACK").to == ("203.0.113.31", 5999)


def test_a_request_of_an_ordinary_call_goes_where_it_is_to_go(world: CallWorld) -> None:
    sent = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE")
    ok = response(sent.message, 200).replace(b"Contact: <sip:psap@203.0.113.31:5060>", CLOSED)
    world.receive(ok, sent.to)
    first = one(dialog_request(world, sent, "BYE"), "BYE")
    out = fails(world, first)
    assert one(out, 503).to == PHONE
    assert not of(out, "BYE")
