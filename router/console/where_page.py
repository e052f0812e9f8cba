"""The page on which the user of one phone says where it is: by a signed link, without an account.

What is wrong with a link is not told apart: nobody learns which devices there are. The page shows only the
address of the link's own device.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from e911.dispatchable import civic_problems
from e911.location import CivicAddress, Device
from e911.notice import address_lines
from e911.postal import PROVINCES, US_STATES, normal_postal_code
from router.console.pages import Form, Page, visitor, visitor_form
from router.console.problems import RequestProblem
from router.locations.location_cells import cell_value
from router.locations.self_service import device_in
from router.notices.links import secrets_of
from router.store.audit import differences, record_change
from router.store.devices import Value, columns_of, get_device, mark_devices, upsert_devices
from router.store.errors import StoreError

FIELDS = ("country", "house_number", "street", "unit", "floor", "city", "state", "postal_code", "additional")
"""What is asked for, in the order of the form."""
_CLEARED = ("zone", "elin_zone", "county", "house_number_suffix", "building", "room", "landmark")
"""What was true of the place before, and is not of another. The site stays: its people are told of 911 calls."""
_STREET = ("pre_directional", "street", "street_suffix", "post_directional")
"""One field of the form."""

router = APIRouter(include_in_schema=False)


@router.get("/where/{token}")
def where(token: str, page: Annotated[Page, Depends(visitor)]) -> Response:
    """The form, with the address that is on file."""
    _check_rate(page)
    try:
        device = _device(page, token)
    except StoreError:
        return _later(page)
    if device is None:
        return _bad_link(page)
    return _form(page, device, _on_file(device), [])


@router.post("/where/{token}")
def say_where(token: str, form: Annotated[Form, Depends(visitor_form)]) -> Response:
    """An address was sent: kept and confirmed, or shown again with what is wrong."""
    _check_rate(form.page)
    try:
        return _said(form, token)
    except StoreError:
        return _later(form.page)


def _said(form: Form, token: str) -> Response:
    page = form.page
    device = _device(page, token)
    if device is None:
        return _bad_link(page)
    given = {name: form.text(name) for name in FIELDS}
    values, problems = _read(page, given)
    if not problems:
        civic = CivicAddress(**{name: str(value or "") for name, value in values.items()})
        problems = [page.say(f"where.problem.{reason}") for reason in civic_problems(civic)]
    if form.text("acknowledged") != "yes":
        problems.append(page.say("where.problem.not-acknowledged"))
    if problems:
        return _form(page, device, given, problems)
    kept = _keep(page, device, values)
    return page.render("where_done.html", device=kept, lines=address_lines(kept.civic, page.language))


def _read(page: Page, given: dict[str, str]) -> tuple[dict[str, Value], list[str]]:
    values: dict[str, Value] = {}
    problems = []
    for name, text in given.items():
        try:
            values[name] = cell_value(name, text, {})
        except ValueError as error:
            label = page.say(f"where.{name}")
            problems.append(f"{label}: " + page.say("where.problem.unreadable", what=str(error)))
    country, postal_code = str(values.get("country") or ""), str(values.get("postal_code") or "")
    values["postal_code"] = normal_postal_code(country, postal_code) or postal_code  # nobody else looks at it again
    return values, problems


def _on_file(device: Device) -> dict[str, str]:
    """What is on file, as the form asks for it: a street with its suffix and directionals in one field."""
    found = {name: str(getattr(device.civic, name)) for name in FIELDS}
    street = (getattr(device.civic, name) for name in _STREET)
    return {**found, "street": " ".join(filter(None, street))}


def _keep(page: Page, device: Device, values: dict[str, Value]) -> Device:
    """Store and confirm; the parts of an address that stays the same are left as they are."""
    now = time.time()
    row: dict[str, Value] = {"device": device.device, "confirmed_at": float(int(now)), "confirmed_by": "self-service"}
    on_file = _on_file(device)
    if on_file != values:
        row |= {**values, **dict.fromkeys(_CLEARED, ""), "latitude": None, "longitude": None}
        if on_file["street"] == values["street"]:  # another house of it: its suffix stays in a column of its own
            del row["street"]
        else:
            row |= {name: "" for name in _STREET if name != "street"}
    if 0 < device.expires_at <= now:
        row["expires_at"] = None
    with page.console.store.writing() as conn:
        before = get_device(conn, device.device) or device
        upsert_devices(conn, [row], now=now, by="self-service", via="self-service")
        mark_devices(conn, {device.device: {"acknowledged_at": now, "unconfirmed": ""}}, None)
        after = get_device(conn, device.device) or before
        old, new = differences(columns_of(before), columns_of(after))
        record_change(
            conn,
            page.address or "unknown",
            "confirm-location",
            f"device:{device.device}",
            old,
            {**new, "acknowledged_at": now},
            via="self-service",
            site=after.site,
            at=now,
        )
    return after


def _device(page: Page, token: str) -> Device | None:
    console = page.console

    def find(name: str) -> Device | None:
        with console.store.reading() as conn:
            return get_device(conn, name)

    return device_in(secrets_of(console.state_directory, console.config.node), token, time.time(), find)


def _check_rate(page: Page) -> None:
    wait = page.console.rates.self_service.take(page.address)
    if wait:
        headers = {"Retry-After": str(int(wait) + 1)}
        raise RequestProblem(429, "links-too-often", page.say("where.too-often"), headers=headers)


def _later(page: Page) -> Response:
    """There is no database now: nothing was kept, and whoever lives there must know."""
    response = page.render("where_later.html", 503)
    response.headers["Retry-After"] = "60"
    return response


def _bad_link(page: Page) -> Response:
    return page.render("where_bad.html", 404)


def _form(page: Page, device: Device, values: dict[str, str], problems: list[str]) -> Response:
    return page.render(
        "where.html",
        422 if problems else 200,
        device=device,
        values=values,
        problems=problems,
        fields=FIELDS,
        states={"US": sorted(US_STATES - {"AA", "AE", "AP"}), "CA": sorted(PROVINCES)},
    )
