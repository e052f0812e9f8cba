"""Contacts: their channels, when each was last proven, and a button that proves one now."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from router.console.channel_names import channel_name
from router.console.pages import Form, Page, form_for, page_for
from router.console.problems import RequestProblem
from router.notices.channel_identity import channel_id
from router.notices.contact_tests import KIND, OLD_SECONDS, request_test
from router.store.audit import record_change
from router.store.proofs import last_delivered, last_trials
from router.store.users import Role

router = APIRouter(include_in_schema=False)


@router.get("/contacts")
def contacts(page: Annotated[Page, Depends(page_for(Role.VIEWER))], asked: str = "") -> Response:
    """All contacts of the sites that the user sees, and of no site at all."""
    with page.console.store.reading() as conn:
        proofs, trials = last_delivered(conn), last_trials(conn, KIND)
    told = _sites_of(page)
    now = time.time()
    return page.render(
        "contacts.html",
        contacts={name: item for name, item in page.console.config.contacts.items() if _may_see(page, name, told)},
        told=told,
        proofs=proofs,
        trials=trials,
        asked=asked,
        is_waiting=lambda trial: trial.state == "queued" and now - (trial.queued_at or 0) < OLD_SECONDS,
        name_of=channel_name,
        id_of=channel_id,
    )


@router.post("/contacts/test")
def test(form: Annotated[Form, Depends(form_for(Role.DESK))]) -> Response:
    """Send a TEST notice over one channel: really, by the notices process."""
    page = form.page
    contact, channel = form.text("contact"), form.text("channel")
    known = page.console.config.contacts.get(contact)
    url = next((url for url in known.send if channel_id(url) == channel), "") if known is not None else ""
    if not url or not _may_see(page, contact, _sites_of(page)):
        raise RequestProblem(404, "not-found")
    if wait := page.console.rates.contact_test.take(page.user.username):
        headers = {"Retry-After": str(int(wait) + 1)}
        raise RequestProblem(429, "too-many-requests", page.say("contacts.too_often"), headers=headers)
    try:
        request_test(page.console.state_directory, contact, url, page.user.username)
    except OSError as error:
        detail = f"{page.console.state_directory}: {error.strerror}; make it writable"
        raise RequestProblem(503, "test-not-asked", detail) from None
    with page.console.store.writing() as conn:
        record_change(
            conn,
            page.user.username,
            "test",
            f"contact:{contact}",
            None,
            {"channel": channel_name(url)},
            via="console",
        )
    return page.redirect(f"/contacts?asked={contact}.{channel}#{contact}")


def _sites_of(page: Page) -> dict[str, list[str]]:
    """Contact → sites whose 911 calls it is told of."""
    found: dict[str, list[str]] = {}
    for site in page.console.config.sites:
        for name in site.notify:
            found.setdefault(name, []).append(site.id)
    return found


def _may_see(page: Page, contact: str, told: dict[str, list[str]]) -> bool:
    return page.user.sites is None or any(page.may_see(site) for site in told.get(contact, []))
