"""One measurement of ``tests.bench.engine`` in a process of its own; prints one line of JSON."""

import asyncio
import json
import os
import sys
import time
import uuid
from pathlib import Path

import orjson

from handlers.results import Completed, Result
from schemas.events import TaskReady
from streams.agents.tier import TierProcessor
from streams.engine.app import create_worker_app, run_workers
from streams.engine.outcomes import OutcomeWriter
from streams.engine.watchdog import end_process
from streams.settings import Settings
from tests.bench.engine import raw_loop
from tests.streams.engine.workload import TIER, FunctionExecutions


def resident_mib() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


async def run_engine(settings: Settings, count: int, latency_s: float) -> dict[str, float]:
    """Carry out ``count`` records in a new group; until the last is finished, which follows its acknowledgement."""
    marks: list[float] = []

    async def work(task: TaskReady) -> Result:
        if not marks:
            marks.extend((time.monotonic(), time.process_time()))
        payload = orjson.loads(task.payload)
        if latency_s:
            await asyncio.sleep(latency_s)
        return Completed({"ok": bool(payload)})

    stopping = asyncio.Event()
    group = f"bench-{uuid.uuid4().hex[:8]}"
    catalogue = settings.catalogue()
    writer = OutcomeWriter(settings, end_process)
    processor = TierProcessor(TIER, settings, FunctionExecutions(work), writer, end_process)
    app = create_worker_app(group, [catalogue.topic(TIER), catalogue.steps(TIER)], settings, processor)
    running = asyncio.create_task(run_workers([app], stopping))
    while app.assigned.finished < count:
        if running.done():
            raise RuntimeError("the worker ended") from running.exception()
        await asyncio.sleep(0.01)
    figures = {
        "rate": count / (time.monotonic() - marks[0]),
        "cpu_us": (time.process_time() - marks[1]) / count * 1e6,
        "rss_mib": resident_mib(),
    }
    stopping.set()
    await running
    return figures


async def hold_backlog(settings: Settings) -> None:
    """Memory of a worker all of whose handlers hang while everything else waits."""

    async def work(task: TaskReady) -> Result:
        await asyncio.sleep(3600)
        return Completed({})

    catalogue = settings.catalogue()
    writer = OutcomeWriter(settings, end_process)
    processor = TierProcessor(TIER, settings, FunctionExecutions(work, timeout_s=3600), writer, end_process)
    group = f"bench-{uuid.uuid4().hex[:8]}"
    app = create_worker_app(group, [catalogue.topic(TIER), catalogue.steps(TIER)], settings, processor)
    running = asyncio.create_task(run_workers([app], asyncio.Event()))
    held, steady = -1, 0
    while steady < 20:
        await asyncio.sleep(0.1)
        steady = steady + 1 if processor.waiting == held and held > 0 else 0
        held = processor.waiting
        if running.done():
            raise RuntimeError("the worker ended") from running.exception()
    finish({"rss_mib": resident_mib(), "held": processor.waiting, "running": processor.running})


def finish(figures: dict[str, float]) -> None:
    """Print and leave at once: a worker with an hour of handlers under way has nothing to wait for here."""
    print(json.dumps(figures), flush=True)
    os._exit(0)


def main(what: str, settings: Settings, count: int, latency_s: float) -> None:
    """Run what is asked for."""
    if what == "raw":
        finish(raw_loop(settings, count))
    elif what == "engine":
        finish(asyncio.run(run_engine(settings, count, latency_s)))
    else:
        asyncio.run(hold_backlog(settings))


if __name__ == "__main__":
    main(sys.argv[1], Settings.model_validate_json(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
