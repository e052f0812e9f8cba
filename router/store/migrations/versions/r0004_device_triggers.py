"""Every change of a device is logged by the database itself, whichever program makes it.

Kept beside the trigger: the last 100,000 changes. On PostgreSQL writers take turns (an advisory lock until their
transaction ends), so that changes become visible in the order of their numbers, and the functions run as their owner,
so that a program needs no right but that on `devices`.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEPT = 100_000

_SQLITE_TRIM = f"DELETE FROM device_changes WHERE revision <= last_insert_rowid() - {_KEPT};"
_SQLITE = (
    f"""CREATE TRIGGER devices_added AFTER INSERT ON devices BEGIN
        INSERT INTO device_changes (device) VALUES (NEW.device);
        {_SQLITE_TRIM}
    END""",
    f"""CREATE TRIGGER devices_changed AFTER UPDATE ON devices BEGIN
        INSERT INTO device_changes (device) SELECT OLD.device WHERE OLD.device <> NEW.device;
        INSERT INTO device_changes (device) VALUES (NEW.device);
        {_SQLITE_TRIM}
    END""",
    f"""CREATE TRIGGER devices_removed AFTER DELETE ON devices BEGIN
        INSERT INTO device_changes (device) VALUES (OLD.device);
        {_SQLITE_TRIM}
    END""",
)
_POSTGRESQL = (
    """CREATE FUNCTION devices_take_turn() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(911000002);
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO device_changes (device) SELECT device FROM devices;
        END IF;
        RETURN NULL;
    END $$""",
    f"""CREATE FUNCTION devices_log_changes() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO device_changes (device) SELECT device FROM after_it;
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO device_changes (device) SELECT device FROM before_it;
        ELSE
            INSERT INTO device_changes (device) SELECT device FROM before_it UNION SELECT device FROM after_it;
        END IF;
        DELETE FROM device_changes WHERE revision <= (SELECT max(revision) FROM device_changes) - {_KEPT};
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER devices_turn BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON devices
    FOR EACH STATEMENT EXECUTE FUNCTION devices_take_turn()""",
    """CREATE TRIGGER devices_added AFTER INSERT ON devices
    REFERENCING NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION devices_log_changes()""",
    """CREATE TRIGGER devices_changed AFTER UPDATE ON devices
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION devices_log_changes()""",
    """CREATE TRIGGER devices_removed AFTER DELETE ON devices
    REFERENCING OLD TABLE AS before_it FOR EACH STATEMENT EXECUTE FUNCTION devices_log_changes()""",
)


def upgrade() -> None:
    """Make the triggers."""
    for statement in _POSTGRESQL if _is_postgresql() else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    for name in ("devices_added", "devices_changed", "devices_removed"):
        op.execute(f"DROP TRIGGER {name}" + (" ON devices" if _is_postgresql() else ""))
    if _is_postgresql():
        op.execute("DROP TRIGGER devices_turn ON devices")
        op.execute("DROP FUNCTION devices_log_changes, devices_take_turn")


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"
