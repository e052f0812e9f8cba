"""The channels against real receivers: a mail server, and HTTP receivers that refuse, hang, reset and redirect."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apprise
import pytest

from router.notices import channels as channels_module
from router.notices.channels import Channels, Job, Report, prepare_process, privacy_url
from router.notices.receivers.apprise_way import attempt_from_words
from router.notices.webhook import KeepAliveWebhook
from tests.router.raw_receiver import RawReceiver
from tests.support.certificates import Authority
from tests.support.smtp_sink import SmtpSink
from tests.support.webhook_sink import WebhookSink

SUBJECT = "APPEL 911 : Accueil, 3ᵉ étage (4102)"
BODY = "Le 911 a été composé à l'étage.\nRappel : +1 212 555-0123\n"


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import logging
    import socket

    logger = logging.getLogger("apprise")
    before = (logger.handlers, logger.level, logger.propagate, socket.getfqdn)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    prepare_process()
    yield
    logger.handlers, logger.level, logger.propagate = before[:3]
    socket.getfqdn = before[3]


def job(url: str, token: str = "n1") -> Job:
    return Job(token=token, url=url, subject=SUBJECT, body=BODY)


def send(url: str, channels: Channels | None = None) -> Report:
    channels = channels or Channels()
    channels.send(job(url))
    return channels.reports.get(timeout=20)


@pytest.mark.parametrize("subject", [SUBJECT, "911 CALL: Front desk (4102)"])
def test_a_mail_arrives_as_plain_text_in_its_language(subject: str) -> None:
    with SmtpSink("127.0.0.1") as sink:
        channels = Channels()
        channels.send(Job(token="n1", url=sink.url("desk@example.com"), subject=subject, body=BODY))
        report = channels.reports.get(timeout=20)
        (mail,) = sink.wait_for("desk@example.com")
    assert report.attempt.delivered
    assert mail.subject == subject
    assert mail.message.get_content_type() == "text/plain"
    assert mail.text.replace("\r\n", "\n").strip() == BODY.strip()
    assert mail.sender == "edge911@example.com"


def test_a_mail_goes_by_starttls_with_a_password_and_only_to_whom_the_authority_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("mail", "IP:127.0.0.1")
    with SmtpSink("127.0.0.1", certificate=pair, password="p@ss:w/rd") as sink:
        url = sink.url("desk@example.com").replace("mailto://", "mailtos://bob:{}@") + "&mode=starttls"
        good = url.format("p%40ss%3Aw%2Frd")
        unknown = send(good).attempt
        assert (unknown.delivered, unknown.reason) == (False, "unreachable")
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.words
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        wrong = send(url.format("other")).attempt
        assert (wrong.delivered, wrong.permanent, wrong.reason) == (False, True, "refused")
        assert "535" in wrong.words
        assert send(good).attempt.delivered
        (mail,) = sink.wait_for("desk@example.com")
    assert mail.subject == SUBJECT


def test_a_second_mail_does_not_wait_for_the_first() -> None:
    with SmtpSink("127.0.0.1") as sink:
        channels = Channels()
        started = time.monotonic()
        for number in range(6):
            channels.send(job(sink.url("desk@example.com"), f"n{number}"))
        reports = [channels.reports.get(timeout=20) for _ in range(6)]
        assert len(sink.wait_for("desk@example.com", 6)) == 6
    assert all(report.attempt.delivered for report in reports)
    # Apprise would pause 5.5 s between two.
    assert time.monotonic() - started < 15


def test_a_mail_server_that_says_try_later_is_a_temporary_no_in_its_own_words() -> None:
    with SmtpSink("127.0.0.1") as sink:
        sink.refuse = True
        attempt = send(sink.url("desk@example.com")).attempt
    assert not attempt.delivered
    assert not attempt.permanent
    assert "452" in attempt.words
    assert "try again later" in attempt.words


def test_the_webhook_sends_what_apprise_sends() -> None:
    with RawReceiver() as receiver:
        assert send(receiver.url()).attempt.delivered
        plugin = apprise.Apprise.instantiate(receiver.url(), asset=apprise.AppriseAsset(app_id="edge911"))
        assert KeepAliveWebhook.of(plugin) is not None
        assert plugin.notify(body=BODY, title=SUBJECT, notify_type=apprise.NotifyType.WARNING)
        ours, apprises = receiver.requests
    assert ours[0] == apprises[0] == "POST /911 HTTP/1.1"
    assert {**ours[2], "message": ours[2]["message"].strip()} == {
        **apprises[2],
        "message": apprises[2]["message"].strip(),
    }
    assert ours[2]["title"] == SUBJECT
    for name in ("content-type", "user-agent", "host"):
        assert ours[1][name] == apprises[1][name]


def test_one_connection_serves_many_notices() -> None:
    with RawReceiver() as receiver:
        channels = Channels()
        for number in range(30):
            channels.send(job(receiver.url(), f"n{number}"))
        reports = [channels.reports.get(timeout=20) for _ in range(30)]
        assert {report.job.token for report in reports} == {f"n{number}" for number in range(30)}
        assert all(report.attempt.delivered for report in reports)
        assert len(receiver.requests) == 30
        assert receiver.connections <= channels_module.LANE_THREADS


def test_a_connection_the_receiver_closed_meanwhile_is_replaced() -> None:
    with RawReceiver("silent-close-after") as receiver:
        plugin = apprise.Apprise.instantiate(receiver.url())
        webhook = KeepAliveWebhook.of(plugin)
        assert webhook is not None
        for _ in range(3):
            attempt = webhook.send(SUBJECT, BODY, notify_type="warning")
            assert attempt is not None
            assert attempt.delivered
            threading.Event().wait(0.05)  # the FIN takes a moment
        webhook.close()
        assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "reason", "permanent"),
    [
        ("503 Busy", "refused", False),
        ("429 Slow down", "refused", False),
        ("404 Not here", "refused", True),
        ("reset", "unreachable", False),
        ("close", "unreachable", False),
        ("garbage", "unreachable", False),
    ],
)
def test_a_receiver_that_refuses_or_breaks_off(behaviour: str, reason: str, permanent: bool) -> None:
    with RawReceiver(behaviour) as receiver:
        attempt = send(receiver.url()).attempt
    assert (attempt.delivered, attempt.reason, attempt.permanent) == (False, reason, permanent)
    assert attempt.words
    if reason == "refused":
        assert behaviour in attempt.words
        assert "words of the receiver" in attempt.words


def test_a_redirect_is_followed() -> None:
    with RawReceiver("redirect", "redirect", "200 OK") as receiver:
        assert send(receiver.url()).attempt.delivered
        assert receiver.requests[-1][0] == "POST /moved HTTP/1.1"


@pytest.mark.parametrize("redirect", ["301 Moved Permanently", "302 Found"])
@pytest.mark.parametrize("extra", ["", "?redirect=yes&+x=y"])
def test_a_redirect_that_would_lose_the_notice_is_a_no(redirect: str, extra: str) -> None:
    with RawReceiver(redirect, "200 Please log in") as receiver:
        attempt = send(receiver.url() + extra).attempt
        assert [request[0].split()[0] for request in receiver.requests] == ["POST"]
        moved = f"http://127.0.0.1:{receiver.port}/moved"
    assert (attempt.delivered, attempt.reason, attempt.permanent) == (False, "refused", True)
    assert redirect in attempt.words
    assert moved in attempt.words


def test_a_notice_names_no_picture_on_the_web() -> None:
    with RawReceiver() as receiver:
        assert send(f"mmost://127.0.0.1:{receiver.port}/{'t' * 24}").attempt.delivered
        ((_, _, document),) = receiver.requests
    assert SUBJECT in document["text"]
    assert "github" not in str(document)


def test_what_the_receiver_said_when_it_took_the_notice_is_kept() -> None:
    with SmtpSink("127.0.0.1") as sink:
        assert send(sink.url("desk@example.com")).attempt.words == "SMTP 250 OK"
    with RawReceiver("202 Accepted") as receiver:
        assert send(receiver.url().replace("json:", "form:")).attempt.words == "HTTP 202 Accepted"


def test_of_several_mailboxes_only_those_that_refused_are_tried_again() -> None:
    with SmtpSink("127.0.0.1") as sink:
        sink.unknown.add("gone@example.com")
        url = sink.url("desk@example.com,gone@example.com") + "&cc=boss@example.com"
        channels = Channels()
        for is_retry in (False, True):
            channels.send(replace(job(url), is_retry=is_retry))
            attempt = channels.reports.get(timeout=20).attempt
            assert (attempt.delivered, attempt.partly) == (False, True)
            assert "550" in attempt.words
            assert "gone@example.com" in attempt.words
        sink.unknown.clear()
        channels.send(replace(job(url), is_retry=True))
        assert channels.reports.get(timeout=20).attempt.delivered
        found = sorted(name for mail in sink.mails() for name in mail.recipients)
        assert found == ["boss@example.com", "desk@example.com", "gone@example.com"]
        channels.send(job(url, "n2"))
        assert channels.reports.get(timeout=20).attempt.delivered
        assert len(sink.mails("desk@example.com")) == 2


def test_of_several_numbers_only_those_that_were_refused_are_tried_again() -> None:
    with RawReceiver("200 OK", "503 Busy", "200 OK") as receiver:
        url = f"signal://127.0.0.1:{receiver.port}/12125550123/12125550124/12125550125"
        channels = Channels()
        channels.send(job(url))
        first = channels.reports.get(timeout=20).attempt
        channels.send(replace(job(url), is_retry=True))
        assert channels.reports.get(timeout=20).attempt.delivered
        assert (first.delivered, first.partly) == (False, True)
        told = [request[2]["recipients"] for request in receiver.requests]
    assert told == [["+12125550124"], ["+12125550125"], ["+12125550125"]]


def test_a_notice_too_long_for_a_service_is_sent_again_as_long_as_it_takes() -> None:
    link = "Acknowledge: http://127.0.0.1:8911/ack/1/desk/2"
    storm = "\n".join(f"4{number:03d} Front desk, Place a, 2nd floor" for number in range(200))
    with RawReceiver("400 Bad Request", "200 OK") as receiver:
        url = f"mmost://127.0.0.1:{receiver.port}/{'t' * 24}"
        channels = Channels()
        channels.send(replace(job(url), body=f"{storm}\n{link}\n"))
        attempt = channels.reports.get(timeout=20).attempt
        whole, cut = (request[2]["text"] for request in receiver.requests)
    assert attempt.delivered, attempt.words
    assert len(whole) > 4000 > len(cut)
    assert SUBJECT in cut
    assert "4080 Front desk" in cut
    assert cut.rstrip().endswith(link)


def test_a_service_that_says_no_to_a_short_notice_is_not_asked_twice() -> None:
    with RawReceiver("400 Bad Request") as receiver:
        attempt = send(f"mmost://127.0.0.1:{receiver.port}/{'t' * 24}").attempt
        assert len(receiver.requests) == 1
    assert (attempt.delivered, attempt.permanent) == (False, True)


@pytest.mark.parametrize("notify_type", ["info", "warning"])
def test_what_a_plugin_calls_delivered_was_sent(monkeypatch: pytest.MonkeyPatch, notify_type: str) -> None:
    """Opsgenie's puts news (a test, what became of a call) as a note under the alert that it made; without one it
    sends nothing, and says that this went well."""
    from apprise.plugins import opsgenie

    with RawReceiver("202 Accepted") as receiver:
        receiver.text = b'{"result":"Request will be processed","requestId":"43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}'
        monkeypatch.setitem(opsgenie.OPSGENIE_API_LOOKUP, "us", f"http://127.0.0.1:{receiver.port}/v2/alerts")
        channels = Channels()
        url = "opsgenie://a1b2c3d4-e5f6-7890-abcd-ef0123456789"
        channels.send(replace(job(url), notify_type=notify_type))
        attempt = channels.reports.get(timeout=20).attempt
        assert (attempt.delivered, attempt.words) == (True, "HTTP 202 Accepted")
        ((start, _, document),) = receiver.requests
        assert (start, document["message"]) == ("POST /v2/alerts HTTP/1.1", SUBJECT)
        channels.send(replace(job(f"{url}?action=note", "n2"), notify_type=notify_type))
        attempt = channels.reports.get(timeout=20).attempt
        assert len(receiver.requests) == 1
    assert not attempt.delivered
    assert "nothing was sent" in attempt.words


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(
    "url",
    [
        "rocket://abc1234567/s3cr3tghij@127.0.0.1:{port}/#desk",
        "mmost://127.0.0.1:{port}/s3cr3t00000000000000000",
        "form://bob:s3cr3t-pw@127.0.0.1:{port}/911",
        "json://127.0.0.1:{port}/911?+X-Token=s3cr3t-header",
    ],
)
def test_what_a_receiver_said_is_kept_without_the_secrets_of_its_url(url: str, is_there: bool) -> None:
    """`requests` says which URL could not be reached, and some services quote the token they refuse."""
    with RawReceiver("403 Forbidden") as receiver:
        url = url.format(port=receiver.port)
        receiver.text = f"no such token: {url}".encode()
        if is_there:
            attempt = send(url).attempt
    if not is_there:
        attempt = send(url).attempt
    assert not attempt.delivered
    assert attempt.words
    assert "s3cr3t" not in attempt.words


def test_a_closed_port_is_unreachable() -> None:
    with RawReceiver() as receiver:
        url = receiver.url()
    attempt = send(url).attempt
    assert (attempt.delivered, attempt.reason) == (False, "unreachable")
    assert "refused" in attempt.words.lower()


def test_a_channel_that_hangs_delays_no_other_and_is_reported_late_when_it_delivers_after_all() -> None:
    with RawReceiver("hang") as hanging, RawReceiver() as other:
        before = threading.active_count()  # other tests leave threads that end by themselves
        channels = Channels(attempt_seconds=0.2)
        for number in range(10):
            channels.send(job(hanging.url(), f"h{number}"))
        channels.send(job(other.url(), "quick"))
        assert channels.reports.get(timeout=20).job.token == "quick"
        time.sleep(0.3)
        channels.report_overdue()
        first = channels.reports.get(timeout=20)
        assert (first.attempt.delivered, first.attempt.reason, first.will_follow) == (False, "timeout", True)
        assert threading.active_count() - before < 30, "a thread for each that waits"
        hanging.release()
        late = {}
        while len(late) < 10:
            report = channels.reports.get(timeout=20)
            if report.attempt.delivered:
                late[report.job.token] = report.late
        assert late[first.job.token]


def test_first_attempts_go_before_retries() -> None:
    with RawReceiver("hang") as receiver:
        channels = Channels()
        for number in range(channels_module.LANE_THREADS):
            channels.send(job(receiver.url(), f"busy{number}"))
        for number in range(20):
            channels.send(Job(token=f"old{number}", url=receiver.url(), subject="", body="", is_retry=True))
        channels.send(job(receiver.url(), "new"))
        receiver.release()
        reports = [channels.reports.get(timeout=20) for _ in range(21 + channels_module.LANE_THREADS)]
    # In the order of their beginnings: how long each takes is the machine's affair.
    order = [report.job.token for report in sorted(reports, key=lambda report: report.started_at)]
    assert order.index("new") < order.index("old10")


@pytest.mark.parametrize("url", ["sip:10.0.0.10", "snmp://u@10.0.0.9?version=4", "syslog://10.0.0.9?facility=none"])
def test_a_url_of_ours_that_cannot_be_read_is_refused_by_name(url: str) -> None:
    attempt = send(url).attempt
    assert (attempt.unusable, attempt.reason) == (True, "channel-not-available")


def test_a_url_that_is_no_channel_is_tried_again_in_case_it_is_mended() -> None:
    attempt = send("nonsense://secret-token@x").attempt
    assert (attempt.delivered, attempt.unusable, attempt.reason) == (False, False, "channel-unknown")


def test_a_proxy_for_the_world_is_not_asked_to_reach_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawReceiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert send(receiver.url()).attempt.delivered
        # and by the plugin itself, which extra header fields are left to
        assert send(f"{receiver.url()}?+X-Desk=1").attempt.delivered
        assert receiver.requests[1][1]["x-desk"] == "1"


@pytest.mark.parametrize(
    ("lines", "reason", "permanent"),
    [
        (["Failed to send JSON POST notification: Unauthorized, error=401."], "refused", True),
        (["Failed to send Slack notification: error=500."], "refused", False),
        (["SMTP recipient desk@example.com was refused: 550 b'no such user'"], "refused", True),
        (["SMTP recipient desk@example.com was refused: 450 b'greylisted'"], "refused", False),
        (["Socket Exception: (554, b'5.7.1 rejected')"], "refused", True),
        (["A Connection error occurred sending JSON notification to 127.0.0.1."], "unreachable", False),
        ([], "unreachable", False),
    ],
)
def test_apprises_lines_tell_a_permanent_no_from_a_temporary_one(
    lines: list[str], reason: str, permanent: bool
) -> None:
    attempt = attempt_from_words(False, lines)
    assert (attempt.reason, attempt.permanent) == (reason, permanent)


@pytest.mark.parametrize(
    "url",
    [
        "mailto://user:hunter2@127.0.0.1:2525?to=a@example.com",
        "json://user:hunter2@127.0.0.1/x",
        "nonsense://hunter2@x",
    ],
)
def test_a_logged_url_holds_no_secret(url: str) -> None:
    assert "hunter2" not in privacy_url(url)
    assert privacy_url(url).startswith(url.partition(":")[0])


def test_the_thread_that_delivers_notes_it_first() -> None:
    """Also where the rest of the process is busy with something else."""
    noted: list[tuple[Report, int]] = []
    with WebhookSink("127.0.0.1") as web:

        def note(report: Report) -> None:
            noted.append((report, channels.reports.qsize()))
            raise RuntimeError("a fault keeps no report back")

        channels = Channels(on_delivered=note)
        channels.send(Job(token="n1", url=web.url("desk"), subject="s", body="b"))
        report = channels.reports.get(timeout=30)
        channels.close()
    ((first, waiting),) = noted
    assert (first.job.token, waiting) == ("n1", 0)
    assert report.attempt.delivered
