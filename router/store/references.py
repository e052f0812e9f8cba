"""What location references stand for, for every node that shares the database."""

from collections.abc import Iterable
from typing import Final

import orjson
from sqlalchemy import Column, Connection, Double, Table, Text, delete, select

from router.references.spool import Referred
from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

location_references = Table(
    "location_references",
    metadata,
    Column("key", Text, primary_key=True),
    Column("call", Text, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("documents", Text, nullable=False),
)
_COLUMNS: Final = ("key", "call", "expires_at", "documents")


def keep_references(conn: Connection, found: Iterable[Referred]) -> None:
    """Add them, or bring them up to date."""
    rows = {
        one.key: (one.key, one.call, one.expires, orjson.dumps(dict(one.documents)).decode().replace("\\u0000", ""))
        for one in found
    }
    if rows:
        insert_or_overwrite(conn, location_references, list(rows.values()))


def find_reference(conn: Connection, key: str) -> Referred | None:
    """What is kept under that key, expired or not."""
    row = conn.execute(select(location_references).where(location_references.c.key == key)).one_or_none()
    if row is None:
        return None
    return Referred(key=row.key, call=row.call, expires=row.expires_at, documents=orjson.loads(row.documents))


def forget_references(conn: Connection, before: float) -> None:
    """Delete those that expired before that moment."""
    conn.execute(delete(location_references).where(location_references.c.expires_at < before))
