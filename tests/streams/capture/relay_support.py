"""What tests of the relay share: rows to publish, and a look at what was published."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Engine, func, select

from schemas.codec import encode
from schemas.events import ModelChanged, now_micros
from streams.background import run_in_background
from streams.broker.connection import consumer_config
from streams.capture.outbox import OUTBOX, OutboxRow
from streams.capture.relay import Relay
from streams.settings import Settings
from topics.catalogue import Catalogue
from topics.keys import partition_key


def change_row(catalogue: Catalogue, model_id: str, number: int, payload: str | None = None) -> OutboxRow:
    """A change of order ``model_id``, the ``number``-th one."""
    change = ModelChanged(
        change_id=f"{model_id}-{number}",
        tenant_id="1",
        model="Order",
        model_id=model_id,
        model_event="updated",
        occurred_at=now_micros(),
        payload=payload or f'{{"number":{number}}}',
    )
    key = partition_key("1", "Order", model_id, change.change_id)
    return OutboxRow(catalogue.changes, key, encode(change), "ModelChanged", None, "1", change.change_id)


def published(settings: Settings, catalogue: Catalogue, topic: str) -> list[tuple[bytes, dict[str, str], bytes]]:
    """Key, headers and value of every record of a topic, partition by partition."""
    consumer = Consumer(consumer_config(settings, "look"))
    records: list[tuple[bytes, dict[str, str], bytes]] = []
    try:
        for number in range(catalogue.specs[topic].partitions):
            place = TopicPartition(topic, number, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            seen = 0
            while seen < end:
                for message in consumer.consume(min(1000, end - seen), 1.0):
                    assert message.error() is None
                    headers = {name: value.decode() for name, value in message.headers() or []}
                    records.append((message.key(), headers, message.value()))
                    seen = message.offset() + 1
    finally:
        consumer.close()
    return records


def waiting(engine: Engine) -> int:
    """Rows of the outbox that are neither published nor parked."""
    with engine.connect() as connection:
        open_rows = OUTBOX.c.published_at.is_(None) & OUTBOX.c.parked_at.is_(None)
        count: int = connection.execute(select(func.count()).select_from(OUTBOX).where(open_rows)).scalar_one()
    return count


@contextmanager
def running(relay: Relay) -> Iterator[Relay]:
    """Run the relay in a thread for the length of the block."""
    stop = threading.Event()
    crashes: list[Any] = []
    thread = run_in_background("relay", lambda: relay.run(stop), lambda _name, error: crashes.append(error))
    try:
        yield relay
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert not crashes
