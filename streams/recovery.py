"""An embedded start: its log is empty, so everything without a final outcome is put on its way again (R22).

What is to be published goes back into the outbox and into the schedule; the relay then publishes it within the room
that the embedded broker has (R21), what was accepted earlier first. Run it before any role of the process starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, RowMapping, case, delete, exists, func, insert, select, tuple_, update

from projections.call_backs import hand_out_call_backs
from projections.history import split_runs_on
from projections.lanes import release_lanes
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CALL_BACKS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import TaskId, TaskReady, WebhookRequested, from_datetime
from schemas.kinds import FINAL_KINDS, KINDS
from streams.agents.acceptance import LANE, lane_wanted
from streams.agents.intents import Pending, pending_of
from streams.capture.coalescing import ENDED_FOR_OTHERS
from streams.capture.outbox import OUTBOX
from streams.capture.schedule_feed import ENDS
from streams.engine.decide import RECONCILE, TRIES_BEFORE, WAIT
from streams.replay.recovery import BY_HAND_TYPES, IS_ON_ITS_WAY, forget_projected
from streams.stored_tasks import stored_task
from topics.catalogue import Catalogue
from topics.gates import COALESCE, call_back_gate, is_call_back_gate
from topics.keys import partition_key

_CHUNK: Final = 500
_LANE_ROOM: Final = 4_000_000_000_000_000
"""More than the microseconds of any acceptance: places between what lanes hold and what the new log will bring."""
_OPEN_STATUSES: Final = tuple({kind.status for kind in KINDS.values() if kind.status and not kind.final})

_BEGUN: Final = ("intent", "started", "claimed", "released")
"""Last records of events whose handler may have acted. An ordinary handler is run again all the same."""

_IS_CHANGE: Final = OUTBOX.c.record_type == "ModelChanged"
_IS_REQUEST: Final = OUTBOX.c.record_type == "WebhookRequested"
_MATCHED: Final = exists().where(WEBHOOK_CHANGES.c.change_id == OUTBOX.c.record_id)
_ACCEPTED: Final = exists().where(WEBHOOK_EVENTS.c.event_id == OUTBOX.c.record_id)
_CALLED_BACK: Final = exists().where(WEBHOOK_CALL_BACKS.c.call_back_id == OUTBOX.c.record_id)
_ENDED: Final = exists().where(WEBHOOK_EVENTS.c.event_id == OUTBOX.c.record_id, WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was put on its way again: rows of the outbox, and tasks of events that had been accepted."""

    requests: int
    changes: int
    tasks: int


def forget_finished(connection: Connection) -> int:
    """Delete published rows that no start needs any more; how many.

    A change is done with when its matches are in the views, a call-back when it is there itself, a request when its
    event has a final outcome: until then the row alone has the options that the request came with.
    """
    published = OUTBOX.c.published_at.is_not(None)
    forget_projected(connection)
    changes = connection.execute(delete(OUTBOX).where(published, _IS_CHANGE, _MATCHED))
    requests = connection.execute(delete(OUTBOX).where(published, _IS_REQUEST, _ENDED | _CALLED_BACK))
    return changes.rowcount + requests.rowcount


def recover(connection: Connection, catalogue: Catalogue) -> Recovery:
    """Prepare everything unfinished for the relay, in the caller's transaction. Running it twice changes nothing more.

    Changes whose matches, and requests whose event, are not in the views are unpublished again. Every other event
    without a final outcome gets a row in the schedule for its next task, with the same identity; due at once, or when
    the task is. A row that it has there already is kept, and undispatched.
    """
    now = datetime.now(UTC)
    # A relay that was killed may not have noted what it had published.
    is_known = (_IS_CHANGE & _MATCHED) | (_IS_REQUEST & (_ACCEPTED | _CALLED_BACK))
    noted = OUTBOX.c.published_at.is_(None) & is_known
    connection.execute(update(OUTBOX).where(noted).values(published_at=now))
    forget_finished(connection)
    published = OUTBOX.c.published_at.is_not(None)
    again = update(OUTBOX).values(published_at=None)
    changes = connection.execute(again.where(published, _IS_CHANGE, ~_MATCHED)).rowcount
    requests = connection.execute(again.where(published, _IS_REQUEST, ~_ACCEPTED)).rowcount
    connection.execute(again.where(published, OUTBOX.c.record_type.in_(BY_HAND_TYPES)))
    _begin_lanes_anew(connection)
    tasks = sum(_reschedule(connection, catalogue, events, now) for events in _unfinished(connection))
    return Recovery(requests, changes, tasks)


