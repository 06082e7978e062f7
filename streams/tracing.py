"""The story of an event, a change or a row of a model, put together from every table that knows a part of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, Table, select

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CALL_BACKS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.waiting import waiting_event
from schemas.kinds import FINAL_KINDS
from streams.capture.dedupe import repeats_of
from streams.capture.outbox import OUTBOX

MOST: Final = 20
"""Changes, and events, that are told of one row of a model: the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened. ``subject`` is the id of the event or the change that it happened to."""

    at: datetime
    what: str
    subject: str
    detail: str


def trace(connection: Connection, asked: str, tenant_id: str | None = None) -> list[Step]:
    """What happened, in order; empty where nobody knows anything of it.

    ``asked`` is the id of an event, of a change (then its events are told, too), or ``Model/id``. ``tenant_id``: a
    tenant's own rows only.
    """
    model, slash, model_id = asked.partition("/")
    if slash:
        changes = _latest(connection, WEBHOOK_CHANGES, "occurred_at", tenant_id, model=model, model_id=model_id)
        events = _latest(connection, WEBHOOK_EVENTS, "accepted_at", tenant_id, model=model, model_id=model_id)
    else:
        changes = _latest(connection, WEBHOOK_CHANGES, "occurred_at", tenant_id, change_id=asked)
        fired = [each for change in changes for each in orjson.loads(change.events)]
        events = _of_ids(connection, [asked, *fired], tenant_id)
        if not changes and events and events[0].caused_by:
            changes = _latest(connection, WEBHOOK_CHANGES, "occurred_at", tenant_id, change_id=events[0].caused_by)
    stored = [] if slash else _of_outbox(connection, [asked, *(each.change_id for each in changes)], tenant_id)
    steps = [*stored, *(step for change in changes for step in _of_change(change))]
    for event in events:
        steps += _of_event(connection, event)
    # Sorting keeps the order of what happened at one time.
    return sorted(steps, key=lambda step: step.at)


def _latest(connection: Connection, table: Table, time: str, tenant_id: str | None, **values: str) -> list[Row[Any]]:
    query = select(table).order_by(table.c[time].desc()).limit(MOST)
    for name, value in values.items():
        query = query.where(table.c[name] == value)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    return list(connection.execute(query).all())


def _of_ids(connection: Connection, ids: Iterable[str], tenant_id: str | None) -> list[Row[Any]]:
    query = select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id.in_(list(ids)))
    if tenant_id is not None:
        query = query.where(WEBHOOK_EVENTS.c.tenant_id == tenant_id)
    return list(connection.execute(query).all())


def _of_outbox(connection: Connection, ids: Iterable[str], tenant_id: str | None) -> Iterator[Step]:
    query = select(OUTBOX).where(OUTBOX.c.record_id.in_(list(ids)))
    if tenant_id is not None:
        query = query.where(OUTBOX.c.tenant_id == tenant_id)
    for row in connection.execute(query):
        waits = row.published_at is None and row.parked_at is None
        yield Step(
            at=_aware(row.created_at),
            what="stored",
            subject=row.record_id,
            detail=f"in the outbox as {row.record_type}"
            + (", not published yet: does the relay run?" if waits else ""),
        )
        if row.published_at is not None:
            yield Step(at=_aware(row.published_at), what="published", subject=row.record_id, detail=f"to {row.topic}")
        if row.parked_at is not None:
            yield Step(at=_aware(row.parked_at), what="parked", subject=row.record_id, detail=row.parked_reason or "")


def _of_change(change: Row[Any]) -> Iterator[Step]:
    what = f"{change.model} {change.model_id} {change.model_event}"
    yield Step(at=change.occurred_at, what="changed", subject=change.change_id, detail=what)
    fired = orjson.loads(change.events)
    detail = f"fires {', '.join(fired)}" if fired else "matched no setting: nothing fires"
    yield Step(at=change.matched_at, what="matched", subject=change.change_id, detail=detail)


def _of_event(connection: Connection, event: Row[Any]) -> Iterator[Step]:
    subject = event.event_id
    if event.trigger is not None:
        by = f" by {event.requested_by}" if event.requested_by else ""
        where = f"{event.tier}, priority {event.priority}, rule {event.routing_rule}"
        detail = f"{event.endpoint} as {event.event_type}, trigger {event.trigger}{by}; to {where}"
        yield Step(at=event.accepted_at, what="accepted", subject=subject, detail=detail)
    repeats, repeated_at = repeats_of(connection, subject)
    if repeated_at is not None:
        detail = f"{repeats} triggers alike were answered with it, this the last of them"
        yield Step(at=repeated_at, what="repeated", subject=subject, detail=detail)
    yield from _of_waits(connection, subject)
    columns = WEBHOOK_ATTEMPTS.c
    attempts = select(WEBHOOK_ATTEMPTS).where(columns.accepted_at == event.accepted_at, columns.event_id == subject)
    for attempt in connection.execute(attempts.order_by(columns.run, columns.step, columns.attempt)):
        yield from _of_attempt(attempt)
    if event.kind not in FINAL_KINDS:
        waiting = waiting_event(connection, subject)
        reason = "not known" if waiting is None else f"{waiting.reason}, held by {waiting.holder}"
        yield Step(
            at=datetime.now(UTC), what="waiting", subject=subject, detail=f"{reason}; see `webhook why {subject}`"
        )


def _of_waits(connection: Connection, event_id: str) -> Iterator[Step]:
    waits, calls = WEBHOOK_SCHEDULE, WEBHOOK_CALL_BACKS
    query = select(waits, calls.c.received_at).outerjoin(calls, calls.c.call_back_id == waits.c.call_back_id)
    query = query.where(waits.c.event_id == event_id, waits.c.version.is_not(None))
    for wait in connection.execute(query.order_by(waits.c.created_at, waits.c.schedule_id)):
        behind = f", behind {wait.gate or wait.lane}" if wait.gate or wait.lane else ""
        detail = f"{wait.kind}: {wait.reason}" if wait.reason else wait.kind
        detail = f"{_task(wait)}: {detail}{behind}, until {wait.due_at.astimezone():%m-%d %H:%M:%S} at the earliest"
        yield Step(at=wait.created_at, what="scheduled", subject=event_id, detail=detail)
        if wait.received_at is not None:
            yield Step(at=wait.received_at, what="called back", subject=event_id, detail=f"by {wait.call_back_id}")
        if wait.dispatched_at is not None:
            yield Step(at=wait.dispatched_at, what="let go", subject=event_id, detail=f"to {wait.target_topic}")


def _of_attempt(attempt: Row[Any]) -> Iterator[Step]:
    name = f"{_task(attempt)} by {attempt.handler or 'nobody'}"
    if attempt.started_at is not None:
        on = f" on {attempt.worker}" if attempt.worker else ""
        yield Step(at=attempt.started_at, what="started", subject=attempt.event_id, detail=f"{name}{on}")
    detail = attempt.error or attempt.result or ""
    at = attempt.finished_at or attempt.recorded_at
    yield Step(at=at, what=attempt.kind, subject=attempt.event_id, detail=f"{_task(attempt)}: {detail}".rstrip(": "))


def _task(row: Row[Any]) -> str:
    return f"run {row.run} step {row.step} try {row.attempt}"


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
