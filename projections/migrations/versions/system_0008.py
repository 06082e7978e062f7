"""Replays, and the short numbers of failed events."""

import sqlalchemy as sa
from alembic import op

revision = "system_0008"
down_revision = "system_0007"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "webhook_replays",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("selected_at", _INSTANT, nullable=False),
        sa.Column("from_step", sa.Integer(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("selected", sa.BigInteger(), nullable=False),
        sa.Column("replayed", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.Text(), nullable=False),
        sa.Column("last_accepted_at", _INSTANT),
        sa.Column("last_event_id", sa.String()),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("finished_at", _INSTANT),
    )
    op.create_table(
        "webhook_failed_numbers",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(cache=1), primary_key=True
        ),
        sa.Column("event_id", sa.String(), nullable=False, unique=True),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop them: replays under way end where they are."""
    op.drop_table("webhook_failed_numbers")
    op.drop_table("webhook_replays")
