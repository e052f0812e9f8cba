"""What a phone fills in (display name, User-Agent, location) does nothing in mail, HTML, chat, SMS or speech."""

import dataclasses
import itertools

import pytest

from e911.notice import Notice, NoticeKind, write_notice
from e911.notice_forms import SMS_CHARACTERS, gsm_text, short_form, spoken_form
from router.notices.channels import Channels, Job, Report
from router.notices.receivers.apprise_way import message_id
from router.notices.receivers.chat_text import as_markdown, harmless
from router.notices.receivers.forms import Form, Thread, form_of, has_answer, thread_of
from tests.router.notice_events import intent
from tests.router.notices.test_channels import _prepared  # noqa: F401 - a fixture for every test here, too
from tests.router.raw_receiver import RawReceiver
from tests.support.smtp_sink import SmtpSink

EVIL = (
    "<script>alert(1)</script> [Réception](https://evil.example/x) *bold* @channel <!here> ![x](y) `rm`"
    "\r\nBcc: all@example.com\n\u202egnp.exe"
)


def notice(language: str = "en") -> Notice:
    event = intent("call-1")
    event.caller.device_name = EVIL
    assert event.location
    civic = dataclasses.replace(event.location.civic, room=EVIL)
    event.location = dataclasses.replace(event.location, civic=civic)
    return write_notice(
        NoticeKind.CALL, event, language=language, site_name="Head office", timezone="UTC", zone_name=""
    )


def send(url: str, body: str | None = None) -> Report:
    channels = Channels()
    found = notice()
    channels.send(
        Job(token="n", url=url, subject=found.subject, body=body or found.body, call="call-1", contact="desk")
    )
    report = channels.reports.get(timeout=30)
    channels.close()
    return report


def test_a_line_of_a_phone_is_one_line_and_no_link() -> None:
    found = notice()
    assert "\r" not in found.body + found.subject
    assert "\n" not in found.subject
    assert not any(line.startswith("Bcc") for line in found.body.splitlines())
    assert "://" not in found.subject + found.body
    assert "\u202e" not in found.subject + found.body


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_mail_shows_it_as_text(form: str) -> None:
    with SmtpSink("127.0.0.1") as sink:
        assert send(f"{sink.url('desk@example.com')}&format={form}").attempt.delivered
        (mail,) = sink.wait_for("desk@example.com")
    assert mail.recipients == ("desk@example.com",)
    assert mail.message["Bcc"] is None
    html = mail.message.get_body(("html",))
    assert (html is not None) is (form == "html")
    if html is not None:
        assert "<script>" not in html.get_content()
        assert "&lt;script&gt;" in html.get_content()


def test_a_chat_that_reads_markdown_finds_none_in_it() -> None:
    with RawReceiver() as receiver:
        link = "Acknowledge: https://e911.example.com/ack/call_1/desk/6a/x_y*"
        url = receiver.url().replace("json://", "mmost://").rpartition("/")[0] + "/" + "a" * 26
        assert send(url, notice().body + link).attempt.delivered
        (request,) = receiver.requests
    text = request[2]["text"]
    assert not set("<>[]*`@!") & set(text.replace(link.partition(": ")[2], "").replace("##", ""))
    assert "‹script›alert(1)‹/script›" in text
    assert link in text, "our own link stays whole"


