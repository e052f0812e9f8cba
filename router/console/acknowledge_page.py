"""The link in a notice: shows the call in short, and a button that acknowledges it. Nobody need log in.

The link is signed and ends by itself. Opening it acknowledges nothing, for mail scanners open links; it only notes
that it was opened.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from e911.notice import location_lines
from router.console.pages import Form, Page, visitor, visitor_form
from router.console.problems import RequestProblem
from router.console.settings import Console
from router.notices.confirmations import Confirmation, Step, confirm
from router.notices.links import Links, base_url, keep_secret, links_for, secrets_of
from router.records.record import CallRecord
from router.store.confirmations import LINK_SECRET, confirmations_of, shared_secret, store_confirmations
from router.store.errors import StoreError
from router.store.records import get_call

PATH = "/ack/{call}/{contact}/{expires}/{signature}"

router = APIRouter(include_in_schema=False)


@router.get(PATH)
def show(page: Annotated[Page, Depends(visitor)], call: str, contact: str, expires: str, signature: str) -> Response:
    """The call in short, and the button."""
    console = page.console
    _check(page, call, contact, expires, signature)
    if not getattr(page.request.state, "is_head", False):  # a scanner of mail looks whether the page is there
        seen = Confirmation(call=call, step=Step.SEEN, contact=contact, how="link opened", at=time.time())
        write_down(console, seen)
    record, confirmations = _known(console, call)
    acknowledged = next((one for one in confirmations if one.step is Step.ACKNOWLEDGED), None)
    return _rendered(page, call, record, acknowledged)


@router.post(PATH)
def acknowledge(
    form: Annotated[Form, Depends(visitor_form)], call: str, contact: str, expires: str, signature: str
) -> Response:
    """The button."""
    page = form.page
    _check(page, call, contact, expires, signature)
    by = " ".join(form.text("name").split())[:100] or contact
    done = Confirmation(call=call, step=Step.ACKNOWLEDGED, contact=contact, by=by, how="link", at=time.time())
    if not write_down(page.console, done):
        raise RequestProblem(503, "not-acknowledged", page.say("acknowledge.failed"))
    record, _ = _known(page.console, call)
    return _rendered(page, call, record, done)


def _rendered(page: Page, call: str, record: CallRecord | None, acknowledged: Confirmation | None) -> Response:
    place = location_lines(record.location, page.language) if record and record.location else []
    return page.render("acknowledge.html", call=call, record=record, place=place, acknowledged=acknowledged)


def _check(page: Page, call: str, contact: str, expires: str, signature: str) -> None:
    """Raise RequestProblem where the link is not good, or not any more.

    Guessing is slowed down by address, and a good link works from there all the same. It is read with what this node
    keeps first, so that a guess that is slowed down costs no question to the database.
    """
    console = page.console
    parts = (call, contact, expires, signature, time.time())
    claim = links_for(console.config, console.state_directory).read(*parts)
    if claim == "link-invalid":
        if wait := console.rates.bad_link.wait(page.address):
            headers = {"Retry-After": str(int(wait) + 1)}
            raise RequestProblem(429, "too-many-requests", page.say("acknowledge.slow"), headers=headers)
        claim = links_of(console).read(*parts)
    if claim == "link-invalid":
        console.rates.bad_link.take(page.address)
        raise RequestProblem(404, claim, page.say("acknowledge.invalid"))
    if isinstance(claim, str):
        raise RequestProblem(410, claim, page.say("acknowledge.expired"))


def links_of(console: Console) -> Links:
    """Links as this node signs them, and as those do with which it shares its database."""
    links = links_for(console.config, console.state_directory)
    try:
        with console.store.writing() as conn:
            shared = shared_secret(conn, LINK_SECRET)
    except StoreError:
        return links
    own = secrets_of(console.state_directory, console.config.node)
    if shared not in own:
        keep_secret(console.state_directory, shared)
    return Links(base=base_url(console.config), secrets=(shared, *own))


def _known(console: Console, call: str) -> tuple[CallRecord | None, list[Confirmation]]:
    """What the database says of a call; nothing where it is down, or does not have it yet."""
    try:
        with console.store.reading() as conn:
            return get_call(conn, call), confirmations_of(conn, [call])
    except StoreError:
        return None, []


def write_down(console: Console, confirmation: Confirmation) -> bool:
    """Tell the notices process; where the state directory cannot be written, the database. False: neither could."""
    try:
        confirm(console.state_directory, confirmation)
    except OSError:
        try:
            with console.store.writing() as conn:
                store_confirmations(conn, console.config.node, [confirmation])
        except StoreError:
            return False
    return True
