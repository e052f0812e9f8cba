"""Every migration with data in the tables: from the very first schema on, what people entered comes through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, MetaData, select, text

from e911.location import DeviceKind
from router.store.devices import all_devices, changes_since, current_revision, upsert_devices
from router.store.engine import create_store_engine, migrate, parse_url, reading, sqlite_path, writing
from router.store.followed import revisions_of
from router.store.migration import NEWEST_REVISION, revision_heads, upgrade_to
from router.store.outbox import notices_of
from router.store.records import list_calls

VERSIONS = Path(__file__).parents[3] / "router" / "store" / "migrations" / "versions"
DOCUMENT = (
    '{"events":[{"type":"ended","id":"c1","at":1790000000.0,"outcome":"answered","status":200,"route":"primary"}]}'
)
OF_0001 = (
    "INSERT INTO devices (device, name, site, city, latitude, longitude, updated_at) "
    "VALUES ('4101', 'Réception', 'hq', 'Montréal', 45.5, -73.56, 1790000000)",
    "INSERT INTO devices (device, name, callback, updated_at) VALUES ('alice@example.com', '', '+12125550142', 7)",
    "INSERT INTO device_changes (device) VALUES ('4101')",
    "INSERT INTO device_changes (device) VALUES ('alice@example.com')",
)
OF_0002 = (
    "INSERT INTO calls (id, node, kind, site, started_at, outcome, status, document) "
    f"VALUES ('c1', 'hq-1', 'emergency', 'hq', 1790000000, 'answered', 200, '{DOCUMENT}')",
    "INSERT INTO outbox (call, kind, contact, channel, node, site, state, attempts, queued_at, subject, body) "
    "VALUES ('c1', 'call', 'desk', 0, 'hq-1', 'hq', 'delivered', 1, 1790000000, '911', 'Salle 3')",
    "INSERT INTO journal_cursors (node, segment, \"offset\") VALUES ('hq-1', 1790000000000000, 512)",
)
OF_0003 = (
    "INSERT INTO folds (call, kind, contact, node, site, at, calls) "
    "VALUES ('c1', 'call', 'desk', 'hq-1', 'hq', 1790000000, '\nc1\nc2\n')",
)
OF_0004 = ("INSERT INTO devices (device, name, updated_at) VALUES ('4102', 'Lobby', 8)",)
OF_0005 = (
    "INSERT INTO nodes (name, started_at, seen_at) VALUES ('hq-1', 1, 2)",
    "INSERT INTO leases (number, caller, kind, since, until, document) "
    "VALUES ('+12125550191', '4101', 'elin', 1, 2, '{}')",
)
OF_REFERENCES = ("INSERT INTO location_references (key, call, expires_at, documents) VALUES ('k', 'c1', 9, '{}')",)
OF_DEVICE_FIELDS = (
    "INSERT INTO devices (device, mac, expires_at, updated_at) VALUES ('4103', '000b821a2b3c', 9, 8)",
)
OF_CONSOLE = (
    "INSERT INTO users (username, role, sites, created_at) VALUES ('alice', 'engineer', 'hq', 9)",
    "INSERT INTO sessions (id, username, created_at, seen_at, expires_at) VALUES ('s', 'alice', 9, 9, 10)",
    "INSERT INTO api_tokens (id, name, role, sites, created_at) VALUES ('1a2b3c4d', 'crm', 'read', '*', 9)",
    "INSERT INTO audit (at, who, via, action, subject, site) VALUES (9, 'al', 'cli', 'create', 'device:1', 'hq')",
)
OF_WIREMAP = (
    "INSERT INTO wiremap (key, bssid, site, room, updated_at) "
    "VALUES ('bssid 001b2c3d4e50', '001b2c3d4e50', 'hq', '3', 1)",
)
OF_ALI = (
    "INSERT INTO ali_records (number, accepted, state, updated_at) VALUES ('2125550142', '{}', 'active', 9)",
    "INSERT INTO ali_cycles (company, accepted, sent) VALUES ('Example', 1, 1)",
)
OF_PROVISIONING = (
    "INSERT INTO provisioning (target, device, state, next_at, updated_at) VALUES ('crm', '4101', 'active', 1, 2)",
    "INSERT INTO provisioning_cursors (target, revision) VALUES ('crm', 1)",
)
OF_PHONES = (
    "INSERT INTO seen_phones (phone, user_agent, first_seen, last_seen) VALUES ('4109@pbx', 'x', 1, 2)",
    "INSERT INTO phone_networks (device, network, location_at) VALUES ('4101', '192.0.2.0/24', 1)",
)
ROWS = {
    "0001": OF_0001,
    "0002": OF_0002,
    "0003": OF_0003,
    "0004": OF_0004,
    "0005": OF_0005,
    "0007": OF_REFERENCES,
    "0008": OF_DEVICE_FIELDS,
    "0009": OF_CONSOLE,
    "0010": OF_WIREMAP,
    "0012": OF_ALI,
    "0015": OF_PROVISIONING,
    "0016": OF_PHONES,
    "0017": ("INSERT INTO watches (call, node, at, data) VALUES ('c1', 'hq-1', 1, '{}')",),
    "0018": (
        "INSERT INTO users (username, source, created_at) VALUES ('olga', 'oidc', 1), ('otto', 'oidc', 1)",
        "UPDATE users SET issuer = 'https://login.example.com', subject = '1' WHERE username = 'otto'",
    ),
}
"""What each schema could hold that the one before could not. A later revision that adds a table adds a line."""


@pytest.fixture
def engine(new_store_url: str) -> Iterator[Engine]:
    """An empty database, without any schema."""
    path = sqlite_path(new_store_url)
    if path is not None:
        path.parent.mkdir(parents=True)
    made = create_store_engine(str(parse_url(new_store_url).render_as_string(hide_password=False)))
    yield made
    made.dispose()


def fill(engine: Engine, revision: str) -> None:
    with writing(engine) as conn:
        for statement in ROWS[revision]:
            conn.execute(text(statement.replace(":", r"\:")))


def test_rows_of_the_first_schema_come_through_every_migration_one_by_one(engine: Engine) -> None:
    for revision in sorted(ROWS):
        upgrade_to(engine, revision)
        fill(engine, revision)
    migrate(engine)
    assert revision_heads() == (NEWEST_REVISION,)
    with reading(engine) as conn:
        found = {device.device: device for device in all_devices(conn)}
        assert found.keys() == {"4101", "4102", "4103", "alice@example.com"}
        assert (found["4101"].name, found["4101"].civic.city, found["4101"].site) == ("Réception", "Montréal", "hq")
        assert found["4101"].point is not None
        assert found["alice@example.com"].callback == "+12125550142"
        assert all(device.kind is DeviceKind.FIXED for device in found.values())
        assert (found["4103"].mac, found["4103"].expires_at, found["4101"].confirmed_at) == ("000b821a2b3c", 9.0, 0.0)
        assert current_revision(conn) >= 4
        assert [call.id for call in list_calls(conn)] == ["c1"]
        (notice,) = notices_of(conn, "c1")[:1]
        assert (notice.contact, notice.body) == ("desk", "Salle 3")
        assert conn.execute(text("SELECT number FROM leases")).scalar_one() == "+12125550191"


@pytest.mark.parametrize("revision", sorted(ROWS))
def test_a_database_of_any_revision_is_brought_to_the_newest_and_used(engine: Engine, revision: str) -> None:
    for step in sorted(ROWS):
        if step <= revision:
            upgrade_to(engine, step)
            fill(engine, step)
    migrate(engine)
    with writing(engine) as conn:
        before = current_revision(conn)
        counted = revisions_of(conn)["leases"]
        upsert_devices(conn, [{"device": "4101", "name": "Front"}])
        conn.execute(text("DELETE FROM leases"))
        conn.execute(
            text("INSERT INTO leases (number, caller, since, until, document) VALUES ('+1', 'x', 1, 2, '{}')")
        )
        _, changed, removed = changes_since(conn, before)
        assert [device.name for device in changed] == ["Front"]
        assert removed == []
        assert revisions_of(conn)["leases"] > counted


def revisions() -> list[str]:
    """Every revision, the first one first."""
    return sorted(path.name[1:5] for path in VERSIONS.glob("r[0-9]*.py"))


def test_the_revisions_are_one_chain_to_the_newest() -> None:
    found = revisions()
    assert found == [f"{number:04d}" for number in range(1, len(found) + 1)]
    assert found[-1] == NEWEST_REVISION


def a_value(column: Column[Any], revision: str) -> Any:
    """Something that fits the column, other in each revision."""
    kind = column.type.python_type
    if kind is str:
        return f"{column.name} of {revision}: é, ß, '"
    if kind is bytes:
        return f"{column.name} {revision}".encode()
    return kind(int(revision) * 10)


def put_rows(engine: Engine, revision: str) -> list[tuple[str, dict[str, Any]]]:
    """A row in every table that there is in this revision; table and what was put."""
    tables = MetaData()
    tables.reflect(engine)
    put = []
    with writing(engine) as conn:
        for table in tables.sorted_tables:
            if table.name in ("alembic_version", "table_revisions", "device_changes"):
                continue
            numbered = len(table.primary_key) == 1
            row = {
                column.name: a_value(column, revision)
                for column in table.columns
                if not (numbered and column.primary_key and column.type.python_type is int)
            }
            conn.execute(table.insert(), [row])
            put.append((table.name, row))
    return put


@pytest.mark.long
def test_a_row_put_into_any_table_in_any_revision_is_there_in_the_newest(engine: Engine) -> None:
    put = []
    for revision in revisions():
        upgrade_to(engine, revision)
        put += put_rows(engine, revision)
    tables = MetaData()
    tables.reflect(engine)
    with reading(engine) as conn:
        for name, row in put:
            found = [dict(one._mapping) for one in conn.execute(select(tables.tables[name]))]
            assert any(row.items() <= one.items() for one in found), (name, row)
