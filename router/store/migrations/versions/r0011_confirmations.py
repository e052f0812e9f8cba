"""Who saw and acknowledged notices, which channels are proven, and the secret of links in notices."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "confirmations",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("call", "step", "contact")),
        sa.Column("channel", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("how", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("call", "step", "contact", "channel", "by", name="pk_confirmations"),
    )
    op.create_table(
        "channel_proofs",
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("is_delivered", sa.Integer, nullable=False),
        sa.Column("proven_at", sa.Double),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in ("reason", "words", "by", "node")),
        sa.PrimaryKeyConstraint("contact", "channel", name="pk_channel_proofs"),
    )
    op.create_table(
        "shared_secrets",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_shared_secrets"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("shared_secrets")
    op.drop_table("channel_proofs")
    op.drop_table("confirmations")
