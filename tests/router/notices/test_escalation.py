"""Who has acknowledged, who is told when nobody has, and what follows on a notice: the notices process as it runs."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e911.record import CallFinished, CallOutcome, RouteEvent, RouteOutcome
from router.notices.confirmations import Confirmation, Step, confirm
from router.records.record import CallRecord
from router.store.confirmations import store_confirmations
from router.store.engine import open_store, writing
from tests.router.notice_events import ended, intent
from tests.router.notices_runner import NoticesRunner, wait_until
from tests.router.raw_receiver import RawReceiver
from tests.support.desk_phone import DeskPhone
from tests.support.smtp_sink import SmtpSink
from tests.support.webhook_sink import WebhookSink

CONTACTS = ("front-desk", "security", "boss")


@pytest.fixture
def web() -> Iterator[WebhookSink]:
    with WebhookSink("127.0.0.1") as sink:
        yield sink


@pytest.fixture
def mail() -> Iterator[SmtpSink]:
    with SmtpSink("127.0.0.1") as sink:
        yield sink


def acknowledge(runner: NoticesRunner, call: str, by: str = "Ada") -> None:
    confirm(runner.state, Confirmation(call=call, step=Step.ACKNOWLEDGED, by=by, how="command", at=time.time()))


def is_acknowledged(record: CallRecord) -> bool:
    return any(one.step is Step.ACKNOWLEDGED for one in record.confirmations)


def contacts_of(web: WebhookSink, **more: dict[str, Any]) -> dict[str, Any]:
    return {name: {"send": [web.url(name)], **more.get(name.replace("-", "_"), {})} for name in CONTACTS}


def test_nobody_acknowledges_and_the_next_is_told_then_the_one_they_name(tmp_path: Path, web: WebhookSink) -> None:
    contacts = contacts_of(
        web, front_desk={"escalate_after": "300ms"}, security={"language": "fr"}, boss={"escalate_after": "24h"}
    )
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", contacts=("front-desk", "security"), at=time.time()))
        posts = web.wait_for("security", 2)
        record = runner.wait_for_record("call-1", lambda record: len(record.notices) == 3)
        wait_until(lambda: runner.status().get("unacknowledged") == 1, "it is counted as such")
        assert not web.posts("boss")
    assert posts[1].document["title"].startswith("SANS CONFIRMATION : 911 composé : Accueil")
    assert posts[1].document["message"].startswith("front-desk n'a pas confirmé cet avis en 0 s")
    assert "+12125550123" in posts[1].text
    assert [(one.contact, one.kind) for one in record.notices][-1] == ("security", "escalated")


def test_whoever_acknowledges_in_time_stops_it(tmp_path: Path, store_url: str, web: WebhookSink) -> None:
    contacts = contacts_of(web, front_desk={"escalate_after": "1h", "escalate_to": ["boss"]})
    database = store_url if store_url.startswith("postgresql") else "sqlite:///edge911.db"
    with NoticesRunner(tmp_path, contacts, database=database) as runner:
        runner.start_and_wait()
        at = time.time()
        runner.append(
            *(intent(call, contacts=("front-desk",), at=at) for call in ("call-1", "call-2")),
        )
        web.wait_for("front-desk", 2)
        acknowledge(runner, "call-1")
        runner.wait_for_record("call-2")
        # Another node's console writes into the database.
        engine = open_store(runner.database_url)
        with writing(engine) as conn:
            store_confirmations(
                conn, "hq-2", [Confirmation(call="call-2", step=Step.ACKNOWLEDGED, by="Bob", how="link", at=at + 1)]
            )
        engine.dispose()
        wait_until(lambda: runner.status().get("unacknowledged") == 0, "both are acknowledged")
        runner.append(intent("call-3", contacts=("front-desk",), at=at - 3600))  # its time is over
        (post,) = web.wait_for("boss")
        assert "call-3" in post.text
        record = runner.wait_for_record("call-1", is_acknowledged)
    (one,) = record.confirmations
    assert (one.by, one.how, one.contact) == ("Ada", "command", "")


@pytest.mark.long
def test_escalation_outlives_kills(tmp_path: Path, web: WebhookSink) -> None:
    contacts = contacts_of(web, front_desk={"escalate_after": "2s", "escalate_to": ["boss"]})
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        # Known before there is anything to pass on: on a busy machine two seconds are over before it is taken.
        acknowledge(runner, "call-2")
        wait_until(lambda: "notice-acknowledged" in runner.log_names(), "it is taken")
        at = time.time()
        runner.append(*(intent(call, contacts=("front-desk",), at=at) for call in ("call-1", "call-2")))
        runner.wait_for_delivered("call-1", "call-2")
        runner.kill()
        runner.start()
        (post,) = web.wait_for("boss")
        assert "call-1" in post.text
        wait_until(lambda: any(line.get("kind") == "escalated" for line in runner.log()), "it is noted")
        wait_until(lambda: not list((runner.state / "requests").glob("*.json")), "requests are taken")
        runner.kill()
        runner.start_and_wait()
        runner.append(intent("call-3", contacts=("security",)))
        web.wait_for("security")
        assert runner.end() == 0
        assert len(web.posts("boss")) == 1
        assert len(web.posts("front-desk")) == 2
        runner.wait_for_record("call-2", is_acknowledged)


CLOCK = """
import time
REAL = time.time
def set_clock():
    try:
        return REAL() + float(open({file!r}).read())
    except (OSError, ValueError):
        return REAL()
