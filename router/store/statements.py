"""INSERT and UPDATE as text, made once for each table and database, for many rows at once.

SQLAlchemy's constructs for `ON CONFLICT` cost more to build, for every batch anew, than the rows do to write.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql


def insert_new(conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert rows (a value for each column, in the table's order) whose key is not there; how many were not."""
    if not rows:
        return 0
    statement = _insert(table, conn.dialect.name, overwrite=False)
    conn = conn.execution_options(preserve_rowcount=True)
    return conn.exec_driver_sql(statement, list(rows)).rowcount


def insert_or_overwrite(
    conn: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, where_same: str = "", keep: str = ""
) -> None:
    """Insert rows (a value for each column, in the table's order), over those that have the same key; with
    `where_same` only over those with the same value in that column, and without touching the column `keep`."""
    if rows:
        conn.exec_driver_sql(
            _insert(table, conn.dialect.name, overwrite=True, where_same=where_same, keep=keep), list(rows)
        )


@cache
def _insert(table: Table, dialect: str, *, overwrite: bool, where_same: str = "", keep: str = "") -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    names = [f'"{column.name}"' for column in table.columns]
    key = [f'"{column.name}"' for column in table.primary_key.columns]
    others = [f"{name} = excluded.{name}" for name in names if name not in (*key, f'"{keep}"')]
    action = f"DO UPDATE SET {', '.join(others)}" if overwrite else "DO NOTHING"
    if where_same:
        action += f' WHERE "{table.name}"."{where_same}" = excluded."{where_same}"'
    return (
        f'INSERT INTO "{table.name}" ({", ".join(names)}) VALUES ({", ".join([mark] * len(names))}) '
        f"ON CONFLICT ({', '.join(key)}) {action}"
    )


_ROWS = 500
"""Rows of one statement on PostgreSQL, where each statement costs its triggers and a round trip; their values must
stay below 65,535, the most parameters that its protocol takes."""


def insert_rows(conn: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows: a value for each of the columns `names`."""
    _execute_rows(conn, _insert_rows, table, tuple(names), rows)


def update_rows(conn: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Update rows by their key, the first of the columns `names`; a key that is not there is passed over."""
    _execute_rows(conn, _update_rows, table, tuple(names), rows)


def _execute_rows(
    conn: Connection,
    statement: Callable[[Table, str, tuple[str, ...], int], str],
    table: Table,
    names: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    if not rows:
        return
    if conn.dialect.name == "sqlite":
        if statement is _update_rows:
            rows = [(*row[1:], row[0]) for row in rows]
        conn.exec_driver_sql(statement(table, "sqlite", names, 1), list(rows))
        return
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        values = tuple(value for row in some for value in row)
        conn.exec_driver_sql(statement(table, conn.dialect.name, names, len(some)), values)


@cache
def _insert_rows(table: Table, dialect: str, names: tuple[str, ...], count: int) -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    row = f"({', '.join([mark] * len(names))})"
    columns = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES {", ".join([row] * count)}'


@cache
def _update_rows(table: Table, dialect: str, names: tuple[str, ...], count: int) -> str:
    key, *others = names
    if dialect == "sqlite":
        given = ", ".join(f'"{name}" = ?' for name in others)
        return f'UPDATE "{table.name}" SET {given} WHERE "{key}" = ?'
    # Values in a list of their own have no types but those that we say.
    kinds = [table.c[name].type.compile(postgresql.dialect()) for name in names]  # type: ignore[no-untyped-call]
    row = f"({', '.join(f'CAST(%s AS {kind})' for kind in kinds)})"
    given = ", ".join(f'"{name}" = given."{name}"' for name in others)
    columns = ", ".join(f'"{name}"' for name in names)
    return (
        f'UPDATE "{table.name}" SET {given} FROM (VALUES {", ".join([row] * count)}) AS given ({columns}) '
        f'WHERE "{table.name}"."{key}" = given."{key}"'
    )
