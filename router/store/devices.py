"""The registered devices: who has which phone, and where it is.

Every change of a device adds a row to `device_changes` in the same transaction, so a reader that remembers
the last revision it saw pulls only what is new. The database's own triggers do that (migration 0004), for plain SQL
of other programs as for ours. Writers take turns (a lock on PostgreSQL, the write lock on SQLite): revisions become
visible in their order, and no reader can miss one.

A device is kept under its key (e911.devices.device_key), so that two spellings of a number are one device,
here as in the table that calls are matched with. "Any spelling" below means any text with that key.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Identity,
    Integer,
    Row,
    Select,
    Table,
    Text,
    delete,
    func,
    select,
)
from sqlalchemy.exc import DatabaseError

from e911.devices import device_key
from e911.location import CIVIC_FIELDS, CivicAddress, Device, DeviceKind, GeoPoint
from router.store.audit import Author, Change, command_line_author, differences, record_changes
from router.store.engine import is_not_utf8, rows_of
from router.store.metadata import metadata
from router.store.statements import insert_rows, update_rows

log = logging.getLogger(__name__)

Value = str | float | None
WHO_COLUMNS: Final = ("name", "kind", "aor", "number", "username", "mac", "callback", "language", "email")
TEXT_COLUMNS: Final = (*WHO_COLUMNS, "site", "zone", "elin_zone", *CIVIC_FIELDS)
POINT_COLUMNS: Final = ("latitude", "longitude")
TIME_COLUMNS: Final = ("confirmed_at", "expires_at")
"""Seconds since 1970; None where not given."""
ID_COLUMNS: Final = ("location_id", "endpoint_id")
"""The provider's ids, from people or from what the provider took: docs/decisions/0058."""
COLUMNS: Final = (
    *("device", *TEXT_COLUMNS, *POINT_COLUMNS),
    *("confirmed_at", "confirmed_by", "expires_at"),
    *ID_COLUMNS,
)
"""Every column people write, in the order of the CSV file."""
STATE_COLUMNS: Final = (
    *("unconfirmed", "validation", "validated_at", "acknowledged_at", "updated_at"),
    "provisioning",
)
"""What edge911 itself writes beside them; `provisioning`: see router/provisioning/provisioner.py."""
KEPT_CHANGES = 100_000
"""Rows of device_changes that the triggers keep; a reader further behind loads the whole table."""
_BATCH = 500
"""Names in one IN list."""


def _no_pause() -> None:
    """What a reader without other work does between batches."""


devices = Table(
    "devices",
    metadata,
    Column("device", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in TEXT_COLUMNS),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("updated_at", Double, nullable=False),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("confirmed_by", "unconfirmed", "validation", "provisioning", *ID_COLUMNS)
    ),
    *(Column(name, Double) for name in ("confirmed_at", "expires_at", "validated_at", "acknowledged_at")),
)

_READ = select(*(devices.c[name] for name in (*COLUMNS, *STATE_COLUMNS)))

device_changes = Table(
    "device_changes",
    metadata,
    Column("revision", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, nullable=False),
    Column("device", Text, nullable=False),
    sqlite_autoincrement=True,  # a revision is never given twice, also after rows were trimmed
)


