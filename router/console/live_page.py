"""911 calls as they happen: the page, the stream of changes behind it, and the button that says "I take care"."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from router.console.acknowledge_page import write_down
from router.console.api import Caller, caller_for
from router.console.live_feed import LiveFeed, TooManyWatchersError
from router.console.pages import Form, Page, console_of, form_for, page_for, visitor
from router.console.problems import NotSignedIn, RequestProblem
from router.notices.confirmations import Confirmation, Step
from router.records.live_calls import MOST_CALLS
from router.records.record import CallSummary
from router.store.errors import StoreError
from router.store.records import list_calls, site_of
from router.store.tokens import TokenRole
from router.store.users import Role

ALIVE_SECONDS = 5.0
"""So often the page is told that the stream lives and what time it is: a page that hears nothing says so."""
USED_SECONDS = 60.0
"""So often an open page counts as use of its login; that the login is over, the feed sees sooner."""
WITHOUT_SCRIPT = 50
"""Calls that a browser without scripts is shown."""

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["calls"])


def feed_of(request: Request) -> LiveFeed:
    """The one of this application."""
    found: LiveFeed | None = getattr(request.app.state, "live_feed", None)
    if found is None:
        found = request.app.state.live_feed = LiveFeed(request.app.state.console)
    return found


@router.get("/live")
def live_page(page: Annotated[Page, Depends(page_for(Role.VIEWER, without_database=True))]) -> Response:
    """The page; scripts fill it. Without them it is a table that is loaded again every few seconds."""
    calls: list[CallSummary] = []
    with suppress(StoreError), page.console.store.reading() as conn:  # the stream comes from the journal all the same
        calls = list_calls(conn, sites=page.user.sites, limit=WITHOUT_SCRIPT)
    seen = [site for site in page.console.config.sites if page.may_see(site.id)]
    sites = {site.id: {"name": site.name or site.id, "timezone": site.timezone} for site in seen}
    zones = {f"{site.id} {zone.id}": zone.name or zone.id for site in seen for zone in site.zones}
    return page.render(
        "live.html",
        calls=calls,
        words={
            key.removeprefix("live."): page.say(key) for key in page.console.words.texts if key.startswith("live.")
        },
        sites=sites,
        zones=zones,
    )


@router.get("/live/events")
async def live_events(
    request: Request, page: Annotated[Page, Depends(page_for(Role.VIEWER, without_database=True))]
) -> Response:
    """Server-sent events: `alive` with the time every few seconds, `calls` with all of them, then `call` for
    each change, `ended` where the login is over."""
    feed = feed_of(request)
    sites = page.user.sites
    token = page.session.token if page.session is not None else ""
    if not feed.has_room(token):
        raise RequestProblem(503, "too-many-watchers", page.say("live.full"), headers={"Retry-After": "15"})

    async def stream() -> AsyncIterator[bytes]:
        try:
            watcher = feed.watch(asyncio.get_running_loop(), sites, token)
        except TooManyWatchersError:
            return  # many came at the same moment; this one comes again
        try:
            yield b"retry: 1000\n\n%b" % _alive(feed)
            looked_at = time.monotonic()
            while True:
                events: bytes | None
                try:
                    events = await asyncio.wait_for(watcher.take(), ALIVE_SECONDS)
                except TimeoutError:
                    events = _alive(feed)
                if events is None or time.monotonic() - looked_at >= USED_SECONDS:
                    looked_at = time.monotonic()
                    login = await run_in_threadpool(_login, request, sites)
                    if login is _Login.ENDED:
                        yield b"event: ended\ndata: {}\n\n"
                    if login is not _Login.SAME:
                        return  # the browser comes again, and is shown what it may see now
                if events is None:
                    return
                yield events
        finally:
            feed.leave(watcher)

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    )


def _alive(feed: LiveFeed) -> bytes:
    said = orjson.dumps({"now": round(time.time(), 3), "is_router_heard": feed.is_router_heard})
    return b"event: alive\ndata: %b\n\n" % said


@router.post("/live/acknowledge")
def acknowledge_all(
    request: Request, form: Annotated[Form, Depends(form_for(Role.DESK, without_database=True))]
) -> Response:
    """Somebody takes care of many calls at once (field `calls`: record ids with spaces between): all or none."""
    page = form.page
    calls = list(dict.fromkeys(form.text("calls").split()))
    if not 0 < len(calls) <= MOST_CALLS:
        raise RequestProblem(422, "calls-wrong", f"from 1 to {MOST_CALLS} record ids")
    for call in calls:
        page.need_site(_site(request, call))
    _acknowledge(request, calls, by=page.user.username, how="console")
    return Response(status_code=204)


@router.post("/live/{call}/acknowledge")
def acknowledge(
    request: Request, call: str, form: Annotated[Form, Depends(form_for(Role.DESK, without_database=True))]
) -> Response:
    """Somebody takes care of a call."""
    page = form.page
    page.need_site(_site(request, call))
    _acknowledge(request, [call], by=page.user.username, how="console")
    if request.headers.get("accept", "").startswith("application/json"):
        return Response(status_code=204)
    return page.redirect(form.text("next") or f"/calls/{call}")


class CallsTaken(BaseModel):
    """Calls that somebody takes care of."""

    calls: list[str] = Field(min_length=1, max_length=MOST_CALLS, description="record ids")
    by: str = Field(min_length=1, max_length=100, description="who takes care: a name for people")


@endpoints.post("/calls/acknowledge", status_code=204, responses={404: {"description": "no such call: none is"}})
def acknowledge_calls(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE, without_database=True))], taken: CallsTaken
) -> Response:
    """Somebody takes care of many calls at once: all or none."""
    calls = list(dict.fromkeys(taken.calls))
    for call in calls:
        caller.need_site(_site(caller.request, call))
    _acknowledge(caller.request, calls, by=taken.by, how="api")
    return Response(status_code=204)


@endpoints.post("/calls/{call}/acknowledge", status_code=204, responses={404: {"description": "no such call"}})
def acknowledge_call(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE, without_database=True))],
    call: str,
    by: Annotated[str, Query(min_length=1, max_length=100, description="who takes care: a name for people")],
) -> Response:
    """Somebody takes care of a call: shown on every console, and written into its record."""
    caller.need_site(_site(caller.request, call))
    _acknowledge(caller.request, [call], by=by, how="api")
    return Response(status_code=204)


def _site(request: Request, call: str) -> str:
    """The site of a call: of one that is watched without the database. Raises RequestProblem 404, StoreError."""
    live = feed_of(request).get(call)
    if live is not None:
        return live.site
    with console_of(request).store.reading() as conn:
        site = site_of(conn, call)
    if site is None:
        raise RequestProblem(404, "not-found", "no such record")
    return site


def _acknowledge(request: Request, calls: Sequence[str], *, by: str, how: str) -> None:
    """Have it written down, and show it. Raises RequestProblem 503 where it can be written nowhere."""
    at = time.time()
    for call in calls:
        said = Confirmation(call=call, step=Step.ACKNOWLEDGED, by=by, how=how, at=at)
        if not write_down(console_of(request), said):
            detail = (
                "neither the state directory nor the database can be written; tell your colleagues by other means"
            )
            raise RequestProblem(503, "not-acknowledged", detail)
    feed_of(request).acknowledged(calls, by, at)


class _Login(Enum):
    SAME = auto()
    ENDED = auto()
    OTHER_SITES = auto()


def _login(request: Request, sites: tuple[str, ...] | None) -> _Login:
    """What became of the login that a stream began with; the same as far as is known while the database is away."""
    try:
        now = visitor(request).user.sites
    except NotSignedIn:
        return _Login.ENDED
    except StoreError:
        return _Login.SAME
    return _Login.SAME if now == sites else _Login.OTHER_SITES
