"""A few records that somebody waits for, such as commands and states: in the log before the caller goes on."""

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.broker.connection import producer_config
from streams.engine.outcomes import Outgoing
from streams.settings import Settings

DELIVERY_S: Final = 15.0
"""How long the brokers may take for a record, in seconds."""

_POLL_S: Final = 0.05


def awaited_producer(settings: Settings) -> Producer:
    """A producer for ``deliver``, which gives up after ``DELIVERY_S``."""
    return Producer({**producer_config(settings), "message.timeout.ms": int(DELIVERY_S * 1000)})


def deliver(producer: Producer, records: Iterable[Outgoing]) -> int:
    """Produce records and return how many, when all in-sync replicas have them; any thread may.

    Raises ``KafkaException`` where the brokers refuse one or do not answer in time.
    """
    failures: list[KafkaError] = []
    count = 0

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    for topic, value, key, headers, partition in records:
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=delivered, headers=headers)
                break
            except BufferError:
                producer.poll(_POLL_S)
        producer.poll(0)
        count += 1
    # Longer than the messages' own time, so that each report has come.
    producer.flush(DELIVERY_S + 5)
    if failures:
        raise KafkaException(failures[0])
    return count


def deliver_once(settings: Settings, records: Iterable[Outgoing]) -> int:
    """``deliver`` by a producer of its own. Raises as that does."""
    producer = awaited_producer(settings)
    try:
        return deliver(producer, records)
    finally:
        producer.close()
