"""The wiremap in the database: access points and switch ports, and the places they serve.

The table is followed (router.store.followed): readers hear that it changed, and read it whole.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Table, Text, bindparam, delete, insert, select, update

from e911.location import CIVIC_FIELDS, CivicAddress, GeoPoint
from e911.wiremap import WiremapEntry, entry_key
from router.store.devices import UpsertCount, Value
from router.store.engine import rows_of
from router.store.metadata import metadata

log = logging.getLogger(__name__)

KEY_COLUMNS: Final = ("bssid", "chassis", "port")
TEXT_COLUMNS: Final = ("name", "site", "zone", *CIVIC_FIELDS)
POINT_COLUMNS: Final = ("latitude", "longitude")
COLUMNS: Final = (*KEY_COLUMNS, *TEXT_COLUMNS, *POINT_COLUMNS)
"""Every column people write, in the order of the CSV file."""
_BATCH: Final = 500
_MADE_BETWEEN_PAUSES: Final = 200

wiremap = Table(
    "wiremap",
    metadata,
    Column("key", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in (*KEY_COLUMNS, *TEXT_COLUMNS)),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("updated_at", Double, nullable=False),
)


def wiremap_rows(conn: Connection) -> list[dict[str, Any]]:
    """Every row as plain data, sorted by key."""
    names = ["key", *COLUMNS, "updated_at"]  # plain texts: SQLAlchemy's own names are none, and no JSON takes them
    return [dict(zip(names, row, strict=True)) for row in rows_of(conn, select(wiremap).order_by(wiremap.c.key))]


def all_entries(conn: Connection) -> list[WiremapEntry]:
    """Every row, sorted by key."""
    return entries_of(wiremap_rows(conn))


def entries_of(rows: Iterable[Mapping[str, Any]], *, pause: Callable[[], None] | None = None) -> list[WiremapEntry]:
    """Rows as entries; a pause now and then for a reader with other work. A point that is none is left out."""
    found = []
    for number, row in enumerate(rows, start=1):
        found.append(_stored(row))
        if pause is not None and number % _MADE_BETWEEN_PAUSES == 0:
            pause()
    return found


def get_entries(conn: Connection, keys: Iterable[str]) -> dict[str, WiremapEntry]:
    """Those of the named rows that exist, by key."""
    wanted = sorted(set(keys))
    found: dict[str, WiremapEntry] = {}
    for start in range(0, len(wanted), _BATCH):
        some = select(wiremap).where(wiremap.c.key.in_(wanted[start : start + _BATCH]))
        found.update((row.key, _stored(dict(row._mapping))) for row in rows_of(conn, some))
    return found


def upsert_entries(
    conn: Connection, entries: Sequence[WiremapEntry], known: Mapping[str, WiremapEntry], *, now: float | None = None
) -> UpsertCount:
    """Add rows, or put them in the place of those `known`. `now` is seconds since 1970, of what is new or changed."""
    at = time.time() if now is None else now
    added = [_written(entry, at) for entry in entries if entry.key not in known]
    changed = [
        _written(entry, at)
        for entry in entries
        if entry.key in known and columns_of(entry) != columns_of(known[entry.key])
    ]
    if added:
        conn.execute(insert(wiremap), added)
    if changed:
        rows = [{f"to_{name}": value for name, value in row.items()} for row in changed]
        values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in changed[0] if name != "key"}
        conn.execute(update(wiremap).where(wiremap.c.key == bindparam("to_key")).values(values), rows)
    return UpsertCount(new=len(added), changed=len(changed), unchanged=len(entries) - len(added) - len(changed))


def remove_entries(conn: Connection, keys: Iterable[str]) -> list[str]:
    """Remove rows by key; gives the keys of those that were there."""
    gone = sorted(get_entries(conn, keys))
    for start in range(0, len(gone), _BATCH):
        conn.execute(delete(wiremap).where(wiremap.c.key.in_(gone[start : start + _BATCH])))
    return gone


def take_turn(conn: Connection) -> None:
    """Wait until no other transaction changes the wiremap; lasts to the end of this transaction."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("LOCK TABLE wiremap IN SHARE ROW EXCLUSIVE MODE")
    else:
        conn.execute(delete(wiremap).where(wiremap.c.key == ""))  # takes SQLite's write lock, and changes nothing


def columns_of(entry: WiremapEntry) -> dict[str, Value]:
    """The row as columns (COLUMNS)."""
    return {
        "bssid": entry.bssid,
        "chassis": entry.chassis,
        "port": entry.port,
        "name": entry.name,
        "site": entry.site,
        "zone": entry.zone,
        **{name: getattr(entry.civic, name) for name in CIVIC_FIELDS},
        "latitude": entry.point.latitude if entry.point else None,
        "longitude": entry.point.longitude if entry.point else None,
    }


def from_columns(values: Mapping[str, Any]) -> WiremapEntry:
    """The entry that columns say; a missing one is empty. Raises ValueError for half a point."""
    latitude, longitude = (_number(values.get(name)) for name in POINT_COLUMNS)
    if (latitude is None) != (longitude is None):
        raise ValueError("latitude and longitude go together")
    civic = {name: str(value) for name in CIVIC_FIELDS if (value := values.get(name))}
    return WiremapEntry(
        **{name: str(values.get(name) or "") for name in (*KEY_COLUMNS, "name", "site", "zone")},
        civic=CivicAddress(**civic) if civic else _NO_CIVIC,
        point=None if latitude is None or longitude is None else GeoPoint(latitude=latitude, longitude=longitude),
        updated_at=_number(values.get("updated_at")) or 0.0,
    )


def _stored(values: Mapping[str, Any]) -> WiremapEntry:
    """The entry of a row that is stored. Other programs write anything with plain SQL: one row whose point or time is
    none must not keep the changes of all others from calls."""
    try:
        return from_columns(values)
    except (TypeError, ValueError):
        log.warning("wiremap-row-unreadable", extra={"event_fields": {"row": str(values.get("key"))}})
        return from_columns({**values, **dict.fromkeys((*POINT_COLUMNS, "updated_at"))})


_NO_CIVIC = CivicAddress()


def _written(entry: WiremapEntry, at: float) -> dict[str, Value]:
    return {**columns_of(entry), "key": entry_key(entry.bssid, entry.chassis, entry.port), "updated_at": at}


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)
