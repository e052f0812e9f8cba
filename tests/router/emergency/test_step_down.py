"""Emergency calls to a trunk by TLS: verified, unverified, TCP, UDP, in virtual time, and what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e911.record import RouteEvent, RouteOutcome
from router.network.approach import STEPS_WAIT, TLS_WAIT
from router.network.trunk_health import place_of
from router.network.trunks import TLS_FAILED_SECONDS, Hop, Way
from sip.flow import TlsPeer
from tests.support.call_world import CONFIG, PROVIDER_B, RELAY, CallWorld, Sent, cancel_of, invite, of, one, response

HOST = "203.0.113.31"
VERIFIED = TlsPeer(HOST, True, "")
UNVERIFIED = TlsPeer(HOST, False, "")
LISTEN = [*CONFIG["listen"], "tls://10.0.0.5:5061"]
OWN = {"certificate": "edge.crt", "private_key": "edge.key"}

Make = Callable[..., CallWorld]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A world whose first provider is reached as told."""

    def made(target: str = f"sip:{HOST};transport=tls", **keys: Any) -> CallWorld:
        trunks = {**CONFIG["trunks"], "ers-a": {"target": target, "probe": "off", **keys}}
        return CallWorld(tmp_path, trunks=trunks, listen=LISTEN, tls=OWN)

    return made


def asked(world: CallWorld) -> tuple[str, int, TlsPeer | None]:
    """What the router asked the edge for last."""
    flow = world.edge.asked[-1]
    return flow.point.transport, flow.port, flow.peer


def invited(out: list[Sent]) -> tuple[str, int, TlsPeer | None]:
    """Where the only INVITE among them went."""
    sent = one(out, "INVITE")
    return sent.transport, sent.to[1], sent.peer


def steps(world: CallWorld) -> list[str]:
    """The steps down in the records."""
    return [event.reason for event in world.events(RouteEvent) if event.outcome is RouteOutcome.STEPPED_DOWN]


