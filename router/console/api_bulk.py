"""Many registered devices at once in the REST API: as CSV, JSON or YAML; what would change is told first."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from e911.dispatchable import device_problems
from e911.location import Device
from router.console.api import Caller, caller_for
from router.console.api_devices import editor_of
from router.console.device_columns import COLUMNS_SCHEMA
from router.console.device_edit import Editor, row_of, values_wrong
from router.console.problems import FieldProblem, RequestProblem
from router.csv_table import CsvError
from router.location_cells import Places, unfitting_after
from router.location_plan import import_plan
from router.locations_csv import LocationRow, merged_problems, read_rows
from router.locations_yaml import read_yaml_rows
from router.rules import places_of
from router.store.devices import all_devices, get_devices, remove_devices, take_turn, write_devices
from router.store.tokens import TokenRole

endpoints = APIRouter(prefix="/api/v1", tags=["devices"])

_MOST_PROBLEMS = 500
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string", "description": "as `edge911 locations import` reads it"}},
            "application/yaml": {"schema": {"type": "string", "description": "the same as YAML"}},
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


async def _body(request: Request) -> bytes:
    return await request.body()


@endpoints.put("/devices", openapi_extra=_BODY, responses={422: {"description": "`errors` names each; none stored"}})
def put_devices(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE))],
    body: Annotated[bytes, Depends(_body)],
    plan: Annotated[bool, Query(description="tell what would change, and change nothing")] = False,
    replace: Annotated[bool, Query(description="also take away every device that is not in the body")] = False,
) -> Response:
    """Add many devices, or change them: all or nothing. A field that is not given stays, an empty one is emptied."""
    places, sites, now = caller.console.places, places_of(caller.console.config), time.time()
    rows = _rows(caller.request, body, places)
    editor = editor_of(caller)
    store = caller.console.store
    with store.reading() if plan else store.writing() as conn:
        if not plan:
            take_turn(conn)
        if replace:
            known = {device.device: device for device in all_devices(conn) if caller.may_see(device.site)}
            known |= get_devices(conn, (row.device for row in rows))
        else:
            known = get_devices(conn, (row.device for row in rows))
        _check(rows, known, places, editor)
        planned = import_plan(
            rows,
            known,
            lambda device: device_problems(device, sites, now),
            replace=replace,
            now=now,
            by=editor.who,
        )
        if not plan:
            write_devices(conn, planned.writes, now=now, by=editor.who, via=editor.via)
            remove_devices(conn, planned.removed, by=editor.who, via=editor.via)
    return JSONResponse({"applied": not plan, **planned.as_document()})


def _rows(request: Request, body: bytes, places: Places) -> Sequence[LocationRow]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    readers = {"text/csv": read_rows, "application/yaml": read_yaml_rows, "application/x-yaml": read_yaml_rows}
    if kind in readers:
        try:
            return readers[kind](body, places)
        except CsvError as error:
            raise _csv_wrong(error) from None
    if kind == "application/json":
        return list(_json_rows(body, places))
    detail = "send Content-Type: text/csv, application/json or application/yaml"
    raise RequestProblem(415, "media-type-unknown", detail)


def _json_rows(body: bytes, places: Places) -> Iterable[LocationRow]:
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
        raise values_wrong(problems[:_MOST_PROBLEMS])
    return rows


def _check(rows: Sequence[LocationRow], known: Mapping[str, Device], places: Places, editor: Editor) -> None:
    """Raises RequestProblem 422 for columns that do not fit together, and for devices and sites of others."""
    is_csv = any(row.columns.get("device") for row in rows)
    if is_csv and (found := merged_problems(rows, known, places)):
        raise _csv_wrong(CsvError(found))
    problems: list[FieldProblem] = []
    for row in rows:
        where = f"line {row.line}" if is_csv else f"devices[{row.line}]"
        before = known.get(row.device)
        if not is_csv:
            for column, what in unfitting_after(before, row.values, places):
                problems.append(FieldProblem.of(f"{where}.{column}", what))
        site = str(row.values.get("site", before.site if before else "") or "")
        if not editor.may_see(site) or (before is not None and not editor.may_see(before.site)):
            problems.append(FieldProblem.of(f"{where}.site", "this device or site is not yours; name one of yours"))
    if problems:
        raise values_wrong(problems[:_MOST_PROBLEMS])


def _csv_wrong(error: CsvError) -> RequestProblem:
    return values_wrong(
        [
            FieldProblem.of(f"{one.line}:{one.column}{f': {one.name}' if one.name else ''}", one.what)
            for one in error.problems[:_MOST_PROBLEMS]
        ]
    )
