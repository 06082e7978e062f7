"""The records of a tier's tasks: what waits, what is said of it, what follows from it."""

from collections.abc import Callable
from functools import partial
from typing import Final

from schemas.codec import encode
from schemas.copying import Marks, copier
from schemas.events import Micros, Source, TaskEvent, TaskReady, TaskScheduled, now_micros
from streams.agents.executions import Execution
from streams.agents.waiting import keep_trace, waiting_task
from streams.engine.contract import AssignedPartition, ConsumedRecord
from streams.engine.decide import RECONCILE, Continuation, Decision
from streams.engine.guard import DeadlineSlot
from streams.engine.lanes import LaneItem
from streams.engine.outcomes import Outgoing, cut
from streams.headers import Headers, record_headers, task_identity, tenant_in
from topics.gates import parse_gate

_new: Final[Callable[[type[TaskEvent]], TaskEvent]] = object.__new__
# The named tuple's own constructor is written in Python.
_source: Final = partial(tuple.__new__, Source)

RECORD_OVERHEAD_BYTES: Final = 700
"""What a waiting record takes beside its key and value, in bytes."""


class TierTask(LaneItem):
    """One record of a tier, from its offer to the acknowledgement of all that it leads to."""

    __slots__ = (
        "execution",
        "identity",
        "is_recorded",
        "marks",
        "may_have_acted",
        "record",
        "repeat_from",
        "slot",
        "source",
        "started_at",
        "task",
        "traceparent",
    )

    partition: AssignedPartition
    task: TaskReady
    marks: Marks | None
    source: Source
    started_at: Micros

    def __init__(self, partition: AssignedPartition, record: ConsumedRecord, is_step: bool) -> None:
        # Field by field, as its base class would: calling that costs as much again.
        self.partition = partition
        self.size = len(record.value or b"") + len(record.key or b"") + RECORD_OVERHEAD_BYTES
        self.is_step = is_step
        self.tenant = tenant_in(record.key, record.headers)
        self.holds_slot = False
        self.record = record
        self.identity = ""
        self.slot: DeadlineSlot | None = None
        self.execution: Execution | None = None
        self.is_recorded = False
        self.may_have_acted = False

    def read(self) -> None:
        """Decode the record, once its turn has come. Raises ``Undecodable``."""
        record = self.record
        self.task, self.marks = copier().read(record.value or b"")
        task = self.task
        self.identity = task_identity(task)
        self.source = _source((record.topic, record.partition, record.offset))
        headers = dict(record.headers)
        self.traceparent: bytes | None = headers.get("traceparent")
        self.repeat_from: bytes | None = headers.get("repeat_from")

    def remaining_s(self, now: float) -> float:
        """Seconds that the running handler may still take at ``now`` of the monotonic clock."""
        return max(0.0, self.slot.deadline - now) if self.slot is not None else 0.0


def outcome_event(item: TierTask, decision: Decision, tier: str, worker: str, finished_at: Micros) -> TaskEvent:
    """The record of `.events` that says what came of a task; its sequel is embedded (R1)."""
    task, source = item.task, item.source
    sequel = decision.continuation
    # Field by field: the class's own constructor takes six times as long, 5 % of what a record costs.
    event = _new(TaskEvent)
    event.kind = decision.kind
    event.event_id = task.event_id
    event.run = task.run
    event.step = task.step
    event.attempt = task.attempt
    event.dispatch_seq = task.dispatch_seq
    event.tenant_id = task.tenant_id
    event.accepted_at = task.accepted_at
    event.recorded_at = finished_at
    event.tier = tier
    event.endpoint = task.endpoint
    event.event_type = task.event_type
    event.trigger = task.trigger
    event.priority = task.priority
    event.model = task.model
    event.model_id = task.model_id
    event.settings_entry = task.settings_entry
    event.failover_from = task.failover_from
    event.handler = item.execution.handler if item.execution is not None else None
    event.worker = worker
    event.started_at = item.started_at
    event.finished_at = finished_at
    event.result = decision.result
    event.error = cut(decision.error) if decision.error is not None else None
    event.error_code = decision.error_code
    event.source_topic = source.topic
    event.source_partition = source.partition
    event.source_offset = source.offset
    event.plugin_version = task.plugin_version
    event.pipeline_hash = task.pipeline_hash
    event.next_topic = sequel.topic if sequel else None
    event.next_step = sequel.task.step if sequel else None
    event.next_attempt = sequel.task.attempt if sequel else None
    event.next_due_at = sequel.due_at if sequel else None
    event.delay_s = event.routing_rule = event.payload = event.caused_by = event.requested_by = None
    event.gate = sequel.task.gate if sequel else None
    event.remaining_s = None
    return event


def continuation_record(
    item: TierTask, continuation: Continuation, scheduled_topic: str, repeat_from: int | None = None
) -> Outgoing:
    """A continuation's record: at once on its topic, or on `.scheduled` for its time.

    ``repeat_from``: offset of its parent's outcome, where it is produced again (R1).
    """
    record = item.record
    event: TaskReady | TaskScheduled = continuation.task
    topic = continuation.topic
    if continuation.due_at is not None:
        topic = scheduled_topic
        keep_trace(continuation.task, item.traceparent)
        gate = continuation.task.gate
        kind = "reconcile" if RECONCILE in continuation.task.options else "retry"
        event = waiting_task(
            continuation.task,
            kind if gate is None else "wait",
            continuation.tier,
            continuation.topic,
            continuation.due_at,
            now_micros(),
        )
        if gate is not None:
            event.gate, event.reason = gate, f"waits for the call-back {parse_gate(gate).name}"
    headers = record_headers(event, traceparent=item.traceparent)
    headers += repeat_header(item, repeat_from)
    return Outgoing(topic, encode(event), record.key, headers)


def repeat_header(item: TierTask, repeat_from: int | None) -> Headers:
    """The header of what is produced again: the `.events` partition and offset of what it follows from (R1).

    ``None``: it is produced for the first time, and has no such header.
    """
    return [] if repeat_from is None else [("repeat_from", f"{item.partition.number}|{repeat_from}".encode())]
