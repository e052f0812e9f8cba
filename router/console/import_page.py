"""Many devices, or rows of the wiremap, by a file: what it would change is shown first; and files out.

The plan that is shown is the one that is applied: where somebody changed something meanwhile, the new one is shown.
"""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse

from e911.attachment import mac_text
from router.console.bulk_rows import DEVICES, WIREMAP, BulkTable, plan_digest, plan_in_turn
from router.console.guard import MAX_BULK
from router.console.locations_page import editor_of
from router.console.pages import Form, Page, form_for, page_for
from router.console.pieces import pieces
from router.console.problems import RequestProblem
from router.console.uploads import Upload
from router.locations.import_plan import ImportPlan
from router.store.users import Role

MOST_EFFECTS: Final = 1000
"""Rows that gain or lose a dispatchable location, as a page names them; the count says how many there are."""
MOST_CHANGES: Final = 100
"""Changes of each kind that a page shows."""
_YAML: Final = (".yaml", ".yml")

router = APIRouter(include_in_schema=False)


def _import(page: Page, table: BulkTable, added: int, changed: int, removed: int) -> Response:
    done = None if added + changed + removed < 0 else {"added": added, "changed": changed, "removed": removed}
    return _shown(page, table, done=done)


def _plan(form: Form, table: BulkTable) -> Response:
    """Show what a file would change; nothing is changed."""
    page = form.page
    if page.console.rates.upload.take(page.user.username):
        raise RequestProblem(429, "too-many-requests", page.say("import.too_often"))
    file = form.files.get("file")
    data = file.file.read(MAX_BULK) if file is not None else b""
    name = (file.filename or "")[:200] if file is not None else ""
    if not data:
        return _shown(page, table, 422, problem=page.say("import.nothing"))
    is_yaml = name.lower().endswith(_YAML)
    replace = form.text("replace") == "1"
    upload = Upload.of(page.user.username, table.key, name, data, is_yaml=is_yaml, replace=replace)
    try:
        rows = table.read(data, page.console, is_yaml)
        with page.console.store.reading() as conn:
            plan = table.plan(conn, rows, page.console, editor_of(page), replace)
    except RequestProblem as error:
        return _refused(page, table, error, name)
    return _planned(page, table, plan, page.console.uploads.keep(upload), upload)


def _apply(form: Form, table: BulkTable) -> Response:
    """Change what was shown; where that is something else by now, show it instead."""
    page, word = form.page, form.text("upload")
    upload = page.console.uploads.find(word, page.user.username, table.key)
    if upload is None:
        return _shown(page, table, 409, problem=page.say("import.gone"))
    try:
        rows = table.read(upload.data, page.console, upload.is_yaml)
        with plan_in_turn(table, rows, page.console, editor_of(page), upload.replace) as (conn, plan):
            is_same = plan_digest(plan) == form.text("digest")
            if is_same:
                table.apply(conn, plan, editor_of(page))
    except RequestProblem as error:
        return _refused(page, table, error, upload.file_name)
    if not is_same:
        return _planned(page, table, plan, word, upload, 409)
    page.console.uploads.forget(word)
    counts = {change: len(plan.of(change)) for change in ("added", "changed", "removed")}
    return page.redirect(f"/{table.key}/import?{urlencode(counts)}")


def _export(page: Page, table: BulkTable, form: str) -> Response:
    """A file of all that may be seen, as the import reads it."""
    is_yaml = form == "yaml"
    with page.console.store.reading() as conn:
        lines = table.written(conn, editor_of(page), is_yaml)
    return StreamingResponse(
        pieces(lines),
        media_type="application/yaml" if is_yaml else "text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{table.key}.{"yaml" if is_yaml else "csv"}"'},
    )


def _refused(page: Page, table: BulkTable, error: RequestProblem, name: str) -> Response:
    if error.status != 422:
        raise error
    return _shown(page, table, 422, problems=error.fields, file_name=name)


def _planned(
    page: Page, table: BulkTable, plan: ImportPlan[Any], word: str, upload: Upload, status: int = 200
) -> Response:
    return _shown(
        page,
        table,
        status,
        problem=page.say("import.changed_meanwhile") if status == 409 else "",
        plan=plan,
        digest=plan_digest(plan),
        word=word,
        file_name=upload.file_name,
    )


def _shown(page: Page, table: BulkTable, status: int = 200, /, **given: Any) -> Response:
    values = {"done": None, "problem": "", "problems": (), "plan": None, "digest": "", "word": "", "file_name": ""}
    return page.render(
        "import.html",
        status,
        table=table.key,
        most_effects=MOST_EFFECTS,
        most_changes=MOST_CHANGES,
        called=_called,
        **(values | given),
    )


def _called(item: Any) -> str:
    """The row as people call it."""
    row = item.becomes or item.was
    return row.what if hasattr(row, "what") else mac_text(item.name)


def _routes(table: BulkTable) -> None:
    @router.get(f"/{table.key}/import")
    def show(
        page: Annotated[Page, Depends(page_for(Role.ENGINEER))],
        added: Annotated[int, Query(ge=-1, le=10**9)] = -1,
        changed: Annotated[int, Query(ge=-1, le=10**9)] = -1,
        removed: Annotated[int, Query(ge=-1, le=10**9)] = -1,
    ) -> Response:
        return _import(page, table, added, changed, removed)

    @router.post(f"/{table.key}/import")
    def plan(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
        return _plan(form, table)

    @router.post(f"/{table.key}/import/apply")
    def apply(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
        return _apply(form, table)

    @router.get(f"/{table.key}/export")
    def export(
        page: Annotated[Page, Depends(page_for(Role.VIEWER))],
        form: Annotated[str, Query(alias="format", pattern="^(csv|yaml)$")] = "csv",
    ) -> Response:
        return _export(page, table, form)


for _table in (DEVICES, WIREMAP):
    _routes(_table)
