"""Columns worked out from the rows of several tables, after these have been written, in the same transaction.

They are functions of those rows alone, so it makes no difference which was projected first (R11, R19). What they say
is also in ``Rows.complete``, for rows in memory.
"""

from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, text, tuple_

from projections.attempts import FINISHED_STEP
from projections.conflicts import listed
from projections.fold import Rows
from projections.history import step_results
from projections.lanes import release_lanes
from projections.schedule import Progress, ScheduleRow, closed_at
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.events import from_datetime, to_datetime
from schemas.kinds import FINAL_KINDS, OUTCOME_KINDS

_CHUNK = 5000  # keys in one query: SQLite takes 32,766 parameters


def collect_results(connection: Connection, rows: Rows) -> None:
    """Put the step results of the latest run into the history rows of pipelines that are in this batch."""
    events, attempts = WEBHOOK_EVENTS, WEBHOOK_ATTEMPTS
    touched = {attempt.key[:2] for attempt in rows.attempts.values() if attempt.of_pipeline}
    touched.update(event.key for event in rows.events.values() if event.run > 1)  # a later run begins with none
    keys = sorted(touched)
    for start in range(0, len(keys), _CHUNK):
        chunk = [(to_datetime(accepted_at), event_id) for accepted_at, event_id in keys[start : start + _CHUNK]]
        found: dict[tuple[Any, str], list[tuple[int, int, str | None]]] = {key: [] for key in chunk}
        query = (
            select(attempts.c.accepted_at, attempts.c.event_id, attempts.c.step, attempts.c.attempt, attempts.c.result)
            .join(
                events,
                and_(
                    events.c.accepted_at == attempts.c.accepted_at,
                    events.c.event_id == attempts.c.event_id,
                    events.c.run == attempts.c.run,
                ),
            )
            .where(attempts.c.kind.in_(FINISHED_STEP), or_(attempts.c.step > 0, attempts.c.kind == "step_completed"))
            .where(tuple_(attempts.c.accepted_at, attempts.c.event_id).in_(chunk))
        )
        for accepted_at, event_id, step, attempt, result in connection.execute(query):
            found[accepted_at, event_id].append((step, attempt, result))
        connection.execute(
            events.update()
            .where(events.c.accepted_at == bindparam("key_accepted_at"), events.c.event_id == bindparam("key_event_id"))
            .values(results=bindparam("collected")),
            [
                {"key_accepted_at": key[0], "key_event_id": key[1], "collected": step_results(steps)}
                for key, steps in found.items()
            ],
        )


def close_waits(connection: Connection, rows: Rows) -> None:
    """Set ``closed_at`` of every wait that this batch, or what was there before it, put an end to.

    Lanes whose first event may be another one now are then given to it.
    """
    touched = {wait.event_id for wait in rows.schedule.values() if wait.event_id is not None}
    touched.update(event.event_id for event in rows.events.values() if event.kind != "accepted" or event.run > 1)
    lanes = {wait.lane for wait in rows.schedule.values() if wait.lane is not None}
    _close(connection, touched, lanes)


def mend_waits(connection: Connection) -> int:
    """Close what holds a lane or a gate although its event has ended; how many events were looked at.

    A wait and the end of its event, projected at one moment by two processes that catch up, do not see each other.
    Call it now and then, beside the projectors.
    """
    events, waits = WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
    # As the indexes have it: few rows at any time.
    first = text("lane IS NOT NULL AND held_by IS NULL AND webhook_schedule.kind <> 'cancelled' AND closed_at IS NULL")
    released = text("gate IS NOT NULL AND dispatched_at IS NOT NULL AND closed_at IS NULL")
    ended = and_(events.c.accepted_at == waits.c.accepted_at, events.c.event_id == waits.c.event_id)
    found = [
        select(waits.c.event_id).join(events, ended).where(condition, events.c.kind.in_(FINAL_KINDS))
        for condition in (first, released)
    ]
    touched = set(connection.execute(found[0].union(found[1])).scalars())
    _close(connection, touched, set())
    return len(touched)


def _close(connection: Connection, touched: set[str], lanes: set[str]) -> None:
    events, attempts, waits = WEBHOOK_EVENTS, WEBHOOK_ATTEMPTS, WEBHOOK_SCHEDULE
    query = (
        select(
            waits.c.schedule_id,
            waits.c.version,
            waits.c.kind,
            waits.c.run,
            waits.c.step,
            waits.c.attempt,
            waits.c.dispatch_seq,
            waits.c.lane,
            waits.c.created_at,
            waits.c.closed_at,
            attempts.c.recorded_at,
            events.c.run.label("event_run"),
            events.c.step.label("event_step"),
            events.c.attempt.label("event_attempt"),
            events.c.dispatch_seq.label("event_dispatch_seq"),
            events.c.kind.label("event_kind"),
            events.c.finished_at,
        )
        .outerjoin(
            attempts,
            and_(
                *(attempts.c[name] == waits.c[name] for name in ("accepted_at", "event_id", "run", "step", "attempt")),
                attempts.c.kind.in_(OUTCOME_KINDS),
            ),
        )
        .outerjoin(events, and_(events.c.accepted_at == waits.c.accepted_at, events.c.event_id == waits.c.event_id))
    )
    if not touched:
        return
    changed = []
    for found in connection.execute(query.where(waits.c.event_id.in_(listed(connection, touched)))):
        closed = _closed_at(found)
        if closed != _micros(found.closed_at):
            moment = None if closed is None else to_datetime(closed)
            changed.append({"key_schedule_id": found.schedule_id, "closed": moment})
            if found.lane is not None:
                lanes.add(found.lane)
    if changed:
        connection.execute(
            waits.update()
            .where(waits.c.schedule_id == bindparam("key_schedule_id"))
            .values(closed_at=bindparam("closed")),
            sorted(changed, key=lambda each: str(each["key_schedule_id"])),
        )
    if lanes:
        release_lanes(connection, sorted(lanes))


def _closed_at(found: Any) -> int | None:
    wait = ScheduleRow(
        found.schedule_id,
        found.version,
        kind=found.kind,
        run=found.run,
        step=found.step,
        attempt=found.attempt,
        dispatch_seq=found.dispatch_seq,
        lane=found.lane,
        created_at=_micros(found.created_at),
    )
    progress = None
    if found.event_run is not None:
        final_at = _micros(found.finished_at) if found.event_kind in FINAL_KINDS else None
        progress = Progress(
            found.event_run,
            found.event_step,
            found.event_attempt,
            found.event_dispatch_seq,
            found.event_kind,
            final_at,
        )
    return closed_at(wait, _micros(found.recorded_at), progress)


def _micros(moment: Any) -> int | None:
    return None if moment is None else from_datetime(moment)
