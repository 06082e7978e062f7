"""Waits behind the one that has their singleton's lane, of which the relay ends all or all but the latest."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0007"
down_revision = "projections_0006"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ix_webhook_schedule_singleton", "webhook_schedule"
_CONDITION = (
    "dispatched_at IS NULL AND closed_at IS NULL AND held_by IS NOT NULL "
    "AND kind IN ('singleton_skip', 'singleton_replace')"
)


def upgrade() -> None:
    """Add the index."""
    where = sa.text(_CONDITION)
    op.create_index(_NAME, _TABLE, ["lane", "log_offset"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_NAME, _TABLE)
