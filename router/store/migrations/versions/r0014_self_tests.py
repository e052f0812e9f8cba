"""Test calls placed by edge911 itself."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "self_tests",
        sa.Column("id", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False, server_default="") for name in ("node", "site", "route", "by")),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="")
            for name in ("verdict", "reason", "words", "answered_route", "heard", "call_id", "call")
        ),
        sa.Column("seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("voice_seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("recording", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id", name="pk_self_tests"),
    )
    op.create_index("ix_self_tests_started_at", "self_tests", ["started_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_self_tests_started_at", table_name="self_tests")
    op.drop_table("self_tests")
