"""Intake on a broker: from a change or a request to its tier, and again after a crash in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from handlers.tenants.encryption import Keyring
from handlers.tenants.repository import SqlTenantRepository
from projections.migrate import upgrade
from schemas.codec import decode_as, encode
from schemas.events import DeadLetter, ModelChanged, TaskEvent, TaskReady, WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.agents.intake import GROUP
from streams.broker.connection import consumer_config, producer_config
from streams.cli.composition import System, make_intake, open_system
from streams.database import create_database_engine
from streams.engine.app import run_workers
from streams.headers import find_header
from streams.settings import Settings
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue
from topics.keys import partition_key

ENTRY = {"id": "orders", "models": ["Order"], "events": ["created"], "webhook_endpoint": "webhook/order"}
DOCUMENT = {"plugin_name": "dwd", "plugin_route_prefix": "dwd", "webhook_settings": [ENTRY]}


def system_of(settings: Settings, directory: Path) -> System:
    """The shared parts on a new database with tenant 1."""
    engine = create_database_engine(f"sqlite:///{directory / 'intake.db'}")
    upgrade(engine)
    keyring = Keyring({"k1": bytes(32)})
    SqlTenantRepository(engine, keyring).create("shop", DOCUMENT)
    secret = "k1:" + "A" * 43 + "="
    return open_system(Settings.model_validate({**settings.model_dump(), "encryption_keys": secret}), engine)


@asynccontextmanager
async def running(system: System) -> AsyncIterator[None]:
    """Intake in the present loop."""
    crashes: list[BaseException] = []
    stop = asyncio.Event()
    app = make_intake(system, lambda _, error: crashes.append(error))
    task = asyncio.create_task(run_workers([app], stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)
        assert crashes == []


def put(settings: Settings, *events: ModelChanged | WebhookRequested | bytes) -> None:
    """Produce events (or raw bytes) to changes and requests."""
    catalogue = settings.catalogue()
    producer = Producer(producer_config(settings))
    for each in events:
        if isinstance(each, ModelChanged):
            key = partition_key(each.tenant_id, each.model, each.model_id, each.change_id)
            producer.produce(catalogue.changes, encode(each), key)
        elif isinstance(each, WebhookRequested):
            producer.produce(catalogue.requests, encode(each), each.event_id.encode())
        else:
            producer.produce(catalogue.requests, each, b"junk")
    assert producer.flush(20) == 0


class Reader:
    """Reads topics from their beginning."""

    def __init__(self, settings: Settings, *topics: str) -> None:
        self._consumer = Consumer(consumer_config(settings, "reader"))
        assigned = [TopicPartition(topic, n, 0) for topic in topics for n in range(settings.partitions)]
        self._consumer.assign(assigned)
        self.seen: list[Message] = []

    def read(self) -> list[Message]:
        """Everything up to now."""
        self.seen += [each for each in self._consumer.consume(1000, timeout=0.02) if each.error() is None]
        return self.seen

    def close(self) -> None:
        """Let go of the consumer."""
        self._consumer.close()


def change(number: int, **values: object) -> ModelChanged:
    """Creation of an order."""
    known = {
        "change_id": f"change-{number}",
        "tenant_id": "1",
        "model": "Order",
        "model_id": str(number),
        "model_event": "created",
        "occurred_at": now_micros(),
        "payload": f'{{"id":{number}}}',
    }
    return ModelChanged(**(known | values))  # type: ignore[arg-type]


def request(**values: object) -> WebhookRequested:
    """A request of tenant 1."""
    known = {
        "event_id": new_event_id(),
        "tenant_id": "1",
        "endpoint": "webhook/order",
        "event_type": "manual_trigger",
        "trigger": "http",
        "requested_at": now_micros(),
        "payload": "{}",
        "priority": 9,
    }
    return WebhookRequested(**(known | values))  # type: ignore[arg-type]


def committed(settings: Settings) -> int:
    """Sum of the group's committed offsets."""
    catalogue = settings.catalogue()
    consumer = Consumer(consumer_config(settings, GROUP))
    asked = [TopicPartition(t, n) for t in (catalogue.changes, catalogue.requests) for n in range(settings.partitions)]
    try:
        return sum(max(0, each.offset) for each in consumer.committed(asked, timeout=10))
    finally:
        consumer.close()


