"""Keys of triggers that are alike, each with the event that stands for them."""

import sqlalchemy as sa
from alembic import op

revision = "system_0007"
down_revision = "system_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "webhook_dedupe_keys",
        sa.Column("tenant_id", sa.String(), primary_key=True),
        sa.Column("endpoint", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("repeated_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_webhook_dedupe_keys_created_at", "webhook_dedupe_keys", ["created_at"])
    op.create_index("ix_webhook_dedupe_keys_event_id", "webhook_dedupe_keys", ["event_id"])


def downgrade() -> None:
    """Drop it: what repeats is then accepted again."""
    op.drop_table("webhook_dedupe_keys")
