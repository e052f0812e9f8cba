"""The registered devices, and the log of their changes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXTS = (
    *("name", "kind", "callback", "site", "zone"),
    *("country", "state", "county", "city", "pre_directional", "street", "street_suffix", "post_directional"),
    *("house_number", "house_number_suffix", "postal_code"),
    *("building", "floor", "unit", "room", "landmark", "additional"),
)


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "devices",
        sa.Column("device", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _TEXTS),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_devices"),
    )
    op.create_table(
        "device_changes",
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_device_changes"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("device_changes")
    op.drop_table("devices")