def _begin_lanes_anew(connection: Connection) -> None:
    """Put what stands in a lane, or came among events alike, before everything that this start's log will bring.

    Its offsets begin at 0.
    """
    waits = WEBHOOK_SCHEDULE.c
    place = waits.log_offset
    in_lane = waits.lane.is_not(None) & waits.closed_at.is_(None)
    # Those that went, too: what comes has to be later than they are.
    for ordered in (in_lane, func.substr(waits.gate, 1, len(COALESCE)) == COALESCE):
        last = connection.execute(select(func.max(place)).where(ordered)).scalar_one()
        if last is not None:
            connection.execute(update(WEBHOOK_SCHEDULE).where(ordered).values(log_offset=place - last - _LANE_ROOM))


def _unfinished(connection: Connection) -> Iterator[Sequence[RowMapping]]:
    """Events without a final outcome, oldest first, without those whose next task the outbox has.

    That is so for what intake accepts anew with its change, and for what was retried or replayed just now.
    """
    events = WEBHOOK_EVENTS
    # Changes with matches have left the outbox by now.
    unmatched = exists().where(_IS_CHANGE, OUTBOX.c.record_id == events.c.caused_by)
    key = tuple_(events.c.accepted_at, events.c.event_id)
    query = (
        select(events)
        .where(events.c.status.in_(_OPEN_STATUSES), events.c.kind.not_in(FINAL_KINDS), ~unmatched, ~IS_ON_ITS_WAY)
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
        for row in connection.execute(
            select(waits).where(waits.c.event_id.in_(ids), waits.c.task.is_not(None)).order_by(waits.c.dispatch_seq)
        )
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
    doubts = _doubts(connection, ids, now)
    fresh: list[dict[str, Any]] = []
    reopened: list[str] = []
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
            if task_id in doubts:
                options[RECONCILE] = doubts[task_id].encode()
            fresh.append(_wait(event, task_id, options, _call_back_gate(event), catalogue, now))
        elif wait.closed_at is None:
            if wait.dispatched_at is not None:
                reopened.append(wait.schedule_id)
            # What has begun was published, though the relay may not have noted it.
            if task_id in doubts:
                _hand_on(connection, wait, doubts[task_id])
        elif event["dispatch_seq"] > wait.dispatch_seq:
            fresh.append(_sent_on(event, task_id, wait, doubts.get(task_id), catalogue, now))
        elif wait.kind in ENDS or (wait.kind in ENDED_FOR_OTHERS and wait.dispatched_at is None):
            # The relay has recorded the end, but in the log that is gone.
            reopened.append(wait.schedule_id)
    _store(connection, fresh, reopened)
    return len(fresh) + len(reopened)


def _store(connection: Connection, fresh: Sequence[dict[str, Any]], reopened: Sequence[str]) -> None:
    """Add rows, and open others again."""
    waits = WEBHOOK_SCHEDULE
    if fresh:
        connection.execute(insert(waits), fresh)
        lanes = sorted({row["lane"] for row in fresh if row["lane"] is not None})
        if lanes:
            release_lanes(connection, lanes)
        hand_out_call_backs(connection, {row["gate"] for row in fresh if row["gate"] is not None})
    if reopened:
        # Who was told that it is too late to cancel was told the truth.
        too_late = (waits.c.kind == "cancelled") & waits.c.dispatched_at.is_not(None)
        anew = {"dispatched_at": None, "closed_at": None, "kind": case((too_late, "recovered"), else_=waits.c.kind)}
        connection.execute(update(waits).where(waits.c.schedule_id.in_(reopened)).values(anew))


def _doubts(connection: Connection, ids: Sequence[str], now: datetime) -> dict[TaskId, Pending]:
    """Tasks of these events that may have been done, or an earlier attempt of theirs: nothing outlived the process."""
    attempts = WEBHOOK_ATTEMPTS
    open_ones = select(attempts).where(attempts.c.event_id.in_(ids), attempts.c.kind.in_((*_BEGUN, "unclear")))
    found: dict[TaskId, Pending] = {}
    for row in connection.execute(open_ones.order_by(attempts.c.attempt)):
        if row.kind == "unclear":
            next_task = TaskId(row.event_id, row.run, row.step, row.attempt + 1)
            found[next_task] = Pending(from_datetime(row.recorded_at), 0, row.attempt)
        else:
            found[TaskId(row.event_id, row.run, row.step, row.attempt)] = Pending(from_datetime(now), 0, row.attempt)
    return found


def _hand_on(connection: Connection, wait: Row[Any], doubt: Pending) -> None:
    """Let a task that is in the schedule already look for what may have been done, before it does it (R6)."""
    task = decode_as(TaskReady, wait.task)
    _remember(task, doubt)
    waits = WEBHOOK_SCHEDULE
    connection.execute(update(waits).where(waits.c.schedule_id == wait.schedule_id).values(task=encode(task)))


def _remember(task: TaskReady, doubt: Pending) -> None:
    known = pending_of(task)
    if known is not None:
        doubt = doubt._replace(sent_until=max(known.sent_until, doubt.sent_until), looks=known.looks)
    task.options[RECONCILE] = doubt.encode()


def _sent_on(
    event: RowMapping, task_id: TaskId, wait: Row[Any], doubt: Pending | None, catalogue: Catalogue, now: datetime
) -> dict[str, Any]:
    """The row of a task that came out of the schedule and was deferred or moved since; the log had what came then."""
    task = decode_as(TaskReady, wait.task)
    if doubt is not None:
        _remember(task, doubt)
    gate = wait.gate if is_call_back_gate(wait.gate) else None
    return _wait(event, task_id, task.options, gate, catalogue, now)


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


def _call_back_gate(event: RowMapping) -> str | None:
    """Of an event that waits for a call-back: its next attempt runs no handler, but goes on with the call-back."""
    if event["kind"] != "waiting":
        return None
    return call_back_gate(event["tenant_id"], orjson.loads(event["result"])["call_back"])


def _wait(
    event: RowMapping,
    task_id: TaskId,
    options: dict[str, str],
    gate: str | None,
    catalogue: Catalogue,
    now: datetime,
) -> dict[str, Any]:
    tier = event["tier"]
    topic = event["next_topic"] or (catalogue.steps(tier) if task_id.step else catalogue.topic(tier))
    results = orjson.loads(event["results"] or "[]")[: task_id.step]
    key = partition_key(event["tenant_id"], event["model"], event["model_id"], task_id.event_id)
    strict, wanted = lane_wanted(event["routing_rule"], key) or (None, None)
    lane = None
    if wanted is not None:
        options[LANE] = wanted
        # Who has begun has the lane already.
        lane = options[LANE] if event["kind"] in ("accepted", "replayed") else None
    if gate is not None:
        options.setdefault(WAIT, event["result"])
    texts = [orjson.dumps(each).decode() for each in results]
    task = stored_task(event, task_id, event["dispatch_seq"], texts, options)
    task.gate = gate
    task.plugin_version, task.pipeline_hash = split_runs_on(event["runs_on"])
    return {
        "schedule_id": f"{task_id}|{event['dispatch_seq']}",
        "version": 1,
        **task_id._asdict(),
        "tenant_id": task.tenant_id,
        "dispatch_seq": task.dispatch_seq,
        "endpoint": task.endpoint,
        "tier": catalogue.tier(topic).name,
        "target_topic": topic,
        "kind": strict if lane else "recovered",
        "gate": gate,
        "lane": lane,
        "log_offset": task.accepted_at - _LANE_ROOM,
        "held_by": lane,
        "reason": "found without an outcome at an embedded start",
        "due_at": _due_at(event),
        "accepted_at": event["accepted_at"],
        "created_at": now,
        "record_key": key,
        "task": encode(task),
    }
