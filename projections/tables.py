"""The views' tables. Everything in them can be rebuilt from the log, their positions included.

``accepted_at`` leads the keys of the history (R19): it never changes for an event, and old months can be cut off.
Columns that only an ``accepted`` record can fill are nullable, because its outcome may be projected first.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

METADATA = MetaData()
PROJECTION = "history"
"""Name under which the projector keeps its positions."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, in UTC on every database, though SQLite stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The instant in UTC. Raises ``ValueError`` for a naive ``datetime``."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give an aware datetime")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The instant, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _continuation() -> list[Column[Any]]:
    return [
        Column("next_topic", String),
        Column("next_step", Integer),
        Column("next_attempt", Integer),
        Column("next_due_at", UtcDateTime),
    ]


WEBHOOK_EVENTS = Table(
    "webhook_events",
    METADATA,
    Column("accepted_at", UtcDateTime, primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("tenant_id", String, nullable=False),
    Column("tier", String),
    Column("endpoint", String),
    Column("event_type", String),
    Column("model", String),
    Column("model_id", String),
    Column("trigger", String),
    Column("priority", Integer),
    Column("delay_s", Integer),
    Column("status", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("kind_rank", SmallInteger, nullable=False),
    Column("run", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("dispatch_seq", Integer, nullable=False),
    Column("handler", String),
    Column("runs_on", String),
    Column("payload", Text),
    Column("result", Text),
    Column("results", Text),
    Column("error", Text),
    Column("error_code", String),
    Column("failover_from", String),
    Column("routing_rule", String),
    Column("settings_entry", String),
    Column("requested_by", String),
    Column("caused_by", String),
    *_continuation(),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_webhook_events_event_id", "event_id"),
    Index("ix_webhook_events_tenant", "tenant_id", "accepted_at"),
    Index("ix_webhook_events_status", "status", "accepted_at"),
)

# What has not ended is little beside what has.
for _name, _columns in (
    ("open", ("accepted_at", "event_id")),
    ("tenant_open", ("tenant_id", "accepted_at", "event_id")),
):
    Index(
        f"ix_webhook_events_{_name}",
        *(WEBHOOK_EVENTS.c[_each] for _each in _columns),
        postgresql_where=text("finished_at IS NULL"),
        sqlite_where=text("finished_at IS NULL"),
    )

WEBHOOK_ATTEMPTS = Table(
    "webhook_attempts",
    METADATA,
    Column("accepted_at", UtcDateTime, primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("tenant_id", String, nullable=False),
    Column("tier", String),
    Column("kind", String, nullable=False),
    Column("kind_rank", SmallInteger, nullable=False),
    Column("handler", String),
    Column("worker", String),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("duration_ms", Float),
    Column("result", Text),
    Column("error", Text),
    Column("error_code", String),
    Column("source_topic", String),
    Column("source_partition", Integer),
    Column("source_offset", BigInteger),
    *_continuation(),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index("ix_webhook_attempts_tenant", "tenant_id", "accepted_at"),
)

WEBHOOK_CHANGES = Table(
    "webhook_changes",
    METADATA,
    Column("occurred_at", UtcDateTime, primary_key=True),
    Column("change_id", String, primary_key=True),
    Column("tenant_id", String, nullable=False),
    Column("model", String),
    Column("model_id", String),
    Column("model_event", String),
    Column("events", Text, nullable=False),
    Column("matched_at", UtcDateTime, nullable=False),
    Index("ix_webhook_changes_change_id", "change_id"),
)

# Only the key is required: the mark that a row was dispatched may come before the row itself (R11).
WEBHOOK_SCHEDULE = Table(
    "webhook_schedule",
    METADATA,
    Column("schedule_id", String, primary_key=True),
    Column("version", Integer),
    Column("tenant_id", String),
    Column("event_id", String),
    Column("run", Integer),
    Column("step", Integer),
    Column("attempt", Integer),
    Column("dispatch_seq", Integer),
    Column("endpoint", String),
    Column("tier", String),
    Column("target_topic", String),
    Column("kind", String),
    Column("reason", Text),
    Column("gate", String),
    Column("lane", String),
    Column("due_at", UtcDateTime),
    Column("accepted_at", UtcDateTime),
    Column("created_at", UtcDateTime),
    Column("record_key", LargeBinary),
    Column("task", LargeBinary),
    Column("dispatched_at", UtcDateTime),
    Column("closed_at", UtcDateTime),
    Column("log_offset", BigInteger),
    Column("held_by", String),
    Column("call_back_id", String),
    Index("ix_webhook_schedule_event_id", "event_id"),
)


def _index_of_schedule(name: str, columns: tuple[str, ...], condition: str) -> None:
    # Without parameters: PostgreSQL has to see that a query asks for no more than the index holds.
    where = text(condition)
    columns_of = (WEBHOOK_SCHEDULE.c[each] for each in columns)
    Index(f"ix_webhook_schedule_{name}", *columns_of, postgresql_where=where, sqlite_where=where)


_open = "dispatched_at IS NULL AND closed_at IS NULL"
_index_of_schedule("due", ("due_at", "schedule_id"), f"{_open} AND held_by IS NULL")
_index_of_schedule("held", ("held_by", "created_at", "log_offset"), f"{_open} AND held_by IS NOT NULL AND lane IS NULL")
_index_of_schedule("released", ("gate",), "gate IS NOT NULL AND dispatched_at IS NOT NULL AND closed_at IS NULL")
_index_of_schedule("lane", ("lane", "run", "log_offset"), "lane IS NOT NULL AND closed_at IS NULL")
_index_of_schedule("call_back", ("gate",), "substr(gate, 1, 10) = 'call_back|'")
_index_of_schedule("coalesce", ("gate", "log_offset"), "substr(gate, 1, 9) = 'coalesce|'")
_index_of_schedule(
    "singleton",
    ("lane", "log_offset"),
    f"{_open} AND held_by IS NOT NULL AND kind IN ('singleton_skip', 'singleton_replace')",
)
_index_of_schedule("called_back", ("created_at", "schedule_id"), f"{_open} AND call_back_id IS NOT NULL")
_index_of_schedule("first", ("lane",), "lane IS NOT NULL AND held_by IS NULL AND kind <> 'cancelled'")

WEBHOOK_CALL_BACKS = Table(
    "webhook_call_backs",
    METADATA,
    Column("received_at", UtcDateTime, primary_key=True),
    Column("call_back_id", String, primary_key=True),
    Column("tenant_id", String, nullable=False),
    Column("gate", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("requested_by", String),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index("ix_webhook_call_backs_gate", "gate", "received_at", "call_back_id"),
    Index("ix_webhook_call_backs_call_back_id", "call_back_id"),
)

PROJECTION_POSITIONS = Table(
    "projection_positions",
    METADATA,
    Column("projection", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", String, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
