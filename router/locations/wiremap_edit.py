"""Changing the wiremap, for commands and the API alike: what fits, and the audit trail."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from e911.wiremap import WiremapEntry
from router.store.audit import Author, Change, differences, record_changes
from router.store.wiremap import columns_of


def write_trail(
    conn: Connection, author: Author, before: Mapping[str, WiremapEntry], after: Mapping[str, WiremapEntry]
) -> None:
    """Into the audit trail, in the transaction of the change: who changed which rows, from what to what."""
    record_changes(conn, author, _changes(before, after))


def _changes(before: Mapping[str, WiremapEntry], after: Mapping[str, WiremapEntry]) -> Iterable[Change]:
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        was, became = differences(columns_of(old) if old else {}, columns_of(new) if new else {})
        if was or became:
            action = "create" if old is None else "remove" if new is None else "change"
            site = new.site if new is not None else old.site if old is not None else ""
            yield Change(action=action, subject=f"wiremap:{key}", before=was, after=became, site=site)