async def check_acceptance(settings: Settings, directory: Path) -> None:
    """Changes, requests and junk: each leads to what it should, and all of it is committed."""
    catalogue: Catalogue = settings.catalogue()
    asked = request()
    put(
        settings, *(change(n) for n in range(50)), change(99, model="Quotation"), asked, b"junk", request(tenant_id="8")
    )
    tiers = [catalogue.topic("webhook-high"), catalogue.topic("webhook-beanstalk")]
    readers = [Reader(settings, *topics) for topics in ([catalogue.events], tiers, [catalogue.dead_letters])]
    async with running(system_of(settings, directory)):
        await eventually_async(lambda: [len(each.read()) for each in readers] == [102, 51, 2], 60)
        await eventually_async(lambda: committed(settings) == 54)
    events, tasks, letters = (reader.seen for reader in readers)

    decided = [decode_as(TaskEvent, each.value()) for each in events]
    assert sorted(each.kind for each in decided) == ["accepted"] * 51 + ["matched"] * 51
    assert all(each.partition() == event.source_partition for each, event in zip(events, decided, strict=True))
    ready = [decode_as(TaskReady, each.value()) for each in tasks]
    assert {each.event_id for each in ready} == {each.event_id for each in decided if each.kind == "accepted"}
    assert [each.topic() for each, task in zip(tasks, ready, strict=True) if task.event_id == asked.event_id] == [
        tiers[0]
    ]
    reasons = {decode_as(DeadLetter, each.value()).reason for each in letters}
    assert reasons == {"undecodable", "unknown_tenant"}
    for reader in readers:
        reader.close()


@pytest.mark.embedded
async def test_acceptance_on_the_embedded_broker(embedded_settings: Settings, tmp_path: Path) -> None:
    await check_acceptance(embedded_settings, tmp_path)


@pytest.mark.kafka
async def test_acceptance_on_kafka(kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path) -> None:
    await check_acceptance(kafka_settings, tmp_path)


@pytest.mark.kafka
async def test_what_was_decided_before_a_crash_is_not_decided_anew(
    kafka_settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    settings, asked = kafka_settings, request()
    system = system_of(settings, tmp_path)
    put(settings, asked)
    events = Reader(settings, catalogue.events)
    async with running(system):
        await eventually_async(lambda: len(events.read()) == 1, 60)
    [accepted] = events.seen
    # As if the worker had died between decision and commit, and rules would now choose another tier.
    rewind(settings, asked)
    tasks = Reader(settings, *(catalogue.topic(tier) for tier in catalogue.tier_topics))
    async with running(system):
        await eventually_async(lambda: len(tasks.read()) == 2, 60)
        await eventually_async(lambda: committed(settings) == 1)
    events.read()
    assert len(events.seen) == 1
    first, again = sorted(tasks.seen, key=lambda each: each.offset())
    assert (first.topic(), first.value()) == (again.topic(), again.value())
    assert find_header(again.headers(), "repeat_from") == f"{accepted.partition()}|{accepted.offset()}".encode()
    events.close()
    tasks.close()


def rewind(settings: Settings, asked: WebhookRequested) -> None:
    """Forget that intake has read anything: its commits are gone, with what rode beside them."""
    catalogue = settings.catalogue()
    consumer = Consumer(consumer_config(settings, GROUP))
    wanted = [TopicPartition(catalogue.requests, number, 0) for number in range(settings.partitions)]
    try:
        consumer.commit(offsets=wanted, asynchronous=False)
    finally:
        consumer.close()
