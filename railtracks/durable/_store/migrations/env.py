"""What alembic runs: the revisions, on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from railtracks.durable._store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="railtracks_version",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
