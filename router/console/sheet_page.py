"""The printed 911 page of a site, in the console: PDF to print, or HTML to keep.

The HTML has its style within it, which no page of the console may: it is a file to save, not a page to show.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response

from router.console.pages import Page, page_for
from router.console.problems import RequestProblem
from router.emergency.rules import places_of
from router.reports.html import html_of
from router.reports.site_sheet import site_sheet
from router.store.users import Role

router = APIRouter(include_in_schema=False)


@router.get("/sites/{site}/sheet")
def sheet(
    site: str,
    page: Annotated[Page, Depends(page_for(Role.VIEWER))],
    lang: Annotated[str, Query(pattern="^(en|fr)?$")] = "",
    form: Annotated[str, Query(alias="format", pattern="^(html|pdf)$")] = "pdf",
) -> Response:
    """The sheet of a site, in the language asked for or that of the page."""
    page.need_site(site)
    config = page.console.config
    place = places_of(config).find(site)
    if place is None:
        raise RequestProblem(404, "not-found")
    language = lang or page.language
    report = site_sheet(place.site, language, config.emergency.numbers, config.emergency.test_numbers)
    if form == "pdf":
        from router.reports.pdf import pdf_of  # a sixth of a second, which the start of the console does without

        headers = {"Content-Disposition": f'inline; filename="911-{language}.pdf"'}
        return Response(pdf_of(report), media_type="application/pdf", headers=headers)
    headers = {"Content-Disposition": f'attachment; filename="911-{language}.html"'}
    return HTMLResponse(html_of(report), headers=headers)
