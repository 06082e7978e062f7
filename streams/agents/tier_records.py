"""The records of a tier's tasks: what waits, what is said of it, what follows from it."""

from typing import Final

from schemas.codec import encode
from schemas.events import Micros, Source, TaskEvent, TaskReady, TaskScheduled, now_micros
from streams.agents.executions import Execution
from streams.agents.waiting import waiting_task
from streams.engine.contract import AssignedPartition, ConsumedRecord
from streams.engine.decide import Continuation, Decision
from streams.engine.guard import DeadlineSlot
from streams.engine.lanes import LaneItem
from streams.engine.outcomes import Outgoing, cut
from streams.headers import record_headers

RECORD_OVERHEAD_BYTES: Final = 700
"""What a waiting record takes beside its key and value, in bytes."""


class TierTask(LaneItem):
    """One record of a tier, from its offer to the acknowledgement of all that it leads to."""

    __slots__ = (
        "execution",
        "identity",
        "is_recorded",
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

    def __init__(self, partition: AssignedPartition, record: ConsumedRecord, is_step: bool) -> None:
        size = len(record.value or b"") + len(record.key or b"") + RECORD_OVERHEAD_BYTES
        super().__init__(partition, size, is_step)
        self.record = record
        self.source = Source(partition.topic, partition.number, record.offset)
        self.slot = DeadlineSlot()
        self.identity = ""
        self.started_at: Micros = 0
        self.execution: Execution | None = None
        self.is_recorded = False
        self.traceparent: bytes | None = None
        self.repeat_from: bytes | None = None

    def read_headers(self) -> None:
        """Take what matters from the record's headers, in one pass."""
        for name, value in self.record.headers:
            if name == "traceparent":
                self.traceparent = value
            elif name == "repeat_from":
                self.repeat_from = value


def outcome_event(item: TierTask, decision: Decision, tier: str, worker: str, finished_at: Micros) -> TaskEvent:
    """The record of `.events` that says what came of a task; its sequel is embedded (R1)."""
    task, source = item.task, item.source
    sequel = decision.continuation
    return TaskEvent(
        kind=decision.kind,
        event_id=task.event_id,
        run=task.run,
        step=task.step,
        attempt=task.attempt,
        dispatch_seq=task.dispatch_seq,
        tenant_id=task.tenant_id,
        accepted_at=task.accepted_at,
        recorded_at=finished_at,
        tier=tier,
        endpoint=task.endpoint,
        event_type=task.event_type,
        trigger=task.trigger,
        priority=task.priority,
        model=task.model,
        model_id=task.model_id,
        settings_entry=task.settings_entry,
        failover_from=task.failover_from,
        handler=item.execution.handler if item.execution is not None else None,
        worker=worker,
        started_at=item.started_at,
        finished_at=finished_at,
        result=decision.result,
        error=cut(decision.error) if decision.error is not None else None,
        error_code=decision.error_code,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
        next_topic=sequel.topic if sequel else None,
        next_step=sequel.task.step if sequel else None,
        next_attempt=sequel.task.attempt if sequel else None,
        next_due_at=sequel.due_at if sequel else None,
        plugin_version=task.plugin_version,
        pipeline_hash=task.pipeline_hash,
    )


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
        event = waiting_task(
            continuation.task, "retry", continuation.tier, continuation.topic, continuation.due_at, now_micros()
        )
    headers = record_headers(event, traceparent=item.traceparent)
    if repeat_from is not None:
        headers.append(("repeat_from", f"{item.partition.number}|{repeat_from}".encode()))
    return Outgoing(topic, encode(event), record.key, headers)
