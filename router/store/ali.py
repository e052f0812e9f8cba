"""What the database operator has of us, and what was sent to it: ALI records by number, and the cycle counter.

A record is `pending` from the export of a file until the operator's answer to it, `active` when the operator has it
as it should be, `refused` with the operator's words where it did not take it. A second export before that answer
takes the place of the first: it has the same cycle counter, and says all that changed since the last accepted file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Column, Connection, Double, Integer, Table, Text, delete, insert, select, update

from e911.ali import LAST_CYCLE, AliEntry, AliError, AliRecord, FunctionCode, changes
from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

ali_records = Table(
    "ali_records",
    metadata,
    Column("number", Text, primary_key=True),
    Column("accepted", Text, nullable=False, server_default=""),
    Column("sent", Text, nullable=False, server_default=""),
    Column("function", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False, server_default=""),
    Column("words", Text, nullable=False, server_default=""),
    Column("cycle", Integer, nullable=False, server_default="0"),
    Column("ported", Text, nullable=False, server_default=""),
    Column("updated_at", Double, nullable=False),
)
ali_cycles = Table(
    "ali_cycles",
    metadata,
    Column("company", Text, primary_key=True),
    Column("accepted", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("sent_at", Double),
)
PENDING: Final = "pending"
ACTIVE: Final = "active"
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AliState:
    """One number: what the operator has, what was sent, and what it said."""

    number: str
    accepted: AliRecord | None
    sent: AliRecord | None
    function: str
    state: str
    words: str
    cycle: int
    ported: str
    """`in`, `out` or empty."""
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """The cycle counter: of the last file that was accepted, and of the last that was sent (0: none)."""

    accepted: int = 0
    sent: int = 0
    sent_at: float | None = None


def states(conn: Connection) -> dict[str, AliState]:
    """Everything known, by number."""
    return {row.number: _state(row) for row in conn.execute(select(ali_records).order_by(ali_records.c.number))}


def cycle_of(conn: Connection, company: str) -> Cycle:
    """The counter of a company."""
    row = conn.execute(select(ali_cycles).where(ali_cycles.c.company == company)).one_or_none()
    return Cycle() if row is None else Cycle(accepted=row.accepted, sent=row.sent, sent_at=row.sent_at)


def export(
    conn: Connection,
    company: str,
    wanted: Mapping[str, AliRecord],
    kept: Iterable[str],
    now: float,
    *,
    again: bool = False,
    cycle: int | None = None,
) -> tuple[int, list[AliEntry]]:
    """What to send and the cycle counter to send it with; it is pending from now on. Nothing to send: no
    entry, and nothing changes, but that a refused record which is wanted no more is as the operator has it.

    kept: numbers whose record stays as the operator has it, whatever is wanted. again: refused records too, though
    they did not change. cycle: another counter than the next one. Raises AliError where that is none.
    """
    known = states(conn)
    accepted = {number: one.accepted for number, one in known.items() if one.accepted is not None}
    target = dict(wanted)
    for number in kept:
        target.pop(number, None)
        if number in accepted:
            target[number] = accepted[number]
    ported_in = frozenset(number for number, one in known.items() if one.ported == "in")
    ported_out = frozenset(number for number, one in known.items() if one.ported == "out")
    entries = [
        entry
        for entry in changes(target, accepted, ported_in=ported_in, ported_out=ported_out)
        if again or not _was_refused(known.get(entry.record.number), entry)
    ]
    for number, one in known.items():
        if one.state == REFUSED and not one.ported and target.get(number) == one.accepted:
            _as_accepted(conn, one)  # what was refused is wanted no more
    if not entries:
        return 0, []
    counter = cycle_of(conn, company)
    waiting = counter.sent if counter.sent != counter.accepted else 0
    following = cycle if cycle is not None else waiting or (counter.accepted % LAST_CYCLE) + 1
    if not 1 <= following <= LAST_CYCLE:
        raise AliError(f"cycle counter {following} is not between 1 and {LAST_CYCLE}")
    _withdraw(conn, known, {entry.record.number for entry in entries})
    rows = [
        (
            entry.record.number,
            _dumped(accepted.get(entry.record.number)),
            _dumped(entry.record),
            entry.function.value,
            PENDING,
            "",
            following,
            known[entry.record.number].ported if entry.record.number in known else "",
            now,
        )
        for entry in entries
    ]
    insert_or_overwrite(conn, ali_records, rows)
    insert_or_overwrite(conn, ali_cycles, [(company, counter.accepted, following, now)])
    return following, entries


def _was_refused(one: AliState | None, entry: AliEntry) -> bool:
    return one is not None and one.state == REFUSED and one.sent == entry.record and one.function == entry.function


def _withdraw(conn: Connection, known: Mapping[str, AliState], sent_now: set[str]) -> None:
    """Records that an earlier, unanswered file said and this one does not are as they were before it."""
    for number, one in known.items():
        if one.state == PENDING and number not in sent_now:
            _as_accepted(conn, one)


def _as_accepted(conn: Connection, one: AliState) -> None:
    """What the operator has of a number is all there is to say of it."""
    row = ali_records.c.number == one.number
    if one.accepted is None and not one.ported:
        conn.execute(delete(ali_records).where(row))
    else:
        state = ACTIVE if one.accepted is not None else ""
        values = {"sent": "", "function": "", "state": state, "words": "", "cycle": 0}
        conn.execute(update(ali_records).where(row).values(values))


def accept(
    conn: Connection, company: str, refused: Mapping[str, str], now: float, *, cycle: int | None = None
) -> tuple[int, int]:
    """The operator took the file of this cycle (the last one sent), but for what it refused: number → its words.

    How many records became active (or are gone, as wanted), and how many were refused. Raises AliError where no such
    file is unanswered, or a refused number was not in it.
    """
    counter = cycle_of(conn, company)
    if not counter.sent or counter.sent == counter.accepted:
        raise AliError("no file waits for an answer; `edge911 ali export` makes one")
    if cycle is not None and cycle != counter.sent:
        raise AliError(f"the file that waits for an answer is {counter.sent}, not {cycle}")
    pending = {number: one for number, one in states(conn).items() if one.state == PENDING}
    unknown = sorted(refused.keys() - pending.keys())
    if unknown:
        raise AliError(f"{', '.join(unknown[:5])}: not in file {counter.sent}; `edge911 ali status` shows what is")
    for number, one in pending.items():
        row = update(ali_records).where(ali_records.c.number == number)
        if number in refused:
            conn.execute(row.values(state=REFUSED, words=refused[number], updated_at=now))
        elif one.function == FunctionCode.DELETE:
            conn.execute(delete(ali_records).where(ali_records.c.number == number))
        elif one.function == FunctionCode.UNLOCK:
            # It stays known as gone, so that a device which still shows it does not claim it again.
            conn.execute(row.values(accepted="", sent="", function="", state="", words="", updated_at=now))
        else:
            values: dict[str, Any] = {"accepted": _dumped(one.sent), "sent": "", "function": "", "ported": ""}
            conn.execute(row.values(**values, state=ACTIVE, words="", updated_at=now))
    insert_or_overwrite(conn, ali_cycles, [(company, counter.sent, counter.sent, counter.sent_at)])
    return len(pending) - len(refused), len(refused)


def set_ported(conn: Connection, number: str, ported: str, now: float) -> None:
    """Note that a number was ported `in` or `out`, or neither (empty)."""
    row = conn.execute(select(ali_records).where(ali_records.c.number == number)).one_or_none()
    if row is None:
        if ported:
            conn.execute(insert(ali_records).values(number=number, ported=ported, updated_at=now))
    elif not ported and not row.accepted and not row.state:
        conn.execute(delete(ali_records).where(ali_records.c.number == number))
    else:
        values = {"ported": ported, "updated_at": now}
        conn.execute(update(ali_records).where(ali_records.c.number == number).values(values))


def _state(row: Any) -> AliState:
    return AliState(
        number=row.number,
        accepted=_loaded(row.accepted),
        sent=_loaded(row.sent),
        function=row.function,
        state=row.state,
        words=row.words,
        cycle=row.cycle,
        ported=row.ported,
        updated_at=row.updated_at,
    )


def _dumped(record: AliRecord | None) -> str:
    """The record as JSON, without what is empty."""
    if record is None:
        return ""
    return orjson.dumps({name: value for name, value in asdict(record).items() if value}).decode()


def _loaded(text: str) -> AliRecord | None:
    return AliRecord(**orjson.loads(text)) if text else None
