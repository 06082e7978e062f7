"""Call-backs, and waits for them."""

import sqlalchemy as sa
from alembic import op

revision = "projections_0003"
down_revision = "projections_0002"
branch_labels = None
depends_on = None

_TABLE = "webhook_schedule"
_INDEXES = {
    "ix_webhook_schedule_call_back": (["gate"], "substr(gate, 1, 10) = 'call_back|'"),
    "ix_webhook_schedule_called_back": (
        ["created_at", "schedule_id"],
        "dispatched_at IS NULL AND closed_at IS NULL AND call_back_id IS NOT NULL",
    ),
}
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table, and which wait has got which call-back."""
    op.create_table(
        "webhook_call_backs",
        sa.Column("received_at", _INSTANT, primary_key=True),
        sa.Column("call_back_id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("gate", sa.String(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.String()),
        sa.Column("recorded_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_webhook_call_backs_gate", "webhook_call_backs", ["gate", "received_at", "call_back_id"])
    op.create_index("ix_webhook_call_backs_call_back_id", "webhook_call_backs", ["call_back_id"])
    op.add_column(_TABLE, sa.Column("call_back_id", sa.String()))
    for name, (columns, condition) in _INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, _TABLE, columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Back to waits for a time alone."""
    for name in _INDEXES:
        op.drop_index(name, _TABLE)
    op.drop_column(_TABLE, "call_back_id")
    op.drop_table("webhook_call_backs")
