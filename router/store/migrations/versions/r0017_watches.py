"""Which calls a node watches: who is told when nobody acknowledges, so that another node can go on when it dies."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "watches",
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("taken_from", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("call", name="pk_watches"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("watches")
