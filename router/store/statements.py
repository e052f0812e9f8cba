"""INSERT statements as text, made once for each table and database, for many rows at once.

SQLAlchemy's constructs for `ON CONFLICT` cost more to build, for every batch anew, than the rows do to write.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table


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
