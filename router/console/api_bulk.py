"""Many devices, or rows of the wiremap, at once in the REST API; what would change is told first."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from router.console.api import Caller, caller_for
from router.console.api_devices import editor_of
from router.console.bulk_rows import DEVICES, MOST_PROBLEMS, WIREMAP, BulkTable, plan_in_turn
from router.console.device_columns import COLUMNS_SCHEMA
from router.console.device_edit import row_of, values_wrong
from router.console.problems import FieldProblem, RequestProblem
from router.locations.location_cells import Places
from router.locations.locations_csv import LocationRow
from router.store.tokens import TokenRole

endpoints = APIRouter(prefix="/api/v1")

_CSV, _YAML = "text/csv", ("application/yaml", "application/x-yaml")
_AS_CSV: dict[str, Any] = {"schema": {"type": "string", "description": "as the command's `import` reads it"}}
_AS_YAML: dict[str, Any] = {"schema": {"type": "string", "description": "the same as YAML"}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            _CSV: _AS_CSV,
            _YAML[0]: _AS_YAML,
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"devices": {"type": "array", "items": COLUMNS_SCHEMA}},
                    "required": ["devices"],
                }
            },
        },
    }
}
_WIREMAP_BODY = {"requestBody": {"required": True, "content": {_CSV: _AS_CSV, _YAML[0]: _AS_YAML}}}
_WRONG: dict[int | str, dict[str, Any]] = {
    415: {"description": "Content-Type is none of these"},
    422: {"description": "`errors` names each; none stored"},
}


async def _body(request: Request) -> bytes:
    return await request.body()


_Writer = Annotated[Caller, Depends(caller_for(TokenRole.WRITE))]
_Bytes = Annotated[bytes, Depends(_body)]
_Plan = Annotated[bool, Query(description="tell what would change, and change nothing")]


@endpoints.put("/devices", openapi_extra=_BODY, responses=_WRONG, tags=["devices"])
def put_devices(
    caller: _Writer,
    body: _Bytes,
    plan: _Plan = False,
    replace: Annotated[bool, Query(description="also take away every device that is not in the body")] = False,
) -> Response:
    """Add many devices, or change them: all or nothing. A field that is not given stays, an empty one is emptied."""
    if _kind(caller.request) == "application/json":
        return _put(DEVICES, caller, _json_rows(body, caller.console.places), plan, replace)
    return _put(DEVICES, caller, _rows(DEVICES, caller, body, ", application/json"), plan, replace)


@endpoints.put("/wiremap", openapi_extra=_WIREMAP_BODY, responses=_WRONG, tags=["wiremap"])
def put_wiremap(
    caller: _Writer,
    body: _Bytes,
    plan: _Plan = False,
    replace: Annotated[bool, Query(description="also take away every row that is not in the body")] = False,
) -> Response:
    """Add many rows, or change them: all or nothing. A column that is not given stays, an empty one is emptied."""
    return _put(WIREMAP, caller, _rows(WIREMAP, caller, body, ""), plan, replace)


def _put(table: BulkTable, caller: Caller, rows: Sequence[Any], plan: bool, replace: bool) -> Response:
    editor = editor_of(caller)
    if plan:
        with caller.console.store.reading() as conn:
            planned = table.plan(conn, rows, caller.console, editor, replace)
    else:
        with plan_in_turn(table, rows, caller.console, editor, replace) as (conn, planned):
            table.apply(conn, planned, editor)
    return JSONResponse({"applied": not plan, **planned.as_document(table.row)})


def _rows(table: BulkTable, caller: Caller, body: bytes, also: str) -> Sequence[Any]:
    kind = _kind(caller.request)
    if kind == _CSV or kind in _YAML:
        return table.read(body, caller.console, kind in _YAML)
    raise RequestProblem(415, "media-type-unknown", f"send Content-Type: text/csv{also} or application/yaml")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _json_rows(body: bytes, places: Places) -> Sequence[LocationRow]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestProblem(400, "json-not-readable", f"not JSON: {error}") from None
    items = found.get("devices") if isinstance(found, dict) else found
    if not isinstance(items, list):
        raise RequestProblem(400, "json-not-readable", 'no list of devices; send {"devices": [{…}, …]}')
    problems: list[FieldProblem] = []
    rows: list[LocationRow] = []
    first: dict[str, int] = {}
    for number, item in enumerate(items):
        where = f"devices[{number}]"
        if not isinstance(item, dict):
            problems.append(FieldProblem.of(where, "not a device; send {…}"))
            continue
        try:
            values = row_of(item if "device" in item else {"device": "", **item}, places)
        except RequestProblem as error:
            problems += [
                FieldProblem(field=f"{where}.{one.field}", message=one.message, remedy=one.remedy)
                for one in error.fields
            ]
            continue
        row = LocationRow(line=number, values=values, columns=dict.fromkeys(values, 0))
        if row.device in first:
            what = f"{row.device!r} is already devices[{first[row.device]}]; keep one"
            problems.append(FieldProblem.of(f"{where}.device", what))
        first.setdefault(row.device, number)
        rows.append(row)
    if problems:
        raise values_wrong(problems[:MOST_PROBLEMS])
    return rows
