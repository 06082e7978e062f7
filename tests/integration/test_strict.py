"""Strict order: one event of a key at a time, from its first try to its end, whatever fails or stops (R12)."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from handlers.results import Completed, Result
from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS
from projections.waits import open_waits
from schemas.errors import Permanent, Retryable
from schemas.events import TaskReady, now_micros
from schemas.kinds import FINAL_KINDS
from streams.agents.acceptance import entry_wait
from streams.capture.relay import Relay
from streams.database import create_database_engine
from streams.scheduling import Scheduling
from streams.settings import Settings
from tests.integration.scheduled import (
    TIER,
    accepted,
    event_record,
    key_of,
    produce,
    projecting,
    task_of,
    wait_record,
)
from tests.streams.capture.relay_support import running
from tests.streams.engine.workload import FunctionExecutions, Worker
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


class House:
    """Relay and projector, which can be stopped and started again, and what the handlers did."""

    def __init__(self, settings: Settings, catalogue: Catalogue, engine: Engine) -> None:
        self.settings, self.catalogue, self.engine = settings, catalogue, engine
        self.starts: dict[str, list[str]] = defaultdict(list)
        self.too_early: list[str] = []
        self._final: set[str] = set()
        self._roles = ExitStack()

    def start(self) -> None:
        self._roles.enter_context(projecting(self.settings, self.catalogue, self.engine))
        self._roles.enter_context(running(Relay(self.settings, self.catalogue, [self.engine], self.engine)))

    def stop(self) -> None:
        self._roles.close()

    def accept(self, *names: str, rule: str = "default:strict") -> None:
        """Accept events as intake does; ``a-3`` is the fourth of row ``a``."""
        records = []
        for name in names:
            task = task_of(name, now_micros(), model="Order", model_id=name.split("-")[0])
            event = accepted(task, routing_rule=rule, model="Order", model_id=task.model_id)
            wait = entry_wait(task, event, self.catalogue, now_micros())
            assert wait is not None
            records += [event_record(self.catalogue, event, key_of(task))]
            records += [wait_record(self.catalogue, wait, key_of(task))]
        produce(self.settings, *records)

    def handler(self, fails: Callable[[TaskReady], Exception | None]) -> FunctionExecutions:
        """Notes each first try, and each that came before its turn; fails as told."""

        async def work(task: TaskReady) -> Result:
            key, number = task.event_id.split("-")
            if task.attempt == 1:
                self.starts[key].append(task.event_id)
            before = {f"{key}-{each}" for each in range(int(number))}
            if not before <= self._final:
                self.too_early.append(task.event_id)
            error = fails(task)
            await asyncio.sleep(0)
            if error is not None:
                if isinstance(error, Permanent):
                    self._final.add(task.event_id)
                raise error
            self._final.add(task.event_id)
            return Completed({})

        return FunctionExecutions(work)

    def ended(self) -> int:
        """Events with a final outcome."""
        with self.engine.connect() as connection:
            count: int = connection.execute(
                select(func.count()).where(WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))
            ).scalar_one()
        return count


@pytest.fixture
def house(embedded_settings: Settings, catalogue: Catalogue, engine: Engine) -> Iterator[House]:
    house = House(embedded_settings, catalogue, engine)
    yield house
    house.stop()


def never(task: TaskReady) -> Exception | None:
    return None


async def test_later_events_of_a_key_wait_while_one_is_retried(house: House) -> None:
    """Two rows with 12 events each, mixed; some fail at first, some for good; relay and projector stop in between."""

    def fails(task: TaskReady) -> Exception | None:
        if task.event_id in ("a-2", "b-5") and task.attempt == 1:
            return Retryable("busy")
        return Permanent("no", code="no") if task.event_id == "a-4" else None

    names = [f"{key}-{number}" for number in range(12) for key in "ab"]
    house.accept(*names[:10])
    async with Worker(house.settings, house.handler(fails), TIER):
        await asyncio.to_thread(house.start)
        await eventually_async(lambda: house.ended() >= 4, 60)
        await asyncio.to_thread(house.stop)
        house.accept(*names[10:])
        await asyncio.to_thread(house.start)
        await eventually_async(lambda: house.ended() == len(names), 60)
    assert house.too_early == []
    assert dict(house.starts) == {key: [f"{key}-{number}" for number in range(12)] for key in "ab"}


async def test_a_halted_lane_stays_until_somebody_deals_with_it_and_is_visible(house: House) -> None:
    def fails(task: TaskReady) -> Exception | None:
        return Permanent("no", code="no") if task.event_id == "a-1" else None

    house.accept("a-0", "a-1", "a-2", "a-3", rule="default:strict_halt")
    async with Worker(house.settings, house.handler(fails), TIER):
        await asyncio.to_thread(house.start)
        house.accept("b-0")
        await eventually_async(lambda: house.ended() == 3, 60)
        with house.engine.connect() as connection:
            found = [(each.event_id, each.lane_position) for each in open_waits(connection)]
        assert sorted(found) == [("a-2", 1), ("a-3", 2)]
        assert house.starts["a"] == ["a-0", "a-1"]
        dismissed = accepted(task_of("a-1", 0), kind="dismissed")
        with house.engine.connect() as connection:
            row = connection.execute(select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id == "a-1")).one()
        dismissed.accepted_at = int(row.accepted_at.timestamp() * 1_000_000)
        produce(house.settings, event_record(house.catalogue, dismissed, b"1|Order|a"))
        await eventually_async(lambda: house.ended() == 5, 60)
    assert house.starts["a"] == ["a-0", "a-1", "a-2", "a-3"]


async def test_who_is_cancelled_in_a_lane_leaves_the_others_in_their_order(house: House) -> None:
    blocked = asyncio.Event()

    def fails(task: TaskReady) -> Exception | None:
        return Retryable("busy", retry_after_s=1) if task.event_id == "a-0" and not blocked.is_set() else None

    house.accept("a-0", "a-1", "a-2")
    async with Worker(house.settings, house.handler(fails), TIER):
        await asyncio.to_thread(house.start)
        await eventually_async(lambda: bool(house.starts["a"]), 60)
        cancelled = await asyncio.to_thread(Scheduling(house.settings, house.engine).cancel, "a-1", by="me")
        assert cancelled.answer == "done"
        assert house.starts["a"] == ["a-0"]
        blocked.set()
        await eventually_async(lambda: house.ended() == 3, 60)
    assert house.starts["a"] == ["a-0", "a-2"]
