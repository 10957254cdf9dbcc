"""Alembic's entry: runs on the connection that the store hands it, in the store's transaction."""

from alembic import context

from heteroscale_coordinator.edge.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
