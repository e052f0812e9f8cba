"""The audit trail, as a page and in the API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from router.console.api import Caller, caller_for
from router.console.pages import Page, page_for
from router.store.audit import audit_rows
from router.store.tokens import TokenRole
from router.store.users import Role

PAGE_ROWS = 50

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["audit"])


class AuditItem(BaseModel):
    """One change."""

    id: int = Field(description="grows with time; `before_id` of the next page")
    at: float = Field(description="seconds since 1970")
    who: str = Field(description="user, token, or user of the operating system")
    via: str = Field(description="console, api, cli, …")
    action: str = Field(description="create, change, remove, login, …")
    subject: str = Field(description="device:4012, user:alice, …")
    site: str = Field(description="the site it is of, or empty")
    before: dict[str, object] = Field(description="what was, as far as it changed")
    after: dict[str, object] = Field(description="what is, as far as it changed")


class AuditPage(BaseModel):
    """Changes, newest first."""

    changes: list[AuditItem]
    next_before_id: int | None = Field(description="`before_id` of the next page; none on the last")


@router.get("/audit")
def audit_page(
    page: Annotated[Page, Depends(page_for(Role.ENGINEER))],
    q: Annotated[str, Query(max_length=200)] = "",
    subject: Annotated[str, Query(max_length=300)] = "",
    before_id: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Who changed what, newest first."""
    with page.console.store.reading() as conn:
        rows = audit_rows(
            conn, subject=subject, text=q.strip(), sites=page.user.sites, before_id=before_id, limit=PAGE_ROWS + 1
        )
    return page.render(
        "audit.html",
        rows=rows[:PAGE_ROWS],
        q=q,
        subject=subject,
        before_id=before_id,
        next_id=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
    )


@endpoints.get("/audit")
def list_changes(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))],
    q: Annotated[str, Query(max_length=200, description="text in who, subject or values")] = "",
    subject: Annotated[str, Query(max_length=300, description="of this subject only: device:4012")] = "",
    before_id: Annotated[int | None, Query(ge=0, lt=2**63, description="go on where a page ended")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="most rows of a page")] = 100,
) -> AuditPage:
    """The audit trail: who changed what, when, from what to what; newest first. Logins, users and tokens stand in it
    for tokens with the role admin."""
    with caller.console.store.reading() as conn:
        rows = audit_rows(
            conn,
            subject=subject,
            text=q.strip(),
            sites=caller.sites,
            before_id=before_id,
            limit=limit + 1,
            with_access=caller.token.role.covers(TokenRole.ADMIN),
        )
    shown = [AuditItem.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return AuditPage(changes=shown, next_before_id=shown[-1].id if len(rows) > limit else None)
