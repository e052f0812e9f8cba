"""Templates: those supplied say what the built-in words say; one's own go first, and a broken one stops no notice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.schema import Config, Contact
from e911.record import CallEnded, CallOutcome
from router.journal.event_lines import encode_event
from router.notices.contact_urls import unusable_templates
from router.notices.links import Links
from router.notices.notice_writer import NoticeWriter, Occurrence
from router.notices.receivers.forms import Form
from router.notices.template_trials import failing_templates
from router.notices.templates import export
from tests.router.notice_events import intent, refused

CONFIG = Config.model_validate(
    {
        "listen": ["udp://127.0.0.1:5060"],
        "sites": [{"id": "hq", "name": "Head office", "timezone": "America/New_York"}],
    }
)


def occurrence(kind: str = "call", display: str = "") -> Occurrence:
    event = (
        refused("call-1") if kind == "refused" else intent("call-1", kind="test" if kind == "test" else "emergency")
    )
    if display:
        event.caller.device_name = display
    line = encode_event(event).rstrip(b"\n")
    return Occurrence(kind=kind, call="call-1", site="hq", is_test=kind == "test", line=line, status=503)


def writer(folder: Path) -> NoticeWriter:
    return NoticeWriter(CONFIG, Links(base="https://e911.example.com"), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    export(tmp_path / "own")
    return tmp_path


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("kind", ["call", "test"])
def test_the_supplied_templates_say_what_the_built_in_words_say(
    folder: Path, language: str, form: Form, kind: str
) -> None:
    plain = Contact.model_validate({"language": language, "send": ["json://x"]})
    own = plain.model_copy(update={"templates": "own"})
    built_in = writer(folder).write(occurrence(kind), plain, form)
    by_template = writer(folder).write(occurrence(kind), own, form)
    assert by_template.subject == built_in.subject
    kept = [
        line
        for line in built_in.body.splitlines()
        if not line.startswith(("Location from", "Emplacement selon", "In the console", "Dans la console"))
    ]
    assert by_template.body.rstrip("\n").splitlines() == kept


@pytest.mark.parametrize("kind", ["failed", "refused"])
def test_other_kinds_come_through_the_supplied_templates(folder: Path, kind: str) -> None:
    own = Contact.model_validate({"send": ["json://x"], "templates": "own"})
    assert "call-1" in writer(folder).write(occurrence(kind), own, Form.FULL).body


def test_own_words_go_first_by_kind_and_language(tmp_path: Path) -> None:
    (tmp_path / "fr").mkdir()
    (tmp_path / "call.subject.j2").write_text("CALL {{ callback }}\n from {{ site }}")
    (tmp_path / "fr" / "call.subject.j2").write_text("APPEL {{ callback }}")
    (tmp_path / "notice.body.j2").write_text("{{ device }} | {{ location_lines | join(', ') }} | {{ call_url }}")
    texts = {}
    for language in ("en", "fr"):
        contact = Contact.model_validate({"language": language, "send": ["json://x"], "templates": "."})
        texts[language] = writer(tmp_path).write(occurrence(), contact, Form.FULL)
    assert texts["en"].subject == "CALL +12125550123 from Head office"
    assert texts["fr"].subject == "APPEL +12125550123"
    assert texts["en"].body.startswith("Accueil, 3ᵉ étage (4102) | 350 5th AVE, New York, NY, US, Floor: 3")
    assert texts["en"].body.endswith("| https://e911.example.com/calls/call-1\n")


@pytest.mark.parametrize(
    "broken",
    [
        "{{ nothing_of_that_name }}",
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for a in range(10000000) %}x{% endfor %}",
        "{% for a in range(1000) %}" * 3 + "{% endfor %}" * 3,
        "{% set r = range(1000) %}" + "{% for a in r %}" * 3 + "{% endfor %}" * 3,
        "{{ 'x' * 10 ** 12 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% include '/etc/passwd' %}",
        "",
        "  \n\n",
        "\x80",
    ],
)
def test_a_broken_template_is_said_and_the_supplied_words_go_out(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notice.body.j2").write_bytes(broken.encode("latin-1"))
    contact = Contact.model_validate({"send": ["json://x"], "templates": "."})
    notice = writer(tmp_path).write(occurrence(), contact, Form.FULL)
    assert notice.body.startswith("911 was dialled by Accueil")
    assert [record.message for record in caplog.records] == ["template-failed"]


def test_what_a_phone_fills_in_is_text_and_never_a_template(tmp_path: Path) -> None:
    (tmp_path / "notice.subject.j2").write_text("{{ device }}")
    contact = Contact.model_validate({"send": ["json://x"], "templates": "."})
    evil = "{{ 7 * 7 }} <script>alert(1)</script> https://evil.example\n[x](y)"
    notice = writer(tmp_path).write(occurrence(display=evil), contact, Form.FULL)
    assert notice.subject.startswith("{{ 7 * 7 }} <script>alert(1)</script> https:/ /evil.example [x](y)")


def test_check_names_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    config = tmp_path / "edge911.yaml"
    config.write_text("contacts:\n  desk: {templates: own}\n  boss: {templates: none}\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "call.body.j2").write_text("a\n{% if %}")
    (tmp_path / "own" / "call.sms.j2").write_text("")
    found = [(one.line, one.path, one.message) for one in unusable_templates(config)]
    assert [(line, path) for line, path, _ in found] == [
        (2, "contacts.desk.templates"),
        (2, "contacts.desk.templates"),
        (3, "contacts.boss.templates"),
    ]
    assert "call.body.j2:2" in found[0][2]
    assert "call.sms.j2" in found[1][2]
    assert "no such folder" in found[2][2]
    assert failing_templates(tmp_path / "own", "en")


@pytest.mark.parametrize(
    ("name", "text", "line", "told"),
    [
        ("call.body.j2", "a\n{{ location.floor }}", 2, "'location' is undefined"),
        ("call.subject.j2", "{{ location_lines[0] }}", 1, "without a location"),
        ("notice.short.j2", "\n\n{{ callback[5] | int + 1 }}{{ callback[0] }}", 3, "callback"),
        ("fr/call.body.j2", "{% if language == 'fr' %}\n{{ salut }}\n{% endif %}", 2, "'salut' is undefined"),
        ("notice.body.j2", "{% if is_about_one_call %}{{ time }}{% endif %}", None, "it says nothing"),
        ("call.body.j2", "{{ 1 / (place | length) }}", 1, "division"),
        ("appel.body.j2", "a", None, "no notice is called appel"),
        ("call.spoken.j2", "{{ callback.startswith('+1') and device.upper('x') }}", 1, "upper"),
    ],
)
def test_check_tries_each_template_with_calls_such_as_there_are(
    tmp_path: Path, name: str, text: str, line: int | None, told: str
) -> None:
    (tmp_path / "fr").mkdir()
    (tmp_path / name).write_text(text)
    (found,) = failing_templates(tmp_path, "en")
    assert found.startswith(f"{name}:{line}: " if line else f"{name}: ")
    assert told in found


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_the_supplied_templates_stand_every_trial(folder: Path, language: str) -> None:
    assert failing_templates(folder / "own", language) == []


def test_the_end_of_a_call_nobody_knows_goes_out_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "notice.body.j2").write_text("{{ device }}")
    contact = Contact.model_validate({"send": ["json://x"], "templates": "."})
    line = encode_event(CallEnded(id="call-1", at=1.0, outcome=CallOutcome.FAILED, status=503)).rstrip(b"\n")
    happened = Occurrence(kind="failed", call="call-1", site="", is_test=False, line=line)
    assert "did NOT go through" in writer(tmp_path).write(happened, contact, Form.FULL).body
