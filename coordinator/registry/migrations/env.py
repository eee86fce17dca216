"""What Alembic runs: always on a connection that `coordinator.registry.database.migrate` hands over."""

from alembic import context

from coordinator.registry.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=False)
context.run_migrations()
