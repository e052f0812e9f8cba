"""SIP messages of emergency and test calls, kept for the console."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "call_messages",
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("sent", sa.Boolean, nullable=False),
        sa.Column("transport", sa.Text, nullable=False),
        sa.Column("source_host", sa.Text, nullable=False),
        sa.Column("source_port", sa.Integer, nullable=False),
        sa.Column("destination_host", sa.Text, nullable=False),
        sa.Column("destination_port", sa.Integer, nullable=False),
        sa.Column("trunk", sa.Text, nullable=False, server_default=""),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "node", "number", name="pk_call_messages"),
    )
    op.create_index("ix_call_messages_at", "call_messages", ["at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_call_messages_at", table_name="call_messages")
    op.drop_table("call_messages")
