"""What may start within the embedded broker's room (R21); with a broker: tests/integration/test_embedded_room.py."""

import threading
from collections.abc import Collection
from typing import Any

from handlers.results import Completed
from schemas.codec import encode
from schemas.events import TaskReady
from streams.agents.bounded import LARGEST_OUTCOME_BYTES, BoundedTierProcessor, BoundedWriter, Room
from streams.agents.executions import Execution
from streams.agents.tier_records import TierTask
from streams.capture.budget import RECORD_OVERHEAD_BYTES, Budget, Committed
from streams.engine.decide import StepPolicy
from streams.engine.ledger import PartitionLedger
from streams.settings import Settings
from tests.streams.agents.support import Partition, Record
from tests.streams.engine.workload import task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import build_catalogue
from topics.tiers import TIERS, Tier

CATALOGUE = build_catalogue(partitions=2)
TIER = "webhook-high"
STEPS = CATALOGUE.steps(TIER)
OUTCOME = LARGEST_OUTCOME_BYTES + RECORD_OVERHEAD_BYTES


class Worker:
    """As much of a worker as a room looks at."""

    tier: Tier = TIERS[TIER]
    started: Collection[TierTask] = ()


def room_for(outcomes: int, committed: Committed = lambda _topic: {}) -> Room:
    """The room of partitions that take so many outcomes, before anything is in them."""

    def crashed(_name: str, error: BaseException) -> None:
        raise AssertionError(error)

    room = Room(Budget(CATALOGUE, committed, outcomes * OUTCOME, 1000), CATALOGUE, crashed)
    room.add(Worker())
    return room


async def test_as_many_start_as_their_outcomes_fit() -> None:
    room = room_for(outcomes=10)
    for _ in range(7):
        room.take(CATALOGUE.events, 1, LARGEST_OUTCOME_BYTES)
    await eventually_async(lambda: (room.left(STEPS, 0, is_step=False), room.left(STEPS, 1, is_step=False)) == (10, 3))
    for _ in range(3):
        room.started(1)
    assert room.left(STEPS, 1, is_step=False) == room.left(STEPS, 1, is_step=True) == 0


async def test_what_starts_while_the_brokers_are_asked_is_not_forgotten() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def committed(_topic: str) -> dict[int, int]:
        asked.set()
        go_on.wait(10)
        return {}

    room = room_for(outcomes=10, committed=committed)
    for _ in range(6):
        room.take(CATALOGUE.events, 1, LARGEST_OUTCOME_BYTES)
    room.left(STEPS, 1, is_step=False)
    await eventually_async(asked.is_set)
    room.started(1)
    go_on.set()
    await eventually_async(lambda: room.left(STEPS, 1, is_step=False) == 3)


async def test_after_a_large_sequel_fewer_start() -> None:
    room = room_for(outcomes=10)
    room.take(CATALOGUE.scheduled, 1, 3 * OUTCOME - RECORD_OVERHEAD_BYTES)
    await eventually_async(lambda: (room.left(STEPS, 0, is_step=False), room.left(STEPS, 1, is_step=False)) == (3, 2))


async def test_new_work_stops_where_steps_are_half_full_and_steps_go_on() -> None:
    room = room_for(outcomes=10)
    for _ in range(5):
        room.take(STEPS, 1, LARGEST_OUTCOME_BYTES)
    await eventually_async(lambda: room.left(STEPS, 1, is_step=False) == 0)
    assert room.left(STEPS, 1, is_step=True) == room.left(STEPS, 0, is_step=False) == 10
    assert room.left(CATALOGUE.steps("webhook-low"), 1, is_step=False) == 10


class Tight(BoundedTierProcessor):
    """Has room for nothing until it is told."""

    room = 0

    def _left(self, number: int, is_step: bool) -> int:
        return self.room


class Told:
    """Executions that tell which tasks began."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def cached(self, task: TaskReady) -> Execution:
        self.begun.append(task.event_id)

        async def run(_task: TaskReady) -> Completed:
            return Completed({})

        return Execution("H", run, StepPolicy(), 5)

    async def lookup(self, task: TaskReady) -> Execution:
        return self.cached(task)


async def test_a_key_goes_on_whose_held_record_was_taken_out_meanwhile(embedded_settings: Settings) -> None:
    """As it is where it is over its tenant's share (R15); its lane was held for ever (R13)."""
    told = Told()
    writer = BoundedWriter(embedded_settings, lambda *_: None, room_for(outcomes=10))
    worker = Tight(TIER, embedded_settings, told, writer, lambda *_: None)
    topic = CATALOGUE.topic(TIER)
    reader: Any = None
    ledger: Any = PartitionLedger(1, [topic], reader)
    partition = Partition(ledger, topic, 1)
    worker.offer(partition, [Record(encode(task_ready(name)), at, topic, 1) for at, name in enumerate(("a", "b"))])
    lanes = worker.overflow._state.lanes
    await eventually_async(lambda: worker._held)
    first = next(iter(worker._held.values()))[0].first[0]
    assert isinstance(first, TierTask)
    lanes.withdraw(first)
    worker.room = 1
    await eventually_async(lambda: told.begun == ["b"])
    await writer.stop()


async def test_what_is_over_a_share_stays_where_there_is_no_room_to_defer_it(embedded_settings: Settings) -> None:
    writer = BoundedWriter(embedded_settings, lambda *_: None, room_for(outcomes=10))
    worker = Tight(TIER, embedded_settings, Told(), writer, lambda *_: None)
    topic = embedded_settings.catalogue().topic(TIER)
    reader: Any = None
    ledger: Any = PartitionLedger(1, [topic], reader)
    worker.offer(Partition(ledger, topic, 1), [Record(encode(task_ready("a")), 0, topic, 1)])
    lanes = worker.overflow._state.lanes
    await eventually_async(lambda: worker._held)
    item = next(iter(worker._held.values()))[0].first[0]
    assert isinstance(item, TierTask)
    assert not worker.overflow._defer(item)
    assert lanes.is_waiting(item)
    worker.room = 1
    assert worker.overflow._defer(item)
    assert not lanes.is_waiting(item)
    await writer.stop()
