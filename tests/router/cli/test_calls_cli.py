"""`edge911 calls` on real databases and on a journal alone."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from e911.record import CallOutcome
from router.cli import calls
from router.journal.writer import JournalWriter
from router.notices.outbox import Entry, NoticeState
from router.store import records
from router.store.engine import open_store, writing
from router.store.outbox import store_entries
from tests.router.notice_events import AT, ended, intent, refused, whole_call

NOTICES = [
    Entry(
        call="c1-aaa",
        kind="call",
        contact="front-desk",
        channel=0,
        queued_at=AT,
        state=NoticeState.DELIVERED,
        attempts=2,
        first_attempt_at=AT,
        last_attempt_at=AT + 1,
        words="HTTP 200 OK",
    ),
    Entry(
        call="c1-aaa",
        kind="call",
        contact="security",
        channel=1,
        queued_at=AT,
        state=NoticeState.REFUSED,
        reason="channel-not-available",
    ),
]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = {
        "node": "hq-1",
        "listen": ["udp://127.0.0.1:5060"],
        "networks": {"inside": ["127.0.0.0/8"]},
        "sites": [{"id": "hq", "name": "Head office", "timezone": "America/Toronto", "notify": ["front-desk"]}],
        "contacts": {"front-desk": {"send": ["json://127.0.0.1:9/"]}},
    }
    path = tmp_path / "edge911.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def stored(config_file: Path) -> Path:
    engine = open_store(f"sqlite:///{config_file.parent}/edge911.db")
    caller = intent().caller
    with writing(engine) as conn:
        records.apply_events(conn, whole_call("c1-aaa", contacts=("front-desk", "security", "owner")))
        records.apply_events(conn, [intent("c1-bbb", at=AT + 60, kind="test", dialled="933")])
        records.apply_events(conn, [intent("c2", at=AT + 90, site="branch", location=None), refused("r1")])
        records.apply_events(conn, [ended("c2", CallOutcome.FAILED, 503, "")])
        hostile = type(caller)(number="[red]4[/red]\x1b[2J", device="[/bold]")
        records.apply_events(conn, [intent("c3", caller=hostile, at=AT - 5)])
        store_entries(conn, "hq-1", [entry.as_row() for entry in NOTICES])
    engine.dispose()
    return config_file


def run(config_file: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    calls.register(app)
    return CliRunner().invoke(app, ["calls", *arguments, "-c", str(config_file)])


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_the_list_is_newest_first_and_bare_calls_is_the_list(stored: Path) -> None:
    listed = document(run(stored, "list", "--json"))
    assert listed["source"] == "database"
    assert [call["id"] for call in listed["calls"]] == ["c2", "c1-bbb", "c1-aaa", "r1", "c3"]
    shown = run(stored).stdout
    assert shown == run(stored, "list").stdout
    lines = shown.splitlines()
    assert "failed (503)" in lines[1]
    assert "933 (TEST)" in lines[2]
    assert "answered (200)" in lines[3]
    assert "2026-09-21" in lines[3]
    assert "EDT" in lines[3]
    assert "\x1b" not in shown


def test_the_list_is_narrowed(stored: Path) -> None:
    assert [call["id"] for call in document(run(stored, "list", "--json", "--site", "branch"))["calls"]] == ["c2"]
    assert len(document(run(stored, "list", "--json", "--limit", "2"))["calls"]) == 2
    since = datetime.fromtimestamp(AT + 30, UTC).isoformat()
    found = document(run(stored, "list", "--json", "--since", since))["calls"]
    assert [call["id"] for call in found] == ["c2", "c1-bbb"]
    assert run(stored, "list", "--site", "nowhere").stdout == "No such calls.\n"
    wrong = run(stored, "list", "--since", "yesterday-ish")
    assert wrong.exit_code == 1
    assert "write 2h" in wrong.stderr


def test_a_record_can_be_read_at_3_a_m(stored: Path) -> None:
    text = run(stored, "show", "c1-aaa").stdout
    for expected in (
        "911 call c1-aaa",
        "answered (200) by backup, after 2.500 s; caller hung up after 0:01:00",
        "4102 (Accueil, 3ᵉ étage)",
        "+12125550123 (device)",
        "350 5th AVE",
        "from registered (Manual); not validated",
        "behind-pbx",
        "refused (503)",
        "backup (e911, try 2)",
        "HTTP 200 OK",
        "refused, channel-not-available",
        "no notice is recorded for: owner",
    ):
        assert expected in text, f"{expected!r} not in:\n{text}"
    order = [text.index(word) for word in ("Who", "Where", "Routes tried", "Notices")]
    assert order == sorted(order)


def test_show_takes_a_beginning_that_fits_one_call(stored: Path) -> None:
    found = document(run(stored, "show", "c1-a", "--json"))["call"]
    assert found["id"] == "c1-aaa"
    assert [step["outcome"] for step in found["routes"]] == ["started", "refused", "started", "answered"]
    assert [notice["state"] for notice in found["notices"]] == ["delivered", "refused"]
    # As copied from a terminal that had no room for all of the id.
    assert document(run(stored, "show", "c1-a…", "--json"))["call"]["id"] == "c1-aaa"
    several = run(stored, "show", "c1")
    assert several.exit_code == 1
    assert "c1-aaa, c1-bbb" in several.stderr
    missing = run(stored, "show", "zz")
    assert missing.exit_code == 1
    assert "no call zz" in missing.stderr


def test_refused_test_failed_and_hostile_calls_are_shown_as_what_they_are(stored: Path) -> None:
    assert "REFUSED 911 call r1" in run(stored, "show", "r1").stdout
    assert "from-outside" in run(stored, "show", "r1").stdout
    assert "TEST call" in run(stored, "show", "c1-bbb").stdout
    assert "none known" in run(stored, "show", "c2").stdout
    hostile = run(stored, "show", "c3").stdout
    assert "[red]4[/red]" in hostile
    assert "\x1b" not in hostile


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_without_a_database_the_journal_is_read_and_it_says_so(config_file: Path, damage: str) -> None:
    journal = JournalWriter(config_file.parent / "edge911-state" / "journal", "hq-1")
    for event in (*whole_call("c1"), intent("c2", site="branch", at=AT + 5)):
        journal.append(event)
    journal.close()
    if damage == "corrupt":
        (config_file.parent / "edge911.db").write_bytes(b"garbage" * 2000)
    listed = run(config_file, "list", "--json")
    assert [call["id"] for call in document(listed)["calls"]] == ["c2", "c1"]
    assert document(listed)["source"] == "journal"
    assert f"database-{damage}" in listed.stderr
    assert "journal" in listed.stderr
    assert "answered (200) by backup" in run(config_file, "show", "c1").stdout
    assert [call["id"] for call in document(run(config_file, "list", "--json", "--site", "hq"))["calls"]] == ["c1"]


def test_nothing_yet_is_said_plainly(config_file: Path) -> None:
    open_store(f"sqlite:///{config_file.parent}/edge911.db").dispose()
    assert run(config_file).stdout == "No calls.\n"
