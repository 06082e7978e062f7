"""Topics that are deleted and created anew on a real Kafka: what was known of the former log is not believed (R20)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec
from sqlalchemy import Engine, select

from handlers.results import Completed, Result
from projections.migrate import upgrade
from projections.tables import PROJECTION_POSITIONS, WEBHOOK_EVENTS
from schemas.events import TaskReady, now_micros
from streams.broker import provision
from streams.broker.connection import admin_client
from streams.broker.epoch import log_epoch
from streams.database import create_database_engine
from streams.settings import Settings
from tests.integration.scheduled import projecting
from tests.streams.engine.workload import TIER, FunctionExecutions, Worker, put, task_ready
from tests.support.waiting import eventually, eventually_async
from topics.catalogue import Catalogue

pytestmark = pytest.mark.kafka

BEFORE, AFTER = [f"a{number}" for number in range(12)], [f"b{number}" for number in range(3)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections",))
    yield engine
    engine.dispose()


class Ran:
    """A handler that remembers whom it ran for."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, task: TaskReady) -> Result:
        self.events.append(task.event_id)
        return Completed({})


def completed(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        query = select(WEBHOOK_EVENTS.c.event_id).where(WEBHOOK_EVENTS.c.kind == "completed")
        return sorted(connection.execute(query).scalars())


def reached(engine: Engine, topic: str) -> tuple[set[str], int]:
    """Epochs of a topic's positions, and how many records they stand for."""
    table = PROJECTION_POSITIONS.c
    with engine.connect() as connection:
        query = select(table.epoch, table.next_offset).where(table.topic == topic)
        rows = connection.execute(query).all()
    return {row.epoch for row in rows}, sum(row.next_offset for row in rows)


def create_anew(settings: Settings, catalogue: Catalogue, topics: Sequence[str]) -> None:
    """Delete topics and create them again, empty."""
    admin = admin_client(settings)
    for deleted in admin.delete_topics(list(topics), operation_timeout=30).values():
        deleted.result(60)
    eventually(lambda: not set(topics) & set(admin.list_topics(timeout=10).topics), 60)
    provision.apply(admin, catalogue)
    places = [TopicPartition(name, number) for name in topics for number in range(catalogue.specs[name].partitions)]
    eventually(lambda: _are_led(settings, places), 60)


def _are_led(settings: Settings, places: Sequence[TopicPartition]) -> bool:
    """Whether the leaders answer: they take up new partitions a moment after everybody knows of them."""
    # Asked anew each time: a client that was told the former leaders asks those for a while.
    admin = admin_client(settings)
    asked = admin.list_offsets({place: OffsetSpec.latest() for place in places}, request_timeout=10)
    return all(each.exception(20) is None for each in asked.values())


async def carry_out(settings: Settings, catalogue: Catalogue, engine: Engine, ran: Ran, names: list[str]) -> str:
    """Put tasks in, and wait until a worker and a projector are through; the epoch of their log."""
    epoch = log_epoch(settings, catalogue.events)
    wanted = sorted({*completed(engine), *names})
    with projecting(settings, catalogue, engine, epoch):
        async with Worker(settings, FunctionExecutions(ran)):
            tasks = [(f"1|Order|{name}", task_ready(name, accepted_at=now_micros())) for name in names]
            put(settings, catalogue.topic(TIER), tasks)
            await eventually_async(lambda: completed(engine) == wanted, 60)
    return epoch


@pytest.mark.parametrize("which", ["events", "all"])
async def test_a_new_log_is_read_from_its_beginning_and_the_history_stays(
    kafka_settings: Settings, catalogue: Catalogue, engine: Engine, which: str
) -> None:
    settings, ran = kafka_settings, Ran()
    former = await carry_out(settings, catalogue, engine, ran, BEFORE)
    assert reached(engine, catalogue.events) == ({former}, len(BEFORE))

    create_anew(settings, catalogue, [catalogue.events] if which == "events" else list(catalogue.specs))
    present = await carry_out(settings, catalogue, engine, ran, AFTER)

    assert present != former
    # A position of the former log would lie beyond the end of this one.
    assert reached(engine, catalogue.events) == ({present}, len(AFTER))
    assert completed(engine) == sorted([*BEFORE, *AFTER])
    # Commits of the tier hold where its topic is the same; their bounds, which lie beyond the new log, do not.
    assert sorted(ran.events) == sorted([*BEFORE, *AFTER])
