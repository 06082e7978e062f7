"""Single reads of the log while its brokers are away, and while the worker ends (R1)."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.events import TaskEvent, now_micros
from streams.broker.embedded import EmbeddedBroker
from streams.engine.tail import LedgerTail
from streams.settings import Settings


@dataclass
class Message:
    """A record as librdkafka gives it."""

    event: TaskEvent
    place: int

    def error(self) -> None:
        return None

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes:
        return encode(self.event)


@dataclass
class Brokers:
    """A consumer of brokers that are silent at first: each answer is used once, the last one again and again."""

    consumed: list[list[Message]]
    ends: list[tuple[int, int] | KafkaException]
    before_silence: Callable[[], object] = lambda: None
    seeks: list[int] = field(default_factory=list)

    def assign(self, places: list[Any]) -> None:
        self.seeks.append(places[0].offset)

    def consume(self, _count: int, _timeout_s: float) -> list[Message]:
        found = self.consumed.pop(0) if len(self.consumed) > 1 else self.consumed[0]
        if not found:
            self.before_silence()
        return found

    def get_watermark_offsets(self, _place: Any, **_options: object) -> tuple[int, int]:
        found = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(found, KafkaException):
            raise found
        return found

    def close(self) -> None:
        pass


@pytest.fixture
def event() -> TaskEvent:
    now = now_micros()
    return TaskEvent(
        kind="accepted",
        event_id="event",
        run=1,
        step=0,
        attempt=1,
        dispatch_seq=1,
        tenant_id="1",
        accepted_at=now,
        recorded_at=now,
    )


def tail_over(brokers: Brokers) -> LedgerTail:
    tail = LedgerTail(
        Settings(bootstrap_servers="127.0.0.1:1"),
        "group",
        frozenset({"tier"}),
        lambda _, error: pytest.fail(str(error)),
    )
    tail._reader = brokers
    return tail


async def test_a_record_is_read_once_its_leader_is_back(event: TaskEvent) -> None:
    away = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    brokers = Brokers([[], [], [Message(event, 7)]], [away, (0, 9)])
    assert await tail_over(brokers).read(3, 7) == event


async def test_only_the_logs_own_ends_say_that_a_record_is_gone(event: TaskEvent) -> None:
    with pytest.raises(LookupError, match="retention is too short"):
        await tail_over(Brokers([[Message(event, 12)]], [(12, 20)])).read(3, 7)


async def test_what_does_not_pass_by_itself_ends_the_worker() -> None:
    refused = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException):
        await tail_over(Brokers([[]], [refused])).search(3, 7, "event|1|0|1", 1)


async def test_who_asks_while_the_worker_ends_is_cancelled() -> None:
    silent = threading.Event()
    tail = tail_over(Brokers([[]], [(0, 9)], silent.set))
    asking = asyncio.create_task(tail.read(3, 7))
    assert await asyncio.to_thread(silent.wait, 20)
    await tail.stop()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(asyncio.CancelledError):
        await tail.search(3, 7, "event|1|0|1", 1)


@pytest.mark.embedded
async def test_the_embedded_broker_is_not_asked_what_it_cannot_answer(
    embedded_settings: Settings, embedded_broker: EmbeddedBroker
) -> None:
    """A worker would begin five seconds later. The log's identity is that of the broker's start (R20)."""
    tail = LedgerTail(embedded_settings, "webhook-high", frozenset(), lambda *_: None)
    with capture_logs() as logs:
        await tail.start()
        await tail.stop()
    assert tail.epoch == embedded_broker.epoch
    assert [each for each in logs if "topic id" in each["event"]] == []
