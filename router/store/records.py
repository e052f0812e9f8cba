"""Call records in the store: one row per emergency call, with every journal event of it in `document`.

`apply_events` may be given the same events again: nothing changes. The place in the journal up to which a
node's events are in the table is stored in the same transaction.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
from sqlalchemy.dialects import postgresql, sqlite

from e911.record import JournalEvent
from router.journal import START, Cursor, LineReader, encode_event
from router.record import CallRecord, CallSummary, record_from_lines
from router.store.metadata import metadata
from router.store.outbox import notices_of, storable

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
_CACHED_CALLS = 20_000


@dataclass(slots=True)
class _Stored:
    """One call as it is in its row."""

    row: dict[str, Any]
    lines: list[bytes] = field(default_factory=list)


class CallCache:
    """Calls that are still under way, as last stored, so that their next event needs no query.

    Belongs to one writer; `clear` it after a transaction that was undone.
    """

    def __init__(self, limit: int = _CACHED_CALLS) -> None:
        self._limit = limit
        self._calls: OrderedDict[str, _Stored] = OrderedDict()

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()

    def get(self, call: str) -> _Stored | None:
        """The call as stored, or None where a query must tell."""
        return self._calls.get(call)

    def put(self, call: str, stored: _Stored) -> None:
        """Remember a call, and forget the oldest where there are too many."""
        self._calls[call] = stored
        if len(self._calls) > self._limit:
            self._calls.popitem(last=False)

    def drop(self, call: str) -> None:
        """Forget one call: nothing more is expected of it."""
        self._calls.pop(call, None)


def apply_events(conn: Connection, events: Iterable[JournalEvent], cache: CallCache | None = None) -> int:
    """Write events into the records; gives how many calls changed. Events known already change nothing."""
    return apply_lines(conn, [encode_event(event).rstrip(b"\n") for event in events], cache)


def apply_lines(conn: Connection, lines: Iterable[bytes], cache: CallCache | None = None) -> int:
    """The same from journal lines (without newlines). Lines that are no event are passed over."""
    cache = CallCache() if cache is None else cache
    new: dict[str, list[tuple[bytes, dict[str, Any]]]] = {}
    for line in lines:
        try:
            event = orjson.loads(line)
            new.setdefault(event["id"], []).append((line, event))
        except (ValueError, KeyError, TypeError):
            continue
    known = _stored(conn, [call for call in new if cache.get(call) is None])
    changed: list[dict[str, Any]] = []
    for call, found in new.items():
        stored = cache.get(call) or known.get(call) or _Stored(_empty_row(call))
        before = len(stored.lines)
        for line, event in found:
            if line not in stored.lines:
                with suppress(KeyError, TypeError):  # half an event still belongs into the document
                    _summarise(stored.row, event)
                stored.lines.append(line)
        if len(stored.lines) == before:
            continue
        stored.row["document"] = (b'{"events":[' + b",".join(stored.lines) + b"]}").decode()
        changed.append(storable(stored.row))
        if found[-1][1].get("type") in ("finished", "refused") or stored.row["outcome"] in (
            "failed",
            "cancelled",
        ):
            cache.drop(call)
        else:
            cache.put(call, stored)
    if changed:
        _upsert(conn, calls, ("id",), changed)
    return len(changed)


def read_cursor(conn: Connection, node: str) -> Cursor:
    """Up to where a node's journal is in the records; the start where nothing of it is."""
    found = conn.execute(
        select(journal_cursors.c.segment, journal_cursors.c.offset).where(journal_cursors.c.node == node)
    ).one_or_none()
    return Cursor(found[0], found[1]) if found is not None else Cursor()


def store_cursor(conn: Connection, node: str, cursor: Cursor) -> None:
    """Remember up to where a node's journal is in the records."""
    row = {"node": node, "segment": cursor.segment, "offset": cursor.offset}
    _upsert(conn, journal_cursors, ("node",), [row])


def list_calls(conn: Connection, *, limit: int = 50, site: str = "", since: float | None = None) -> list[CallSummary]:
    """Calls, newest first, of one site or of all, since a time (seconds since 1970)."""
    query = select(*_SUMMARY).order_by(desc(calls.c.started_at), calls.c.id).limit(limit)
    if site:
        query = query.where(calls.c.site == site)
    if since is not None:
        query = query.where(calls.c.started_at >= since)
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
    return record_from_lines(_lines(document), notices_of(conn, call))


def count_calls(conn: Connection) -> int:
    """How many records there are."""
    return conn.execute(select(func.count()).select_from(calls)).scalar_one()


def summary_of(lines: Sequence[bytes]) -> CallSummary:
    """The summary that these lines, all of one call, make. Raises ValueError or KeyError for other lines."""
    row = _empty_row("")
    for line in lines:
        event = orjson.loads(line)
        row["id"] = event["id"]
        _summarise(row, event)
    return CallSummary(**{name: row[name] for name in _COLUMNS if name != "document"})


def _stored(conn: Connection, ids: Sequence[str]) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for start in range(0, len(ids), _BATCH):
        for row in conn.execute(select(calls).where(calls.c.id.in_(ids[start : start + _BATCH]))):
            found[row.id] = _Stored(dict(row._mapping), _lines(row.document))
    return found


def _lines(document: str) -> list[bytes]:
    # What orjson wrote, it writes again byte for byte, so a line is found among them by comparing.
    return [orjson.dumps(event) for event in orjson.loads(document)["events"]]


def _empty_row(call: str) -> dict[str, Any]:
    texts = dict.fromkeys(_TEXTS, "")
    row: dict[str, Any] = {"id": call, **texts, "started_at": 0.0, "outcome": "", "status": 0, "route": ""}
    return {**row, "ended_at": None, "document": ""}


def _summarise(row: dict[str, Any], event: Mapping[str, Any]) -> None:
    """Bring the columns up to date with one more event; the first intent of a call stays."""
    if not row["started_at"]:
        row["started_at"] = event["at"]
    match event["type"]:
        case "intent" | "refused" if not row["kind"]:
            caller = event["caller"]
            row["kind"] = event.get("kind", "emergency")
            for name in ("node", "call_id", "site", "zone", "dialled"):
                row[name] = event.get(name, "")
            for name in ("number", "device", "callback"):
                row[name] = caller.get(name, "")
            row["started_at"] = event["at"]
            if event["type"] == "refused":
                row["outcome"], row["status"], row["ended_at"] = "refused", event["status"], event["at"]
        case "ended":
            row["outcome"], row["status"], row["route"] = event["outcome"], event["status"], event["route"]
            if event["outcome"] != "answered":
                row["ended_at"] = event["at"]
        case "finished":
            row["ended_at"] = event["at"]


def _upsert(conn: Connection, table: Table, key: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    conn.execute(statement.on_conflict_do_update(index_elements=key, set_=others), list(rows))


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
            with suppress(ValueError, KeyError, TypeError):  # the notices process says so
                found.setdefault(orjson.loads(line)["id"], []).append(line)
    reader.close()
    return found
