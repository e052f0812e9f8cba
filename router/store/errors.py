"""What can be wrong with the database, each with a reason name and its remedy."""

import sqlite3
import sys
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

if TYPE_CHECKING:
    import psycopg

_REMEDIES: Final[dict[str, str]] = {
    "database-url-invalid": "write sqlite:///FILE or postgresql://USER@HOST/DATABASE at locations.database",
    "database-missing": "`edge911 locations import FILE.csv` makes a new SQLite file; "
    "a PostgreSQL database is made with `createdb`; a lost one is restored from its backup",
    "database-locked": "another program holds it; find that program and end its transaction, then try again",
    "database-corrupt": "move the file away and restore a backup, or import the locations anew",
    "database-unreachable": "check that the server runs, and its host and port in locations.database",
    "database-access-denied": "give the user edge911 runs as the right to read and write it, folder included",
    "database-full": "make room on its disk",
    "database-busy": "the server takes no more connections; raise its max_connections or close some",
    "database-not-migrated": "`edge911 locations list` brings it up to date",
    "database-newer": "it was made by a newer edge911; install that version here, or restore an older backup",
    "database-error": "see the message",
}

_SQLITE_REASONS: Final[dict[int, str]] = {
    sqlite3.SQLITE_BUSY: "database-locked",
    sqlite3.SQLITE_LOCKED: "database-locked",
    sqlite3.SQLITE_CORRUPT: "database-corrupt",
    sqlite3.SQLITE_NOTADB: "database-corrupt",
    sqlite3.SQLITE_CANTOPEN: "database-missing",
    sqlite3.SQLITE_PERM: "database-access-denied",
    sqlite3.SQLITE_READONLY: "database-access-denied",
    sqlite3.SQLITE_AUTH: "database-access-denied",
    sqlite3.SQLITE_FULL: "database-full",
    sqlite3.SQLITE_IOERR: "database-unreachable",
}

_SQLSTATE_REASONS: Final[tuple[tuple[str, str], ...]] = (
    ("3D000", "database-missing"),
    ("28", "database-access-denied"),
    ("42501", "database-access-denied"),
    ("42P01", "database-not-migrated"),
    ("42703", "database-not-migrated"),
    ("55P03", "database-locked"),
    ("57014", "database-locked"),
    ("40", "database-locked"),
    ("53100", "database-full"),
    ("53", "database-busy"),
    ("XX00", "database-corrupt"),
    ("57P", "database-unreachable"),
    ("08", "database-unreachable"),
)
"""Beginnings of SQLSTATE codes (PostgreSQL appendix A), the first that fits counts."""


class StoreError(Exception):
    """The store cannot be used: `reason` is a name such as `database-locked`, `remedy` says what to do."""

    def __init__(self, reason: str, remedy: str = "", *, database: str = "", detail: str = "") -> None:
        self.reason = reason
        self.remedy = remedy or _REMEDIES.get(reason, "")
        self.database = database
        self.detail = detail
        text = ": ".join(part for part in (database, reason, detail) if part)
        super().__init__(f"{text} ({self.remedy})" if self.remedy else text)


def database_name(url: URL) -> str:
    """The database as people are told it: never with its password."""
    return url.render_as_string(hide_password=True)


def store_error(error: Exception, url: URL) -> StoreError:
    """The StoreError that says what `error`, raised by SQLAlchemy or the driver below it, means."""
    if isinstance(error, StoreError):
        return error
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    detail = " ".join(str(original).split())[:300]
    return StoreError(_reason(original), database=database_name(url), detail=detail)


def _reason(error: BaseException) -> str:
    if isinstance(error, sqlite3.Error):
        return _sqlite_reason(error)
    if "psycopg" in sys.modules:  # only where a PostgreSQL database is in use: importing it takes a while
        import psycopg

        if isinstance(error, psycopg.Error):
            return _postgresql_reason(error)
    if isinstance(error, PoolTimeout):
        return "database-busy"
    if isinstance(error, PermissionError):
        return "database-access-denied"
    if isinstance(error, OSError):
        return "database-unreachable"
    return "database-error"


def _sqlite_reason(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "database-error"
    if "no such table" in str(error) or "no such column" in str(error):
        return "database-not-migrated"
    return _SQLITE_REASONS.get(code & 0xFF, "database-error")  # the low byte is the primary code


def _postgresql_reason(error: "psycopg.Error") -> str:
    import psycopg

    state = error.sqlstate
    if state is not None:
        fitting = (reason for start, reason in _SQLSTATE_REASONS if state.startswith(start))
        return next(fitting, "database-error")
    # libpq gives no SQLSTATE for a connection that did not come about, only the server's words.
    text = str(error)
    if "authentication failed" in text or "pg_hba.conf" in text:
        return "database-access-denied"
    if 'database "' in text and "does not exist" in text:
        return "database-missing"
    if "too many clients" in text or "too many connections" in text:
        return "database-busy"
    if isinstance(error, psycopg.OperationalError):
        return "database-unreachable"
    return "database-error"
