"""ELIN pools: who has which number, until when; as a page and in the API. A lease may be ended by hand."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from config.schema import Config
from e911.elin import Lease, Leases
from e911.numbers import dialable
from router.callback.elin_view import lease_row, number_rows, own_numbers, pool_rows, release_change
from router.callback.leasing import pools_of
from router.console.api import Caller, caller_for
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import RequestProblem
from router.store.audit import Author, record_changes
from router.store.leases import all_leases, release
from router.store.tokens import TokenRole
from router.store.users import Role

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["callback numbers"])


class WayBackItem(BaseModel):
    """By which way a caller is called back."""

    trunk: str = Field(description="the PBX the call came from; empty for a phone that called by itself")
    user: str = Field(description="what the caller is called there")
    address_of_record: str
    instance: str
    flow: str = Field(description="transport, address and port the call came from")


class LeaseItem(BaseModel):
    """A number that somebody who dialled 911 has. Times are seconds since 1970."""

    number: str
    kind: str = Field(description="elin, or own: the phone's own number, kept for callbacks")
    pool: str
    who: str
    caller: str
    site: str
    zone: str
    call: str = Field(description="record id of the last 911 call under it")
    node: str
    since: float
    until: float
    is_test: bool
    reason: str = Field(description="elin-shared, or empty")
    way_back: WayBackItem


class NumberItem(BaseModel):
    """One ELIN and who has it, who called last first."""

    number: str
    pool: str
    last_used: float | None
    leases: list[LeaseItem]


class PoolItem(BaseModel):
    """The ELINs of a site or zone."""

    pool: str
    site: str
    zone: str
    total: int
    free: int
    leased: int
    shared: int
    state: str = Field(description="ok, elin-pool-low, elin-pool-empty")
    numbers: list[NumberItem]


class ElinsItem(BaseModel):
    """All pools, and numbers of phones of their own that dialled 911 lately."""

    pools: list[PoolItem]
    own_numbers: list[LeaseItem]


@router.get("/elins")
def elins_page(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """The pools, and who has each number."""
    now = time.time()
    with page.console.store.reading() as conn:
        leases = _leases(conn, page.console.config)
    view = _view(leases, now)
    return page.render(
        "elins.html",
        pools=[pool for pool in view["pools"] if page.may_see(pool["site"])],
        own=[row for row in view["own_numbers"] if page.may_see(row["site"])],
    )


@router.post("/elins/release")
def release_by_form(form: Annotated[Form, Depends(form_for(Role.ENGINEER))]) -> Response:
    """End the leases of a number."""
    page = form.page
    with page.console.store.writing() as conn:
        _release(conn, page.console.config, form.text("number"), page.may_see, page.author)
    return page.redirect("/elins")


@endpoints.get("/elins")
def list_elins(caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))]) -> ElinsItem:
    """Pools of ELINs with who has each number; numbers of phones of their own that are kept for callbacks."""
    with caller.console.store.reading() as conn:
        view = _view(_leases(conn, caller.console.config), time.time())
    return ElinsItem(
        pools=[PoolItem.model_validate(pool) for pool in view["pools"] if caller.may_see(pool["site"])],
        own_numbers=[LeaseItem.model_validate(row) for row in view["own_numbers"] if caller.may_see(row["site"])],
    )


@endpoints.post("/elins/{number}/release", responses={404: {"description": "not lent, or not of your sites"}})
def release_elin(caller: Annotated[Caller, Depends(caller_for(TokenRole.WRITE))], number: str) -> list[LeaseItem]:
    """End the leases of a number: calls to an ELIN then go to the site's desk. Nodes hear of it within a second."""
    with caller.console.store.writing() as conn:
        ended = _release(conn, caller.console.config, number, caller.may_see, caller.author)
    return [LeaseItem.model_validate(lease_row(lease)) for lease in ended]


def _leases(conn: Connection, config: Config) -> Leases:
    leases = Leases(pools_of(config))
    for lease in all_leases(conn):
        leases.merge(lease)
    return leases


def _view(leases: Leases, now: float) -> dict[str, Any]:
    rows = pool_rows(leases, now)
    for row, pool in zip(rows, leases.pools.all, strict=True):
        row["numbers"] = number_rows(leases, pool, now)
    return {"pools": rows, "own_numbers": own_numbers(leases, now)}


def _release(conn: Connection, config: Config, written: str, may_see: Any, author: Author) -> list[Lease]:
    now = time.time()
    number = dialable(written)
    live = _leases(conn, config).live(number, now) if number else []
    if not live or not all(may_see(lease.site) for lease in live):
        raise RequestProblem(404, "not-found")
    ended = release(conn, number, now)
    record_changes(conn, author, [release_change(lease) for lease in ended])
    return ended
