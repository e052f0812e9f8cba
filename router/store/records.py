"""Call records in the store: one row per emergency call, with every journal event of it in `document`.

`apply_events` may be given the same events again: nothing changes. The place in the journal up to which a
node's events are in the table is stored in the same transaction.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Table,
    Text,
    desc,
    func,
    select,
)

from e911.record import JournalEvent
from router.journal.brief import brief_of
from router.journal.event_lines import decode_event, encode_event
from router.journal.segments import START, Cursor, LineReader
from router.records.record import CallRecord, CallSummary, record_from_lines
from router.store.confirmations import confirmations_of
from router.store.metadata import metadata
from router.store.outbox import notices_of, storable_text
from router.store.statements import insert_new, insert_or_overwrite

_TEXTS: Final = ("node", "kind", "call_id", "site", "zone", "dialled", "number", "device", "callback")

calls = Table(
    "calls",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in _TEXTS),
    Column("started_at", Double, nullable=False),
    Column("outcome", Text, nullable=False, server_default=""),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("route", Text, nullable=False, server_default=""),
    Column("ended_at", Double),
    Column("document", Text, nullable=False),
)
Index("ix_calls_started_at", calls.c.started_at)

journal_cursors = Table(
    "journal_cursors",
    metadata,
    Column("node", Text, primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in calls.columns)
_SUMMARY: Final = tuple(calls.c[name] for name in _COLUMNS if name != "document")
_BATCH = 400
_ROUTE: Final = b'{"type":"route","id":"'
_NO_PART: Final = (b'{"type":"dialog"', b'{"type":"locating"')
"""Events that are no part of the record: the call process alone needs the one, who watches the other."""


@dataclass(slots=True)
class _Row:
    """A row of the table, without its document."""

    id: str
    node: str = ""
    kind: str = ""
    call_id: str = ""
    site: str = ""
    zone: str = ""
    dialled: str = ""
    number: str = ""
    device: str = ""
    callback: str = ""
    started_at: float = 0.0
    outcome: str = ""
    status: int = 0
    route: str = ""
    ended_at: float | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Bring it up to date with one more event; the first intent of a call stays. Raises KeyError."""
        kind = event["type"]
        if not self.started_at:
            self.started_at = event["at"]
        if kind in ("intent", "refused"):
            if self.kind:
                return
            self.started_at = event["at"]
            self.node, self.call_id = event["node"], event["call_id"]
            self.site, self.zone = event.get("site", ""), event.get("zone", "")
            self.dialled = event["dialled"]
            caller = event["caller"]
            self.number, self.device = caller.get("number", ""), caller.get("device", "")
            self.callback = caller.get("callback", "")
            self.kind = event.get("kind", "emergency")
            if kind == "refused":
                self.outcome, self.status, self.ended_at = "refused", event["status"], event["at"]
        elif kind == "ended":
            self.outcome, self.status, self.route = event["outcome"], event["status"], event.get("route", "")
            if event["outcome"] != "answered":
                self.ended_at = event["at"]
        elif kind == "finished":
            self.ended_at = event["at"]


_SUMMARY_OF: Final = attrgetter(*(item.name for item in fields(_Row)))


@dataclass(slots=True)
class CallLines:
    """What a piece of the journal says of one call. The lines are not kept read: that takes five times the memory."""

    row: _Row
    lines: list[bytes] = field(default_factory=list)
    is_begun: bool = False
    """True where its beginning is among the lines."""
    is_over: bool = False
    """True where its end is, and nothing more is expected."""

    def add(self, event: Mapping[str, Any]) -> None:
        """Take note of what a line says. Raises KeyError."""
        kind = event["type"]
        if kind == "intent":
            self.is_begun = True
        elif kind == "refused":
            self.is_begun = self.is_over = True
        elif kind == "finished" or (kind == "ended" and event["outcome"] != "answered"):
            self.is_over = True
        self.row.add(event)


