"""A way that was found before is the way that would be found: two routers, one of which keeps nothing."""

from pathlib import Path

import pytest

from tests.support.call_world import PHONE, CallWorld, Sent, invite, one, response

PBX = ("10.0.0.10", 5060)
STRANGER = ("198.51.100.77", 5060)
FAR = "sip:far@203.0.113.31:5060"
CALLER = f"sip:4102@{PHONE[0]}:{PHONE[1]}"


class Pair:
    """A router that keeps ways, and one that does not; both hear the same."""

    def __init__(self, folder: Path) -> None:
        self.worlds = []
        for name in ("keeps", "keeps-none"):
            (folder / name).mkdir()
            self.worlds.append(CallWorld(folder / name))
        self.found = 0
        keeps, keeps_none = (world.router.ways for world in self.worlds)
        find = keeps.find

        def counted(*arguments: object) -> object:
            known = find(*arguments)  # type: ignore[arg-type]
            self.found += known is not None
            return known

        keeps.find = counted  # type: ignore[method-assign,assignment]
        keeps_none.find = lambda *_: None  # type: ignore[method-assign]

    def receive(self, raw: bytes, source: tuple[str, int] = PHONE) -> list[Sent]:
        """What both send, which is the same."""
        for world in self.worlds:
            world.now += 1.0  # strangers are answered only so often
        sent = [world.receive(raw, source) for world in self.worlds]
        told = [[(one.message.raw, one.to, one.point.bound_to, one.connection) for one in out] for out in sent]
        assert told[0] == told[1]
        drops = [world.router.stack.drops for world in self.worlds]
        assert drops[0] == drops[1]
        return sent[0]

    def call(self, uri: str = "sip:911@10.0.0.5", source: tuple[str, int] = PHONE) -> tuple[Sent, list[str]]:
        """A call that was answered, and the Route values of its dialog."""
        sent = one(self.receive(invite(uri), source), "INVITE")
        self.receive(response(sent.message, 200), sent.to)
        return sent, sent.message.all("record-route")


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("uri", ["sip:911@10.0.0.5", "sip:2125550177@10.0.0.5"])
def test_every_request_goes_where_it_would(pair: Pair, uri: str) -> None:
    for _ in range(3):
        sent, routes = pair.call(uri)
        world = pair.worlds[0]
        token = routes[0].partition(";t=")[2][:12]
        for method in ("ACK", "INFO", "INVITE", "BYE"):
            for from_far in (False, True):
                target = CALLER if from_far else FAR
                source = sent.to if from_far else PHONE
                for values in (
                    routes,
                    [*routes, "<sip:203.0.113.31;lr>"],
                    [routes[0], routes[0]],
                    [f"{routes[0]}, <sip:203.0.113.31;lr>"],
                    [routes[0].replace(token, "0" * 12)],
                    [routes[0].replace(";lr", "")],
                    [routes[0].replace("sip:10.0.0.5", "sip:abc@10.0.0.5")],
                    [routes[0].replace(">", ";f=AAAA>")],
                    [routes[0].replace(">", ";x=1>")],
                    [routes[0].replace("10.0.0.5", "203.0.113.31")],
                    [],
                ):
                    for to in (
                        target,
                        target + ";transport=tcp",
                        target + ";maddr=10.0.0.5",
                        "sip:x@10.0.0.5:5060;lr",
                    ):
                        for place in (source, STRANGER, ("203.0.113.99", 5060)):
                            raw = world.in_dialog(sent.message, method, to, values, from_far=from_far)
                            pair.receive(raw, place)
    assert pair.found > 50, "ways are kept"


def test_a_stranger_needs_the_token_of_its_own_dialog(pair: Pair) -> None:
    """The way that one token opened is not kept for whoever has none."""
    sent, routes = pair.call("sip:2125550177@10.0.0.5")
    world = pair.worlds[0]
    victim = "sip:victim@203.0.113.77:5060"
    for values in (routes, [routes[0].replace(routes[0].partition(";t=")[2][:12], "0" * 12)]):
        pair.receive(world.in_dialog(sent.message, "BYE", victim, values, from_far=True), STRANGER)
    assert pair.found == 0


def test_a_bye_of_an_emergency_call_is_noted_either_way(pair: Pair) -> None:
    for _ in range(3):
        sent, routes = pair.call()
        world = pair.worlds[0]
        pair.receive(world.in_dialog(sent.message, "ACK", FAR, routes))
        pair.receive(world.in_dialog(sent.message, "BYE", FAR, routes))
    for world in pair.worlds:
        world.router.write_waiting()
    assert pair.found
    told = [[(type(event), event.id) for event in world.journal.events] for world in pair.worlds]
    assert told[0] == told[1]


def test_another_configuration_forgets_the_ways(pair: Pair) -> None:
    sent, routes = pair.call()
    world = pair.worlds[0]
    pair.receive(world.in_dialog(sent.message, "ACK", FAR, routes))
    assert world.router.ways._ways
    world.router.use(world.setup())
    assert not world.router.ways._ways
