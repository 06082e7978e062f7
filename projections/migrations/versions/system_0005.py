"""Keys of requests that were accepted, kept for a day, so that none is accepted twice."""

import sqlalchemy as sa
from alembic import op

revision = "system_0005"
down_revision = "system_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "webhook_idempotency_keys",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_webhook_idempotency_keys_created_at", "webhook_idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Drop it: a repeated request is then accepted again."""
    op.drop_table("webhook_idempotency_keys")
