"""Waits for events alike, found by what they are alike in, in the order in which they came."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0006"
down_revision = "projections_0005"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ix_webhook_schedule_coalesce", "webhook_schedule"


def upgrade() -> None:
    """Add the index."""
    where = sa.text("substr(gate, 1, 9) = 'coalesce|'")
    op.create_index(_NAME, _TABLE, ["gate", "log_offset"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Drop it."""
    op.drop_index(_NAME, _TABLE)
