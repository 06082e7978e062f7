"""Sources of inbound webhooks, and the deliveries that came from them."""

import sqlalchemy as sa
from alembic import op

revision = "system_0006"
down_revision = "system_0005"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "inbound_sources",
        sa.Column("id", _IDENTITY, sa.Identity(), primary_key=True),
        sa.Column("website_id", _IDENTITY, sa.ForeignKey("websites.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("scheme", sa.String(), nullable=False),
        sa.Column("token_prefix", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False, unique=True),
        sa.Column("tolerance_s", sa.Integer(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("former_secret", sa.Text()),
        sa.Column("former_until", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("rotated_at", _INSTANT),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inbound_sources_website_id", "inbound_sources", ["website_id"])
    op.create_table(
        "webhook_inbound_deliveries",
        sa.Column("source_id", sa.BigInteger(), primary_key=True),
        sa.Column("delivery_id", sa.String(), primary_key=True),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_webhook_inbound_deliveries_received_at", "webhook_inbound_deliveries", ["received_at"])


def downgrade() -> None:
    """Drop them: addresses given to providers become worthless, and repeats are accepted again."""
    op.drop_table("webhook_inbound_deliveries")
    op.drop_table("inbound_sources")
