"""Websites, their hostnames, and the tokens of the HTTP door."""

import sqlalchemy as sa
from alembic import op

revision = "system_0001"
down_revision = None
branch_labels = ("system",)
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the system's tables."""
    op.create_table(
        "websites",
        sa.Column("id", _IDENTITY, sa.Identity(), primary_key=True),
        sa.Column("uuid", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("configure", sa.Text()),
        sa.Column("plugin_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("deleted_at", _INSTANT),
    )
    op.create_table(
        "hostnames",
        sa.Column("id", _IDENTITY, sa.Identity(), primary_key=True),
        sa.Column("fqdn", sa.String(), nullable=False, unique=True),
        sa.Column("website_id", _IDENTITY, sa.ForeignKey("websites.id", ondelete="CASCADE"), nullable=False),
    )
    op.create_index("ix_hostnames_website_id", "hostnames", ["website_id"])
    op.create_table(
        "tokens",
        sa.Column("id", _IDENTITY, sa.Identity(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String(), nullable=False, unique=True),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("website_id", _IDENTITY, sa.ForeignKey("websites.id", ondelete="CASCADE")),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("expires_at", _INSTANT),
        sa.Column("last_used_at", _INSTANT),
        sa.Column("revoked_at", _INSTANT),
    )
    op.create_index("ix_tokens_prefix", "tokens", ["prefix"])


def downgrade() -> None:
    """Drop the system's tables."""
    op.drop_table("tokens")
    op.drop_table("hostnames")
    op.drop_table("websites")
