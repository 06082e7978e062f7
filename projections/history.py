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
from schemas.compiled import define
from schemas.events import Micros, TaskEvent
from schemas.kinds import KINDS, Kind, Status

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
    "runs_on",
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
    """A row of ``webhook_events``; instants in microseconds. ``results`` is made from the attempts, afterwards.

    ``runs_on`` is the plugin with its version, and ``#`` and the pipeline's hash where there is one.
    """

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
    runs_on: str | None
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
    def begun(self) -> bool:
        """Whether the first record of its event is in it."""
        return self.trigger is not None

    @property
    def final(self) -> bool:
        """Whether the latest run has ended."""
        return KINDS[self.kind].final


def runs_on_text(plugin_version: str | None, pipeline_hash: str | None) -> str | None:
    """``dwd 2.0#0123456789ab``, without ``#`` for a run without a pipeline; ``None`` where no version is recorded."""
    return plugin_version if pipeline_hash is None or plugin_version is None else f"{plugin_version}#{pipeline_hash}"


def split_runs_on(text: str | None) -> tuple[str | None, str | None]:
    """The plugin with its version and the pipeline's hash of which ``runs_on_text`` made a text."""
    version, _, pipeline = (text or "").partition("#")
    return version or None, pipeline or None


def event_row(event: TaskEvent, kind: Kind, status: Status) -> EventRow:
    """The row that this record alone makes."""
    first = _is_first(event)
    row = object.__new__(EventRow)  # calling the class takes twice as long
    row.accepted_at = event.accepted_at
    row.event_id = event.event_id
    row.endpoint = event.endpoint or None
    row.event_type = event.event_type or None
    row.model = event.model
    row.model_id = event.model_id
    row.trigger = event.trigger or None if first else None
    row.priority = event.priority if first else None
    row.delay_s = event.delay_s if first else None
    row.payload = event.payload if first else None
    row.results = None
    row.failover_from = event.failover_from if first else None
    row.routing_rule = event.routing_rule if first else None
    row.settings_entry = event.settings_entry
    row.requested_by = event.requested_by if first else None
    row.caused_by = event.caused_by if first else None
    row.started_at = event.started_at
    _move_on(row, event, kind, status)
    return row


def _is_first(event: TaskEvent) -> bool:
    # Later records may name another requester or trigger (who dismissed it, how it was retried): not the event's own.
    return event.run == 1 and event.kind == "accepted"


# Written out for each fact: a loop by name takes four times as long.
_FILL_IN: Final = define(
    "row, other", [f"if row.{name} is None:\n    row.{name} = other.{name}\n" for name in _FACTS], {}
)
_OVERRIDE: Final = define(
    "row, other", [f"if other.{name} is not None:\n    row.{name} = other.{name}\n" for name in _FACTS], {}
)


def merge_into(row: EventRow, event: TaskEvent, kind: Kind, status: Status) -> None:
    """Add to its event's row what this record says: half the work of a second row and a merge of the two."""
    same_run = row.run == event.run
    known = row.run, row.dispatch_seq, row.step, row.attempt, row.kind_rank, -row.updated_at
    is_later = (event.run, event.dispatch_seq, event.step, event.attempt, kind.rank, -event.recorded_at) > known
    if _is_first(event) or not is_later:
        (_OVERRIDE if is_later else _FILL_IN)(row, event_row(event, kind, status))
    else:
        row.endpoint = event.endpoint or row.endpoint
        row.event_type = event.event_type or row.event_type
        if event.model is not None:
            row.model = event.model
        if event.model_id is not None:
            row.model_id = event.model_id
        if event.settings_entry is not None:
            row.settings_entry = event.settings_entry
    if same_run:
        row.started_at = earliest_value(row.started_at, event.started_at)
    elif is_later:
        row.started_at = event.started_at
    if is_later:
        _move_on(row, event, kind, status)


def _move_on(row: EventRow, event: TaskEvent, kind: Kind, status: Status) -> None:
    """Give the row the state of a record of higher rank."""
    row.tenant_id = event.tenant_id
    row.tier = event.tier or None
    row.status = status
    row.kind = event.kind
    row.kind_rank = kind.rank
    row.run = event.run
    row.step = event.step
    row.attempt = event.attempt
    row.dispatch_seq = event.dispatch_seq
    row.handler = event.handler
    row.runs_on = runs_on_text(event.plugin_version, event.pipeline_hash)
    row.result = event.result
    row.error = event.error
    row.error_code = event.error_code
    row.next_topic = event.next_topic
    row.next_step = event.next_step
    row.next_attempt = event.next_attempt
    row.next_due_at = event.next_due_at
    row.finished_at = (event.finished_at or event.recorded_at) if kind.final else None
    row.updated_at = event.recorded_at


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
