"""Evidence per site, to read and to print; made by `edge911 evidence` in a process of its own."""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from router.console.pages import Page, page_for
from router.console.problems import RequestProblem
from router.store.users import Role

LONGEST_SECONDS = 300.0
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The report's own style stands in it; nothing in it may run or be fetched."""

router = APIRouter(include_in_schema=False)
_one_at_a_time = threading.Lock()


@router.get("/evidence")
def evidence_page(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """The sites, each with its report."""
    return page.render("evidence.html", sites=[one for one in page.console.config.sites if page.may_see(one.id)])


@router.get("/evidence/{name}")
def report(page: Annotated[Page, Depends(page_for(Role.VIEWER))], name: str) -> Response:
    """SITE.html or SITE.pdf."""
    site, _, form = name.rpartition(".")
    known = {one.id for one in page.console.config.sites if page.may_see(one.id)}
    if site not in known or form not in ("html", "pdf"):
        raise RequestProblem(404, "not-found")
    wait = page.console.rates.evidence.take(f"user {page.user.username}")
    # Nobody waits in line: who waits here keeps a thread from those who acknowledge a call.
    if wait or not _one_at_a_time.acquire(blocking=False):
        headers = {"Retry-After": str(int(wait) + 5)}
        raise RequestProblem(429, "evidence-busy", page.say("evidence.busy"), headers=headers)
    try:
        content = _made(page, site, form)
    finally:
        _one_at_a_time.release()
    if form == "html":
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": POLICY})
    disposition = f'attachment; filename="evidence-{site}.pdf"'
    return Response(content, media_type="application/pdf", headers={"Content-Disposition": disposition})


def _made(page: Page, site: str, form: str) -> bytes:
    """The report. Raises RequestProblem 503."""
    command = "from router.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"evidence.{form}"
        arguments = ["evidence", site, "-o", str(file), "--lang", page.language]
        try:
            subprocess.run(
                [sys.executable, "-c", command, *arguments, "-c", str(page.console.loaded.files[0])],
                capture_output=True,
                timeout=LONGEST_SECONDS,
                check=True,
            )
            return file.read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise RequestProblem(503, "evidence-not-made", str(error)) from None
