"""ALI records: what the database operator has, and what was sent to it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "ali_records",
        sa.Column("number", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("accepted", "sent", "function", "state", "words")
        ),
        sa.Column("cycle", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ported", sa.Text, nullable=False, server_default=""),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_ali_records"),
    )
    op.create_table(
        "ali_cycles",
        sa.Column("company", sa.Text, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("sent_at", sa.Double),
        sa.PrimaryKeyConstraint("company", name="pk_ali_cycles"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("ali_cycles")
    op.drop_table("ali_records")
