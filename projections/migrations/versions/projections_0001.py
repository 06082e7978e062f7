"""History, attempts, changes, schedule, and the positions they are projected up to."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "projections_0001"
down_revision = None
branch_labels = ("projections",)
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def _continuation() -> list[sa.Column[Any]]:
    return [
        sa.Column("next_topic", sa.String()),
        sa.Column("next_step", sa.Integer()),
        sa.Column("next_attempt", sa.Integer()),
        sa.Column("next_due_at", _INSTANT),
    ]


def _create_events() -> None:
    op.create_table(
        "webhook_events",
        sa.Column("accepted_at", _INSTANT, primary_key=True),
        sa.Column("event_id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("tier", sa.String()),
        sa.Column("endpoint", sa.String()),
        sa.Column("event_type", sa.String()),
        sa.Column("model", sa.String()),
        sa.Column("model_id", sa.String()),
        sa.Column("trigger", sa.String()),
        sa.Column("priority", sa.Integer()),
        sa.Column("delay_s", sa.Integer()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kind_rank", sa.SmallInteger(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("dispatch_seq", sa.Integer(), nullable=False),
        sa.Column("handler", sa.String()),
        sa.Column("payload", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("results", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("error_code", sa.String()),
        sa.Column("failover_from", sa.String()),
        sa.Column("routing_rule", sa.String()),
        sa.Column("settings_entry", sa.String()),
        sa.Column("requested_by", sa.String()),
        sa.Column("caused_by", sa.String()),
        *_continuation(),
        sa.Column("started_at", _INSTANT),
        sa.Column("finished_at", _INSTANT),
        sa.Column("updated_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_webhook_events_event_id", "webhook_events", ["event_id"])
    op.create_index("ix_webhook_events_tenant", "webhook_events", ["tenant_id", "accepted_at"])
    op.create_index("ix_webhook_events_status", "webhook_events", ["status", "accepted_at"])


def _create_attempts() -> None:
    op.create_table(
        "webhook_attempts",
        sa.Column("accepted_at", _INSTANT, primary_key=True),
        sa.Column("event_id", sa.String(), primary_key=True),
        sa.Column("run", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("tier", sa.String()),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kind_rank", sa.SmallInteger(), nullable=False),
        sa.Column("handler", sa.String()),
        sa.Column("worker", sa.String()),
        sa.Column("started_at", _INSTANT),
        sa.Column("finished_at", _INSTANT),
        sa.Column("duration_ms", sa.Float()),
        sa.Column("result", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("error_code", sa.String()),
        sa.Column("source_topic", sa.String()),
        sa.Column("source_partition", sa.Integer()),
        sa.Column("source_offset", sa.BigInteger()),
        *_continuation(),
        sa.Column("recorded_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_webhook_attempts_tenant", "webhook_attempts", ["tenant_id", "accepted_at"])


def _create_changes() -> None:
    op.create_table(
        "webhook_changes",
        sa.Column("occurred_at", _INSTANT, primary_key=True),
        sa.Column("change_id", sa.String(), primary_key=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("model", sa.String()),
        sa.Column("model_id", sa.String()),
        sa.Column("model_event", sa.String()),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("matched_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_webhook_changes_change_id", "webhook_changes", ["change_id"])


def _create_schedule() -> None:
    op.create_table(
        "webhook_schedule",
        sa.Column("schedule_id", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer()),
        sa.Column("tenant_id", sa.String()),
        sa.Column("event_id", sa.String()),
        sa.Column("run", sa.Integer()),
        sa.Column("step", sa.Integer()),
        sa.Column("attempt", sa.Integer()),
        sa.Column("dispatch_seq", sa.Integer()),
        sa.Column("endpoint", sa.String()),
        sa.Column("tier", sa.String()),
        sa.Column("target_topic", sa.String()),
        sa.Column("kind", sa.String()),
        sa.Column("reason", sa.Text()),
        sa.Column("gate", sa.String()),
        sa.Column("lane", sa.String()),
        sa.Column("due_at", _INSTANT),
        sa.Column("accepted_at", _INSTANT),
        sa.Column("created_at", _INSTANT),
        sa.Column("record_key", sa.LargeBinary()),
        sa.Column("task", sa.LargeBinary()),
        sa.Column("dispatched_at", _INSTANT),
        sa.Column("closed_at", _INSTANT),
    )
    op.create_index("ix_webhook_schedule_event_id", "webhook_schedule", ["event_id"])
    still_open = sa.text("dispatched_at IS NULL AND closed_at IS NULL")
    op.create_index(
        "ix_webhook_schedule_due",
        "webhook_schedule",
        ["due_at", "schedule_id"],
        postgresql_where=still_open,
        sqlite_where=still_open,
    )


def upgrade() -> None:
    """Create the projections' tables."""
    _create_events()
    _create_attempts()
    _create_changes()
    _create_schedule()
    op.create_table(
        "projection_positions",
        sa.Column("projection", sa.String(), primary_key=True),
        sa.Column("topic", sa.String(), primary_key=True),
        sa.Column("partition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
    )


def downgrade() -> None:
    """Drop them all: they can be projected again from the log."""
    for table in (
        "projection_positions",
        "webhook_schedule",
        "webhook_changes",
        "webhook_attempts",
        "webhook_events",
    ):
        op.drop_table(table)