def test_a_chat_that_reads_nothing_but_markdown_shows_lines_and_links() -> None:
    """Teams, Google Chat, Webex, Rocket.Chat: line breaks were run together, and links had backslashes in them."""
    with RawReceiver() as receiver:
        link = "https://e911.example.com/ack/call_1/desk/6a/_x-y_"
        url = f"rocket://abc1234567/abcdefghij@127.0.0.1:{receiver.port}/#desk"
        assert send(url, f"{notice().body}Acknowledge: {link}\n").attempt.delivered
        (request,) = receiver.requests
    text = request[2]["text"]
    assert f"[Acknowledge]({link})" in text
    assert "\\" not in text
    lines = text.partition(harmless(notice().subject))[2].strip().split("\n")
    for line, following in itertools.pairwise(lines):
        assert line.endswith("  ") or not line.strip() or not following.strip(), (line, following)
    assert not set("<>[]*`@!") & set(text.replace(f"[Acknowledge]({link})", ""))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b _c_ d", "a_b ＿c＿ d"),
        ("Where:\n    101 Lake\n\nEnd", "Where:  \n\u00a0\u00a0\u00a0\u00a0101 Lake\n\nEnd"),
        ("Confirmer : http://h/a_(b)", "[Confirmer](http://h/a_%28b%29)"),
        ("see http://h/_x_ now", "see [http://h/_x_](http://h/_x_) now"),
    ],
)
def test_plain_text_as_markdown(text: str, shown: str) -> None:
    assert as_markdown(text) == shown


def test_lookalikes_leave_links_alone() -> None:
    assert harmless("a*b https://x/a_b*c @here") == "a∗b https://x/a_b*c ＠here"


@pytest.mark.parametrize("language", ["en", "fr"])
def test_an_sms_is_one_of_the_gsm_alphabet(language: str) -> None:
    found = notice(language)
    text = short_form(found, intent("call-1"), language)
    assert len(text) <= SMS_CHARACTERS
    assert text == gsm_text(text)
    assert "911" in text


def test_gsm_text_keeps_what_can_be_read() -> None:
    assert gsm_text("Éloïse à l’étage, 3ᵉ — ça va ? 日本") == "Éloise à l'étage, 3e - ca va ? ??"


def test_what_is_spoken_ends_with_how_to_confirm() -> None:
    assert spoken_form(notice(), intent("call-1"), "en").endswith(
        "Press any key to confirm that you have heard this."
    )
    assert " 1 2 1 2 5 5 5 0 1 2 3" in spoken_form(notice(), intent("call-1"), "en")


@pytest.mark.parametrize(
    ("url", "form", "thread"),
    [
        ("mailto://127.0.0.1?from=a@example.com&to=b@example.com", Form.FULL, Thread.MAIL),
        ("json://127.0.0.1/x", Form.FULL, Thread.NONE),
        ("twilio://AC" + "a" * 32 + ":" + "b" * 32 + "@12125550100/12125550101", Form.SHORT, Thread.NONE),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", Form.FULL, Thread.KEY),
        ("pagerduty://" + "a" * 20 + "@" + "b" * 20 + "/source/component", Form.FULL, Thread.KEY),
        ("sip:100@10.0.0.10", Form.FULL, Thread.NONE),
        ("sip-call:100@10.0.0.10", Form.SPOKEN, Thread.NONE),
        ("syslog://10.0.0.9", Form.FULL, Thread.KEY),
        ("snmp://10.0.0.9", Form.FULL, Thread.KEY),
        ("nonsense://x", Form.FULL, Thread.NONE),
    ],
)
def test_each_channel_has_its_form_and_its_thread(url: str, form: Form, thread: Thread) -> None:
    assert (form_of(url), thread_of(url)) == (form, thread)


@pytest.mark.parametrize(
    ("url", "answers"),
    [
        ("mailto://127.0.0.1?from=a@example.com&to=b@example.com", True),
        ("sip:100@10.0.0.10", True),
        ("sip-call:100@10.0.0.10", True),
        ("snmp://10.0.0.9?inform=yes", True),
        ("snmp://10.0.0.9", False),
        ("syslog://10.0.0.9", False),
    ],
)
def test_what_is_only_sent_is_no_proof(url: str, answers: bool) -> None:
    assert has_answer(url) == answers


def test_a_notice_sent_again_has_the_same_message_id() -> None:
    one = message_id("call-1", "desk", "mailto://x")
    assert one == message_id("call-1", "desk", "mailto://x")
    assert one != message_id("call-1", "boss", "mailto://x")
    assert one != message_id("call-1", "desk", "mailto://x", "basic")
