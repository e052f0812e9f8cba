"""Who a device is by other names, whose it is, and how far its location is to be relied on."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TEXTS = ("aor", "number", "username", "mac", "language", "email", "elin_zone")
_STATES = ("confirmed_by", "unconfirmed", "validation")
_TIMES = ("confirmed_at", "expires_at", "validated_at", "acknowledged_at")


def upgrade() -> None:
    """Add the columns; a device that is there has none of it, and is fixed where it says no kind."""
    for name in (*_TEXTS, *_STATES):
        op.add_column("devices", sa.Column(name, sa.Text, nullable=False, server_default=""))
    for name in _TIMES:
        op.add_column("devices", sa.Column(name, sa.Double))
    op.execute("UPDATE devices SET kind = 'fixed' WHERE kind = ''")


def downgrade() -> None:
    """Drop them."""
    for name in reversed((*_TEXTS, *_STATES, *_TIMES)):
        op.drop_column("devices", name)
