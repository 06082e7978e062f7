"""What a worker finds in the log about its records: outcomes, sequels that were never produced, claims (R1, R2, R5)."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from handlers.results import Completed, Result
from schemas.codec import decode_as, encode
from schemas.events import Source, TaskEvent, TaskReady, TaskScheduled, now_micros
from streams.broker.connection import consumer_config, producer_config
from streams.broker.runtime import embedded_epoch
from streams.engine.ledger import LedgerMetadata
from streams.headers import event_headers, record_headers
from streams.settings import Settings
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded

SOME_KEY = "key"


class Ran:
    """A handler that remembers whom it ran for, and may be held."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, task: TaskReady) -> Result:
        self.events.append(task.event_id)
        await self.go_on.wait()
        return Completed({})


def number_of(settings: Settings, topic: str) -> int:
    """Partition of ``SOME_KEY``'s only record."""
    reader = Reader(settings, topic)
    try:
        while not reader.read():
            pass
        return reader.seen[0].partition
    finally:
        reader.close()


def write_event(settings: Settings, source: Source, **values: Any) -> None:
    """A record of ``.events`` about task ``event``, as another worker would write it."""
    event = TaskEvent(
        **{
            "kind": "completed",
            "event_id": "event",
            "run": 1,
            "step": 0,
            "attempt": 1,
            "dispatch_seq": 1,
            "tenant_id": "1",
            "accepted_at": now_micros(),
            "recorded_at": now_micros(),
            **values,
        }
    )
    producer = Producer(producer_config(settings))
    topic = settings.catalogue().events
    producer.produce(topic, encode(event), b"key", source.partition, headers=event_headers(event, source))
    assert producer.flush(10) == 0


def commit(
    settings: Settings, source: tuple[str, int, int], bound: int, epoch: str | None = None, assignments: int = 0
) -> None:
    """Commit as a worker that had read ``.events`` up to ``bound`` of this log, or of another one."""
    own = embedded_epoch(settings) or ""
    commit_with(settings, source, LedgerMetadata(bound, epoch or own, assignments).encode())


def commit_with(settings: Settings, source: tuple[str, int, int], metadata: str) -> None:
    """Commit with any metadata."""
    consumer = Consumer(consumer_config(settings, TIER))
    consumer.commit(offsets=[TopicPartition(*source, metadata)], asynchronous=False)
    consumer.close()


async def test_a_task_that_was_cancelled_is_not_run(embedded_settings: Settings) -> None:
    """R11: whoever wrote it, the ledger's word counts."""
    topic, ran = embedded_settings.catalogue().topic(TIER), Ran()
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event"))])
    write_event(embedded_settings, Source(topic, number_of(embedded_settings, topic), 0), kind="cancelled")
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert ran.events == []


async def test_a_task_with_an_outcome_is_not_run_and_its_sequel_is_produced_again(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    topic = catalogue.topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event"))])
    number = number_of(embedded_settings, topic)
    # The worker died between the outcome and its sequel.
    sequel = {"next_topic": topic, "next_step": 0, "next_attempt": 2, "next_due_at": now_micros() + 60_000_000}
    write_event(embedded_settings, Source(topic, number, 0), kind="retry", **sequel)
    scheduled, ran = Reader(embedded_settings, catalogue.scheduled), Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: scheduled.read() and worker.app.assigned.finished == 1)
    assert ran.events == []
    waiting = decode_as(TaskScheduled, scheduled.seen[0].value)
    assert (waiting.target_topic, waiting.attempt, waiting.due_at) == (topic, 2, sequel["next_due_at"])
    assert scheduled.seen[0].headers["repeat_from"] == f"{number}|0".encode()
    scheduled.close()


async def test_a_sequel_that_came_twice_runs_once_although_its_outcome_was_pruned(embedded_settings: Settings) -> None:
    topic = embedded_settings.catalogue().steps(TIER)
    task = task_ready("event", step=1)
    producer = Producer(producer_config(embedded_settings))
    producer.produce(topic, encode(task), b"key", 0, headers=[*record_headers(task), ("repeat_from", b"0|0")])
    producer.produce(topic, encode(task_ready("new")), b"key", 0, headers=[("repeat_from", b"0|0")])
    assert producer.flush(10) == 0
    write_event(embedded_settings, Source(topic, 0, 1000), kind="step_completed")
    write_event(embedded_settings, Source(topic, 0, 1001), step=1)
    # The ledger begins behind both, as after a commit; only the search from the parent's outcome finds the second.
    for each in (topic, embedded_settings.catalogue().topic(TIER)):
        commit(embedded_settings, (each, 0, 0), bound=2)
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 2)
    assert ran.events == ["new"]


