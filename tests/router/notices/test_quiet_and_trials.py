"""Quiet hours, trials of channels, alarms that are no call, and the commands about contacts."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from router.cli import build_app
from router.notices.confirmations import request_alarm
from router.notices.outbox import NoticeState
from router.notices.quiet import quiet_until
from router.store.audit import audit_rows
from router.store.engine import open_store, reading
from tests.router.notice_events import intent
from tests.router.notices_runner import NoticesRunner, wait_until
from tests.router.raw_receiver import RawReceiver
from tests.support.webhook_sink import WebhookSink

NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("22:00-06:00", "2026-11-27 23:30", "2026-11-28 06:00"),
        ("22:00-06:00", "2026-11-27 05:59", "2026-11-27 06:00"),
        ("22:00-06:00", "2026-11-27 06:00", None),
        ("22:00-06:00", "2026-11-27 21:59", None),
        ("12:00-13:30", "2026-11-27 12:00", "2026-11-27 13:30"),
        ("12:00-13:30", "2026-11-27 13:30", None),
        ("22:00-06:00", "2026-10-31 23:00", "2026-11-01 06:00"),  # the clock is set back that night
        ("", "2026-11-27 23:30", None),
    ],
)
def test_quiet_hours(hours: str, now: str, until: str | None) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=NEW_YORK).timestamp()
    wanted = datetime.fromisoformat(until).replace(tzinfo=NEW_YORK).timestamp() if until else None
    assert quiet_until(hours, "America/New_York", at) == wanted


def around_now() -> str:
    """Quiet hours at the site of the test, now and for an hour and more."""
    now = datetime.now(NEW_YORK)
    return f"{now.hour:02}:00-{(now.hour + 2) % 24:02}:00"


def test_a_911_call_is_told_in_quiet_hours_and_a_test_is_not(tmp_path: Path) -> None:
    with WebhookSink("127.0.0.1") as web:
        contacts = {"front-desk": {"send": [web.url("desk")], "quiet_hours": around_now()}}
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            runner.append(intent("call-1", kind="test", dialled="933", at=time.time()))
            runner.append(intent("call-2", at=time.time()))
            (post,) = web.wait_for("desk")
            record = runner.wait_for_record("call-1", lambda record: bool(record.notices))
            assert (record.notices[0].state, record.notices[0].reason) == (NoticeState.SKIPPED, "quiet-hours")
        assert "call-2" in post.text


def test_an_alarm_waits_for_the_end_of_quiet_hours(tmp_path: Path) -> None:
    with WebhookSink("127.0.0.1") as web:
        contacts = {
            "front-desk": {"send": [web.url("desk")], "quiet_hours": around_now()},
            "engineer": {"send": [web.url("engineer")]},
        }
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            for _ in range(2):  # the same within a minute is told once
                request_alarm(runner.state, name="self-test", subject="933 FAILED", body="Route primary: silence.")
            (post,) = web.wait_for("engineer")
            wait_until(lambda: runner.log_names().count("alarm-told") == 2, "both were taken")
            wait_until(lambda: runner.status()["queued"] >= 1, "the desk's waits")
            assert len(web.posts("engineer")) <= 2
            assert not web.posts("desk")
    assert post.document["title"] == "933 FAILED"
    assert post.document["type"] == "failure"


def test_a_contact_is_tried_and_the_list_says_when_it_was_proven(tmp_path: Path) -> None:
    with WebhookSink("127.0.0.1") as web, RawReceiver("404 Not Found") as gone:
        front_desk: dict[str, Any] = {"send": [web.url("desk"), gone.url()], "language": "fr"}
        contacts = {"front-desk": front_desk, "boss": web.url("boss")}
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            runner.append(intent("call-1", contacts=("boss",)))
            runner.wait_for_record("call-1")  # there is a database
            command = CliRunner()
            config = ["-c", str(runner.config_file)]
            environment = {"EDGE911_STATE_DIRECTORY": str(runner.state)}
            tried = command.invoke(
                build_app(), ["contacts", "test", "front-desk", "--by", "Ada", *config], env=environment
            )
            assert tried.exit_code == 1, tried.output
            assert "#1 json://127.0.0.1" in tried.output
            assert "delivered: HTTP 200" in tried.output
            assert "NOT delivered, refused: HTTP 404" in tried.output
            (post,) = web.wait_for("desk")
            assert post.document["title"] == "ESSAI des avis 911"
            assert "Ada vérifie si les avis" in post.text
            listed = command.invoke(build_app(), ["contacts", "list", "--json", *config], env=environment)
            found = {(one["contact"], one["channel"][:2]): one for one in json.loads(listed.stdout)["channels"]}
            assert found["front-desk", "#1"]["is_delivered"]
            assert found["front-desk", "#2"]["last_proven"] is None
            assert found["front-desk", "#2"]["reason"] == "refused"
            assert found["boss", "#1"]["last_proven"]
            shown = command.invoke(build_app(), ["contacts", "list", *config], env=environment)
            assert "never" in shown.stdout
            with reading(open_store(runner.database_url)) as conn:
                (row,) = audit_rows(conn, subject="contact:front-desk")
            assert (row.who, row.via, row.action, row.after) == ("Ada", "cli", "test", {"channel": "all"})
            front_desk["send"].reverse()
            runner.configure(contacts)
            again = command.invoke(build_app(), ["contacts", "list", "--json", *config], env=environment)
            found = {(one["contact"], one["channel"][:2]): one for one in json.loads(again.stdout)["channels"]}
            assert found["front-desk", "#1"]["last_proven"] is None, "proof does not move with the place in the list"
            assert found["front-desk", "#2"]["is_delivered"]
            unknown = command.invoke(build_app(), ["contacts", "test", "nobody", *config], env=environment)
            assert unknown.exit_code == 1
            assert len(gone.requests) == 1, "a trial is tried once"


def test_the_supplied_templates_can_be_written_out_once(tmp_path: Path) -> None:
    command = CliRunner()
    first = command.invoke(build_app(), ["contacts", "templates", str(tmp_path / "own")])
    assert first.exit_code == 0, first.output
    assert (tmp_path / "own" / "fr" / "notice.body.j2").is_file()
    again = command.invoke(build_app(), ["contacts", "templates", str(tmp_path / "own")])
    assert again.exit_code == 1
