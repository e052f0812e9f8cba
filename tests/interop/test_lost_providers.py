"""Providers that vanish while a 911 call rings there, on real connections: killed, cut off, or only started again."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import kamailio_hosts
from tests.support.raw_sip import Arrived, Call, Peer
from tests.support.world import Place, Plan, World, world

pytestmark = pytest.mark.peers

PLANS = {
    "killed": Plan(timeout="30s", tcp=("provider_a",)),
    "reset": Plan(timeout="30s", tcp=("provider_a",)),
    "closed": Plan(timeout="30s", tcp=("provider_a",)),
    "deaf": Plan(timeout="600ms", tcp=("provider_a",)),
    "back": Plan(timeout="30s", tcp=("provider_a",), routes=("provider_a",), basic=False),
    "gone": Plan(timeout="600ms", tcp=("provider_a",), routes=("provider_a",), basic=False),
    "hangs-up": Plan(timeout="30s", tcp=("provider_a",), routes=("provider_a",), basic=False),
    "udp": Plan(timeout="600ms", trunk_keys={"provider_a": {"probe": "1s"}}),
}


@pytest.fixture(scope="module")
def lost_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("lost"), PLANS) as found:
        yield found


def reset(arrived: Arrived) -> None:
    """End its connection with RST."""
    assert arrived.connection is not None
    arrived.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    arrived.connection.shutdown(socket.SHUT_RD)  # its thread closes it then


def close(arrived: Arrived) -> None:
    """End its connection with FIN."""
    assert arrived.connection is not None
    arrived.connection.shutdown(socket.SHUT_RDWR)


def rings(place: Place, phone: Peer, provider: Peer) -> tuple[Call, Arrived]:
    """A call that rings at the first provider, and the INVITE it got."""
    call = place.call(phone)
    call.dial()
    first = provider.take("INVITE")
    provider.respond(first, 180)
    phone.take(180)
    return call, first


def test_a_provider_whose_process_is_killed_gets_the_next_route_beside_it(lost_world: World) -> None:
    place = lost_world["killed"]
    with place.peer("phone") as phone, place.peer("provider_b") as second:
        with place.peer("provider_a") as provider:
            call, _ = rings(place, phone, provider)
        invited = second.take("INVITE")
        second.respond(invited, 180, to_tag="b")
        second.respond(invited, 200, to_tag="b")
        assert call.answered().tag("to") == "b"
        second.take("ACK")


@pytest.mark.parametrize(("name", "end"), [("reset", reset), ("closed", close)])
def test_a_provider_that_lost_only_the_connection_keeps_the_call(
    lost_world: World, name: str, end: Callable[[Arrived], None]
) -> None:
    place = lost_world[name]
    with place.peer("phone") as phone, place.peer("provider_a") as provider, place.peer("provider_b") as second:
        call, first = rings(place, phone, provider)
        end(first)
        again = provider.take("INVITE")
        assert again.message.raw == first.message.raw
        assert again.connection is not first.connection
        provider.respond(again, 180)
        phone.take(180)
        provider.respond(again, 200)
        call.answered()
        provider.take("ACK")
        assert not second.messages("INVITE")


def test_a_provider_that_answers_by_a_connection_of_its_own_has_the_call(lost_world: World) -> None:
    """RFC 3261 section 18.2.2: where the connection is gone, a response goes to the address in Via."""
    place = lost_world["deaf"]
    with place.peer("phone") as phone, place.peer("provider_a") as provider, place.peer("provider_b") as second:
        call, first = rings(place, phone, provider)
        close(first)
        invited = second.take("INVITE")
        second.respond(invited, 100)
        raw = provider.respond(provider.take("INVITE"), 200)
        provider.send(raw, place.router, "tcp")
        assert call.answered().tag("to") == f"to-{provider.at.port}"
        second.take("CANCEL")


def test_the_only_provider_started_again_gets_the_call(lost_world: World) -> None:
    place = lost_world["back"]
    with place.peer("phone") as phone:
        with place.peer("provider_a") as provider:
            call, _ = rings(place, phone, provider)
        with place.peer("provider_a") as provider:
            again = provider.take("INVITE")
            provider.respond(again, 180, to_tag="new")
            phone.take(180)
            provider.respond(again, 200, to_tag="new")
            assert call.answered().tag("to") == "new"


def test_the_only_provider_that_stays_away_is_told_to_the_caller_and_the_desk(lost_world: World) -> None:
    place = lost_world["gone"]
    with place.peer("phone") as phone:
        with place.peer("provider_a") as provider:
            call, _ = rings(place, phone, provider)
        call.refused(503)
    assert [text for text in place.notices(2) if "NOT" in text.upper()]


def test_a_caller_who_hangs_up_meanwhile_does_not_wait(lost_world: World) -> None:
    place = lost_world["hangs-up"]
    with place.peer("phone") as phone:
        with place.peer("provider_a") as provider:
            call, _ = rings(place, phone, provider)
        call.send(call.cancel())
        call.refused(487)


@pytest.mark.long
@pytest.mark.peers("kamailio")
def test_kamailio_answers_by_a_connection_of_its_own_once_we_are_back(tmp_path: Path) -> None:
    """It connects to the port in the sent-by of our Via; with rport there it tried the one that we had come from."""
    with ExitStack() as stack:
        plan = Plan(timeout="30s", tcp=("provider_a",), routes=("provider_a",), basic=False)
        found = stack.enter_context(world(tmp_path, {"restarted": plan}))
        place = found["restarted"]
        psap_at = place.street["provider_b"]
        phone, psap = stack.enter_context(place.peer("phone")), stack.enter_context(Peer(psap_at, tcp=False))
        stack.enter_context(kamailio_hosts.provider(place.folder, at=place.street["provider_a"], psap=psap_at))
        call, first = rings(place, phone, psap)
        found.router.restart(kill=True)
        psap.respond(first, 200)
        call.answered()
        psap.take("ACK")


def test_a_provider_by_udp_that_dies_while_it_rings_gets_the_next_route_beside_it(lost_world: World) -> None:
    place = lost_world["udp"]
    trunk = place.trunk("provider_a")
    lost_world.router.wait_for_log(f"trunk {trunk} is down")
    with place.peer("phone") as phone, place.peer("provider_b") as second:
        with place.peer("provider_a") as provider:
            lost_world.router.wait_for_log(f"trunk {trunk} is up again")
            call, _ = rings(place, phone, provider)
            assert not second.messages("INVITE")
        invited = second.take("INVITE")
        second.respond(invited, 200, to_tag="b")
        assert call.answered().tag("to") == "b"
