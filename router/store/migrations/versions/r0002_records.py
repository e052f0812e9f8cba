"""Call records, the outbox of notices, and how far each node's journal has been read into them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "calls",
        sa.Column("id", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("node", "kind", "call_id", "site", "zone", "dialled", "number", "device", "callback")
        ),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False, server_default=""),
        sa.Column("status", sa.Integer, nullable=False, server_default="0"),
        sa.Column("route", sa.Text, nullable=False, server_default=""),
        sa.Column("ended_at", sa.Double),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
    )
    op.create_index("ix_calls_started_at", "calls", ["started_at"])
    op.create_table(
        "outbox",
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("channel", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, nullable=False, server_default=""),
        sa.Column("site", sa.Text, nullable=False, server_default=""),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        *(
            sa.Column(name, sa.Double)
            for name in ("queued_at", "next_attempt_at", "first_attempt_at", "last_attempt_at")
        ),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("reason", "words", "folded_into", "subject", "body")
        ),
        sa.PrimaryKeyConstraint("call", "kind", "contact", "channel", name="pk_outbox"),
    )
    op.create_table(
        "journal_cursors",
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_journal_cursors"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("journal_cursors")
    op.drop_table("outbox")
    op.drop_index("ix_calls_started_at", table_name="calls")
    op.drop_table("calls")
