"""933 test calls: what came of them, their recordings, and a button that places one now."""

import io
import logging
import subprocess
import sys
import threading
import time
import wave
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, Response

from router.console.api import Caller, caller_for
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import RequestProblem
from router.console.settings import Console
from router.notices.receivers.audio import RATE, from_mulaw
from router.self_test.schedule import routes_of
from router.store.audit import record_change
from router.store.self_tests import get_test, latest, list_tests, recording_of
from router.store.tokens import TokenRole
from router.store.users import Role

LONGEST_SECONDS = 300.0
RUNNING_SECONDS = 300.0
"""A test that has not ended for so long was killed."""

TestId = Annotated[str, Path(max_length=300)]

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["self-test"])
_placing: set[tuple[str, str]] = set()
"""Sites and routes whose test call was asked for here and has not ended."""

log = logging.getLogger("router.console")


@router.get("/tests")
def tests_page(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """The last test of each site and route, and those before."""
    pairs = [(site, route) for site, route in routes_of(page.console.config, []) if page.may_see(site.id)]
    with page.console.store.reading() as conn:
        last = latest(conn)
        found = list_tests(conn, sites=page.user.sites, limit=200)
    now = time.time()
    running = _placing | {(t.site, t.route) for t in found if not t.verdict and now - t.started_at < RUNNING_SECONDS}
    return page.render("tests.html", pairs=pairs, last=last, tests=found, running=running)


@router.post("/tests/run")
def run(form: Annotated[Form, Depends(form_for(Role.DESK))]) -> Response:
    """Place one now."""
    page = form.page
    site, route = form.text("site"), form.text("route")
    if not page.may_see(site) or not _is_route(page.console, site, route):
        raise RequestProblem(404, "not-found")
    _place(page.console, page.user.username, site, route)
    return page.redirect("/tests")


@router.get("/tests/{test}/recording.wav")
def recording(page: Annotated[Page, Depends(page_for(Role.DESK))], test: TestId) -> Response:
    """What was heard."""
    with page.console.store.reading() as conn:
        found = get_test(conn, test)
        sound = recording_of(conn, test) if found is not None and page.may_see(found.site) else None
    if sound is None:
        raise RequestProblem(404, "not-found")
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in from_mulaw(sound)))
    return Response(made.getvalue(), media_type="audio/wav")


@endpoints.get("/self-tests")
def list_all(caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))], limit: int = 100) -> Response:
    """Test calls, newest first."""
    with caller.console.store.reading() as conn:
        found = list_tests(conn, sites=caller.sites, limit=max(1, min(limit, 1000)))
    return JSONResponse({"tests": [asdict(test) for test in found]})


@endpoints.post(
    "/self-tests", status_code=202, responses={404: {"description": "no such site or route, or not yours"}}
)
def place(caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE))], site: str, route: str) -> Response:
    """Place a test call now; it is in the list while it runs, and when it has ended."""
    caller.need_site(site)
    if not _is_route(caller.console, site, route):
        raise RequestProblem(404, "not-found", "no E911 route of that name serves that site")
    _place(caller.console, caller.author.who, site, route, via=caller.author.via)
    return JSONResponse({"site": site, "route": route}, 202)


def _is_route(console: Console, site: str, route: str) -> bool:
    return any(one.id == site and name == route for one, name in routes_of(console.config, [site]))


def _place(console: Console, by: str, site: str, route: str, *, via: str = "console") -> None:
    """In a process of its own: this one has pages to serve. Raises RequestProblem 429."""
    wait = console.rates.contact_test.take(f"self-test {by}")
    if wait:
        raise RequestProblem(429, "too-many-requests", "wait a moment", headers={"Retry-After": str(int(wait) + 1)})
    with console.store.writing() as conn:
        record_change(conn, by, "test", f"route:{route}", None, {"site": site}, via=via)
    command = "from router.cli import main; main()"
    arguments = ["self-test", "run", "--site", site, "--route", route, "--by", by, "-c", str(console.loaded.files[0])]

    _placing.add((site, route))

    def work() -> None:
        try:
            done = subprocess.run(
                [sys.executable, "-c", command, *arguments], capture_output=True, timeout=LONGEST_SECONDS, check=False
            )
            if done.returncode > 1:
                log.error("self-test-not-possible", extra={"event_fields": {"problem": done.stderr.decode()[-500:]}})
        except (OSError, subprocess.TimeoutExpired) as error:
            log.error("self-test-not-possible", extra={"event_fields": {"problem": str(error)}})
        finally:
            _placing.discard((site, route))

    threading.Thread(target=work, daemon=True, name="self-test").start()