async def test_a_bound_of_another_log_is_not_believed(embedded_settings: Settings) -> None:
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event"))])
    number = number_of(embedded_settings, topic)
    write_event(embedded_settings, Source(topic, number, 0))
    for each in (topic, embedded_settings.catalogue().steps(TIER)):
        commit(embedded_settings, (each, number, 0), bound=1, epoch="the log before it was made anew")
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert ran.events == []


@pytest.mark.parametrize("metadata", ["\ufffd\ufffd", "[1, 2]"])
async def test_metadata_that_nobody_can_read_is_no_bound(embedded_settings: Settings, metadata: str) -> None:
    """R2: another program may commit for the group; the ledger is then read from where the log begins."""
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event"))])
    number = number_of(embedded_settings, topic)
    write_event(embedded_settings, Source(topic, number, 0))
    for each in (topic, embedded_settings.catalogue().steps(TIER)):
        commit_with(embedded_settings, (each, number, 0), metadata)
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert ran.events == []


@pytest.mark.parametrize("ending", ["released", "completed"])
async def test_a_claim_holds_its_key_back_until_the_task_has_ended(embedded_settings: Settings, ending: str) -> None:
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event")), (SOME_KEY, task_ready("next"))])
    number = number_of(embedded_settings, topic)
    write_event(embedded_settings, Source(topic, number, 0), kind="claimed", remaining_s=600.0)
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        put(embedded_settings, topic, [(f"other-{n}", task_ready(f"other-{n}")) for n in range(20)])
        await eventually_async(lambda: len(ran.events) == 20 and worker.app.assigned.finished == 20)
        assert not {"event", "next"} & set(ran.events)
        assert any(worker.processor.is_excused(each) for each in worker.app.assigned.partitions)
        write_event(embedded_settings, Source(topic, number, 0), kind=ending)
        await eventually_async(lambda: worker.app.assigned.finished == 22)
    assert ran.events[20:] == (["event", "next"] if ending == "released" else ["next"])


async def test_what_has_ended_needs_no_turn_of_its_key(embedded_settings: Settings) -> None:
    """R2: behind a long task thousands have ended; they go at once, and leave their room to records that wait."""
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready(event)) for event in ("event", "ended", "next")])
    number = number_of(embedded_settings, topic)
    write_event(embedded_settings, Source(topic, number, 0), kind="claimed", remaining_s=600.0)
    write_event(embedded_settings, Source(topic, number, 1), event_id="ended")
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1 and worker.processor.waiting == 2, 60)
        assert ran.events == []
        write_event(embedded_settings, Source(topic, number, 0))
        await eventually_async(lambda: worker.app.assigned.finished == 3, 60)
    assert ran.events == ["next"]


async def test_what_outlives_the_grace_is_claimed_and_runs_on(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    settings = embedded_settings.model_copy(update={"rebalance_grace_s": 0.05})
    put(settings, catalogue.topic(TIER), [(SOME_KEY, task_ready("event"))])
    reader, ran = Reader(settings, catalogue.events), Ran()
    ran.go_on.clear()
    worker = Worker(settings, FunctionExecutions(ran, timeout_s=25))
    async with worker:
        await eventually_async(lambda: ran.events == ["event"])
        worker.stopping.set()
        await eventually_async(lambda: len(reader.read()) == 1)
        ran.go_on.set()
    assert [each.kind for each in reader.events()] == ["claimed", "completed"]
    remaining_s = reader.events()[0].remaining_s
    assert remaining_s is not None
    assert 0 < remaining_s < 25
    # The claim is not committed past: the next owner finds claim and outcome, and does not run it again.
    async with Worker(settings, FunctionExecutions(ran)) as second:
        await eventually_async(lambda: second.app.assigned.finished == 1)
    assert ran.events == ["event"]
    reader.close()


async def test_what_outlives_the_end_is_released_and_runs_again(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    settings = embedded_settings.model_copy(update={"rebalance_grace_s": 0.05, "stop_grace_s": 0.05})
    put(settings, catalogue.topic(TIER), [(SOME_KEY, task_ready("event"))])
    reader, ran = Reader(settings, catalogue.events), Ran()
    ran.go_on.clear()
    async with Worker(settings, FunctionExecutions(ran)):
        await eventually_async(lambda: ran.events == ["event"])
    ran.go_on.set()
    async with Worker(settings, FunctionExecutions(ran)):
        await eventually_async(lambda: len(reader.read()) == 3)
    assert [each.kind for each in reader.events()] == ["claimed", "released", "completed"]
    assert ran.events == ["event", "event"]
    reader.close()
