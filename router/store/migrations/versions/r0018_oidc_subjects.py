"""Users of another system are known by its `sub`, and no longer by a name that it may give to somebody else."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMNS = ("issuer", "subject")


def upgrade() -> None:
    """Add the columns; who is there already is bound at the next login."""
    for name in _COLUMNS:
        op.add_column("users", sa.Column(name, sa.Text, nullable=False, server_default=""))
    is_bound = sa.text("subject <> ''")
    op.create_index(
        "ix_users_subject", "users", list(_COLUMNS), unique=True, sqlite_where=is_bound, postgresql_where=is_bound
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_users_subject", "users")
    with op.batch_alter_table("users") as batch:
        for name in _COLUMNS:
            batch.drop_column(name)
