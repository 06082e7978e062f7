"""A worker with several tenants: one that hangs takes no place that another has a right to (R15)."""

import asyncio
from collections import Counter

import pytest

from handlers.results import Completed, Result
from schemas.events import TaskReady
from streams.control.view import WEIGHT, Weight
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Worker, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded


async def test_others_are_served_while_one_tenants_upstream_hangs(embedded_settings: Settings) -> None:
    settings = embedded_settings.model_copy(update={"window": 20})
    topic = settings.catalogue().topic(TIER)
    hang, begun = asyncio.Event(), Counter[str]()

    async def work(task: TaskReady) -> Result:
        begun[task.tenant_id] += 1
        if task.tenant_id == "7":
            await hang.wait()
        return Completed({})

    async with Worker(settings, FunctionExecutions(work)) as worker:
        put(settings, topic, [(f"7|Order|{number}", task_ready(f"a{number}", tenant_id="7")) for number in range(60)])
        # It uses what nobody else wants, but for the place that is kept.
        await eventually_async(lambda: begun["7"] == 19)
        # Without a model the key tells no tenant: the header does.
        put(settings, topic, [(f"b{number}", task_ready(f"b{number}", tenant_id="8")) for number in range(40)])
        await eventually_async(lambda: begun["8"] == 40)
        assert begun["7"] == 19
        hang.set()
        await eventually_async(lambda: worker.app.assigned.finished == 100)


async def test_a_share_is_set_while_it_runs(embedded_settings: Settings) -> None:
    settings = embedded_settings.model_copy(update={"window": 40})
    topic = settings.catalogue().topic(TIER)
    go_on, begun = asyncio.Event(), Counter[str]()

    async def work(task: TaskReady) -> Result:
        begun[task.tenant_id] += 1
        await go_on.wait()
        return Completed({})

    async with Worker(settings, FunctionExecutions(work)) as worker:
        worker.processor.admission._obey(WEIGHT, "7", Weight(3.0))
        records = [
            (f"{tenant}|Order|{number}", task_ready(f"{tenant}-{number}", tenant_id=tenant))
            for number in range(60)
            for tenant in ("7", "8")
        ]
        put(settings, topic, records)
        await eventually_async(lambda: sum(begun.values()) >= 38)
        assert begun["7"] > 2 * begun["8"]
        go_on.set()
        await eventually_async(lambda: worker.app.assigned.finished == 120)
