"""For anybody, without a login: does calling work here now? Two answers, and nothing that helps an attacker."""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from config.schema import Config
from router.calls.call_state import CallState, read_state
from router.console.pages import Page, visitor

router = APIRouter(include_in_schema=False)

SILENT_SECONDS = 6.0
"""The call process says every two seconds that it serves. Three times missed is too long for somebody who wonders
whether to take the mobile phone."""
_DOWN = ("down", "no-address")


class Works(StrEnum):
    """How a kind of calling stands."""

    YES = "yes"
    PARTLY = "partly"
    """It does everywhere; something that would take its place is out of order."""
    SOMEWHERE = "somewhere"
    """At some sites it does not."""
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The two answers."""

    emergency: Works
    ordinary: Works


def status_of(config: Config, state: CallState, now: float) -> Status:
    """Made of what the call process last said. A trunk that is not probed counts as working."""
    if state.is_stale(now, SILENT_SECONDS):
        return Status(emergency=Works.NO, ordinary=Works.NO)
    down = {trunk.name for trunk in state.trunks if trunk.state in _DOWN}
    ladders = []
    for site in [None, *config.sites]:
        emergency = config.emergency
        routes = site.routes if site is not None and site.routes is not None else emergency.routes
        basic = site.basic if site is not None and site.basic is not None else emergency.basic
        ladders.append({route.trunk for route in routes} | {last.trunk for last in basic})
    used = [trunks for trunks in ladders if trunks]
    if all(trunks <= down for trunks in used):
        emergency_works = Works.NO
    elif any(trunks <= down for trunks in used):
        emergency_works = Works.SOMEWHERE
    else:
        emergency_works = Works.PARTLY if any(trunks & down for trunks in used) else Works.YES
    outbound = set(config.routes.outbound)
    ordinary = Works.YES if state.is_serving and outbound - down else Works.NO
    if ordinary is Works.YES and outbound & down:
        ordinary = Works.PARTLY
    return Status(emergency=emergency_works, ordinary=ordinary)


@router.get("/status")
def status_page(page: Annotated[Page, Depends(visitor)]) -> Response:
    """The page."""
    now = time.time()
    state = read_state(page.console.state_directory)
    return page.render("status.html", status=status_of(page.console.config, state, now), now=now)
