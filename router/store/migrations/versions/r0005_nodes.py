"""The nodes that share a database, the leases of callback numbers, and tables whose changes are followed.

Listeners on PostgreSQL also hear of devices at once.
"""

import sqlalchemy as sa
from alembic import op

from router.store.followed import CHANNEL
from router.store.migrations.followed import drop_revisions, follow, is_postgresql, make_revisions, unfollow

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make tables and triggers."""
    op.create_table(
        "table_revisions",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_table_revisions"),
    )
    make_revisions()
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
    op.create_table(
        "leases",
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("kind", "pool", "site", "zone", "call", "node")
        ),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("released_at", sa.Double),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", "caller", name="pk_leases"),
    )
    op.create_index("ix_leases_until", "leases", ["until"])
    follow("leases")
    if is_postgresql():
        op.execute(
            f"""CREATE FUNCTION devices_tell() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_notify('{CHANNEL}', 'devices');
                RETURN NULL;
            END $$"""
        )
        op.execute(
            "CREATE TRIGGER devices_told AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON devices "
            "FOR EACH STATEMENT EXECUTE FUNCTION devices_tell()"
        )


def downgrade() -> None:
    """Drop them."""
    if is_postgresql():
        op.execute("DROP TRIGGER devices_told ON devices")
        op.execute("DROP FUNCTION devices_tell()")
    unfollow("leases")
    op.drop_index("ix_leases_until", table_name="leases")
    op.drop_table("leases")
    op.drop_table("nodes")
    drop_revisions()
    op.drop_table("table_revisions")
