"""The engine on the embedded broker: one worker, from a tier's record to its outcome and commit."""

import asyncio

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from handlers.results import Completed, Result
from schemas.codec import decode_as
from schemas.errors import Retryable
from schemas.events import DeadLetter, TaskReady, TaskScheduled
from streams.broker.connection import consumer_config, producer_config
from streams.broker.embedded import EmbeddedBroker
from streams.engine.decide import StepPolicy
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, complete, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded

PRODUCE = 0
MESSAGE_TOO_LARGE = 10


def committed(settings: Settings, topic: str) -> int:
    consumer = Consumer(consumer_config(settings, TIER))
    try:
        asked = [TopicPartition(topic, number) for number in range(settings.partitions)]
        return sum(max(0, each.offset) for each in consumer.committed(asked, timeout=10))
    finally:
        consumer.close()


async def test_each_task_gets_one_outcome_and_is_committed(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    topic = catalogue.topic(TIER)
    put(embedded_settings, topic, [(f"key-{n % 7}", task_ready(f"event-{n}")) for n in range(200)])
    reader = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, FunctionExecutions(complete)):
        await eventually_async(lambda: len(reader.read()) >= 200)
    outcomes = reader.events()
    assert sorted(each.event_id for each in outcomes) == sorted(f"event-{n}" for n in range(200))
    assert {each.kind for each in outcomes} == {"completed"}
    for seen, event in zip(reader.seen, outcomes, strict=True):
        assert seen.partition == event.source_partition
        assert seen.headers["source"].decode() == f"{topic}|{event.source_partition}|{event.source_offset}"
        assert seen.headers["identity"].decode() == f"{event.event_id}|1|0|1"
    assert committed(embedded_settings, topic) == 200
    reader.close()


async def test_a_completed_outcome_that_the_broker_refuses_becomes_a_minimal_one(
    embedded_settings: Settings, embedded_broker: EmbeddedBroker
) -> None:
    """R3: what will never be written is recorded as a failure, and the partition goes on."""
    catalogue = embedded_settings.catalogue()
    put(embedded_settings, catalogue.topic(TIER), [("key", task_ready("refused")), ("key", task_ready("next"))])
    reader = Reader(embedded_settings, catalogue.events)
    embedded_broker.inject_errors(PRODUCE, [MESSAGE_TOO_LARGE])
    async with Worker(embedded_settings, FunctionExecutions(complete)):
        await eventually_async(lambda: len(reader.read()) >= 2)
    outcomes = [(each.event_id, each.kind, each.error_code) for each in reader.events()]
    assert outcomes == [("refused", "failed_permanently", "outcome_not_writable"), ("next", "completed", None)]
    assert committed(embedded_settings, catalogue.topic(TIER)) == 2
    reader.close()


async def test_a_pipeline_goes_on_by_the_steps_topic(embedded_settings: Settings) -> None:
    async def step(task: TaskReady) -> Result:
        return Completed({"step": task.step, "before": len(task.results)})

    catalogue = embedded_settings.catalogue()
    put(embedded_settings, catalogue.topic(TIER), [("key", task_ready("event"))])
    reader = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, FunctionExecutions(step, StepPolicy(step_count=3))):
        await eventually_async(lambda: len(reader.read()) >= 3)
    outcomes = reader.events()
    assert [(each.kind, each.step, each.result) for each in outcomes] == [
        ("step_completed", 0, '{"step":0,"before":0}'),
        ("step_completed", 1, '{"step":1,"before":1}'),
        ("completed", 2, '{"step":2,"before":2}'),
    ]
    assert [(each.next_topic, each.next_step) for each in outcomes] == [
        (catalogue.steps(TIER), 1),
        (catalogue.steps(TIER), 2),
        (None, None),
    ]
    assert committed(embedded_settings, catalogue.steps(TIER)) == 2
    reader.close()


async def test_a_failure_is_scheduled_again(embedded_settings: Settings) -> None:
    async def fail(task: TaskReady) -> Result:
        raise Retryable("the upstream is away", retry_after_s=500)

    catalogue = embedded_settings.catalogue()
    put(embedded_settings, catalogue.topic(TIER), [("key", task_ready("event"))])
    scheduled = Reader(embedded_settings, catalogue.scheduled)
    async with Worker(embedded_settings, FunctionExecutions(fail)):
        await eventually_async(lambda: scheduled.read())
    waiting = decode_as(TaskScheduled, scheduled.seen[0].value)
    assert (waiting.target_topic, waiting.tier, waiting.attempt) == (catalogue.topic(TIER), TIER, 2)
    assert waiting.due_at - waiting.created_at == pytest.approx(500e6, abs=5e6)
    assert decode_as(TaskReady, waiting.task).attempt == 2
    assert scheduled.seen[0].key == b"key"
    scheduled.close()


async def test_an_undecodable_record_is_kept_and_the_partition_goes_on(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    topic = catalogue.topic(TIER)
    producer = Producer(producer_config(embedded_settings))
    producer.produce(topic, b"not avro", b"key", headers=[("x", b"y")])
    producer.flush()
    put(embedded_settings, topic, [("key", task_ready("event"))])
    reader, letters = Reader(embedded_settings, catalogue.events), Reader(embedded_settings, catalogue.dead_letters)
    async with Worker(embedded_settings, FunctionExecutions(complete)):
        await eventually_async(lambda: reader.read() and letters.read())
    letter = decode_as(DeadLetter, letters.seen[0].value)
    assert (letter.topic, letter.offset, letter.value, letter.record_key) == (topic, 0, b"not avro", b"key")
    assert letter.reason == "undecodable"
    assert [(each.name, each.value) for each in letter.headers] == [("x", b"y")]
    assert committed(embedded_settings, topic) == 2
    reader.close()
    letters.close()


async def test_a_timeout_is_a_retry_and_other_keys_do_not_wait(embedded_settings: Settings) -> None:
    async def hang(task: TaskReady) -> Result:
        if task.event_id == "slow":
            await asyncio.Event().wait()
        return Completed({})

    catalogue = embedded_settings.catalogue()
    tasks = [("slow", task_ready("slow"))] + [(f"k{n}", task_ready(f"fast-{n}")) for n in range(20)]
    put(embedded_settings, catalogue.topic(TIER), tasks)
    reader = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, FunctionExecutions(hang, timeout_s=0.5)):
        await eventually_async(lambda: len(reader.read()) >= 21)
    outcomes = reader.events()
    slow = next(each for each in outcomes if each.event_id == "slow")
    assert (slow.kind, slow.error_code, slow.next_attempt) == ("retry", "timeout", 2)
    reader.close()
