"""Waiting records are moved to another tier by the owner of their partition (R16)."""

import time
from collections import defaultdict
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from handlers.results import Completed
from projections.fold import fold
from schemas.codec import decode_as, encode
from schemas.events import Source, TaskReady
from streams.broker.connection import producer_config
from streams.control.heartbeats import follow_moves
from streams.control.moves import Move, send_moves
from streams.headers import record_headers
from streams.settings import Settings
from tests.integration.test_engine_ledger import SOME_KEY, Ran, commit, number_of, write_event
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.gates import tenant_gate

pytestmark = pytest.mark.embedded

TARGET = "webhook-beanstalk"
KEYS = 8
EACH = 3
EVERY = KEYS * EACH


def urgent(event_id: str, **changes: object) -> TaskReady:
    """A task that belongs into the high tier."""
    return task_ready(event_id, priority=9, **changes)


def moves(settings: Settings, up_to: int = 10_000) -> list[Move]:
    """Everything below an offset, of every partition."""
    return [Move(TIER, number, up_to, TARGET) for number in range(settings.partitions)]


def ask(worker: Worker, settings: Settings, up_to: int = 10_000) -> None:
    """Move without the way over the log."""
    for move in moves(settings, up_to):
        worker.processor.moving.ask(move, time.monotonic() + 60)


@pytest.fixture
def held(embedded_settings: Settings) -> Settings:
    """A worker that runs one task at a time."""
    return embedded_settings.model_copy(update={"window": 1})


@pytest.fixture
def target(embedded_settings: Settings) -> Iterator[Reader]:
    reader = Reader(embedded_settings, embedded_settings.catalogue().topic(TARGET))
    yield reader
    reader.close()


def tasks(reader: Reader) -> list[TaskReady]:
    """What lies in a tier."""
    return [decode_as(TaskReady, each.value) for each in reader.read()]


async def test_what_waits_is_moved_in_order_of_its_keys_and_runs_once(held: Settings, target: Reader) -> None:
    catalogue, ran = held.catalogue(), Ran()
    ran.go_on.clear()
    topic, events = catalogue.topic(TIER), Reader(held, catalogue.events)
    put(held, topic, [("busy", urgent("busy-0")), ("busy", urgent("busy-1"))])
    async with Worker(held, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: ran.events == ["busy-0"])
        stay = [
            ("strict", urgent("strict", options={"lane": "strict"})),
            ("let-go", urgent("let-go", gate=tenant_gate("1"))),
            ("other", task_ready("other-rule")),
        ]
        put(held, topic, stay + [(f"{n % KEYS}", urgent(f"{n % KEYS}-{n // KEYS}")) for n in range(EVERY)])
        await eventually_async(lambda: worker.processor.waiting == EVERY + 4)
        follower = follow_moves(held, [(worker.app, worker.processor)], worker._crash)
        follower.start()
        send_moves(held, moves(held), by="test")
        await eventually_async(lambda: len(target.read()) == EVERY)
        await eventually_async(lambda: worker.processor.waiting == 4)
        assert ran.events == ["busy-0"]
        follower.stop()
        # The commands' time is over; until then what waits behind "busy-0" may go as soon as that has ended.
        worker.processor.moving._moves.clear()
        ran.go_on.set()
        await eventually_async(lambda: worker.app.assigned.finished == EVERY + 5)
    assert sorted(ran.events) == ["busy-0", "busy-1", "let-go", "other-rule", "strict"]
    order = defaultdict(list)
    for task in tasks(target):
        assert (task.dispatch_seq, task.attempt, task.run) == (2, 1, 1)
        order[task.event_id.split("-")[0]].append(task.event_id)
    assert all(found == [f"{key}-{n}" for n in range(EACH)] for key, found in order.items())
    moved = [event for event in events.events() if event.kind == "moved"]
    assert len(moved) == EVERY
    async with Worker(held, FunctionExecutions(ran), tier=TARGET) as second:
        await eventually_async(lambda: second.app.assigned.finished == EVERY)
    assert len(ran.events) == len(set(ran.events)) == EVERY + 5
    await eventually_async(lambda: len(events.events()) == 2 * EVERY + 5)
    # The history has the tier that carried the event out, whichever record is read first (R19).
    for log in (events.events(), events.events()[::-1]):
        rows = {row.event_id: (row.tier, row.kind) for row in fold(log).events.values()}
        assert rows["0-0"] == (TARGET, "completed")
        assert rows["busy-0"] == (TIER, "completed")
    rows = {row.event_id: (row.tier, row.status) for row in fold(moved).events.values()}
    assert rows["0-0"] == (TARGET, "pending")
    events.close()


async def test_only_what_was_asked_for_is_moved(held: Settings, target: Reader) -> None:
    ran, topic = Ran(), held.catalogue().topic(TIER)
    ran.go_on.clear()
    put(held, topic, [("busy", urgent("busy"))])
    async with Worker(held, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: ran.events == ["busy"])
        put(held, topic, [(SOME_KEY, urgent(f"{n}")) for n in range(6)])
        await eventually_async(lambda: worker.processor.waiting == 6)
        reader = Reader(held, topic)
        await eventually_async(lambda: len(reader.read()) == 7)
        reader.close()
        first = min(each.offset for each in reader.seen if each.key == SOME_KEY.encode())
        worker.processor.brake.paused = True
        ask(worker, held, up_to=first + 4)
        assert worker.processor.waiting == 6
        worker.processor.brake.paused = False
        await eventually_async(lambda: len(tasks(target)) == 4)
        ran.go_on.set()
        await eventually_async(lambda: worker.app.assigned.finished == 7)
    assert [task.event_id for task in tasks(target)] == ["0", "1", "2", "3"]
    assert ran.events == ["busy", "4", "5"]


