"""Sites, zones and trunks in the REST API: read only, for the configuration is a file."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from config.schema import SiteConfig
from e911.location import CIVIC_FIELDS
from e911.lost import ValidatedAddresses
from router.calls.call_state import read_state
from router.console.api import Caller, caller_for
from router.console.problems import RequestProblem
from router.store.device_list import count_devices
from router.store.tokens import TokenRole
from router.store.validated_addresses import all_addresses

endpoints = APIRouter(prefix="/api/v1", tags=["sites and trunks"])

_READ = caller_for(TokenRole.READ)


class ZoneItem(BaseModel):
    """An emergency response location within a site."""

    id: str
    name: str
    networks: list[str] = Field(description="phones seen from here are in this zone")
    finer: dict[str, str] = Field(description="building, floor, unit, room, …")
    devices: int = Field(description="registered there")


class SiteItem(BaseModel):
    """A place with a street address."""

    id: str
    name: str
    timezone: str
    address: dict[str, str]
    latitude: float | None
    longitude: float | None
    validation: str = Field(
        description="what the location validation function said of the address: valid, invalid or unknown, with "
        "elements; empty: not asked yet"
    )
    validated_at: float | None = Field(description="when, seconds since 1970")
    networks: list[str]
    numbers: list[str]
    callback: str
    contacts: list[str] = Field(description="who is told of 911 calls from here")
    devices: int = Field(description="registered there, in all zones and none")
    zones: list[ZoneItem]


class PlaceItem(BaseModel):
    """One address of a trunk. Times are seconds since 1970."""

    place: str
    state: str
    reason: str = Field(description="why it counts as down")
    asked_at: float | None
    answered_at: float | None


class TrunkItem(BaseModel):
    """A trunk, as the call process sees it."""

    name: str
    state: str = Field(description="up, down, unknown, no-address, not-probed")
    side: str
    asked_at: float | None = Field(description="last probe, seconds since 1970")
    answered_at: float | None = Field(description="last answer")
    places: list[PlaceItem]


class TrunksItem(BaseModel):
    """All trunks, and how old what is said of them is."""

    at: float | None = Field(description="when the call process said so, seconds since 1970; none: never")
    stale: bool = Field(description="true where the call process has said nothing for 15 s")
    trunks: list[TrunkItem]


@endpoints.get("/sites")
def list_sites(caller: Annotated[Caller, Depends(_READ)]) -> list[SiteItem]:
    """Sites and their zones, as configured, with how many devices are registered there."""
    with caller.console.store.reading() as conn:
        counts, validated = count_devices(conn, caller.sites), all_addresses(conn)
    return [_site(site, counts, validated) for site in caller.console.config.sites if caller.may_see(site.id)]


@endpoints.get("/sites/{site}", responses={404: {"description": "no such site, or not yours"}})
def show_site(caller: Annotated[Caller, Depends(_READ)], site: str) -> SiteItem:
    """One site."""
    caller.need_site(site)
    found = next((one for one in caller.console.config.sites if one.id == site), None)
    if found is None:
        raise RequestProblem(404, "not-found")
    with caller.console.store.reading() as conn:
        return _site(found, count_devices(conn, [site]), all_addresses(conn))


@endpoints.get("/trunks")
def list_trunks(caller: Annotated[Caller, Depends(_READ)]) -> TrunksItem:
    """Trunks with their health: last probe, last answer, and why one counts as down."""
    state = read_state(caller.console.state_directory)
    sides = {name: trunk.side for name, trunk in caller.console.config.trunks.items()}
    return TrunksItem(
        at=state.at,
        stale=state.is_stale(time.time()),
        trunks=[
            TrunkItem(
                name=trunk.name,
                state=trunk.state,
                side=sides.get(trunk.name, ""),
                asked_at=trunk.asked_at,
                answered_at=trunk.answered_at,
                places=[PlaceItem.model_validate(place, from_attributes=True) for place in trunk.places],
            )
            for trunk in state.trunks
        ],
    )


def _site(site: SiteConfig, counts: dict[tuple[str, str], int], validated: ValidatedAddresses) -> SiteItem:
    said = validated.get(site.address.as_street_address)
    return SiteItem(
        id=site.id,
        name=site.name,
        timezone=site.timezone,
        address=_given({name: getattr(site.address, name) for name in CIVIC_FIELDS}),
        latitude=site.latitude,
        longitude=site.longitude,
        validation=said.validation if said is not None else "",
        validated_at=said.validated_at if said is not None else None,
        networks=list(map(str, site.networks)),
        numbers=list(map(str, site.numbers)),
        callback=site.callback,
        contacts=list(site.notify),
        devices=sum(number for (name, _), number in counts.items() if name == site.id),
        zones=[
            ZoneItem(
                id=zone.id,
                name=zone.name,
                networks=list(map(str, zone.networks)),
                finer=_given({name: str(getattr(zone, name, "")) for name in CIVIC_FIELDS}),
                devices=counts.get((site.id, zone.id), 0),
            )
            for zone in site.zones
        ],
    )


def _given(values: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
