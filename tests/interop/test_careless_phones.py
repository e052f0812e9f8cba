"""pyVoIP and aiosip as they are dial 911: ACK and BYE reach the PSAP, also when the router was killed meanwhile."""

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from tests.support.raw_sip import Peer, sdp
from tests.support.world import Place, Plan, World

pytestmark = [pytest.mark.xdist_group("careless")]

PHONES = [
    pytest.param(
        "pyvoip",
        marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="pyVoIP needs audioop, gone in Python 3.13"),
    ),
    "aiosip",
]
FILES = {"by-from.yaml": 'from_uri: "sip:{callback}@{domain}"\n'}
"""Half of the calls go to a provider that is shown another From (decision 0044)."""
BY_FROM = ("pyvoip-stays", "aiosip-restarts")
PLANS = {
    name: Plan(profile="by-from.yaml" if name in BY_FROM else "pidf-lo")
    for name in (f"{phone}-{what}" for phone in ("pyvoip", "aiosip") for what in ("stays", "restarts"))
}


class Phone:
    """One of them, in a process of its own."""

    def __init__(self, which: str, place: Place) -> None:
        at = place.street["phone"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.careless_phones", which),
                *(place.router.address, str(place.router.port), at.address, str(at.port), place.device, "911"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(self, word: str, timeout: float = 25) -> None:
        """Wait for a line of its."""
        lines: list[str] = []
        assert self.process.stdout is not None
        reading = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)  # type: ignore[union-attr]  # above
        reading.start()
        reading.join(timeout)
        if lines != [f"{word}\n"]:
            self.process.kill()
            raise AssertionError(f"not {word!r} but {lines}: {self.process.communicate()[1][-2000:]}")

    def hang_up(self) -> None:
        """Have it say BYE."""
        assert self.process.stdin is not None
        self.process.stdin.write("now\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def finished_records(the_world: World, call_id: str) -> list[dict[str, Any]]:
    """The records of a call, once its BYE is in them."""
    end = time.monotonic() + 10
    while True:
        records = the_world.router.records(call_id)
        if all(record["finished_by"] for record in records) or time.monotonic() > end:
            return records


@pytest.mark.parametrize("restarts", [False, True], ids=["stays", "restarts"])
@pytest.mark.parametrize("which", PHONES)
def test_its_call_is_set_up_and_ended(the_world: World, which: str, restarts: bool) -> None:
    place = the_world[f"{which}-{'restarts' if restarts else 'stays'}"]
    with Peer(place.street["provider_a"]) as psap:
        phone = Phone(which, place)
        try:
            invite = psap.take("INVITE")
            psap.respond(invite, 180)
            psap.respond(invite, 200, body=sdp(psap.at.address))
            ack = psap.take("ACK").message
            assert ack.get("cseq") == invite.message.get("cseq").replace("INVITE", "ACK")
            own_tag = f"tag=to-{psap.at.port}"
            assert own_tag in ack.get("to"), "the PSAP's own tag, whatever the phone made of it"
            phone.says("answered")
            if restarts:
                the_world.router.restart()
            phone.hang_up()
            bye = psap.take("BYE")
            assert own_tag in bye.message.get("to")
            assert bye.message.get("from") == ack.get("from")
            assert (f"<sip:{place.callback}@" in ack.get("from")) is (place.name in BY_FROM)
            psap.respond(bye, 200)
            phone.says("ended")
        finally:
            phone.close()
    call_id = invite.message.call_id
    assert len(psap.messages("INVITE", call_id=call_id)) == 1
    (record,) = finished_records(the_world, call_id)
    assert (record["intents"], record["finished_by"]) == (1, "caller")
