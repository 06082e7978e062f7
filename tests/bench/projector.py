"""The projector against a bare COPY of the same rows into the same indexed tables, in batches of the same size.

The projector finds its records waiting in Kafka (each event accepted, put into its tier and completed a little later)
and does all that it does in production. The COPY is given finished rows, encoded beforehand: nothing is read, decoded,
folded, merged or positioned. That is the strict reading, and the one that ``ratio`` follows; a COPY that has to encode
its rows first stands beside it (``copy_with_encoding_rows_per_s``).

Wall time is only worth something on a machine with nothing else to do: the projector keeps both cores busy (its own
process one, PostgreSQL most of the other), the COPY one. ``cpu_us_per_row`` is what the projector's process spends on a
row, its Kafka client included; it hardly depends on the neighbours.
"""

import io
import statistics
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from threading import Event

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine, text

from projections.binary_copy import BinaryCopy
from projections.fold import Rows, fold
from projections.migrate import upgrade
from projections.records import Positions
from projections.upsert import Target
from projections.writer import ATTEMPTS, EVENTS
from schemas.codec import encode
from schemas.events import TaskEvent, now_micros
from streams.broker.connection import admin_config, producer_config
from streams.broker.provision import apply
from streams.database import create_database_engine
from streams.engine.app import settle_memory
from streams.headers import record_headers
from streams.projector import Projector
from streams.settings import Settings
from topics.catalogue import Catalogue

ROUNDS = 3
EVENTS_IN_LOG = 40_000
IN_FLIGHT = 500
PAYLOAD = '{"order":{"id":4711,"lines":[{"sku":"A4-135g","quantity":500,"options":{"lamination":"matt"}}]},"note":"x"}'


