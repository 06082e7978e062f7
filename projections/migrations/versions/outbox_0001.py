"""The outbox, in the system's database and in every tenant database with tracked models."""

import sqlalchemy as sa
from alembic import op

revision = "outbox_0001"
down_revision = None
branch_labels = ("outbox",)
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the outbox. Numbers are handed out without a cache: id order is insert order within a session."""
    op.create_table(
        "webhook_outbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=False, cache=1),
            primary_key=True,
        ),
        sa.Column("record_id", sa.String(), nullable=False, unique=True),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("record_key", sa.LargeBinary(), nullable=False),
        sa.Column("record_type", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.Text()),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("slice", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.current_timestamp()),
        sa.Column("published_at", _INSTANT),
        sa.Column("parked_at", _INSTANT),
        sa.Column("parked_reason", sa.Text()),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("published_at IS NULL AND parked_at IS NULL")
    op.create_index(
        "ix_webhook_outbox_waiting", "webhook_outbox", ["slice", "id"], postgresql_where=waiting, sqlite_where=waiting
    )
    op.create_table(
        "webhook_relays",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("taken_at", _INSTANT, nullable=False),
        sa.Column("signed_off_at", _INSTANT),
        sa.Column("log_ends", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    """Drop the outbox. Rows not yet published are lost with it."""
    op.drop_table("webhook_relays")
    op.drop_table("webhook_outbox")
