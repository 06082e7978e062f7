"""A worker that lives without working is ended (R8)."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from streams.engine.app import create_worker_app, run_workers
from streams.engine.contract import AssignedPartition, ConsumedRecord
from streams.engine.watchdog import LoopWatch, Progress, Sample
from streams.settings import Settings
from tests.streams.engine.workload import TIER, put, task_ready
from tests.support.waiting import eventually, eventually_async


def test_one_stuck_partition_is_found_although_others_go_on() -> None:
    progress = Progress(limit_s=60)
    for now in range(0, 60, 10):
        assert progress.stuck(now, [Sample("a", now, True, False), Sample("b", 5, True, False)]) is None
    assert progress.stuck(61, [Sample("a", 61, True, False), Sample("b", 5, True, False)]) == ("b", 61)


@pytest.mark.parametrize(
    "better",
    [Sample("a", 6, True, False), Sample("a", 5, False, False), Sample("a", 5, True, True)],
    ids=["finished", "nothing-waits", "excused"],
)
def test_progress_no_work_and_an_excuse_begin_anew(better: Sample) -> None:
    progress = Progress(limit_s=60)
    progress.stuck(0, [Sample("a", 5, True, False)])
    progress.stuck(50, [better])
    assert progress.stuck(100, [better._replace(is_waiting=True, is_excused=False)]) is None
    assert progress.stuck(111, [better._replace(is_waiting=True, is_excused=False)]) == ("a", 61)


def test_a_partition_that_came_anew_has_its_time_before_it() -> None:
    progress = Progress(limit_s=60)
    progress.stuck(0, [Sample("a", 5, True, False)])
    progress.stuck(50, [])
    assert progress.stuck(70, [Sample("a", 5, True, False)]) is None


def test_a_loop_that_stands_still_is_noticed() -> None:
    ended: list[BaseException] = []
    watch = LoopWatch(limit_s=0.0, end=lambda _, error: ended.append(error))
    thread = threading.Thread(target=watch.run)
    thread.start()
    eventually(lambda: bool(ended))
    thread.join(5)
    assert "blocks instead of awaiting" in str(ended[0])


class OnePartitionHangs:
    """A processor that finishes everything but what it gets of one partition."""

    def __init__(self, hanging: int) -> None:
        self._hanging = hanging
        self.finished = 0

    async def start(self) -> None: ...

    def offer(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            if partition.number != self._hanging:
                partition.finish(record.offset)
                self.finished += 1

    def has_room(self, partition: AssignedPartition) -> bool:
        return True

    def is_idle(self) -> bool:
        return False

    async def hand_over(self, partitions: Sequence[AssignedPartition], grace_s: float) -> None: ...

    async def stop(self) -> None: ...


@pytest.mark.embedded
async def test_a_worker_with_one_stuck_partition_ends(embedded_settings: Settings) -> None:
    crashes: list[BaseException] = []
    topic = embedded_settings.catalogue().topic(TIER)
    tasks: list[tuple[str, Any]] = [(f"key-{n}", task_ready(f"event-{n}")) for n in range(100)]
    put(embedded_settings, topic, tasks)
    processor = OnePartitionHangs(hanging=0)
    app = create_worker_app(TIER, [topic], embedded_settings, processor, lambda _, error: crashes.append(error))
    app.no_progress_s = 2.0
    stopping = asyncio.Event()
    running = asyncio.create_task(run_workers([app], stopping))
    try:
        await eventually_async(lambda: bool(crashes) and processor.finished > 0, 60)
    finally:
        stopping.set()
        await running
    assert f"nothing of {topic}/0 was finished for" in str(crashes[0])
