"""The router goes away and comes back, and calls do not notice.

Also reloading, and the notices process by itself.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.interop.wire import HOP_BY_HOP, assert_carries_location, assert_unchanged
from tests.support.raw_sip import answers
from tests.support.sip_text import parse
from tests.support.sipp import Sipp, running
from tests.support.world import Plan, World

pytestmark = pytest.mark.peers

PLANS = {
    "bye-by-caller": Plan(),
    "bye-by-psap": Plan(),
    "reinvite": Plan(),
    "retransmitted": Plan(timeout="20s"),
    "reload": Plan(),
    "killed-notices": Plan(),
    "killed-calls": Plan(),
    "hung-calls": Plan(),
    "cancelled-after": Plan(timeout="20s"),
}


@contextmanager
def standing_still(*peers: Sipp) -> Iterator[None]:
    """SIPp's pauses are not over before the router is back, however slow the machine."""
    for peer in peers:
        peer.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for peer in peers:
            peer.process.send_signal(signal.SIGCONT)


def wait_until_noted(the_world: World, call_id: str, outcome: str = "", timeout: float = 40) -> None:
    """Until it is written down that the notice was taken (a kill before may repeat it), and a route's outcome."""
    deadline = time.monotonic() + timeout
    while True:
        (record,) = the_world.router.records(call_id, whole=False)
        reached = not outcome or outcome in [step["outcome"] for step in record["routes"]]
        if reached and record["notices"] and all(one["state"] == "delivered" for one in record["notices"]):
            return
        assert time.monotonic() < deadline, record
        time.sleep(0.05)


def test_in_dialog_requests_find_their_way_after_a_restart(the_world: World) -> None:
    """Three calls stand while every process of the router is killed and it is started again."""
    router = the_world.router
    caller_ends, psap_ends, reinvited = (the_world[name] for name in ("bye-by-caller", "bye-by-psap", "reinvite"))
    peers = (
        caller_ends.sipp("psap_answers", "provider_a"),
        psap_ends.sipp("psap_hangs_up", "provider_a", pause_ms=5000),
        reinvited.sipp("psap_answers_reinvite", "provider_a"),
    )
    phones = (
        caller_ends.caller(pause_ms=5000, timeout=60),
        psap_ends.caller("caller_is_hung_up_on", timeout=60),
        reinvited.caller("caller_reinvites", pause_ms=5000, timeout=60),
    )
    with running(*peers, *phones):
        for peer in peers:
            peer.wait_for("ACK")
        with standing_still(*peers, *phones):
            for place, phone in ((caller_ends, phones[0]), (psap_ends, phones[1]), (reinvited, phones[2])):
                place.notices()
                wait_until_noted(the_world, phone.sent("INVITE")[0].call_id)
            killed_at = time.time()
            router.restart()
        for one in (*phones, *peers):
            one.succeed()
    assert peers[0].first("BYE") > killed_at, "the machine is too slow: the calls ended before the restart"
    assert_unchanged(peers[0].request("BYE"), phones[0].sent("BYE")[0], caller_ends)
    sent = peers[1].sent("BYE")[0]
    assert phones[1].request("BYE").without(*HOP_BY_HOP) == sent.without(*HOP_BY_HOP)
    again = phones[2].sent("INVITE")[-1]
    assert again.uri.startswith("sip:911@")
    arrived = [one for one in peers[2].requests("INVITE") if one.get("cseq") == again.get("cseq")]
    assert_unchanged(arrived[0], again, reinvited)
    for place, phone in ((caller_ends, phones[0]), (reinvited, phones[2])):
        (record,) = router.records(phone.sent("INVITE")[0].call_id)
        assert record["intents"] == 1, "a re-INVITE is not a call"
        assert record["finished_by"] == "caller", "the BYE after the restart is in the record"
        assert len(place.desk.posts(place.name)) == 1, "a second notice"


def test_a_retransmitted_invite_leaves_a_restarted_router_with_the_same_branch(the_world: World) -> None:
    place, router = the_world["retransmitted"], the_world.router
    with place.peer("phone") as phone, place.peer("provider_a") as provider:
        call = place.call(phone)
        call.dial()
        first = provider.take("INVITE").message
        # Told, and noted: a kill between the two may repeat a notice, which is not what is tested here.
        place.notices()
        wait_until_noted(the_world, call.call_id)
        router.restart()
        seen = len(provider.everything)
        call.dial()
        deadline = time.monotonic() + 40
        while len(provider.everything) == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        again = [one for one in provider.everything[seen:] if one.message.method == "INVITE"]
        assert again, "the retransmitted INVITE did not leave"
        assert again[0].message.branch == first.branch
        assert again[0].message.raw == first.raw, "to the PSAP it is the same request, to the byte"
        provider.respond(again[0], 200)
        call.answered()
        call.send(call.in_dialog("BYE"))
        provider.respond(provider.take("BYE"), 200)
        phone.take(200, call_id=call.call_id, method="BYE")
    place.notices()
    time.sleep(0.5)
    assert len(place.desk.posts(place.name)) == 1, "the same call is one notice"
    assert len(router.records(call.call_id)) == 1


