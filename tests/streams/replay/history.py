"""A history in SQLite, written as the projector writes it; what commands put into the outbox can be projected too."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select, update

from projections.records import Fact, LogRecord, Scheduled
from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.codec import decode
from schemas.events import Micros, TaskEvent, TaskScheduled
from schemas.kinds import KINDS
from streams.capture.outbox import OUTBOX
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue()
EPOCH = "epoch"
_offset = iter(range(1, 1_000_000))


def said(kind: str, event_id: str, accepted_at: Micros = 1_000, **values: Any) -> TaskEvent:
    """A record about an event of tenant 7's order 5, on its first attempt unless told otherwise."""
    known: dict[str, Any] = {
        "run": 1,
        "step": 0,
        "attempt": 1,
        "dispatch_seq": 1,
        "tenant_id": "7",
        "recorded_at": accepted_at + 500,
        "tier": "webhook-high",
        "endpoint": "webhook/order",
        "event_type": "order_created",
        "model": "Order",
        "model_id": "5",
    }
    if kind == "accepted":
        known |= {"trigger": "model", "priority": 9, "payload": '{"id":5}', "routing_rule": "high"}
    else:
        known |= {"handler": "OrderWebhookHandler"}
    if KINDS[kind].outcome:
        known |= {"started_at": accepted_at + 100, "finished_at": accepted_at + 400}
    return TaskEvent(kind=kind, event_id=event_id, accepted_at=accepted_at, **(known | values))


def project(engine: Engine, facts: Sequence[Fact]) -> None:
    """Project facts, as records of the log that come next."""
    write(engine, [LogRecord("events", 0, next(_offset), fact) for fact in facts], EPOCH)


def failed(engine: Engine, event_id: str, kind: str = "failed_permanently", **values: Any) -> None:
    """An event that was tried in its own tier and then failed in the failed tier, at its fourth attempt."""
    at = values.pop("accepted_at", 1_000)
    last = said(kind, event_id, at, **{"attempt": 4, "tier": "webhook-failed", "error": "no answer", **values})
    project(engine, [said("accepted", event_id, at), said("failed", event_id, at, attempt=3), last])


def outbox(engine: Engine) -> list[TaskEvent | TaskScheduled]:
    """What waits in the outbox, in its order."""
    with engine.connect() as connection:
        query = select(OUTBOX.c.payload).where(OUTBOX.c.published_at.is_(None)).order_by(OUTBOX.c.id)
        return [decode(payload) for payload in connection.execute(query).scalars()]  # type: ignore[misc]


def publish(engine: Engine) -> list[TaskEvent | TaskScheduled]:
    """What relay and projector make of the outbox: its records are in the tables, its rows published."""
    records = outbox(engine)
    project(engine, [each if isinstance(each, TaskEvent) else Scheduled(each, b"7|Order|5", 1) for each in records])
    with engine.begin() as connection:
        connection.execute(update(OUTBOX).values(published_at=datetime.now(UTC)))
    return records


def event(engine: Engine, event_id: str) -> Any:
    """An event's row."""
    with engine.connect() as connection:
        return connection.execute(select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id == event_id)).one()


def open_waits(engine: Engine) -> list[Any]:
    """Rows of the schedule that may still go."""
    waits = WEBHOOK_SCHEDULE.c
    with engine.connect() as connection:
        query = select(WEBHOOK_SCHEDULE).where(waits.dispatched_at.is_(None), waits.closed_at.is_(None))
        return list(connection.execute(query.order_by(waits.schedule_id)))
