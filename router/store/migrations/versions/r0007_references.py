"""What location references stand for, for every node that shares the database."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "location_references",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("documents", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_location_references"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("location_references")
