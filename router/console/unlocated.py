"""Phones that were seen without a location: a page and an endpoint, ready to be given one."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from router.console.api import Caller, caller_for
from router.console.pages import Page, page_for
from router.console.problems import RequestProblem
from router.store.phones import phones_without_location
from router.store.tokens import TokenRole
from router.store.users import Role

MOST_SHOWN = 500

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["devices"])


class SeenPhoneItem(BaseModel):
    """One phone without a location."""

    phone: str = Field(description="as it calls itself; `PUT /devices/{phone}` gives it a location")
    network: str = Field(description="the network it was last seen on, or the PBX it is behind")
    address: str = Field(description="address and port it was last seen at")
    user_agent: str = Field(description="what it says it is")
    method: str = Field(description="REGISTER or INVITE")
    first_seen: float = Field(description="seconds since 1970")
    last_seen: float = Field(description="seconds since 1970")
    times: int = Field(description="how often it was noted, at most once in five minutes")


class SeenPhones(BaseModel):
    """Phones without a location, last seen first."""

    phones: list[SeenPhoneItem]


@router.get("/unlocated")
def unlocated_page(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))], q: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    """The list. It is of no site, so only those see it who see all."""
    if page.user.sites is not None:
        raise RequestProblem(403, "sites-limited")
    with page.console.store.reading() as conn:
        rows = phones_without_location(conn, text=q.strip(), limit=MOST_SHOWN)
    return page.render("unlocated.html", rows=rows, q=q, built=page.request.app.state.paths)


@endpoints.get("/phones/unlocated")
def list_unlocated(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))],
    q: Annotated[str, Query(max_length=200, description="text in phone, network or User-Agent")] = "",
    limit: Annotated[int, Query(ge=1, le=20_000, description="most rows")] = 1000,
) -> SeenPhones:
    """Phones seen in REGISTER or INVITE that have no location."""
    if caller.sites is not None:
        raise RequestProblem(403, "sites-limited")
    with caller.console.store.reading() as conn:
        rows = phones_without_location(conn, text=q.strip(), limit=limit)
    return SeenPhones(phones=[SeenPhoneItem.model_validate(row, from_attributes=True) for row in rows])
