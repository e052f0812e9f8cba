"""Probes as seen at the far side: a trunk that is known to be down costs a call nothing, and returns by itself."""

import json
import time

import pytest

from tests.support.raw_sip import Arrived, Peer, answers
from tests.support.world import Plan, World

PROBED = {"probe": "1s"}
PLANS = {
    "udp": Plan(timeout="5s", trunk_keys={"provider_a": PROBED, "provider_b": PROBED}),
    "tcp": Plan(timeout="5s", trunk_keys={"provider_a": PROBED, "provider_b": PROBED}, tcp=("provider_a",)),
}


def wait_for_state(world: World, trunk: str, state: str) -> None:
    deadline = time.monotonic() + 15
    while True:
        found = json.loads(world.router.get("/readyz")[1])["trunks"][trunk]
        if found == state:
            return
        assert time.monotonic() < deadline, f"{trunk} is {found}, not {state}"
        time.sleep(0.05)


def silent(_: Peer, __: Arrived) -> bool:
    """Takes everything, OPTIONS too, and says nothing."""
    return True


@pytest.fixture(params=PLANS)
def place(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.mark.parametrize("manner", ["silent", "closed"])
def test_a_trunk_that_is_down_is_passed_over_and_comes_back(the_world: World, place: str, manner: str) -> None:
    here = the_world[place]
    trunk = here.trunk("provider_a")
    with here.peer("phone") as phone, here.peer("provider_b", rule=answers(180, 200)) as second:
        with here.peer("provider_a", rule=answers(180, 200)):
            wait_for_state(the_world, trunk, "up")
        dead = here.peer("provider_a", rule=silent) if manner == "silent" else None
        try:
            wait_for_state(the_world, trunk, "down")
            call = here.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            assert second.messages("INVITE", call_id=call.call_id)
            if dead is not None:
                assert dead.messages("OPTIONS")
                assert not dead.messages("INVITE")
        finally:
            if dead is not None:
                dead.close()
        assert the_world.router.metric("edge911_trunk_up", trunk=trunk) == 0.0
        with here.peer("provider_a", rule=answers(180, 200)) as first:
            wait_for_state(the_world, trunk, "up")
            call = here.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            assert first.messages("INVITE", call_id=call.call_id)
        (record,) = the_world.router.records(call.call_id)
        assert [step["outcome"] for step in record["routes"]] == ["started", "ringing", "answered"]
