"""Opening the store: an Engine for SQLite (WAL) or PostgreSQL, migrated to the newest revision.

Reading: `with reading(engine) as conn`. Writing: `with writing(engine) as conn`, which takes SQLite's write
lock at once, so that a read followed by a write cannot fail half way with "database is locked". What goes
wrong with the database becomes a StoreError in all three.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Row, Select, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from router.store.errors import StoreError, database_name, store_error
from router.store.migration import WRITE_OPTION, migrate

__all__ = ["StoreError", "create_store_engine", "migrate", "open_store", "reading", "writing"]

WAIT_FOR_LOCK = 5.0
"""Seconds to wait for another program's lock."""
CONNECT_TIMEOUT = 3
"""Seconds for a connection to PostgreSQL (libpq takes whole seconds, 2 at least)."""


def open_store(
    url: str, *, create: bool = True, wait: float = WAIT_FOR_LOCK, longest_pause: float | None = None
) -> Engine:
    """The store at `url` (`sqlite:///FILE` or `postgresql://…`), migrated to the newest revision.

    With `create` the SQLite file and its folder are made where missing. `wait` is in seconds, for locks;
    `longest_pause`: see `create_store_engine`.
    Raises StoreError. The caller disposes of the engine.
    """
    engine = create_store_engine(url, wait=wait, longest_pause=longest_pause)
    try:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite_file(engine.url, create=create)
        migrate(engine, wait=wait)
    except (SQLAlchemyError, OSError, StoreError) as error:
        engine.dispose()
        raise store_error(error, engine.url) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def create_store_engine(url: str, *, wait: float = WAIT_FOR_LOCK, longest_pause: float | None = None) -> Engine:
    """An Engine for `url` that has not connected yet. Raises StoreError `database-url-invalid`.

    longest_pause: a transaction that does nothing for so many seconds is ended by PostgreSQL, and its locks with it:
    this machine may have stopped in the middle of it.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": wait})
        event.listen(engine, "connect", _prepare_sqlite_connection)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "handle_error", _take_any_text)
        return engine
    engine = create_engine(
        parsed,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "edge911",
            # A server that went away without a word is noticed in seconds, not in the system's two hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5000,
        },
    )

    def set_lock_timeout(connection: Any, _record: object) -> None:
        connection.execute(f"SET lock_timeout = {int(wait * 1000)}")
        if longest_pause is not None:
            connection.execute(f"SET idle_in_transaction_session_timeout = {int(longest_pause * 1000)}")
        connection.commit()

    event.listen(engine, "connect", set_lock_timeout)
    return engine


def parse_url(url: str) -> URL:
    """The URL with its driver. Raises StoreError `database-url-invalid`."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("database-url-invalid", detail="not a database URL") from None
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite" if parsed.database and parsed.database != ":memory:":
            return parsed.set(drivername="sqlite+pysqlite")
        case "postgresql" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
    raise StoreError("database-url-invalid", database=database_name(parsed))


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite URL; None for PostgreSQL. Raises StoreError `database-url-invalid`."""
    parsed = parse_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read from; what goes wrong with the database inside becomes a StoreError."""
    try:
        with engine.connect() as conn:
            yield conn
    except SQLAlchemyError as error:
        raise store_error(error, engine.url) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction to write in, committed at the end, undone on any exception.

    On SQLite it has the write lock from the start. What goes wrong with the database becomes a StoreError.
    """
    try:
        with engine.connect() as conn:
            conn = conn.execution_options(**{WRITE_OPTION: True})
            with conn.begin():
                yield conn
    except SQLAlchemyError as error:
        raise store_error(error, engine.url) from error


def _prepare_sqlite_file(url: URL, *, create: bool) -> None:
    path = Path(url.database or "")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It says where people are; SQLite gives its -wal and -shm files the same mode.
        with suppress(OSError):  # one that is there stays as it is; of anything else SQLite says what is wrong
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    elif not path.exists():
        raise StoreError("database-missing", database=database_name(url), detail="no such file")


def _prepare_sqlite_connection(connection: Any, _record: object) -> None:
    # The driver's own transactions begin late and never around DDL; ours begin when we say so, below.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def is_not_utf8(error: DBAPIError) -> bool:
    """True where a row holds text that is not UTF-8 (SQLite takes any). The connection then gives U+FFFD for it, and
    the query may be asked again. Not from the start: to look at each text ourselves takes four times as long."""
    return isinstance(error.orig, sqlite3.Error) and str(error.orig).startswith("Could not decode to UTF-8")


def rows_of(conn: Connection, query: Select[Any]) -> Sequence[Row[Any]]:
    """All rows of a query, also where another program wrote text that is not UTF-8 into one of them."""
    try:
        return conn.execute(query).all()
    except DBAPIError as error:
        if not is_not_utf8(error):
            raise
        return conn.execute(query).all()


def _take_any_text(context: ExceptionContext) -> None:
    error = context.sqlalchemy_exception
    if context.connection is not None and isinstance(error, DBAPIError) and is_not_utf8(error):
        connection: Any = context.connection.connection.dbapi_connection
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")


def _begin_sqlite(conn: Connection) -> None:
    immediate = conn.get_execution_options().get(WRITE_OPTION, False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