def gather(lines: Iterable[bytes], found: dict[str, CallLines]) -> None:
    """Add journal lines (without newlines) to what was found, by call. Lines that are no event are left out."""
    for line in lines:
        if line.startswith(_NO_PART):
            continue
        event: dict[str, Any] | None = None
        try:
            if line.startswith(_ROUTE) and line.endswith(b"}") and line.isascii():
                # Of a route's line only the call matters.
                call = line[len(_ROUTE) : line.index(b'"', len(_ROUTE))].decode()
            else:
                event = brief_of(line)
                call = event["id"]
            of_call = found.get(call)
            if of_call is None:
                of_call = found[call] = CallLines(_Row(call))
            if line not in of_call.lines:
                of_call.lines.append(line)
                if event is not None:
                    of_call.add(event)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def apply_events(conn: Connection, events: Iterable[JournalEvent]) -> int:
    """Write events into the records; gives how many calls changed. Events known already change nothing."""
    return apply_lines(conn, [encode_event(event).rstrip(b"\n") for event in events])


def apply_lines(conn: Connection, lines: Iterable[bytes]) -> int:
    """The same from journal lines (without newlines). Lines that are no event are passed over."""
    found: dict[str, CallLines] = {}
    gather(lines, found)
    return apply_calls(conn, found.values())


def apply_calls(conn: Connection, found: Iterable[CallLines]) -> int:
    """The same from lines by call."""
    begun: list[CallLines] = []
    going_on: list[CallLines] = []
    for call in found:
        (begun if call.is_begun else going_on).append(call)
    changed = insert_new(conn, calls, [_values(call.row, "", call.lines) for call in begun])
    if changed < len(begun):  # some are there already: a piece of the journal comes again
        going_on += begun
    return changed + _merge(conn, going_on)


def _merge(conn: Connection, found: Sequence[CallLines]) -> int:
    """Add lines to the rows of calls that may be there already."""
    changed: list[tuple[Any, ...]] = []
    for start in range(0, len(found), _BATCH):
        batch = {call.row.id: call for call in found[start : start + _BATCH]}
        query = select(calls).where(calls.c.id.in_(batch))
        for *values, document in conn.execute(query):
            call = batch.pop(values[0])
            row, known = _Row(*values), document.encode()
            new = [line for line in call.lines if line not in known]
            for line in new:
                with suppress(ValueError, KeyError, TypeError, AttributeError):  # half an event is kept all the same
                    row.add(brief_of(line))
            if new:
                changed.append(_values(row, document, new))
        changed += [_values(call.row, "", call.lines) for call in batch.values()]
    insert_or_overwrite(conn, calls, changed)
    return len(changed)


def _values(row: _Row, known: str, lines: Sequence[bytes]) -> tuple[Any, ...]:
    """The values of a call's row, its document with further lines."""
    added = b",".join(lines).decode()
    summary: tuple[Any, ...] = _SUMMARY_OF(row)
    if "\\u0000" in added:  # it is escaped in the lines; no database keeps one that is not
        summary = tuple(storable_text(value) if type(value) is str else value for value in summary)
    return (*summary, f"{known[:-2]},{added}]}}" if known else f'{{"events":[{added}]}}')


def read_cursor(conn: Connection, node: str) -> Cursor:
    """Up to where a node's journal is in the records; the start where nothing of it is."""
    found = conn.execute(
        select(journal_cursors.c.segment, journal_cursors.c.offset).where(journal_cursors.c.node == node)
    ).one_or_none()
    return Cursor(found[0], found[1]) if found is not None else Cursor()


def store_cursor(conn: Connection, node: str, cursor: Cursor) -> None:
    """Remember up to where a node's journal is in the records."""
    insert_or_overwrite(conn, journal_cursors, [(node, cursor.segment, cursor.offset)])


