"""Tables of the system's database: websites, their hostnames, and the tokens and sources of the HTTP door."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
    true,
)

METADATA: Final = MetaData()
_IDENTITY: Final = BigInteger().with_variant(Integer, "sqlite")


class _Instant(TypeDecorator[datetime]):
    """An instant, aware and in UTC in Python, though SQLite stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


WEBSITES: Final = Table(
    "websites",
    METADATA,
    Column("id", _IDENTITY, Identity(), primary_key=True),
    Column("uuid", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("configure", Text),
    Column("plugin_enabled", Boolean, nullable=False, server_default=true()),
    Column("created_at", _Instant, nullable=False, server_default=func.current_timestamp()),
    Column("updated_at", _Instant, nullable=False, server_default=func.current_timestamp()),
    Column("deleted_at", _Instant),
)
Index("ix_websites_updated_at", WEBSITES.c.updated_at)
"""The tenants. ``configure`` is the configuration's JSON, encrypted (``handlers.tenants.encryption``)."""

HOSTNAMES: Final = Table(
    "hostnames",
    METADATA,
    Column("id", _IDENTITY, Identity(), primary_key=True),
    Column("fqdn", String, nullable=False, unique=True),
    Column("website_id", _IDENTITY, ForeignKey("websites.id", ondelete="CASCADE"), nullable=False),
)
Index("ix_hostnames_website_id", HOSTNAMES.c.website_id)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", _IDENTITY, Identity(), primary_key=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("token_hash", String, nullable=False, unique=True),
    Column("scope", String, nullable=False),
    Column("website_id", _IDENTITY, ForeignKey("websites.id", ondelete="CASCADE")),
    Column("created_at", _Instant, nullable=False, server_default=func.current_timestamp()),
    Column("expires_at", _Instant),
    Column("last_used_at", _Instant),
    Column("revoked_at", _Instant),
)
"""Bearer tokens, hashed. Without a website a token is the system's own."""
Index("ix_tokens_prefix", TOKENS.c.prefix)

INBOUND_SOURCES: Final = Table(
    "inbound_sources",
    METADATA,
    Column("id", _IDENTITY, Identity(), primary_key=True),
    Column("website_id", _IDENTITY, ForeignKey("websites.id", ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False),
    Column("route", String, nullable=False),
    Column("scheme", String, nullable=False),
    Column("token_prefix", String, nullable=False),
    Column("token_hash", String, nullable=False, unique=True),
    Column("tolerance_s", Integer, nullable=False),
    Column("layout", Text, nullable=False),
    Column("secret", Text),
    Column("former_secret", Text),
    Column("former_until", _Instant),
    Column("created_at", _Instant, nullable=False, server_default=func.current_timestamp()),
    Column("rotated_at", _Instant),
    # An id is never given again: what was delivered is remembered by it.
    sqlite_autoincrement=True,
)
"""Sources of inbound webhooks (``handlers.tenants.inbound_sources``): tokens hashed, secrets encrypted."""
Index("ix_inbound_sources_website_id", INBOUND_SOURCES.c.website_id)
