"""Who has seen and acknowledged a notice, a row for each; which channels are proven; the secret of links."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Column, Connection, Double, Integer, LargeBinary, Table, Text, select

from router.notices.confirmations import ChannelOutcome, Confirmation, Step
from router.store.metadata import metadata
from router.store.statements import insert_new, insert_or_overwrite

confirmations = Table(
    "confirmations",
    metadata,
    Column("call", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("contact", Text, primary_key=True),
    Column("channel", Integer, primary_key=True, autoincrement=False),
    Column("by", Text, primary_key=True),
    Column("how", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("node", Text, nullable=False),
)
channel_proofs = Table(
    "channel_proofs",
    metadata,
    Column("contact", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("is_delivered", Integer, nullable=False),
    Column("proven_at", Double),
    Column("reason", Text, nullable=False, server_default=""),
    Column("words", Text, nullable=False, server_default=""),
    Column("by", Text, nullable=False, server_default=""),
    Column("node", Text, nullable=False, server_default=""),
)
shared_secrets = Table(
    "shared_secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
LINK_SECRET: Final = "links"
"""Name of the secret with which links in notices are signed."""
_SECRET_BYTES: Final = 32


def store_confirmations(conn: Connection, node: str, found: Iterable[Confirmation]) -> int:
    """Write those that are not there; how many were not."""
    rows = [(one.call, one.step.value, one.contact, one.channel, one.by, one.how, one.at, node) for one in found]
    return insert_new(conn, confirmations, rows)


def confirmations_of(conn: Connection, calls: Sequence[str]) -> list[Confirmation]:
    """Those of some calls, oldest first."""
    query = select(confirmations).where(confirmations.c.call.in_(calls)).order_by(confirmations.c.at)
    return [
        Confirmation(
            call=row.call,
            step=Step(row.step),
            contact=row.contact,
            channel=row.channel,
            by=row.by,
            how=row.how,
            at=row.at,
        )
        for row in conn.execute(query)
    ]


def store_proofs(conn: Connection, node: str, found: Iterable[ChannelOutcome]) -> None:
    """Write what came of channels; a failure leaves when something was delivered last."""
    known = {(proof.contact, proof.channel): proof.proven_at for proof in all_proofs(conn)}
    insert_or_overwrite(
        conn,
        channel_proofs,
        [
            (
                one.contact,
                one.channel,
                one.at,
                int(one.is_delivered),
                one.proven_at if one.proven_at is not None else known.get((one.contact, one.channel)),
                one.reason,
                one.words,
                one.by,
                node,
            )
            for one in found
        ],
    )


def all_proofs(conn: Connection) -> list[ChannelOutcome]:
    """Every channel that was ever tried."""
    return [
        ChannelOutcome(
            contact=row.contact,
            channel=row.channel,
            at=row.at,
            is_delivered=bool(row.is_delivered),
            proven_at=row.proven_at,
            reason=row.reason,
            words=row.words,
            by=row.by,
        )
        for row in conn.execute(select(channel_proofs).order_by(channel_proofs.c.contact, channel_proofs.c.channel))
    ]


def shared_secret(conn: Connection, name: str) -> bytes:
    """A secret that all nodes of this database share; made when first asked for."""
    insert_new(conn, shared_secrets, [(name, secrets.token_bytes(_SECRET_BYTES))])
    query = select(shared_secrets.c.value).where(shared_secrets.c.name == name)
    return bytes(conn.execute(query).scalar_one())
