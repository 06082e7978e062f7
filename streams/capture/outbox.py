"""The outbox: what has to reach Kafka, written in the transaction of the change itself (R11)."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from handlers.service import Accepted
from schemas.codec import encode
from schemas.errors import Retryable
from schemas.events import WebhookRequested
from topics.catalogue import Catalogue
from topics.keys import partition_key

log = structlog.get_logger(__name__)

SLICES: Final = 16
"""Key slices. Each has one active relay; the number is part of the data and never changes."""

METADATA: Final = MetaData()

OUTBOX: Final = Table(
    "webhook_outbox",
    METADATA,
    # Ids of one key rise in the order of its commits, because the row of the model is locked by then; a sequence
    # that hands out ids in blocks would break that.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(always=False, cache=1), primary_key=True),
    Column("record_id", String, nullable=False, unique=True),
    Column("topic", String, nullable=False),
    Column("record_key", LargeBinary, nullable=False),
    Column("record_type", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", Text),
    Column("tenant_id", String, nullable=False),
    Column("slice", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    Column("parked_at", DateTime(timezone=True)),
    Column("parked_reason", Text),
    sqlite_autoincrement=True,
)
"""One row for each record to publish. Debezium's outbox router can read it: id = record_id, aggregatetype = topic,
aggregateid = record_key, type = record_type. ``slice`` is 0 to ``SLICES`` - 1."""

Index(
    "ix_webhook_outbox_waiting",
    OUTBOX.c.slice,
    OUTBOX.c.id,
    postgresql_where=OUTBOX.c.published_at.is_(None) & OUTBOX.c.parked_at.is_(None),
    sqlite_where=OUTBOX.c.published_at.is_(None) & OUTBOX.c.parked_at.is_(None),
)

RELAYS: Final = Table(
    "webhook_relays",
    METADATA,
    Column("name", String, primary_key=True),
    Column("epoch", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    Column("signed_off_at", DateTime(timezone=True)),
    Column("log_ends", Text, nullable=False),
)
"""Who published last from this database, one row for each share of the work. ``log_ends`` is a JSON object,
topic -> partition -> offset: everything the holder published and did not mark lies at or beyond it (R7)."""


class OutboxUnavailable(Retryable):
    """The database of the outbox did not take a row: nothing was accepted, try again later."""

    code = "outbox_unavailable"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A record to publish: ``payload`` is the framed event, ``record_type`` the name of its schema's record.

    ``record_id`` is the id of what it tells (a change's or an event's): a second row with it is refused.
    """

    topic: str
    record_key: bytes
    payload: bytes
    record_type: str
    headers: Mapping[str, str] | None
    tenant_id: str
    record_id: str


def slice_of(record_key: bytes) -> int:
    """Slice of a key, 0 to ``SLICES`` - 1; all records of one key have the same."""
    return zlib.crc32(record_key) % SLICES


def append(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write rows, in this order, in the caller's transaction. They are published after its commit, or never."""
    if not rows:
        return
    now = datetime.now(UTC)
    connection.execute(
        insert(OUTBOX),
        [
            {
                "record_id": row.record_id,
                "topic": row.topic,
                "record_key": row.record_key,
                "record_type": row.record_type,
                "payload": row.payload,
                "headers": orjson.dumps(dict(row.headers)).decode() if row.headers else None,
                "tenant_id": row.tenant_id,
                "slice": slice_of(row.record_key),
                "created_at": now,
            }
            for row in rows
        ],
    )


class OutboxSink:
    """Takes requests for webhooks into the outbox of the system's database. Safe to use from several threads."""

    def __init__(self, engine: Engine, catalogue: Catalogue, wake: Callable[[], None] | None = None) -> None:
        """``wake`` is called after each commit: a relay in the same process then looks at once."""
        self._engine = engine
        self._topic = catalogue.requests
        self._wake = wake

    def accept(self, request: WebhookRequested) -> Accepted:
        """Store the request; when this returns it is committed. Blocks for the time of one transaction.

        Raises ``OutboxUnavailable`` where the database did not answer or refused, and ``ValueError`` for a request
        that does not fit its schema; then nothing is stored. (A connection that breaks during the commit leaves it
        open whether it is: asking again with the same ``event_id`` gives the same event.)
        """
        row = OutboxRow(
            topic=self._topic,
            record_key=partition_key(request.tenant_id, request.model, request.model_id, request.event_id),
            payload=encode(request),
            record_type="WebhookRequested",
            headers=None,
            tenant_id=request.tenant_id,
            record_id=request.event_id,
        )
        try:
            with self._engine.begin() as connection:
                append(connection, [row])
        except IntegrityError:
            # The same request was stored before, and its answer lost: it is accepted once.
            log.info("request stored already", event_id=request.event_id)
        except (DBAPIError, PoolTimeout) as error:
            cause = getattr(error, "orig", None) or error
            raise OutboxUnavailable(
                f"the request was not stored, because its database {self._engine.url.render_as_string()} "
                f"did not take it ({cause}); try again when the database is back"
            ) from error
        if self._wake is not None:
            self._wake()
        return Accepted(event_id=request.event_id)
