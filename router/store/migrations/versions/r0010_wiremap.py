"""The wiremap: access points and switch ports, and the places they serve."""

import sqlalchemy as sa
from alembic import op

from router.store.migrations.followed import follow, unfollow

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TEXTS = (
    "bssid chassis port name site zone country state county city pre_directional street street_suffix "
    "post_directional house_number house_number_suffix postal_code building floor unit room landmark additional"
)


def upgrade() -> None:
    """Make the table, and have it followed."""
    op.create_table(
        "wiremap",
        sa.Column("key", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _TEXTS.split()),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_wiremap"),
    )
    follow("wiremap")


def downgrade() -> None:
    """Drop it."""
    unfollow("wiremap")
    op.drop_table("wiremap")
