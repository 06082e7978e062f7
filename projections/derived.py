"""Columns worked out from the rows of several tables, after these have been written, in the same transaction.

They are functions of those rows alone, so it makes no difference which was projected first (R11, R19). What they say
is also in ``Rows.complete``, for rows in memory.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, tuple_

from projections.attempts import FINISHED_STEP, OUTCOMES
from projections.fold import Rows
from projections.history import step_results
from projections.schedule import Progress, ScheduleRow, closed_at
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.events import from_datetime, to_datetime
from schemas.kinds import FINAL_KINDS

_CHUNK = 5000  # ids in one query: each batch needs one, and SQLite takes 32,766 parameters


def _chunks(ids: Iterable[str]) -> Iterable[Sequence[str]]:
    ordered = sorted(ids)
    return (ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK))


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
    """Set ``closed_at`` of every wait that this batch, or what was there before it, put an end to."""
    events, attempts, waits = WEBHOOK_EVENTS, WEBHOOK_ATTEMPTS, WEBHOOK_SCHEDULE
    touched = {wait.event_id for wait in rows.schedule.values() if wait.event_id is not None}
    touched.update(event.event_id for event in rows.events.values() if event.kind != "accepted" or event.run > 1)
    query = (
        select(
            waits.c.schedule_id,
            waits.c.version,
            waits.c.kind,
            waits.c.run,
            waits.c.step,
            waits.c.attempt,
            waits.c.created_at,
            waits.c.closed_at,
            attempts.c.recorded_at,
            events.c.run.label("event_run"),
            events.c.step.label("event_step"),
            events.c.attempt.label("event_attempt"),
            events.c.kind.label("event_kind"),
            events.c.finished_at,
        )
        .outerjoin(
            attempts,
            and_(
                *(attempts.c[name] == waits.c[name] for name in ("accepted_at", "event_id", "run", "step", "attempt")),
                attempts.c.kind.in_(OUTCOMES),
            ),
        )
        .outerjoin(events, and_(events.c.accepted_at == waits.c.accepted_at, events.c.event_id == waits.c.event_id))
    )
    changed = []
    for chunk in _chunks(touched):
        for found in connection.execute(query.where(waits.c.event_id.in_(chunk))):
            closed = _closed_at(found)
            if closed != _micros(found.closed_at):
                moment = None if closed is None else to_datetime(closed)
                changed.append({"key_schedule_id": found.schedule_id, "closed": moment})
    if changed:
        connection.execute(
            waits.update()
            .where(waits.c.schedule_id == bindparam("key_schedule_id"))
            .values(closed_at=bindparam("closed")),
            sorted(changed, key=lambda each: str(each["key_schedule_id"])),
        )


def _closed_at(found: Any) -> int | None:
    wait = ScheduleRow(
        found.schedule_id,
        found.version,
        kind=found.kind,
        run=found.run,
        step=found.step,
        attempt=found.attempt,
        created_at=_micros(found.created_at),
    )
    progress = None
    if found.event_run is not None:
        final_at = _micros(found.finished_at) if found.event_kind in FINAL_KINDS else None
        progress = Progress(found.event_run, found.event_step, found.event_attempt, final_at)
    return closed_at(wait, _micros(found.recorded_at), progress)


def _micros(moment: Any) -> int | None:
    return None if moment is None else from_datetime(moment)