def test_a_call_that_rang_before_the_restart_can_be_cancelled_after_it(the_world: World) -> None:
    place, router = the_world["cancelled-after"], the_world.router
    with place.peer("phone") as phone, place.peer("provider_a") as provider:
        call = place.call(phone)
        call.dial()
        invite = provider.take("INVITE")
        provider.respond(invite, 180)
        phone.take(180, call_id=call.call_id)
        wait_until_noted(the_world, call.call_id, "ringing")
        router.restart()
        call.send(call.cancel())
        phone.take(200, call_id=call.call_id, method="CANCEL")
        cancel = provider.take("CANCEL")
        assert cancel.message.branch == invite.message.branch
        assert cancel.message.uri == invite.message.uri
        provider.respond(cancel, 200)
        provider.respond(invite, 487)
        provider.take("ACK")
        call.refused(487)
    (record,) = router.records(call.call_id)
    assert record["outcome"] == "cancelled"


def test_reload_takes_a_good_file_and_refuses_a_bad_one(the_world: World) -> None:
    place, router = the_world["reload"], the_world.router
    good = dict(router.config)
    pid = router.sip_pid()

    def dial() -> None:
        with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
            call = place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            assert_carries_location(provider.messages("INVITE")[0], parse(call.invite()), place)

    def dial_basic() -> bool:
        """True where the call went to the relay centre."""
        with (
            place.peer("phone") as phone,
            place.peer("provider_a", rule=answers(200)),
            place.peer("relay", rule=answers(200)) as relay,
        ):
            call = place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            return bool(relay.messages("INVITE"))

    try:
        router.write_config({**good, "sites": [{"id": "broken", "notify": ["nobody-knows-him"]}]})
        router.hup()
        router.wait_for_log("nobody-knows-him")
        dial()

        sites = [{**site, "routes": []} if site["id"] == place.name else site for site in good["sites"]]
        router.write_config({**good, "sites": sites})
        router.hup()
        deadline = time.monotonic() + 40
        while not dial_basic():
            assert time.monotonic() < deadline, "the good file was not taken"
            time.sleep(0.1)
        assert router.sip_pid() == pid, "a reload is no restart"
    finally:
        router.write_config(good)
        router.hup()


def test_a_killed_notices_process_comes_back_and_loses_nothing(the_world: World) -> None:
    place, router = the_world["killed-notices"], the_world.router
    victims = router.notices_pids()
    assert victims, f"no notices process: {router.processes()}"
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)):
        for pid in victims:
            with suppress(ProcessLookupError):  # a child of one that was killed just before may be gone with it
                os.kill(pid, signal.SIGKILL)
        call = place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
    place.notices()
    assert router.alive
    assert set(router.notices_pids()).isdisjoint(victims)
    assert router.notices_pids()


def test_a_killed_call_process_is_back_before_the_phone_gives_up(the_world: World) -> None:
    """The phone dials while nobody listens; its retransmissions find the new process."""
    place, router = the_world["killed-calls"], the_world.router
    victim = router.sip_pid()
    psap = place.sipp("psap_demands_location", "provider_a", timeout=60)
    os.kill(victim, signal.SIGKILL)
    phone = place.caller(timeout=60)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    assert_carries_location(psap.request(), phone.sent("INVITE")[0], place)
    assert router.alive
    assert router.sip_pid() != victim
    assert len(place.notices()) == 1


@pytest.mark.long
def test_a_call_process_that_hangs_is_replaced(the_world: World) -> None:
    place, router = the_world["hung-calls"], the_world.router
    victim = router.sip_pid()
    os.kill(victim, signal.SIGSTOP)
    router.wait_for_log("the call process gives no sign of life", timeout=60)
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)):
        call = place.call(phone)
        deadline = time.monotonic() + 30
        while not phone.messages(200, call_id=call.call_id):
            assert time.monotonic() < deadline, "nobody serves 911 again"
            call.dial()
            time.sleep(0.5)
        call.answered()
        call.hang_up()
    assert router.alive
    assert router.sip_pid() != victim
    place.notices()
