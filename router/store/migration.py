"""Bringing a database to the newest revision, safely while other processes open the same one.

The migrations are the files in router/store/migrations/versions, found by Alembic; every head is upgraded to.
"""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from router.store.errors import StoreError, database_name, store_error

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

NEWEST_REVISION = "0020"
"""The head of the migrations. A database that is there already needs no Alembic, whose import takes longer than all
else a command does."""
_MIGRATIONS = Path(__file__).with_name("migrations")
_ADVISORY_LOCK = 911_000_001
"""Number of the PostgreSQL advisory lock around a migration: any number, the same in every version."""
_RETRY_AFTER = 0.05
"""Seconds between tries to switch a file to write-ahead logging."""
_ONE_AT_A_TIME = threading.Lock()
"""Alembic's environment is one per process."""
WRITE_OPTION = "edge911_write"
"""Execution option of connections whose transactions take SQLite's write lock at their beginning."""


def migrate(engine: Engine, *, wait: float = 5.0) -> None:
    """Upgrade to the newest revision, in one transaction; does nothing where it is already there.

    One process migrates, others wait for it up to `wait` seconds. Raises StoreError, such as `database-newer`
    where the database is ahead of this program.
    """
    if _is_newest(engine):
        return
    try:
        _migrate(engine, wait)
    except SQLAlchemyError as error:
        raise store_error(error, engine.url) from error


def _is_newest(engine: Engine) -> bool:
    try:
        with engine.connect() as conn:
            return list(conn.execute(text("SELECT version_num FROM alembic_version")).scalars()) == [NEWEST_REVISION]
    except SQLAlchemyError:
        return False  # a new database, or one that is ill: what follows finds out


def _migrate(engine: Engine, wait: float) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config()
    script = ScriptDirectory.from_config(config)
    with engine.connect() as conn:
        if _is_current(conn, script):
            return
    if engine.dialect.name == "sqlite":
        _switch_to_wal(engine, wait)
    with engine.connect() as conn:
        conn = conn.execution_options(**{WRITE_OPTION: True})
        with conn.begin():
            if engine.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            if not _is_current(conn, script):  # another process may have been first
                config.attributes["connection"] = conn
                with _ONE_AT_A_TIME:
                    command.upgrade(config, "heads")


def upgrade_to(engine: Engine, revision: str) -> None:
    """Upgrade to a revision and no further, for tests of the migrations. Raises SQLAlchemyError."""
    from alembic import command

    config = _config()
    with engine.connect() as conn:
        conn = conn.execution_options(**{WRITE_OPTION: True})
        with conn.begin():
            config.attributes["connection"] = conn
            with _ONE_AT_A_TIME:
                command.upgrade(config, revision)


def revision_heads() -> tuple[str, ...]:
    """The newest revisions this program knows."""
    from alembic.script import ScriptDirectory

    return tuple(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("path_separator", "os")
    # Percent signs are Alembic's interpolation; a folder name may hold one.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _is_current(conn: Connection, script: "ScriptDirectory") -> bool:
    from alembic.runtime.migration import MigrationContext

    found = set(MigrationContext.configure(conn).get_current_heads())
    known = {revision.revision for revision in script.walk_revisions()}
    if unknown := sorted(found - known):
        raise StoreError(
            "database-newer",
            database=database_name(conn.engine.url),
            detail=f"its revision {', '.join(unknown)} is not known to this version",
        )
    return found == set(script.get_heads())


def _switch_to_wal(engine: Engine, wait: float) -> None:
    """Set write-ahead logging, which the file keeps. SQLite's busy timeout does not cover this switch."""
    deadline = time.monotonic() + wait
    while True:
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:
            found = store_error(error, engine.url)
            if found.reason != "database-locked" or time.monotonic() > deadline:
                raise found from error
        finally:
            connection.close()
        time.sleep(_RETRY_AFTER)
