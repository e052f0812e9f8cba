"""The outbox in the store: what became of every notice, a row per call, kind, contact and channel."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Integer, Table, Text, select, update

from router.notices.outbox import Entry, Key, NoticeState
from router.store.folds import folds_of
from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

_TIMES: Final = ("queued_at", "next_attempt_at", "first_attempt_at", "last_attempt_at")

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
    Column("taken_from", Text, nullable=False, server_default=""),
)
_COLUMNS_OF: Final = itemgetter(*(column.name for column in outbox.columns))
_ENTRY_COLUMNS: Final = tuple(column for column in outbox.columns if column.name not in ("node", "taken_from"))
TAKEN_SECONDS: Final = 86_400.0
"""A notice that another node took over is not told by the first one again for so long."""


def store_entries(conn: Connection, node: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write entries (`as_row` of router.notices.outbox.Entry) over what is stored of them, unless another node has
    them."""
    values = [_COLUMNS_OF({"taken_from": ""} | _storable(row) | {"node": node}) for row in rows]
    insert_or_overwrite(conn, outbox, values, where_same="node", keep="taken_from")


def queued_entries(conn: Connection, node: str) -> list[Entry]:
    """What a node still had to deliver, oldest first."""
    query = (
        select(*_ENTRY_COLUMNS)
        .where(outbox.c.node == node, outbox.c.state == NoticeState.QUEUED.value)
        .order_by(outbox.c.queued_at)
    )
    return [_entry(row._mapping) for row in conn.execute(query)]


def take_over(conn: Connection, silent: str, node: str) -> list[Entry]:
    """Make what a silent node still had to deliver this node's: of several that try, each notice goes to one."""
    changed = (
        update(outbox)
        .where(outbox.c.node == silent, outbox.c.state == NoticeState.QUEUED.value)
        .values(node=node, taken_from=silent)
        .returning(*_ENTRY_COLUMNS)
    )
    return [_entry(row._mapping) for row in conn.execute(changed)]


def taken_over(conn: Connection, node: str, now: float) -> list[Key]:
    """What others have taken over from this node lately. now: seconds since 1970."""
    query = select(outbox.c.call, outbox.c.kind, outbox.c.contact, outbox.c.channel).where(
        outbox.c.taken_from == node, outbox.c.node != node, outbox.c.queued_at > now - TAKEN_SECONDS
    )
    return [(call, kind, contact, channel) for call, kind, contact, channel in conn.execute(query)]


def notices_of(conn: Connection, call: str) -> list[Entry]:
    """The notices of one call, and the folded ones that told of it, in the order they were queued."""
    own = [_entry(row._mapping) for row in conn.execute(select(*_ENTRY_COLUMNS).where(outbox.c.call == call))]
    for fold in folds_of(conn, call):
        query = select(*_ENTRY_COLUMNS).where(
            outbox.c.call == fold.call, outbox.c.kind == f"folded-{fold.kind}", outbox.c.contact == fold.contact
        )
        for told in [_entry(row._mapping) for row in conn.execute(query)]:
            if fold.call != call:
                own.append(told)
            own.append(
                Entry(
                    call=call,
                    kind=fold.kind,
                    contact=fold.contact,
                    channel=told.channel,
                    site=fold.site,
                    state=NoticeState.FOLDED,
                    queued_at=fold.at,
                    folded_into=fold.call,
                )
            )
    return sorted(own, key=lambda entry: (entry.queued_at, entry.contact, entry.channel, entry.kind))


def storable_text(text: str) -> str:
    """The text without what no database keeps: NUL (PostgreSQL) and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: storable_text(value) if type(value) is str else value for name, value in row.items()}


def _entry(row: Mapping[Any, Any]) -> Entry:
    return Entry(**{**row, "state": NoticeState(row["state"])})
