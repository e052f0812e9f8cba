"""The notices process as it runs, against a real mail server, real web receivers, SQLite and PostgreSQL."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e911.record import CallOutcome
from router.journal.writer import JournalWriter
from router.notices.channels import LANE_THREADS
from router.notices.outbox import NoticeState
from router.records.record import CallRecord
from tests.router.notice_events import intent, refused, whole_call
from tests.router.notices_runner import ROOT, NoticesRunner, wait_until
from tests.router.raw_receiver import RawReceiver
from tests.support.desk_phone import DeskPhone
from tests.support.smtp_sink import SmtpSink
from tests.support.webhook_sink import WebhookSink

CONTACTS = ("front-desk", "security")


@pytest.fixture
def mail() -> Iterator[SmtpSink]:
    with SmtpSink("127.0.0.1") as sink:
        yield sink


@pytest.fixture
def web() -> Iterator[WebhookSink]:
    with WebhookSink("127.0.0.1") as sink:
        yield sink


def told(web: WebhookSink, path: str = "desk") -> Counter[str]:
    """How often each call was told, by the record id that every notice names."""
    return Counter(
        match[0] for post in web.posts(path) if (match := re.search(r"\bcall-\d+\b", post.document["message"]))
    )


def is_delivered(record: CallRecord) -> bool:
    return bool(record.notices) and all(entry.state is NoticeState.DELIVERED for entry in record.notices)


@pytest.mark.long
def test_each_contact_is_told_in_their_language_and_the_record_says_so(
    tmp_path: Path, store_url: str, mail: SmtpSink, web: WebhookSink
) -> None:
    contacts = {
        "front-desk": mail.url("desk@example.com"),
        "security": {"language": "fr", "send": [web.url("security"), mail.url("securite@example.com")]},
    }
    database = store_url if store_url.startswith("postgresql") else "sqlite:///edge911.db"
    with NoticesRunner(tmp_path, contacts, database=database) as runner:
        runner.start_and_wait()
        runner.append(*whole_call("call-1", contacts=CONTACTS))
        (english,) = mail.wait_for("desk@example.com")
        (french,) = mail.wait_for("securite@example.com")
        (post,) = web.wait_for("security")
        record = runner.wait_for_record("call-1", lambda record: is_delivered(record) and bool(record.finished_by))
        log = runner.log_file.read_text()
    for text in (english.text, french.text, post.text):
        assert "+12125550123" in text.replace(" ", "")
        assert "350 5th AVE" in text
        assert "Head office" in text
        assert "Accueil, 3ᵉ étage" in text
        assert "call-1" in text
    assert "was dialled" in english.text
    assert "composé" in french.text
    assert "composé" in post.text
    assert "911" in english.subject
    assert english.message.get_content_type() == "text/plain"
    assert sorted((entry.contact, entry.channel, entry.attempts) for entry in record.notices) == [
        ("front-desk", 0, 1),
        ("security", 0, 1),
        ("security", 1, 1),
    ]
    assert record.route == "backup"
    assert "5550123" not in log
    assert "350 5th" not in log


def test_a_test_call_says_test_and_only_those_hear_of_it_who_want_to(tmp_path: Path, web: WebhookSink) -> None:
    contacts = {"front-desk": web.url("desk"), "security": {"tests": False, "send": [web.url("security")]}}
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", kind="test", dialled="933", contacts=CONTACTS))
        runner.append(intent("call-2", contacts=CONTACTS))
        web.wait_for("security")
        posts = {post.document["title"].split(":")[0]: post for post in web.wait_for("desk", 2)}
    assert "TEST" in posts
    assert posts["TEST"].document["type"] == "info"
    assert list(told(web, "security")) == ["call-2"]


def test_where_somebody_asked_for_tests_nobody_else_hears_of_them(tmp_path: Path, web: WebhookSink) -> None:
    contacts = {"front-desk": web.url("desk"), "security": {"tests": True, "send": [web.url("security")]}}
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", kind="test", dialled="933", contacts=CONTACTS))
        runner.append(intent("call-2", contacts=CONTACTS))
        web.wait_for("security", 2)
        web.wait_for("desk")
    assert list(told(web, "desk")) == ["call-2"]


def test_calls_that_failed_or_were_refused_are_alarms_of_their_own(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        events = whole_call("call-1")
        runner.append(events[0])
        web.wait_for("desk")
        # The router restarts in between; the notices process too.
        runner.kill()
        runner.start()
        runner.append(
            *(event for event in whole_call("call-1", at=1.0)[1:3]),
        )
        from tests.router.notice_events import ended

        runner.append(ended("call-1", CallOutcome.FAILED, 503, ""))
        runner.append(refused("call-2"))
        web.wait_for("desk", 3)
        runner.wait_for_record("call-1", lambda record: record.outcome == "failed" and len(record.notices) == 2)
        texts = [post.text for post in web.posts("desk")]
    failed = [text for text in texts if "call-1" in text and "503" in text]
    assert len(failed) == 1
    assert "not" in failed[0].lower()
    assert [post.document["type"] for post in web.posts("desk")].count("failure") == 1
    assert any("call-2" in text and "203.0.113.9" in text for text in texts)


def test_a_receiver_that_refuses_is_tried_again_also_after_a_restart(tmp_path: Path, web: WebhookSink) -> None:
    with RawReceiver("503 Busy") as receiver, NoticesRunner(tmp_path, {"front-desk": receiver.url()}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        record = runner.wait_for_record(
            "call-1", lambda record: bool(record.notices) and record.notices[0].attempts >= 2
        )
        assert record.notices[0].state is NoticeState.QUEUED
        assert record.notices[0].reason == "refused"
        assert "503 Busy: words of the receiver" in record.notices[0].words
        wait_until(lambda: runner.status().get("queued") == 1, "it is counted")
        runner.kill()
        receiver.behaviours[:] = ["200 OK"]
        runner.start()
        record = runner.wait_for_record("call-1", is_delivered)
        assert record.notices[0].attempts >= 3
        assert len(receiver.requests) == record.notices[0].attempts


def test_a_receiver_that_hangs_or_resets_delays_nobody_else(tmp_path: Path, web: WebhookSink) -> None:
    with RawReceiver("hang") as hanging, RawReceiver("reset") as resetting:
        contacts = {"front-desk": [hanging.url(), resetting.url(), web.url("desk")], "security": web.url("security")}
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            for number in range(15):
                runner.append(intent(f"call-{number}", contacts=CONTACTS))
            web.wait_for("desk", 15)
            web.wait_for("security", 15)
            assert told(web) == told(web, "security") == Counter({f"call-{number}": 1 for number in range(15)})
            assert {request[2]["title"] for request in hanging.requests}


def test_the_same_intent_twice_is_one_notice(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        runner.wait_for_delivered("call-1")
        runner.kill()
        # The router was restarted too, and the phone sent its INVITE again.
        JournalWriter(runner.state / "journal", "hq-1").append(intent("call-1", at=1_790_000_004.0))
        runner.start_and_wait()
        JournalWriter(runner.state / "journal", "hq-1").append(intent("call-2"))
        web.wait_for("desk", 2)
        assert runner.end() == 0
        assert told(web) == Counter({"call-1": 1, "call-2": 1})


@pytest.mark.long
@pytest.mark.parametrize("with_database", [True, False])
def test_killed_at_any_moment_it_loses_no_notice(tmp_path: Path, web: WebhookSink, with_database: bool) -> None:
    contacts = {name: web.url(path) for name, path in (("front-desk", "desk"), ("security", "security"))}
    dice = random.Random(911)
    if not with_database:
        (tmp_path / "edge911.db").write_bytes(b"this is no database" * 1000)
    calls = 60
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start()
        kill_at = time.monotonic() + 2.0
        for number in range(calls):
            # Sites of their own, so that nothing is folded.
            runner.append(intent(f"call-{number}", contacts=CONTACTS, site=f"site-{number}"))
            time.sleep(dice.uniform(0.0, 0.2))
            if time.monotonic() > kill_at:
                runner.kill()
                runner.start()
                kill_at = time.monotonic() + dice.uniform(0.5, 2.5)
        for path in ("desk", "security"):
            wait_until(lambda path=path: len(told(web, path)) == calls, f"every call is told to {path}")  # type: ignore[misc]  # the default argument binds the loop's value
        runner.kill()
        runner.start_and_wait()
        wait_until(lambda: runner.status().get("queued") == 0, "nothing is queued")
        assert runner.end() == 0
        assert runner.starts >= 4
        if with_database:
            for number in (0, 30, 59):
                runner.wait_for_record(f"call-{number}", is_delivered)
    repeated = 0
    for path in ("desk", "security"):
        found = told(web, path)
        assert set(found.values()) <= {1, 2}
        repeated += sum(count - 1 for count in found.values())
    # Twice only where the kill hit between the answer and the line that the same thread writes next: hardly ever.
    assert repeated <= runner.starts * LANE_THREADS  # where each thread of a channel was just there


@pytest.mark.long
def test_200_calls_at_once_are_20_notices_and_one_of_180_also_when_killed_meanwhile(
    tmp_path: Path, web: WebhookSink
) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(*(intent(f"call-{number}") for number in range(200)))
        web.wait_for("desk", 20)
        folded = web.wait_for("desk", 21, timeout=30)[20]
        assert "180" in folded.document["title"]
        assert "180" in folded.document["message"]
        assert len({post.document["title"] + post.document["message"] for post in web.posts("desk")}) == 21
        record = runner.wait_for_record(
            "call-150", lambda record: [entry.state.value for entry in record.notices] == ["folded", "delivered"]
        )
        assert record.notices[1].kind == "folded-call"

        runner.append(*(intent(f"call-{number}") for number in range(1000, 1100)))
        wait_until(lambda: len(web.posts("desk")) >= 21 + 19, "the second storm")
        wait_until(lambda: runner.status()["journal_lag_bytes"] == 0, "it was read")
        runner.kill()
        runner.start()
        counts: list[int] = []

        def all_told() -> bool:
            posts = web.posts("desk")[21:]
            alone = {
                match[0]
                for post in posts
                if (match := re.search(r"record: (call-1\d\d\d)", post.text, re.IGNORECASE))
            }
            titles = [post.document["title"] for post in posts]
            counts[:] = [int(match[1]) for title in titles if (match := re.search(r"\b(\d{2,3}) ", title))]
            return len(posts) >= 20 and sum(int(n) for n in counts if n != 911) + len(alone) >= 100

        wait_until(all_told, f"the second storm is told in full; folded so far {counts}")
        assert len(web.posts("desk")) < 21 + 60
        assert runner.end() == 0


def test_a_corrupt_database_stops_no_notice_and_a_restart_repeats_none(tmp_path: Path, web: WebhookSink) -> None:
    (tmp_path / "edge911.db").write_bytes(b"\x00garbage" * 5000)
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        runner.wait_for_delivered("call-1")
        wait_until(lambda: runner.status()["database_error"] == "database-corrupt", "it says so")
        assert runner.status()["database_ok"] is False
        # By another thread than the one that writes the status.
        wait_until(lambda: "database-failed" in runner.log_names(), "the log says so")
        runner.kill()
        runner.start_and_wait()
        runner.append(intent("call-2"))
        web.wait_for("desk", 2)
        # Mended while it runs: the records of all that time appear.
        (tmp_path / "edge911.db").unlink()
        for call in ("call-1", "call-2"):
            runner.wait_for_record(call, is_delivered)
        assert told(web) == Counter({"call-1": 1, "call-2": 1})


def test_a_locked_database_stops_no_notice_and_is_caught_up_with(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        runner.wait_for_record("call-1", is_delivered)
        lock = sqlite3.connect(tmp_path / "edge911.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        runner.append(intent("call-2"))
        web.wait_for("desk", 2)
        lock.execute("ROLLBACK")
        lock.close()
        runner.wait_for_record("call-2", is_delivered)


def test_a_database_file_that_is_removed_meanwhile_is_made_anew_with_what_the_journal_holds(
    tmp_path: Path, web: WebhookSink
) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        runner.wait_for_record("call-1", is_delivered)
        for file in tmp_path.glob("edge911.db*"):
            file.unlink()
        runner.append(intent("call-2"))
        runner.wait_for_record("call-1")
        runner.wait_for_record("call-2", is_delivered)
        assert told(web) == Counter({"call-1": 1, "call-2": 1})


def test_what_only_the_database_still_knows_is_delivered(tmp_path: Path, web: WebhookSink) -> None:
    with RawReceiver("503 Busy") as receiver, NoticesRunner(tmp_path, {"front-desk": receiver.url()}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        runner.wait_for_record("call-1", lambda record: bool(record.notices) and record.notices[0].attempts >= 1)
        runner.kill()
        runner.state.rename(tmp_path / "lost")
        runner.configure({"front-desk": web.url("desk")})
        runner.start()
        web.wait_for("desk")
        runner.wait_for_record("call-1", is_delivered)
        assert told(web) == Counter({"call-1": 1})


def test_a_reload_takes_a_mended_address_and_refuses_a_bad_file(tmp_path: Path, web: WebhookSink) -> None:
    with RawReceiver("404 Gone") as receiver, NoticesRunner(tmp_path, {"front-desk": receiver.url()}) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1"))
        wait_until(lambda: len(receiver.requests) >= 1, "it was tried")
        runner.configure({"front-desk": web.url("desk")})
        runner.signal(signal.SIGHUP)
        web.wait_for("desk")
        runner.config_file.write_text("listen: nonsense\ncolour: red\n")
        runner.signal(signal.SIGHUP)
        wait_until(lambda: "configuration-refused" in runner.log_names(), "it says so")
        runner.append(intent("call-2"))
        runner.wait_for_delivered("call-1", "call-2")
        # Killed in the middle of an edit, it starts with what was good last.
        runner.kill()
        runner.append(intent("call-3"))
        runner.start()
        web.wait_for("desk", 3)
        assert told(web) == Counter({"call-1": 1, "call-2": 1, "call-3": 1})


@pytest.mark.parametrize("is_killed", [False, True])
def test_channels_put_in_another_order_are_told_once_each(tmp_path: Path, web: WebhookSink, is_killed: bool) -> None:
    """While one of them waits to be tried again."""
    with RawReceiver("503 Busy") as receiver, NoticesRunner(tmp_path, {}) as runner:
        late, desk = receiver.url(), web.url("desk")
        runner.configure({"front-desk": [late, desk]})
        runner.start_and_wait()
        runner.append(intent("call-1"))
        wait_until(lambda: bool(receiver.requests), "it was tried")
        web.wait_for("desk")
        runner.wait_for_record("call-1", lambda record: len(record.notices) == 2)
        runner.configure({"front-desk": [desk, late]})
        if is_killed:
            runner.kill()
            receiver.behaviours[:] = ["200 OK"]
            runner.start()
        else:
            runner.signal(signal.SIGHUP)
            wait_until(lambda: "configuration-reloaded" in runner.log_names(), "it says so")
            receiver.behaviours[:] = ["200 OK"]
        runner.wait_for_record(
            "call-1", lambda record: [notice.state for notice in record.notices] == ["delivered"] * 2
        )
        assert len(web.posts("desk")) == 1
        assert len(receiver.requests) > 1


def test_a_reload_with_a_template_that_would_fail_is_refused(tmp_path: Path, web: WebhookSink) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "call.body.j2").write_text("{{ location.floor }}")
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        bad = yaml.safe_load(runner.config_file.read_text())
        bad["contacts"]["front-desk"] |= {"templates": "own", "send": [web.url("elsewhere")]}
        runner.config_file.write_text(yaml.safe_dump(bad))
        runner.signal(signal.SIGHUP)
        wait_until(lambda: "configuration-refused" in runner.log_names(), "it says so")
        runner.append(intent("call-1"))
        web.wait_for("desk")


def test_a_contact_the_file_names_only_now_is_told(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.configure({"front-desk": web.url("desk"), "security": web.url("security")})
        # The call process has read it already; our SIGHUP is still on its way.
        runner.append(intent("call-1", contacts=(*CONTACTS, "nobody")))
        web.wait_for("security")
        wait_until(lambda: "contact-unknown" in runner.log_names(), "the third is named")


def test_told_to_end_it_tries_what_is_left_once_and_ends_with_0(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        runner.append(*(intent(f"call-{number}") for number in range(30)))
        assert runner.end() == 0
        posts = web.posts("desk")
        assert len(posts) == 21
        assert "10" in posts[-1].document["title"]
        assert runner.record("call-29") is not None


def test_a_phone_is_sent_a_message_beside_the_other_channels(tmp_path: Path, web: WebhookSink) -> None:
    with (
        DeskPhone() as phone,
        NoticesRunner(tmp_path, {"front-desk": [f"sip:100@{phone.endpoint}", web.url("desk")]}) as runner,
    ):
        runner.start_and_wait()
        runner.append(intent("call-1"))
        web.wait_for("desk")
        message = phone.wait_for("MESSAGE")
        record = runner.wait_for_record("call-1", is_delivered)
    assert "911 was dialled by Accueil, 3ᵉ étage (4102)" in message
    assert "+12125550123" in message
    assert record.notices[0].words == "SIP 200 OK"


def test_it_dies_with_its_parent(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-m', 'router.notices', '--config', sys.argv[1]])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code, str(runner.config_file)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            wait_until(lambda: runner.status().get("pid") == child, "the child runs")
        finally:
            parent.kill()
            parent.wait()
            parent.stdout.close()
        wait_until(lambda: not _is_running(child), "the child is gone")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_two_processes_on_one_directory_take_turns(tmp_path: Path, web: WebhookSink) -> None:
    with NoticesRunner(tmp_path, {"front-desk": web.url("desk")}) as runner:
        runner.start_and_wait()
        first = runner.process
        assert first is not None
        runner.start()
        runner.append(intent("call-1"))
        runner.wait_for_delivered("call-1")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        runner.append(intent("call-2"))
        web.wait_for("desk", 2)
        assert runner.end() == 0
        assert told(web) == Counter({"call-1": 1, "call-2": 1})
