"""Workers join and leave while tasks run that take longer than all of it (R2, R5)."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest

from handlers.results import Completed, Result
from schemas.events import TaskReady
from streams.engine.ledger import PartitionLedger
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue

pytestmark = pytest.mark.kafka

LONG = 8
QUICK = 100
WAIT_S = 120.0


class Ran:
    """A handler whose long tasks end when they are told to."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.go_on = asyncio.Event()

    async def __call__(self, task: TaskReady) -> Result:
        self.events[task.event_id] += 1
        if task.event_id.startswith("long"):
            await self.go_on.wait()
        return Completed({})


def ledgers(worker: Worker) -> Mapping[int, PartitionLedger]:
    """Those of a worker's partitions, by number."""
    return {each.number: each.ledger for each in worker.app.assigned.partitions}


def kept(before: Mapping[int, PartitionLedger], after: Mapping[int, PartitionLedger]) -> list[int]:
    """Numbers of the partitions whose ledger is still the same one."""
    return [number for number, ledger in after.items() if before.get(number) is ledger]


async def test_nothing_is_repeated_and_what_stays_is_not_read_anew(
    kafka_settings: Settings, catalogue: Catalogue
) -> None:
    # On a machine so busy that a member is taken for dead, partitions would go there and back.
    settings = kafka_settings.model_copy(update={"stop_grace_s": WAIT_S, "session_timeout_s": WAIT_S / 2})
    topic, ran = catalogue.topic(TIER), Ran()

    def ask(name: str, count: int) -> None:
        put(settings, topic, [(f"{name}-{number}", task_ready(f"{name}-{number}")) for number in range(count)])

    async def started(count: int) -> None:
        await eventually_async(lambda: ran.events.total() >= count, WAIT_S, f"{count} have started")

    ask("long", LONG)
    ask("before", QUICK)
    async with Worker(settings, FunctionExecutions(ran, timeout_s=2 * WAIT_S)) as stays:
        await started(LONG + QUICK)
        alone = ledgers(stays)
        async with Worker(settings, FunctionExecutions(ran, timeout_s=2 * WAIT_S)) as leaves:
            await eventually_async(lambda: all(map(ledgers, (stays, leaves))), WAIT_S, "both have partitions")
            ask("joined", QUICK)
            await started(LONG + 2 * QUICK)
            shared = ledgers(stays)
            assert kept(alone, shared)
            leaves.stopping.set()
            await eventually_async(lambda: ledgers(stays).keys() == alone.keys(), WAIT_S, "one has all partitions")
            assert kept(shared, ledgers(stays))
            ask("left", QUICK)
            await started(LONG + 3 * QUICK)
            ran.go_on.set()
        await eventually_async(stays.processor.is_idle, WAIT_S, "all has ended")
    assert set(ran.events.values()) == {1}
    reader = Reader(settings, catalogue.events)
    expected = {f"{event}|1|0|1" for event in ran.events}

    def kinds() -> Counter[str]:
        return Counter(each.kind for each in reader.events())

    await eventually_async(lambda: kinds()["completed"] >= len(expected), WAIT_S, "every outcome is in the log")
    assert kinds()["completed"] == len(expected)
    assert kinds()["claimed"] >= LONG
    reader.close()
