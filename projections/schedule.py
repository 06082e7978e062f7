"""The schedule: tasks that wait for their time, for the relay to publish when due (table ``webhook_schedule``).

A row is put together from three sides in any order (R11): the ``.scheduled`` record, of which the highest version
holds; the mark that a tier's topic has it; and ``closed_at``, worked out afterwards from history and attempts.

``held_by`` is the gate or the lane that a row waits behind beside its time. ``log_offset`` is the place of its first
record in its partition of ``.scheduled``, where the events of a key stand in the order of their acceptance.
``call_back_id`` is the call-back that a row waits for, once it has come (``call_backs.py``); its time then is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sqlalchemy import and_, or_

from projections.conflicts import Columns, Resolution, choose, earliest, earliest_value
from projections.records import Dispatched, Scheduled
from schemas.events import Micros
from topics.gates import is_released_in_order

STRICT: Final = "strict"
"""Kind of a wait for its turn in a lane, which it gives up when its event has ended."""

STRICT_HALT: Final = "strict_halt"
"""The same where an event that failed for good keeps the lane, until somebody deals with it."""

SINGLETON_KINDS: Final[Mapping[str, str]] = {
    "queue": "singleton_queue",
    "skip": "singleton_skip",
    "replace": "singleton_replace",
}
"""Kinds of waits in the lane of a singleton, by what becomes of those that another one is before."""

HALTING_KINDS: Final = frozenset({"failed_permanently", "timed_out", "unknown"})
"""Ends of an event that keep a lane of kind ``STRICT_HALT``."""

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
    "held_by",
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
    log_offset: int | None = None
    held_by: str | None = None
    call_back_id: str | None = None

    @property
    def key(self) -> str:
        """The primary key."""
        return self.schedule_id


def schedule_row(fact: Scheduled | Dispatched) -> ScheduleRow:
    """The row that this record alone would make."""
    if isinstance(fact, Dispatched):
        return ScheduleRow(fact.schedule_id, dispatched_at=fact.dispatched_at)
    event = fact.event
    held_by = event.lane or (event.gate if is_released_in_order(event.gate) else None)
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
        log_offset=fact.offset,
        # What is cancelled waits for nothing: the relay records its end.
        held_by=None if event.kind == "cancelled" else held_by,
    )


def _rank(row: ScheduleRow) -> tuple[int, int]:
    return (-1, 0) if row.version is None else (row.version, -(row.created_at or 0))


def merge_schedule(one: ScheduleRow, other: ScheduleRow) -> ScheduleRow:
    """Both rows of one schedule in one."""
    winner = other if _rank(other) > _rank(one) else one
    return replace(
        winner,
        dispatched_at=earliest_value(one.dispatched_at, other.dispatched_at),
        log_offset=earliest_value(one.log_offset, other.log_offset),
    )


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
    firsts = {name: earliest(old[name], new[name]) for name in ("dispatched_at", "log_offset")}
    return Resolution({**choose(newer, _WAIT, old, new), **firsts})


class Progress(NamedTuple):
    """How far an event has come: the task its history row is about, and how and when its run ended, if it did."""

    run: int
    step: int
    attempt: int
    dispatch_seq: int
    kind: str
    final_at: Micros | None


def closed_at(wait: ScheduleRow, outcome_at: Micros | None, progress: Progress | None) -> Micros | None:
    """When a wait lost its purpose; ``None`` while it has one.

    ``outcome_at`` is when the waiting task's own outcome was recorded. A function of the rows alone, so that it comes
    out the same whichever was projected first. A retry by hand waits beyond the task that ended the run: it stays open.
    """
    if wait.version is None or wait.run is None or wait.step is None or wait.attempt is None:
        return None
    if wait.lane is not None:
        return _lane_given_up_at(wait, wait.run, progress)
    if outcome_at is not None or progress is None:
        return outcome_at
    task = (wait.run, wait.step, wait.attempt)
    # The same task dispatched anew waits, or runs, in another row.
    if (*progress[:3], progress.dispatch_seq) > (*task, wait.dispatch_seq or 0):
        return wait.created_at
    return progress.final_at if progress[:3] == task else None


def _lane_given_up_at(wait: ScheduleRow, run: int, progress: Progress | None) -> Micros | None:
    """When an event gave up its lane: at the end of its run, not at that of its first attempt (R12)."""
    if progress is None or progress.run < run:
        return None
    if progress.run > run:
        return wait.created_at
    halts = wait.kind == STRICT_HALT and progress.kind in HALTING_KINDS
    return None if halts else progress.final_at
