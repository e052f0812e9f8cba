"""Registered devices a page at a time, found by text, place and kind: for people and programs that look at many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, func, or_, select

from e911.location import CIVIC_FIELDS, Device
from router.store.devices import devices, get_devices

SEARCHED: Final = (
    *("device", "name", "callback", "aor", "number", "username", "mac", "email"),
    *("building", "floor", "room", "unit", "street", "city"),
)
"""Columns in which a text is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilter:
    """Which devices are wanted; what is empty or None says nothing."""

    text: str = ""
    site: str = ""
    zone: str = ""
    kind: str = ""
    located: bool | None = None
    """True: with a site, an address or a point of their own; False: without any."""
    in_doubt: bool | None = None
    """True: those whose location must be confirmed anew."""
    sites: Sequence[str] | None = None
    """Those that may be seen; None for all, also of no site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """Devices in the order of their names; `next` is `after` of the next page, or empty."""

    devices: list[Device]
    total: int
    next: str


def device_page(
    conn: Connection, wanted: DeviceFilter, *, now: float, after: str = "", limit: int = 50
) -> DevicePage:
    """One page, from the device behind `after` on. `now`: seconds since 1970, for what has expired."""
    conditions = _conditions(wanted, now)
    names = select(devices.c.device).where(*conditions, devices.c.device > after)
    found = list(conn.execute(names.order_by(devices.c.device).limit(limit + 1)).scalars())
    total = conn.execute(select(func.count()).select_from(devices).where(*conditions)).scalar_one()
    known = get_devices(conn, found[:limit])
    return DevicePage(
        devices=[known[name] for name in found[:limit] if name in known],
        total=total,
        next=found[limit - 1] if len(found) > limit else "",
    )


def names_to_validate(
    conn: Connection, before: float, unknown_before: float, *, after: str = "", limit: int = 200
) -> list[str]:
    """Devices behind `after` whose location was never validated, or not since `before` (seconds since 1970).

    Of those that the server did not know about: not since `unknown_before`.
    """
    due = or_(
        devices.c.validation == "",
        devices.c.validated_at.is_(None),
        devices.c.validated_at <= before,
        and_(devices.c.validation.startswith("unknown"), devices.c.validated_at <= unknown_before),
    )
    wanted = select(devices.c.device).where(devices.c.device > after, due).order_by(devices.c.device).limit(limit)
    return list(conn.execute(wanted).scalars())


def count_devices(conn: Connection, sites: Sequence[str] | None = None) -> dict[tuple[str, str], int]:
    """(site, zone) → how many devices are registered there."""
    query = select(devices.c.site, devices.c.zone, func.count()).group_by(devices.c.site, devices.c.zone)
    if sites is not None:
        query = query.where(devices.c.site.in_(list(sites)))
    return {(site, zone): number for site, zone, number in conn.execute(query)}


def _conditions(wanted: DeviceFilter, now: float) -> list[Any]:
    columns = devices.c
    found: list[Any] = []
    if wanted.text:
        found.append(or_(*(columns[name].icontains(wanted.text, autoescape=True) for name in SEARCHED)))
    for name in ("site", "zone", "kind"):
        if value := getattr(wanted, name):
            found.append(columns[name] == value)
    if wanted.sites is not None:
        found.append(columns.site.in_(list(wanted.sites)))
    nowhere = and_(columns.site == "", columns.latitude.is_(None), *(columns[name] == "" for name in CIVIC_FIELDS))
    if wanted.located is not None:
        found.append(~nowhere if wanted.located else nowhere)
    doubt = or_(columns.unconfirmed != "", and_(columns.expires_at > 0, columns.expires_at <= now))
    if wanted.in_doubt is not None:
        found.append(doubt if wanted.in_doubt else and_(columns.unconfirmed == "", _not_expired(now)))
    return found


def _not_expired(now: float) -> Any:
    column = devices.c.expires_at
    return or_(column.is_(None), column <= 0, column > now)
