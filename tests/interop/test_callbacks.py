"""A phone dials 911 under an ELIN and is called back: SIPp phones, a Kamailio as their PBX, SIPp as the carrier.

The leases outlive `kill -9` of every process of the router.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.kamailio_hosts import office
from tests.support.raw_sip import Call, Peer, answers
from tests.support.sipp import Sipp, running
from tests.support.world import Place, Plan, World

pytestmark = pytest.mark.peers


def elins(index: int, *, count: int = 2, **keys: Any) -> dict[str, Any]:
    return {"elins": [f"+1212555019{index}", f"+1212555018{index}"][:count], **keys}


PLANS = {
    "office": Plan(site_keys=elins(1)),
    "direct": Plan(site_keys=elins(2)),
    "busy": Plan(site_keys=elins(3, desk="100")),
    "diverted": Plan(site_keys=elins(4, desk="100")),
    "ringing": Plan(site_keys=elins(5, desk="100")),
    "numbered": Plan(),
    "few": Plan(site_keys=elins(7, count=1)),
}
KEYS = {
    "emergency": {"numbers": ["911", "9911"], "test_numbers": ["933"], "callback_timeout": "1s"},
}


def wait_for(found: Callable[[], Any], what: str, timeout: float = 40) -> Any:
    deadline = time.monotonic() + timeout
    while not (it := found()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return it


@pytest.fixture(scope="module", autouse=True)
def _psap_trunk(the_world: World) -> None:
    """The carrier is where PSAPs call back by."""
    config = the_world.router.config
    carrier = {**config["trunks"]["carrier"], "psap_callback": True}
    the_world.router.write_config({**config, "trunks": {**config["trunks"], "carrier": carrier}})
    the_world.router.hup()
    the_world.router.wait_for_log("configuration reloaded")


def dial(place: Place, at: str = "phone", **keys: Any) -> Sipp:
    return Sipp("caller_dials", at=place.street[at], folder=place.folder, keys={"caller": place.unregistered}, **keys)


def shown_number(psap: Sipp) -> str:
    """The callback number that the PSAP saw."""
    return str(psap.request("INVITE").get("p-asserted-identity").partition("sip:")[2].partition("@")[0])


def callback_events(the_world: World, call_id: str, wanted: str) -> list[tuple[str, str]]:
    """What the 911 call's record says of calls back, once it says `wanted`."""

    def found() -> list[tuple[str, str]]:
        (record,) = the_world.router.records(call_id)
        events = [(one["outcome"], one["to"]) for one in record["callbacks"]]
        return events if wanted in [outcome for outcome, _ in events] else []

    return list(wait_for(found, f"{wanted} in the record"))


@pytest.mark.peers("kamailio")
def test_a_phone_behind_a_pbx_is_called_back_also_after_every_process_was_killed(
    the_world: World, tmp_path: Path
) -> None:
    place, router = the_world["office"], the_world.router
    phone, pbx, carrier = place.street["phone"], the_world.street["pbx"], the_world.street["carrier"]
    elin = place.plan.site_keys["elins"][0]
    user = place.unregistered
    before = json.loads(router.command("explain", user, "911", "--source", pbx.address, "--json").stdout)
    with office(tmp_path / "pbx", at=pbx, router=the_world.router.sip) as kamailio:
        with running(Sipp("phone_registers", at=phone, to=pbx, folder=tmp_path, keys={"caller": user})) as (one,):
            one.succeed()
        psap = place.sipp("psap_answers", "provider_a")
        with running(psap, dial(place, to=pbx)) as (psap, caller):
            caller.succeed()
            psap.succeed()
        assert shown_number(psap) == elin
        assert before["callback"] == elin, "explain said so before"
        assert before["callback_source"] == "elin"
        call_id = psap.request("INVITE").call_id
        place.notices()
        router.records(call_id)
        router.restart()
        answering = Sipp("psap_answers", at=phone, folder=tmp_path)
        back = Sipp(
            "caller_dials",
            at=carrier,
            to=router.sip,
            folder=tmp_path,
            dial=elin.removeprefix("+1"),
            keys={"caller": "+12125550111"},
        )
        with running(answering, back):
            back.succeed()
            answering.succeed()
        arrived = answering.request("INVITE")
        assert arrived.get("priority") == "psap-callback"
        assert arrived.tag("from") == back.sent("INVITE")[0].tag("from")
        assert f"TO {user} by" in kamailio.log
    assert callback_events(the_world, call_id, "answered")[:2] == [("received", "phone"), ("sent", "phone")]
    shown = json.loads(router.command("elins", "show", elin, "--json").stdout)["numbers"]
    (lease,) = shown[0]["leases"]
    assert (lease["who"], lease["way_back"]["trunk"], lease["way_back"]["user"]) == (user, "pbx", user)
    assert lease["until"] - lease["since"] == pytest.approx(3 * 3600, abs=60)
    after = json.loads(router.command("explain", user, "911", "--source", pbx.address, "--json").stdout)
    assert after["callback"] == elin, "and lends nothing"


