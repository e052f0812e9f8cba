"""Registered devices in the REST API: one by one, a page at a time, many at once."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from e911.location import Device
from router.console.api import Caller, caller_for
from router.console.audit_page import AuditItem
from router.console.device_columns import COLUMNS_SCHEMA, DEVICE_SCHEMA
from router.console.device_edit import (
    Editor,
    canonical,
    etag_of,
    judged_document,
    remove_device,
    replaced,
    row_of,
    save_device,
    values_wrong,
)
from router.console.pieces import pieces
from router.console.problems import FieldProblem, RequestProblem
from router.emergency.rules import places_of
from router.locations.locations_csv import written_rows
from router.store.audit import audit_rows
from router.store.device_list import DeviceFilter, device_page
from router.store.devices import all_devices, get_device
from router.store.tokens import TokenRole

endpoints = APIRouter(prefix="/api/v1", tags=["devices"])

_READ = caller_for(TokenRole.READ)
_WRITE = caller_for(TokenRole.WRITE)
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": COLUMNS_SCHEMA}}}}
_DEVICE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the device", "content": {"application/json": {"schema": DEVICE_SCHEMA}}},
    404: {"description": "no such device, or not yours"},
}
_CHANGED: dict[int | str, dict[str, Any]] = {
    **_DEVICE,
    201: {"description": "a new device"},
    412: {"description": "it is not (any more) as If-Match or If-None-Match says"},
    422: {"description": "`errors` names each field, what is wrong, and what would be right; nothing was stored"},
}


async def json_object(request: Request) -> dict[str, Any]:
    """The body, a JSON object. Raises RequestProblem 400."""
    try:
        found = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise RequestProblem(400, "json-not-readable", f"not JSON: {error}; send a JSON object") from None
    if not isinstance(found, dict):
        raise RequestProblem(400, "json-not-readable", "not a JSON object; send {…}")
    return found


Json = Annotated[dict[str, Any], Depends(json_object)]


def editor_of(caller: Caller) -> Editor:
    """The caller, as who changes devices."""
    return Editor(who=caller.author.who, via=caller.author.via, may_see=caller.may_see)


@endpoints.get("/devices", responses={200: {"content": {"text/csv": {}}}})
def list_devices(
    caller: Annotated[Caller, Depends(_READ)],
    q: Annotated[str, Query(max_length=200, description="a text in name, number, address, …")] = "",
    site: Annotated[str, Query(max_length=100, description="of this site")] = "",
    zone: Annotated[str, Query(max_length=100, description="of this zone")] = "",
    kind: Annotated[str, Query(max_length=20, description="fixed, nomadic, softphone or off-premises")] = "",
    located: Annotated[bool | None, Query(description="with or without a location of their own")] = None,
    in_doubt: Annotated[bool | None, Query(description="whose location must be confirmed anew")] = None,
    after: Annotated[str, Query(max_length=300, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="most devices of a page")] = 100,
) -> Response:
    """Devices, a page at a time, in the order of their names. With `Accept: text/csv`: all of them, as
    `edge911 locations export` writes them."""
    if "text/csv" in caller.request.headers.get("accept", ""):
        return StreamingResponse(_exported(caller), media_type="text/csv; charset=utf-8")
    wanted = DeviceFilter(
        text=q.strip(), site=site, zone=zone, kind=kind, located=located, in_doubt=in_doubt, sites=caller.sites
    )
    with caller.console.store.reading() as conn:
        page = device_page(conn, wanted, now=time.time(), after=after, limit=limit)
    sites, now = places_of(caller.console.config), time.time()
    documents = [judged_document(device, sites, now) for device in page.devices]
    return JSONResponse({"devices": documents, "total": page.total, "next": page.next})


def _exported(caller: Caller) -> Iterator[str]:
    with caller.console.store.reading() as conn:
        found = [device for device in all_devices(conn) if caller.may_see(device.site)]
    yield from pieces(written_rows(found))


@endpoints.get("/devices/{device:path}/history")
def device_history(
    caller: Annotated[Caller, Depends(_READ)],
    device: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditItem]:
    """Every change of one device that the audit trail holds, newest first; also of one that is gone."""
    with caller.console.store.reading() as conn:
        rows = audit_rows(conn, subject=f"device:{canonical(device)}", sites=caller.sites, limit=limit)
    if not rows:
        raise RequestProblem(404, "not-found")
    return [AuditItem.model_validate(row, from_attributes=True) for row in rows]


@endpoints.get("/devices/{device:path}", responses=_DEVICE)
def show_device(caller: Annotated[Caller, Depends(_READ)], device: str) -> Response:
    """One device, by any spelling of its name. Its ETag goes into If-Match of a change."""
    with caller.console.store.reading() as conn:
        found = get_device(conn, device)
    if found is None or not caller.may_see(found.site):
        raise RequestProblem(404, "not-found")
    if etag_of(found) in _etags(caller.request, "if-none-match"):
        return Response(status_code=304, headers={"ETag": etag_of(found)})
    return _answer(caller, found, 200)


@endpoints.put("/devices/{device:path}", responses=_CHANGED, openapi_extra=_BODY)
def put_device(caller: Annotated[Caller, Depends(_WRITE)], device: str, body: Json) -> Response:
    """Add a device, or replace it whole: a field that is not given is emptied."""
    return _saved(caller, device, body, whole=True)


@endpoints.patch("/devices/{device:path}", responses=_CHANGED, openapi_extra=_BODY)
def patch_device(caller: Annotated[Caller, Depends(_WRITE)], device: str, body: Json) -> Response:
    """Change some fields of a device; those that are not given stay. null empties one."""
    return _saved(caller, device, body, whole=False)


@endpoints.delete("/devices/{device:path}", status_code=204, responses={404: {"description": "no such device"}})
def delete_device(caller: Annotated[Caller, Depends(_WRITE)], device: str) -> Response:
    """Take a device away."""
    with caller.console.store.writing() as conn:
        remove_device(conn, device, editor_of(caller), expected=_expected(caller.request))
    return Response(status_code=204)


def _saved(caller: Caller, device: str, body: dict[str, Any], *, whole: bool) -> Response:
    places = caller.console.places
    row = row_of({"device": device, **body}, places)
    if row["device"] != canonical(device):
        what = f"{row['device']!r} is not {canonical(device)!r}; a device keeps its name, add another"
        raise values_wrong([FieldProblem.of("device", what)])
    is_expected = _expected(caller.request)

    def expected(known: Device | None) -> None:
        if known is None and not whole:
            raise RequestProblem(404, "not-found", "no such device; PUT adds it")
        is_expected(known)

    with caller.console.store.writing() as conn:
        chosen = replaced(row, places) if whole else row
        before, after = save_device(conn, chosen, places, editor_of(caller), expected=expected)
    return _answer(caller, after, 200 if before is not None else 201)


def _answer(caller: Caller, device: Device, status: int) -> Response:
    headers = {"ETag": etag_of(device)}
    if status == 201:
        headers["Location"] = f"/api/v1/devices/{quote(device.device, safe='@+:')}"
    document = judged_document(device, places_of(caller.console.config), time.time())
    return JSONResponse(document, status, headers=headers)


def _expected(request: Request) -> Callable[[Device | None], None]:
    """What If-Match and If-None-Match ask (RFC 9110 section 13.1): lost updates end with 412."""
    wanted, unwanted = _etags(request, "if-match"), _etags(request, "if-none-match")

    def look(known: Device | None) -> None:
        tag = etag_of(known) if known is not None else ""
        if wanted and (known is None or ("*" not in wanted and tag not in wanted)):
            raise RequestProblem(412, "changed-meanwhile", "read it again, and change what it is now")
        if known is not None and ("*" in unwanted or tag in unwanted):
            raise RequestProblem(412, "exists-already", "there is such a device; send If-Match, or no condition")

    return look


def _etags(request: Request, header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in request.headers.get(header, "").split(",") if tag.strip()]
