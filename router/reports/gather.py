"""What the evidence of a site is made of, read from the database and from what was found for readiness."""

from contextlib import suppress

from config.schema import SiteConfig
from router.notices.outbox import Entry
from router.readiness.look import Look
from router.readiness.phones import SitePhones
from router.records.record import CallSummary
from router.reports.evidence import Evidence
from router.store.engine import open_store, reading
from router.store.errors import StoreError
from router.store.outbox import notices_of
from router.store.records import list_calls
from router.store.self_tests import list_tests

CALLS = 2000
"""Enough that 90 days of nightly tests do not hide the call of a person."""
TOLD_CALLS = 100
"""The newest, whose notices are looked at."""
SELF_TESTS = 1000
"""More than there can be among so many calls."""


def gather(look: Look, site: SiteConfig) -> Evidence:
    """Everything about one site. A database that is away leaves calls and notices out."""
    calls: list[CallSummary] = []
    notices: list[Entry] = []
    self_placed: frozenset[str] = frozenset()
    with suppress(StoreError):
        engine = open_store(look.loaded.database_url, create=False)
        try:
            with reading(engine) as conn:
                calls = list_calls(conn, limit=CALLS, site=site.id)
                notices = [notice for call in calls[:TOLD_CALLS] for notice in notices_of(conn, call.id)]
                self_placed = frozenset(test.call for test in list_tests(conn, site=site.id, limit=SELF_TESTS))
        finally:
            engine.dispose()
    phones = next((one for one in look.phones if one.site == site.id), SitePhones(site=site.id))
    return Evidence(
        now=look.now,
        config=look.loaded.config,
        site=site,
        phones=phones,
        calls=calls,
        notices=notices,
        proven=look.proven,
        tests=look.tests,
        self_placed=self_placed,
        tested_elsewhere=look.tested_elsewhere,
        tested_otherwise=look.tested_otherwise,
    )
