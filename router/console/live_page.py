"""911 calls as they happen: the page, the stream of changes behind it, and the button that says "I take care"."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from router.confirmations import Confirmation, Step, confirm
from router.console.api import Caller, caller_for
from router.console.live_feed import LiveFeed
from router.console.pages import Form, Page, form_for, page_for, visitor
from router.console.problems import NotSignedIn, RequestProblem
from router.store.records import list_calls, site_of
from router.store.tokens import TokenRole
from router.store.users import Role

KEEP_ALIVE_SECONDS = 15.0
"""So often something is sent where nothing happens, so that browser and proxies know the stream lives."""
LOOK_AT_SESSION_EVERY = 4
"""Keep-alives between two looks whether the login still counts."""
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
def live_page(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """The page; scripts fill it. Without them it is a table that is loaded again every few seconds."""
    with page.console.store.reading() as conn:
        calls = [call for call in list_calls(conn, limit=WITHOUT_SCRIPT) if page.may_see(call.site)]
    config = page.console.config
    sites = {site.id: {"name": site.name or site.id, "timezone": site.timezone} for site in config.sites}
    zones = {f"{site.id} {zone.id}": zone.name or zone.id for site in config.sites for zone in site.zones}
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
async def live_events(request: Request, page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """Server-sent events: first `calls` with all of them, then `call` for each change, `ended` at the end."""
    feed = feed_of(request)
    sites = page.user.sites

    async def stream() -> AsyncIterator[bytes]:
        watcher, calls = await run_in_threadpool(feed.watch, asyncio.get_running_loop(), sites)
        try:
            yield b"retry: 1000\n\n" + _event("calls", calls)
            quiet = 0
            while True:
                try:
                    change = await asyncio.wait_for(watcher.queue.get(), KEEP_ALIVE_SECONDS)
                except TimeoutError:
                    quiet += 1
                    if quiet % LOOK_AT_SESSION_EVERY == 0 and not await run_in_threadpool(_is_signed_in, request):
                        yield _event("ended", {})
                        return
                    yield b": still here\n\n"
                    continue
                if change is None:
                    return
                yield _event("call", change)
        finally:
            feed.leave(watcher)

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    )


@router.post("/live/{call}/acknowledge")
def acknowledge(request: Request, call: str, form: Annotated[Form, Depends(form_for(Role.DESK))]) -> Response:
    """Somebody takes care of a call."""
    page = form.page
    with page.console.store.reading() as conn:
        site = site_of(conn, call)
    live = feed_of(request).get(call)
    if site is None and live is not None:
        site = live.site  # so new that the database does not have it yet
    if site is None:
        raise RequestProblem(404, "not-found")
    page.need_site(site)
    now = time.time()
    said = Confirmation(call=call, step=Step.ACKNOWLEDGED, by=page.user.username, how="console", at=now)
    confirm(page.console.state_directory, said)
    feed_of(request).acknowledged(call, page.user.username, now)
    if request.headers.get("accept", "").startswith("application/json"):
        return Response(status_code=204)
    return page.redirect(form.text("next") or f"/calls/{call}")


@endpoints.post("/calls/{call}/acknowledge", status_code=204, responses={404: {"description": "no such call"}})
def acknowledge_call(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE))],
    call: str,
    by: Annotated[str, Query(min_length=1, max_length=100, description="who takes care: a name for people")],
) -> Response:
    """Somebody takes care of a call: shown on every console, and written into its record."""
    with caller.console.store.reading() as conn:
        site = site_of(conn, call)
    if site is None:
        raise RequestProblem(404, "not-found", "no such record")
    caller.need_site(site)
    now = time.time()
    said = Confirmation(call=call, step=Step.ACKNOWLEDGED, by=by, how="api", at=now)
    confirm(caller.console.state_directory, said)
    feed_of(caller.request).acknowledged(call, by, now)
    return Response(status_code=204)


def _is_signed_in(request: Request) -> bool:
    try:
        return bool(visitor(request).user)
    except NotSignedIn:
        return False


def _event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))
