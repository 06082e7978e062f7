"""A handler that kills its process is contained (R4)."""

import asyncio
import subprocess
import sys

import pytest

from handlers.results import Completed, Result
from schemas.events import TaskReady
from streams.settings import Settings
from tests.integration.test_engine_ledger import commit, number_of
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, complete, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded

# A worker whose handler ends the process for the event named "poison".
KILLED_WORKER = """
import asyncio, os, sys
from streams.settings import Settings
from tests.streams.engine.workload import FunctionExecutions, Worker
from handlers.results import Completed

async def work(task):
    if task.event_id == "poison":
        os._exit(9)
    return Completed({})

async def main():
    async with Worker(Settings.model_validate_json(sys.argv[1]), FunctionExecutions(work)):
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def die(settings: Settings) -> None:
    """A worker in a process of its own, until its handler has killed it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED_WORKER, settings.model_dump_json(), stderr=subprocess.DEVNULL
    )
    assert await asyncio.wait_for(process.wait(), 60) == 9


async def test_a_task_that_kills_its_workers_fails_and_the_others_go_on(embedded_settings: Settings) -> None:
    settings = embedded_settings.model_copy(update={"session_timeout_s": 6.0})
    catalogue = settings.catalogue()
    topic = catalogue.topic(TIER)
    put(settings, topic, [("key", task_ready("poison"))])
    number = number_of(settings, topic)
    # So that the same partition has something after it.
    put(settings, topic, [("key", task_ready(f"good-{n}")) for n in range(30)])
    # Two owners have died before, so this assignment is the third.
    commit(settings, (topic, number, 0), bound=0, assignments=2)
    reader = Reader(settings, catalogue.events)
    await die(settings)
    await die(settings)
    await eventually_async(lambda: len(reader.read()) >= 2)
    assert [(each.event_id, each.kind) for each in reader.events()] == [("poison", "started")] * 2

    seen: list[str] = []

    async def work(task: TaskReady) -> Result:
        seen.append(task.event_id)
        return Completed({})

    async with Worker(settings, FunctionExecutions(work)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 31, 60)
    assert seen == [f"good-{n}" for n in range(30)]
    failed = next(each for each in reader.events() if each.event_id == "poison" and each.kind != "started")
    assert (failed.kind, failed.error_code, failed.next_topic) == (
        "failed",
        "worker_died",
        catalogue.topic("webhook-failed"),
    )
    reader.close()


async def test_progress_ends_the_care(embedded_settings: Settings) -> None:
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [("key", task_ready("first"))])
    number = number_of(embedded_settings, topic)
    commit(embedded_settings, (topic, number, 0), bound=0, assignments=2)
    async with Worker(embedded_settings, FunctionExecutions(complete)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
        partition = next(
            each for each in worker.app.assigned.partitions if (each.topic, each.number) == (topic, number)
        )
        await eventually_async(lambda: partition.stored_assignments == 0)
        put(embedded_settings, topic, [("key", task_ready("second"))])
        await eventually_async(lambda: worker.app.assigned.finished == 2)
        assert not partition.is_careful
