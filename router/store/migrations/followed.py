"""Following a table: the database itself counts its changes, and tells those who listen (for migrations).

Each change of a followed table, whichever program makes it, raises its number in `table_revisions` in the same
transaction; PostgreSQL also sends its name on the channel CHANNEL when that transaction is committed.
"""

from alembic import op

from router.store.followed import CHANNEL


def make_revisions() -> None:
    """What `follow` needs; once, by the migration that makes the table `table_revisions`."""
    if is_postgresql():
        op.execute(
            f"""CREATE FUNCTION note_table_change() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path FROM CURRENT AS $$
            BEGIN
                UPDATE table_revisions SET revision = revision + 1 WHERE name = TG_TABLE_NAME;
                PERFORM pg_notify('{CHANNEL}', TG_TABLE_NAME);
                RETURN NULL;
            END $$"""
        )


def drop_revisions() -> None:
    """The opposite of `make_revisions`; nothing may be followed any more."""
    if is_postgresql():
        op.execute("DROP FUNCTION note_table_change()")


def follow(table: str) -> None:
    """Count the changes of `table` from now on, and tell of them."""
    op.execute(f"INSERT INTO table_revisions (name, revision) VALUES ('{table}', 1)")
    if is_postgresql():
        op.execute(
            f"CREATE TRIGGER {table}_followed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION note_table_change()"
        )
        return
    for event in ("insert", "update", "delete"):
        op.execute(
            f"CREATE TRIGGER {table}_followed_{event} AFTER {event.upper()} ON {table} BEGIN "
            f"UPDATE table_revisions SET revision = revision + 1 WHERE name = '{table}'; END"
        )


def unfollow(table: str) -> None:
    """The opposite of `follow`."""
    if is_postgresql():
        op.execute(f"DROP TRIGGER {table}_followed ON {table}")
    else:
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER {table}_followed_{event}")
    op.execute(f"DELETE FROM table_revisions WHERE name = '{table}'")


def is_postgresql() -> bool:
    """Which of the two databases is migrated."""
    return op.get_context().dialect.name == "postgresql"
