"""`edge911 evidence`: the dated report for 47 CFR 9.16 and RAY BAUM's Act, as HTML or PDF."""

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from router.cli.common import ConfigOption, fail, load_or_exit


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def evidence(
        site: Annotated[str, typer.Argument(metavar="SITE", help="Id of the site.")],
        output: Annotated[
            Path,
            typer.Option("-o", "--output", metavar="FILE", help="FILE.html or FILE.pdf; -: HTML here."),
        ] = Path("-"),
        language: Annotated[str, typer.Option("--lang", metavar="en|fr", help="Language of the report.")] = "en",
        config: ConfigOption = None,
    ) -> None:
        """Write the report of a site for 47 CFR 9.16.

        Direct dialling, notice (Kari's Law), dispatchable location (RAY BAUM's Act), dated. Each item with its proof
        (configuration, calls on record, delivered notices, 933 test calls), or with what is missing and how to mend
        it.

        \b
        For example:
          edge911 evidence hq -o hq.pdf
          edge911 evidence hq -o hq.html --lang fr
        """
        import structlog

        from router.readiness.look import look
        from router.reports.evidence import LANGUAGES, evidence_report
        from router.reports.gather import gather
        from router.reports.html import html_of
        from router.reports.pdf import pdf_of

        loaded = load_or_exit(config)
        if language not in LANGUAGES:
            fail(f"--lang {language}: write en or fr")
        chosen = next((one for one in loaded.config.sites if one.id == site), None)
        if chosen is None:
            fail(f"{site}: no such site; `sites` has {', '.join(one.id for one in loaded.config.sites) or 'none'}")
        if str(output) != "-" and output.suffix.lower() not in (".html", ".htm", ".pdf"):
            fail(f"{output}: write FILE.html or FILE.pdf")
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        report = evidence_report(gather(look(loaded), chosen), language, ZoneInfo(chosen.timezone))
        if str(output) == "-":
            typer.echo(html_of(report), nl=False)
            return
        is_pdf = output.suffix.lower() == ".pdf"
        try:
            output.write_bytes(pdf_of(report) if is_pdf else html_of(report).encode())
        except OSError as error:
            fail(f"{output}: {error.strerror or error}")
        typer.echo(f"{output}: written")
