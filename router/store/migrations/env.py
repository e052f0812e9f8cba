"""Run by Alembic: the migrations, on the connection and in the transaction of router.store.migration."""

from alembic import context

from router.store.metadata import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
