"""A tier's work for engine tests: records to put in, executions that run functions, outcomes read back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from handlers.results import Completed, Result
from schemas.codec import decode_as, encode
from schemas.events import TaskEvent, TaskReady, now_micros
from streams.agents.executions import Execution
from streams.agents.tier import TierProcessor
from streams.broker.connection import consumer_config, producer_config
from streams.engine.app import WorkerApp, create_worker_app, run_workers
from streams.engine.decide import StepPolicy
from streams.engine.outcomes import OutcomeWriter
from streams.headers import record_headers
from streams.settings import Settings

TIER = "webhook-high"

Work = Callable[[TaskReady], Awaitable[Result]]


async def complete(task: TaskReady) -> Result:
    """Done at once."""
    return Completed({"ok": task.event_id})


@dataclass
class FunctionExecutions:
    """Runs one function for every task."""

    work: Work
    policy: StepPolicy = field(default_factory=StepPolicy)
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        self._execution = Execution("Function", self.work, self.policy, self.timeout_s)

    def cached(self, task: TaskReady) -> Execution | None:
        return self._execution

    async def lookup(self, task: TaskReady) -> Execution:
        raise AssertionError("everything is cached")


def task_ready(event_id: str, **changes: Any) -> TaskReady:
    """A task of tenant 1, with changes."""
    fields: dict[str, Any] = {
        "event_id": event_id,
        "run": 1,
        "step": 0,
        "attempt": 1,
        "dispatch_seq": 1,
        "tenant_id": "1",
        "endpoint": "webhook/order",
        "event_type": "order_created",
        "trigger": "model",
        "priority": 5,
        "accepted_at": now_micros(),
        "payload": '{"id": 1}',
        **changes,
    }
    return TaskReady(**fields)


def put(settings: Settings, topic: str, tasks: list[tuple[str, TaskReady]]) -> None:
    """Produce tasks with their keys and wait for the acks."""
    producer = Producer({**producer_config(settings), "linger.ms": 2})
    for key, task in tasks:
        producer.produce(topic, encode(task), key.encode(), headers=record_headers(task))
        producer.poll(0)
    assert producer.flush(30) == 0


@dataclass
class Seen:
    """One record read back from a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


class Reader:
    """Reads a topic from its beginning, on and on."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._consumer = Consumer(consumer_config(settings, f"reader-{topic}"))
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self.seen: list[Seen] = []

    def read(self) -> list[Seen]:
        """Everything there is by now."""
        for message in self._consumer.consume(1000, 0.05):
            if message.error() is None:
                headers = dict(message.headers() or ())
                self.seen.append(Seen(message.partition(), message.offset(), message.key(), message.value(), headers))
        return self.seen

    def events(self) -> list[TaskEvent]:
        """The same, decoded as task events."""
        return [decode_as(TaskEvent, each.value) for each in self.read()]

    def close(self) -> None:
        self._consumer.close()


class Worker:
    """One tier worker in the present loop."""

    def __init__(self, settings: Settings, executions: FunctionExecutions, tier: str = TIER) -> None:
        self.crashes: list[BaseException] = []
        self.stopping = asyncio.Event()
        catalogue = settings.catalogue()
        self.writer = OutcomeWriter(settings, self._crash)
        self.processor = TierProcessor(tier, settings, executions, self.writer, self._crash)
        topics = [catalogue.topic(tier), catalogue.steps(tier)]
        self.app: WorkerApp = create_worker_app(tier, topics, settings, self.processor, self._crash)
        self._run: asyncio.Task[None] | None = None

    def _crash(self, name: str, error: BaseException) -> None:
        self.crashes.append(error)

    async def __aenter__(self) -> "Worker":
        self._run = asyncio.create_task(run_workers([self.app], self.stopping))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        assert self._run is not None
        await asyncio.wait_for(self._run, 60)
        assert not self.crashes, self.crashes
