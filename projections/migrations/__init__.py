"""Schema changes of all three metadata, one Alembic branch each: ``system``, ``projections``, ``outbox``."""
