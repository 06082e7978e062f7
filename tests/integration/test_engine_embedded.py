"""The engine on the embedded broker: one worker, from a tier's record to its outcome and commit."""

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.broker.connection import consumer_config
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, complete, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded


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
