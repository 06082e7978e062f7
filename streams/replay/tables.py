"""Tables of replays: truth of its own, not a projection. They share the outbox's database, and so its transactions."""

from typing import Final

from sqlalchemy import BigInteger, Column, Identity, Integer, MetaData, String, Table, Text

from projections.tables import UtcDateTime

METADATA: Final = MetaData()

REPLAYS: Final = Table(
    "webhook_replays",
    METADATA,
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("selection", Text, nullable=False),
    Column("selected_at", UtcDateTime, nullable=False),
    Column("from_step", Integer, nullable=False),
    Column("rate", Integer, nullable=False),
    Column("requested_by", String, nullable=False),
    Column("reason", Text),
    Column("selected", BigInteger, nullable=False),
    Column("replayed", BigInteger, nullable=False),
    Column("skipped", Text, nullable=False),
    Column("last_accepted_at", UtcDateTime),
    Column("last_event_id", String),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
)
"""One row for each replay. ``last_accepted_at`` and ``last_event_id`` are how far it has come, ``selection`` and
``skipped`` (why -> how many) JSON objects, ``rate`` events a second."""

FAILED_NUMBERS: Final = Table(
    "webhook_failed_numbers",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), Identity(cache=1), primary_key=True),
    Column("event_id", String, nullable=False, unique=True),
    sqlite_autoincrement=True,
)
"""A short number for each failed event that was ever listed; it never stands for another one."""
