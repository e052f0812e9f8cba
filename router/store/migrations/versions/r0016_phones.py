"""Phones seen without a location, and the networks that locations of phones that move about hold for."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_TEXTS = ("network", "address", "user_agent", "method", "display_name", "node")


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "seen_phones",
        sa.Column("phone", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _TEXTS),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("times", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("phone", name="pk_seen_phones"),
    )
    op.create_table(
        "phone_networks",
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("pending", sa.Text, nullable=False, server_default=""),
        sa.Column("location_at", sa.Double, nullable=False),
        sa.Column("link_sent_at", sa.Double, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("device", name="pk_phone_networks"),
    )


def downgrade() -> None:
    """Drop both."""
    op.drop_table("phone_networks")
    op.drop_table("seen_phones")
