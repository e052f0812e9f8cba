"""What the INVITE of a test call was made of, so that a test of how it was before proves nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: empty where nobody knows."""
    op.add_column("self_tests", sa.Column("shape", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("self_tests", "shape")
