"""Where we send from and to, while addresses of ours and of trunks come and go."""

from pathlib import Path

import pytest

from router.network import listening
from router.network.listening import ADDRESS_SECONDS, ListeningPoints
from router.network.lookups import Resolver
from router.network.trunks import TCP_REFUSED_SECONDS, Trunks, Way
from sip.flow import ListeningPoint
from tests.support.call_world import CallWorld


class Network:
    """What the system says of our addresses; `now` is its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.address = ""
        self.asked = 0
        monkeypatch.setattr(listening, "local_address_towards", self._towards)
        monkeypatch.setattr(listening, "is_local_address", lambda host: host == self._towards(host))

    def _towards(self, _peer: str) -> str:
        self.asked += 1
        return self.address

    def points(self, *transports: str) -> ListeningPoints:
        return ListeningPoints([ListeningPoint(one, "0.0.0.0", 5060) for one in transports], lambda: self.now)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


def test_a_network_that_was_down_is_used_as_soon_as_it_is_up(network: Network) -> None:
    points = network.points("udp")
    (wildcard,) = points.points
    assert points.choose("udp", "203.0.113.31") is wildcard
    assert points.localise(wildcard, "203.0.113.31") is wildcard
    assert not points.is_own("10.0.0.5", 5060)
    network.address = "10.0.0.5"
    chosen = points.choose("udp", "203.0.113.31")
    assert chosen is not None
    assert (chosen.host, chosen.base) == ("10.0.0.5", wildcard)
    assert points.localise(wildcard, "203.0.113.31") is chosen
    assert points.is_own("10.0.0.5", 5060)


def test_an_address_that_changes_is_noticed_after_seconds_and_not_asked_for_each_message(network: Network) -> None:
    points = network.points("udp")
    network.address = "10.0.0.5"
    for _ in range(100):
        assert points.choose("udp", "203.0.113.31") is points.choose("udp", "203.0.113.31")
        assert points.is_own("10.0.0.5", 5060)
    assert network.asked == 2
    network.address = "10.0.0.6"
    network.now += ADDRESS_SECONDS
    chosen = points.choose("udp", "203.0.113.31")
    assert chosen is not None
    assert chosen.host == "10.0.0.6"
    assert not points.is_own("10.0.0.5", 5060)
    assert points.is_own("10.0.0.6", 5060)


def test_connections_opened_without_a_tcp_listener_keep_nothing_of_a_failed_look_up(network: Network) -> None:
    points = network.points("udp")
    down = points.choose("tcp", "203.0.113.31")
    network.address = "10.0.0.5"
    up = points.choose("tcp", "203.0.113.31")
    assert down is not None
    assert up is not None
    assert (down.host, up.host, up.transport) == ("0.0.0.0", "10.0.0.5", "tcp")
    assert up.record_route_uri == b"sip:10.0.0.5:5060;lr"
    assert points.choose("tcp", "203.0.113.31") is up


def test_what_was_learnt_of_a_trunk_stays_while_its_configuration_does(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    before = world.router.trunks
    flow = before.hops("ers-a")[0].flow
    before.states["ers-a"].note(Way.TCP, flow, "refused", 5.0)
    before.states["ers-b"].note(Way.TCP, flow, "refused", 5.0)
    config = world.setup().rules.config
    changed = config.trunks["ers-b"].model_copy(update={"large_messages": "tcp"})
    config = config.model_copy(update={"trunks": {**config.trunks, "ers-b": changed}})
    after = Trunks(config, world.points, Resolver(), before)
    assert after.states["ers-a"].failure(Way.TCP, flow, 6.0) == "refused"
    assert after.states["ers-a"].failure(Way.TCP, flow, 5.0 + TCP_REFUSED_SECONDS + 1) == ""
    assert after.states["ers-b"].failure(Way.TCP, flow, 6.0) == ""
