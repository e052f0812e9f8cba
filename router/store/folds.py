"""Folds in the store: which calls a contact was told of in one notice, a row per fold."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Column, Connection, Double, Table, Text, select

from router.notices.outbox import Fold
from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

folds = Table(
    "folds",
    metadata,
    Column("call", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("contact", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("calls", Text, nullable=False),
)
_BETWEEN: Final = "\n"
"""Before, between and after the record ids in `calls`."""


def store_folds(conn: Connection, node: str, found: Iterable[Fold]) -> None:
    """Write folds over what is stored of them. A storm's thousands of calls are one row, not one for each."""
    insert_or_overwrite(
        conn,
        folds,
        [
            (fold.call, fold.kind, fold.contact, node, fold.site, fold.at, _BETWEEN.join(("", *fold.calls, "")))
            for fold in found
        ],
    )


def folds_of(conn: Connection, call: str) -> list[Fold]:
    """The folds that a call is in, oldest first."""
    query = select(folds).where(folds.c.calls.contains(f"{_BETWEEN}{call}{_BETWEEN}", autoescape=True))
    return [
        Fold(
            call=row.call,
            kind=row.kind,
            contact=row.contact,
            site=row.site,
            at=row.at,
            calls=tuple(row.calls.strip(_BETWEEN).split(_BETWEEN)),
        )
        for row in conn.execute(query.order_by(folds.c.at))
    ]
