"""`edge911 doctor`: would 911 work now? For monitoring, and for people."""

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, choose_config, fail
from router.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.problem import Problem
    from router.readiness.findings import Finding
    from router.readiness.phones import SitePhones

SiteOption = Annotated[str, typer.Option("--site", metavar="ID", help="What concerns this site only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(site: SiteOption = "", as_json: JsonOption = False, config: ConfigOption = None) -> None:
        """Say whether 911 would work now, and what to mend.

        Per site: how many phones would reach E911 with a location to which help can be sent, how many basic 911 only,
        and why; then every finding with its remedy, the worst first: processes, trunks, contacts, phones, test calls,
        configuration. The same is the console's page Readiness.

        \b
        Exit codes, as monitoring systems read them:
          0  nothing to do
          1  warnings
          2  critical: a 911 call may fail, or nobody be told; a configuration that cannot be used; no such site
        """
        import structlog

        from config.load import ConfigError, load_config
        from router.readiness.findings import Severity, worst
        from router.readiness.judge import findings_of
        from router.readiness.look import look

        try:
            loaded = load_config(choose_config(config))
        except ConfigError as error:
            wrong = _wrong_configuration(error.problems)
            (_print_json if as_json else _print)("critical", [], wrong)
            raise typer.Exit(worst(wrong).exit_code) from None
        if site and site not in {one.id for one in loaded.config.sites}:
            ids = ", ".join(one.id for one in loaded.config.sites)
            fail(f"--site {site}: there is no such site; `sites` has {ids}", Severity.CRITICAL.exit_code)
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        seen = look(loaded, _progress(as_json))
        findings = [one for one in findings_of(seen) if not site or one.site in ("", site)]
        phones = [one for one in seen.phones if not site or one.site == site]
        severity = worst(findings)
        if as_json:
            _print_json(severity.value, phones, findings)
        else:
            _print(severity.value, phones, findings)
        raise typer.Exit(severity.exit_code)


def _wrong_configuration(problems: "list[Problem]") -> "list[Finding]":
    """A start would fail, and a running router takes up no change."""
    from router.readiness.findings import Finding, Severity

    return [
        Finding(
            severity=Severity.CRITICAL,
            name="configuration-wrong",
            subject=problem.path,
            message=f"{problem.message}; it cannot be started with, a running router goes on with the last good one",
            remedy=f"mend {problem.file}:{problem.line}; `edge911 check` tries it",
        )
        for problem in problems
    ]


def _progress(as_json: bool) -> "Callable[[int], None]":
    import sys

    def told(count: int) -> None:
        if not as_json and sys.stderr.isatty():
            sys.stderr.write(f"\r{count} phones …")
            sys.stderr.flush()

    return told


def _print_json(severity: str, phones: "list[SitePhones]", findings: "list[Finding]") -> None:
    import json

    document = {
        "status": severity,
        "sites": [one.as_document() for one in phones],
        "findings": [one.as_document() for one in findings],
    }
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _print(severity: str, phones: "list[SitePhones]", findings: "list[Finding]") -> None:
    words = {
        "ok": "READY: nothing to do",
        "warning": "READY, with warnings",
        "critical": "NOT READY: a 911 call may fail, or nobody be told",
    }
    typer.echo(words[severity])
    typer.echo()
    rows = [
        (one.site or "(no site)", *(str(getattr(one, name)) for name in _COLUMNS))
        for one in phones
        if one.phones or one.site
    ]
    if rows:
        headings = ("Site", "Phones", "E911, dispatchable", "E911, not enough", "Basic 911", "No route")
        print_table(headings, rows, cut=("Site",))
        typer.echo()
    for finding in findings:
        where = " ".join(text for text in (finding.site, finding.subject) if text)
        what = f"{finding.severity.value.upper()} {finding.name}{f' [{where}]' if where else ''}"
        typer.echo(f"{what}: {finding.message}")
        typer.echo(f"    → {finding.remedy}")


_COLUMNS = ("phones", "dispatchable", "located", "basic", "nowhere")
