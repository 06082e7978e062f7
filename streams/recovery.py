"""An embedded start: its log is empty, so everything without a final outcome is put on its way again (R22).

What is to be published goes back into the outbox and into the schedule; the relay then publishes it within the room
that the embedded broker has (R21), what was accepted earlier first. Run it before any role of the process starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, RowMapping, delete, exists, insert, select, tuple_, update

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import TaskId, TaskReady, WebhookRequested, from_datetime
from schemas.kinds import FINAL_KINDS, KINDS
from streams.capture.outbox import OUTBOX
from streams.engine.decide import TRIES_BEFORE
from topics.catalogue import Catalogue
from topics.keys import partition_key

_CHUNK: Final = 500
_OPEN_STATUSES: Final = tuple({kind.status for kind in KINDS.values() if kind.status and not kind.final})

_IS_CHANGE: Final = OUTBOX.c.record_type == "ModelChanged"
_IS_REQUEST: Final = OUTBOX.c.record_type == "WebhookRequested"
_MATCHED: Final = exists().where(WEBHOOK_CHANGES.c.change_id == OUTBOX.c.record_id)
_ACCEPTED: Final = exists().where(WEBHOOK_EVENTS.c.event_id == OUTBOX.c.record_id)
_ENDED: Final = exists().where(WEBHOOK_EVENTS.c.event_id == OUTBOX.c.record_id, WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was put on its way again: rows of the outbox, and tasks of events that had been accepted."""

    requests: int
    changes: int
    tasks: int


def forget_finished(connection: Connection) -> int:
    """Delete published rows that no start needs any more; how many.

    A change is done with when its matches are in the views, a request when its event has a final outcome: until then
    the row alone has the options that the request came with.
    """
    published = OUTBOX.c.published_at.is_not(None)
    changes = connection.execute(delete(OUTBOX).where(published, _IS_CHANGE, _MATCHED))
    requests = connection.execute(delete(OUTBOX).where(published, _IS_REQUEST, _ENDED))
    return changes.rowcount + requests.rowcount


def recover(connection: Connection, catalogue: Catalogue) -> Recovery:
    """Prepare everything unfinished for the relay, in the caller's transaction. Running it twice changes nothing more.

    Changes whose matches, and requests whose event, are not in the views are unpublished again. Every other event
    without a final outcome gets a row in the schedule for its next task, with the same identity; due at once, or when
    the task is. A row that it has there already is kept, and undispatched.
    """
    now = datetime.now(UTC)
    # A relay that was killed may not have noted what it had published.
    noted = OUTBOX.c.published_at.is_(None) & ((_IS_CHANGE & _MATCHED) | (_IS_REQUEST & _ACCEPTED))
    connection.execute(update(OUTBOX).where(noted).values(published_at=now))
    forget_finished(connection)
    published = OUTBOX.c.published_at.is_not(None)
    again = update(OUTBOX).values(published_at=None)
    changes = connection.execute(again.where(published, _IS_CHANGE, ~_MATCHED)).rowcount
    requests = connection.execute(again.where(published, _IS_REQUEST, ~_ACCEPTED)).rowcount
    tasks = sum(_reschedule(connection, catalogue, events, now) for events in _unfinished(connection))
    return Recovery(requests, changes, tasks)


def _unfinished(connection: Connection) -> Iterator[Sequence[RowMapping]]:
    """Events without a final outcome, oldest first, without those that intake accepts anew with their change."""
    events = WEBHOOK_EVENTS
    # Changes with matches have left the outbox by now.
    unmatched = exists().where(_IS_CHANGE, OUTBOX.c.record_id == events.c.caused_by)
    key = tuple_(events.c.accepted_at, events.c.event_id)
    query = (
        select(events)
        .where(events.c.status.in_(_OPEN_STATUSES), events.c.kind.not_in(FINAL_KINDS), ~unmatched)
        .where(events.c.payload.is_not(None), events.c.tier.is_not(None))
        .order_by(events.c.accepted_at, events.c.event_id)
        .limit(_CHUNK)
    )
    rows = connection.execute(query).mappings().all()
    while rows:
        yield rows
        last = rows[-1]
        # Bound with their types: an instant has a form of its own on each database.
        after = key > tuple_(
            last["accepted_at"], last["event_id"], types=[events.c.accepted_at.type, events.c.event_id.type]
        )
        rows = connection.execute(query.where(after)).mappings().all()


