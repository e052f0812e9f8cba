"""sipsak, the tool at hand where a SIP path is looked into: its pings go through and back, a burst of them too."""

import subprocess

import pytest

from tests.support.ports import Endpoint
from tests.support.raw_sip import Peer
from tests.support.world import Plan, World

pytestmark = pytest.mark.peers("sipsak")

PLANS = {"place": Plan()}
# sipsak sends from 127.0.0.1.
KEYS = {"networks": {"inside": ["127.0.0.0/8"], "outside": []}}


def far_side(the_world: World) -> Endpoint:
    """Somebody outside, at the standard port: of another one in an address sipsak loses the last digit."""
    return Endpoint(address=the_world.street["carrier"].address, port=5060)


def ping(the_world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """By the router as outbound proxy."""
    router, carrier = the_world.router.sip, far_side(the_world).address
    command = ["sipsak", "-s", f"sip:ping@{carrier}", "-p", router.address, "-r", str(router.port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_ping_goes_through_and_its_answer_back(the_world: World, transport: str) -> None:
    with Peer(far_side(the_world)) as carrier:
        done = ping(the_world, "-E", transport, "-vv")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SIP/2.0 200" in done.stdout
        assert len(carrier.messages("OPTIONS")) == 1


def test_a_ping_is_answered_after_a_burst_of_them(the_world: World) -> None:
    with Peer(far_side(the_world)) as carrier:
        ping(the_world, "-F", "-e", "200")
        done = ping(the_world)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(carrier.messages("OPTIONS")) > 1, "the burst went through, too"
