"""Runs the migrations on the connection that `db.migrate` hands over."""

from alembic import context

from credits_service.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
