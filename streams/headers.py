"""Headers that every record carries: CloudEvents attributes in Kafka's binary mode, and the trace it belongs to."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from schemas.events import (
    ControlState,
    DeadLetter,
    Event,
    Micros,
    ModelChanged,
    Signal,
    TaskEvent,
    TaskId,
    TaskReady,
    TaskScheduled,
    WebhookRequested,
)

Headers = list[tuple[str, bytes]]

CE_SOURCE: Final = b"/webhook-streams"
_NAMES: Final[dict[type[Any], bytes]] = {
    ModelChanged: b"webhook.model_changed",
    WebhookRequested: b"webhook.webhook_requested",
    TaskReady: b"webhook.task_ready",
    TaskScheduled: b"webhook.task_scheduled",
    TaskEvent: b"webhook.task_event",
    ControlState: b"webhook.control_state",
    Signal: b"webhook.signal",
    DeadLetter: b"webhook.dead_letter",
}
_FIXED: Final[dict[type[Any], Headers]] = {
    cls: [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/avro"),
        ("ce_source", CE_SOURCE),
        ("ce_type", name),
    ]
    for cls, name in _NAMES.items()
}


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(micros: Micros) -> str:
    """``2026-11-24T06:00:00.000001Z`` of microseconds since 1970."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


def task_identity(event: TaskReady | TaskEvent | TaskScheduled) -> str:
    """The ``str(TaskId)`` of the task that a record is about."""
    return f"{event.event_id}|{event.run}|{event.step}|{event.attempt}"


def _identity(event: Event) -> tuple[str, Micros, str]:
    """Id, time and tenant of what a record tells; the id is equal on every redelivery of the same thing."""
    match event:
        case TaskEvent():
            return f"{task_identity(event)}|{event.dispatch_seq}|{event.kind}", event.recorded_at, event.tenant_id
        case TaskReady():
            return f"{task_identity(event)}|{event.dispatch_seq}", event.accepted_at, event.tenant_id
        case TaskScheduled():
            return f"{event.schedule_id}|{event.version}", event.created_at, event.tenant_id
        case ModelChanged():
            return event.change_id, event.occurred_at, event.tenant_id
        case WebhookRequested():
            return event.event_id, event.requested_at, event.tenant_id
        case DeadLetter():
            return f"{event.topic}|{event.partition}|{event.offset}", event.failed_at, ""
        case ControlState():
            return f"{event.name}|{event.subject}|{event.updated_at}", event.updated_at, ""
        case Signal():
            return f"{event.kind}|{event.sender}|{event.sent_at}", event.sent_at, ""


def record_headers(event: Event, *, traceparent: bytes | None = None) -> Headers:
    """Headers of a record, to which a topic's own may be appended; without tenant there is no ``ce_tenantid``."""
    identity, time, tenant_id = _identity(event)
    headers = [*_FIXED[type(event)], ("ce_id", identity.encode()), ("ce_time", rfc3339(time).encode())]
    if tenant_id:
        headers.append(("ce_tenantid", tenant_id.encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return headers


def find_header(headers: Any, name: str) -> bytes | None:
    """Value of the first header of that name in a record's list of pairs; ``None`` where there is none."""
    for each, value in headers or ():
        if each == name:
            found: bytes | None = value
            return found
    return None


def parse_task_id(text: str) -> TaskId:
    """The ``TaskId`` of its text. Raises ``ValueError`` for anything else."""
    event_id, run, step, attempt = text.split("|")
    return TaskId(event_id, int(run), int(step), int(attempt))