def test_verified_tls_is_no_step_and_no_alarm(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    assert not of(world.receive(invite()), "INVITE")
    assert asked(world) == ("tls", 5061, VERIFIED)
    sent = one(world.reached(True), "INVITE")
    assert (sent.transport, sent.to, sent.peer) == ("tls", (HOST, 5061), VERIFIED)
    assert sent.message.start == f"INVITE sip:911@{HOST} SIP/2.0"
    assert sent.message.all("via")[0].startswith("SIP/2.0/TLS 10.0.0.5:5061;")
    assert sent.message.all("record-route")[0].startswith("<sip:10.0.0.5:5061;transport=tls;lr;")
    assert steps(world) == []
    assert not [name for name in world.router.counts if name.startswith("stepped_down")]
    assert not caplog.records
    assert world.router.trunks.states["ers-a"].way is Way.TLS


def test_every_step_down_to_udp(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    world = make()
    world.receive(invite())
    assert not of(world.reached("certificate-expired"), "INVITE")
    assert asked(world) == ("tls", 5061, UNVERIFIED)
    assert not of(world.reached("handshake-failed"), "INVITE")
    assert asked(world) == ("tcp", 5060, None)
    assert invited(world.reached("refused")) == ("udp", 5060, None)
    assert steps(world) == [
        "tls: certificate-expired",
        "tls-unverified: handshake-failed",
        "tcp: refused",
    ]
    assert world.router.counts["stepped_down_to_udp"] == 1
    assert world.router.counts["route_stepped-down"] == 3
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "trunk ers-a: a 911 call goes by udp" in record.getMessage()
    assert "certificate-expired" in record.getMessage()
    assert world.router.trunks.states["ers-a"].way is Way.UDP


@pytest.mark.parametrize("failure", ["certificate-expired", "certificate-untrusted", "certificate-name"])
def test_what_is_wrong_with_a_certificate_is_remembered_and_the_step_is_an_alarm_each_time(
    make: Make, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = make()
    for _ in range(2):
        world.receive(invite())
        if len(world.edge.asked) == 1:
            world.reached(failure)
        assert asked(world) == ("tls", 5061, UNVERIFIED)
        assert invited(world.reached(True)) == ("tls", 5061, UNVERIFIED)
    assert len(world.edge.asked) == 3, "the second call asks for an unverified connection at once"
    assert steps(world) == [f"tls: {failure}"] * 2
    assert world.router.counts["stepped_down_to_tls-unverified"] == 2
    assert len(caplog.records) == 1, "the log says it once a minute"
    assert world.router.trunks.tls_peer_at(HOST, 5061) == UNVERIFIED, "and so does what comes later in the call"
    world.advance(TLS_FAILED_SECONDS + 1)
    world.receive(invite())
    assert asked(world) == ("tls", 5061, VERIFIED)
    world.reached(True)
    assert world.router.trunks.tls_peer_at(HOST, 5061) == VERIFIED


def test_a_closed_port_of_tls_is_tcp_at_once(make: Make) -> None:
    world = make()
    world.receive(invite())
    world.reached("refused")
    assert asked(world) == ("tcp", 5060, None), "where nobody takes a connection, no unverified one is asked for"
    assert invited(world.reached(True)) == ("tcp", 5060, None)
    assert steps(world) == ["tls: refused"]
    world.receive(invite())
    assert asked(world) == ("tls", 5061, VERIFIED), "a refusal costs next to nothing: TLS is tried again each time"


def test_silence_costs_no_more_than_half_a_second_and_once(make: Make) -> None:
    world = make()
    world.receive(invite())
    assert not of(world.advance(TLS_WAIT - 0.01), "INVITE")
    assert len(world.edge.asked) == 1
    assert not of(world.advance(0.02), "INVITE")
    assert asked(world) == ("tcp", 5060, None)
    assert invited(world.advance(STEPS_WAIT - TLS_WAIT)) == ("udp", 5060, None)
    assert steps(world) == ["tls: no-answer", "tcp: no-answer"]
    assert invited(world.receive(invite())) == ("udp", 5060, None), "the next call waits for neither"
    assert steps(world)[2:] == ["tls: no-answer", "tcp: no-answer"]


def test_the_time_of_the_steps_is_the_routes(make: Make) -> None:
    world = make()
    world.receive(invite())
    world.advance(STEPS_WAIT + 0.01)
    assert not of(world.advance(1.4), "INVITE", PROVIDER_B)
    assert of(world.advance(0.12), "INVITE", PROVIDER_B), "2 s after the call came"


def test_of_a_short_timeout_only_a_part_is_for_the_steps(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "ers-a": {"target": f"sip:{HOST};transport=tls", "probe": "off"}}
    emergency = {**CONFIG["emergency"]}
    emergency["routes"] = [{**emergency["routes"][0], "timeout": "500ms"}, emergency["routes"][1]]
    world = CallWorld(tmp_path, trunks=trunks, listen=LISTEN, tls=OWN, emergency=emergency)
    world.receive(invite())
    assert of(world.advance(0.25), "INVITE", (HOST, 5060))


def one_hop(world: CallWorld) -> Hop:
    """The one place of the first provider."""
    (hop,) = world.router.trunks.hops("ers-a")
    return hop


def gone_by_udp(world: CallWorld, call: bytes = b"") -> tuple[Sent, Callable[[str], None]]:
    """The INVITE that went by UDP as TLS took too long, and what says that TLS stands after all."""
    world.receive(call or invite())
    sent = one(world.advance(STEPS_WAIT + 0.01), "INVITE")
    assert sent.transport == "udp"
    return sent, world.edge.waiting[0]


def test_a_connection_that_comes_late_serves_the_next_call(make: Make) -> None:
    world = make()
    sent, late = gone_by_udp(world)
    world.receive(response(sent.message, 100), (HOST, 5060))
    late("")
    assert not of(world.sent(), "INVITE"), "this call has gone another way"
    world.receive(invite())
    assert asked(world) == ("tls", 5061, VERIFIED)


def test_and_this_one_where_nothing_came_by_another_way(make: Make) -> None:
    world = make()
    sent, late = gone_by_udp(world)
    world.advance(0.5)
    late("")
    by_tls = one(world.sent(), "INVITE")
    assert (by_tls.transport, by_tls.peer) == ("tls", VERIFIED)
    assert by_tls.message.branch != sent.message.branch
    assert by_tls.message.all("record-route")[0].startswith("<sip:10.0.0.5:5061;transport=tls;lr;")
    world.receive(response(by_tls.message, 100), (HOST, 5061), "tls")
    assert not of(world.advance(3), "INVITE", PROVIDER_B), "it has the call for its progress_timeout"
    assert of(world.receive(response(by_tls.message, 180), (HOST, 5061), "tls"), 180)


def test_a_silent_one_costs_no_more_than_the_time_of_the_route_and_an_answer(make: Make) -> None:
    world = make()
    _, late = gone_by_udp(world)
    late("")
    one(world.sent(), "INVITE")
    assert not of(world.advance(1.4), "INVITE", PROVIDER_B)
    assert of(world.advance(0.2), "INVITE", PROVIDER_B)


def test_a_late_one_may_ring_although_the_next_route_has_begun(make: Make) -> None:
    world = make()
    _, late = gone_by_udp(world)
    backup = one(world.advance(1.55), "INVITE", PROVIDER_B)
    late("")
    by_tls = one(world.sent(), "INVITE")
    assert by_tls.transport == "tls"
    assert not of(world.advance(1), "INVITE", RELAY), "the backup keeps its time"
    world.receive(response(backup.message, 100), PROVIDER_B)
    rings = world.receive(response(by_tls.message, 180), (HOST, 5061), "tls")
    assert of(rings, 180)
    assert of(rings, "CANCEL", PROVIDER_B)


@pytest.mark.parametrize("end", ["rings", "cancelled"])
def test_it_comes_too_late_for_a_call_that_is_served_or_over(make: Make, end: str) -> None:
    world, call = make(), invite()
    _, late = gone_by_udp(world, call)
    backup = one(world.advance(1.55), "INVITE", PROVIDER_B)
    if end == "rings":
        world.receive(response(backup.message, 180), PROVIDER_B)
    else:
        world.receive(cancel_of(call))
    late("")
    assert not of(world.sent(), "INVITE")


def test_tls_that_stands_while_tcp_is_awaited_is_taken(make: Make) -> None:
    world = make()
    world.receive(invite())
    world.advance(TLS_WAIT + 0.01)
    assert asked(world) == ("tcp", 5060, None)
    world.edge.waiting[0]("")
    assert invited(world.sent()) == ("tls", 5061, VERIFIED)


def test_tls_that_is_being_opened_is_waited_for_where_no_other_way_is(make: Make) -> None:
    world = make(f"sip:{HOST}:6000;transport=tls")
    world.receive(invite())
    world.advance(TLS_WAIT + 0.01)
    tls = world.edge.waiting[0]
    udp = one(world.reached("refused"), "INVITE")
    assert udp.transport == "udp"
    assert not of(world.unreachable(udp) + world.advance(1), "INVITE"), "the peer may be far away"
    tls("")
    assert invited(world.sent()) == ("tls", 6000, VERIFIED)


def test_also_where_the_last_other_way_is_silent_tcp_at_the_port_of_tls(make: Make) -> None:
    world = make(f"sip:{HOST}:6000;transport=tls")
    world.router.trunks.states["ers-a"].note(Way.TCP, one_hop(world).flow, "no-answer", world.now)
    world.receive(invite())
    udp = one(world.advance(TLS_WAIT + 0.01), "INVITE")
    tls = world.edge.waiting[0]
    assert not of(world.unreachable(udp), "INVITE", PROVIDER_B)
    assert invited(world.reached(True)) == ("tcp", 6000, None)
    assert not of(world.advance(0.9), "INVITE", PROVIDER_B)
    tls("")
    assert invited(world.sent()) == ("tls", 6000, VERIFIED)


@pytest.mark.parametrize("ends", ["silence", "handshake-failed"])
def test_no_longer_than_the_route_has(make: Make, ends: str) -> None:
    world = make(tls="require")
    world.receive(invite())
    assert not of(world.advance(1.9), "INVITE"), "require: there is no other way"
    if ends == "silence":
        sent = world.advance(0.11)
    else:
        world.edge.waiting[0](ends)
        sent = world.sent()
    assert of(sent, "INVITE", PROVIDER_B)


def test_what_is_known_to_be_silent_is_not_waited_for_again(make: Make) -> None:
    world = make(tls="require")
    world.receive(invite())
    assert of(world.advance(2.01), "INVITE", PROVIDER_B)
    call = invite(number=77)
    world.receive(call)
    assert of(world.advance(TLS_WAIT + 0.01), "INVITE", PROVIDER_B)


def test_a_caller_who_hangs_up_while_tls_is_awaited_is_let_go(make: Make) -> None:
    world, call = make(tls="require"), invite()
    world.receive(call)
    world.advance(1)
    assert of(world.receive(cancel_of(call)), 487)
    world.edge.waiting[0]("")
    assert not of(world.sent() + world.advance(3), "INVITE")


def test_a_known_down_provider_far_away_has_what_the_line_takes_beside_its_half_second(tmp_path: Path) -> None:
    far = {"target": f"sip:{HOST};transport=tls", "probe": "off"}
    emergency = {**CONFIG["emergency"]}
    emergency["routes"] = emergency["routes"][:1]
    world = CallWorld(
        tmp_path, trunks={**CONFIG["trunks"], "ers-a": far}, listen=LISTEN, tls=OWN, emergency=emergency
    )
    world.router.trunks.health.down[place_of(one_hop(world).flow)] = "no-answer"
    world.edge.line = 0.6
    world.receive(invite())
    assert invited(world.reached(True)) == ("tls", 5061, VERIFIED)
    assert not of(world.advance(1.05), "INVITE", RELAY)
    assert of(world.advance(0.1), "INVITE", RELAY)


def test_something_that_speaks_no_tls_at_the_port_of_tls_is_asked_in_tcp_there(make: Make) -> None:
    world = make()
    world.receive(invite())
    world.reached("handshake-failed")
    world.reached("handshake-failed")
    assert asked(world) == ("tcp", 5060, None)
    world.reached("refused")
    assert asked(world) == ("tcp", 5061, None)
    assert invited(world.reached(True)) == ("tcp", 5061, None)


def test_a_port_that_is_written_serves_all_ways(make: Make) -> None:
    world = make(f"sip:{HOST}:6000;transport=tls")
    world.receive(invite())
    world.reached("refused")
    assert asked(world) == ("tcp", 6000, None)
    assert invited(world.reached("refused")) == ("udp", 6000, None)


def test_what_is_silent_in_tls_and_takes_a_tcp_connection_has_half_a_second_to_answer_there(make: Make) -> None:
    world = make(f"sip:{HOST}:6000;transport=tls")
    world.receive(invite())
    world.advance(TLS_WAIT + 0.01)
    assert asked(world) == ("tcp", 6000, None)
    doubtful = one(world.reached(True), "INVITE")
    assert doubtful.transport == "tcp"
    assert not of(world.advance(0.48), "INVITE")
    udp = one(world.advance(0.04), "INVITE")
    assert udp.transport == "udp"
    assert udp.message.branch != doubtful.message.branch
    assert steps(world) == ["tls: no-answer", "tcp: no-answer"]
    # Whoever answers, answers.
    out = world.receive(response(doubtful.message, 200), (HOST, 6000), "tcp")
    assert one(out, 200)
    assert invited(world.receive(invite())) == ("udp", 6000, None), "the next call waits for neither"


def test_where_udp_is_closed_what_was_known_to_fail_is_tried_before_the_route_is_given_up(make: Make) -> None:
    world = make(f"sip:{HOST}:6000;transport=tls")
    world.receive(invite())
    world.advance(STEPS_WAIT + 0.01)
    world.receive(invite(number=77))
    out = world.receive(invite(number=78))
    udp = one(out, "INVITE")
    assert udp.transport == "udp"
    world.unreachable(udp)
    assert asked(world) == ("tls", 6000, VERIFIED)
    assert invited(world.reached(True)) == ("tls", 6000, VERIFIED)


def test_require_steps_nowhere(make: Make) -> None:
    world = make(tls="require")
    world.receive(invite())
    assert asked(world) == ("tls", 5061, VERIFIED)
    out = world.reached("certificate-expired")
    assert of(out, "INVITE", PROVIDER_B), "the next route, at once"
    assert len(world.edge.asked) == 1
    (event,) = [event for event in world.events(RouteEvent) if event.outcome is RouteOutcome.UNREACHABLE]
    assert event.reason == "tls: certificate-expired"


def test_prefer_has_tls_before_what_the_target_names(make: Make) -> None:
    world = make(f"sip:{HOST}:5060", tls={"policy": "prefer", "name": "sbc.example.com", "ca": "ca.pem"})
    world.receive(invite())
    assert asked(world) == ("tls", 5061, TlsPeer("sbc.example.com", True, "ca.pem"))
    world.reached("refused")
    assert asked(world) == ("tcp", 5060, None)
    assert invited(world.reached(True)) == ("tcp", 5060, None)


def test_a_connection_that_breaks_under_the_invite_is_replaced_once_then_stepped_down_from(make: Make) -> None:
    world = make()
    world.receive(invite())
    world.reached(True)
    for count in (2, 3):
        (client,) = world.router.stack.clients.values()
        world.router.stack.transport_failed(client, world.now)
        assert len(world.edge.asked) == count
        if count == 2:
            assert asked(world) == ("tls", 5061, VERIFIED)
            assert invited(world.reached(True)) == ("tls", 5061, VERIFIED)
    assert asked(world) == ("tls", 5061, UNVERIFIED)
    assert steps(world) == []
    world.reached(True)
    assert steps(world) == ["tls: broken"]


def test_a_dead_connection_to_a_tcp_trunk_is_replaced_once(make: Make) -> None:
    world = make(f"sip:{HOST};transport=tcp")
    assert invited(world.receive(invite())) == ("tcp", 5060, None)
    (client,) = world.router.stack.clients.values()
    world.router.stack.transport_failed(client, world.now)
    assert invited(world.sent()) == ("tcp", 5060, None)
    (client,) = world.router.stack.clients.values()
    world.router.stack.transport_failed(client, world.now)
    assert invited(world.sent())[1:] == (5060, None)
    assert world.router.counts["route_unreachable"] == 1


def test_cancel_while_a_handshake_goes_on_ends_the_call(make: Make) -> None:
    world = make()
    raw = invite()
    world.receive(raw)
    assert one(world.receive(cancel_of(raw)), 487)
    assert not of(world.reached(True), "INVITE")
    assert not of(world.advance(5.0), "INVITE")


def test_ringing_elsewhere_ends_the_steps(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "ers-b": {"target": "sip:203.0.113.32;transport=tls", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks, listen=LISTEN, tls=OWN)
    first = one(world.receive(invite()), "INVITE")
    world.advance(2.1)
    assert asked(world)[0] == "tls"
    world.receive(response(first.message, 180), (HOST, 5060))
    assert not of(world.reached("certificate-expired"), "INVITE")
    assert not of(world.advance(1.0), "INVITE")
