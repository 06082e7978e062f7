"""Typed events, one class for each schema in ``schemas/avro``.

Times are integers, microseconds since 1970-01-01 UTC (``Micros``): the codec leaves them as they are on
the wire, because building a ``datetime`` for each of a record's times costs more than the rest of decoding it.
Payloads and results stay JSON text until somebody needs them. What a field means is written in its schema.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeAlias

Micros: TypeAlias = int
"""Microseconds since 1970-01-01 UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_micros() -> Micros:
    """The present time."""
    return time.time_ns() // 1000


def to_datetime(micros: Micros) -> datetime:
    """The same instant as a timezone-aware ``datetime`` in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def from_datetime(value: datetime) -> Micros:
    """The same instant in microseconds. Raises ``ValueError`` for a naive ``datetime``."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; give an aware datetime")
    return (value - _EPOCH) // timedelta(microseconds=1)


class TaskId(NamedTuple):
    """Identity of a task: one handler run or one pipeline step of an event."""

    event_id: str
    run: int
    step: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.event_id}|{self.run}|{self.step}|{self.attempt}"


class Source(NamedTuple):
    """Where the record that carried a task lies."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True, kw_only=True)
class RecordHeader:
    """One header of a Kafka record."""

    name: str
    value: bytes | None = None


@dataclass(slots=True, kw_only=True)
class ModelChanged:
    """A row of a tracked model was created, updated, deleted or restored."""

    change_id: str
    tenant_id: str
    model: str
    model_id: str
    model_event: str
    occurred_at: Micros
    payload: str
    changed: list[str] = field(default_factory=list)
    previous: str | None = None
    priority: int | None = None
    source: str = ""


@dataclass(slots=True, kw_only=True)
class WebhookRequested:
    """A webhook was asked for by hand, by HTTP or by an inbound call; not yet routed."""

    event_id: str
    tenant_id: str
    endpoint: str
    event_type: str
    trigger: str
    requested_at: Micros
    payload: str
    priority: int | None = None
    delay_s: int | None = None
    model: str | None = None
    model_id: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    requested_by: str | None = None


@dataclass(slots=True, kw_only=True)
class TaskReady:
    """A task may run now. On a tier's topic for first steps, on its .steps topic for later ones."""

    event_id: str
    run: int
    step: int
    attempt: int
    dispatch_seq: int
    tenant_id: str
    endpoint: str
    event_type: str
    trigger: str
    priority: int
    accepted_at: Micros
    payload: str
    model: str | None = None
    model_id: str | None = None
    settings_entry: str | None = None
    results: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    gate: str | None = None
    plugin_version: str | None = None
    pipeline_hash: str | None = None
    failover_from: str | None = None


@dataclass(slots=True, kw_only=True)
class TaskScheduled:
    """A task waits for its time: a delay, a retry or a deferral."""

    schedule_id: str
    version: int = 1
    kind: str
    event_id: str
    run: int
    step: int
    attempt: int
    dispatch_seq: int
    tenant_id: str
    endpoint: str
    tier: str
    target_topic: str
    due_at: Micros
    accepted_at: Micros
    created_at: Micros
    task: bytes
    reason: str | None = None
    gate: str | None = None
    lane: str | None = None


@dataclass(slots=True, kw_only=True)
class TaskEvent:
    """Something that happened to an event or to one of its tasks; kind says what."""

    kind: str
    event_id: str
    run: int
    step: int
    attempt: int
    dispatch_seq: int
    tenant_id: str
    accepted_at: Micros
    recorded_at: Micros
    tier: str = ""
    endpoint: str = ""
    event_type: str = ""
    trigger: str = ""
    priority: int | None = None
    delay_s: int | None = None
    model: str | None = None
    model_id: str | None = None
    settings_entry: str | None = None
    routing_rule: str | None = None
    failover_from: str | None = None
    payload: str | None = None
    caused_by: str | None = None
    requested_by: str | None = None
    handler: str | None = None
    worker: str | None = None
    started_at: Micros | None = None
    finished_at: Micros | None = None
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | None = None
    next_topic: str | None = None
    next_step: int | None = None
    next_attempt: int | None = None
    next_due_at: Micros | None = None
    remaining_s: float | None = None
    plugin_version: str | None = None
    pipeline_hash: str | None = None
    gate: str | None = None


@dataclass(slots=True, kw_only=True)
class ControlState:
    """State that every role obeys; the latest record of a key holds."""

    name: str
    subject: str
    value: str
    updated_at: Micros
    updated_by: str | None = None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class Signal:
    """A short-lived message between roles: heartbeats and commands."""

    kind: str
    sender: str
    value: str
    sent_at: Micros
    expires_at: Micros | None = None


@dataclass(slots=True, kw_only=True)
class DeadLetter:
    """A record the pipeline could not read or route, kept as it was."""

    topic: str
    partition: int
    offset: int
    group: str
    reason: str
    error: str
    failed_at: Micros
    record_key: bytes | None = None
    value: bytes | None = None
    headers: list[RecordHeader] = field(default_factory=list)
    record_timestamp: Micros | None = None


Event: TypeAlias = (
    ModelChanged | WebhookRequested | TaskReady | TaskScheduled | TaskEvent | ControlState | Signal | DeadLetter
)
