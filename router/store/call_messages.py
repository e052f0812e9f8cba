"""SIP messages of emergency and test calls, kept for the console and for incident bundles.

Bulky and not needed to prove that a call was made and told, so they are kept for a while only; records stay.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    delete,
    func,
    select,
)

from router.store.metadata import metadata
from router.store.outbox import storable_text
from router.store.statements import insert_new
from router.trace.messages import Traced

MOST_OF_A_CALL: Final = 400
"""Messages of one call that are kept; a call that sends more is no ordinary one."""

call_messages = Table(
    "call_messages",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("sent", Boolean, nullable=False),
    Column("transport", Text, nullable=False),
    Column("source_host", Text, nullable=False),
    Column("source_port", Integer, nullable=False),
    Column("destination_host", Text, nullable=False),
    Column("destination_port", Integer, nullable=False),
    Column("trunk", Text, nullable=False, server_default=""),
    Column("data", LargeBinary, nullable=False),
)
Index("ix_call_messages_at", call_messages.c.at)


def store_messages(conn: Connection, node: str, messages: Sequence[tuple[Traced, str]]) -> int:
    """Keep messages that this node saw, each with the name of its trunk or an empty text; how many were kept."""
    numbers: dict[str, int] = {}
    rows = []
    for traced, trunk in messages:
        call_id = storable_text(traced.call_id)
        if not call_id:
            continue
        number = numbers.get(call_id)
        if number is None:
            own = (call_messages.c.call_id == call_id) & (call_messages.c.node == node)
            number = conn.execute(select(func.coalesce(func.max(call_messages.c.number), 0)).where(own)).scalar_one()
        numbers[call_id] = number = number + 1
        if number > MOST_OF_A_CALL:
            continue
        rows.append(
            (
                call_id,
                node,
                number,
                traced.at,
                bool(traced.sent),
                traced.transport,
                *traced.source,
                *traced.destination,
                trunk,
                traced.data,
            )
        )
    insert_new(conn, call_messages, rows)
    return len(rows)


def messages_of(conn: Connection, call_id: str) -> list[tuple[Traced, str]]:
    """What is kept of a call, in the order of time, each with the name of its trunk."""
    query = (
        select(call_messages)
        .where(call_messages.c.call_id == storable_text(call_id))
        .order_by(call_messages.c.at, call_messages.c.node, call_messages.c.number)
    )
    return [
        (
            Traced(
                at=row.at,
                sent=row.sent,
                transport=row.transport,
                source=(row.source_host, row.source_port),
                destination=(row.destination_host, row.destination_port),
                data=bytes(row.data),
            ),
            row.trunk,
        )
        for row in conn.execute(query)
    ]


def forget_messages(conn: Connection, before: float) -> int:
    """Delete those older than a moment (seconds since 1970); how many."""
    return conn.execute(delete(call_messages).where(call_messages.c.at < before)).rowcount
