"""A tenant that fills a worker's room goes behind its gate once another's work waits behind it, not before (R15)."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.partitioner import murmur2

from handlers.results import Completed, Result
from schemas.codec import decode_as
from schemas.events import Source, TaskReady, TaskScheduled
from streams.control.view import RATE, Rate, Weight
from streams.settings import Settings
from tests.integration.test_engine_ledger import write_event
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.gates import rate_gate, tenant_gate
from topics.keys import join_parts

pytestmark = pytest.mark.embedded

ROOM, WINDOW, NOISY = 30, 20, 90
HOST = "api.example.com"
GATE = tenant_gate("1")


class Hanging:
    """Tenant 1's upstream hangs until ``go_on``; all others' answer."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.ran: list[str] = []

    async def __call__(self, task: TaskReady) -> Result:
        self.ran.append(task.event_id)
        if task.tenant_id == "1":
            await self.go_on.wait()
        return Completed({})


@pytest.fixture
def narrow(embedded_settings: Settings) -> Settings:
    return embedded_settings.model_copy(update={"waiting_per_partition": ROOM, "window": WINDOW})


@pytest.fixture
def scheduled(narrow: Settings) -> Iterator[Reader]:
    reader = Reader(narrow, narrow.catalogue().scheduled)
    yield reader
    reader.close()


def deferrals(reader: Reader) -> list[TaskScheduled]:
    """What waits behind gates, in the order in which it went there."""
    waits = [decode_as(TaskScheduled, each.value) for each in reader.read()]
    return [each for each in waits if each.kind == "deferral"]


def keys(settings: Settings, tenant: str, count: int) -> list[str]:
    """So many keys of a tenant that all lie in the first partition."""
    partitions = settings.catalogue().specs[settings.catalogue().topic(TIER)].partitions
    candidates = (f"{tenant}|Order|{number}" for number in range(100_000))
    chosen = (key for key in candidates if (murmur2(key.encode()) & 0x7FFFFFFF) % partitions == 0)
    return [next(chosen) for _ in range(count)]


def fill(settings: Settings, spread: int = NOISY, **changes: Any) -> None:
    """Put the noisy tenant's tasks in, over ``spread`` keys."""
    names = keys(settings, "1", spread)
    tasks = [(names[number % spread], task_ready(f"n{number}", **changes)) for number in range(NOISY)]
    put(settings, settings.catalogue().topic(TIER), tasks)


def put_quiet(settings: Settings, event_id: str = "quiet") -> None:
    put(
        settings,
        settings.catalogue().topic(TIER),
        [(keys(settings, "2", 1)[0], task_ready(event_id, tenant_id="2"))],
    )


async def test_who_waits_behind_a_full_room_is_reached(narrow: Settings, scheduled: Reader) -> None:
    topic, hanging = narrow.catalogue().topic(TIER), Hanging()
    fill(narrow, spread=45)
    put_quiet(narrow)
    async with Worker(narrow, FunctionExecutions(hanging)) as worker:
        await eventually_async(lambda: "quiet" in hanging.ran)
        await eventually_async(lambda: len(worker.processor.started) < WINDOW)
        waits = deferrals(scheduled)
        assert {(each.gate, each.reason, each.attempt) for each in waits} == {(GATE, "tenant_share", 1)}
        numbers = [int(each.event_id[1:]) for each in waits]
        for key in range(45):
            # Each key's in its own order (R12).
            of_key = [number for number in numbers if number % 45 == key]
            assert of_key == sorted(of_key)
        # What the relay lets go fills the room again, and is never deferred for its tenant's share a second time.
        hanging.go_on.set()
        released = [decode_as(TaskReady, each.task) for each in waits]
        names = keys(narrow, "1", 45)
        put(narrow, topic, [(names[int(each.event_id[1:]) % 45], each) for each in released])
        await eventually_async(lambda: worker.app.assigned.finished == NOISY + 1 + len(waits))
    assert len(deferrals(scheduled)) == len(waits)
    assert sorted(hanging.ran) == sorted([*(f"n{number}" for number in range(NOISY)), "quiet"])


async def test_nothing_is_deferred_while_nobody_else_waits(narrow: Settings, scheduled: Reader) -> None:
    hanging = Hanging()
    fill(narrow)
    async with Worker(narrow, FunctionExecutions(hanging)) as worker:
        await eventually_async(lambda: worker.processor.waiting >= ROOM)
        assert not await worker.processor.overflow.relieve()
        put_quiet(narrow)
        # What was looked at without finding anybody is not looked at again; the newcomer is found all the same.
        await eventually_async(lambda: "quiet" in hanging.ran)
        hanging.go_on.set()
        await eventually_async(lambda: not worker.processor.started)
    assert deferrals(scheduled)


async def test_released_and_known_records_stay_where_they_are(narrow: Settings, scheduled: Reader) -> None:
    """A gate lets go once; a record that the log already settles is settled at its turn, never deferred (R1)."""
    topic, hanging = narrow.catalogue().topic(TIER), Hanging()
    fill(narrow, gate=GATE)
    put_quiet(narrow)
    for number in range(40, 60):
        write_event(narrow, Source(topic, 0, number), event_id=f"n{number}")
    async with Worker(narrow, FunctionExecutions(hanging)) as worker:
        await eventually_async(lambda: worker.processor.waiting >= ROOM)
        assert not await worker.processor.overflow.relieve()
        hanging.go_on.set()
        await eventually_async(lambda: worker.app.assigned.finished == NOISY + 1)
    assert deferrals(scheduled) == []
    assert not {f"n{number}" for number in range(40, 60)} & set(hanging.ran)


async def test_a_heavier_tenant_keeps_more(narrow: Settings, scheduled: Reader) -> None:
    hanging = Hanging()
    fill(narrow)
    put_quiet(narrow)
    async with Worker(narrow, FunctionExecutions(hanging)) as worker:
        worker.processor.admission.shares["1"] = Weight(9.0)
        await eventually_async(lambda: "quiet" in hanging.ran)
        assert worker.processor.waiting >= ROOM * 9 // 10
        hanging.go_on.set()


async def test_a_host_with_a_rate_has_the_one_gate(narrow: Settings, scheduled: Reader) -> None:
    hanging = Hanging()
    executions = FunctionExecutions(hanging)
    executions._execution = replace(executions._execution, upstream=HOST)
    fill(narrow)
    async with Worker(narrow, executions) as worker:
        await eventually_async(lambda: worker.processor.waiting >= ROOM)
        worker.processor.admission._obey(RATE, join_parts("1", HOST), Rate(10))
        put_quiet(narrow)
        await eventually_async(lambda: "quiet" in hanging.ran)
        hanging.go_on.set()
    assert {each.gate for each in deferrals(scheduled)} == {rate_gate("1", HOST)}