class StaleRevisionError(LookupError):
    """The changes since that revision are no longer kept (or never were): load the whole table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertCount:
    """What an upsert did, in devices."""

    new: int
    changed: int
    unchanged: int


def all_devices(conn: Connection) -> list[Device]:
    """Every device, in no particular order."""
    return [device for batch in device_batches(conn, 1000) for device in batch]


def device_batches(conn: Connection, size: int) -> Iterator[list[Device]]:
    """Every device, in lists of at most `size`, so that a reader with other work can pause between them."""
    read = 0
    try:
        for rows in _row_batches(conn, _READ, size):
            read += len(rows)
            yield [_device(row) for row in rows]
    except DatabaseError as error:
        if not is_not_utf8(error):
            raise
        # From now on the connection takes it as it is: go on behind the rows that were read.
        for rows in _row_batches(conn, _READ.offset(read), size):
            yield [_device(row) for row in rows]


def _row_batches(conn: Connection, query: Select[Any], size: int) -> Iterator[Sequence[Row[Any]]]:
    with conn.execute(query, execution_options={"yield_per": size}) as result:
        yield from result.partitions()


def get_device(conn: Connection, device: str) -> Device | None:
    """The device of that name in any spelling, or None."""
    found = rows_of(conn, _READ.where(devices.c.device == device_key(device)))
    return _device(found[0]) if found else None


def device_names(conn: Connection) -> Iterator[tuple[str, str, str, str]]:
    """Of every device what it is found by: itself, address of record, number, user."""
    for row in rows_of(conn, select(*(devices.c[name] for name in ("device", "aor", "number", "username")))):
        device, aor, number, username = map(str, row)
        yield device, aor, number, username


def get_devices(conn: Connection, names: Iterable[str]) -> dict[str, Device]:
    """Those of the named devices that exist, by their canonical name."""
    return _present(conn, sorted({device_key(name) for name in names}), _BATCH, _no_pause)


def current_revision(conn: Connection) -> int:
    """The number of the last change; 0 for a table that never held a device."""
    return conn.execute(select(func.max(device_changes.c.revision))).scalar() or 0


def changes_since(
    conn: Connection, revision: int, *, batch: int = _BATCH, pause: Callable[[], None] = _no_pause
) -> tuple[int, list[Device], list[str]]:
    """(new revision, devices changed or new, names of devices removed) since `revision`.

    A reader with other work gets a `pause` after each `batch` of devices. Raises StaleRevisionError where the
    changes cannot be told; then all_devices tells.
    """
    last, names = changed_names(conn, revision, batch=batch, pause=pause)
    changed, removed = list[Device](), list[str]()
    while names:
        present, gone = devices_now(conn, newest_of(names, batch), pause=pause)
        changed += present
        removed += gone
    return last, changed, sorted(set(removed))


def changed_names(
    conn: Connection, revision: int, *, batch: int = _BATCH, pause: Callable[[], None] = _no_pause
) -> tuple[int, list[str]]:
    """(new revision, names of the devices changed, new or removed since `revision`, each where it changed last).

    A `pause` after each `batch` of names. Raises StaleRevisionError as changes_since does.
    """
    first, last = conn.execute(select(func.min(device_changes.c.revision), func.max(device_changes.c.revision))).one()
    if (last or 0) == revision:
        return revision, []
    if last is None or last < revision or first > revision + 1:
        raise StaleRevisionError(f"changes since revision {revision} are not kept")
    wanted = (
        select(device_changes.c.device)
        .where(device_changes.c.revision > revision, device_changes.c.revision <= last)
        .order_by(device_changes.c.revision)
    )
    touched: dict[str, None] = {}
    with conn.execute(wanted, execution_options={"yield_per": batch}) as result:
        for names in result.scalars().partitions():
            for name in names:
                touched.pop(name, None)
                touched[name] = None
            pause()
    return last, list(touched)


def newest_of(names: list[str], most: int) -> list[str]:
    """The last names of such a list, which loses them.

    By the batch: to compare, or let go of, 100,000 names in one go would keep other threads from running for long.
    """
    some = names[-most:]
    del names[-most:]
    return some


def devices_now(
    conn: Connection, names: Sequence[str], *, batch: int = _BATCH, pause: Callable[[], None] = _no_pause
) -> tuple[list[Device], list[str]]:
    """(those of the named devices that exist, names of those that do not); a `pause` after each `batch`."""
    present = _present(conn, sorted(names), batch, pause)
    return list(present.values()), [name for name in names if name not in present]


def upsert_devices(
    conn: Connection,
    rows: Sequence[Mapping[str, Value]],
    *,
    now: float | None = None,
    by: str = "",
    via: str = "cli",
) -> UpsertCount:
    """Add devices, or change the given columns of those that exist; a column not given keeps its value.

    Each row holds `device` (any spelling) and any of COLUMNS; None or "" clears. A device named twice takes
    the later row on top of the earlier. `now` is seconds since 1970, for updated_at of what is new or
    changed. A location that is given is confirmed by that, `by` whoever gives it (see `settled`). What is new or
    changed leaves a row each in the audit trail: `by` (the system's user where nobody is named) and `via`. Raises
    ValueError for a column that does not exist and for half a point.
    """
    at = time.time() if now is None else now
    take_turn(conn)
    known = get_devices(conn, (str(row["device"]) for row in rows))
    merged: dict[str, Device] = {}
    for row in rows:
        name = device_key(str(row["device"]))
        base = merged.get(name) or known.get(name) or Device(device=name)
        merged[name] = overlaid(base, row)
    writes = [
        (known.get(name), settled(known.get(name), device, at, by))
        for name, device in merged.items()
        if device != known.get(name)
    ]
    write_devices(conn, writes, now=at, by=by, via=via)
    new = sum(1 for before, _ in writes if before is None)
    return UpsertCount(new=new, changed=len(writes) - new, unchanged=len(merged) - len(writes))


def write_devices(
    conn: Connection,
    writes: Sequence[tuple[Device | None, Device]],
    *,
    now: float,
    by: str = "",
    via: str = "cli",
) -> None:
    """Write devices that are settled already: each as it was (None where it is new) and as it is to be.

    For whoever has taken their turn and read what was in this transaction; audited as upsert_devices does.
    """
    added = [_values(after) for before, after in writes if before is None]
    insert_rows(conn, devices, _NAMES, added)
    update_rows(conn, devices, _NAMES, [_values(after) for before, after in writes if before is not None])
    record_changes(conn, _author(by, via), (device_change(*write) for write in writes), at=now)


def remove_devices(conn: Connection, names: Iterable[str], *, by: str = "", via: str = "cli") -> list[str]:
    """Remove devices by name in any spelling; gives the canonical names of those that were there. Audited too."""
    take_turn(conn)
    known = get_devices(conn, names)
    gone = sorted(known)
    for start in range(0, len(gone), _BATCH):
        conn.execute(delete(devices).where(devices.c.device.in_(gone[start : start + _BATCH])))
    record_changes(conn, _author(by, via), [device_change(known[name], None) for name in gone])
    return gone


def device_change(before: Device | None, after: Device | None) -> Change:
    """The row of the audit trail for this: what is not the same, or all of a device that is new or gone."""
    device = after or before
    assert device is not None
    was, now = differences(_shown(before), _shown(after))
    action = "change" if before and after else "create" if after else "remove"
    return Change(action=action, subject=f"device:{device.device}", before=was, after=now, site=device.site)


def _author(by: str, via: str) -> Author:
    return Author(who=by, via=via) if by else command_line_author()


def _shown(device: Device | None) -> dict[str, Value]:
    if device is None:
        return {}
    values = columns_of(device)
    del values["device"]
    for name in TIME_COLUMNS:
        if seconds := values[name]:
            values[name] = datetime.fromtimestamp(float(seconds), UTC).isoformat().replace("+00:00", "Z")
    return values


def trim_changes(conn: Connection, keep: int = KEPT_CHANGES) -> None:
    """Forget all but the last `keep` changes. The last one always stays, or the revision would be lost."""
    oldest = current_revision(conn) - max(keep, 1)
    if oldest > 0:
        conn.execute(delete(device_changes).where(device_changes.c.revision <= oldest))


def overlaid(device: Device, row: Mapping[str, Value]) -> Device:
    """The device with the columns of `row` put over its own. Raises ValueError as upsert_devices does."""
    if unknown := sorted(row.keys() - _COLUMNS):
        raise ValueError(f"no such column: {', '.join(unknown)}")
    changes: dict[str, Any] = {}
    civic: dict[str, str] = {}
    for name, value in row.items():
        if name in _CIVIC:
            civic[name] = "" if value is None else str(value)
        elif name in _PLAIN_NAMES:
            changes[name] = "" if value is None else str(value)
        elif name in TIME_COLUMNS:
            changes[name] = _number(value) or 0.0
    if kind := row.get("kind"):
        changes["kind"] = DeviceKind(str(kind))
    elif "kind" in row:
        changes["kind"] = DeviceKind.FIXED
    if "latitude" in row or "longitude" in row:
        known = {"latitude": device.point.latitude, "longitude": device.point.longitude} if device.point else {}
        changes["point"] = _point({**known, **{name: row[name] for name in POINT_COLUMNS if name in row}})
    if civic:
        changes["civic"] = replace(device.civic, **civic)
    return replace(device, **changes) if changes else device


def settled(before: Device | None, after: Device, now: float, by: str) -> Device:
    """The device as it is kept once it has changed from `before` to `after` at `now`.

    Another location ends what was known of the old one (its validation, a doubt); it is confirmed by being given,
    unless the change says itself when it was confirmed. To confirm a location ends a doubt about it. A provider's id
    that is not another one than before ends with the place or callback number that it stood for.
    """
    changes: dict[str, Any] = {"updated_at": now}
    if before is None or _location(before) != _location(after):
        changes |= {"unconfirmed": "", "validation": "", "validated_at": 0.0}
        is_given = after.site or after.point or not after.civic.is_empty
        if is_given and after.confirmed_at == (before.confirmed_at if before else 0.0):
            changes |= {"confirmed_at": float(int(now)), "confirmed_by": by}
    elif after.confirmed_at > before.confirmed_at:
        changes["unconfirmed"] = ""
    if before is None or _location(before) != _location(after) or before.callback != after.callback:
        # The ids that a provider gave stand for what it was told: an id of an old address would send help there.
        changes["provisioning"] = ""
        for name in ID_COLUMNS:
            if getattr(after, name) == (getattr(before, name) if before else ""):
                changes[name] = ""
    return replace(after, **changes)


def _location(device: Device) -> tuple[object, ...]:
    return device.site, device.zone, device.civic, device.point


def mark_devices(conn: Connection, marks: Mapping[str, Mapping[str, Value]], author: Author | None) -> None:
    """Set STATE_COLUMNS or ID_COLUMNS of devices, by canonical name, and nothing else; one that is gone stays away.

    Every row names the same columns. What changes, but for times, leaves a row in the audit trail; author None: the
    caller writes that.
    """
    if marks:
        take_turn(conn)
        if author is not None:
            record_changes(conn, author, _marked(get_devices(conn, marks), marks))
        names = tuple(next(iter(marks.values())))
        rows = [(device_key(device), *(values[name] for name in names)) for device, values in marks.items()]
        update_rows(conn, devices, ("device", *names), rows)


def _marked(known: Mapping[str, Device], marks: Mapping[str, Mapping[str, Value]]) -> list[Change]:
    found = []
    for name, values in marks.items():
        device = known.get(device_key(name))
        if device is None:
            continue
        said = {column: value for column, value in values.items() if not column.endswith("_at")}
        before, after = differences({column: getattr(device, column) for column in said}, said)
        if after:
            found.append(
                Change(action="mark", subject=f"device:{device.device}", site=device.site, before=before, after=after)
            )
    return found


def columns_of(device: Device) -> dict[str, Value]:
    """The device as columns (COLUMNS)."""
    return {
        "device": device.device,
        "name": device.name,
        "kind": device.kind.value,
        "aor": device.aor,
        "number": device.number,
        "username": device.username,
        "mac": device.mac,
        "callback": device.callback,
        "language": device.language,
        "email": device.email,
        "site": device.site,
        "zone": device.zone,
        "elin_zone": device.elin_zone,
        **{name: getattr(device.civic, name) for name in CIVIC_FIELDS},
        "latitude": device.point.latitude if device.point else None,
        "longitude": device.point.longitude if device.point else None,
        "confirmed_at": device.confirmed_at or None,
        "confirmed_by": device.confirmed_by,
        "expires_at": device.expires_at or None,
        "location_id": device.location_id,
        "endpoint_id": device.endpoint_id,
    }


def state_of(device: Device) -> dict[str, Value]:
    """What edge911 itself writes of the device (STATE_COLUMNS)."""
    return {
        "unconfirmed": device.unconfirmed,
        "validation": device.validation,
        "validated_at": device.validated_at or None,
        "acknowledged_at": device.acknowledged_at or None,
        "updated_at": device.updated_at,
        "provisioning": device.provisioning,
    }


_NAMES = (*COLUMNS, *STATE_COLUMNS)


def _values(device: Device) -> tuple[Value, ...]:
    """The values of _NAMES; both functions give theirs in that order."""
    return *columns_of(device).values(), *state_of(device).values()


def from_columns(values: Mapping[str, Value]) -> Device:
    """The device that columns say (COLUMNS and STATE_COLUMNS); a missing one is empty.

    Raises ValueError for half a point, a bad kind.
    """
    # Only what is given: a start without a database reads 100,000 of these, and most of forty columns are empty.
    plain: dict[str, Any] = {}
    civic: dict[str, str] = {}
    for name, value in values.items():
        if value is None or value == "":
            continue
        if name in _CIVIC:
            civic[name] = _shared(str(value))
        elif name in _PLAIN_NAMES:
            plain[name] = _shared(str(value)) if name in _OFTEN_THE_SAME else str(value)
        elif name in _TIME_NAMES:
            plain[name] = _number(value) or 0.0
    return Device(
        device=str(values.get("device") or ""),
        kind=DeviceKind(str(values.get("kind") or DeviceKind.FIXED.value)),
        **plain,
        civic=CivicAddress(**civic) if civic else _EMPTY_CIVIC,
        point=_point(values),
    )


def _point(values: Mapping[str, Value]) -> GeoPoint | None:
    latitude, longitude = (_number(values.get(name)) for name in POINT_COLUMNS)
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        raise ValueError("latitude and longitude go together")
    return GeoPoint(latitude=latitude, longitude=longitude)


def take_turn(conn: Connection) -> None:
    """Wait until no other transaction changes devices; lasts to the end of this transaction."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("LOCK TABLE devices IN SHARE ROW EXCLUSIVE MODE")
    else:
        # Any write takes SQLite's write lock; this one changes nothing.
        conn.execute(delete(device_changes).where(device_changes.c.revision < 0))


def _present(conn: Connection, keys: Sequence[str], batch: int, pause: Callable[[], None]) -> dict[str, Device]:
    found: dict[str, Device] = {}
    for start in range(0, len(keys), batch):
        query = _READ.where(devices.c.device.in_(keys[start : start + batch]))
        found.update((row[0], _device(row)) for row in rows_of(conn, query))
        pause()
    return found


_COLUMNS = frozenset(COLUMNS)
_PLAIN = (*(name for name in (*WHO_COLUMNS, "site", "zone", "elin_zone") if name != "kind"), "confirmed_by")
_PLAIN += ("unconfirmed", "validation", "provisioning", *ID_COLUMNS)
_PLAIN_NAMES = frozenset(_PLAIN)
_CIVIC = frozenset(CIVIC_FIELDS)
_TIMES = (*TIME_COLUMNS, "validated_at", "acknowledged_at", "updated_at")
_TIME_NAMES = frozenset(_TIMES)
_OFTEN_THE_SAME = frozenset({"site", "zone", "elin_zone", "language", "confirmed_by", "unconfirmed", "validation"})
_EMPTY_CIVIC = CivicAddress()
_BEFORE_CIVIC = 1 + TEXT_COLUMNS.index(CIVIC_FIELDS[0])
_AFTER_CIVIC = _BEFORE_CIVIC + len(CIVIC_FIELDS)


def _device(row: Row[Any]) -> Device:
    # By position: a full load reads every column of every row, and names cost more than the values.
    device, name, kind, aor, number, username, mac, callback, language, email, site, zone, elin_zone = row[
        :_BEFORE_CIVIC
    ]
    civic = row[_BEFORE_CIVIC:_AFTER_CIVIC]
    latitude, longitude, confirmed_at, confirmed_by, expires_at, location_id, endpoint_id, *state = row[_AFTER_CIVIC:]
    unconfirmed, validation, validated_at, acknowledged_at, updated_at, provisioning = state
    times = (confirmed_at or 0.0, expires_at or 0.0, validated_at or 0.0, acknowledged_at or 0.0, updated_at or 0.0)
    try:
        # What other programs wrote with plain SQL may be anything; interned below is what these two do not look at.
        "".join((device, name, aor, number, username, mac, callback, email, location_id, endpoint_id))
        if not -_LAST_TIME < sum(times) < _LAST_TIME:
            raise ValueError("no time")
        return Device(
            device=device,
            name=name,
            kind=_KINDS.get(kind, DeviceKind.FIXED),
            aor=aor,
            number=number,
            username=username,
            mac=mac,
            callback=callback,
            language=_shared(language),
            email=email,
            site=_shared(site),
            zone=_shared(zone),
            elin_zone=_shared(elin_zone),
            civic=CivicAddress(**dict(zip(CIVIC_FIELDS, map(_shared, civic), strict=True)))
            if any(civic)
            else _EMPTY_CIVIC,
            point=_position(latitude, longitude),
            confirmed_at=times[0],
            confirmed_by=_shared(confirmed_by),
            expires_at=times[1],
            unconfirmed=_shared(unconfirmed),
            validation=_shared(validation),
            validated_at=times[2],
            acknowledged_at=times[3],
            updated_at=times[4],
            provisioning=_shared(provisioning),
            location_id=location_id,
            endpoint_id=endpoint_id,
        )
    except (TypeError, ValueError) as error:
        return _readable(dict(zip(_NAMES, row, strict=True)), error)


def _position(latitude: float | None, longitude: float | None) -> GeoPoint | None:
    """The point of two columns; 0 0 is what others write for none."""
    if latitude is None or longitude is None or not (latitude or longitude):
        return None
    return GeoPoint(latitude=latitude, longitude=longitude)


def _readable(values: dict[str, Any], error: Exception) -> Device:
    """The device of a row with values that no column takes, without those: one row must not keep the changes of all
    others from calls, nor its own floor for want of a number."""
    texts = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
        for name, value in values.items()
        if name not in POINT_COLUMNS and name not in _TIME_NAMES
    }
    times: dict[str, Value] = {name: _number_in(values[name]) for name in _TIMES}
    kind = texts["kind"] if texts["kind"] in _KINDS else DeviceKind.FIXED.value
    points: dict[str, Value] = {name: values[name] for name in POINT_COLUMNS}
    log.warning("device-row-unreadable", extra={"event_fields": {"device": texts["device"], "detail": str(error)}})
    try:
        return from_columns({**texts, **times, "kind": kind, **points})
    except (TypeError, ValueError):
        return from_columns({**texts, **times, "kind": kind})


_KINDS = {kind.value: kind for kind in DeviceKind}


_shared = sys.intern
"""The one copy of a text that many devices have: a city, a street, a floor."""


_LAST_TIME: Final = 1e12
"""Seconds since 1970: all times of a device together are less, or one of them is none."""


def _number_in(value: Any) -> float:
    """What is written in a column for a time, as far as that is one; else 0."""
    try:
        found = float(value or 0.0)
    except (TypeError, ValueError):
        return 0.0
    return found if -_LAST_TIME < found < _LAST_TIME else 0.0


def _number(value: Value) -> float | None:
    return None if value is None or value == "" else float(value)
