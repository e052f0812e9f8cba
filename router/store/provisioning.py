"""What each provider was told of each device: the outbox of provisioning, and its state.

A row is due from `next_at` on while it is pending. It is taken by moving that on for a while, so that of two nodes
one sends it, and one that dies meanwhile leaves it to be taken again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Double, Integer, Table, Text, delete, select, update

from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

PENDING: Final = "pending"
ACTIVE: Final = "active"
REFUSED: Final = "refused"
_TEXTS: Final = ("action", "state", "wanted", "document", "order_id", "location_id", "endpoint_id", "old_endpoint_id")

provisioning = Table(
    "provisioning",
    metadata,
    Column("target", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in (*_TEXTS, "words")),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
provisioning_cursors = Table(
    "provisioning_cursors",
    metadata,
    Column("target", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("basis", Text, nullable=False, server_default=""),
)


@dataclass(slots=True, kw_only=True)
class Told:
    """One device and one target."""

    target: str
    device: str
    action: str = "upsert"
    """`upsert`, `delete`, or `retire`: what it was known by before is to be deleted."""
    state: str = PENDING
    wanted: str = ""
    """Hash of what the target is to know."""
    document: str = ""
    """What is to be said, as JSON."""
    order_id: str = ""
    """Of an order that is not done yet."""
    location_id: str = ""
    endpoint_id: str = ""
    old_endpoint_id: str = ""
    """What it is known by, too, and is to be deleted: one or more, with blanks between them."""
    words: str = ""
    attempts: int = 0
    next_at: float = 0.0
    updated_at: float = 0.0


_NAMES: Final = tuple(field.name for field in fields(Told))


def told(conn: Connection, target: str, device: str) -> Told | None:
    """The row of a device, or None."""
    where = (provisioning.c.target == target) & (provisioning.c.device == device)
    row = conn.execute(select(provisioning).where(where)).one_or_none()
    return _told(row) if row is not None else None


def names_told(conn: Connection, target: str) -> list[str]:
    """The devices that a target was told of."""
    return list(conn.execute(select(provisioning.c.device).where(provisioning.c.target == target)).scalars())


def is_due(conn: Connection, target: str, now: float) -> bool:
    """True where something is to be said now."""
    query = select(provisioning.c.device).where(
        (provisioning.c.target == target) & (provisioning.c.state == PENDING) & (provisioning.c.next_at <= now)
    )
    return conn.execute(query.limit(1)).first() is not None


def of_device(conn: Connection, device: str) -> list[Told]:
    """What every target was told of a device, by target."""
    query = select(provisioning).where(provisioning.c.device == device).order_by(provisioning.c.target)
    return [_told(row) for row in conn.execute(query)]


def keep(conn: Connection, one: Told) -> None:
    """Write a row, over the one that is there."""
    values = tuple(getattr(one, column.name) for column in provisioning.columns)
    insert_or_overwrite(conn, provisioning, [values])


def forget(conn: Connection, one: Told) -> None:
    """Delete a row."""
    where = (provisioning.c.target == one.target) & (provisioning.c.device == one.device)
    conn.execute(delete(provisioning).where(where))


def take_due(conn: Connection, target: str, now: float, limit: int, lease: float) -> list[Told]:
    """Rows that are due, taken for `lease` seconds."""
    query = (
        select(provisioning)
        .where(
            (provisioning.c.target == target) & (provisioning.c.state == PENDING) & (provisioning.c.next_at <= now)
        )
        .order_by(provisioning.c.next_at)
        .limit(limit)
    )
    taken = []
    for row in conn.execute(query).all():
        mine = (
            (provisioning.c.target == target)
            & (provisioning.c.device == row.device)
            & (provisioning.c.next_at == row.next_at)
        )
        if conn.execute(update(provisioning).where(mine).values(next_at=now + lease)).rowcount:
            one = _told(row)
            one.next_at = now + lease
            taken.append(one)
    return taken


def release(conn: Connection, taken: Iterable[Told], now: float) -> None:
    """Rows that were taken and not said are due again, but for those that changed meanwhile."""
    for one in taken:
        mine = (
            (provisioning.c.target == one.target)
            & (provisioning.c.device == one.device)
            & (provisioning.c.next_at == one.next_at)
        )
        conn.execute(update(provisioning).where(mine).values(next_at=now))


def cursor_of(conn: Connection, target: str) -> tuple[int | None, str]:
    """Up to which change of devices a target is told, and on which basis; None where it was told nothing yet."""
    row = conn.execute(select(provisioning_cursors).where(provisioning_cursors.c.target == target)).one_or_none()
    return (None, "") if row is None else (row.revision, row.basis)


def keep_cursor(conn: Connection, target: str, revision: int, basis: str) -> None:
    """Note it."""
    insert_or_overwrite(conn, provisioning_cursors, [(target, revision, basis)])


def _told(row: Any) -> Told:
    return Told(**{name: getattr(row, name) for name in _NAMES})
