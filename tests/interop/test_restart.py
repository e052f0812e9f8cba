"""The router goes away and comes back, and calls do not notice.

Also what it does when told to stop or reload, and when what it stands on is broken. Every test has its own router
where it breaks something.
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.interop.wire import HOP_BY_HOP, assert_basic, assert_carries_location, assert_unchanged, site_address
from tests.support.raw_sip import answers
from tests.support.sip_text import parse
from tests.support.sipp import running
from tests.support.world import Plan, World, world

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("restart")]

PLANS = {
    "bye-by-caller": Plan(),
    "bye-by-psap": Plan(),
    "reinvite": Plan(),
    "retransmitted": Plan(timeout="20s"),
    "reload": Plan(),
    "killed-notices": Plan(),
}


def undated(raw: bytes) -> bytes:
    """Without the PIDF-LO's own date, which may be that of the restarted router."""
    return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(?:Z|[+-]\d\d:\d\d)", b"", raw)


def test_in_dialog_requests_find_their_way_after_a_restart(the_world: World) -> None:
    """Three calls stand while every process of the router is killed and it is started again."""
    router = the_world.router
    caller_ends, psap_ends, reinvited = (the_world[name] for name in ("bye-by-caller", "bye-by-psap", "reinvite"))
    peers = (
        caller_ends.sipp("psap_answers", "provider_a"),
        psap_ends.sipp("psap_hangs_up", "provider_a", pause_ms=6000),
        reinvited.sipp("psap_answers_reinvite", "provider_a"),
    )
    phones = (
        caller_ends.caller(pause_ms=6000, timeout=30),
        psap_ends.caller("caller_is_hung_up_on", timeout=30),
        reinvited.caller("caller_reinvites", pause_ms=6000, timeout=30),
    )
    with running(*peers, *phones):
        for peer in peers:
            peer.wait_for("ACK")
        for place in (caller_ends, psap_ends, reinvited):
            place.notices()
        router.restart()
        for one in (*phones, *peers):
            one.succeed()
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
        router.restart()
        time.sleep(0.2)
        seen = len(provider.everything)
        call.dial()
        deadline = time.monotonic() + 8
        while len(provider.everything) == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        again = [one for one in provider.everything[seen:] if one.message.method == "INVITE"]
        assert again, "the retransmitted INVITE did not leave"
        assert again[0].message.branch == first.branch
        assert undated(again[0].message.raw) == undated(first.raw), "to the PSAP it is the same request"
        provider.respond(again[0], 200)
        call.answered()
        call.hang_up()
    place.notices()
    time.sleep(0.5)
    assert len(place.desk.posts(place.name)) == 1, "the same call is one notice"
    assert len(router.records(call.call_id)) == 1


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
        deadline = time.monotonic() + 10
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
            os.kill(pid, signal.SIGKILL)
        call = place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
    place.notices(timeout=30)
    assert router.alive
    assert set(router.notices_pids()).isdisjoint(victims)
    assert router.notices_pids()


def test_a_notice_survives_the_death_of_every_process(tmp_path: Path) -> None:
    """The desk refuses at first; everything is killed right after the INVITE has left; then it is told."""
    with world(tmp_path, {"killed": Plan()}) as built:
        place, router = built["killed"], built.router
        built.desk.mode = "refuse"
        with place.peer("phone") as phone, place.peer("provider_a") as provider:
            place.call(phone).dial()
            provider.take("INVITE")
            router.kill9()
        assert place.desk.posts(place.name) == []
        built.desk.mode = "accept"
        router.start()
        (notice,) = place.notices(timeout=40)
        assert place.callback in notice


def test_sigterm_ends_no_call_and_still_serves_911(tmp_path: Path) -> None:
    with world(tmp_path, {"drain": Plan()}) as built:
        place, router = built["drain"], built.router
        with (
            place.peer("phone") as phone,
            place.peer("second_phone") as second_phone,
            place.peer("provider_a") as provider,
        ):
            ringing = place.call(phone)
            ringing.dial()
            invite = provider.take("INVITE")
            provider.respond(invite, 180)
            phone.take(180, call_id=ringing.call_id)
            os.kill(router.pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while router.get("/readyz")[0] == 200:
                assert time.monotonic() < deadline, "/readyz still says 200 after TERM"
                time.sleep(0.02)
            ordinary = place.call(second_phone, uri=f"sip:+12125550177@{place.router}")
            ordinary.dial()
            refusal = ordinary.refused(503)
            assert not refusal.all("retry-after"), "a client would hold back its 911 calls too (RFC 3261 21.5.4)"
            late = place.call(second_phone)
            late.dial()
            provider.respond(provider.take("INVITE", call_id=late.call_id), 200)
            late.answered()
            provider.respond(invite, 200)
            ringing.answered()
        assert router.process
        assert router.process.wait(40) == 0
        assert len(place.desk.wait_for(place.name, 1)) >= 1


@pytest.mark.parametrize("damage", ["corrupt", "missing", "locked"])
def test_a_broken_database_stops_no_911_call(tmp_path: Path, damage: str) -> None:
    """Site address for those who have one, basic 911 for the others, and the log says it loudly."""
    import sqlite3

    plans = {"with-address": Plan(), "without": Plan(address={})}
    with world(tmp_path, plans) as built:
        router = built.router
        router.terminate()
        for leftover in (*tmp_path.glob("edge911.db*"), *tmp_path.glob("edge911-state/*locations*")):
            leftover.unlink()
        for leftover in tmp_path.glob("edge911-state/*"):
            if leftover.is_file() and leftover.suffix in (".devices", ".snapshot", ".cache", ".lkg"):
                leftover.unlink()
        database = tmp_path / "edge911.db"
        holder = None
        if damage == "corrupt":
            database.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
        elif damage == "locked":
            holder = sqlite3.connect(database)
            holder.execute("CREATE TABLE held (x)")
            holder.commit()
            holder.execute("BEGIN EXCLUSIVE")
        try:
            router.start()
            place, other = built["with-address"], built["without"]
            with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
                call = place.call(phone, user=place.unregistered)
                call.dial()
                call.answered()
                call.hang_up()
                assert_carries_location(
                    provider.messages("INVITE")[0],
                    parse(call.invite()),
                    place,
                    expected=site_address(place),
                    method="Default",
                    callback=place.site_callback,
                )
            with other.peer("phone") as phone, other.peer("relay", rule=answers(200)) as relay:
                call = other.call(phone, user=other.unregistered)
                call.dial()
                call.answered()
                call.hang_up()
                assert_basic(relay.messages("INVITE")[0], parse(call.invite()), other)
            if damage != "missing":
                assert '"level": "error"' in router.log or '"level":"error"' in router.log
        finally:
            if holder:
                holder.close()
