"""The engine against a raw loop of librdkafka with the same codec and JSON parser, in turn in one run.

``python -m tests.bench.engine BOOTSTRAP`` prints what ``measure`` returns.
"""

import json
import resource
import subprocess
import sys
import time
import uuid
from statistics import median
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer

from schemas.codec import decode_as, encode
from schemas.events import TaskEvent, TaskReady, now_micros
from streams.broker.connection import admin_client, consumer_config, producer_config
from streams.broker.provision import apply
from streams.headers import record_headers
from streams.settings import Settings
from tests.streams.engine.workload import TIER, task_ready
from topics.tiers import TIERS

RECORDS = 60_000
SLOW_RECORDS = 25_000
WAITING = 1_000_000
KEYS = 20_000
WINDOW = 1000
LATENCY_S = 0.2
PARTITIONS = 4
MEMORY_MIB = 200
ROUNDS = 3

PAYLOAD = orjson.dumps(
    {"id": 4711, "status": "paid", "total": 1200.5, "items": [{"sku": "A4-135", "quantity": 500}], "country": "DE"}
).decode()


def bench_settings(bootstrap: str) -> Settings:
    """Topics of this run's own on a broker."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}"
    queues = {
        f"{tier.environment.removeprefix('WEBHOOK_').lower()}": f"{prefix}-{tier.name.removeprefix('webhook-')}"
        for tier in TIERS.values()
    }
    values = {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": PARTITIONS, **queues}
    return Settings.model_validate(values)


def fill(settings: Settings, count: int) -> None:
    """Put tasks on the tier's topic."""
    producer = Producer({**producer_config(settings), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    topic = settings.catalogue().topic(TIER)
    for number in range(count):
        key = f"1|Order|{number % KEYS}"
        task = task_ready(str(uuid.UUID(int=number)), payload=PAYLOAD, model="Order", model_id=str(number % KEYS))
        while True:
            try:
                producer.produce(topic, encode(task), key.encode(), headers=record_headers(task))
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def raw_loop(settings: Settings, count: int) -> dict[str, float]:
    """Figures of: consume, decode, parse, make an outcome, encode, produce, commit; no headers."""
    catalogue = settings.catalogue()
    consumer = Consumer({**consumer_config(settings, f"raw-{uuid.uuid4().hex[:8]}"), "fetch.wait.max.ms": 50})
    consumer.subscribe([catalogue.topic(TIER)])
    producer = Producer({**producer_config(settings), "linger.ms": 2, "queue.buffering.max.messages": 1_000_000})
    done, began, cpu_began = 0, 0.0, 0.0
    while done < count:
        messages = consumer.consume(500, 1)
        if messages and not began:
            began, cpu_began = time.monotonic(), time.process_time()
        for message in messages:
            task = decode_as(TaskReady, message.value())
            orjson.loads(task.payload)
            outcome = _outcome(task, message)
            producer.produce(catalogue.events, encode(outcome), message.key(), message.partition())
        producer.poll(0)
        if messages:
            done += len(messages)
            consumer.commit(asynchronous=True)
    producer.flush()
    figures = {
        "rate": done / (time.monotonic() - began),
        "cpu_us": (time.process_time() - cpu_began) / done * 1e6,
    }
    consumer.close()
    return figures


def _outcome(task: TaskReady, message: Any) -> TaskEvent:
    now = now_micros()
    return TaskEvent(
        kind="completed",
        event_id=task.event_id,
        run=task.run,
        step=task.step,
        attempt=task.attempt,
        dispatch_seq=task.dispatch_seq,
        tenant_id=task.tenant_id,
        accepted_at=task.accepted_at,
        recorded_at=now,
        tier=TIER,
        endpoint=task.endpoint,
        event_type=task.event_type,
        trigger=task.trigger,
        priority=task.priority,
        model=task.model,
        model_id=task.model_id,
        handler="OrderHandler",
        worker="raw",
        started_at=now,
        finished_at=now,
        result='{"ok":true}',
        source_topic=message.topic(),
        source_partition=message.partition(),
        source_offset=message.offset(),
    )


def in_process(what: str, settings: Settings, count: int, latency_s: float = 0.0) -> dict[str, float]:
    """Run one measurement in a fresh process, whose memory and garbage are its own."""
    arguments = [what, settings.model_dump_json(), str(count), str(latency_s)]
    command = [sys.executable, "-m", "tests.bench.engine_run", *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def filled(bootstrap: str, count: int) -> Settings:
    """An installation with ``count`` tasks waiting. None is done twice, so each run has its own."""
    settings = bench_settings(bootstrap)
    apply(admin_client(settings), settings.catalogue())
    fill(settings, count)
    return settings


def pair(bootstrap: str) -> tuple[float, float]:
    """Rates of the engine and of the raw loop on the same records, one after the other."""
    settings = filled(bootstrap, RECORDS)
    # The raw loop's outcomes carry no headers, so they mean nothing to the engine.
    raw = in_process("raw", settings, RECORDS)["rate"]
    return in_process("engine", settings, RECORDS)["rate"], raw


def measure(bootstrap: str) -> dict[str, Any]:
    """The engine's figures on the Kafka at ``bootstrap``; rates in records a second, memory in MiB."""
    found = [pair(bootstrap) for _ in range(ROUNDS)]
    engine, raw = (median(each) for each in zip(*found, strict=True))
    ratio = median(ours / bare for ours, bare in found)
    slow = in_process("engine", filled(bootstrap, SLOW_RECORDS), SLOW_RECORDS, LATENCY_S)["rate"]
    memory = in_process("backlog", filled(bootstrap, WAITING), WAITING)["rss_mib"]
    limit = WINDOW / LATENCY_S
    return {
        "engine_noop": {"engine": round(engine), "raw": round(raw), "ratio": round(ratio, 3)},
        "engine_200ms": {"engine": round(slow), "limit": limit, "ratio": round(slow / limit, 3)},
        "engine_memory": {"rss_mib": round(memory), "waiting": WAITING, "ratio": round(MEMORY_MIB / memory, 3)},
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1]), indent=2))
    print("peak of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB", file=sys.stderr)
