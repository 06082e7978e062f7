"""Workers and the embedded broker, which drops what it has no room for: nothing of the log is lost (R21)."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Engine, func, select

from handlers.results import Completed, Result
from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS
from schemas.events import TaskReady
from streams.agents.bounded import BoundedTierProcessor, BoundedWriter, Room
from streams.broker.connection import admin_client, consumer_config
from streams.broker.embedded import EmbeddedBroker
from streams.capture.budget import Budget, committed_offsets
from streams.control.moves import Move
from streams.database import create_database_engine
from streams.engine.app import create_worker_app, run_workers
from streams.settings import Settings
from tests.integration.scheduled import projecting
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded

TARGET = "webhook-beanstalk"
TASKS = 1000
RESULT_BYTES = 30_000
"""Of all results a partition gets about 7.5 MB; the embedded broker keeps 5 MiB."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine)
    yield engine
    engine.dispose()


def first_offsets(settings: Settings, topic: str) -> set[int]:
    consumer = Consumer(consumer_config(settings, "looks"))
    try:
        places = [TopicPartition(topic, number) for number in range(settings.partitions)]
        return {consumer.get_watermark_offsets(place, timeout=10)[0] for place in places}
    finally:
        consumer.close()


def completed(engine: Engine) -> int:
    with engine.connect() as connection:
        query = select(func.count()).where(WEBHOOK_EVENTS.c.kind == "completed")
        return connection.execute(query).scalar_one()


def held(processor: BoundedTierProcessor, target: Reader, count: int) -> bool:
    """Whether so many records wait in a worker or were sent on by it."""
    return processor.waiting + len(target.read()) >= count


async def test_what_waits_is_moved_only_as_far_as_the_target_has_room(embedded_settings: Settings) -> None:
    """R16: nobody reads the target meanwhile."""
    go_on, tasks, payload = asyncio.Event(), 400, '{"text": "' + "x" * 40_000 + '"}'

    async def hang(_task: TaskReady) -> Result:
        await go_on.wait()
        return Completed({})

    settings = embedded_settings.model_copy(update={"window": 1})
    catalogue, crashes = settings.catalogue(), []

    def crashed(_name: str, error: BaseException) -> None:
        crashes.append(error)

    room = Room(Budget(catalogue, committed_offsets(admin_client(settings), catalogue)), catalogue, crashed)
    processor = BoundedTierProcessor(
        TIER, settings, FunctionExecutions(hang), BoundedWriter(settings, crashed, room), crashed
    )
    app = create_worker_app(TIER, [catalogue.topic(TIER), catalogue.steps(TIER)], settings, processor, crashed)
    # One partition, 16 MB for its 5 MiB; what was read of it by then is gone from the source.
    many = [("key", task_ready(f"event-{n}", priority=9, payload=payload)) for n in range(tasks)]
    stop = asyncio.Event()
    running = asyncio.create_task(run_workers([app], stop))
    try:
        put(settings, catalogue.topic(TIER), [("busy", task_ready("busy", priority=9))])
        await eventually_async(lambda: len(processor.started) == 1)
        for number in range(settings.partitions):
            processor.moving.ask(Move(TIER, number, tasks, TARGET), time.monotonic() + 300)
        target = Reader(settings, catalogue.topic(TARGET))
        for begin in range(0, tasks, 40):
            put(settings, catalogue.topic(TIER), many[begin : begin + 40])
            await eventually_async(partial(held, processor, target, begin + 40))
        assert 0 < len(target.read()) < tasks
        assert first_offsets(settings, catalogue.topic(TARGET)) == {0}
        target.close()
        go_on.set()
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)
    assert crashes == []


async def test_without_a_projector_nothing_new_starts_in_time(
    embedded_settings: Settings, embedded_broker: EmbeddedBroker, engine: Engine
) -> None:
    async def large(task: TaskReady) -> Result:
        return Completed({"text": "x" * RESULT_BYTES})

    settings, catalogue = embedded_settings, embedded_settings.catalogue()
    crashes: list[BaseException] = []

    def crashed(_name: str, error: BaseException) -> None:
        crashes.append(error)

    room = Room(Budget(catalogue, committed_offsets(admin_client(settings), catalogue)), catalogue, crashed)
    processor = BoundedTierProcessor(
        TIER, settings, FunctionExecutions(large), BoundedWriter(settings, crashed, room), crashed
    )
    steps = catalogue.steps(TIER)
    app = create_worker_app(TIER, [catalogue.topic(TIER), steps], settings, processor, crashed)
    put(settings, catalogue.topic(TIER), [(f"key-{n}", task_ready(f"event-{n}")) for n in range(TASKS)])
    stop = asyncio.Event()
    running = asyncio.create_task(run_workers([app], stop))
    try:
        numbers = range(settings.partitions)
        await eventually_async(
            lambda: (
                processor.waiting > 0
                and not processor.started
                and not any(room.left(steps, number, is_step=False) for number in numbers)
            ),
            timeout_s=60,
        )
        # Nothing is wrong with who waits for room (R8).
        unfinished = [each for each in app.assigned.partitions if each.acker.unfinished]
        assert unfinished
        await eventually_async(lambda: all(processor.is_excused(each) for each in unfinished))
        assert first_offsets(settings, catalogue.events) == {0}
        with projecting(settings, catalogue, engine, embedded_broker.epoch):
            await eventually_async(lambda: completed(engine) == TASKS, timeout_s=60)
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)
    assert crashes == []
