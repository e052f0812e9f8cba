"""Fixtures for the tests of router/."""

from tests.support.postgres import (
    new_postgresql_database,
    new_store_url,
    postgresql_database,
    postgresql_server,
    postgresql_template,
    sqlite_template,
    store_url,
)

__all__ = [
    "new_postgresql_database",
    "new_store_url",
    "postgresql_database",
    "postgresql_server",
    "postgresql_template",
    "sqlite_template",
    "store_url",
]
