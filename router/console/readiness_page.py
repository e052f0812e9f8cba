"""Readiness: what `edge911 doctor` says, as a page and in the API.

It is worked out by that command, in a process of its own with low priority: with 100,000 phones it takes a while, and
meanwhile a call may have to fill somebody's screen.
"""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from router.console.api import Caller, caller_for
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import RequestProblem
from router.console.settings import Console
from router.readiness.phones import COUNTS
from router.store.tokens import TokenRole
from router.store.users import Role

FRESH_SECONDS = 60.0
LONGEST_SECONDS = 300.0

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["readiness"])


@dataclass(slots=True)
class Doctor:
    """The last answer, and one question at a time; meanwhile the last answer stands."""

    at: float = 0.0
    document: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, console: Console, *, anew: bool = False) -> tuple[float, dict[str, Any]]:
        """When it was worked out (seconds since 1970), and what. Raises RequestProblem."""
        if self.document and not anew and time.time() - self.at < FRESH_SECONDS:
            return self.at, self.document
        # Nobody waits in line: who waits here keeps a thread from those who acknowledge a call.
        if not self.lock.acquire(blocking=False):
            if self.document:
                return self.at, self.document
            detail = "it is being worked out; ask again in a few seconds"
            raise RequestProblem(503, "readiness-busy", detail, headers={"Retry-After": "5"})
        try:
            command = "from router.cli import main; main()"
            try:
                done = subprocess.run(
                    [sys.executable, "-c", command, "doctor", "--json", "-c", str(console.loaded.files[0])],
                    capture_output=True,
                    timeout=LONGEST_SECONDS,
                    check=False,
                )
                self.document = json.loads(done.stdout)
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                raise RequestProblem(503, "readiness-not-known", f"edge911 doctor: {error}") from None
            self.at = time.time()
            return self.at, self.document
        finally:
            self.lock.release()


def doctor_of(request: Request) -> Doctor:
    """The one of this application."""
    found: Doctor | None = getattr(request.app.state, "doctor", None)
    if found is None:
        found = request.app.state.doctor = Doctor()
    return found


@router.get("/readiness")
def readiness_page(request: Request, page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """Per site and in total."""
    at, document = doctor_of(request).ask(page.console)
    shown = _seen(document, page.may_see, sees_all=page.user.sites is None)
    total = {name: sum(site[name] for site in shown["sites"]) for name in COUNTS}
    names = {site.id: site.name or site.id for site in page.console.config.sites}
    return page.render("readiness.html", at=at, total=total, names=names, **shown)


@router.post("/readiness")
def look_again(request: Request, form: Annotated[Form, Depends(form_for(Role.VIEWER))]) -> Response:
    """Work it out anew."""
    if form.page.console.rates.contact_test.take(f"readiness {form.page.user.username}") == 0:
        doctor_of(request).ask(form.page.console, anew=True)
    return form.page.redirect("/readiness")


@endpoints.get("/readiness")
def readiness(request: Request, caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))]) -> Response:
    """Would 911 work now: phones per site by what their call would get, and every finding with its remedy."""
    at, document = doctor_of(request).ask(caller.console)
    return JSONResponse({"at": at, **_seen(document, caller.may_see, sees_all=caller.sites is None)})


def _seen(document: dict[str, Any], may_see: Any, *, sees_all: bool) -> dict[str, Any]:
    """What somebody may see of it; findings of no site are about all."""
    findings = [one for one in document["findings"] if not one["site"] or may_see(one["site"])]
    order = ["critical", "warning", "ok"]
    status = min((one["severity"] for one in findings), key=order.index, default="ok")
    return {
        "status": status,
        "sites": [one for one in document["sites"] if (sees_all if not one["site"] else may_see(one["site"]))],
        "findings": findings,
    }
