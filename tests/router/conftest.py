"""Fixtures for the tests of router/."""

from tests.support.postgres import postgresql_database, postgresql_server, store_url

__all__ = ["postgresql_database", "postgresql_server", "store_url"]