def list_calls(
    conn: Connection,
    *,
    limit: int = 50,
    site: str = "",
    sites: Sequence[str] | None = None,
    since: float | None = None,
) -> list[CallSummary]:
    """Calls, newest first, of one site, of some or of all, since a time (seconds since 1970)."""
    query = select(*_SUMMARY).order_by(desc(calls.c.started_at), calls.c.id).limit(limit)
    if site:
        query = query.where(calls.c.site == site)
    if sites is not None:
        query = query.where(calls.c.site.in_(list(sites)))
    if since is not None:
        query = query.where(calls.c.started_at >= since)
    return [CallSummary(**row._mapping) for row in conn.execute(query)]


def latest_of_each_site(conn: Connection, *, limit: int, since: float) -> list[CallSummary]:
    """The latest calls of each site since a time (seconds since 1970), newest first."""
    place = func.row_number().over(partition_by=calls.c.site, order_by=(desc(calls.c.started_at), calls.c.id))
    ranked = select(*_SUMMARY, place.label("place")).where(calls.c.started_at >= since).subquery()
    columns = [ranked.c[column.name] for column in _SUMMARY]
    query = select(*columns).where(ranked.c.place <= limit).order_by(desc(ranked.c.started_at), ranked.c.id)
    return [CallSummary(**row._mapping) for row in conn.execute(query)]


def find_calls(conn: Connection, prefix: str, limit: int = 10) -> list[str]:
    """Ids that begin with `prefix`."""
    query = select(calls.c.id).where(func.substr(calls.c.id, 1, len(prefix)) == prefix)
    return list(conn.execute(query.order_by(calls.c.id).limit(limit)).scalars())


def get_call(conn: Connection, call: str) -> CallRecord | None:
    """Everything known of one call, its notices included; None where there is no such record."""
    document = conn.execute(select(calls.c.document).where(calls.c.id == call)).scalar_one_or_none()
    if document is None:
        return None
    notices = notices_of(conn, call)
    # What was told in one notice with others is acknowledged with them.
    told_as = {call, *(entry.folded_into for entry in notices if entry.folded_into)}
    return record_from_lines(_lines(document), notices, confirmations_of(conn, sorted(told_as)))


def call_events(conn: Connection, call: str) -> list[JournalEvent]:
    """The events of one call as far as they can be read; none where there is no such record."""
    document = conn.execute(select(calls.c.document).where(calls.c.id == call)).scalar_one_or_none()
    found: list[JournalEvent] = []
    for line in _lines(document) if document else ():
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            found.append(decode_event(line))
    return found


def site_of(conn: Connection, call: str) -> str | None:
    """The site a call is of; None where there is no such record."""
    return conn.execute(select(calls.c.site).where(calls.c.id == call)).scalar_one_or_none()


def count_calls(conn: Connection) -> int:
    """How many records there are."""
    return conn.execute(select(func.count()).select_from(calls)).scalar_one()


def summary_of(lines: Sequence[bytes]) -> CallSummary:
    """The summary that these lines, all of one call, make. Raises ValueError or KeyError for other lines."""
    row = _Row("")
    for line in lines:
        event = brief_of(line)
        row.id = event["id"]
        row.add(event)
    return CallSummary(**asdict(row))


def _lines(document: str) -> list[bytes]:
    try:
        return [orjson.dumps(event) for event in orjson.loads(document)["events"]]
    except ValueError:  # one of them is damaged: the others shall be read
        return re.split(rb'(?<=\}),(?=\{"type":")', document.encode()[len(b'{"events":[') : -2])


def lines_by_call(journal: Path) -> dict[str, list[bytes]]:
    """The lines that a journal directory still holds, by call, for when there is no database."""
    reader = LineReader(journal)
    found: dict[str, list[bytes]] = {}
    cursor = START
    while True:
        lines, cursor = reader.read_lines(cursor, 1000)
        if not lines:
            break
        for line in lines:
            if line.startswith(_NO_PART):
                continue
            with suppress(ValueError, KeyError, TypeError):  # the notices process says so
                found.setdefault(orjson.loads(line)["id"], []).append(line)
    reader.close()
    return found
