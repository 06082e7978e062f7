"""Alembic's entry: runs the revisions on the connection that ``projections.migrate`` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True, render_as_batch=False)
with context.begin_transaction():
    context.run_migrations()