def _reschedule(connection: Connection, catalogue: Catalogue, events: Sequence[RowMapping], now: datetime) -> int:
    waits = WEBHOOK_SCHEDULE
    ids = [event["event_id"] for event in events]
    known = {
        (row.event_id, row.run, row.step, row.attempt): row
        for row in connection.execute(select(waits).where(waits.c.event_id.in_(ids), waits.c.task.is_not(None)))
    }
    requests = {
        row.record_id: decode_as(WebhookRequested, row.payload)
        for row in connection.execute(
            select(OUTBOX.c.record_id, OUTBOX.c.payload).where(_IS_REQUEST, OUTBOX.c.record_id.in_(ids))
        )
    }
    exhausted = {
        (row.event_id, row.run, row.step): row.attempt
        for row in connection.execute(
            select(WEBHOOK_ATTEMPTS).where(WEBHOOK_ATTEMPTS.c.event_id.in_(ids), WEBHOOK_ATTEMPTS.c.kind == "failed")
        )
    }
    fresh: list[dict[str, Any]] = []
    undispatched: list[str] = []
    for event in events:
        task_id = _next_task(event)
        wait = known.get(task_id)
        if wait is None:
            request = requests.get(task_id.event_id)
            options = dict(request.options) if request else {}
            before = exhausted.get(task_id[:3])
            if before is not None:
                # The failed tier counts its own tries from there (R10).
                options[TRIES_BEFORE] = str(before)
            fresh.append(_wait(event, task_id, options, catalogue, now))
        elif wait.closed_at is None and wait.dispatched_at is not None:
            undispatched.append(wait.schedule_id)
    if fresh:
        connection.execute(insert(waits), fresh)
    if undispatched:
        connection.execute(update(waits).where(waits.c.schedule_id.in_(undispatched)).values(dispatched_at=None))
    return len(fresh) + len(undispatched)


def _next_task(event: RowMapping) -> TaskId:
    """The task that the last record of an event asks for: the sequel of an outcome, else the one it is about."""
    if event["next_topic"] is None:
        return TaskId(event["event_id"], event["run"], event["step"], event["attempt"])
    return TaskId(event["event_id"], event["run"], event["next_step"], event["next_attempt"])


def _due_at(event: RowMapping) -> datetime:
    if event["next_due_at"] is not None:
        due: datetime = event["next_due_at"]
        return due
    accepted: datetime = event["accepted_at"]
    delayed = event["kind"] == "accepted" and event["delay_s"]
    return accepted + timedelta(seconds=event["delay_s"]) if delayed else accepted


def _wait(
    event: RowMapping, task_id: TaskId, options: dict[str, str], catalogue: Catalogue, now: datetime
) -> dict[str, Any]:
    tier = event["tier"]
    topic = event["next_topic"] or (catalogue.steps(tier) if task_id.step else catalogue.topic(tier))
    results = orjson.loads(event["results"] or "[]")[: task_id.step]
    task = TaskReady(
        event_id=task_id.event_id,
        run=task_id.run,
        step=task_id.step,
        attempt=task_id.attempt,
        dispatch_seq=event["dispatch_seq"],
        tenant_id=event["tenant_id"],
        endpoint=event["endpoint"],
        event_type=event["event_type"],
        trigger=event["trigger"],
        priority=event["priority"] or 5,
        accepted_at=from_datetime(event["accepted_at"]),
        payload=event["payload"],
        model=event["model"],
        model_id=event["model_id"],
        settings_entry=event["settings_entry"],
        results=[orjson.dumps(each).decode() for each in results],
        options=options,
        failover_from=event["failover_from"],
    )
    return {
        "schedule_id": f"{task_id}|{event['dispatch_seq']}",
        "version": 1,
        "tenant_id": task.tenant_id,
        "event_id": task.event_id,
        "run": task.run,
        "step": task.step,
        "attempt": task.attempt,
        "dispatch_seq": task.dispatch_seq,
        "endpoint": task.endpoint,
        "tier": catalogue.tier(topic).name,
        "target_topic": topic,
        "kind": "recovered",
        "reason": "found without an outcome at an embedded start",
        "due_at": _due_at(event),
        "accepted_at": event["accepted_at"],
        "created_at": now,
        "record_key": partition_key(task.tenant_id, task.model, task.model_id, task.event_id),
        "task": encode(task),
    }
