"""Trunks: health, last probe, last answer; as the call process last wrote it down."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from config.findings import emergency_lists
from router.calls.call_state import read_state
from router.console.pages import Page, page_for
from router.store.users import Role

router = APIRouter(include_in_schema=False)


@router.get("/trunks")
def trunks(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """All trunks, those of 911 first."""
    state = read_state(page.console.state_directory)
    config = page.console.config
    carrying: dict[str, list[str]] = {}
    for path, routes in emergency_lists(config):
        for route in routes:
            name = f"{config.sites[int(path[1])].id}: {route.name}" if path[0] == "sites" else route.name
            carrying.setdefault(route.trunk, []).append(name)
    known = {trunk.name: trunk for trunk in state.trunks}
    return page.render(
        "trunks.html",
        state=state,
        is_stale=state.is_stale(time.time()),
        trunks=sorted(config.trunks.items(), key=lambda item: (item[0] not in carrying, item[0])),
        known=known,
        carrying=carrying,
    )
