"""The record of a task that waits for its time."""

from typing import Final

from schemas.codec import encode
from schemas.events import Micros, TaskReady, TaskScheduled
from streams.headers import task_identity

TRACE: Final = "traceparent"
"""Option of a task that waited: the trace that it belongs to, which the relay makes its record's header again."""

_LONGEST_TRACE: Final = 200


def keep_trace(task: TaskReady, traceparent: bytes | None) -> None:
    """Let a task that will wait carry its trace through the schedule, which keeps no headers."""
    if traceparent is not None and len(traceparent) <= _LONGEST_TRACE and traceparent.isascii():
        task.options[TRACE] = traceparent.decode()


def waiting_task(
    task: TaskReady, kind: str, tier: str, topic: str, due_at: Micros, created_at: Micros
) -> TaskScheduled:
    """``task`` as it waits for ``due_at``, to be published unchanged to ``topic`` of ``tier``; ``kind`` says why."""
    return TaskScheduled(
        schedule_id=f"{task_identity(task)}|{task.dispatch_seq}",
        kind=kind,
        event_id=task.event_id,
        run=task.run,
        step=task.step,
        attempt=task.attempt,
        dispatch_seq=task.dispatch_seq,
        tenant_id=task.tenant_id,
        endpoint=task.endpoint,
        tier=tier,
        target_topic=topic,
        due_at=due_at,
        accepted_at=task.accepted_at,
        created_at=created_at,
        task=encode(task),
    )