time.time = set_clock
"""


def test_a_clock_that_is_set_back_puts_no_escalation_off(
    tmp_path: Path, web: WebhookSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(file=str(tmp_path / "set-by")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    contacts = contacts_of(web, front_desk={"escalate_after": "2s", "escalate_to": ["boss"]})
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", contacts=("front-desk",), at=time.time()))
        web.wait_for("front-desk")
        (tmp_path / "set-by").write_text("-3600")
        web.wait_for("boss")
        # Set back while nothing ran: what was due in an hour and two seconds is due in two.
        runner.append(intent("call-2", contacts=("front-desk",), at=time.time() - 3600))
        web.wait_for("front-desk", 2)
        wait_until(lambda: runner.status().get("unacknowledged") == 2, "it is watched")
        runner.kill()
        (tmp_path / "set-by").write_text("-7200")
        runner.start()
        web.wait_for("boss", 2)


def test_a_key_on_the_phone_acknowledges_also_without_a_database(tmp_path: Path, web: WebhookSink) -> None:
    (tmp_path / "edge911.db").write_bytes(b"this is no database" * 1000)
    with DeskPhone() as phone:
        contacts = contacts_of(web, boss={})
        contacts["front-desk"] = {
            "send": [f"sip-call:100@{phone.endpoint}"],
            "escalate_after": "30s",
            "escalate_to": ["boss"],
        }
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            runner.append(intent("call-1", contacts=("front-desk",), at=time.time()))
            phone.wait_for("ACK")
            phone.wait_for_sound(5)
            phone.press(1)
            phone.wait_for("BYE")
            wait_until(lambda: "notice-acknowledged" in runner.log_names(), "the key is taken for it")
            (seen,) = (line for line in runner.log() if line["event"] == "notice-seen")
            assert seen["how"] == "phone, picked up"
            wait_until(lambda: runner.status().get("unacknowledged") == 0, "nothing waits for anybody")


def test_where_nobody_can_be_reached_everybody_else_is_told(tmp_path: Path, web: WebhookSink) -> None:
    with RawReceiver("503 Busy") as deaf:
        contacts = {
            "front-desk": {"send": [deaf.url(), "sip:nobody@127.0.0.1:9"]},
            "security": {"send": [web.url("security")]},
            "boss": {"send": [web.url("boss")], "language": "fr"},
        }
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            runner.append(intent("call-1", contacts=("front-desk",), at=time.time()))
            (english,) = web.wait_for("security", timeout=40)
            (french,) = web.wait_for("boss")
            assert "nobody-told" in runner.log_names()
            wait_until(lambda: runner.status()["nobody_told_total"] == 1, "it is counted")
            record = runner.wait_for_record("call-1", lambda record: len(record.notices) == 4)
    assert english.document["title"].startswith("NOBODY COULD BE REACHED: 911 dialled")
    assert english.document["type"] == "failure"
    assert "front-desk" in english.document["message"].splitlines()[0]
    assert french.document["title"].startswith("PERSONNE N'A PU ÊTRE JOINT")
    assert {one.kind for one in record.notices} == {"call", "untold"}


def basic(call: str, route: str = "relay-centre") -> RouteEvent:
    return RouteEvent(id=call, at=time.time(), route=route, kind="basic", attempt=0, outcome=RouteOutcome.STARTED)


def test_a_channel_that_one_of_two_mailboxes_took_has_reached_somebody(
    tmp_path: Path, web: WebhookSink, mail: SmtpSink
) -> None:
    mail.unknown.add("gone@example.com")
    contacts = {
        "front-desk": {"send": [mail.url("desk@example.com,gone@example.com")]},
        "boss": {"send": [web.url("boss")]},
    }
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", contacts=("front-desk",), at=time.time()))
        wait_until(lambda: runner.status().get("failed_total", 0) >= 2, "the other mailbox is tried again")
        assert runner.status()["nobody_told_total"] == 0
        assert not web.posts("boss")
        assert len(mail.mails()) == 1


def test_what_becomes_of_a_call_is_told_in_the_thread_of_its_mail(
    tmp_path: Path, mail: SmtpSink, web: WebhookSink
) -> None:
    contacts = {
        "front-desk": {"send": [mail.url("desk@example.com"), web.url("quiet")]},
        "security": {
            "send": [mail.url("sec@example.com"), web.url("all")],
            "follow_ups": ["answered", "ended", "abandoned", "basic"],
            "language": "fr",
        },
    }
    told = ("front-desk", "security")
    with NoticesRunner(tmp_path, contacts) as runner:
        runner.start_and_wait()
        runner.append(intent("call-1", contacts=told), basic("call-1"))
        runner.append(ended("call-1", CallOutcome.ANSWERED, 200, "relay-centre"))
        runner.append(CallFinished(id="call-1", at=time.time(), by="caller"))
        runner.append(intent("call-2", contacts=told), ended("call-2", CallOutcome.CANCELLED, 487, ""))
        french = mail.wait_for("sec@example.com", 6)
        english = mail.wait_for("desk@example.com", 4)
        posts = web.wait_for("all", 6)
        assert len(web.posts("quiet")) == 2
        runner.wait_for_record("call-1", lambda record: len(record.notices) == 4 + 1 + 6)
    by_call = [[one for one in english if call in one.text] for call in ("call-1", "call-2")]
    for mails in by_call:
        (root,) = (one for one in mails if not one.message["In-Reply-To"])
        (reply,) = (one for one in mails if one.message["In-Reply-To"])
        assert reply.message["In-Reply-To"] == reply.message["References"] == root.message["Message-ID"]
        assert len(reply.message.get_all("Message-ID")) == 1
    assert len({one.message["Message-ID"] for one in english + french}) == 10
    subjects = " | ".join(one.subject for one in english)
    assert "911 goes on WITHOUT location: Accueil" in subjects
    assert "911 caller hung up before an answer" in subjects
    assert {one.document["title"].partition(":")[0].strip() for one in posts} == {
        "911 composé",
        "Le 911 continue SANS emplacement",
        "911 a répondu",
        "Appel au 911 terminé",
        "L'appelant au 911 a raccroché avant la réponse",
    }


def test_links_are_there_where_there_is_a_console(tmp_path: Path, web: WebhookSink) -> None:
    from router.notices.links import Claim, links_for

    with NoticesRunner(tmp_path, contacts_of(web)) as runner:
        text = runner.config_file.read_text() + "console: {listen: 'http://127.0.0.1:8911'}\n"
        runner.config_file.write_text(text)
        runner.start_and_wait()
        runner.append(intent("call-1", contacts=("front-desk", "security")))
        texts = [web.wait_for(name)[0].text for name in ("front-desk", "security")]
        from config.load import load_config

        links = links_for(load_config(runner.config_file).config, runner.state)
    for name, found in zip(("front-desk", "security"), texts, strict=True):
        assert "In the console: http://127.0.0.1:8911/calls/call-1\n" in found
        link = re.search(r"Acknowledge: http://127\.0\.0\.1:8911/ack/(\S+)", found)
        assert link
        call, contact, expires, signature = link[1].split("/")
        now = time.time()
        assert links.read(call, contact, expires, signature, now) == Claim("call-1", name)
        assert links.read(call, contact, expires, signature, now + 9 * 86400) == "link-expired"
        for wrong in (
            ("call-2", contact, expires, signature),
            (call, "boss", expires, signature),
            (call, contact, f"{int(expires, 16) + 1:x}", signature),
            (call, contact, "zz", signature),
            (call, contact, expires, "é" * 20),
            (call, contact, expires, ""),
        ):
            assert links.read(*wrong, now) == "link-invalid"