def ring_back(the_world: World, number: str, *extra: str, carrier: Peer) -> Call:
    call = Call(
        peer=carrier, router=the_world.router.sip, user="+12125550111", uri=f"sip:{number}@{the_world.router.sip}"
    )
    call.dial(*extra)
    return call


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_that_calls_by_itself_is_called_by_its_flow(the_world: World, transport: str) -> None:
    place = the_world["direct"]
    elin = place.plan.site_keys["elins"][0]
    with (
        place.peer("phone", rule=answers(180, 200)) as phone,
        place.peer("provider_a", rule=answers(180, 200)) as psap,
        Peer(the_world.street["carrier"]) as carrier,
    ):
        call = place.call(phone, user=place.unregistered, transport=transport)
        call.dial()
        call.answered()
        call.hang_up()
        assert elin in psap.messages("INVITE", call_id=call.call_id)[0].get("p-asserted-identity")
        back = ring_back(the_world, elin, "Priority: psap-callback", carrier=carrier)
        got = phone.take("INVITE", call_id=back.call_id)
        assert got.message.transport == transport
        assert got.message.uri.startswith(f"sip:{place.unregistered}@{phone.at}")
        assert got.message.all("priority") == ["psap-callback"]
        back.answered()
        back.hang_up()
        assert phone.messages("BYE", call_id=back.call_id)


@pytest.mark.parametrize(("name", "statuses"), [("busy", (486,)), ("diverted", (302,)), ("ringing", (180,))])
def test_what_the_phone_does_not_take_the_desk_gets(the_world: World, name: str, statuses: tuple[int, ...]) -> None:
    place = the_world[name]
    elin = place.plan.site_keys["elins"][0]
    with (
        place.peer("phone", rule=answers(*statuses, contact="sip:elsewhere@203.0.113.99")) as phone,
        place.peer("provider_a", rule=answers(180, 200)),
        Peer(the_world.street["pbx"], rule=answers(180, 200)) as pbx,
        Peer(the_world.street["carrier"]) as carrier,
    ):
        call = place.call(phone, user=place.unregistered)
        call.dial()
        call.answered()
        call.hang_up()
        back = ring_back(the_world, elin, carrier=carrier)
        back.answered()
        back.hang_up()
        assert phone.messages("INVITE", call_id=back.call_id)
        at_desk = pbx.messages("INVITE", call_id=back.call_id)
        assert at_desk[0].uri == f"sip:100@{the_world.router.sip}"
        if name == "ringing":
            assert phone.messages("CANCEL", call_id=back.call_id)
    expected = {"busy": "refused", "diverted": "redirected", "ringing": "no-answer"}[name]
    events = callback_events(the_world, call.call_id, "answered")
    assert (expected, "phone") in events
    assert ("answered", "desk") in events


def test_a_number_of_the_phones_own_passes_inbound_routes_by_while_it_is_kept(the_world: World) -> None:
    place = the_world["numbered"]
    with (
        place.peer("phone", rule=answers(180, 200)) as phone,
        place.peer("provider_a", rule=answers(180, 200)),
        Peer(the_world.street["pbx"], rule=answers(180, 200)) as pbx,
        Peer(the_world.street["carrier"]) as carrier,
    ):
        before = ring_back(the_world, place.callback, "Priority: psap-callback", carrier=carrier)
        before.answered()
        before.hang_up()
        ordinary = pbx.messages("INVITE", call_id=before.call_id)[0]
        assert ordinary.uri == f"sip:{place.callback}@{the_world.router.sip}"
        assert not ordinary.all("priority")
        call = place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        back = ring_back(the_world, place.callback, carrier=carrier)
        back.answered()
        back.hang_up()
        assert phone.messages("INVITE", call_id=back.call_id)
        assert not pbx.messages("INVITE", call_id=back.call_id)
        released = the_world.router.command("elins", "release", place.callback)
        assert "has ended" in released.stdout, released.stderr

        def is_ordinary_again() -> bool:
            again = ring_back(the_world, place.callback, carrier=carrier)
            again.answered()
            again.hang_up()
            return bool(pbx.messages("INVITE", call_id=again.call_id))

        wait_for(is_ordinary_again, "the lease ended by hand is heard of")


def test_elins_run_out_loudly_and_stop_no_call(the_world: World) -> None:
    place, router = the_world["few"], the_world.router
    (elin,) = place.plan.site_keys["elins"]
    with (
        place.peer("phone") as phone,
        place.peer("second_phone") as second,
        place.peer("provider_a", rule=answers(180, 200)) as psap,
    ):
        for peer, user in ((phone, place.unregistered), (second, f"{place.unregistered[:-1]}8")):
            call = place.call(peer, user=user)
            call.dial()
            call.answered()
            call.hang_up()
            assert elin in psap.messages("INVITE", call_id=call.call_id)[0].get("p-asserted-identity")
        assert router.metric("edge911_elins_free", pool=place.name) == 0
        assert router.metric("edge911_events_total", event="elin-pool-empty") >= 1
        assert router.metric("edge911_events_total", event="elins_shared") == 1
        router.wait_for_log("elin-pool-empty")
        record = wait_for(lambda: router.records(call.call_id), "the record")[0]
        assert record["lease"]["reason"] == "elin-shared"
        listed = json.loads(router.command("elins", "list", "--json").stdout)["pools"]
        (pool,) = [one for one in listed if one["pool"] == place.name]
        assert (pool["total"], pool["free"], pool["leased"], pool["shared"]) == (1, 0, 1, 1)
