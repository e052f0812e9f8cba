"""edge911 sheet: the printed 911 page of a site."""

from pathlib import Path
from typing import Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit


def register(app: typer.Typer) -> None:
    """Add the `sheet` command."""
    app.command("sheet")(_sheet)


def _sheet(
    site: Annotated[str, typer.Argument(metavar="SITE", help="id of a site.")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="FILE.html or FILE.pdf.")],
    language: Annotated[str, typer.Option("--lang", metavar="en|fr", help="Language of the sheet.")] = "en",
    config: ConfigOption = None,
) -> None:
    """Write the printed 911 sheet of a site.

    For its walls: how to call, the address, what to say, what it cannot do.

    \b
    For example:
      edge911 sheet hq -o hq.pdf
      edge911 sheet mtl --lang fr -o mtl.html
    """
    from router.emergency.rules import places_of
    from router.reports.site_sheet import site_sheet

    loaded = load_or_exit(config)
    if language not in ("en", "fr"):
        fail(f"--lang {language}: write en or fr")
    place = places_of(loaded.config).find(site)
    if place is None:
        fail(f"{site}: no such site; there are {', '.join(one.id for one in loaded.config.sites) or 'none'}")
    emergency = loaded.config.emergency
    report = site_sheet(place.site, language, emergency.numbers, emergency.test_numbers)
    path = Path(output)
    if path.suffix == ".pdf":
        from router.reports.pdf import pdf_of

        data = pdf_of(report)
    elif path.suffix in (".html", ".htm"):
        from router.reports.html import html_of

        data = html_of(report).encode()
    else:
        fail(f"{output}: write FILE.html or FILE.pdf")
    try:
        path.write_bytes(data)
    except OSError as error:
        fail(f"{output}: not written: {error.strerror or error}")
    typer.echo(f"{output}: the 911 sheet of {site}")
