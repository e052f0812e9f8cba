"""The wiremap in the REST API: which place an access point or a switch port serves.

A row is named by its BSSID, or by CHASSIS,PORT (`CHASSIS,` for a whole switch), in any spelling.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from e911.wiremap import WiremapEntry, entry_key, read_identifiers
from router.console.api import Caller, caller_for
from router.console.api_devices import Json
from router.console.problems import FieldProblem, RequestProblem
from router.location_cells import places_of
from router.store.devices import Value
from router.store.tokens import TokenRole
from router.store.wiremap import (
    COLUMNS,
    KEY_COLUMNS,
    POINT_COLUMNS,
    all_entries,
    columns_of,
    get_entries,
    remove_entries,
    take_turn,
    upsert_entries,
)
from router.wiremap_csv import merged, unfitting, wiremap_value
from router.wiremap_edit import write_trail

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


@endpoints.get("/wiremap")
def list_wiremap(
    caller: Annotated[Caller, Depends(_READ)],
    q: Annotated[str, Query(max_length=200, description="a text in identifier, name, address, …")] = "",
    site: Annotated[str, Query(max_length=100, description="of this site")] = "",
    after: Annotated[str, Query(max_length=600, description="`next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="most rows of a page")] = 100,
) -> Response:
    """Access points and switch ports, a page at a time, in the order of their keys."""
    with caller.console.store.reading() as conn:
        every = [entry for entry in all_entries(conn) if caller.may_see(entry.site)]
    wanted = q.strip().casefold()
    found = [entry for entry in every if (not site or entry.site == site) and (not wanted or _holds(entry, wanted))]
    rest = [entry for entry in found if entry.key > after]
    page = rest[:limit]
    return JSONResponse(
        {
            "rows": [_document(entry) for entry in page],
            "total": len(found),
            "next": page[-1].key if len(rest) > limit else "",
        }
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
    identifiers = _identifiers(row)
    key = _key(identifiers)
    values = _values(caller, identifiers, body)
    entry = merged(values, None)
    if not caller.may_see(entry.site):
        raise _refused(FieldProblem.of("site", "not one of this token's sites"))
    with caller.console.store.writing() as conn:
        take_turn(conn)
        known = get_entries(conn, [key])
        if key in known and not caller.may_see(known[key].site):
            raise RequestProblem(404, "not-found")
        upsert_entries(conn, [entry], known)
        write_trail(conn, caller.author, known, {key: entry})
        stored = get_entries(conn, [key])[key]
    return JSONResponse(_document(stored), status_code=200 if key in known else 201)


@endpoints.delete("/wiremap/{row:path}", status_code=204, responses=_ROW)
def delete_wiremap_row(caller: Annotated[Caller, Depends(_WRITE)], row: str) -> Response:
    """Take a row away."""
    key = _key(_identifiers(row))
    with caller.console.store.writing() as conn:
        take_turn(conn)
        known = get_entries(conn, [key])
        if key not in known or not caller.may_see(known[key].site):
            raise RequestProblem(404, "not-found")
        remove_entries(conn, [key])
        write_trail(conn, caller.author, known, {})
    return Response(status_code=204)


def _identifiers(row: str) -> dict[str, str]:
    try:
        bssid, chassis, port = read_identifiers(row)
    except ValueError as error:
        raise _refused(FieldProblem.of("row", str(error))) from None
    return {"bssid": bssid, "chassis": chassis, "port": port}


def _key(identifiers: dict[str, str]) -> str:
    return entry_key(identifiers["bssid"], identifiers["chassis"], identifiers["port"])


def _values(caller: Caller, identifiers: dict[str, str], body: dict[str, Any]) -> dict[str, Value]:
    """The row that a body gives. Raises RequestProblem 422 with every field that is wrong."""
    places = places_of(caller.console.config)
    values: dict[str, Value] = {**identifiers}
    problems: list[FieldProblem] = []
    for name, given in body.items():
        try:
            if name not in COLUMNS or name in KEY_COLUMNS:
                raise ValueError("no such field; the row's identifier stands in the path")
            if given is not None and (isinstance(given, bool) or not isinstance(given, str | int | float)):
                raise ValueError("neither a text nor a number; write it in quotes")
            values[name] = wiremap_value(name, "" if given is None else str(given), places)
        except ValueError as error:
            problems.append(FieldProblem.of(name, str(error)))
    if not problems:
        problems = [FieldProblem.of(name, what) for name, what in unfitting(values, places)]
    if problems:
        raise _refused(*problems)
    return values


def _refused(*problems: FieldProblem) -> RequestProblem:
    return RequestProblem(422, "values-wrong", "nothing was changed; see errors", fields=problems)


def _holds(entry: WiremapEntry, wanted: str) -> bool:
    texts = [entry.what, *(value for value in columns_of(entry).values() if isinstance(value, str))]
    return any(wanted in text.casefold() for text in texts)


def _document(entry: WiremapEntry) -> dict[str, Any]:
    return {"key": entry.key, **columns_of(entry), "updated_at": entry.updated_at}
