"""Deliveries that came in, so that each is accepted once: kept in the transaction that stores its event."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Engine, Index, MetaData, String, Table, delete, update
from sqlalchemy.dialects import postgresql, sqlite

from handlers.service import Accepted
from projections.tables import UtcDateTime
from schemas.events import WebhookRequested
from streams.capture.outbox import OutboxSink

KEPT: Final = timedelta(days=30)
"""Longer than any provider goes on repeating a delivery, by itself or by hand."""

METADATA: Final = MetaData()

DELIVERIES: Final = Table(
    "webhook_inbound_deliveries",
    METADATA,
    Column("source_id", BigInteger, primary_key=True),
    Column("delivery_id", String, primary_key=True),
    Column("event_id", String, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)
"""Which event a source's delivery became."""
Index("ix_webhook_inbound_deliveries_received_at", DELIVERIES.c.received_at)


class DeliverySink:
    """An ``EventSink`` that stores a delivery's request once; a repeat gets the first event's id."""

    def __init__(self, sink: OutboxSink, source_id: int, delivery_ids: Sequence[str]) -> None:
        self._sink = sink
        self._source_id = source_id
        self._delivery_ids = delivery_ids

    def accept(self, request: WebhookRequested) -> Accepted:
        """See ``EventSink``."""
        return self._sink.accept(
            request, lambda connection, event_id: claim(connection, self._source_id, self._delivery_ids, event_id)
        )


def claim(connection: Connection, source_id: int, delivery_ids: Sequence[str], event_id: str) -> str:
    """Keep the ids of a delivery in the caller's transaction; gives ``event_id``, or that of the first delivery.

    Waits for a transaction that is just claiming one of them. The first id that is known decides: those behind it are
    not kept, those before it stand for the first event too.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    now = datetime.now(UTC)
    for delivery_id in delivery_ids:
        row = {"source_id": source_id, "delivery_id": delivery_id, "event_id": event_id, "received_at": now}
        insert = dialect.insert(DELIVERIES).values(row)
        # Nothing is changed where it is known, but its row is locked and given: one statement, whoever was first.
        kept = insert.on_conflict_do_update(
            index_elements=[DELIVERIES.c.source_id, DELIVERIES.c.delivery_id],
            set_={"event_id": DELIVERIES.c.event_id},
        ).returning(DELIVERIES.c.event_id)
        first: str = connection.execute(kept).scalar_one()
        if first != event_id:
            ours = (DELIVERIES.c.source_id == source_id) & (DELIVERIES.c.event_id == event_id)
            connection.execute(update(DELIVERIES).where(ours).values(event_id=first))
            return first
    return event_id


def prune_deliveries(engine: Engine) -> int:
    """Forget deliveries that are kept long enough; gives how many. Blocks."""
    with engine.begin() as connection:
        return connection.execute(
            delete(DELIVERIES).where(DELIVERIES.c.received_at < datetime.now(UTC) - KEPT)
        ).rowcount
