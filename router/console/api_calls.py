"""Records of 911 calls in the REST API, as `edge911 calls` shows them."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from router.console.api import Caller, caller_for
from router.console.problems import RequestProblem
from router.store.records import find_calls, get_call, list_calls
from router.store.tokens import TokenRole

endpoints = APIRouter(prefix="/api/v1", tags=["calls"])

_READ = caller_for(TokenRole.READ)


@endpoints.get("/calls")
def calls(
    caller: Annotated[Caller, Depends(_READ)],
    site: Annotated[str, Query(max_length=100, description="of this site")] = "",
    since: Annotated[float | None, Query(description="since this time, seconds since 1970")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="most calls, newest first")] = 100,
) -> Response:
    """Emergency and test calls, newest first."""
    found: list[Any] = []
    with caller.console.store.reading() as conn:
        if caller.sites is None or site:
            if site:
                caller.need_site(site)
            found = list_calls(conn, limit=limit, site=site, since=since)
        else:
            for name in caller.sites:
                found += list_calls(conn, limit=limit, site=name, since=since)
            found = sorted(found, key=lambda call: -call.started_at)[:limit]
    return JSONResponse({"calls": [asdict(call) for call in found]})


@endpoints.get("/calls/{call}", responses={404: {"description": "no such record, or not yours"}})
def show_call(caller: Annotated[Caller, Depends(_READ)], call: str) -> Response:
    """Everything that is known of one call, by its record id or the beginning of it."""
    with caller.console.store.reading() as conn:
        names = find_calls(conn, call, 2) if len(call) >= 4 else []
        record = get_call(conn, names[0]) if len(names) == 1 else None
    if record is None or not caller.may_see(record.site):
        raise RequestProblem(404, "not-found", "no such record; give more of its id where several begin so")
    return JSONResponse({"call": record.as_document()})
