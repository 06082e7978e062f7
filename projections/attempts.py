"""The attempts: one row for each task identity, with what came of it (table ``webhook_attempts``).

A row is that of the record of the highest kind; among equals the earliest holds, as in the ledger (R2, R19).
"""

from dataclasses import dataclass
from typing import Final

from projections.conflicts import Columns, Resolution, outranks
from schemas.events import Micros, TaskEvent
from schemas.kinds import Kind

_ON_THE_WAY: Final = frozenset({"intent", "started", "claimed", "released"})
FINISHED_STEP: Final = ("step_completed", "completed")


@dataclass(slots=True)
class AttemptRow:
    """A row of ``webhook_attempts``; instants in microseconds, the duration in milliseconds."""

    accepted_at: Micros
    event_id: str
    run: int
    step: int
    attempt: int
    tenant_id: str
    tier: str | None
    kind: str
    kind_rank: int
    handler: str | None
    worker: str | None
    started_at: Micros | None
    finished_at: Micros | None
    duration_ms: float | None
    result: str | None
    error: str | None
    error_code: str | None
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    next_topic: str | None
    next_step: int | None
    next_attempt: int | None
    next_due_at: Micros | None
    recorded_at: Micros

    @property
    def key(self) -> tuple[Micros, str, int, int, int]:
        """The primary key."""
        return self.accepted_at, self.event_id, self.run, self.step, self.attempt

    @property
    def of_pipeline(self) -> bool:
        """Whether it tells that its event has several steps."""
        return self.step > 0 or self.kind == "step_completed"


def is_about_attempt(kind: Kind) -> bool:
    """Whether records of this kind make a row."""
    return kind.outcome or kind.name in _ON_THE_WAY


def attempt_row(event: TaskEvent, kind: Kind) -> AttemptRow:
    """The row that this record alone makes."""
    row = object.__new__(AttemptRow)  # calling the class takes twice as long
    row.accepted_at = event.accepted_at
    row.event_id = event.event_id
    row.run = event.run
    row.step = event.step
    row.attempt = event.attempt
    row.tenant_id = event.tenant_id
    row.tier = event.tier or None
    row.kind = event.kind
    row.kind_rank = kind.rank
    row.handler = event.handler
    row.worker = event.worker
    row.started_at = event.started_at
    row.finished_at = event.finished_at
    timed = event.started_at is not None and event.finished_at is not None
    row.duration_ms = (event.finished_at - event.started_at) / 1000 if timed else None  # type: ignore[operator]
    row.result = event.result
    row.error = event.error
    row.error_code = event.error_code
    row.source_topic = event.source_topic
    row.source_partition = event.source_partition
    row.source_offset = event.source_offset
    row.next_topic = event.next_topic
    row.next_step = event.next_step
    row.next_attempt = event.next_attempt
    row.next_due_at = event.next_due_at
    row.recorded_at = event.recorded_at
    return row


def merge_attempts(one: AttemptRow, other: AttemptRow) -> AttemptRow:
    """The row that holds."""
    return other if (other.kind_rank, -other.recorded_at) > (one.kind_rank, -one.recorded_at) else one


def resolve_attempts(old: Columns, new: Columns) -> Resolution:
    """The same merge in SQL."""
    return Resolution(dict(new), where=outranks(("kind_rank",), "recorded_at", old, new))
