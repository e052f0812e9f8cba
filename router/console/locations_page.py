"""The registered devices, for people: find one, say where it is, see who said so before."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from e911.dispatchable import device_problems
from e911.location import FINER_FIELDS, CivicAddress, Device, DeviceKind
from router.console.device_edit import Editor, canonical, document_of, etag_of, remove_device, row_of, save_device
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import FieldProblem, RequestProblem
from router.emergency.rules import places_of
from router.locations.post_forms import forms_of, take_forms
from router.store.audit import audit_rows
from router.store.device_list import DeviceFilter, device_page
from router.store.devices import (
    COLUMNS,
    ID_COLUMNS,
    POINT_COLUMNS,
    WHO_COLUMNS,
    Value,
    columns_of,
    get_device,
    take_turn,
)
from router.store.users import Role

ROWS = 50
HISTORY = 30
_PLACE = ("site", "zone", "elin_zone")
_DATES = ("confirmed_at", "confirmed_by", "expires_at")

router = APIRouter(include_in_schema=False)


def _groups() -> list[tuple[str, list[str]]]:
    """The columns as the form shows them; those that are new stand with the address."""
    known = {"device", *WHO_COLUMNS, *_PLACE, *FINER_FIELDS, *POINT_COLUMNS, *_DATES, *ID_COLUMNS}
    return [
        ("who", list(WHO_COLUMNS)),
        ("place", list(_PLACE)),
        ("finer", list(FINER_FIELDS)),
        ("address", [name for name in COLUMNS if name not in known]),
        ("point", list(POINT_COLUMNS)),
        ("provider", list(ID_COLUMNS)),
        ("dates", list(_DATES)),
    ]


GROUPS = _groups()


@router.get("/locations")
def locations(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))],
    q: Annotated[str, Query(max_length=200)] = "",
    site: Annotated[str, Query(max_length=100)] = "",
    show: Annotated[str, Query(max_length=20)] = "",
    after: Annotated[str, Query(max_length=300)] = "",
    removed: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """All devices, a page at a time, or those in which a text stands."""
    wanted = DeviceFilter(
        text=q.strip(),
        site=site,
        kind=show if show in set(DeviceKind) else "",
        located={"located": True, "unlocated": False}.get(show),
        in_doubt=True if show == "doubt" else None,
        sites=page.user.sites,
    )
    with page.console.store.reading() as conn:
        found = device_page(conn, wanted, now=time.time(), after=after, limit=ROWS)
    return page.render(
        "locations.html",
        found=found,
        q=q,
        site=site,
        show=show,
        after=after,
        removed=removed,
        sites=sites_of(page),
        kinds=[kind.value for kind in DeviceKind],
        now=time.time(),
        place_of=lambda device: address_text(device.civic),
    )


@router.get("/locations/edit")
def edit(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))],
    device: Annotated[str, Query(max_length=300)] = "",
    saved: bool = False,
) -> Response:
    """One device, or the form for a new one."""
    if not device:
        return _form(page, None, {}, [])
    with page.console.store.reading() as conn:
        known = get_device(conn, device)
    if known is None or not page.may_see(known.site):
        raise RequestProblem(404, "not-found")
    return _form(page, known, document_of(known), [], saved=saved)


@router.post("/locations/edit")
def save(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """Add or change a device; where somebody else changed it meanwhile, say so and keep theirs."""
    page = form.page
    written = {name: value for name, value in form.values.items() if name in COLUMNS}
    is_new = form.text("is_new") == "1"
    known: Device | None = None
    try:
        row = row_of({"device": "", **written}, page.console.places)
        for name in ("confirmed_at", "confirmed_by"):  # shown, and set by the change itself
            row.pop(name, None)
        with page.console.store.writing() as conn:
            save_device(conn, row, page.console.places, editor_of(page), expected=_expected(page, form, is_new))
    except RequestProblem as error:
        if error.status not in (409, 422):
            raise
        if not is_new:
            with page.console.store.reading() as conn:
                known = get_device(conn, written.get("device", ""))
            if known is not None:
                page.need_site(known.site)
        return _form(page, known, written, error.fields, status=error.status, problem=error.detail, is_new=is_new)
    return page.redirect(f"/locations/edit?device={quote(str(row['device']), safe='')}&saved=true")


@router.post("/locations/confirm")
def confirm(form: Annotated[Form, Depends(form_for(Role.DESK))]) -> Response:
    """It is where it is said to be: now, by whoever pressed the button."""
    page, device = form.page, form.text("device")
    row: dict[str, Value] = {"device": canonical(device), "confirmed_at": float(int(time.time()))}
    row["confirmed_by"] = page.user.username
    with page.console.store.writing() as conn:
        save_device(conn, row, page.console.places, editor_of(page), expected=_must_be_there)
    return page.redirect(f"/locations/edit?device={quote(device, safe='')}&saved=true")


@router.post("/locations/forms")
def take_post_forms(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """Write its address as the post does; where somebody else changed it meanwhile, show that instead."""
    page, device = form.page, form.text("device")
    with page.console.store.writing() as conn:
        take_turn(conn)
        known = get_device(conn, device)
        if known is None or not page.may_see(known.site):
            raise RequestProblem(404, "not-found")
        is_same = etag_of(known) == form.text("etag")
        if is_same:
            take_forms(conn, [device], places_of(page.console.config), by=page.author.who, via=page.author.via)
    return page.redirect(f"/locations/edit?device={quote(device, safe='')}" + ("&saved=true" if is_same else ""))


@router.post("/locations/remove")
def remove(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """Take a device away."""
    page = form.page
    with page.console.store.writing() as conn:
        gone = remove_device(conn, form.text("device"), editor_of(page))
    return page.redirect(f"/locations?removed={quote(gone.device, safe='')}")


def address_text(civic: CivicAddress) -> str:
    """A place on one line, the finest first."""
    number = civic.house_number + civic.house_number_suffix
    street = " ".join(filter(None, (number, civic.street, civic.street_suffix)))
    finer = [getattr(civic, name) for name in ("room", "unit", "floor", "building")]
    parts = [*finer, street, civic.city, civic.state]
    return ", ".join(filter(None, parts))


def _must_be_there(known: Device | None) -> None:
    if known is None:
        raise RequestProblem(404, "not-found")


def _expected(page: Page, form: Form, is_new: bool) -> Callable[[Device | None], None]:
    def look(known: Device | None) -> None:
        if is_new and known is not None:
            raise RequestProblem(
                422, "values-wrong", fields=[FieldProblem(field="device", message=page.say("locations.exists"))]
            )
        if not is_new and (known is None or etag_of(known) != form.text("etag")):
            raise RequestProblem(409, "changed-meanwhile", page.say("locations.changed_meanwhile"))

    return look


def editor_of(page: Page) -> Editor:
    """Who is logged in, as one who changes."""
    return Editor(who=page.author.who, via=page.author.via, may_see=page.may_see)


def sites_of(page: Page) -> list[Any]:
    """The sites that a form of this page offers."""
    return [site for site in page.console.config.sites if page.may_see(site.id)]


def _form(
    page: Page,
    known: Device | None,
    values: Mapping[str, Any],
    problems: Any,
    *,
    status: int = 200,
    problem: str = "",
    is_new: bool | None = None,
    saved: bool = False,
) -> Response:
    now, sites = time.time(), places_of(page.console.config)
    history: list[Any] = []
    if known is not None:
        with page.console.store.reading() as conn:
            history = audit_rows(conn, subject=f"device:{known.device}", sites=page.user.sites, limit=HISTORY)
    return page.render(
        "location.html",
        status,
        device=known,
        is_new=(known is None) if is_new is None else is_new,
        etag=etag_of(known) if known is not None else "",
        stored=columns_of(known) if known is not None else {},
        doubt=known.doubt(now) if known is not None else "",
        lacks=device_problems(known, sites, now) if known is not None else (),
        forms=forms_of(known, sites) if known is not None else {},
        values={name: "" if (value := values.get(name)) is None else value for name in COLUMNS},
        problems={one.field: one for one in problems},
        problem=problem,
        saved=saved,
        groups=GROUPS,
        sites=sites_of(page),
        kinds=[kind.value for kind in DeviceKind],
        history=history,
    )
