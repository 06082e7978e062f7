"""The history: one row for each event, with what it is and how far it has come (table ``webhook_events``).

Three kinds of columns, each merged in a way that does not care for the order of records (R19):

* facts never change in an event's life; the first record that knows one fills it in,
* the state is that of the record of highest rank: (run, dispatch_seq, step, attempt, rank of the kind),
* ``started_at`` is the earliest start in the latest run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import case, func

from projections.conflicts import Columns, Resolution, choose, earliest, earliest_value, outranks
from schemas.events import Micros, TaskEvent
from schemas.kinds import KINDS

RANK: Final = ("run", "dispatch_seq", "step", "attempt", "kind_rank")
_FACTS: Final = (
    "endpoint",
    "event_type",
    "model",
    "model_id",
    "trigger",
    "priority",
    "delay_s",
    "payload",
    "failover_from",
    "routing_rule",
    "settings_entry",
    "requested_by",
    "caused_by",
)
_STATE: Final = (
    "tier",
    "status",
    "kind",
    "kind_rank",
    "run",
    "step",
    "attempt",
    "dispatch_seq",
    "handler",
    "result",
    "error",
    "error_code",
    "next_topic",
    "next_step",
    "next_attempt",
    "next_due_at",
    "finished_at",
    "updated_at",
)


@dataclass(slots=True)
class EventRow:
    """A row of ``webhook_events``; instants in microseconds. ``results`` is made from the attempts, afterwards."""

    accepted_at: Micros
    event_id: str
    tenant_id: str
    tier: str | None
    endpoint: str | None
    event_type: str | None
    model: str | None
    model_id: str | None
    trigger: str | None
    priority: int | None
    delay_s: int | None
    status: str
    kind: str
    kind_rank: int
    run: int
    step: int
    attempt: int
    dispatch_seq: int
    handler: str | None
    payload: str | None
    result: str | None
    results: str | None
    error: str | None
    error_code: str | None
    failover_from: str | None
    routing_rule: str | None
    settings_entry: str | None
    requested_by: str | None
    caused_by: str | None
    next_topic: str | None
    next_step: int | None
    next_attempt: int | None
    next_due_at: Micros | None
    started_at: Micros | None
    finished_at: Micros | None
    updated_at: Micros

    @property
    def key(self) -> tuple[Micros, str]:
        """The primary key."""
        return self.accepted_at, self.event_id

    @property
    def final(self) -> bool:
        """Whether the latest run has ended."""
        return KINDS[self.kind].final


def event_row(event: TaskEvent) -> EventRow | None:
    """The row that this record alone would make; ``None`` for a kind that is about no event's state."""
    kind = KINDS[event.kind]
    if kind.status is None:
        return None
    # Later records may name another requester or trigger (who dismissed it, how it was retried): not the event's own.
    first = event.kind == "accepted" and event.run == 1
    return EventRow(
        event.accepted_at,
        event.event_id,
        event.tenant_id,
        event.tier or None,
        event.endpoint or None,
        event.event_type or None,
        event.model,
        event.model_id,
        event.trigger or None if first else None,
        event.priority if first else None,
        event.delay_s if first else None,
        kind.status,
        event.kind,
        kind.rank,
        event.run,
        event.step,
        event.attempt,
        event.dispatch_seq,
        event.handler,
        event.payload if first else None,
        event.result,
        None,
        event.error,
        event.error_code,
        event.failover_from if first else None,
        event.routing_rule if first else None,
        event.settings_entry,
        event.requested_by if first else None,
        event.caused_by if first else None,
        event.next_topic,
        event.next_step,
        event.next_attempt,
        event.next_due_at,
        event.started_at,
        (event.finished_at or event.recorded_at) if kind.final else None,
        event.recorded_at,
    )


def _rank(row: EventRow) -> tuple[int, int, int, int, int, int]:
    return row.run, row.dispatch_seq, row.step, row.attempt, row.kind_rank, -row.updated_at


def merge_events(one: EventRow, other: EventRow) -> EventRow:
    """Both rows of one event in one. Changes and gives the one of higher rank."""
    winner, loser = (other, one) if _rank(other) > _rank(one) else (one, other)
    for name in _FACTS:
        if getattr(winner, name) is None:
            setattr(winner, name, getattr(loser, name))
    if winner.run == loser.run:
        winner.started_at = earliest_value(winner.started_at, loser.started_at)
    return winner


def resolve_events(old: Columns, new: Columns) -> Resolution:
    """The same merge in SQL."""
    return Resolution(
        {
            **{name: func.coalesce(old[name], new[name]) for name in _FACTS},
            **choose(outranks(RANK, "updated_at", old, new), _STATE, old, new),
            "started_at": case(
                (new["run"] > old["run"], new["started_at"]),
                (new["run"] < old["run"], old["started_at"]),
                else_=earliest(old["started_at"], new["started_at"]),
            ),
        }
    )


def step_results(steps: Sequence[tuple[int, int, str | None]]) -> str | None:
    """A JSON array of the results of a run's finished steps, given as (step, attempt, JSON result).

    In order of steps. A step finished twice counts once, with its first attempt. ``None`` where no step has finished.
    """
    found: dict[int, str] = {}
    for step, _, result in sorted(steps, key=lambda each: each[:2]):
        found.setdefault(step, result or "null")
    return f"[{','.join(found.values())}]" if found else None
