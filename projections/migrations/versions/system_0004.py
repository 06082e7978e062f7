"""Websites by the time of their last change, for caches that ask what has changed."""

from alembic import op

revision = "system_0004"
down_revision = "system_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_websites_updated_at", "websites", ["updated_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_websites_updated_at", "websites")
