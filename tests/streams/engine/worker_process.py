"""One tier worker as a process of its own: ``python -m tests.streams.engine.worker_process SETTINGS LOG SLEEP_MS``.

``LOG`` gets a line ``S event time`` at each handler's start and ``E event time`` at its end, written unbuffered.
"""

import asyncio
import os
import signal
import sys
import time

from handlers.results import Completed, Result
from schemas.events import TaskReady
from streams.agents.tier import TierProcessor
from streams.engine.app import create_worker_app, run_workers
from streams.engine.outcomes import OutcomeWriter
from streams.engine.watchdog import end_process
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions


async def main(settings: Settings, log: int, sleep_s: float) -> None:
    async def work(task: TaskReady) -> Result:
        os.write(log, f"S {task.event_id} {time.time()}\n".encode())
        await asyncio.sleep(sleep_s)
        os.write(log, f"E {task.event_id} {time.time()}\n".encode())
        return Completed({})

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    catalogue = settings.catalogue()
    writer = OutcomeWriter(settings, end_process)
    processor = TierProcessor(TIER, settings, FunctionExecutions(work), writer, end_process)
    topics = [catalogue.topic(TIER), catalogue.steps(TIER)]
    await run_workers([create_worker_app(TIER, topics, settings, processor)], stopping)


if __name__ == "__main__":
    opened = os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    asyncio.run(main(Settings.model_validate_json(sys.argv[1]), opened, int(sys.argv[3]) / 1000))
