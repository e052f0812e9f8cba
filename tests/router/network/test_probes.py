"""Probes in virtual time: who counts as up and down, from when on, and that calls then lose no time."""

import logging
from pathlib import Path
from typing import Any

import pytest

from e911.record import CallIntent, RouteEvent, RouteOutcome
from router.network.probes import Probes
from tests.support.call_world import (
    CARRIER,
    CONFIG,
    KEY,
    PBX,
    PROVIDER_A,
    PROVIDER_B,
    RELAY,
    CallWorld,
    Sent,
    invite,
    of,
    one,
    response,
)


def trunks(**changes: dict[str, Any]) -> dict[str, Any]:
    """CONFIG's trunks, probed every 30 s; changes replace keys of some."""
    probed = {name: {**trunk, "probe": "30s"} for name, trunk in CONFIG["trunks"].items()}
    for name, keys in changes.items():
        probed[name.replace("_", "-")] |= keys
    return probed


class ProbedWorld(CallWorld):
    """A world whose trunks are probed; `dead` say nothing, all others 200."""

    def __init__(self, folder: Path, **changes: dict[str, Any]) -> None:
        super().__init__(folder, trunks=trunks(**changes))
        self.statuses: dict[tuple[str, int], int] = {}
        self.dead: set[tuple[str, int]] = set()
        self.closed: set[tuple[str, int]] = set()
        self.probes = Probes(
            self.router.stack,
            self.router.trunks.health,
            key=KEY,
            domain="edge.example.com",
            began=1.0,
            now=lambda: self.now,
            renew=self.edge.renew,
        )
        self.probes.use(self.router.trunks)

    def live(self, seconds: float) -> list[Sent]:
        """Time passes, and probed trunks answer; what else went out."""
        others = []
        end = self.now + seconds
        while self.now < end:
            due = self.router.stack.queue.earliest
            sent = self.advance(min(max(due - self.now, 0.0) + 1e-6, end - self.now))
            while sent:
                item = sent.pop(0)
                if not (item.message.is_request and item.message.method == "OPTIONS"):
                    others.append(item)
                elif item.to in self.closed:
                    sent += self.unreachable(item)
                elif item.to not in self.dead:
                    status = self.statuses.get(item.to, 200)
                    sent += self.receive(response(item.message, status), item.to, item.transport)
        return others

    def dial(self) -> list[Sent]:
        return self.receive(invite())


@pytest.fixture
def world(tmp_path: Path) -> ProbedWorld:
    return ProbedWorld(tmp_path)


def test_every_trunk_is_asked_soon_after_the_start_and_then_at_its_interval(world: ProbedWorld) -> None:
    sent = of(world.advance(0.65), "OPTIONS")
    assert {item.to for item in sent} == {PBX, CARRIER, PROVIDER_A, PROVIDER_B, RELAY}
    first = one(sent, "OPTIONS", PROVIDER_A).message
    assert first.start == "OPTIONS sip:203.0.113.31:5060 SIP/2.0"
    assert first.get("from").startswith("<sip:edge911@edge.example.com>;tag=")
    assert first.get("contact") == "<sip:10.0.0.5:5060>"
    for item in sent:
        world.receive(response(item.message, 200), item.to)
    assert not of(world.advance(28.9), "OPTIONS")
    again = one(world.advance(1.2), "OPTIONS", PROVIDER_A).message
    assert again.call_id == first.call_id
    assert (first.get("cseq"), again.get("cseq")) == ("1 OPTIONS", "2 OPTIONS")


