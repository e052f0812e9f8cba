"""Watches in the store: calls of which somebody may still have to be told, a row each; gone when nobody has.

What was taken over stays until its new node has done with it, and a day longer for the first one to see.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Column, Connection, Double, Table, Text, delete, select, update

from router.notices.outbox import NoticeState
from router.notices.watches import Watch, watch_from
from router.store.metadata import metadata
from router.store.outbox import outbox
from router.store.statements import insert_or_overwrite

TAKEN_SECONDS: Final = 86_400.0
"""So long after its call it is known that a watch was taken over."""

watches = Table(
    "watches",
    metadata,
    Column("call", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("data", Text, nullable=False),
    Column("taken_from", Text, nullable=False, server_default=""),
)
"""`data`: a Watch as JSON; empty where nobody is to be told any more. `at`: of the call, seconds since 1970."""


def store_watches(conn: Connection, node: str, found: Mapping[str, Mapping[str, Any] | None], now: float) -> None:
    """Write these (`as_data` by call) over what is stored of them, unless another node has them; None ends one."""
    rows = [
        (call, node, data["at"], orjson.dumps(data).decode(), "") for call, data in found.items() if data is not None
    ]
    insert_or_overwrite(conn, watches, rows, where_same="node", keep="taken_from")
    ended = [call for call, data in found.items() if data is None]
    if ended:
        own = (watches.c.call.in_(ended), watches.c.node == node)
        conn.execute(delete(watches).where(*own, watches.c.taken_from == ""))
        conn.execute(update(watches).where(*own).values(data=""))
        conn.execute(delete(watches).where(watches.c.data == "", watches.c.at < now - TAKEN_SECONDS))


def watches_of(conn: Connection, node: str) -> list[Watch]:
    """What a node watches, oldest first."""
    query = select(watches.c.data).where(watches.c.node == node, watches.c.data != "").order_by(watches.c.at)
    return _read(conn, conn.execute(query).scalars().all())


def take_watches(conn: Connection, silent: str, node: str) -> list[Watch]:
    """Make what a silent node watched this node's: of several that try, each watch goes to one."""
    changed = (
        update(watches)
        .where(watches.c.node == silent, watches.c.data != "")
        .values(node=node, taken_from=silent)
        .returning(watches.c.data)
    )
    return _read(conn, conn.execute(changed).scalars().all())


def taken_watches(conn: Connection, node: str, now: float) -> list[str]:
    """Calls whose watch others have taken over from this node. now: seconds since 1970."""
    query = select(watches.c.call).where(
        watches.c.taken_from == node, watches.c.node != node, watches.c.at > now - TAKEN_SECONDS
    )
    return list(conn.execute(query).scalars())


def _read(conn: Connection, rows: Sequence[str]) -> list[Watch]:
    found = []
    for data in rows:
        try:
            found.append(watch_from(orjson.loads(data)))
        except (KeyError, TypeError, ValueError):
            continue  # of another version of edge911: its call was told all the same
    calls = [watch.call for watch in found if not watch.is_reached]
    reached = select(outbox.c.call).where(outbox.c.call.in_(calls), outbox.c.state == NoticeState.DELIVERED.value)
    told = set(conn.execute(reached).scalars()) if calls else set()
    for watch in found:
        watch.is_reached = watch.is_reached or watch.call in told
    return found
