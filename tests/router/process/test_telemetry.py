"""The log: every record becomes a line, whatever is in it, and numbers and places stay out of it."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog

from config.schema import Log
from router.process.telemetry import DeferredLog, Metrics, configure_logging, redact

log = logging.getLogger("tests.telemetry")


class Written:
    """The log of a process, and the lines it wrote."""

    def __init__(self, form: Literal["json", "console"], *, redacts: bool) -> None:
        self.log: DeferredLog = configure_logging(Log(format=form, redact=redacts), process="calls", node="hq-1")

    def lines(self, capsys: pytest.CaptureFixture[str]) -> list[str]:
        self.log.finish()
        return capsys.readouterr().err.splitlines()


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    yield
    root.handlers, root.level = handlers, level
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags
    structlog.reset_defaults()


pytestmark = pytest.mark.usefixtures("_logging_restored")


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_record_that_cannot_be_rendered_is_a_plain_line_and_the_rest_goes_on(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    written = Written(form, redacts=True)
    log.info("before")
    log.info("%d", "+12125550123")
    written.log.note(logging.INFO, "note", {"field": _Unprintable()})
    log.info("after")
    lines = written.lines(capsys)
    assert "before" in lines[0]
    assert [line.startswith("log-line-not-rendered") for line in lines] == [False, True, True, False]
    assert "after" in lines[-1]
    assert "5550123" not in "".join(lines)
    assert written.log.not_rendered == 2


def test_bytes_from_the_wire_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written("json", redacts=True)
    log.info("from %s", b"\xff\xfe".decode("utf-8", "surrogateescape"))
    written.log.note(logging.INFO, "note \udcff", {"display": "\udcff"})
    first, second = map(json.loads, written.lines(capsys))
    assert first["event"] == "from \udcff\udcfe"
    assert second["display"] == "\udcff"


def test_a_fault_has_its_traceback_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written("json", redacts=True)
    try:
        int("+1 212 555 0123 and more")
    except ValueError:
        log.exception("a fault")
    (line,) = map(json.loads, written.lines(capsys))
    assert "test_telemetry.py" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "555" not in line["exception"]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("call from +1 (212) 555-0123 refused", "call from [redacted] refused"),
        ("to sip:4102@pbx.example.com;user=phone", "to sip:[redacted]@pbx.example.com;user=phone"),
        ("to SIPS:jane.doe:secret@192.0.2.1", "to SIPS:[redacted]@192.0.2.1"),
        ("tel:4102 and <tel:+12125550123>", "tel:[redacted] and <tel:[redacted]>"),
        ("no address for 192.0.2.17: gone", "no address for 192.0.2.17: gone"),
        ("route primary, 503", "route primary, 503"),
    ],
)
def test_numbers_and_users_are_redacted_everywhere(text: str, redacted: str) -> None:
    event = {"event": text, "detail": text, "list": [text], "call": "1790000000", "number": "x"}
    assert redact(None, "", event) == {
        "event": redacted,
        "detail": redacted,
        "list": [redacted],
        "call": "1790000000",
        "number": "[redacted]",
    }


def test_nothing_is_redacted_where_it_is_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written("json", redacts=False)
    log.info("call from +12125550123")
    (line,) = written.lines(capsys)
    assert json.loads(line)["event"] == "call from +12125550123"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_log_that_is_no_terminal_has_no_colours_and_a_line_for_each_record(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    written = Written(form, redacts=True)
    log.warning("words", extra={"event_fields": {"words": "two\nlines \x1b[2J"}})
    written.log.note(logging.INFO, "note", {"route": "a\nb"})
    lines = written.lines(capsys)
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)


def test_totals_of_the_notices_process_are_counters(tmp_path: Path) -> None:
    status = tmp_path / "notices.json"
    status.write_text('{"delivered_total": 7, "queued": 2, "database_ok": true, "database_error": ""}')
    text = Metrics((), (), {"notices": status}).text().decode()
    assert "# TYPE edge911_notices_delivered_total counter\nedge911_notices_delivered_total 7.0\n" in text
    assert "# TYPE edge911_notices_queued gauge\nedge911_notices_queued 2.0\n" in text
    assert "edge911_notices_database_ok 1.0\n" in text


@pytest.mark.parametrize("module", ["router.app", "router.notices"])
def test_the_processes_that_serve_hold_no_libraries_for_terminals(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('rich', 'pygments', 'typer') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_who_draws_on_the_terminal_after_that_still_can() -> None:
    code = "import router.process.telemetry; from rich.table import Table; print(Table.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Table\n"
