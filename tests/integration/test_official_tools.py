"""Tools that are not ours read what we write: Kafka's own command line, and Confluent's Avro decoder."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import encode
from schemas.events import Event, TaskReady, from_datetime, now_micros
from schemas.identifiers import new_event_id
from streams.broker.connection import consumer_config, producer_config
from streams.engine.ledger import LedgerMetadata
from streams.headers import record_headers
from streams.settings import Settings
from streams.web.registry import registry_routes
from tests.schemas.samples import SAMPLES
from tests.support.kafka_tools import console_consumer, describe_groups
from tests.support.load import CONFIGURATION, ENDPOINT
from tests.support.roles import installation
from tests.support.waiting import eventually
from topics.catalogue import Catalogue, TopicSpec
from topics.tiers import TIERS

pytestmark = pytest.mark.kafka


@pytest.fixture
async def registry_url(catalogue: Catalogue) -> AsyncIterator[str]:
    """The registry's read API, as `webhook serve` answers it."""
    app = web.Application()
    app.add_routes([route.served() for route in registry_routes(catalogue)])
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def sample(spec: TopicSpec) -> Event:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", spec.record).lower()
    return SAMPLES[name]


def write(settings: Settings, topic: str, events: list[Event], partition: int = 0) -> None:
    producer = Producer(producer_config(settings))
    for event in events:
        producer.produce(topic, encode(event), b"1|Order|7", partition=partition, headers=record_headers(event))
    assert producer.flush(60) == 0


def read_one(settings: Settings, topic: str) -> Message:
    consumer = Consumer(consumer_config(settings, "reader"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return eventually(lambda: consumer.poll(0.2), 60)
    finally:
        consumer.close()


def as_ours(value: Any) -> Any:
    """A value as the official decoder gives it, with times in microseconds as our events have them."""
    if isinstance(value, datetime):
        return from_datetime(value)
    if isinstance(value, dict):
        return {key: as_ours(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_ours(each) for each in value]
    return value


async def test_confluents_decoder_reads_every_topic(
    kafka_settings: Settings, catalogue: Catalogue, registry_url: str
) -> None:
    def read() -> dict[str, object]:
        found: dict[str, object] = {}
        with SchemaRegistryClient({"url": registry_url}) as client:
            decoder = AvroDeserializer(client)
            for spec in catalogue.specs.values():
                write(kafka_settings, spec.name, [sample(spec)])
                record = read_one(kafka_settings, spec.name)
                found[spec.name] = as_ours(decoder(record.value(), SerializationContext(spec.name, MessageField.VALUE)))
        return found

    found = await asyncio.to_thread(read)
    assert found == {spec.name: asdict(sample(spec)) for spec in catalogue.specs.values()}
    assert {spec.record for spec in catalogue.specs.values()} == {type(event).__name__ for event in SAMPLES.values()}


def test_the_console_consumer_prints_records_with_their_headers(kafka_settings: Settings, catalogue: Catalogue) -> None:
    topic = catalogue.topic("webhook-high")
    event = SAMPLES["task_ready"]
    write(kafka_settings, topic, [event, event], partition=2)
    text = console_consumer(str(kafka_settings.bootstrap_servers), topic, 2)
    # An Avro value may hold line ends, so lines are no records.
    records = re.findall(r"Partition:(\d+)\tOffset:(\d+)\t(\S+)\t(\S+)\t", text)
    assert [record[:2] for record in records] == [("2", "0"), ("2", "1")]
    for _, _, headers, key in records:
        shown = headers.split(",")
        assert [each for each in record_headers(event) if f"{each[0]}:{each[1].decode()}" not in shown] == []
        assert key == "1|Order|7"
    assert text.count("webhook/order") == 2


def test_the_group_tool_shows_all_six_groups_with_their_lag(kafka_settings: Settings, catalogue: Catalogue) -> None:
    expected: dict[tuple[str, str], tuple[int, int, int]] = {}
    for done, tier in enumerate(TIERS):
        for topic in (catalogue.topic(tier), catalogue.steps(tier)):
            write(kafka_settings, topic, [SAMPLES["task_ready"]] * 6, partition=1)
            # The engine's commits carry where its ledger begins (R2); the tool must not mind.
            commit = TopicPartition(topic, 1, done, metadata=LedgerMetadata(done, "epoch").encode())
            consumer = Consumer(consumer_config(kafka_settings, tier))
            consumer.commit(offsets=[commit], asynchronous=False)
            consumer.close()
            expected[tier, topic] = (done, 6, 6 - done)
    shown = describe_groups(str(kafka_settings.bootstrap_servers), *TIERS)
    topics = set(catalogue.specs)
    found = {(each.group, each.topic): (each.committed, each.end, each.lag) for each in shown if each.topic in topics}
    assert found == expected


@pytest.mark.postgres
def test_the_group_tool_shows_a_running_workers_lag(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> None:
    tier = "webhook-high"
    topic = catalogue.topic(tier)

    def task(tenant_id: str, sequence: int, sleep_s: float) -> TaskReady:
        return TaskReady(
            event_id=new_event_id(),
            run=1,
            step=0,
            attempt=1,
            dispatch_seq=1,
            tenant_id=tenant_id,
            endpoint=ENDPOINT,
            event_type="webhook_journal",
            trigger="manual",
            priority=9,
            accepted_at=now_micros(),
            payload=orjson.dumps({"sequence": sequence, "key": 7, "sleep_s": sleep_s}).decode(),
            model="Order",
            model_id="7",
        )

    with installation(kafka_settings, postgres_database, tmp_path) as roles:
        roles.run("migrate")
        file = tmp_path / "tenant.json"
        file.write_bytes(orjson.dumps(CONFIGURATION))
        tenant_id = str(orjson.loads(roles.run("tenants", "create", "L", "--config", str(file), "--json"))["id"])
        # Five quick ones, one that outlasts the test, and four of the same key behind it.
        sleeps_s = [0.0] * 5 + [300.0] + [0.0] * 4
        write(kafka_settings, topic, [task(tenant_id, *each) for each in enumerate(sleeps_s)], partition=3)
        roles.start("work", tier)

        def shown() -> list[tuple[int, int, int]]:
            roles.check()
            groups = describe_groups(str(kafka_settings.bootstrap_servers), tier)
            return [
                (each.committed, each.end, each.lag) for each in groups if (each.topic, each.partition) == (topic, 3)
            ]

        eventually(lambda: shown() == [(5, 10, 5)], 60, "the tool shows five records finished and five to do")
