"""Sites and zones as configured, how many devices are there, and the plan image of each zone."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from config.schema import SiteConfig
from e911.location import FINER_FIELDS
from e911.lost import Validated
from router.console.pages import Form, Page, form_for, page_for
from router.console.plan_images import MOST_BYTES, PlanError, read_plan
from router.console.problems import RequestProblem
from router.store.device_list import count_devices
from router.store.users import Role
from router.store.validated_addresses import all_addresses
from router.store.zone_plans import get_plan, plan_times, put_plan, remove_plan

router = APIRouter(include_in_schema=False)
_NOT_ASKED: Final = Validated("", 0.0)


@router.get("/sites")
def sites(page: Annotated[Page, Depends(page_for(Role.VIEWER))], problem: str = "") -> Response:
    """All sites of the user."""
    return _shown(page)


def _shown(page: Page, status: int = 200, *, problem: str = "", at: tuple[str, str] = ("", "")) -> Response:
    with page.console.store.reading() as conn:
        counts, plans = count_devices(conn, page.user.sites), plan_times(conn)
        validated = all_addresses(conn)
    found = [site for site in page.console.config.sites if page.may_see(site.id)]
    totals = {site.id: sum(number for (name, _), number in counts.items() if name == site.id) for site in found}
    return page.render(
        "sites.html",
        status,
        sites=found,
        counts=counts,
        totals=totals,
        plans=plans,
        finer=FINER_FIELDS,
        address_of=address_text,
        said={site.id: validated.get(site.address.as_street_address, _NOT_ASKED) for site in found},
        problem=problem,
        problem_at=at,
    )


@router.get("/sites/{site}/{zone}/plan")
def plan(page: Annotated[Page, Depends(page_for(Role.VIEWER))], site: str, zone: str) -> Response:
    """The plan image of a zone."""
    page.need_site(site)
    with page.console.store.reading() as conn:
        found = get_plan(conn, site, zone)
    if found is None:
        raise RequestProblem(404, "not-found")
    return Response(
        found.image,
        media_type=found.media_type,
        headers={"Cache-Control": "private, max-age=60", "Content-Disposition": "inline"},
    )


@router.post("/sites/{site}/{zone}/plan")
def upload(form: Annotated[Form, Depends(form_for(Role.ENGINEER))], site: str, zone: str) -> Response:
    """Set the plan image of a zone, or take it away."""
    page = form.page
    page.need_site(site)
    if not any(one.id == site and zone in {part.id for part in one.zones} for one in page.console.config.sites):
        raise RequestProblem(404, "not-found")
    if form.text("remove"):
        with page.console.store.writing() as conn:
            remove_plan(conn, site, zone, page.author)
        return page.redirect("/sites")
    if page.console.rates.upload.take(page.user.username):
        raise RequestProblem(429, "too-many-requests", page.say("plans.too_often"))
    file = form.files.get("image")
    try:
        found = read_plan(file.file.read(MOST_BYTES + 1) if file is not None else b"")
    except PlanError as error:
        return _shown(page, 422, problem=page.say(error.key), at=(site, zone))
    with page.console.store.writing() as conn:
        put_plan(conn, site, zone, found, page.author)
    return page.redirect("/sites")


def address_text(site: SiteConfig) -> str:
    """The address on one line."""
    civic = site.address
    number = civic.house_number + civic.house_number_suffix
    street = (number, civic.pre_directional, civic.street, civic.street_suffix, civic.post_directional)
    parts = (" ".join(filter(None, street)), civic.city, " ".join(filter(None, (civic.state, civic.postal_code))))
    return ", ".join(filter(None, (*parts, civic.country)))
