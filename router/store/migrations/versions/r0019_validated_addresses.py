"""What the location validation function said of the addresses of sites, for calls and pages alike."""

import sqlalchemy as sa
from alembic import op

from router.store.migrations.followed import follow, unfollow

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLE = "validated_addresses"


def upgrade() -> None:
    """Make the table, and have it followed."""
    op.create_table(
        TABLE,
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("validation", sa.Text, nullable=False),
        sa.Column("validated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("address", name="pk_validated_addresses"),
    )
    follow(TABLE)


def downgrade() -> None:
    """Drop it."""
    unfollow(TABLE)
    op.drop_table(TABLE)
