"""A burst of changes of one row is one call with the last state; every other change says which one was made for it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select

from handlers.results import Completed, Result
from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.events import TaskReady, now_micros
from schemas.kinds import FINAL_KINDS
from streams.agents.intake import NOTHING_DECIDED, Intake
from streams.capture.relay import Relay
from streams.database import create_database_engine
from streams.settings import Settings
from tests.integration.scheduled import produce, projecting
from tests.streams.agents.support import ORDERS, change, configuration, record
from tests.streams.capture.relay_support import running
from tests.streams.engine.workload import FunctionExecutions, Worker
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded

TIER = "webhook-beanstalk"
SETTINGS = configuration(ORDERS | {"coalesce": {"quiet_s": 1, "max_wait_s": 5}})


class House:
    """Relay and projector, which can be stopped and started again, and the states that were called with."""

    def __init__(self, settings: Settings, catalogue: Catalogue, engine: Engine) -> None:
        self.settings, self.catalogue, self.engine = settings, catalogue, engine
        self.states: list[int] = []
        self._intake = Intake(catalogue)
        self._roles = ExitStack()

    def project(self) -> None:
        self._roles.enter_context(projecting(self.settings, self.catalogue, self.engine))

    def relay(self) -> None:
        self._roles.enter_context(running(Relay(self.settings, self.catalogue, [self.engine], self.engine)))

    def stop(self) -> None:
        self._roles.close()

    def change(self, numbers: range) -> None:
        """Accept changes of one order as intake does."""
        records = []
        for number in numbers:
            event = change(
                change_id=f"c{number}",
                model_event="updated",
                occurred_at=now_micros(),
                payload=f'{{"id":7,"state":{number}}}',
            )
            consumed = record(event, number, topic=self.catalogue.changes, partition=0)
            plan = self._intake.plan(consumed, event, SETTINGS, NOTHING_DECIDED, now_micros())
            planned = [*(decision.record for decision in plan.decisions), *plan.dispatches]
            records += [(each.topic, each.key or b"", each.value, each.headers) for each in planned]
        produce(self.settings, *records)

    def handler(self) -> FunctionExecutions:
        async def work(task: TaskReady) -> Result:
            self.states.append(orjson.loads(task.payload)["state"])
            return Completed({})

        return FunctionExecutions(work)

    def waits(self) -> int:
        """Rows of the schedule."""
        with self.engine.connect() as connection:
            count: int = connection.execute(select(func.count()).select_from(WEBHOOK_SCHEDULE)).scalar_one()
        return count

    def ended(self) -> dict[int, str]:
        """Of each event that has ended: how, or the state of the one that was carried out for it."""
        with self.engine.connect() as connection:
            found = connection.execute(select(WEBHOOK_EVENTS)).all()
        state = {row.event_id: orjson.loads(row.payload)["state"] for row in found if row.payload is not None}
        ends: dict[int, str] = {}
        for row in found:
            if row.kind in FINAL_KINDS and row.event_id in state:
                other = orjson.loads(row.result or "{}").get("superseded_by")
                ends[state[row.event_id]] = row.kind if other is None else f"{row.kind} by {state.get(other)}"
        return ends


@pytest.fixture
def house(embedded_settings: Settings, catalogue: Catalogue, tmp_path: Path) -> Iterator[House]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    house = House(embedded_settings, catalogue, engine)
    yield house
    house.stop()
    engine.dispose()


async def test_of_a_hundred_changes_the_last_one_is_called_with(house: House) -> None:
    """The relay looks when all of them are there: how fast they come makes no difference."""
    house.change(range(100))
    house.project()
    async with Worker(house.settings, house.handler(), TIER):
        await eventually_async(lambda: house.waits() == 100, 90)
        await asyncio.to_thread(house.relay)
        await eventually_async(lambda: len(house.ended()) == 100, 90)
    assert house.states == [99]
    assert house.ended() == dict.fromkeys(range(99), "superseded by 99") | {99: "completed"}


async def test_a_relay_that_stops_amid_a_burst_leaves_a_last_call_to_the_next_one(house: House) -> None:
    async with Worker(house.settings, house.handler(), TIER):
        house.project()
        await asyncio.to_thread(house.relay)
        house.change(range(10))
        await eventually_async(lambda: house.waits() > 0, 90)
        await asyncio.to_thread(house.stop)
        house.change(range(10, 20))
        house.project()
        await asyncio.to_thread(house.relay)
        await eventually_async(lambda: len(house.ended()) == 20, 90)
    assert house.states[-1] == 19
    assert house.states == sorted(set(house.states))
    kinds = [kind.split()[0] for kind in house.ended().values()]
    assert kinds.count("completed") == len(house.states)
