"""Plan images of zones: where on its floor a zone is, for the people at the desk."""

import time
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Double, Integer, LargeBinary, Table, Text, delete, insert, select

from router.store.audit import Author, Change, record_changes
from router.store.metadata import metadata

zone_plans = Table(
    "zone_plans",
    metadata,
    Column("site", Text, primary_key=True),
    Column("zone", Text, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("image", LargeBinary, nullable=False),
    Column("updated_at", Double, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePlan:
    """One image, as it is served. Width and height in pixels."""

    media_type: str
    width: int
    height: int
    image: bytes
    updated_at: float = 0.0


def get_plan(conn: Connection, site: str, zone: str) -> ZonePlan | None:
    """The plan of a zone, where it has one."""
    columns = [zone_plans.c[name] for name in ("media_type", "width", "height", "image", "updated_at")]
    query = select(*columns).where(zone_plans.c.site == site, zone_plans.c.zone == zone)
    found = conn.execute(query).one_or_none()
    return ZonePlan(**found._mapping) if found is not None else None


def plan_times(conn: Connection) -> dict[tuple[str, str], float]:
    """(site, zone) of every plan, and when it was put there (seconds since 1970)."""
    found = conn.execute(select(zone_plans.c.site, zone_plans.c.zone, zone_plans.c.updated_at))
    return {(site, zone): at for site, zone, at in found}


def put_plan(conn: Connection, site: str, zone: str, plan: ZonePlan, author: Author) -> None:
    """Set the plan of a zone, in place of the one it has."""
    known = get_plan(conn, site, zone)
    now = time.time()
    conn.execute(delete(zone_plans).where(zone_plans.c.site == site, zone_plans.c.zone == zone))
    values = {"media_type": plan.media_type, "width": plan.width, "height": plan.height, "image": plan.image}
    conn.execute(insert(zone_plans), [{"site": site, "zone": zone, "updated_at": now, **values}])
    record_changes(conn, author, [_change(site, zone, known, plan)], at=now)


def remove_plan(conn: Connection, site: str, zone: str, author: Author) -> bool:
    """Take the plan of a zone away; False where it had none."""
    known = get_plan(conn, site, zone)
    if known is None:
        return False
    conn.execute(delete(zone_plans).where(zone_plans.c.site == site, zone_plans.c.zone == zone))
    record_changes(conn, author, [_change(site, zone, known, None)])
    return True


def _change(site: str, zone: str, before: ZonePlan | None, after: ZonePlan | None) -> Change:
    action = "change" if before and after else "create" if after else "remove"
    return Change(
        action=action,
        subject=f"zone-plan:{site}/{zone}",
        before=_shown(before),
        after=_shown(after),
        site=site,
    )


def _shown(plan: ZonePlan | None) -> dict[str, object]:
    if plan is None:
        return {}
    return {"image": f"{plan.media_type} {plan.width}x{plan.height}, {len(plan.image)} bytes"}
