"""When each channel of each contact was last proven to work, from what became of every notice."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from router.outbox import NoticeState
from router.store.outbox import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The last attempt of one kind at a channel. Times are seconds since 1970."""

    state: str
    queued_at: float | None
    at: float | None
    reason: str
    words: str


def last_delivered(conn: Connection) -> dict[tuple[str, int], float]:
    """(contact, channel) → when it took a notice last, a test or a real one."""
    query = (
        select(outbox.c.contact, outbox.c.channel, func.max(outbox.c.last_attempt_at))
        .where(outbox.c.state == NoticeState.DELIVERED.value)
        .group_by(outbox.c.contact, outbox.c.channel)
    )
    return {(contact, channel): at for contact, channel, at in conn.execute(query) if at}


def last_trials(conn: Connection, kind: str) -> dict[tuple[str, int], Trial]:
    """(contact, channel) → what came of the last notice of this kind."""
    columns = [outbox.c[name] for name in ("contact", "channel", "state", "queued_at", "reason", "words")]
    query = select(*columns, outbox.c.last_attempt_at).where(outbox.c.kind == kind).order_by(outbox.c.queued_at)
    return {
        (row.contact, row.channel): Trial(
            state=row.state, queued_at=row.queued_at, at=row.last_attempt_at, reason=row.reason, words=row.words
        )
        for row in conn.execute(query)
    }
