"""Handlers that act at most once: whatever happens to their workers, the vendor gets each order once (R4, R5, R6)."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from handlers.results import Completed, NotFound, Reconciled, Result
from schemas.codec import decode_as
from schemas.events import Source, TaskReady, TaskScheduled
from streams.agents.executions import Caution
from streams.agents.intents import pending_of
from streams.engine import ledger
from streams.settings import Settings
from tests.integration.test_engine_ledger import commit, number_of, write_event
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue

# A worker whose handler places an order, which is one line of a file, and never gets its answer.
PLACING_WORKER = """
import asyncio, sys
from streams.settings import Settings
from tests.integration.test_intents import Vendor
from tests.streams.engine.workload import Worker

async def main():
    vendor = Vendor(sys.argv[2])
    vendor.answers.clear()
    async with Worker(Settings.model_validate_json(sys.argv[1]), vendor.executions(timeout_s=0.5)):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass
class Vendor:
    """Takes orders into a journal, a line each, and finds them there."""

    journal: str
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    looked: int = 0
    hides: bool = False

    def __post_init__(self) -> None:
        self.answers.set()

    def orders(self) -> list[str]:
        return Path(self.journal).read_text().split() if Path(self.journal).exists() else []

    async def place(self, task: TaskReady) -> Result:
        with Path(self.journal).open("a") as file:
            file.write(f"{task.event_id}\n")
        await self.answers.wait()
        return Completed({"placed": task.event_id})

    async def reconcile(self, task: TaskReady) -> Reconciled:
        self.looked += 1
        is_there = task.event_id in self.orders() and not self.hides
        return Completed({"found": task.event_id}) if is_there else NotFound()

    def executions(self, timeout_s: float = 30.0, settle_s: float = 600.0) -> FunctionExecutions:
        made = FunctionExecutions(self.place, timeout_s=timeout_s)
        caution = Caution(reconcile=self.reconcile, settle_s=settle_s)
        made._execution = replace(made._execution, caution=caution)
        return made


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(str(tmp_path / "journal"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intent is not held ten seconds longer than it says."""
    monkeypatch.setattr(ledger, "CLAIM_MARGIN_S", 0.1)


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def broker(request: pytest.FixtureRequest) -> Settings:
    """Settings of an embedded broker, and of a real one with topics."""
    if request.param == "kafka":
        request.getfixturevalue("kafka")
    request.getfixturevalue("catalogue")
    settings: Settings = request.getfixturevalue(f"{request.param}_settings")
    return settings.model_copy(update={"session_timeout_s": 6.0, "clocks_apart_s": 0.0})


async def killed_after_placing(settings: Settings, vendor: Vendor) -> None:
    """A worker that is killed between the order and its outcome."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PLACING_WORKER, settings.model_dump_json(), vendor.journal, stderr=subprocess.DEVNULL
    )
    try:
        await eventually_async(vendor.orders, 60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.mark.embedded
async def test_nothing_is_sent_before_the_intent_is_in_the_log(embedded_settings: Settings) -> None:
    """R6; an ordinary handler has none."""
    catalogue = embedded_settings.catalogue()
    reader = Reader(embedded_settings, catalogue.events)
    before: list[tuple[str, float | None]] = []

    async def work(task: TaskReady) -> Result:
        before.extend((each.kind, each.remaining_s) for each in reader.events())
        return Completed({})

    put(embedded_settings, catalogue.topic(TIER), [("key", task_ready("e"))])
    executions = FunctionExecutions(work, timeout_s=7)
    executions._execution = replace(executions._execution, caution=Caution())
    async with Worker(embedded_settings, executions) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert before == [("intent", 7.0)]
    assert [each.kind for each in reader.events()] == ["intent", "completed"]
    reader.close()


async def test_an_order_whose_worker_was_killed_is_found_and_not_placed_again(
    broker: Settings, vendor: Vendor, catalogue: Catalogue, at_once: None
) -> None:
    put(broker, catalogue.topic(TIER), [("key", task_ready("order"))])
    reader = Reader(broker, catalogue.events)
    await killed_after_placing(broker, vendor)
    async with Worker(broker, vendor.executions()) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1, 60)
    assert (vendor.orders(), vendor.looked) == (["order"], 1)
    assert [each.kind for each in reader.events()] == ["intent", "completed"]
    assert reader.events()[-1].result == '{"found":"order"}'
    reader.close()


def intent_of_the_dead(settings: Settings, remaining_s: float, *kinds: str) -> None:
    """An order's task, and what a worker that died has written of it."""
    topic = settings.catalogue().topic(TIER)
    put(settings, topic, [("key", task_ready("order"))])
    for kind in kinds or ("intent",):
        source = Source(topic, number_of(settings, topic), 0)
        write_event(settings, source, kind=kind, event_id="order", remaining_s=remaining_s)


@pytest.mark.embedded
async def test_an_intent_holds_only_its_key_while_its_worker_may_live(
    embedded_settings: Settings, vendor: Vendor
) -> None:
    """R6: parked like a claim."""
    topic = embedded_settings.catalogue().topic(TIER)
    intent_of_the_dead(embedded_settings, 600.0)
    async with Worker(embedded_settings, vendor.executions()) as worker:
        put(embedded_settings, topic, [(f"key-{n}", task_ready(f"other-{n}")) for n in range(20)])
        await eventually_async(lambda: worker.app.assigned.finished == 20, 60)
        assert vendor.looked == 0
        assert any(worker.processor.is_excused(each) for each in worker.app.assigned.partitions)


@pytest.mark.embedded
async def test_what_is_not_found_is_sent_again_only_when_that_may_be_believed(
    embedded_settings: Settings, vendor: Vendor, at_once: None
) -> None:
    """R6: an order that does not show yet is not placed a second time; looked for later, it is found."""
    settings = embedded_settings.model_copy(update={"clocks_apart_s": 0.0})
    catalogue = settings.catalogue()
    await vendor.place(task_ready("order"))
    intent_of_the_dead(settings, 0.1)
    scheduled, vendor.hides = Reader(settings, catalogue.scheduled), True
    async with Worker(settings, vendor.executions()) as worker:
        await eventually_async(lambda: scheduled.read() and worker.app.assigned.finished == 1, 60)
        waits = decode_as(TaskScheduled, scheduled.seen[0].value)
        task = decode_as(TaskReady, waits.task)
        pending = pending_of(task)
        assert pending is not None
        assert (waits.kind, waits.due_at, task.attempt) == ("reconcile", pending.sent_until + 600_000_000, 2)
        # Let go too early, it is put off again.
        put(settings, waits.target_topic, [("key", task)])
        await eventually_async(lambda: len(scheduled.read()) == 2, 60)
        assert vendor.orders() == ["order"]
        again = decode_as(TaskReady, decode_as(TaskScheduled, scheduled.seen[1].value).task)
        assert pending_of(again) == pending
        vendor.hides = False
        put(settings, waits.target_topic, [("key", again)])
        await eventually_async(lambda: worker.app.assigned.finished == 3, 60)
    assert vendor.orders() == ["order"]
    reader = Reader(settings, catalogue.events)
    await eventually_async(lambda: len(reader.read()) == 4)
    assert [(each.kind, each.attempt) for each in reader.events()] == [
        ("intent", 1),
        ("unclear", 1),
        ("unclear", 2),
        ("completed", 3),
    ]
    reader.close()
    scheduled.close()


@pytest.mark.embedded
async def test_an_attempt_whose_worker_died_before_it_acted_is_followed_by_another(
    embedded_settings: Settings, vendor: Vendor, at_once: None
) -> None:
    """Never the same attempt twice: a handler may do otherwise in a further one."""
    settings = embedded_settings.model_copy(update={"clocks_apart_s": 0.0})
    catalogue = settings.catalogue()
    intent_of_the_dead(settings, 0.1)
    reader, scheduled = Reader(settings, catalogue.events), Reader(settings, catalogue.scheduled)
    async with Worker(settings, vendor.executions(settle_s=0.0)) as worker:
        await eventually_async(lambda: scheduled.read() and worker.app.assigned.finished == 1)
    assert [(each.kind, each.error_code) for each in reader.events()][1:] == [("retry", "worker_died")]
    again = decode_as(TaskReady, decode_as(TaskScheduled, scheduled.seen[0].value).task)
    assert (again.attempt, again.options, vendor.orders()) == (2, {"looked": "1|0"}, [])
    reader.close()
    scheduled.close()


@pytest.mark.embedded
async def test_what_was_not_done_is_done_once_it_has_been_looked_for(
    embedded_settings: Settings, vendor: Vendor
) -> None:
    """A doubt from long ago: the look comes first, then a new intent, then the order."""
    catalogue = embedded_settings.catalogue()
    task = task_ready("order", attempt=2, options={"reconcile": "1000|0|1"})
    put(embedded_settings, catalogue.topic(TIER), [("key", task)])
    reader = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, vendor.executions()) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert (vendor.looked, vendor.orders()) == (1, ["order"])
    assert [(each.kind, each.attempt) for each in reader.events()] == [("intent", 2), ("completed", 2)]
    reader.close()


