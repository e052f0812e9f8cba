"""When each channel of each contact was last proven to work, whatever its place in the list."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from router.store.confirmations import all_proofs
from router.store.outbox import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The last attempt of one kind at a channel. Times are seconds since 1970."""

    state: str
    queued_at: float | None
    at: float | None
    reason: str
    words: str


def last_delivered(conn: Connection) -> dict[tuple[str, str], float]:
    """(contact, channel_id) → when it took a notice last, a test or a real one."""
    return {(proof.contact, proof.channel): proof.proven_at for proof in all_proofs(conn) if proof.proven_at}


def last_trials(conn: Connection, kind: str) -> dict[tuple[str, str], Trial]:
    """(contact, channel_id) → what came of the last test of that kind; its id ends with the channel's."""
    columns = [outbox.c[name] for name in ("call", "contact", "state", "queued_at", "reason", "words")]
    query = select(*columns, outbox.c.last_attempt_at).where(outbox.c.kind == kind).order_by(outbox.c.queued_at)
    return {
        (row.contact, row.call.rpartition("-")[2]): Trial(
            state=row.state, queued_at=row.queued_at, at=row.last_attempt_at, reason=row.reason, words=row.words
        )
        for row in conn.execute(query)
    }
