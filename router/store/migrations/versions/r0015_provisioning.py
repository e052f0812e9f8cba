"""Provisioning: what each provider was told of each device, and the ids it knows them by."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TEXTS = (
    "action",
    "state",
    "wanted",
    "document",
    "order_id",
    "location_id",
    "endpoint_id",
    "old_endpoint_id",
    "words",
)
_OF_DEVICES = ("provisioning", "location_id", "endpoint_id")


def upgrade() -> None:
    """Make the tables, add the columns."""
    op.create_table(
        "provisioning",
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in _TEXTS),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("target", "device", name="pk_provisioning"),
    )
    op.create_table(
        "provisioning_cursors",
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("basis", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("target", name="pk_provisioning_cursors"),
    )
    for name in _OF_DEVICES:
        op.add_column("devices", sa.Column(name, sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them."""
    for name in reversed(_OF_DEVICES):
        op.drop_column("devices", name)
    op.drop_table("provisioning_cursors")
    op.drop_table("provisioning")
