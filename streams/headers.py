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
    Source,
    TaskEvent,
    TaskId,
    TaskReady,
    TaskScheduled,
    WebhookRequested,
)
from topics.keys import tenant_of_key

Headers = list[tuple[str, bytes]]

CE_SOURCE: Final = b"/webhook-streams"
_TASK_EVENT: Final = b"webhook.task_event"
_NAMES: Final[dict[type[Any], bytes]] = {
    ModelChanged: b"webhook.model_changed",
    WebhookRequested: b"webhook.webhook_requested",
    TaskReady: b"webhook.task_ready",
    TaskScheduled: b"webhook.task_scheduled",
    TaskEvent: _TASK_EVENT,
    ControlState: b"webhook.control_state",
    Signal: b"webhook.signal",
    DeadLetter: b"webhook.dead_letter",
}


@lru_cache(maxsize=4096)
def _common(name: bytes, tenant_id: str) -> Headers:
    """What all records of a type and a tenant have in common; never changed by who gets it."""
    common = [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/avro"),
        ("ce_source", CE_SOURCE),
        ("ce_type", name),
    ]
    return [*common, ("ce_tenantid", tenant_id.encode())] if tenant_id else common


@lru_cache(maxsize=256)
def _millisecond(milliseconds: int) -> bytes:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z".encode()


def rfc3339(micros: Micros) -> bytes:
    """``2026-11-24T06:00:00.001Z`` of microseconds since 1970, cut to milliseconds: many records share one."""
    return _millisecond(micros // 1000)


@lru_cache(maxsize=1024)
def _attempt(run: int, step: int, attempt: int) -> str:
    """What many identities end with."""
    return f"|{run}|{step}|{attempt}"


def task_identity(event: TaskReady | TaskEvent | TaskScheduled) -> str:
    """The ``str(TaskId)`` of the task that a record is about."""
    return event.event_id + _attempt(event.run, event.step, event.attempt)


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
    headers = [*_common(_NAMES[type(event)], tenant_id), ("ce_id", identity.encode()), ("ce_time", rfc3339(time))]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return headers


def event_headers(event: TaskEvent, source: Source, traceparent: bytes | None = None) -> Headers:
    """Headers of a record on `.events`: the same, and what ledgers read without decoding it (R2)."""
    identity = task_identity(event)
    kind = event.kind
    headers = [
        *_common(_TASK_EVENT, event.tenant_id),
        ("ce_id", f"{identity}|{event.dispatch_seq}|{kind}".encode()),
        ("ce_time", _millisecond(event.recorded_at // 1000)),
        ("kind", kind.encode()),
        ("source", f"{source[0]}|{source[1]}|{source[2]}".encode()),
        ("identity", identity.encode()),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    if event.remaining_s is not None:
        headers.append(("remaining_s", b"%.3f" % event.remaining_s))
    if kind == "moved" and event.next_topic is not None:
        headers.append(("moved_to", event.next_topic.encode()))
    return headers


def completed_headers(
    task: TaskReady, identity: str, source: Source, recorded_at: Micros, traceparent: bytes | None
) -> Headers:
    """What ``event_headers`` gives for the outcome of a completed task, without the outcome."""
    name = identity.encode()
    headers = [
        *_completed(task.tenant_id),
        ("ce_id", name + _completed_dispatch(task.dispatch_seq)),
        ("ce_time", _millisecond(recorded_at // 1000)),
        ("source", b"%b%d" % (_place(source[0], source[1]), source[2])),
        ("identity", name),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    return headers


@lru_cache(maxsize=256)
def _completed_dispatch(dispatch_seq: int) -> bytes:
    return b"|%d|completed" % dispatch_seq


@lru_cache(maxsize=4096)
def _place(topic: str, partition: int) -> bytes:
    return f"{topic}|{partition}|".encode()


@lru_cache(maxsize=4096)
def _completed(tenant_id: str) -> Headers:
    return [*_common(_TASK_EVENT, tenant_id), ("kind", b"completed")]


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


def tenant_in(key: bytes | None, headers: Any) -> str:
    """A record's tenant without decoding it: its key begins with it, and without a model its header names it."""
    tenant = tenant_of_key(key or b"")
    if tenant is None:
        return (find_header(headers or (), "ce_tenantid") or b"").decode(errors="replace")
    return tenant
