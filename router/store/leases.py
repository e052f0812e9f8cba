"""Leases of callback numbers in the store: which number which caller had, until when. A row for number and caller.

The call process decides, its journal carries it, and the notices process writes it here, for the other nodes, the
console, and a node whose disk is lost. A lease is ended early by `release`, which every node then hears of.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import orjson
from sqlalchemy import Column, Connection, Double, Index, Table, Text, delete, or_, select, true, update

from e911.elin import REMEMBERED_SECONDS, Lease, lease_data, lease_from, released
from router.store.metadata import metadata
from router.store.outbox import storable_text

_INTENT: Final = b'{"type":"intent"'
_LEASE: Final = b',"lease":{'
MOST_READ: Final = 20_000
"""Leases of other nodes that a node reads, those that last longest first."""
_TEXTS: Final = ("kind", "pool", "site", "zone", "call", "node")

leases = Table(
    "leases",
    metadata,
    Column("number", Text, primary_key=True),
    Column("caller", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in _TEXTS),
    Column("since", Double, nullable=False),
    Column("until", Double, nullable=False),
    Column("released_at", Double),
    Column("document", Text, nullable=False),
)
Index("ix_leases_until", leases.c.until)


def leases_in(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The leases that journal lines tell of, as plain data, in their order."""
    found = []
    for line in lines:
        if line.startswith(_INTENT) and _LEASE in line:
            with suppress(ValueError, KeyError, TypeError):  # whoever reads the journal says so
                lease = _lease_of(line)
                if lease["number"] and lease["caller"]:
                    found.append(lease)
    return found


def _lease_of(line: bytes) -> dict[str, Any]:
    """The lease of an intent: its last part as we write it, which is read without the rest, thrice as long."""
    # The mark cannot stand within a string, where quotation marks have a backslash before them.
    start = line.rfind(_LEASE) + len(_LEASE) - 1
    if line.endswith(b"}}"):
        with suppress(ValueError):
            found: dict[str, Any] = orjson.loads(line[start:-1])
            return found
    whole: dict[str, Any] = orjson.loads(line)["lease"]
    return whole


def store_leases(conn: Connection, found: Sequence[Mapping[str, Any]]) -> None:
    """Write leases (plain data of e911.elin.lease_data) over those of the same number and caller."""
    last = {(str(data["number"]), str(data["caller"])): data for data in found}
    if last:
        conn.exec_driver_sql(_upsert(conn.dialect.name), [_row(data) for data in last.values()])


@cache
def _upsert(dialect: str) -> str:
    """What is stored stays where it is newer: journals are read again after a restart, and a lease may have been
    ended by hand since."""
    mark = "?" if dialect == "sqlite" else "%s"
    names = [f'"{column.name}"' for column in leases.columns]
    others = [f"{name} = excluded.{name}" for name in names[2:]]
    return (
        f"INSERT INTO leases ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))}) "
        f"ON CONFLICT (number, caller) DO UPDATE SET {', '.join(others)} "
        "WHERE excluded.until > leases.until "
        "AND (leases.released_at IS NULL OR excluded.since >= leases.released_at)"
    )


def _row(data: Mapping[str, Any]) -> tuple[Any, ...]:
    texts = [storable_text(str(data.get(name, ""))) for name in ("number", "caller", *_TEXTS)]
    document = storable_text(orjson.dumps(data, default=str).decode())
    return (*texts, float(data["since"]), float(data["until"]), data.get("released_at"), document)


def all_leases(conn: Connection, *, now: float | None = None) -> list[Lease]:
    """Every lease that is remembered, or those live at `now`, oldest first; unreadable ones are left out."""
    query = select(leases.c.document).order_by(leases.c.since, leases.c.number)
    if now is not None:
        query = query.where(leases.c.until > now)
    return _read(conn.execute(query).scalars())


def leases_for_node(conn: Connection, node: str, now: float, *, own: bool = False) -> list[dict[str, Any]]:
    """What a call process need know that it did not decide itself: leases of other nodes that are live or were until
    lately, and its own that were released by hand, as plain data. own: all of its own."""
    wanted = true() if own else or_(leases.c.node != node, leases.c.released_at.is_not(None))
    query = (
        select(leases.c.document)
        .where(leases.c.until > now - REMEMBERED_SECONDS, wanted)
        .order_by(leases.c.until.desc())
        .limit(MOST_READ)
    )
    return [lease_data(lease) for lease in _read(conn.execute(query).scalars())]


def _read(documents: Any) -> list[Lease]:
    found = []
    for document in documents:
        try:
            found.append(lease_from(orjson.loads(document)))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def release(conn: Connection, number: str, at: float, known: Iterable[Lease] = ()) -> list[Lease]:
    """End the live leases of a number now; those that were ended. known: those that the database may not have yet."""
    ended = []
    query = select(leases.c.document).where(leases.c.number == number, leases.c.until > at)
    for lease in _read(conn.execute(query).scalars().all()):
        lease = released(lease, at)
        conn.execute(
            update(leases)
            .where(leases.c.number == lease.number, leases.c.caller == lease.caller)
            .values(until=lease.until, released_at=at, document=orjson.dumps(lease_data(lease)).decode())
        )
        ended.append(lease)
    callers = {lease.caller for lease in ended}
    others = [released(lease, at) for lease in known if lease.number == number and lease.is_live(at)]
    others = [lease for lease in others if lease.caller not in callers]
    store_leases(conn, [lease_data(lease) for lease in others])
    return [*ended, *others]


def forget_leases(conn: Connection, now: float) -> None:
    """Forget leases that were over long ago."""
    conn.execute(delete(leases).where(leases.c.until < now - REMEMBERED_SECONDS))
