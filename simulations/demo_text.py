"""How `edge911 demo` shows a call: as text for people, and as plain data for JSON."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo

from router.records.psap_view import ali_document, ali_lines, frame
from router.trace.ladder_view import Step, draw
from simulations.demo import CallReport
from simulations.demo_checks import Check
from simulations.demo_world import ROUTER, TIMEZONE
from simulations.front_desk import Mail, mail_lines

WIDTH = 78
Line = tuple[str, str]
"""A style (as rich names them, or empty) and a line."""

_TITLES = {"phone": "phone", "PBX": "PBX", ROUTER: "edge911", "ERS A": "ERS A", "ERS B": "ERS B", "relay": "relay"}


def call_lines(report: CallReport) -> Iterator[Line]:
    """One call: heading, screen, ladder, mail, checks."""
    scene = report.scene
    yield "", ""
    yield "bold", f"── Call {scene.number}: {scene.title} ".ljust(WIDTH, "─")
    for line in textwrap.wrap(scene.story, WIDTH - 2):
        yield "", f"  {line}"
    yield "", ""
    yield from _screen(report)
    yield "", ""
    yield "bold", "  SIP ladder, from what each side sent and received (times in ms)"
    titles = {**_TITLES, "phone": scene.extension.number}
    for step, line in zip([None, *report.steps], draw(report.steps, report.lanes, titles), strict=False):
        yield _step_style(step), f"  {line}"
    if scene.dead:
        yield "dim", "         ERS A has no lane: it is closed, nothing can be received there."
    yield "", ""
    yield from _mail(report)
    yield "", ""
    yield from check_lines(report.checks)


def _screen(report: CallReport) -> Iterator[Line]:
    where = {"ers_a": "ERS A", "ers_b": "ERS B", "relay": "relay centre"}[report.scene.taker]
    title = f"{'Operator' if report.scene.taker == 'relay' else 'PSAP'} screen at {where}"
    if report.screen is None:
        yield "bold red", f"  {title}: nothing, no call arrived"
        return
    for line in frame(title, ali_lines(report.screen, ZoneInfo(TIMEZONE))):
        yield "bold red" if "***" in line else "cyan", f"  {line}"


def _mail(report: CallReport) -> Iterator[Line]:
    if report.mail is None:
        yield "bold red", "  Notice mail at the front desk: none arrived"
        return
    yield "bold", f"  Notice mail at the front desk, {report.mail_ms:.0f} ms after the phone dialled"
    for line in mail_lines(report.mail):
        wrapped = textwrap.wrap(line, WIDTH - 4, subsequent_indent="    ", drop_whitespace=True) or [""]
        for part in wrapped:
            yield "", f"  | {part}".rstrip()


def check_lines(checks: Sequence[Check]) -> Iterator[Line]:
    """PASS or FAIL for each group of expectations; every problem on a line of its own."""
    for check in checks:
        first = f"  {'PASS' if check.ok else 'FAIL'}  {check.name:<9}  "
        indent = " " * len(first)
        texts = [check.says] if check.ok else check.problems
        for number, text in enumerate(texts):
            lines = textwrap.wrap(
                text, WIDTH, initial_indent=first if not number else indent, subsequent_indent=indent
            )
            for line in lines:
                yield "green" if check.ok else "bold red", line


def summary_lines(reports: Sequence[CallReport], problems: Sequence[str], seconds: float) -> Iterator[Line]:
    """The closing table, what is wrong, and the verdict."""
    yield "", ""
    yield "bold", "── Summary ".ljust(WIDTH, "─")
    if reports:
        yield "", "  milliseconds after dialling    at far end     rings  answered  notice mail"
    for report in reports:
        times = (report.arrived_ms, report.rang_ms, report.answered_ms, report.mail_ms)
        arrived, rang, answered, mail = (f"{value:.1f}" if value is not None else "never" for value in times)
        verdict = "PASS" if report.ok else "FAIL"
        row = f"  {verdict}  call {report.scene.number} by {report.scene.route:<14}"[:31]
        yield (
            "green" if report.ok else "bold red",
            f"{row:<31}{arrived:>10}{rang:>10}{answered:>10}{mail:>13}",
        )
    yield "", ""
    for problem in problems:
        for line in textwrap.wrap(problem, WIDTH, initial_indent="  wrong: ", subsequent_indent="         "):
            yield "bold red", line
    if problems:
        yield "bold red", f"  NOT all went as it should: {len(problems)} wrong, see above ({seconds:.1f} s)."
    else:
        yield "bold green", f"  All three calls went as they should ({seconds:.1f} s)."
        yield "", "  Next: write your own edge911.yaml, and try it with `edge911 check`."


def record_lines(reports: Sequence[CallReport]) -> Iterator[Line]:
    """What the router itself wrote down about the calls."""
    yield "", ""
    yield "bold", "── Records: edge911 calls show ".ljust(WIDTH, "─")
    for report in reports:
        record = report.seen.record
        yield "", f"  Call {report.scene.number}: {record['id'] if record else 'no record'}"
        yield from check_lines(report.record_checks)


def problems_of(reports: Sequence[CallReport]) -> list[str]:
    """Everything that is wrong, each with its call and group."""
    return [
        f"call {report.scene.number}, {check.name}: {problem}"
        for report in reports
        for check in (*report.checks, *report.record_checks)
        for problem in check.problems
    ]


def document(reports: Sequence[CallReport], problems: Sequence[str], seconds: float) -> dict[str, Any]:
    """All of it as plain data."""
    return {
        "ok": not problems,
        "seconds": round(seconds, 3),
        "problems": list(problems),
        "calls": [_call_document(report) for report in reports],
    }


def _call_document(report: CallReport) -> dict[str, Any]:
    scene = report.scene
    return {
        "number": scene.number,
        "title": scene.title,
        "ok": report.ok,
        "extension": scene.extension.number,
        "expected_route": scene.route,
        "milliseconds": {
            "arrived": _rounded(report.arrived_ms),
            "rang": _rounded(report.rang_ms),
            "answered": _rounded(report.answered_ms),
            "notice": _rounded(report.mail_ms),
        },
        "ali": ali_document(report.screen) if report.screen is not None else None,
        "ladder": [_step_document(step) for step in report.steps if step.to],
        "notice": _mail_document(report.mail) if report.mail is not None else None,
        "record": report.seen.record,
        "checks": [
            {"name": check.name, "ok": check.ok, "expected": check.says, "problems": check.problems}
            for check in (*report.checks, *report.record_checks)
        ],
    }


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "ms": step.ms,
        "from": step.sender,
        "to": step.to,
        "message": step.start_line,
        "transport": step.transport,
        "bytes": step.size,
        "retransmission": step.again,
    }


def _mail_document(mail: Mail) -> dict[str, Any]:
    found = asdict(mail)
    del found["at"]
    return found


def _step_style(step: Step | None) -> str:
    if step is None:
        return "bold"
    if not step.to:
        return "yellow"
    if step.start_line.startswith("SIP/2.0 ") and step.start_line[8:9] >= "3":
        return "bold red"
    return "dim" if step.label.startswith("100") else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