def test_a_place_that_dns_did_not_name_for_a_moment_is_probed_on(
    world: ProbedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.live(1)
    with monkeypatch.context() as away:
        away.setattr(world.router.trunks, "hops", lambda *_: [])
        world.live(60)
    world.probes.use(world.router.trunks)
    world.dead.add(PROVIDER_A)
    world.live(60)
    assert world.probes.states()["ers-a"] == "down"


def test_off_is_off(tmp_path: Path) -> None:
    world = ProbedWorld(tmp_path, ers_a={"probe": "off"})
    assert not of(world.advance(100), "OPTIONS", PROVIDER_A)
    assert world.probes.states()["ers-a"] == "not-probed"


@pytest.mark.parametrize("status", [200, 302, 401, 404, 405, 481, 483, 500, 501, 603])
def test_any_answer_means_up(world: ProbedWorld, status: int) -> None:
    world.statuses[PROVIDER_A] = status
    world.live(100)
    assert world.probes.states()["ers-a"] == "up"
    assert world.probes.up()["ers-a"] == 1.0


@pytest.mark.parametrize(
    ("manner", "reason"), [("silent", "no-answer"), ("closed", "unreachable"), ("503", "unavailable")]
)
def test_two_misses_in_a_row_mean_down_and_one_answer_up_again(
    world: ProbedWorld, manner: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.live(31)
    assert set(world.probes.states().values()) == {"up"}
    if manner == "silent":
        world.dead.add(PROVIDER_A)
    elif manner == "closed":
        world.closed.add(PROVIDER_A)
    else:
        world.statuses[PROVIDER_A] = 503
    world.live(36)
    assert world.probes.states() == {**dict.fromkeys(CONFIG["trunks"], "up"), "ers-a": "down"}
    assert world.probes.places_up()["udp:203.0.113.31:5060"] == 0.0
    assert f"trunk ers-a is down at udp:203.0.113.31:5060 ({reason})" in caplog.text
    world.dead.clear()
    world.closed.clear()
    world.statuses.clear()
    world.live(13)
    assert world.probes.states()["ers-a"] == "up"
    assert caplog.text.count("is up again") == 1
    assert caplog.text.count("is down") == 1
    assert not world.router.trunks.health.down


def test_one_lost_probe_is_no_news(world: ProbedWorld) -> None:
    world.live(29)
    world.dead.add(PROVIDER_A)
    world.live(3.5)
    world.dead.clear()
    world.live(5)
    assert world.probes.counts["no-answer"] == 1
    assert world.probes.states()["ers-a"] == "up"


def test_a_known_down_trunk_costs_a_call_nothing_and_is_tried_last(world: ProbedWorld) -> None:
    world.dead.add(PROVIDER_A)
    world.live(6)
    sent = one(world.dial(), "INVITE", PROVIDER_B)
    (intent,) = world.events(CallIntent)
    assert intent.first_route == "backup"
    sent = one(world.receive(response(sent.message, 486), PROVIDER_B), "INVITE", PROVIDER_A)
    assert one(world.unreachable(sent), "INVITE", RELAY), "basic 911 stays last"
    assert [(event.route, event.outcome, event.reason) for event in world.events(RouteEvent)][:2] == [
        ("primary", RouteOutcome.POSTPONED, "trunk-down"),
        ("backup", RouteOutcome.STARTED, ""),
    ]


def test_basic_911_that_lives_waits_no_longer_than_t1_for_routes_known_to_be_down(world: ProbedWorld) -> None:
    world.dead |= {PROVIDER_A, PROVIDER_B}
    world.live(6)
    began = world.now
    one(world.dial(), "INVITE", PROVIDER_A)
    assert one(world.advance(0.51), "INVITE", PROVIDER_B)
    assert one(world.advance(0.51), "INVITE", RELAY)
    assert world.now - began < 1.1
    started = [event for event in world.events(RouteEvent) if event.outcome is RouteOutcome.STARTED]
    assert [(event.route, event.reason) for event in started] == [
        ("primary", "known-down"),
        ("backup", "known-down"),
        ("relay", ""),
    ]


def test_a_route_that_only_seemed_to_be_down_keeps_its_call_and_its_time(world: ProbedWorld) -> None:
    """A provider that answers calls and no OPTIONS: a wrong guess costs the caller nothing."""
    world.dead |= {PROVIDER_A, PROVIDER_B}
    world.live(6)
    sent = one(world.dial(), "INVITE", PROVIDER_A)
    world.advance(0.3)
    world.receive(response(sent.message, 100), PROVIDER_A)
    assert not of(world.advance(3), "INVITE", PROVIDER_B)
    assert not of(world.advance(0), "INVITE", RELAY)


def test_a_route_given_up_so_soon_may_still_take_the_call(world: ProbedWorld) -> None:
    world.dead |= {PROVIDER_A, PROVIDER_B}
    world.live(6)
    first = one(world.dial(), "INVITE", PROVIDER_A)
    one(world.advance(0.51), "INVITE", PROVIDER_B)
    one(world.advance(0.51), "INVITE", RELAY)
    sent = world.receive(response(first.message, 180), PROVIDER_A)
    assert [item.message.status for item in sent if not item.message.is_request] == [180]


def test_where_basic_911_is_down_too_each_route_has_its_whole_time(world: ProbedWorld) -> None:
    world.dead |= {PROVIDER_A, PROVIDER_B, RELAY}
    world.live(6)
    one(world.dial(), "INVITE", PROVIDER_A)
    assert not of(world.advance(1.9), "INVITE", PROVIDER_B)
    assert one(world.advance(0.2), "INVITE", PROVIDER_B)


def test_where_all_are_down_all_are_tried_in_order(world: ProbedWorld) -> None:
    world.dead |= {PROVIDER_A, PROVIDER_B, RELAY}
    world.live(6)
    assert {place[1] for place in world.router.trunks.health.down} >= {PROVIDER_A[0], PROVIDER_B[0], RELAY[0]}
    sent = one(world.dial(), "INVITE", PROVIDER_A)
    assert one(world.unreachable(sent), "INVITE", PROVIDER_B)


def test_the_branch_is_that_of_the_route_wherever_it_comes(world: ProbedWorld) -> None:
    raw = invite()
    first = one(world.receive(raw), "INVITE", PROVIDER_A)
    second = one(world.unreachable(first), "INVITE", PROVIDER_B)
    world.start(trunks=trunks())
    world.router.trunks.health.down["udp", *PROVIDER_A] = "no-answer"
    assert one(world.receive(raw), "INVITE", PROVIDER_B).message.branch == second.message.branch


def test_ordinary_calls_try_it_last_too(tmp_path: Path) -> None:
    world = ProbedWorld(tmp_path)
    world.start(trunks=trunks(), routes={"outbound": ["carrier", "relay"], "inbound": ["pbx"]})
    world.router.trunks.health.down["udp", *CARRIER] = "no-answer"
    first = one(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE", RELAY)
    assert one(world.unreachable(first), "INVITE", CARRIER)


def test_of_several_targets_the_one_that_is_down_comes_last(tmp_path: Path) -> None:
    targets = ["sip:203.0.113.31:5060", "sip:203.0.113.33:5060"]
    world = ProbedWorld(tmp_path, ers_a={"target": None, "targets": targets})
    world.dead.add(PROVIDER_A)
    world.live(6)
    assert world.probes.states()["ers-a"] == "up", "one of them is"
    first = one(world.dial(), "INVITE", ("203.0.113.33", 5060))
    assert not of(world.advance(1.9), "INVITE", PROVIDER_A), "it takes no share of the time"
    assert one(world.unreachable(first), "INVITE", PROVIDER_A)


def test_a_call_that_gets_no_answer_has_the_trunk_probed_at_once(world: ProbedWorld) -> None:
    world.live(5)
    world.closed.add(PROVIDER_A)
    world.unreachable(one(world.dial(), "INVITE", PROVIDER_A))
    world.live(0.1)
    assert world.probes.states()["ers-a"] == "down"
    assert one(world.dial(), "INVITE", PROVIDER_B)


def test_a_call_that_is_answered_makes_it_up(world: ProbedWorld) -> None:
    world.dead |= {PROVIDER_A, PROVIDER_B}
    world.live(6)
    sent = one(world.dial(), "INVITE", PROVIDER_A)
    world.receive(response(sent.message, 100), PROVIDER_A)
    assert world.probes.states()["ers-a"] == "up"
    assert world.probes.states()["ers-b"] == "down"


def test_silence_to_options_says_nothing_of_a_provider_that_has_answered_a_call(
    world: ProbedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """Some providers let no OPTIONS through: after their first call they come in their order, with their time."""
    world.dead |= {PROVIDER_A, PROVIDER_B}
    world.live(8)
    first = one(world.dial(), "INVITE")
    assert first.to == PROVIDER_A
    world.live(0.6)
    world.receive(response(first.message, 180), PROVIDER_A)
    assert "trunk ers-a answers calls at udp:203.0.113.31:5060, and no OPTIONS" in caplog.text
    world.receive(response(first.message, 200), PROVIDER_A)
    world.live(120)
    assert world.probes.states()["ers-a"] == "up"
    assert world.probes.states()["ers-b"] == "down"
    later = one(world.dial(), "INVITE")
    assert later.to == PROVIDER_A
    assert not of(world.live(1.9), "INVITE", RELAY), "it has its whole time"
    assert of(world.live(0.2), "INVITE", PROVIDER_B), "which ends as ever"
    world.live(5)
    assert world.probes.states()["ers-a"] == "down", "silent to calls, too"


def test_a_closed_port_counts_also_where_a_call_was_answered(world: ProbedWorld) -> None:
    world.dead.add(PROVIDER_B)
    world.live(8)
    first = one(world.dial(), "INVITE", PROVIDER_A)
    backup = one(world.receive(response(first.message, 503), PROVIDER_A), "INVITE", PROVIDER_B)
    world.receive(response(backup.message, 200), PROVIDER_B)
    assert world.probes.states()["ers-b"] == "up"
    world.closed.add(PROVIDER_B)
    world.live(40)
    assert world.probes.states()["ers-b"] == "down"


def test_a_reload_keeps_what_is_known_and_follows_the_trunks(world: ProbedWorld) -> None:
    world.dead.add(PROVIDER_A)
    world.live(6)
    health = world.router.trunks.health
    changed = {"target": "sip:203.0.113.99:5060"}
    setup = world.setup(trunks=trunks(ers_b=changed))
    assert setup.trunks.health is not health
    setup.trunks.health = health  # as the process makes it, from the one before
    world.router.use(setup)
    world.probes.use(setup.trunks)
    assert world.probes.states()["ers-a"] == "down"
    assert of(world.advance(1.1), "OPTIONS", ("203.0.113.99", 5060))
    assert not of(world.advance(120), "OPTIONS", PROVIDER_B)


def test_a_silent_connection_is_not_asked_again(tmp_path: Path) -> None:
    world = ProbedWorld(tmp_path, ers_a={"target": "sip:203.0.113.31:5060;transport=tcp"})
    world.dead.add(PROVIDER_A)
    world.live(4)
    assert [(flow.host, flow.port) for flow in world.edge.renewed][:1] == [PROVIDER_A]


def test_after_the_end_nothing_is_sent(world: ProbedWorld) -> None:
    world.live(5)
    world.probes.stop()
    world.probes.use(world.router.trunks)
    assert not world.advance(500)
    assert not world.router.stack.clients


def test_a_flood_of_failed_calls_is_no_flood_of_probes(world: ProbedWorld) -> None:
    world.live(5)
    world.dead.add(PROVIDER_A)
    sent = [one(world.dial(), "INVITE", PROVIDER_A) for _ in range(20)]
    asked = 0
    for item in sent:
        world.unreachable(item)
        asked += len(of(world.advance(0.001), "OPTIONS", PROVIDER_A))
    assert asked == 1
