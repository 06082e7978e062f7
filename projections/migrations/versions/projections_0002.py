"""What holds a wait back beside its time: lanes with the order in them, and gates."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0002"
down_revision = "projections_0001"
branch_labels = None
depends_on = None

_TABLE = "webhook_schedule"
_OPEN = "dispatched_at IS NULL AND closed_at IS NULL"
_INDEXES = {
    "ix_webhook_schedule_due": (["due_at", "schedule_id"], f"{_OPEN} AND held_by IS NULL"),
    "ix_webhook_schedule_held": (
        ["held_by", "created_at", "log_offset"],
        f"{_OPEN} AND held_by IS NOT NULL AND lane IS NULL",
    ),
    "ix_webhook_schedule_released": (["gate"], "gate IS NOT NULL AND dispatched_at IS NOT NULL AND closed_at IS NULL"),
    "ix_webhook_schedule_lane": (["lane", "run", "log_offset"], "lane IS NOT NULL AND closed_at IS NULL"),
    "ix_webhook_schedule_first": (["lane"], "lane IS NOT NULL AND held_by IS NULL AND kind <> 'cancelled'"),
}


def _create_index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, _TABLE, columns, postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    """Add the columns, and indexes with which nobody has to look at what cannot go."""
    op.add_column(_TABLE, sa.Column("log_offset", sa.BigInteger()))
    op.add_column(_TABLE, sa.Column("held_by", sa.String()))
    op.drop_index("ix_webhook_schedule_due", _TABLE)
    for name, (columns, condition) in _INDEXES.items():
        _create_index(name, columns, condition)


def downgrade() -> None:
    """Back to due times alone."""
    for name in _INDEXES:
        op.drop_index(name, _TABLE)
    op.drop_column(_TABLE, "held_by")
    op.drop_column(_TABLE, "log_offset")
    _create_index("ix_webhook_schedule_due", ["due_at", "schedule_id"], _OPEN)
