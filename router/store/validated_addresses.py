"""The street addresses of sites, and what the location validation function said of each, in the database.

The table is followed (router.store.followed): readers hear that it changed, and read it whole.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from sqlalchemy import Column, Connection, Double, Table, Text, delete, select

from e911.location import CIVIC_FIELDS, CivicAddress
from e911.lost import Validated
from router.store.engine import rows_of
from router.store.metadata import metadata
from router.store.statements import insert_or_overwrite

TABLE: Final = "validated_addresses"
log = logging.getLogger(__name__)

validated_addresses = Table(
    TABLE,
    metadata,
    Column("address", Text, primary_key=True),
    Column("validation", Text, nullable=False),
    Column("validated_at", Double, nullable=False),
)


def address_rows(conn: Connection) -> list[dict[str, Any]]:
    """Every row as plain data."""
    query = select(validated_addresses).order_by(validated_addresses.c.address)
    return [dict(zip(("address", "validation", "validated_at"), row, strict=True)) for row in rows_of(conn, query)]


def addresses_of(rows: Iterable[Mapping[str, Any]]) -> dict[CivicAddress, Validated]:
    """Rows by address. One that another program wrote and that cannot be read counts as not asked about."""
    found: dict[CivicAddress, Validated] = {}
    for row in rows:
        try:
            civic = CivicAddress(**orjson.loads(row["address"]))
            found[civic] = Validated(str(row["validation"]), float(row["validated_at"]))
        except (TypeError, ValueError):
            log.warning("address-row-unreadable", extra={"event_fields": {"row": str(row["address"])[:200]}})
    return found


def all_addresses(conn: Connection) -> dict[CivicAddress, Validated]:
    """Every address that was asked about."""
    return addresses_of(address_rows(conn))


def keep_addresses(conn: Connection, found: Mapping[CivicAddress, str], at: float) -> None:
    """Keep what was answered at `at` (seconds since 1970), in the place of what was known of these addresses."""
    # In one order: several nodes ask about the same addresses, and none may wait for another that waits for it.
    insert_or_overwrite(conn, validated_addresses, sorted((_text(civic), text, at) for civic, text in found.items()))


def forget_addresses(conn: Connection, before: float) -> None:
    """Forget what was last said before that time (seconds since 1970): addresses that no site has any more."""
    conn.execute(delete(validated_addresses).where(validated_addresses.c.validated_at < before))


def _text(civic: CivicAddress) -> str:
    """The address in one spelling: the fields that are given, in their order."""
    given = {name: value for name in CIVIC_FIELDS if (value := getattr(civic, name))}
    return orjson.dumps(given).decode()
