"""Tasks made anew from the history: at an embedded start, for a retry by hand and for a replay."""

from collections.abc import Mapping, Sequence

from sqlalchemy import RowMapping

from schemas.events import TaskId, TaskReady, from_datetime


def stored_task(
    event: RowMapping, task_id: TaskId, dispatch_seq: int, results: Sequence[str], options: Mapping[str, str]
) -> TaskReady:
    """The task ``task_id`` of an event's row of ``webhook_events``, without gate and version.

    ``results`` are the JSON results of the steps before it.
    """
    return TaskReady(
        **task_id._asdict(),
        dispatch_seq=dispatch_seq,
        tenant_id=event["tenant_id"],
        endpoint=event["endpoint"],
        event_type=event["event_type"],
        trigger=event["trigger"],
        priority=event["priority"] or 5,
        accepted_at=from_datetime(event["accepted_at"]),
        payload=event["payload"],
        model=event["model"],
        model_id=event["model_id"],
        settings_entry=event["settings_entry"],
        results=list(results),
        options=dict(options),
        failover_from=event["failover_from"],
    )