@pytest.mark.embedded
async def test_a_replay_finds_what_an_earlier_run_has_done(embedded_settings: Settings, vendor: Vendor) -> None:
    """R10: at-most-once handlers reconcile all earlier runs first."""
    await vendor.place(task_ready("order"))
    put(embedded_settings, embedded_settings.catalogue().topic(TIER), [("key", task_ready("order", run=2))])
    reader = Reader(embedded_settings, embedded_settings.catalogue().events)
    async with Worker(embedded_settings, vendor.executions()) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert ([each.kind for each in reader.events()], vendor.orders()) == (["completed"], ["order"])
    reader.close()


@pytest.mark.embedded
async def test_an_order_that_takes_too_long_is_unclear_and_not_retried(
    embedded_settings: Settings, vendor: Vendor
) -> None:
    catalogue = embedded_settings.catalogue()
    put(embedded_settings, catalogue.topic(TIER), [("key", task_ready("order"))])
    vendor.answers.clear()
    scheduled = Reader(embedded_settings, catalogue.scheduled)
    async with Worker(embedded_settings, vendor.executions(timeout_s=0.3)) as worker:
        await eventually_async(lambda: scheduled.read() and worker.app.assigned.finished == 1)
    assert decode_as(TaskScheduled, scheduled.seen[0].value).kind == "reconcile"
    scheduled.close()


