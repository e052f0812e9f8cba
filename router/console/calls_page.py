"""Calls: the list, everything about one of them, and the incident bundle to hand on."""

import time
from datetime import tzinfo
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from markupsafe import Markup

from e911.notice import address_lines
from e911.numbers import EmergencyNumbers
from router.console.api import Caller, caller_for
from router.console.pages import Page, page_for
from router.console.problems import RequestProblem
from router.console.settings import Console
from router.records.record import CallRecord
from router.reports.incident import Messages, bundle, psap_screen, sent_invites
from router.reports.ladder import ladder_of, ladder_svg
from router.store.call_messages import messages_of
from router.store.records import get_call, list_calls
from router.store.tokens import TokenRole
from router.store.users import Role

PAGE_CALLS = 100

CallId = Annotated[str, Path(pattern=r"^[0-9A-Za-z._-]{1,64}$")]

router = APIRouter(include_in_schema=False)
endpoints = APIRouter(prefix="/api/v1", tags=["calls"])


@router.get("/calls")
def calls_page(
    page: Annotated[Page, Depends(page_for(Role.VIEWER))], site: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """The newest calls."""
    found = _calls(page.console, page.user.sites, site, PAGE_CALLS, None)
    sites = [one for one in page.console.config.sites if page.may_see(one.id)]
    return page.render(
        "calls.html",
        calls=found,
        sites=sites,
        site=site,
        names=partial(site_name, page.console),
        zone_names=partial(zone_name, page.console),
    )


@router.get("/calls/{call}")
def call_page(page: Annotated[Page, Depends(page_for(Role.VIEWER))], call: CallId) -> Response:
    """Everything about one call."""
    record, messages = _found(page.console, page.may_see, call)
    zone = zone_of(page.console, record.site)
    ladder = ladder_of(messages)
    title = page.say("call.ladder")
    return page.render(
        "call.html",
        record=record,
        site_name=site_name(page.console, record.site),
        zone_name=zone_name(page.console, record.site, record.zone),
        address=address_lines(record.location.civic, page.language) if record.location else [],
        place_lines=lambda location: address_lines(location.civic, page.language),
        ladder=Markup(ladder_svg(ladder, title, page.say("call.again"))) if ladder.arrows else "",
        messages=[
            {
                "number": arrow.number,
                "label": arrow.label,
                "start": arrow.start,
                "end": arrow.end,
                "seconds": arrow.seconds,
                "text": messages[arrow.number][0].data.decode("utf-8", "replace").replace("\r\n", "\n"),
            }
            for arrow in ladder.arrows
        ],
        invites=[
            {
                "trunk": one.trunk,
                "lines": [(number in one.marked, line) for number, line in enumerate(one.text.split("\n"))],
            }
            for one in sent_invites(messages)
        ],
        screen="\n".join(psap_screen(record, messages, zone)),
        is_up=record.outcome == "answered" and record.finished_at is None,
    )


@router.get("/calls/{call}/bundle.zip")
def call_bundle(
    page: Annotated[Page, Depends(page_for(Role.DESK))], call: CallId, redacted: bool = False
) -> Response:
    """The incident bundle."""
    record, messages = _found(page.console, page.may_see, call)
    return _zip(page.console, record, messages, page.language, redacted=redacted)


@endpoints.get("/calls/{call}/bundle.zip", response_class=Response)
def fetch_bundle(
    caller: Annotated[Caller, Depends(caller_for(TokenRole.READ))], call: CallId, redacted: bool = False
) -> Response:
    """The incident bundle: record.json, messages.pcap, messages.txt, summary.pdf."""
    record, messages = _found(caller.console, caller.may_see, call)
    return _zip(caller.console, record, messages, "en", redacted=redacted)


def _calls(console: Console, sites: tuple[str, ...] | None, site: str, limit: int, since: float | None) -> list[Any]:
    with console.store.reading() as conn:
        if sites is None or site:
            found = list_calls(conn, limit=limit, site=site, since=since)
        else:
            found = [one for name in sites for one in list_calls(conn, limit=limit, site=name, since=since)]
            found = sorted(found, key=lambda one: -one.started_at)[:limit]
    return [one for one in found if sites is None or one.site in sites]


def _found(console: Console, may_see: Any, call: str) -> tuple[CallRecord, Messages]:
    """Raises RequestProblem 404 where there is none, or it is another site's."""
    with console.store.reading() as conn:
        record = get_call(conn, call)
        if record is None or not may_see(record.site):
            raise RequestProblem(404, "not-found")
        return record, messages_of(conn, record.call_id) if record.call_id else []


def _zip(console: Console, record: CallRecord, messages: Messages, language: str, *, redacted: bool) -> Response:
    emergency = console.config.emergency
    data = bundle(
        record,
        messages,
        numbers=EmergencyNumbers(emergency=frozenset(emergency.numbers), test=frozenset(emergency.test_numbers)),
        zone=zone_of(console, record.site),
        language=language,
        redacted=redacted,
        now=time.time(),
        site_name=site_name(console, record.site),
    )
    name = f"call-{record.id}{'-redacted' if redacted else ''}.zip"
    return Response(
        data, media_type="application/zip", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def zone_of(console: Console, site: str) -> tzinfo:
    """The time zone of a site, UTC where it has none."""
    return ZoneInfo(next((one.timezone for one in console.config.sites if one.id == site), "UTC"))


def site_name(console: Console, site: str) -> str:
    """The name of a site, its id where it has none."""
    return next((one.name for one in console.config.sites if one.id == site), "") or site


def zone_name(console: Console, site: str, zone: str) -> str:
    """The same of a zone."""
    zones = next((one.zones for one in console.config.sites if one.id == site), [])
    return next((one.name for one in zones if one.id == zone), "") or zone
