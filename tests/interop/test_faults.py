"""What the router stands on breaks, or it is told to stop: 911 goes on. Each test has a router of its own."""

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.interop.wire import assert_basic, assert_carries_location, site_address
from tests.support.raw_sip import answers
from tests.support.sip_text import parse
from tests.support.world import Plan, world

pytestmark = pytest.mark.peers


@pytest.mark.long
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
        # What the killed process had sent may be read by the desk only now: twice is possible, something else is not.
        (notice,) = set(place.notices(timeout=40))
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


@pytest.mark.long
@pytest.mark.parametrize("damage", ["corrupt", "missing", "locked"])
def test_a_broken_database_stops_no_911_call(tmp_path: Path, damage: str) -> None:
    """Site address for those who have one, basic 911 for the others, and the log says it loudly."""
    plans = {"with-address": Plan(), "without": Plan(address={})}
    with world(tmp_path, plans, running=False) as built:
        router = built.router
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


@pytest.mark.long
def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    """From the first warning of a configuration on, and where the supervisor has something to say."""
    with world(tmp_path, {"json": Plan()}) as built:
        router = built.router
        router.kill9()
        router.log_file.unlink()
        router.write_config({**router.config, "log": {"level": "info", "format": "json"}, "node": "json-1"})
        router.start()
        notices = next(pid for pid, command in router.processes().items() if "router.notices" in command)
        os.kill(notices, signal.SIGKILL)
        router.wait_for_log("the notices process ended")
        lines = [json.loads(line) for line in router.log.splitlines()]
        assert {line["node"] for line in lines} == {"json-1"}
        assert any(line["event"].startswith("configuration: ") and line["level"] == "warning" for line in lines)
