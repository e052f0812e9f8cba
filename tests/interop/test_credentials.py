"""Providers that ask who we are, checked by software that is not ours: Kamailio's auth module, and SIPp."""

from pathlib import Path

import pytest

from tests.support import kamailio_hosts
from tests.support.raw_sip import answers
from tests.support.sipp import running
from tests.support.world import Plan, World

pytestmark = pytest.mark.peers

PASSWORD = "correct-horse-battery"
AUTH = {"auth": {"username": "edge", "password": "${file:secret}"}}
FILES = {"secret": PASSWORD + "\n"}
WRONG = {"auth": {"username": "edge", "password": "wrong"}}


PLANS = {
    "www-MD5": Plan(timeout="8s", trunk_keys={"provider_a": AUTH}),
    "proxy-SHA-256": Plan(timeout="8s", trunk_keys={"provider_a": AUTH}),
    "www-SHA-256": Plan(timeout="8s", trunk_keys={"provider_a": AUTH}, tcp=("provider_a",)),
    "wrong": Plan(timeout="8s", trunk_keys={"provider_a": WRONG}),
    "sipp": Plan(timeout="8s", trunk_keys={"provider_a": AUTH}),
}


@pytest.mark.parametrize("name", ["www-MD5", "proxy-SHA-256", "www-SHA-256"])
def test_kamailio_lets_the_call_through(the_world: World, tmp_path: Path, name: str) -> None:
    here = the_world[name]
    kind, _, algorithm = name.partition("-")
    gate = kamailio_hosts.asking(
        tmp_path / "kamailio",
        at=here.street["provider_a"],
        behind=here.street["carrier"],
        username="edge",
        password=PASSWORD,
        kind=kind,
        algorithm=algorithm,
    )
    with here.peer("phone") as phone, here.peer("carrier", rule=answers(180, 200)) as psap, gate:
        call = here.call(phone)
        call.dial()
        call.answered()
        invite = psap.take("INVITE", call_id=call.call_id).message
        assert b"pidf" in invite.raw
        psap.take("ACK", call_id=call.call_id)
        call.hang_up()
        assert psap.messages("BYE", call_id=call.call_id)
        assert not phone.messages(401)
        assert not phone.messages(407)
    (record,) = the_world.router.records(call.call_id)
    assert [step["outcome"] for step in record["routes"]] == [
        "started",
        "retried-with-credentials",
        "started",
        "ringing",
        "answered",
    ]
    assert PASSWORD not in the_world.router.log


def test_kamailio_refuses_a_wrong_password_and_the_next_route_takes_the_call(
    the_world: World, tmp_path: Path
) -> None:
    here = the_world["wrong"]
    gate = kamailio_hosts.asking(
        tmp_path / "kamailio",
        at=here.street["provider_a"],
        behind=here.street["carrier"],
        username="edge",
        password=PASSWORD,
    )
    with here.peer("phone") as phone, here.peer("provider_b", rule=answers(180, 200)) as second, gate:
        call = here.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        assert "authorization" not in second.take("INVITE", call_id=call.call_id).message.raw.decode().lower()
    (record,) = the_world.router.records(call.call_id)
    assert "credentials-refused" in [step["reason"] for step in record["routes"]]


def test_sipp_finds_the_credentials_good(the_world: World) -> None:
    here = the_world["sipp"]
    with running(here.sipp("provider_asks_who_we_are", "provider_a", keys={"password": PASSWORD}), here.caller()) as (
        provider,
        phone,
    ):
        phone.succeed()
        provider.succeed()
        assert len(provider.wait_for("INVITE", count=2)) == 2
