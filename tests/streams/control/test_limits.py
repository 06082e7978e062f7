"""When a worker leaves by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from streams.control.limits import EXIT_MEMORY, Limits, LimitWatch, StopReason, is_empty, resident_bytes
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, complete, put, task_ready
from tests.support.waiting import eventually_async


def test_only_memory_has_an_exit_code_of_its_own() -> None:
    assert {reason: reason.exit_code for reason in StopReason if reason.exit_code} == {StopReason.MEMORY: EXIT_MEMORY}


def test_memory_is_what_the_process_holds() -> None:
    before = resident_bytes()
    held = bytearray(64 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    assert 48 * 1024 * 1024 < resident_bytes() - before < 200 * 1024 * 1024


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(memory_mib=1), StopReason.MEMORY),
        (Limits(max_time_s=0.0), StopReason.MAX_TIME),
        (Limits(max_time_s=0.0, memory_mib=1), StopReason.MEMORY),
    ],
)
async def test_time_and_memory_need_no_work(limits: Limits, reason: StopReason) -> None:
    reasons: list[StopReason] = []
    app = object()
    watch = LimitWatch([(app, app)], limits, reasons.append)  # type: ignore[list-item]
    await watch.run()
    assert reasons == [reason]


@pytest.mark.embedded
async def test_a_worker_is_empty_once_everything_that_was_there_is_finished(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    released = asyncio.Event()

    async def wait(task: object) -> object:
        await released.wait()
        return await complete(task)  # type: ignore[arg-type]

    put(embedded_settings, catalogue.topic(TIER), [(f"k{n}", task_ready(f"event-{n}")) for n in range(20)])
    reader = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, FunctionExecutions(wait)) as worker:  # type: ignore[arg-type]
        has_emptied: Callable[[], bool | Awaitable[bool]] = partial(is_empty, worker.app)
        assert not await is_empty(worker.app)
        await eventually_async(lambda: worker.processor.running == 20)
        assert not await is_empty(worker.app)
        released.set()
        await eventually_async(has_emptied)
        await eventually_async(lambda: len(reader.read()) == 20)
        put(embedded_settings, catalogue.topic(TIER), [("k", task_ready("later"))])
        await eventually_async(lambda: len(reader.read()) == 21)
        await eventually_async(has_emptied)
    reader.close()


@pytest.mark.embedded
async def test_no_more_tasks_start_than_may(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    put(embedded_settings, catalogue.topic(TIER), [(f"k{n}", task_ready(f"event-{n}")) for n in range(50)])
    reader = Reader(embedded_settings, catalogue.events)
    reasons: list[StopReason] = []
    worker = Worker(embedded_settings, FunctionExecutions(complete))
    worker.processor.brake.left = 7
    async with worker:
        await LimitWatch([(worker.app, worker.processor)], Limits(), reasons.append).run()
    assert reasons == [StopReason.MAX_JOBS]
    await eventually_async(lambda: len(reader.read()) == 7)
    async with Worker(embedded_settings, FunctionExecutions(complete)):
        await eventually_async(lambda: len(reader.read()) == 50)
    reader.close()


@pytest.mark.embedded
async def test_paused_means_that_nothing_new_starts(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    released = asyncio.Event()

    async def wait(task: object) -> object:
        await released.wait()
        return await complete(task)  # type: ignore[arg-type]

    settings = embedded_settings.model_copy(update={"window": 3})
    put(settings, catalogue.topic(TIER), [(f"k{n}", task_ready(f"event-{n}")) for n in range(20)])
    reader = Reader(settings, catalogue.events)
    async with Worker(settings, FunctionExecutions(wait)) as worker:  # type: ignore[arg-type]
        await eventually_async(lambda: worker.processor.running == 3 and worker.processor.waiting == 17)
        worker.processor.brake.paused = True
        released.set()
        # What runs ends, what waits stays.
        await eventually_async(lambda: len(reader.read()) == 3 and not worker.processor.started)
        put(settings, catalogue.topic(TIER), [("k", task_ready("later"))])
        assert all(worker.processor.is_excused(each) for each in worker.app.assigned.partitions)
        assert (worker.processor.running, worker.processor.waiting) == (0, 17)
        worker.processor.brake.paused = False
        await eventually_async(lambda: len(reader.read()) == 21)
    reader.close()
