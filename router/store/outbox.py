"""The outbox in the store: what became of every notice, a row per call, kind, contact and channel."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Integer, Table, Text, and_, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from router.outbox import Entry, NoticeState
from router.store.metadata import metadata

_TIMES: Final = ("queued_at", "next_attempt_at", "first_attempt_at", "last_attempt_at")
_KEY: Final = ("call", "kind", "contact", "channel")

outbox = Table(
    "outbox",
    metadata,
    Column("call", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("contact", Text, primary_key=True),
    Column("channel", Integer, primary_key=True, autoincrement=False),
    Column("node", Text, nullable=False, server_default=""),
    Column("site", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    *(Column(name, Double) for name in _TIMES),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("reason", "words", "folded_into", "subject", "body")
    ),
)
_ENTRY_COLUMNS: Final = tuple(column for column in outbox.columns if column.name != "node")


def store_entries(conn: Connection, node: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write entries (`as_row` of router.outbox.Entry) over what is stored of them."""
    if not rows:
        return
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(outbox)
    others = {column.name: statement.excluded[column.name] for column in outbox.columns if not column.primary_key}
    conn.execute(
        statement.on_conflict_do_update(index_elements=_KEY, set_=others),
        [storable(row) | {"node": node} for row in rows],
    )


def queued_entries(conn: Connection, node: str) -> list[Entry]:
    """What a node still had to deliver, oldest first."""
    query = (
        select(*_ENTRY_COLUMNS)
        .where(outbox.c.node == node, outbox.c.state == NoticeState.QUEUED.value)
        .order_by(outbox.c.queued_at)
    )
    return [_entry(row._mapping) for row in conn.execute(query)]


def notices_of(conn: Connection, call: str) -> list[Entry]:
    """The notices of one call, and the folded ones that told of it, in the order they were queued."""
    own = [_entry(row._mapping) for row in conn.execute(select(*_ENTRY_COLUMNS).where(outbox.c.call == call))]
    into = {
        (entry.folded_into, f"folded-{entry.kind}", entry.contact, entry.channel)
        for entry in own
        if entry.folded_into
    }
    into -= {entry.key for entry in own}
    if into:
        conditions = [and_(*(outbox.c[name] == value for name, value in zip(_KEY, key, strict=True))) for key in into]
        query = select(*_ENTRY_COLUMNS).where(or_(*conditions))
        own += [_entry(row._mapping) for row in conn.execute(query)]
    return sorted(own, key=lambda entry: (entry.queued_at, entry.contact, entry.channel, entry.kind))


def storable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without what no database keeps: NUL (PostgreSQL) and lone surrogates."""
    cleaned = dict(row)
    for name, value in row.items():
        if type(value) is str and value and not (value.isascii() and "\0" not in value):
            cleaned[name] = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return cleaned


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(**{**row, "state": NoticeState(row["state"])})
