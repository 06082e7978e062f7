"""The schedule: tasks that wait for their time, for the relay to publish when due (table ``webhook_schedule``).

A row is put together from three sides in any order (R11): the ``.scheduled`` record, of which the highest version
holds; the mark that a tier's topic has it; and ``closed_at``, worked out afterwards from history and attempts.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sqlalchemy import and_, or_

from projections.conflicts import Columns, Resolution, choose, earliest, earliest_value
from projections.records import Dispatched, Scheduled
from schemas.events import Micros

_WAIT: Final = (
    "version",
    "tenant_id",
    "event_id",
    "run",
    "step",
    "attempt",
    "dispatch_seq",
    "endpoint",
    "tier",
    "target_topic",
    "kind",
    "reason",
    "gate",
    "lane",
    "due_at",
    "accepted_at",
    "created_at",
    "record_key",
    "task",
)


@dataclass(slots=True)
class ScheduleRow:
    """A row of ``webhook_schedule``; instants in microseconds. Without a version it is only a mark."""

    schedule_id: str
    version: int | None = None
    tenant_id: str | None = None
    event_id: str | None = None
    run: int | None = None
    step: int | None = None
    attempt: int | None = None
    dispatch_seq: int | None = None
    endpoint: str | None = None
    tier: str | None = None
    target_topic: str | None = None
    kind: str | None = None
    reason: str | None = None
    gate: str | None = None
    lane: str | None = None
    due_at: Micros | None = None
    accepted_at: Micros | None = None
    created_at: Micros | None = None
    record_key: bytes | None = None
    task: bytes | None = None
    dispatched_at: Micros | None = None
    closed_at: Micros | None = None

    @property
    def key(self) -> str:
        """The primary key."""
        return self.schedule_id


def schedule_row(fact: Scheduled | Dispatched) -> ScheduleRow:
    """The row that this record alone would make."""
    if isinstance(fact, Dispatched):
        return ScheduleRow(fact.schedule_id, dispatched_at=fact.dispatched_at)
    event = fact.event
    return ScheduleRow(
        event.schedule_id,
        event.version,
        event.tenant_id,
        event.event_id,
        event.run,
        event.step,
        event.attempt,
        event.dispatch_seq,
        event.endpoint,
        event.tier,
        event.target_topic,
        event.kind,
        event.reason,
        event.gate,
        event.lane,
        event.due_at,
        event.accepted_at,
        event.created_at,
        fact.record_key,
        event.task,
    )


def _rank(row: ScheduleRow) -> tuple[int, int]:
    return (-1, 0) if row.version is None else (row.version, -(row.created_at or 0))


def merge_schedule(one: ScheduleRow, other: ScheduleRow) -> ScheduleRow:
    """Both rows of one schedule in one."""
    winner = other if _rank(other) > _rank(one) else one
    return replace(winner, dispatched_at=earliest_value(one.dispatched_at, other.dispatched_at))


def resolve_schedule(old: Columns, new: Columns) -> Resolution:
    """The same merge in SQL."""
    newer = and_(
        new["version"].is_not(None),
        or_(
            old["version"].is_(None),
            new["version"] > old["version"],
            and_(new["version"] == old["version"], new["created_at"] < old["created_at"]),
        ),
    )
    return Resolution(
        {**choose(newer, _WAIT, old, new), "dispatched_at": earliest(old["dispatched_at"], new["dispatched_at"])}
    )


class Progress(NamedTuple):
    """How far an event has come: the task its history row is about, and when its run ended, if it did."""

    run: int
    step: int
    attempt: int
    final_at: Micros | None


def closed_at(wait: ScheduleRow, outcome_at: Micros | None, progress: Progress | None) -> Micros | None:
    """When a wait lost its purpose; ``None`` while it has one.

    ``outcome_at`` is when the waiting task's own outcome was recorded. A function of the rows alone, so that it comes
    out the same whichever was projected first. A retry by hand waits beyond the task that ended the run: it stays open.
    """
    if wait.version is None or wait.run is None or wait.step is None or wait.attempt is None:
        return None
    if wait.kind == "cancelled":
        return wait.created_at
    if outcome_at is not None or progress is None:
        return outcome_at
    task = (wait.run, wait.step, wait.attempt)
    if progress[:3] > task:
        return wait.created_at
    return progress.final_at if progress[:3] == task else None
