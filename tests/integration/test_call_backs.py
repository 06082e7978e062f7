"""Waiting for a call-back, over worker, projector and relay: before, after, twice and never, one end each (R1, R11)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select

from handlers.results import Completed, Returned, Wait
from projections.migrate import upgrade
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.waiting import waiting_events
from schemas.codec import decode_as
from schemas.events import Source, TaskReady, TaskScheduled, now_micros
from streams.capture.relay import Relay
from streams.database import create_database_engine
from streams.engine.decide import StepPolicy
from streams.scheduling import Scheduling
from streams.settings import Settings
from tests.integration.scheduled import accepted, event_record, produce, projecting, task_of
from tests.integration.test_engine_ledger import SOME_KEY, commit, number_of, write_event
from tests.streams.capture.relay_support import running
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue
from topics.gates import call_back_gate

pytestmark = pytest.mark.embedded

HOUR_S = 3600.0
EVENTS = WEBHOOK_EVENTS.c


class Handlers:
    """Step 0 waits with the event's id as the key, for ``timeout_s``; step 1 is done with what it was given."""

    def __init__(self, timeout_s: float = HOUR_S) -> None:
        self.timeout_s = timeout_s
        self.calls: Counter[tuple[str, int]] = Counter()
        self.given: dict[str, list[str]] = {}

    async def __call__(self, task: TaskReady) -> Returned:
        self.calls[task.event_id, task.step] += 1
        if task.step == 0:
            return Wait(task.event_id, self.timeout_s)
        self.given[task.event_id] = list(task.results)
        return Completed({"done": True})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


@asynccontextmanager
async def at_work(
    settings: Settings, catalogue: Catalogue, engine: Engine, handlers: Handlers, steps: int = 2
) -> AsyncIterator[Worker]:
    """A worker, a projector and a relay."""
    executions = FunctionExecutions(handlers, StepPolicy(steps))  # type: ignore[arg-type]
    with projecting(settings, catalogue, engine), running(Relay(settings, catalogue, [engine], engine)):
        async with Worker(settings, executions) as worker:
            yield worker


def start(settings: Settings, catalogue: Catalogue, *names: str) -> None:
    """Accept events, and put their first tasks into the tier."""
    now = now_micros()
    produce(settings, *(event_record(catalogue, accepted(task_of(name, now)), name.encode()) for name in names))
    put(settings, catalogue.topic(TIER), [(name, task_ready(name, accepted_at=now)) for name in names])


def call(settings: Settings, catalogue: Catalogue, key: str, number: int = 0) -> None:
    """Record a call-back as intake does."""
    event = accepted(task_of(f"call-{key}-{number}", now_micros() + number), "called_back")
    event.gate, event.payload = call_back_gate("1", key), f'{{"call":{number}}}'
    produce(settings, event_record(catalogue, event, event.event_id.encode()))


def kinds(engine: Engine) -> dict[str, str]:
    """Kind of the last record of each event."""
    with engine.connect() as connection:
        return {row.event_id: row.kind for row in connection.execute(select(EVENTS.event_id, EVENTS.kind))}


def tries(engine: Engine, name: str) -> list[tuple[int, int, str]]:
    """Step, attempt and kind of an event's tries."""
    columns = [WEBHOOK_ATTEMPTS.c[each] for each in ("step", "attempt", "kind")]
    with engine.connect() as connection:
        query = select(*columns).where(WEBHOOK_ATTEMPTS.c.event_id == name).order_by(*columns[:2])
        return [tuple(row) for row in connection.execute(query)]


