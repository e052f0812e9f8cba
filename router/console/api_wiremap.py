"""The wiremap in the REST API: which place an access point or a switch port serves.

A row is named by its BSSID, or by CHASSIS,PORT (`CHASSIS,` for a whole switch), in any spelling.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse

from e911.wiremap import WiremapEntry, entry_key, read_identifiers
from router.console.api import Caller, caller_for
from router.console.api_devices import Json, editor_of
from router.console.device_edit import values_wrong
from router.console.pieces import pieces
from router.console.problems import FieldProblem, RequestProblem
from router.console.wiremap_rows import entry_of, remove_row, save_row
from router.locations.wiremap_csv import written_wiremap
from router.store.tokens import TokenRole
from router.store.wiremap import COLUMNS, KEY_COLUMNS, POINT_COLUMNS, all_entries, columns_of, get_entries
from router.store.wiremap_list import WiremapFilter, wiremap_page

endpoints = APIRouter(prefix="/api/v1", tags=["wiremap"])

_READ = caller_for(TokenRole.READ)
_WRITE = caller_for(TokenRole.WRITE)
_COLUMNS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        name: {"type": ["number", "null"] if name in POINT_COLUMNS else ["string", "null"]}
        for name in COLUMNS
        if name not in KEY_COLUMNS
    },
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _COLUMNS_SCHEMA}}}}
_ROW: dict[int | str, dict[str, Any]] = {404: {"description": "no such row, or not yours"}}
_CHANGED: dict[int | str, dict[str, Any]] = {
    201: {"description": "a new row"},
    422: {"description": "`errors` names each field and what is wrong; nothing was stored"},
}


@endpoints.get("/wiremap", responses={200: {"content": {"text/csv": {}}}})
def list_wiremap(
    caller: Annotated[Caller, Depends(_READ)],
    q: Annotated[str, Query(max_length=200, description="a text in identifier, name, address, …")] = "",
    site: Annotated[str, Query(max_length=100, description="of this site")] = "",
    after: Annotated[str, Query(max_length=600, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="most rows of a page")] = 100,
) -> Response:
    """Access points and switch ports, a page at a time, in the order of their keys. With `Accept: text/csv`: all of
    them, as `edge911 wiremap export` writes them."""
    if "text/csv" in caller.request.headers.get("accept", ""):
        with caller.console.store.reading() as conn:
            every = [entry for entry in all_entries(conn) if caller.may_see(entry.site)]
        return StreamingResponse(pieces(written_wiremap(every)), media_type="text/csv; charset=utf-8")
    wanted = WiremapFilter(text=q.strip(), site=site, sites=caller.sites)
    with caller.console.store.reading() as conn:
        found = wiremap_page(conn, wanted, after=after, limit=limit)
    return JSONResponse(
        {"rows": [_document(entry) for entry in found.entries], "total": found.total, "next": found.next}
    )


@endpoints.get("/wiremap/{row:path}", responses=_ROW)
def show_wiremap_row(caller: Annotated[Caller, Depends(_READ)], row: str) -> Response:
    """One access point, switch port or switch."""
    key = _key(_identifiers(row))
    with caller.console.store.reading() as conn:
        found = get_entries(conn, [key]).get(key)
    if found is None or not caller.may_see(found.site):
        raise RequestProblem(404, "not-found")
    return JSONResponse(_document(found))


@endpoints.put("/wiremap/{row:path}", responses=_CHANGED, openapi_extra=_BODY)
def put_wiremap_row(caller: Annotated[Caller, Depends(_WRITE)], row: str, body: Json) -> Response:
    """Add a row, or replace it whole: a field that is not given is emptied."""
    entry = _entry(caller, _identifiers(row), body)
    with caller.console.store.writing() as conn:
        is_new = save_row(conn, entry, editor_of(caller))
        stored = get_entries(conn, [entry.key])[entry.key]
    return JSONResponse(_document(stored), status_code=201 if is_new else 200)


@endpoints.delete("/wiremap/{row:path}", status_code=204, responses=_ROW)
def delete_wiremap_row(caller: Annotated[Caller, Depends(_WRITE)], row: str) -> Response:
    """Take a row away."""
    with caller.console.store.writing() as conn:
        remove_row(conn, _key(_identifiers(row)), editor_of(caller))
    return Response(status_code=204)


def _identifiers(row: str) -> dict[str, str]:
    try:
        bssid, chassis, port = read_identifiers(row)
    except ValueError as error:
        raise _refused(FieldProblem.of("row", str(error))) from None
    return {"bssid": bssid, "chassis": chassis, "port": port}


def _key(identifiers: dict[str, str]) -> str:
    return entry_key(identifiers["bssid"], identifiers["chassis"], identifiers["port"])


def _entry(caller: Caller, identifiers: dict[str, str], body: dict[str, Any]) -> WiremapEntry:
    """The row that a body gives. Raises RequestProblem 422 with every field that is wrong."""
    foreign = [name for name in body if name not in COLUMNS or name in KEY_COLUMNS]
    if foreign:
        what = "no such field; the row's identifier stands in the path"
        raise _refused(*(FieldProblem.of(name, what) for name in foreign))
    return entry_of({**identifiers, **body}, caller.console.places)


def _refused(*problems: FieldProblem) -> RequestProblem:
    return values_wrong(list(problems))


def _document(entry: WiremapEntry) -> dict[str, Any]:
    return {"key": entry.key, **columns_of(entry), "updated_at": entry.updated_at}
