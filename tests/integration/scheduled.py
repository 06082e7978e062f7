"""Events that wait in the schedule, put there as intake does it, and a projector beside them."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer
from sqlalchemy import Engine, func, select

from projections.tables import WEBHOOK_SCHEDULE
from schemas.codec import encode
from schemas.events import Micros, Source, TaskEvent, TaskReady, TaskScheduled, now_micros
from streams.agents.waiting import waiting_task
from streams.background import run_in_background
from streams.broker.connection import producer_config
from streams.headers import event_headers, record_headers
from streams.projector import Projector
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue
from topics.keys import partition_key

TIER = "webhook-db"


def task_of(event_id: str, accepted_at: Micros, **values: Any) -> TaskReady:
    """The first task of an event."""
    known: dict[str, Any] = {
        "event_id": event_id,
        "run": 1,
        "step": 0,
        "attempt": 1,
        "dispatch_seq": 1,
        "tenant_id": "1",
        "endpoint": "webhook/order",
        "event_type": "order_created",
        "trigger": "model",
        "priority": 5,
        "accepted_at": accepted_at,
        "payload": "{}",
    }
    return TaskReady(**(known | values))


def wait_of(task: TaskReady, catalogue: Catalogue, due_at: Micros, **values: Any) -> TaskScheduled:
    """The task as it waits; ``values`` set fields of the wait."""
    scheduled = waiting_task(task, "delay", TIER, catalogue.topic(TIER), due_at, now_micros())
    for name, value in values.items():
        setattr(scheduled, name, value)
    return scheduled


def key_of(task: TaskReady | TaskScheduled) -> bytes:
    """Key of an event's records."""
    model, model_id = (task.model, task.model_id) if isinstance(task, TaskReady) else (None, None)
    return partition_key(task.tenant_id, model, model_id, task.event_id)


def produce(settings: Settings, *records: tuple[str, bytes, bytes, Any]) -> None:
    """Write records (topic, key, value, headers) and wait for their acknowledgement."""
    producer = Producer(producer_config(settings))
    for topic, key, value, headers in records:
        producer.produce(topic, value, key, headers=headers)
    assert producer.flush(20) == 0
    producer.close()


def accepted(task: TaskReady, kind: str = "accepted", **values: Any) -> TaskEvent:
    """What `.events` says of a task."""
    event = TaskEvent(
        kind=kind,
        event_id=task.event_id,
        run=task.run,
        step=task.step,
        attempt=task.attempt,
        dispatch_seq=task.dispatch_seq,
        tenant_id=task.tenant_id,
        accepted_at=task.accepted_at,
        recorded_at=now_micros(),
        tier=TIER,
        endpoint=task.endpoint,
        payload="{}" if kind == "accepted" else None,
    )
    for name, value in values.items():
        setattr(event, name, value)
    return event


def event_record(catalogue: Catalogue, event: TaskEvent, key: bytes) -> tuple[str, bytes, bytes, Any]:
    """A record of `.events`."""
    headers = event_headers(event, Source(catalogue.requests, 0, 0), None)
    return catalogue.events, key, encode(event), headers


def wait_record(catalogue: Catalogue, wait: TaskScheduled, key: bytes) -> tuple[str, bytes, bytes, Any]:
    """A record of `.scheduled`."""
    return catalogue.scheduled, key, encode(wait), record_headers(wait)


def accept(settings: Settings, catalogue: Catalogue, delays_s: Mapping[str, float]) -> Micros:
    """Accept events with delays, by event id; from when the delays count."""
    begin = now_micros()
    records = []
    for event_id, delay_s in delays_s.items():
        task = task_of(event_id, begin)
        key = key_of(task)
        records.append(event_record(catalogue, accepted(task), key))
        records.append(wait_record(catalogue, wait_of(task, catalogue, begin + int(delay_s * 1_000_000)), key))
    produce(settings, *records)
    return begin


@contextmanager
def projecting(settings: Settings, catalogue: Catalogue, engine: Engine, epoch: str = "epoch") -> Iterator[None]:
    """A projector in a thread for the length of the block."""
    stop = threading.Event()
    crashes: list[BaseException] = []
    projector = Projector(settings, catalogue, engine, epoch)
    thread = run_in_background("projector", lambda: projector.run(stop), lambda _name, error: crashes.append(error))
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not crashes


def wait_for(engine: Engine, *event_ids: str) -> None:
    """Until the schedule has rows of these events."""

    def found() -> bool:
        chosen = select(func.count()).where(
            WEBHOOK_SCHEDULE.c.event_id.in_(event_ids), WEBHOOK_SCHEDULE.c.version.is_not(None)
        )
        with engine.connect() as connection:
            count: int = connection.execute(chosen).scalar_one()
        return count >= len(event_ids)

    eventually(found, 60)
