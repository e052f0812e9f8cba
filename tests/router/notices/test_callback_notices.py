"""The contacts are told of callbacks and of ELINs that run out, each callback by itself, in their language."""

from dataclasses import replace
from pathlib import Path

import pytest

from e911.callback_words import write_alarm, write_callback
from e911.record import AlarmRaised, CallbackEvent, CallbackOutcome
from tests.router.notice_events import AT
from tests.router.notices_runner import NoticesRunner, wait_until
from tests.support.webhook_sink import WebhookSink

BACK = CallbackEvent(
    id="call-1",
    at=AT,
    node="hq-1",
    callback="b1",
    number="+12125550191",
    caller="+12125550111",
    trunk="carrier",
    outcome=CallbackOutcome.RECEIVED,
    to="phone",
    who="Lobby",
    site="hq",
    contacts=("desk", "accueil"),
)
ALARM = AlarmRaised(
    id="call-1",
    at=AT,
    node="hq-1",
    reason="elin-pool-low",
    subject="hq",
    free=1,
    total=5,
    site="hq",
    contacts=("desk", "accueil"),
)


def test_every_callback_is_told_also_after_a_kill_and_none_twice(tmp_path: Path) -> None:
    with WebhookSink("127.0.0.1") as web:
        contacts = {
            "desk": web.url("desk"),
            "accueil": {"language": "fr", "send": [web.url("accueil")]},
            "quiet": {"follow_ups": ["ended"], "send": [web.url("quiet")]},
        }
        with NoticesRunner(tmp_path, contacts) as runner:
            runner.start_and_wait()
            told = replace(BACK, contacts=tuple(contacts))
            runner.append(told, replace(told, outcome=CallbackOutcome.ANSWERED, contacts=()))
            (first,) = web.wait_for("desk")
            assert "Lobby" in first.text
            assert "+12125550191" in first.text
            assert "+12125550111" in first.text
            assert "rappelle Lobby" in web.wait_for("accueil")[0].text
            wait_until(lambda: runner.log_names().count("notice-delivered") == 2, "both are noted as delivered")
            runner.kill()
            runner.append(replace(told, at=AT + 60, callback="b2"))
            runner.start_and_wait()
            assert len(web.wait_for("desk", 2)) == 2
            runner.append(ALARM)
            assert "1 / 5" in web.wait_for("desk", 3)[2].text
            assert not web.posts("quiet"), "who asked for other follow-ups only"
            assert len(web.posts("desk")) == 3


@pytest.mark.parametrize("language", ["en", "fr"])
def test_each_says_who_and_what_to_do(language: str) -> None:
    keys = {"language": language, "site_name": "Head office", "timezone": "America/New_York"}
    to_desk = write_callback(replace(BACK, to="desk"), **keys)
    texts = [
        write_callback(BACK, **keys),
        to_desk,
        write_callback(replace(BACK, is_psap=True), **keys),
        write_callback(replace(BACK, reason="lease-over", to="desk"), **keys),
        write_callback(replace(BACK, is_test=True), **keys),
    ]
    assert len({notice.body + notice.subject for notice in texts}) == 5
    for notice in texts:
        assert "Lobby" in notice.body
        assert "\n" not in notice.subject
        assert "call-1" in notice.body
    assert "TEST" in texts[4].subject
    for reason in ("elin-pool-low", "elin-pool-empty", "elin-shared"):
        notice = write_alarm(replace(ALARM, reason=reason), **keys)
        assert "hq" in notice.subject
        assert "edge911 elins list" in notice.body
    nobody = write_callback(replace(BACK, who="", caller=""), **keys)
    assert "{" not in nobody.body + nobody.subject
