"""Blocks by hand, and floods. Proved on the wire, in the journal, on the command line: who is blocked gets 403 for
911 calls alone, until the end or the removal; floods raise an alarm once and block nobody.
"""

import json
import logging
from pathlib import Path

import pytest

from e911.record import CallIntent, CallRefused
from router.emergency.blocks import LONGEST, Block, Blocks, BlocksError, read_blocks, write_blocks
from router.emergency.floods import SAID_AGAIN, Floods
from router.store.audit import audit_rows
from router.store.engine import open_store, reading
from tests.support.call_world import CLOCK, CONFIG, PHONE, PROVIDER_A, CallWorld, invite, of, one
from tests.support.commands import invoke


def blocked(world: CallWorld, who: str, *, seconds: float = 600.0) -> Blocks:
    now = CLOCK + world.now
    write_blocks(world.folder, [Block(who=who, reason="prank", since=now, until=now + seconds)], now)
    world.router.blocks = Blocks(world.folder)
    world.router.blocks.look()
    return world.router.blocks


@pytest.mark.parametrize("who", ["10.1.3.7", "4102", "::ffff:10.1.3.7"])
def test_a_blocked_callers_911_calls_are_refused_noted_and_told(tmp_path: Path, who: str) -> None:
    world = CallWorld(tmp_path)
    blocked(world, who)
    refused = one(world.receive(invite()), 403)
    assert refused.message.get("warning").endswith('"blocked: blocked by hand for a while: prank"')
    assert world.router.stack.drops == {"blocked": 1}
    (event,) = world.events(CallRefused)
    assert (event.reason, event.caller.number, event.contacts) == ("blocked", "4102", ("desk",))
    assert not world.events(CallIntent)
    assert of(world.receive(invite("sip:2125550177@10.0.0.5")), "INVITE"), "other calls are served"


def test_a_blocked_number_is_found_in_any_spelling(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    blocked(world, "+1 (212) 555-0199")
    assert of(world.receive(invite(user="2125550199")), 403)
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A, "and nobody else"


def test_a_block_ends_by_itself(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    blocked(world, "4102", seconds=60)
    assert of(world.receive(invite()), 403)
    world.advance(61)
    assert one(world.receive(invite()), "INVITE")


def test_a_change_of_the_file_is_seen_and_a_broken_one_blocks_nobody(tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    blocks = blocked(world, "4102")
    assert len(blocks) == 1
    (tmp_path / "blocks.json").write_text("[{")
    blocks.look()
    assert not blocks
    assert one(world.receive(invite()), "INVITE")
    with pytest.raises(BlocksError, match="remove it"):
        read_blocks(tmp_path)
    (tmp_path / "blocks.json").unlink()
    blocks.look()
    assert not blocks


def test_no_block_lasts_for_ever(tmp_path: Path) -> None:
    (tmp_path / "blocks.json").write_text(json.dumps([{"who": "1", "reason": "x", "since": 100, "until": 1e12}]))
    assert read_blocks(tmp_path)[0].until == 100 + LONGEST


def test_the_command(tmp_path: Path) -> None:
    config = tmp_path / "edge911.yaml"
    config.write_text(json.dumps({**CONFIG, "state_directory": "state"}))

    def run(*arguments: str) -> tuple[int, str]:
        done = invoke(["-c", str(config), "block", *arguments])
        return done.exit_code, done.output

    engine = open_store(f"sqlite:///{tmp_path}/edge911.db")
    assert run("list") == (0, "nobody is blocked\n")
    code, said = run("add", "4102", "--for", "1h", "--reason", "prank calls")
    assert (code, said.startswith("911 calls of 4102 are refused until ")) == (0, True)
    (block,) = read_blocks(tmp_path / "state")
    assert (block.who, block.reason, block.until - block.since) == ("4102", "prank calls", 3600.0)
    assert run("add", "4102", "--for", "30m", "--reason", "again")[0] == 0
    assert len(read_blocks(tmp_path / "state")) == 1, "the last word on somebody counts"
    assert "again" in run("list")[1]
    for wrong in (("--for", "for ever"), ("--for", "25h"), ("--for", "0s"), ("--for", "1h", "--reason", " ")):
        reason = () if "--reason" in wrong else ("--reason", "x")
        assert run("add", "4103", *wrong, *reason)[0] == 1
    assert run("add", "4103", "--for", "1h")[0] == 2, "no block without a reason"
    assert run("remove", "4104")[0] == 1
    assert run("remove", "4102") == (0, "911 calls of 4102 are served again\n")
    assert read_blocks(tmp_path / "state") == []
    with reading(engine) as conn:
        trail = [(row.action, row.before.get("reason"), row.after.get("reason")) for row in audit_rows(conn)]
    engine.dispose()
    assert trail[::-1] == [
        ("block", None, "prank calls"),
        ("block", "prank calls", "again"),
        ("unblock", "again", None),
    ]


def test_a_flood_raises_an_alarm_once_and_stops_nothing(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "flood": 5})
    said: list[tuple[int, str, dict[str, object]]] = []
    world.router.note = lambda level, event, fields: said.append((level, event, fields))
    for _ in range(30):
        assert of(world.receive(invite()), "INVITE", PROVIDER_A), "every one is served"
        world.now += 1
    alarms = [fields for level, event, fields in said if (level, event) == (logging.ERROR, "911 flood")]
    assert len(alarms) == 1
    assert (alarms[0]["number"], alarms[0]["source_address"], alarms[0]["calls_a_minute"]) == ("4102", PHONE[0], 5)
    assert world.router.counts["emergency_floods"] == 1


def test_what_is_a_flood() -> None:
    floods = Floods()
    assert [floods.is_news("a", 2, at) for at in (0, 1, 2, 3)] == [False, False, True, False]
    assert not any(floods.is_news("b", 2, 70.0 * number) for number in range(20)), "now and then is no flood"
    assert [floods.is_news("a", 2, SAID_AGAIN + 3 + at) for at in (0, 1, 2)] == [False, False, True]
    assert not any(floods.is_news("c", 0, 0) for _ in range(100)), "0 counts nothing"
