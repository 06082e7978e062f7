"""The embedded broker: partitions, delivery, errors on demand, a new log each start."""

import threading

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.broker.connection import admin_config, consumer_config, producer_config
from streams.broker.embedded import EmbeddedBroker
from streams.errors import SetupError
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue, build_catalogue

pytestmark = pytest.mark.embedded


def test_every_topic_has_its_partitions(embedded_settings: Settings, catalogue: Catalogue) -> None:
    topics = AdminClient(admin_config(embedded_settings)).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in catalogue.specs} == {
        spec.name: spec.partitions for spec in catalogue.specs.values()
    }


def test_records_come_back_from_the_partition_asked_for(embedded_settings: Settings, catalogue: Catalogue) -> None:
    delivered: list[int | None] = []
    producer = Producer(producer_config(embedded_settings))
    producer.produce(
        catalogue.events,
        b"body",
        b"key",
        partition=3,
        on_delivery=lambda _error, record: delivered.append(record.offset()),
    )
    assert producer.flush(10) == 0
    consumer = Consumer(consumer_config(embedded_settings, "readers"))
    consumer.assign([TopicPartition(catalogue.events, 3, 0)])
    try:
        record = eventually(lambda: consumer.poll(0.1))
    finally:
        consumer.close()
    assert (record.key(), record.value(), record.offset(), delivered) == (b"key", b"body", 0, [0])


def test_a_subscribed_group_commits_and_goes_on(embedded_settings: Settings, catalogue: Catalogue) -> None:
    producer = Producer(producer_config(embedded_settings))
    for number in range(10):
        producer.produce(catalogue.changes, str(number).encode(), partition=0)
    assert producer.flush(10) == 0

    def read(count: int) -> list[Message]:
        consumer = Consumer(consumer_config(embedded_settings, "group"))
        consumer.subscribe([catalogue.changes])
        records: list[Message] = []
        try:
            while len(records) < count:
                records.append(eventually(lambda: consumer.poll(0.1), 60))
            consumer.commit(records[-1], asynchronous=False)
        finally:
            consumer.close()
        return records

    assert [record.value() for record in read(4)] == [b"0", b"1", b"2", b"3"]
    assert [record.value() for record in read(2)] == [b"4", b"5"]


def test_injected_errors_reach_the_producer(embedded_broker: EmbeddedBroker, embedded_settings: Settings) -> None:
    errors: list[KafkaError | None] = []
    producer = Producer({**producer_config(embedded_settings), "enable.idempotence": False, "retries": 0})
    embedded_broker.inject_errors(0, [KafkaError.MSG_SIZE_TOO_LARGE, 0])
    for _ in range(2):
        producer.produce(
            embedded_broker.catalogue.events, b"x", partition=0, on_delivery=lambda e, _r: errors.append(e)
        )
        producer.flush(10)
    assert [error.code() if error else None for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE, None]


def test_a_broker_that_is_down_comes_back_with_its_records(
    embedded_broker: EmbeddedBroker, embedded_settings: Settings
) -> None:
    topic = embedded_broker.catalogue.events
    delivered = threading.Event()
    producer = Producer({**producer_config(embedded_settings), "reconnect.backoff.max.ms": 100})
    producer.produce(topic, b"before", partition=0)
    assert producer.flush(10) == 0
    embedded_broker.set_down()
    producer.produce(topic, b"during", partition=0, on_delivery=lambda _e, _r: delivered.set())
    assert producer.flush(0.5) == 1
    assert not delivered.is_set()
    embedded_broker.set_up()
    assert producer.flush(20) == 0
    assert delivered.is_set()


def test_each_start_is_a_new_log() -> None:
    catalogue = build_catalogue(partitions=1)
    with EmbeddedBroker(catalogue) as first, EmbeddedBroker(catalogue) as second:
        assert first.epoch != second.epoch
        assert first.bootstrap_servers != second.bootstrap_servers
        address = first.bootstrap_servers
    first.close()
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=0.5)


def test_a_topic_is_created_once(embedded_broker: EmbeddedBroker) -> None:
    with pytest.raises(SetupError, match="refused topic"):
        embedded_broker.create_topic(embedded_broker.catalogue.events, 2)