def measure(bootstrap_servers: str, database_url: str) -> dict[str, dict[str, float]]:
    """Rows a second of both, each the median of its rounds, measured in turn."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}"
    queues = {f"{name}_queue": f"{prefix}-{name}" for name in ("high", "beanstalk", "redis", "db", "low", "failed")}
    settings = Settings.model_validate({"bootstrap_servers": bootstrap_servers, "topic_prefix": prefix, **queues})
    catalogue = settings.catalogue()
    admin = AdminClient(admin_config(settings))
    engine = create_database_engine(database_url)
    try:
        upgrade(engine)
        apply(admin, catalogue)
        facts = _facts()
        total = _produce(settings, catalogue, facts)
        rows = fold(facts)
        settle_memory()  # as `webhook project` does at its start; the log as objects is no part of what is measured
        count = len(rows.events) + len(rows.attempts)
        projected, copied, spent = [], [], []
        for number in range(ROUNDS):
            _empty(engine)
            begun = time.process_time()
            projected.append(_project(settings, catalogue, engine, total, f"round-{number}") * count / total)
            spent.append((time.process_time() - begun) * 1e6 / count)
            _empty(engine)
            copied.append(_copy(engine, rows, settings.projector_batch))
        _empty(engine)
    finally:
        for future in admin.delete_topics(list(catalogue.specs)).values():
            future.result(60)
        engine.dispose()
    projector = statistics.median(projected)
    copy, encoded = (statistics.median(rates) for rates in zip(*copied, strict=True))
    return {
        "projector": {
            "ratio": projector / copy,
            "rows_per_s": projector,
            "cpu_us_per_row": statistics.median(spent),
            "copy_rows_per_s": copy,
            "copy_with_encoding_rows_per_s": encoded,
        }
    }


def _facts() -> list[TaskEvent]:
    start = now_micros()
    accepted = [
        TaskEvent(
            kind="accepted",
            event_id=str(uuid.uuid4()),
            run=1,
            step=0,
            attempt=1,
            dispatch_seq=1,
            tenant_id=str(number % 50),
            accepted_at=start + number * 100,
            recorded_at=start + number * 100 + 3_000,
            tier="webhook-db",
            endpoint="webhook/order",
            event_type="order_created",
            trigger="model",
            priority=6,
            delay_s=0,
            model="Order",
            model_id=str(number),
            settings_entry="order-entry",
            routing_rule="otherwise",
            payload=PAYLOAD,
            caused_by=str(uuid.uuid4()),
            source_topic="plugin-webhooks.changes",
            source_partition=number % 12,
            source_offset=number // 12,
        )
        for number in range(EVENTS_IN_LOG)
    ]
    completed = [
        replace(
            event,
            kind="completed",
            recorded_at=event.recorded_at + 70_000,
            payload=None,
            caused_by=None,
            routing_rule=None,
            delay_s=None,
            handler="OrderWebhookHandler",
            worker="worker-host-1234",
            started_at=event.recorded_at + 10_000,
            finished_at=event.recorded_at + 60_000,
            result='{"order_id":"4711-abc","status":"accepted"}',
            source_topic="plugin-webhooks",
        )
        for event in accepted
    ]
    log: list[TaskEvent] = []
    for start_number in range(0, EVENTS_IN_LOG, IN_FLIGHT):
        log += accepted[start_number : start_number + IN_FLIGHT]
        log += completed[max(0, start_number - IN_FLIGHT) : start_number]
    return log + completed[EVENTS_IN_LOG - IN_FLIGHT :]


def _produce(settings: Settings, catalogue: Catalogue, facts: list[TaskEvent]) -> int:
    producer = Producer(producer_config(settings) | {"linger.ms": 20})
    total = 0
    for event in facts:
        number = int(event.model_id or 0)
        total += 1
        while True:
            try:
                producer.produce(catalogue.events, encode(event), partition=number % 12, headers=record_headers(event))
                if event.kind == "accepted":
                    total += 1
                    topic = catalogue.topic("webhook-db")
                    producer.produce(topic, b"task", partition=number % 12, headers=record_headers(event))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("the broker did not acknowledge the benchmark's records")
    return total


def _project(settings: Settings, catalogue: Catalogue, engine: Engine, total: int, epoch: str) -> float:
    """Records a second, from the end of the first batch to that of the last."""
    stop, reached = Event(), Positions()
    times: list[tuple[float, int]] = []

    def on_written(positions: Positions) -> None:
        reached.update(positions)
        done = sum(reached.values())
        times.append((time.perf_counter(), done))
        if done >= total:
            stop.set()

    Projector(settings, catalogue, engine, epoch, on_written).run(stop)
    (begun, first), (ended, last) = times[0], times[-1]
    return (last - first) / (ended - begun)


def _copy(engine: Engine, rows: Rows, batch: int) -> tuple[float, float]:
    """Rows a second: of finished input alone, and with the encoding of the rows counted too."""
    half = batch // 2
    encoding = time.perf_counter()
    inputs: list[tuple[str, bytes]] = []
    events, attempts = list(rows.events.values()), list(rows.attempts.values())
    for start in range(0, len(events), half):
        inputs.append(_encoded(EVENTS, events[start : start + half]))
        inputs.append(_encoded(ATTEMPTS, attempts[start : start + half]))
    begun = time.perf_counter()
    for number in range(0, len(inputs), 2):
        with engine.begin() as connection, closing(connection.connection.cursor()) as cursor:
            for statement, data in inputs[number : number + 2]:
                cursor.copy_expert(statement, io.BytesIO(data))
    ended, count = time.perf_counter(), len(events) + len(attempts)
    return count / (ended - begun), count / (ended - encoding)


def _encoded(target: Target, rows: Sequence[object]) -> tuple[str, bytes]:
    encoder = BinaryCopy(target.table, target.columns)
    names = ", ".join(f'"{name}"' for name in encoder.columns)
    return f"COPY {target.table.name} ({names}) FROM STDIN (FORMAT binary)", encoder.encode(rows)


def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE webhook_events, webhook_attempts, webhook_changes, webhook_schedule"))
        connection.execute(text("TRUNCATE projection_positions"))
