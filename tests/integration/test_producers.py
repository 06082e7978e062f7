"""Producers in Java and JavaScript: their changes fire as our own do, a dead letter names the field of a broken one."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from schemas.codec import decode_as
from schemas.events import DeadLetter, ModelChanged, TaskEvent, TaskReady
from streams.broker.connection import producer_config
from streams.settings import Settings
from tests.integration.test_intake import Reader, running, system_of
from tests.support.foreign_producers import ForeignProducer, java_producer, node_producer
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue
from topics.keys import partition_key

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ROW = "7|a,b%2"
"""A key's separators and the percent sign, of which each language has to make the same key."""
PAYLOAD = '{"id": 7, "note": "Käse 🧀"}'


async def both(tmp_path: Path) -> list[ForeignProducer]:
    """Both producers, ready to run."""
    directories = [tmp_path / language for language in ("java", "node")]
    for each in directories:
        each.mkdir()
    makers = (java_producer, node_producer)
    return await asyncio.gather(
        *(asyncio.to_thread(make, each) for make, each in zip(makers, directories, strict=True))
    )


def break_payload(settings: Settings, topic: str, record: Message) -> None:
    """Write a record again that ends amid its payload."""
    value: bytes = record.value()
    producer = Producer(producer_config(settings))
    producer.produce(topic, value[: value.index(b'"note"')], record.key(), record.partition())
    assert producer.flush(60) == 0


async def test_changes_from_java_and_node_fire_and_broken_ones_name_their_field(
    kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    broker, changes = kafka_settings.bootstrap_servers or "", catalogue.changes
    java, node = await both(tmp_path)
    whole = ("1", "Order", ROW, "created", PAYLOAD)
    written = await asyncio.gather(
        *(asyncio.to_thread(each.send, broker, changes, *whole) for each in (java, node)),
        asyncio.to_thread(java.send, broker, changes, "1", "Order", "8", "Created", PAYLOAD),
        asyncio.to_thread(node.send, broker, changes, "1", "Order", "9", "created", '{"id":'),
    )
    readers = [Reader(kafka_settings, name) for name in (changes, catalogue.events, catalogue.dead_letters)]
    readers.append(Reader(kafka_settings, *(catalogue.topic(tier) for tier in catalogue.tier_topics)))
    log, events, letters, tasks = readers
    await eventually_async(lambda: len(log.read()) == 4)
    told = {(each.topic, each.partition, each.offset): each.change_id for each in written}
    found = {
        (each.topic(), each.partition(), each.offset()): decode_as(ModelChanged, each.value()).change_id
        for each in log.seen
    }
    assert found == told
    key = partition_key("1", "Order", ROW, "")
    ours = [each for each in log.seen if each.key() == key]
    assert [each.partition() for each in ours] == [written[0].partition] * 2
    break_payload(kafka_settings, changes, ours[0])

    async with running(system_of(kafka_settings, tmp_path)):
        await eventually_async(lambda: (len(tasks.read()), len(letters.read())) == (2, 3))
        await eventually_async(lambda: len(log.read()) == 5 and len(events.read()) == 4)

    accepted = {each.caused_by for each in (decode_as(TaskEvent, one.value()) for one in events.seen) if each.caused_by}
    assert accepted == {each.change_id for each in written[:2]}
    ready = [decode_as(TaskReady, each.value()) for each in tasks.seen]
    assert [(each.model, each.model_id, each.payload) for each in ready] == [("Order", ROW, PAYLOAD)] * 2
    broken = {
        (each.topic, each.partition, each.offset): each.error
        for each in (decode_as(DeadLetter, one.value()) for one in letters.seen)
    }
    cut = log.seen[-1]
    assert "model_event is 'Created'" in broken[written[2][:3]]
    assert "the payload is no usable JSON" in broken[written[3][:3]]
    assert "payload (field 7 of 11, from byte" in broken[(changes, cut.partition(), cut.offset())]
    for reader in readers:
        reader.close()