async def test_the_move_of_a_dead_owner_is_completed_and_not_run(embedded_settings: Settings, target: Reader) -> None:
    """R1: it died between the record that says so and the copy; both are made again of the same task."""
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, urgent("event")), (SOME_KEY, urgent("next"))])
    number, goal = number_of(embedded_settings, topic), embedded_settings.catalogue().topic(TARGET)
    write_event(embedded_settings, Source(topic, number, 0), kind="moved", dispatch_seq=2, next_topic=goal, tier=TARGET)
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 2)
    assert ran.events == ["next"]
    assert [(task.event_id, task.dispatch_seq) for task in tasks(target)] == [("event", 2)]
    assert target.seen[0].headers["repeat_from"] == f"{number}|0".encode()


@pytest.mark.parametrize("kind", ["claimed", "intent"])
async def test_the_key_of_a_task_that_another_worker_still_runs_stays(
    held: Settings, target: Reader, kind: str
) -> None:
    ran, topic = Ran(), held.catalogue().topic(TIER)
    put(held, topic, [(SOME_KEY, urgent("event")), (SOME_KEY, urgent("next"))])
    number = number_of(held, topic)
    write_event(held, Source(topic, number, 0), kind=kind, remaining_s=600.0)
    async with Worker(held, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.processor.waiting == 2)
        put(held, topic, [("free", urgent("free"))])
        await eventually_async(lambda: worker.app.assigned.finished == 1)
        ask(worker, held)
        assert worker.processor.waiting == 2
        write_event(held, Source(topic, number, 0))
        await eventually_async(lambda: worker.app.assigned.finished == 3)
    assert "event" not in {task.event_id for task in tasks(target)}


async def test_a_key_stays_of_which_the_log_says_that_it_is_claimed(held: Settings, target: Reader) -> None:
    """Also before its turn comes, when this worker has not looked at it yet."""
    ran, topic = Ran(), held.catalogue().topic(TIER)
    ran.go_on.clear()
    put(held, topic, [("busy", urgent("busy"))])
    async with Worker(held, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: ran.events == ["busy"])
        put(held, topic, [(SOME_KEY, urgent("event")), (SOME_KEY, urgent("next")), ("free", urgent("free"))])
        reader = Reader(held, topic)
        await eventually_async(lambda: len(reader.read()) == 4)
        reader.close()
        first = next(each for each in reader.seen if each.key == SOME_KEY.encode())
        source = Source(topic, first.partition, first.offset)
        write_event(held, source, kind="claimed", remaining_s=600.0)
        mine = [
            each for each in worker.app.assigned.partitions if each.topic == topic and each.number == first.partition
        ]
        await eventually_async(lambda: mine[0].ledger.by_source(source) and worker.processor.waiting == 3)
        ask(worker, held)
        await eventually_async(lambda: worker.app.assigned.finished == 1)
        assert worker.processor.waiting == 2
        write_event(held, source)
        await eventually_async(lambda: len(mine[0].ledger.by_source(source)) == 2)
        ran.go_on.set()
        await eventually_async(lambda: worker.app.assigned.finished == 4)
    assert [task.event_id for task in tasks(target)] == ["free"]
    assert ran.events == ["busy", "next"]


async def test_a_record_below_the_highest_known_dispatch_is_dropped(embedded_settings: Settings) -> None:
    topic = embedded_settings.catalogue().topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, urgent("event")), (SOME_KEY, urgent("event", dispatch_seq=3))])
    number = number_of(embedded_settings, topic)
    write_event(embedded_settings, Source(topic, number, 1000), kind="deferred", dispatch_seq=3)
    dispatches: list[int] = []

    async def note(task: TaskReady) -> Completed:
        dispatches.append(task.dispatch_seq)
        return Completed({})

    async with Worker(embedded_settings, FunctionExecutions(note)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 2)
    assert dispatches == [3]


async def test_a_copy_that_came_twice_is_dropped_although_the_first_one_went_on(embedded_settings: Settings) -> None:
    """The ledger begins behind the deferral; only the search from the move finds it (R1)."""
    topic = embedded_settings.catalogue().topic(TIER)
    producer = Producer(producer_config(embedded_settings))
    for event_id in ("event", "new"):
        task = urgent(event_id, dispatch_seq=2)
        headers = [*record_headers(task), ("repeat_from", b"0|0")]
        producer.produce(topic, encode(task), b"key", 0, headers=headers)
    assert producer.flush(10) == 0
    write_event(embedded_settings, Source("another-tier", 0, 7), kind="moved", dispatch_seq=2, next_topic=topic)
    # Written twice, by the owner that died and by the next one: not later than the copies.
    write_event(embedded_settings, Source("another-tier", 0, 7), kind="moved", dispatch_seq=2, next_topic=topic)
    write_event(embedded_settings, Source(topic, 0, 1000), kind="deferred", dispatch_seq=3)
    for each in (topic, embedded_settings.catalogue().steps(TIER)):
        commit(embedded_settings, (each, 0, 0), bound=3)
    ran = Ran()
    async with Worker(embedded_settings, FunctionExecutions(ran)) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 2)
    assert ran.events == ["new"]