async def test_one_call_back_before_or_after_continues_once_and_a_second_one_is_ignored(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    handlers = Handlers()
    async with at_work(embedded_settings, catalogue, engine, handlers) as worker:
        call(embedded_settings, catalogue, "before")
        call(embedded_settings, catalogue, "before", 1)
        start(embedded_settings, catalogue, "before", "after", "twice", "waits")
        others = {"after": "waiting", "twice": "waiting", "waits": "waiting"}
        await eventually_async(lambda: kinds(engine) == {"before": "completed", **others})
        assert worker.processor.running == 0, "no window slot is held"
        for number in range(3):
            call(embedded_settings, catalogue, "twice", number)
        call(embedded_settings, catalogue, "after", 5)
        ended = dict.fromkeys(("before", "after", "twice"), "completed")
        await eventually_async(lambda: kinds(engine) == {**ended, "waits": "waiting"})
        with engine.connect() as connection:
            [waiting] = waiting_events(connection)
    assert (waiting.event_id, waiting.reason, waiting.holder) == ("waits", "call_back", "call_back|1|waits")
    assert handlers.given == {"before": ['{"call":0}'], "twice": ['{"call":0}'], "after": ['{"call":5}']}
    assert set(handlers.calls.values()) == {1}
    whole = [(0, 1, "waiting"), (0, 2, "step_completed"), (1, 1, "completed")]
    assert tries(engine, "before") == tries(engine, "twice") == tries(engine, "after") == whole
    with engine.connect() as connection:
        found = connection.execute(select(EVENTS.results).where(EVENTS.event_id == "after")).scalar_one()
        result = connection.execute(select(EVENTS.result).where(EVENTS.event_id == "waits")).scalar_one()
    assert orjson.loads(found) == [{"call": 5}, {"done": True}]
    # The history says what is waited for, and until when.
    assert {name: orjson.loads(result)[name] for name in ("call_back", "then")} == {
        "call_back": "waits",
        "then": "step_completed",
    }


async def test_without_a_pipeline_the_payload_is_the_result_and_silence_ends_timed_out(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    handlers = Handlers(timeout_s=0.5)
    async with at_work(embedded_settings, catalogue, engine, handlers, steps=1):
        call(embedded_settings, catalogue, "called", 3)
        start(embedded_settings, catalogue, "called", "never")
        await eventually_async(lambda: kinds(engine) == {"called": "completed", "never": "timed_out"})
        call(embedded_settings, catalogue, "never")
        await eventually_async(lambda: _has_call_back(engine, "never"))
    assert kinds(engine) == {"called": "completed", "never": "timed_out"}, "a late call-back changes nothing"
    assert set(handlers.calls.values()) == {1}
    with engine.connect() as connection:
        done, late = connection.execute(select(EVENTS.result, EVENTS.error, EVENTS.error_code).order_by("event_id"))
    assert done.result == '{"call":3}'
    assert (late.error_code, "never" in late.error) == ("no_call_back", True)


def _has_call_back(engine: Engine, event_id: str) -> bool:
    query = select(func.count()).where(
        WEBHOOK_SCHEDULE.c.event_id == event_id, WEBHOOK_SCHEDULE.c.call_back_id.is_not(None)
    )
    with engine.connect() as connection:
        return bool(connection.execute(query).scalar_one())


async def test_who_waits_can_be_cancelled_or_timed_out_at_once(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    async with at_work(embedded_settings, catalogue, engine, Handlers()):
        start(embedded_settings, catalogue, "cancelled", "timed")
        await eventually_async(lambda: _waits(engine) == 2)
        scheduling = Scheduling(embedded_settings, engine)
        answers = await asyncio.gather(
            asyncio.to_thread(lambda: scheduling.cancel("cancelled", by="me").answer),
            asyncio.to_thread(lambda: scheduling.run_now("timed", by="me").answer),
        )
        assert set(answers) == {"done"}
        call(embedded_settings, catalogue, "cancelled")
        await eventually_async(lambda: kinds(engine) == {"cancelled": "cancelled", "timed": "timed_out"})
        await eventually_async(lambda: _has_call_back(engine, "cancelled"))
    assert kinds(engine) == {"cancelled": "cancelled", "timed": "timed_out"}


def _waits(engine: Engine) -> int:
    query = select(func.count()).where(WEBHOOK_SCHEDULE.c.kind == "wait", WEBHOOK_SCHEDULE.c.dispatched_at.is_(None))
    with engine.connect() as connection:
        count: int = connection.execute(query).scalar_one()
    return count


async def test_a_wait_whose_record_was_never_written_is_written_again_and_the_handler_not_called(
    embedded_settings: Settings, catalogue: Catalogue
) -> None:
    """R1: a worker died between its outcome and what waits; the wait is made of the outcome alone."""
    handlers, topic = Handlers(), catalogue.topic(TIER)
    put(embedded_settings, topic, [(SOME_KEY, task_ready("event"))])
    source = Source(topic, number_of(embedded_settings, topic), 0)
    sequel = {"next_topic": catalogue.steps(TIER), "next_step": 0, "next_attempt": 2, "next_due_at": 10**15}
    write_event(
        embedded_settings, source, kind="waiting", gate="call_back|1|k", result='{"then":"completed"}', **sequel
    )
    scheduled = Reader(embedded_settings, catalogue.scheduled)
    async with Worker(embedded_settings, FunctionExecutions(handlers)) as worker:  # type: ignore[arg-type]
        await eventually_async(lambda: scheduled.read() and worker.app.assigned.finished == 1)
    waits = decode_as(TaskScheduled, scheduled.seen[0].value)
    task = decode_as(TaskReady, waits.task)
    assert (waits.kind, waits.gate, waits.due_at, waits.attempt) == ("wait", "call_back|1|k", 10**15, 2)
    assert (task.gate, task.options["wait"]) == ("call_back|1|k", '{"then":"completed"}')
    assert not handlers.calls
    scheduled.close()


async def test_of_two_releases_of_one_wait_the_first_holds_also_where_workers_die_one_after_the_other(
    embedded_settings: Settings, catalogue: Catalogue
) -> None:
    """R2: the first outcome wins. R4: what runs no handler cannot kill a worker, so it is not counted as if it had."""
    topic, handlers = catalogue.steps(TIER), Handlers()
    wait = {"wait": '{"call_back":"k","until":"now","then":"completed"}'}
    task = task_ready("event", attempt=2, gate="call_back|1|k", options={**wait, "call_back": '{"call":1}'})
    put(embedded_settings, topic, [(SOME_KEY, task), (SOME_KEY, replace(task, options=wait))])
    number = number_of(embedded_settings, topic)
    for _ in range(2):
        write_event(embedded_settings, Source(topic, number, 0), kind="started", attempt=2)
    for each in (topic, catalogue.topic(TIER)):
        commit(embedded_settings, (each, number, 0), bound=0, assignments=9)
    events = Reader(embedded_settings, catalogue.events)
    async with Worker(embedded_settings, FunctionExecutions(handlers)) as worker:  # type: ignore[arg-type]
        await eventually_async(lambda: worker.app.assigned.finished == 2)
    await eventually_async(lambda: len(events.read()) >= 3)
    assert [(each.kind, each.result) for each in events.events()[2:]] == [("completed", '{"call":1}')]
    assert not handlers.calls
    events.close()
