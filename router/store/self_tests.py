"""Test calls that were placed by edge911 itself, and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import Column, Connection, Double, Index, LargeBinary, Table, Text, delete, desc, func, select, update

from router.store.metadata import metadata
from router.store.outbox import storable_text
from router.store.statements import insert_new

KEPT_OF_EACH: Final = 100
"""Tests of one site and route that are kept."""
RECORDINGS_OF_EACH: Final = 10
"""…and recordings."""
ABANDONED_SECONDS: Final = 900.0
"""A test that has not ended so long after it began does so no more: who placed it has ended."""

self_tests = Table(
    "self_tests",
    metadata,
    Column("id", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in ("node", "site", "route", "by")),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    *(
        Column(name, Text, nullable=False, server_default="")
        for name in ("verdict", "reason", "words", "answered_route", "heard", "call_id", "call")
    ),
    Column("seconds", Double, nullable=False, server_default="0"),
    Column("voice_seconds", Double, nullable=False, server_default="0"),
    Column("recording", LargeBinary),
    Column("shape", Text, nullable=False, server_default=""),
)
Index("ix_self_tests_started_at", self_tests.c.started_at)

SCHEDULE: Final = "schedule"
"""Who asks for a scheduled test."""
RUNNING: Final = ""
PASSED: Final = "passed"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """One test call. Times are seconds since 1970."""

    id: str
    """Of a scheduled one: site, route and the moment it was due, so that only one node places it."""
    node: str
    site: str
    route: str
    by: str
    """`schedule`, or who asked for it."""
    started_at: float
    ended_at: float | None = None
    verdict: str = RUNNING
    """`passed`, `failed`; empty while it runs."""
    reason: str = ""
    """Why it failed."""
    words: str = ""
    """The final answer."""
    answered_route: str = ""
    """The route that answered, as the call's record says."""
    heard: str = ""
    """What the recording is (e911.read_back.Heard)."""
    call_id: str = ""
    """The SIP Call-ID."""
    call: str = ""
    """The record id."""
    seconds: float = 0.0
    """How long the recording is."""
    voice_seconds: float = 0.0
    shape: str = ""
    """What its INVITE was made of, in short (router.self_test.shape); empty where nobody knows."""

    @property
    def has_passed(self) -> bool:
        """True where it ended well."""
        return self.verdict == PASSED


_NAMES: Final = tuple(field.name for field in fields(SelfTest))
_SHOWN: Final = tuple(self_tests.c[name] for name in _NAMES)


def claim(conn: Connection, test: SelfTest) -> bool:
    """Write down that this test begins; False where another node has begun the same."""
    values = {name: getattr(test, name) for name in _NAMES} | {"recording": None}
    row = tuple(
        storable_text(value) if isinstance(value := values[column.name], str) else value
        for column in self_tests.columns
    )
    return insert_new(conn, self_tests, [row]) == 1


def abandoned(conn: Connection, now: float, node: str = "", since: float = 0.0) -> list[str]:
    """Ids of tests that nobody will finish: those of long ago, and scheduled ones that this node began before it was
    started (`since`, seconds since 1970)."""
    is_ours = (self_tests.c.node == node) & (self_tests.c.by == SCHEDULE) & (self_tests.c.started_at < since)
    is_old = self_tests.c.started_at < now - ABANDONED_SECONDS
    query = select(self_tests.c.id).where(self_tests.c.verdict == RUNNING, is_ours | is_old)
    return list(conn.execute(query).scalars())


def forget(conn: Connection, ids: Sequence[str], before: float) -> None:
    """Take away these tests where they have not ended and began before a time, so that they can be placed anew."""
    chosen = self_tests.c.id.in_(list(ids)) & (self_tests.c.verdict == RUNNING) & (self_tests.c.started_at < before)
    conn.execute(delete(self_tests).where(chosen))


def finish(conn: Connection, test: SelfTest, recording: bytes) -> None:
    """Write down what came of it, with the recording (µ-law, 8 kHz); older ones make room."""
    values = {name: getattr(test, name) for name in _NAMES if name != "id"}
    values = {name: storable_text(value) if isinstance(value, str) else value for name, value in values.items()}
    conn.execute(update(self_tests).where(self_tests.c.id == test.id).values(**values, recording=recording or None))
    of_these = (self_tests.c.site == test.site) & (self_tests.c.route == test.route)
    newest = select(self_tests.c.id).where(of_these).order_by(desc(self_tests.c.started_at))
    ids = list(conn.execute(newest).scalars())
    if len(ids) > RECORDINGS_OF_EACH:
        old = ids[RECORDINGS_OF_EACH:KEPT_OF_EACH]
        conn.execute(update(self_tests).where(self_tests.c.id.in_(old)).values(recording=None))
    if len(ids) > KEPT_OF_EACH:
        conn.execute(delete(self_tests).where(self_tests.c.id.in_(ids[KEPT_OF_EACH:])))


def latest(conn: Connection) -> dict[tuple[str, str], SelfTest]:
    """The newest ended test of each site and route."""
    found: dict[tuple[str, str], SelfTest] = {}
    query = select(*_SHOWN).where(self_tests.c.verdict != RUNNING).order_by(self_tests.c.started_at)
    for row in conn.execute(query):
        test = SelfTest(**row._mapping)
        found[test.site, test.route] = test
    return found


def list_tests(
    conn: Connection, *, site: str = "", route: str = "", sites: Sequence[str] | None = None, limit: int = 100
) -> list[SelfTest]:
    """Tests, newest first; `sites`: of these only."""
    query = select(*_SHOWN).order_by(desc(self_tests.c.started_at)).limit(limit)
    if site:
        query = query.where(self_tests.c.site == site)
    if route:
        query = query.where(self_tests.c.route == route)
    if sites is not None:
        query = query.where(self_tests.c.site.in_(list(sites)))
    return [SelfTest(**row._mapping) for row in conn.execute(query)]


def get_test(conn: Connection, test: str) -> SelfTest | None:
    """One test."""
    row = conn.execute(select(*_SHOWN).where(self_tests.c.id == test)).one_or_none()
    return SelfTest(**row._mapping) if row is not None else None


def recording_of(conn: Connection, test: str) -> bytes | None:
    """Its recording: µ-law, 8 kHz; None where it has none (any more)."""
    found = conn.execute(select(self_tests.c.recording).where(self_tests.c.id == test)).scalar_one_or_none()
    return bytes(found) if found else None


def last_begun(conn: Connection) -> dict[tuple[str, str], float]:
    """When each site and route was tested by schedule last."""
    query = (
        select(self_tests.c.site, self_tests.c.route, func.max(self_tests.c.started_at))
        .where(self_tests.c.by == SCHEDULE)
        .group_by(self_tests.c.site, self_tests.c.route)
    )
    return {(site, route): at for site, route, at in conn.execute(query)}
