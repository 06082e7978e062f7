"""Publishes a batch of rows in order, and says which of them Kafka has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.capture.budget import Budget
from streams.capture.refusals import Refusal
from streams.headers import Headers

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.POLICY_VIOLATION,
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish. ``row`` is the id of its row (``record_id`` or ``schedule_id``)."""

    row: str
    topic: str
    key: bytes
    value: bytes
    headers: Headers


@dataclass(slots=True)
class Report:
    """What became of a batch. ``failure`` is ``None`` where nothing is in doubt any more.

    ``refused`` rows (with the reason) can never be published. ``full`` are topics whose budget has no room.
    """

    acknowledged: list[str] = field(default_factory=list)
    refused: dict[str, Refusal] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    failure: str | None = None


class Publisher:
    """One idempotent producer, used by one thread. It waits for ever for a broker that is away.

    (A record that expired in the client while later ones went on would leave a gap that the next try fills too late.)
    """

    def __init__(self, config: Mapping[str, Any], budget: Budget | None = None) -> None:
        """``config`` is that of ``streams.broker.connection.producer_config``."""
        self._config = {**config, "message.timeout.ms": 0, "linger.ms": 1}
        self._budget = budget
        self._producer: Producer | None = None

    def publish(self, records: Sequence[Record], may_go_on: Callable[[], bool]) -> Report:
        """Produce the records in order and wait for every acknowledgement, as long as ``may_go_on``.

        Stops at the first failure that is not the record's own fault. Records of a partition without room are left
        out, and with them all later ones of that partition.
        """
        report = Report()
        batch = _Batch(report, self._budget)
        producer = self.open()
        for record in records:
            if report.failure is not None or not may_go_on():
                break
            batch.produce(producer, record)
        while batch.under_way and report.failure is None and may_go_on():
            producer.poll(_POLL_S)
        if batch.under_way:
            report.failure = report.failure or "it had to stop before the brokers acknowledged the batch"
        if report.failure is not None:
            self._give_up(producer)
        return report

    def close(self) -> None:
        """Let go of the producer, and of whatever it still holds."""
        if self._producer is not None:
            self._give_up(self._producer)

    def open(self) -> Producer:
        """The producer; made ahead, it has its identity, which takes half a second, before the first record."""
        if self._producer is None:
            self._producer = Producer(self._config)
        return self._producer

    def _give_up(self, producer: Producer) -> None:
        # Nothing of this batch may reach the log once another one, or another relay, has begun.
        producer.purge()
        producer.poll(0)
        self._producer = None


class _Batch:
    """Counts what is under way and sorts what comes back."""

    def __init__(self, report: Report, budget: Budget | None) -> None:
        self.under_way = 0
        self._report = report
        self._budget = budget
        self._full: set[tuple[str, int]] = set()

    def produce(self, producer: Producer, record: Record) -> None:
        budget, partition = self._budget, -1
        size = len(record.value) + len(record.key)
        if budget is not None:
            partition = budget.partition(record.topic, record.key)
            place = record.topic, partition
            if place in self._full or not budget.reserve(record.topic, partition, size):
                self._full.add(place)
                self._report.full.add(record.topic)
                return

        def report(error: KafkaError | None, message: Message) -> None:
            self.under_way -= 1
            if budget is not None:
                if error is None:
                    budget.written(record.topic, partition, message.offset(), size)
                else:
                    budget.give_back(record.topic, partition, size)
            self._sort(record, error)

        while True:
            try:
                producer.produce(record.topic, record.value, record.key, on_delivery=report, headers=record.headers)
            except BufferError:
                producer.poll(_POLL_S)
            except KafkaException as caught:
                if budget is not None:
                    budget.give_back(record.topic, partition, size)
                self._sort(record, caught.args[0])
                return
            else:
                self.under_way += 1
                producer.poll(0)
                return

    def _sort(self, record: Record, error: KafkaError | None) -> None:
        if error is None:
            self._report.acknowledged.append(record.row)
        elif error.code() in _REFUSED_FOR_GOOD:
            self._report.refused[record.row] = Refusal(error.name().lower(), f"Kafka refuses it: {error.str()}")
        elif self._report.failure is None:
            self._report.failure = f"{record.topic}: {error.str()}"
