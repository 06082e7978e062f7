"""The records of a tier's tasks."""

from dataclasses import asdict, fields

import pytest

from schemas.codec import decode_as, encode
from schemas.copying import CONSTANT, VARIABLE, copier
from schemas.events import Source, TaskEvent, TaskReady, TaskScheduled
from streams.agents.tier_records import TierTask, continuation_record, outcome_event
from streams.engine.decide import Continuation, Decision
from streams.headers import completed_headers, event_headers
from tests.streams.agents.support import CATALOGUE, Partition, Record
from tests.streams.engine.workload import task_ready

HIGH = CATALOGUE.topic("webhook-high")


def tier_task(**changes: object) -> TierTask:
    """A task that is being carried out."""
    record = Record(encode(task_ready("e1", **changes)), 17, HIGH, 3, headers=[("traceparent", b"00-1")])
    item = TierTask(Partition(topic=HIGH), record, is_step=False)
    item.read()
    item.started_at = 5
    return item


def test_a_record_is_read_with_what_matters_of_its_headers() -> None:
    item = tier_task(attempt=2)
    assert item.identity == "e1|1|0|2"
    assert item.source == Source(HIGH, 3, 17)
    assert (item.traceparent, item.repeat_from) == (b"00-1", None)


def test_an_outcome_has_every_field_and_nothing_left_over() -> None:
    item = tier_task(model="Order", model_id="7", settings_entry="orders", plugin_version="1.2", pipeline_hash="h")
    event = outcome_event(item, Decision("completed", result="{}"), "webhook-high", "w:1", 9)
    task = {each.name for each in fields(TaskReady)} & {each.name for each in fields(TaskEvent)} - {"payload"}
    found = asdict(event)
    assert {name: found[name] for name in task} == {name: getattr(item.task, name) for name in task}
    # Made field by field, so a field of the class that was forgotten would be missing here.
    assert decode_as(TaskEvent, encode(event)) == event
    given = task | {"kind", "recorded_at", "tier", "worker", "started_at", "finished_at", "result"}
    given |= {"source_topic", "source_partition", "source_offset"}
    assert {name for name, value in found.items() if value is not None} <= given


def test_a_completed_outcome_that_is_copied_has_every_field_of_the_one_that_is_made() -> None:
    item = tier_task(model="Order", model_id="7", settings_entry="orders", plugin_version="1.2", gate="tenant|1")
    event = outcome_event(item, Decision("completed", result="{}"), "webhook-high", "w:1", 9)
    values = {name: getattr(event, name) for name in CONSTANT}
    assert item.marks is not None
    constants = copier().constants(values)
    written = copier().write(item.record.value, item.marks, constants, *(getattr(event, name) for name in VARIABLE))
    assert decode_as(TaskEvent, written) == event


@pytest.mark.parametrize("traceparent", [None, b"00-1"])
def test_a_completed_outcome_has_the_headers_of_every_outcome(traceparent: bytes | None) -> None:
    item = tier_task(attempt=2, dispatch_seq=3)
    event = outcome_event(item, Decision("completed", result="{}"), "webhook-high", "w:1", 9_000)
    found = completed_headers(item.task, item.identity, item.source, 9_000, traceparent)
    assert sorted(found) == sorted(event_headers(event, item.source, traceparent))


def test_a_retry_carries_its_trace_through_the_schedule() -> None:
    sequel = Continuation(HIGH, "webhook-high", task_ready("e1", attempt=2), due_at=99)
    record = continuation_record(tier_task(), sequel, CATALOGUE.scheduled)
    waiting = decode_as(TaskScheduled, record.value)
    assert (record.topic, waiting.due_at) == (CATALOGUE.scheduled, 99)
    assert decode_as(TaskReady, waiting.task).options == {"traceparent": "00-1"}


def test_an_outcome_embeds_its_sequel() -> None:
    item = tier_task()
    sequel = Continuation(HIGH, "webhook-high", task_ready("e1", attempt=2), due_at=99)
    event = outcome_event(item, Decision("retry", error="x" * 10_000, continuation=sequel), "webhook-high", "w:1", 9)
    assert (event.next_topic, event.next_step, event.next_attempt, event.next_due_at) == (HIGH, 0, 2, 99)
    assert event.error is not None
    assert len(event.error) == 8192


def test_a_wait_says_what_it_waits_for_in_the_outcome_and_in_the_schedule() -> None:
    gate = "call_back|1|order-7"
    item = tier_task()
    sequel = Continuation(CATALOGUE.steps("webhook-high"), "webhook-high", task_ready("e1", attempt=2, gate=gate), 99)
    event = outcome_event(item, Decision("waiting", "{}", continuation=sequel), "webhook-high", "w:1", 9)
    assert (event.gate, event.next_due_at) == (gate, 99)
    waiting = decode_as(TaskScheduled, continuation_record(item, sequel, CATALOGUE.scheduled).value)
    assert (waiting.kind, waiting.gate, waiting.due_at) == ("wait", gate, 99)
    assert waiting.reason == "waits for the call-back order-7"
