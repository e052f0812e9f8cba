"""The wiremap, for people: which place each access point and switch port serves; find a row, add, change, remove."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from e911.location import FINER_FIELDS
from e911.wiremap import WiremapEntry
from router.console.locations_page import address_text, editor_of, sites_of
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import FieldProblem, RequestProblem
from router.console.wiremap_rows import entry_of, etag_of, remove_row, save_row
from router.locations.wiremap_csv import shown_columns
from router.store.audit import audit_rows
from router.store.users import Role
from router.store.wiremap import COLUMNS, POINT_COLUMNS, get_entries
from router.store.wiremap_list import WiremapFilter, wiremap_page

ROWS: Final = 50
HISTORY: Final = 30
_PORT: Final = ("chassis", "port")
_PLACE: Final = ("name", "site", "zone")

router = APIRouter(include_in_schema=False)


def _groups() -> list[tuple[str, list[str]]]:
    """The columns as the form shows them; those that are new stand with the address."""
    known = {"bssid", *_PORT, *_PLACE, *FINER_FIELDS, *POINT_COLUMNS}
    return [
        ("access_point", ["bssid"]),
        ("switch_port", [*_PORT]),
        ("place", [*_PLACE]),
        ("finer", list(FINER_FIELDS)),
        ("address", [name for name in COLUMNS if name not in known]),
        ("point", list(POINT_COLUMNS)),
    ]


GROUPS: Final = _groups()


@router.get("/wiremap")
def wiremap(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))],
    q: Annotated[str, Query(max_length=200)] = "",
    site: Annotated[str, Query(max_length=100)] = "",
    after: Annotated[str, Query(max_length=600)] = "",
    removed: Annotated[str, Query(max_length=600)] = "",
) -> Response:
    """All rows, a page at a time, or those in which a text stands."""
    wanted = WiremapFilter(text=q.strip(), site=site, sites=page.user.sites)
    with page.console.store.reading() as conn:
        found = wiremap_page(conn, wanted, after=after, limit=ROWS)
    return page.render(
        "wiremap.html",
        found=found,
        q=q,
        site=site,
        after=after,
        removed=removed,
        sites=sites_of(page),
        address_of=lambda entry: address_text(entry.civic),
    )


@router.get("/wiremap/edit")
def edit(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))],
    row: Annotated[str, Query(max_length=600)] = "",
    saved: bool = False,
) -> Response:
    """One row, by its key, or the form for a new one."""
    if not row:
        return _form(page, None, {})
    with page.console.store.reading() as conn:
        known = get_entries(conn, [row]).get(row)
    if known is None or not page.may_see(known.site):
        raise RequestProblem(404, "not-found")
    return _form(page, known, shown_columns(known), saved=saved)


@router.post("/wiremap/edit")
def save(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """Add or change a row, its identifier too; where somebody else changed it meanwhile, say so and keep theirs."""
    page, row = form.page, form.text("row")
    written = {name: value for name, value in form.values.items() if name in COLUMNS}
    try:
        entry = entry_of(written, page.console.places)
        with page.console.store.writing() as conn:
            save_row(conn, entry, editor_of(page), instead_of=row, expected=_expected(form, row, entry))
    except RequestProblem as error:
        if error.status not in (409, 422):
            raise
        known: WiremapEntry | None = None
        if row:
            with page.console.store.reading() as conn:
                known = get_entries(conn, [row]).get(row)
            if known is not None:
                page.need_site(known.site)
        return _form(page, known, written, error.fields, status=error.status, problem=error.detail)
    return page.redirect(f"/wiremap/edit?row={quote(entry.key, safe='')}&saved=true")


@router.post("/wiremap/remove")
def remove(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """Take a row away."""
    page = form.page
    with page.console.store.writing() as conn:
        gone = remove_row(conn, form.text("row"), editor_of(page))
    return page.redirect(f"/wiremap?removed={quote(gone.what, safe='')}")


def _expected(
    form: Form, row: str, entry: WiremapEntry
) -> Callable[[WiremapEntry | None, WiremapEntry | None], None]:
    def look(was: WiremapEntry | None, taken: WiremapEntry | None) -> None:
        if row and (was is None or etag_of(was) != form.text("etag")):
            raise RequestProblem(409, "changed-meanwhile", form.page.say("wiremap.changed_meanwhile"))
        if taken is not None and entry.key != row:
            exists = FieldProblem(
                field="bssid" if entry.bssid else "chassis", message=form.page.say("wiremap.exists")
            )
            raise RequestProblem(422, "values-wrong", fields=[exists])

    return look


def _form(
    page: Page,
    known: WiremapEntry | None,
    values: Mapping[str, Any],
    problems: Any = (),
    *,
    status: int = 200,
    problem: str = "",
    saved: bool = False,
) -> Response:
    history: list[Any] = []
    if known is not None:
        with page.console.store.reading() as conn:
            history = audit_rows(conn, subject=f"wiremap:{known.key}", sites=page.user.sites, limit=HISTORY)
    by_field = {one.field: one for one in problems}
    return page.render(
        "wiremap_row.html",
        status,
        entry=known,
        etag=etag_of(known) if known is not None else "",
        values={name: "" if (value := values.get(name)) is None else value for name in COLUMNS},
        problems=by_field,
        problem=problem,
        saved=saved,
        groups=GROUPS,
        sites=sites_of(page),
        history=history,
    )
