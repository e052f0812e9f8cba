"""A running router tells Bandwidth where its devices are, and calls show the ids once it knows them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.support.provisioning_server import Answer, Asked, ProvisioningServer
from tests.support.raw_sip import answers
from tests.support.sip_text import Message
from tests.support.world import Place, Plan, World, world

pytestmark = [pytest.mark.xdist_group("provisioning")]

PLANS = {"told": Plan(profile="bandwidth", site_keys={"location_id": "SITE", "endpoint_id": "SITEEND001"})}
ANSWER = b"<E911OrderResponse><E911Order><ProcessingStatus>%b</ProcessingStatus></E911Order></E911OrderResponse>"


class Bandwidth:
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        self.takes = False

    def __call__(self, asked: Asked) -> Answer:
        return (201, ANSWER % b"COMPLETE") if self.takes else (503, b"maintenance")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, ProvisioningServer, Bandwidth]]:
    folder: Path = tmp_path_factory.mktemp("provisioning")
    bandwidth = Bandwidth()
    with ProvisioningServer(bandwidth) as server:
        section = {"kind": "bandwidth", "url": f"{server.url}/api", "account": "1", "username": "u", "password": "p"}
        with world(folder, PLANS, provisioning={"bandwidth": section}) as built:
            yield built, server, bandwidth
            assert built.router.alive


def dial(place: Place) -> Message:
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
        call = place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        return provider.messages("INVITE", call_id=call.call_id)[0]


def state(the_world: World, place: Place) -> dict[str, Any]:
    import json

    done = the_world.router.command("locations", "list", place.device, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return dict(found)


@pytest.mark.long
def test_ids_are_shown_once_the_provider_has_them(
    told: tuple[World, ProvisioningServer, Bandwidth],
) -> None:
    the_world, server, bandwidth = told
    place = the_world["told"]
    (order,) = server.wait_for(1)[:1]
    before = dial(place)
    assert before.get("geolocation").startswith("<cid:"), "its own address, which the provider does not know yet"
    assert "SITEEND001" in before.get("from")
    assert state(the_world, place)["provisioning"].startswith("pending")
    bandwidth.takes = True
    the_world.router.restart()  # what was to be said is said again after it, and the pause is kept
    deadline = time.monotonic() + 60
    while state(the_world, place)["provisioning"] != "active":
        assert time.monotonic() < deadline, state(the_world, place)
        time.sleep(0.5)
    said = etree.fromstring(order.body)
    identifier, location_id = (next(said.iter(name)).text or "" for name in ("Identifier", "LocationId"))
    end = time.monotonic() + 30
    while True:
        after = dial(place)
        if after.get("geolocation") == f"<{location_id}>":
            break
        assert time.monotonic() < end, after.get("geolocation")
    assert f"<sip:{identifier}@" in after.get("from")
    assert f"<sip:{identifier}@" in after.get("p-asserted-identity")
    assert b"application/pidf+xml" not in after.raw
