"""The nodes that share a database: each says again and again that it lives.

Times are the database's own clock on PostgreSQL, so that nodes whose clocks differ agree on who is silent.
"""

import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, Connection, Double, Table, Text, delete, select, text

from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

BEAT_SECONDS: Final = 1.0
"""Between two signs of life of a node."""
SILENT_SECONDS: Final = 3.5
"""A node that was silent for so long does not tell its notices any more: another may take them over."""
SHARING_SECONDS: Final = 3600.0
"""A node not seen for so long has no part of what nodes share any more."""
FORGOTTEN_SECONDS: Final = 30 * 86_400.0
"""A node not seen for so long is forgotten."""

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. Times are seconds since 1970."""

    name: str
    started_at: float
    seen_at: float
    age: float
    """Seconds since it was seen."""

    @property
    def is_live(self) -> bool:
        """True where it gave a sign of life lately."""
        return self.age < SILENT_SECONDS


def database_time(conn: Connection) -> float:
    """Now, seconds since 1970, as the database sees it."""
    if conn.dialect.name != "postgresql":
        return time.time()
    return float(conn.execute(text("SELECT extract(epoch FROM clock_timestamp())::double precision")).scalar_one())


def beat(conn: Connection, name: str, started_at: float) -> None:
    """Node `name`, begun at `started_at`, lives."""
    insert_or_overwrite(conn, nodes, [(name, started_at, database_time(conn))])


def all_nodes(conn: Connection) -> list[Node]:
    """Every node that is remembered, by name."""
    now = database_time(conn)
    query = select(nodes).order_by(nodes.c.name)
    return [
        Node(name=row.name, started_at=row.started_at, seen_at=row.seen_at, age=max(0.0, now - row.seen_at))
        for row in conn.execute(query)
    ]


def sharing_nodes(conn: Connection, own: str) -> tuple[str, ...]:
    """Names of the nodes that were seen within SHARING_SECONDS, the own one among them, in order: they divide what
    nodes share."""
    return tuple(sorted({own, *(node.name for node in all_nodes(conn) if node.age < SHARING_SECONDS)}))


def silent_nodes(conn: Connection, own: str) -> list[str]:
    """Names of the other nodes that are silent."""
    return [node.name for node in all_nodes(conn) if node.name != own and not node.is_live]


def forget_nodes(conn: Connection) -> None:
    """Forget those that were not seen for FORGOTTEN_SECONDS."""
    conn.execute(delete(nodes).where(nodes.c.seen_at < database_time(conn) - FORGOTTEN_SECONDS))