@pytest.mark.embedded
async def test_an_order_that_was_cut_off_by_a_stop_is_looked_for(embedded_settings: Settings, vendor: Vendor) -> None:
    """R5 and R6: ``released`` lets an ordinary task run again at once; this one may have acted."""
    settings = embedded_settings.model_copy(update={"rebalance_grace_s": 0.05, "stop_grace_s": 0.05})
    catalogue = settings.catalogue()
    put(settings, catalogue.topic(TIER), [("key", task_ready("order"))])
    vendor.answers.clear()
    async with Worker(settings, vendor.executions()):
        await eventually_async(vendor.orders)
    async with Worker(settings, vendor.executions()) as second:
        await eventually_async(lambda: second.app.assigned.finished == 1)
    reader = Reader(settings, catalogue.events)
    await eventually_async(lambda: len(reader.read()) == 4)
    assert [each.kind for each in reader.events()] == ["intent", "claimed", "released", "completed"]
    assert vendor.orders() == ["order"]
    reader.close()


@pytest.mark.embedded
async def test_a_handler_that_kills_its_workers_after_its_intent_ends_as_unknown(
    embedded_settings: Settings, vendor: Vendor, at_once: None
) -> None:
    """R4: not ``failed``, which would try it again."""
    settings, topic = embedded_settings, embedded_settings.catalogue().topic(TIER)
    intent_of_the_dead(settings, 0.1, "started", "intent", "started")
    commit(settings, (topic, number_of(settings, topic), 0), bound=0, assignments=2)
    reader = Reader(settings, settings.catalogue().events)

    async def never(task: TaskReady) -> Reconciled:
        raise AssertionError("two starts are enough")

    executions = vendor.executions()
    executions._execution = replace(executions._execution, caution=Caution(reconcile=never))
    async with Worker(settings, executions) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1, 60)
    ended = reader.events()[-1]
    assert (ended.kind, ended.error_code, ended.next_topic) == ("unknown", "worker_died", None)
    reader.close()
