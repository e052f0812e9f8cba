"""The audit trail: who changed what, when, from what to what. Rows are added and read, never changed.

A subject is `device:4012`, `user:alice`, `token:1a2b3c4d`, `zone-plan:hq/hq-3e`, …: its kind, a colon, its name.
Secrets (passwords, tokens, their hashes) are never given to it.
"""

import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    or_,
    select,
)

from router.store.metadata import metadata
from router.store.statements import insert_rows

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True, nullable=False),
    Column("at", Double, nullable=False),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("who", "via", "action", "subject", "site", "before", "after")
    ),
    sqlite_autoincrement=True,
)
Index("ix_audit_subject", audit.c.subject)

_WRITTEN = ("at", "who", "via", "action", "subject", "site", "before", "after")
_KEPT_TEXT = 200
_OF_ACCESS = ("user:", "token:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who makes a change, and by which way: `console`, `api`, `cli`, `self-service`, … ."""

    who: str
    via: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: `before` is empty for what is new, `after` for what is gone."""

    action: str
    """`create`, `change`, `remove`, or what else was done."""
    subject: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    site: str = ""
    """Whose it is, for people who see some sites only; empty: only those who see all see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One row of the trail; `at` in seconds since 1970."""

    id: int
    at: float
    who: str
    via: str
    action: str
    subject: str
    site: str
    before: dict[str, Any]
    after: dict[str, Any]


def command_line_author() -> Author:
    """Whoever runs this program: the operating system's user."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        name = "unknown"
    return Author(who=name, via="cli")


def record_change(
    conn: Connection,
    who: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    *,
    via: str = "",
    site: str = "",
    at: float | None = None,
) -> None:
    """Add one row, in the transaction of the change itself: both are kept, or neither."""
    change = Change(action=action, subject=subject, before=before or {}, after=after or {}, site=site)
    record_changes(conn, Author(who=who, via=via), [change], at=at)


def record_changes(conn: Connection, author: Author, changes: Iterable[Change], *, at: float | None = None) -> None:
    """Add a row for each change. `at` is seconds since 1970; now where it is not given."""
    when = time.time() if at is None else at
    who = author.who[:_KEPT_TEXT]
    rows = [
        (
            when,
            who,
            author.via,
            change.action,
            change.subject,
            change.site,
            _document(change.before),
            _document(change.after),
        )
        for change in changes
    ]
    insert_rows(conn, audit, _WRITTEN, rows)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both, with nothing but what is not the same in them; of what is new or gone, nothing that is empty."""
    if not before or not after:
        return (
            {name: value for name, value in before.items() if value not in ("", None)},
            {name: value for name, value in after.items() if value not in ("", None)},
        )
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def audit_rows(
    conn: Connection,
    *,
    subject: str = "",
    text: str = "",
    sites: Sequence[str] | None = None,
    before_id: int | None = None,
    limit: int = 50,
    with_access: bool = True,
) -> list[AuditRow]:
    """Rows, newest first: of one subject, or in whose who, subject or values a text stands; `sites`: of these only.

    `with_access`: also who logged in, from where, and what became of users and tokens.
    `before_id` goes on where a page ended.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject:
        query = query.where(audit.c.subject == subject)
    if text:
        columns = (audit.c.who, audit.c.subject, audit.c.before, audit.c.after)
        query = query.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
    if sites is not None:
        query = query.where(audit.c.site.in_(list(sites)))
    if not with_access:
        query = query.where(*(~audit.c.subject.startswith(kind, autoescape=True) for kind in _OF_ACCESS))
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    return [_row(dict(found._mapping), sites) for found in conn.execute(query)]


def _row(values: dict[str, Any], sites: Sequence[str] | None) -> AuditRow:
    before, after = _parsed(values["before"]), _parsed(values["after"])
    if sites is not None and before.get("site", values["site"]) not in sites:
        before = {"site": "…"}  # it came from a site that is not theirs
    return AuditRow(**{**values, "before": before, "after": after})


def _document(values: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(values), default=str).decode() if values else ""


def _parsed(document: str) -> dict[str, Any]:
    try:
        found = orjson.loads(document or b"{}")
    except ValueError:
        return {"?": document}
    return found if isinstance(found, dict) else {"?": document}
