"""Which calls a contact was told of in one notice."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "folds",
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("calls", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("call", "kind", "contact", name="pk_folds"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("folds")
