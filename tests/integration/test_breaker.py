"""A worker before an upstream that fails, or that has a call rate: records wait behind gates, once (R15, R1)."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from handlers.results import Completed, Result
from schemas.codec import decode_as
from schemas.errors import Retryable
from schemas.events import Source, TaskReady, TaskScheduled, now_micros
from streams.agents.deferring import MOST_UNDER_WAY
from streams.control.log import ControlWriter, follow_control
from streams.control.view import BREAKER, RATE, Breaker, ControlView, Rate
from streams.engine.watchdog import end_process
from streams.settings import Settings
from tests.integration.test_engine_ledger import SOME_KEY, number_of, write_event
from tests.streams.engine.workload import TIER, FunctionExecutions, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.gates import host_gate, rate_gate, tenant_gate
from topics.keys import join_parts

pytestmark = pytest.mark.embedded

HOST = "api.example.com"
GATE, RATED = host_gate("1", HOST), rate_gate("1", HOST)


class Upstream:
    """An upstream that is down, or not; whom it was called for."""

    def __init__(self) -> None:
        self.is_down = False
        self.calls: list[str] = []

    async def __call__(self, task: TaskReady) -> Result:
        self.calls.append(task.event_id)
        if self.is_down:
            raise Retryable("no answer", code="not_connected")
        return Completed({})

    def executions(self, host: str | None = HOST) -> FunctionExecutions:
        executions = FunctionExecutions(self)
        executions._execution = replace(executions._execution, upstream=host)
        return executions


@pytest.fixture
def fast(embedded_settings: Settings) -> Settings:
    return embedded_settings.model_copy(update={"breaker_failures": 3, "breaker_open_s": 0.1})


@pytest.fixture
def scheduled(fast: Settings) -> Iterator[Reader]:
    reader = Reader(fast, fast.catalogue().scheduled)
    yield reader
    reader.close()


def deferrals(reader: Reader) -> list[TaskScheduled]:
    """What waits behind gates."""
    waits = [decode_as(TaskScheduled, each.value) for each in reader.read()]
    return [each for each in waits if each.kind == "deferral"]


async def test_a_circuit_opens_defers_once_probes_and_closes(fast: Settings, scheduled: Reader) -> None:
    catalogue, upstream = fast.catalogue(), Upstream()
    topic, events = catalogue.topic(TIER), Reader(fast, catalogue.events)
    upstream.is_down = True
    view = ControlView()
    log, writer = follow_control(fast, view, end_process), ControlWriter(fast)
    log.start()
    async with Worker(fast, upstream.executions()) as worker:
        stop = worker.processor.admission.follow(view, writer, worker._crash)
        put(fast, topic, [(f"1|Order|{number}", task_ready(f"e{number}")) for number in range(3)])
        await eventually_async(lambda: view.breaker("1", HOST).state == "open")
        put(fast, topic, [("1|Order|9", task_ready("late")), ("2|Order|9", task_ready("other", tenant_id="2"))])
        wait = (await eventually_async(lambda: deferrals(scheduled)))[0]
        assert (wait.event_id, wait.gate, wait.attempt, wait.dispatch_seq) == ("late", GATE, 1, 2)
        assert (wait.reason, wait.target_topic) == ("circuit", topic)
        await eventually_async(lambda: "other" in upstream.calls)
        assert "late" not in upstream.calls
        # The relay lets the probe go.
        await eventually_async(lambda: view.breaker("1", HOST).open_until < now_micros())
        upstream.is_down = False
        probe = decode_as(TaskReady, wait.task)
        assert probe.gate == GATE
        put(fast, topic, [("1|Order|9", probe)])
        await eventually_async(lambda: view.breaker("1", HOST).state == "closed")
        assert upstream.calls.count("late") == 1
        put(fast, topic, [("1|Order|10", task_ready("after"))])
        await eventually_async(lambda: "after" in upstream.calls)
        await eventually_async(lambda: worker.app.assigned.finished == 7)
        stop()
    log.stop()
    writer.close()
    kinds = [(each.kind, each.attempt) for each in events.events() if each.event_id == "late"]
    assert kinds == [("deferred", 1), ("completed", 1)]
    assert len(deferrals(scheduled)) == 1
    events.close()


async def test_few_of_a_tenants_records_are_on_their_way_behind_a_gate_at_once(
    fast: Settings, scheduled: Reader
) -> None:
    """However many wait when its circuit opens: the others need the loop and the brokers too (R15)."""
    topic, upstream = fast.catalogue().topic(TIER), Upstream()
    put(fast, topic, [(f"1|Order|{number}", task_ready(f"e{number}")) for number in range(600)])
    async with Worker(fast, upstream.executions()) as worker:
        admission = worker.processor.admission
        admission._obey(BREAKER, join_parts("1", HOST), Breaker("open", now_micros() + 600_000_000, 3, now_micros()))
        most = 0
        while worker.app.assigned.finished < 600:
            await asyncio.sleep(0)
            most = max(most, worker.writer.undelivered)
        assert 0 < most <= MOST_UNDER_WAY
    assert len({each.event_id for each in deferrals(scheduled)}) == 600
    assert not upstream.calls


async def test_newer_records_of_a_key_follow_into_the_gate_until_it_has_come_back(
    fast: Settings, scheduled: Reader
) -> None:
    topic, upstream = fast.catalogue().topic(TIER), Upstream()
    async with Worker(fast, upstream.executions()) as worker:
        admission = worker.processor.admission
        admission._obey(BREAKER, join_parts("1", HOST), Breaker("open", now_micros() + 60_000_000, 3, now_micros()))
        put(fast, topic, [("1|Order|1", task_ready("first"))])
        await eventually_async(lambda: len(deferrals(scheduled)) == 1)
        admission._obey(BREAKER, join_parts("1", HOST), Breaker(since=now_micros()))
        put(fast, topic, [("1|Order|1", task_ready("second")), ("1|Order|2", task_ready("free"))])
        waits = await eventually_async(lambda: (found := deferrals(scheduled))[1:] and found)
        assert [each.event_id for each in waits] == ["first", "second"]
        put(fast, topic, [("1|Order|1", decode_as(TaskReady, each.task)) for each in waits])
        put(fast, topic, [("1|Order|1", task_ready("third"))])
        await eventually_async(lambda: worker.app.assigned.finished == 6)
    assert [each for each in upstream.calls if each != "free"] == ["first", "second", "third"]


async def test_a_deferred_record_that_comes_again_is_deferred_and_not_run(fast: Settings, scheduled: Reader) -> None:
    """The worker died between the deferral and what waits: the circuit is closed by now, and still it waits (R1)."""
    topic, upstream = fast.catalogue().topic(TIER), Upstream()
    put(fast, topic, [(SOME_KEY, task_ready("event"))])
    number = number_of(fast, topic)
    target = {"next_topic": topic, "next_step": 0, "next_attempt": 1, "gate": GATE, "dispatch_seq": 2}
    write_event(fast, Source(topic, number, 0), kind="deferred", **target)
    async with Worker(fast, upstream.executions()) as worker:
        await eventually_async(lambda: worker.app.assigned.finished == 1)
    assert upstream.calls == []
    assert [(each.gate, each.schedule_id) for each in deferrals(scheduled)] == [(GATE, "event|1|0|1|2")]


async def test_a_host_with_a_rate_is_called_only_by_what_the_relay_lets_go(fast: Settings, scheduled: Reader) -> None:
    topic, upstream = fast.catalogue().topic(TIER), Upstream()
    gates = {"fresh": None, "by_share": tenant_gate("1"), "by_circuit": GATE, "by_rate": RATED}
    async with Worker(fast, upstream.executions()) as worker:
        worker.processor.admission._obey(RATE, join_parts("1", HOST), Rate(10))
        put(fast, topic, [(f"1|Order|{name}", task_ready(name, gate=gate)) for name, gate in gates.items()])
        await eventually_async(lambda: worker.app.assigned.finished == 4)
        assert upstream.calls == ["by_rate"]
        assert {each.event_id for each in deferrals(scheduled)} == {"fresh", "by_share", "by_circuit"}
        assert {each.gate for each in deferrals(scheduled)} == {RATED}
        worker.processor.admission._obey(RATE, join_parts("1", HOST), None)
        put(fast, topic, [("1|Order|x", task_ready("unlimited"))])
        await eventually_async(lambda: "unlimited" in upstream.calls)


async def test_an_unknown_upstream_has_no_circuit(fast: Settings, scheduled: Reader) -> None:
    topic, upstream = fast.catalogue().topic(TIER), Upstream()
    upstream.is_down = True
    async with Worker(fast, upstream.executions(host=None)) as worker:
        put(fast, topic, [(f"1|Order|{number}", task_ready(f"e{number}")) for number in range(8)])
        await eventually_async(lambda: worker.app.assigned.finished == 8)
    assert len(upstream.calls) == 8
    assert deferrals(scheduled) == []
